"""DuckDB as eventlog uses it: an instance that index files are attached to for a batch, or for a question.

To make an instance takes longer than most batches and questions, so an indexer keeps one, and so does
a reader. An instance has threads, and a forked child that has inherited one without its threads
crashes when it ends: idle ones are closed before a fork, and made anew when they are needed again.
"""

from __future__ import annotations

import enum
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb

from eventlog.errors import IndexFailed
from eventlog.indexer.sql import literal
from eventlog.process import forks, root_files
from eventlog.process.forks import Phase

CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
#: What the file is called while it is attached: as DuckDB would call a file `index.duckdb` itself.
_NAME = '"index"'
_READ_ONLY = "READ_ONLY"
#: DuckDB compresses and writes a row group when it is full, with one thread. Those of its own size
#: (122,880 rows) are more than most batches, and with rows of kilobytes hundreds of megabytes. The last
#: ones are rewritten whenever there is something to merge, so their size is also the longest pause.
_ROW_GROUP_ROWS = 10_240
#: But each of them costs every batch some time, and every question. So three that are full become one; and a new
#: file, in which none is merged, has larger ones: with lines of a kilobyte or less, two or three threads fill one
#: each with each part of a replay.
_LARGE_ROW_GROUP_ROWS = 3 * _ROW_GROUP_ROWS
_NEW_FILE_ROW_GROUP_ROWS = 44 * 2048

#: DuckDB writes whole blocks, three at least for each batch. Its own are 256 KiB; these make a smaller file, too.
_BLOCK_BYTES = 65_536
#: Full row groups wait for others to be compressed with, up to so much per thread.
_BUFFER_BYTES = 64 * 1024**2
#: Twice what a replay most often needs; but 2,048 rows are looked at together, whatever their size.
_MEMORY_BYTES = 1024**3

#: Every commit makes row groups of its own, and a checkpoint may merge three of them into one, so many times.
#: Without that, queries slow down with every small batch; with DuckDB's own 100, the first batch
#: after a replay rewrites much of it.
_MERGES = 4
#: One batch in so many merges: as many row groups as were made, and the last one, which is large, is
#: written anew that much less often. Where there is enough for it, three full ones become one large one.
_MERGED_EVERY = 8
#: DuckDB's three headers at the start of a file. The first has a random identifier; the others count checkpoints.
_HEADER_BYTES = 4096
_HEADERS = 3
_CHECKSUM_BYTES = 8


T = TypeVar("T")


class Fate(enum.Enum):
    """What may become of a file while it is attached: all was written by us; another file is in its place; or both."""

    OURS = "ours"
    REPLACED = "replaced"
    MIXED = "mixed"


class Overwritten(IndexFailed):
    """Somebody wrote an older or another index over the file: what it has is not to be relied on."""


class Engine:
    """An instance to which index files are attached, one at a time. Threads take turns.

    `make` makes it for a file, and it is made anew for another one, and once it is older than `max_age_s`.
    """

    def __init__(
        self,
        make: Callable[[Path], duckdb.DuckDBPyConnection] | None = None,
        *,
        max_age_s: float = math.inf,
        is_for_new_file: bool = False,
    ) -> None:
        self._make = make or _new_instance
        self._max_age_s = max_age_s
        self._is_for_new_file = is_for_new_file
        self._written = self._rows = self._last_rows = self._merging = 0
        self._left_as: _State | None = None
        #: The last state of the file that is known to be sound. An error does not make it unknown.
        self._sound_as: _State | None = None
        self._is_writing = False
        #: Whether the file is as this engine left it: nobody has written to it since.
        self.is_as_left = False
        #: What became of the file while it was attached last.
        self.fate = Fate.OURS
        self._found_as: _State | None = None
        #: What tells the file from all others, whatever is written to it; None where there is no telling.
        self.file_id: bytes | None = None
        self._made_at = 0.0
        self._made_for = Path()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._in_use = threading.Lock()
        _engines.add(self)

    def attach(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-write, or make it; `detach` it, or `close` the engine. Raises duckdb.Error, Overwritten.

        There is no write-ahead log: a commit writes to the file itself, by one write of a header at its end. Of a new
        file nothing is safe before it is detached.
        """
        rows, merges = self._upkeep()
        recovery = ", RECOVERY_MODE no_wal_writes" if self._is_for_new_file else ""
        connection = self._attached(path, f"ROW_GROUP_SIZE {rows}{recovery}", merges)
        self._is_writing = True
        self._written += 1
        return connection

    def _upkeep(self) -> tuple[int, int]:
        """Return how large row groups may become with the next batch, and how many times three are merged."""
        if self._is_for_new_file:
            return _NEW_FILE_ROW_GROUP_ROWS, 0
        if self._last_rows >= _LARGE_ROW_GROUP_ROWS:  # and there is more of it, most likely, which needs no merging
            return _LARGE_ROW_GROUP_ROWS, 0
        if self._rows >= _LARGE_ROW_GROUP_ROWS:
            self._rows = 0
            return _LARGE_ROW_GROUP_ROWS, 1
        return _ROW_GROUP_ROWS, 0 if self._written % _MERGED_EVERY else _MERGES

    def attach_read_only(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-only; `detach` it, or `close` the engine. Raises duckdb.Error."""
        return self._attached(path, _READ_ONLY)

    def _attached(self, path: Path, options: str, merges: int = 0) -> duckdb.DuckDBPyConnection:
        self._in_use.acquire()
        try:
            self._connection = self._connected(path)
            state = _state(path)
            # To write to it would make a mixture, or a worse one.
            if options != _READ_ONLY and _is_overwritten(self._sound_as, state):
                raise Overwritten(f"{path}: somebody wrote an older or another index over it")
            self.is_as_left = state is not None and state == self._left_as
            self._found_as, self.fate = state, Fate.OURS
            self.file_id = None if state is None else state.headers[:_HEADER_BYTES]
            self._sound_as, self._left_as, self._is_writing = state, None, False
            self._connection.execute(f"ATTACH {literal(str(path))} AS {_NAME} ({options})")
            self._connection.execute(f"USE {_NAME}")
            if merges != self._merging:
                self._connection.execute(f"SET GLOBAL max_vacuum_tasks = {merges}")
                self._merging = merges
        except BaseException:
            self.close()
            raise
        return self._connection

    def _connected(self, path: Path) -> duckdb.DuckDBPyConnection:
        is_too_old = time.monotonic() - self._made_at > self._max_age_s
        if self._instance is None or self._made_for != path or is_too_old:
            self._drop_instance()
            self._instance = self._make(path)
            self._made_for, self._made_at = path, time.monotonic()
        return self._instance.cursor()

    @contextmanager
    def beside(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection to the instance that files like this one are attached to, with none attached."""
        with self._in_use:
            connection = self._connected(path)
            try:
                yield connection
            finally:
                connection.close()

    def wrote(self, rows: int) -> None:
        """Note how many rows the file got, for its upkeep."""
        self._last_rows = rows
        if rows < _LARGE_ROW_GROUP_ROWS:
            self._rows += rows

    def forget(self) -> None:
        """Forget the file: another one was put in its place on purpose."""
        self._left_as = self._sound_as = None

    def left_alone(self, path: Path) -> bool:
        """Say whether a file is as this engine left it, as far as the file system tells: without opening it."""
        left = self._left_as
        try:
            found = path.stat()
        except OSError:
            return False
        return left is not None and (left.device, left.inode, left.changed_ns) == (
            found.st_dev, found.st_ino, found.st_ctime_ns
        )  # fmt: skip

    def detach(self) -> None:
        """Let go of the file, after a checkpoint. Raises duckdb.Error; the file is let go of all the same."""
        assert self._connection is not None
        try:
            self._connection.execute("USE memory")
            self._connection.execute(f"DETACH {_NAME}")
        except BaseException:
            self.close()
            raise
        if self._is_writing:
            self._left_as = _state(self._made_for)
            self.fate = _became(self._found_as, self._left_as)
            if self.fate is Fate.OURS:
                self._sound_as = self._left_as
        self._connection.close()  # and with it its temporary tables
        self._connection = None
        self._in_use.release()

    def abandon(self) -> None:
        """Let go of everything after an error: nothing is known of the file any more."""
        self._left_as = None
        self.close()

    def close(self) -> None:
        """Let go of everything, in whatever state it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._drop_instance()
        if self._in_use.locked():
            self._in_use.release()

    def _drop_instance(self) -> None:
        instance, self._instance = self._instance, None
        self._merging = 0
        if instance is not None:
            instance.close()

    def before_fork(self) -> None:
        """Leave nothing behind for the child, unless a batch is at work in another thread."""
        if self._in_use.acquire(blocking=False):
            self._drop_instance()
            self._in_use.release()

    def after_fork(self) -> None:
        """In a child: what was in use belongs to the parent's threads. To let go of it would crash."""
        _abandoned.append((self._instance, self._connection))
        self._instance = self._connection = None
        self._in_use = threading.Lock()


def _new_instance(path: Path) -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(config=dict(CONFIG))
    # What does not fit goes to disk, beside the file; by default it would be the current folder.
    instance.execute(f"SET GLOBAL temp_directory = {literal(str(spill_path(path)))}")
    instance.execute(f"SET GLOBAL write_buffer_row_group_memory_limit = '{_BUFFER_BYTES}B'")
    instance.execute(f"SET GLOBAL default_block_size = {_BLOCK_BYTES}")
    instance.execute("SET GLOBAL max_vacuum_tasks = 0")
    # Each commit is a checkpoint, and nothing is written to a log before it.
    instance.execute("SET GLOBAL auto_checkpoint_skip_wal_threshold = 0")
    instance.execute("SET GLOBAL wal_autocheckpoint = '1B'")
    # Rows of one part in whatever order: else its row groups wait for each other, and one thread compresses them.
    instance.execute("SET GLOBAL preserve_insertion_order = false")
    return instance


@contextmanager
def new_file(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make a file that nobody else knows yet; it is whole, and let go of, when the block ends."""
    engine = Engine(is_for_new_file=True)
    connection = engine.attach(path)
    try:
        yield connection
        engine.detach()
    finally:
        engine.close()


def within_memory(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Do work that goes through a file of any size; DuckDB would keep in memory what it has written and read of it.

    Where the rows are too large for that much memory, it is done once more without a limit: what fails has to undo
    itself. Raises duckdb.OutOfMemoryException where the machine has no more.
    """
    try:
        connection.execute(f"SET GLOBAL memory_limit = '{_MEMORY_BYTES}B'")
        return work()
    except duckdb.OutOfMemoryException:
        connection.execute("RESET GLOBAL memory_limit")
        return work()
    finally:
        connection.execute("RESET GLOBAL memory_limit")


class _State(NamedTuple):
    """What is another where somebody has written to a file, or put another in its place.

    The headers alone are not enough: what was restored from a copy, and then written to, may have the very same.
    """

    headers: bytes
    device: int
    inode: int
    changed_ns: int

    @property
    def checkpoints(self) -> tuple[int, int]:
        """The numbers of the last two checkpoints: they take turns at two headers, behind the checksum of each."""
        first, second = (
            int.from_bytes(self.headers[start + _CHECKSUM_BYTES : start + 2 * _CHECKSUM_BYTES], "little")
            for start in (_HEADER_BYTES, 2 * _HEADER_BYTES)
        )
        return first, second


def _is_overwritten(sound: _State | None, now: _State | None) -> bool:
    """Say whether a file is an earlier state of itself, or another file with its inode, as far as headers tell."""
    if sound is None or now is None or (sound.device, sound.inode) != (now.device, now.inode):
        return False
    is_other = sound.headers[:_HEADER_BYTES] != now.headers[:_HEADER_BYTES]
    return is_other or max(now.checkpoints) < max(sound.checkpoints)


def _became(before: _State | None, after: _State | None) -> Fate:
    """Say what became of a file while it was attached, by its headers, which take turns at the checkpoints."""
    if after is None:
        return Fate.OURS
    low, high = sorted(after.checkpoints)
    if before is None or len(before.headers) < _HEADERS * _HEADER_BYTES:  # it was made, or made of an empty one
        return Fate.OURS if high - low <= 1 else Fate.MIXED
    is_the_file = (before.device, before.inode) == (after.device, after.inode)
    if is_the_file and high > max(before.checkpoints):
        return Fate.OURS if low == high - 1 else Fate.MIXED
    is_untouched = after.headers == before.headers and after.changed_ns == before.changed_ns
    return Fate.OURS if is_the_file and is_untouched else Fate.REPLACED


def _state(path: Path) -> _State | None:
    """Return the state of a file; None where there is no telling.

    Not while the file is attached: to close it takes away all locks that the process has on it.
    """
    if path.with_name(path.name + ".wal").exists():  # another program's, yet to be played
        return None
    try:
        with open(path, "rb", buffering=0, opener=root_files.without_waiting) as file:
            found = os.fstat(file.fileno())
            return _State(file.read(_HEADERS * _HEADER_BYTES), found.st_dev, found.st_ino, found.st_ctime_ns)
    except OSError:
        return None


def spill_path(path: Path) -> Path:
    """Return where DuckDB puts what does not fit into memory."""
    return path.with_name(path.name + ".tmp")


_engines = forks.Instances[Engine](Phase.STATE, before=Engine.before_fork, after_in_child=Engine.after_fork)
#: In a child: what the parent's threads were using.
_abandoned: list[object] = []
