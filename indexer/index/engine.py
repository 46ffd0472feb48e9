"""A DuckDB instance that stays between batches and queries; index files are attached to it one at a time.

To start an instance takes longer than most batches and queries, so an indexer keeps one, and so does a reader
(docs/decisions/0020, 0021). An instance has threads. A forked child inherits it without them and would crash when it
ends, so idle instances are closed before a fork and started again when they are needed.
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
#: The name of an attached file: the one that DuckDB itself would give to `index.duckdb`.
_NAME = '"index"'
_READ_ONLY = "READ_ONLY"
#: One thread compresses and writes a row group when it is full. DuckDB's default (122,880 rows) is more than most
#: batches, and hundreds of megabytes with rows of kilobytes. The last groups are rewritten whenever there is something
#: to merge, so their size is also the longest pause.
_ROW_GROUP_ROWS = 10_240
#: Each row group costs every batch and every query some time. So three full ones become a large one. A new file, in
#: which none is merged, has larger ones from the start: with lines of up to a kilobyte, two or three threads fill one
#: each with every part of a replay.
_LARGE_ROW_GROUP_ROWS = 3 * _ROW_GROUP_ROWS
_NEW_FILE_ROW_GROUP_ROWS = 44 * 2048

#: DuckDB writes whole blocks, at least three for each batch. Its default is 256 KiB; smaller blocks also make a smaller
#: file.
_BLOCK_BYTES = 65_536
#: Full row groups wait to be compressed together with others, up to this size per thread.
_BUFFER_BYTES = 64 * 1024**2
#: Memory limit of a replay: twice what most need. Rows are processed 2,048 at a time, so large rows may need more.
_MEMORY_BYTES = 1024**3

#: Merges of three row groups into one, per checkpoint. Every commit makes row groups of its own: without merges,
#: queries slow down with every small batch; with DuckDB's default of 100, the first batch after a replay rewrites much
#: of it.
_MERGES = 4
#: One batch in this many merges. The last row group is large and is rewritten with each merge, so merge seldom.
_MERGED_EVERY = 8
#: DuckDB's three headers at the start of a file. The first has a random identifier; the others count checkpoints.
_HEADER_BYTES = 4096
_HEADERS = 3
_CHECKSUM_BYTES = 8


T = TypeVar("T")


class Fate(enum.Enum):
    """What happened to a file while it was attached."""

    #: This engine alone wrote to it.
    OURS = "ours"
    #: Another file is in its place.
    REPLACED = "replaced"
    #: Another file was written over it in place: it has blocks of both.
    MIXED = "mixed"


class Overwritten(IndexFailed):
    """Somebody wrote an older or another index over the file: its content cannot be trusted."""


class Engine:
    """A DuckDB instance to which index files are attached, one at a time; a thread waits until another detaches.

    Built by `make(path)`; rebuilt when the path changes or after `max_age_s` seconds. Call `attach` or
    `attach_read_only`, use the connection, then `detach`, or `close` the engine after an error.
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
        #: The file when it was attached, and when it was detached after writing.
        self._attached_state: _State | None = None
        self._detached_state: _State | None = None
        #: The last state of the file that is known to be sound. Errors do not reset it.
        self._sound_state: _State | None = None
        self._is_writing = False
        #: Whether nobody else has written to the attached file since this engine detached it.
        self.is_unchanged = False
        #: What happened to the file while it was attached last.
        self.fate = Fate.OURS
        #: Identifies the attached file, whatever is written to it; None if that cannot be read.
        self.file_id: bytes | None = None
        self._started_s = 0.0
        self._path = Path()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._in_use = threading.Lock()
        _engines.add(self)

    def attach(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-write, creating it if it is missing. Raises duckdb.Error and Overwritten.

        There is no write-ahead log: a commit writes to the file itself, and ends with one write of a header. Nothing in
        a new file is safe before it is detached.
        """
        rows, merges = self._upkeep()
        recovery = ", RECOVERY_MODE no_wal_writes" if self._is_for_new_file else ""
        connection = self._attached(path, f"ROW_GROUP_SIZE {rows}{recovery}", merges)
        self._is_writing = True
        self._written += 1
        return connection

    def _upkeep(self) -> tuple[int, int]:
        """Return the row group size for the next batch, in rows, and its number of merges."""
        if self._is_for_new_file:
            return _NEW_FILE_ROW_GROUP_ROWS, 0
        if self._last_rows >= _LARGE_ROW_GROUP_ROWS:  # more of it is likely to follow, and large groups need no merging
            return _LARGE_ROW_GROUP_ROWS, 0
        if self._rows >= _LARGE_ROW_GROUP_ROWS:
            self._rows = 0
            return _LARGE_ROW_GROUP_ROWS, 1
        return _ROW_GROUP_ROWS, 0 if self._written % _MERGED_EVERY else _MERGES

    def attach_read_only(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-only. Raises duckdb.Error."""
        return self._attached(path, _READ_ONLY)

    def _attached(self, path: Path, options: str, merges: int = 0) -> duckdb.DuckDBPyConnection:
        self._in_use.acquire()
        try:
            self._connection = self._connected(path)
            state = _state(path)
            # Writing to it would mix two files.
            if options != _READ_ONLY and _is_overwritten(self._sound_state, state):
                raise Overwritten(f"{path}: another program wrote an older or another index over it")
            self.is_unchanged = state is not None and state == self._detached_state
            self._attached_state, self.fate = state, Fate.OURS
            self.file_id = None if state is None else state.headers[:_HEADER_BYTES]
            self._sound_state, self._detached_state, self._is_writing = state, None, False
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
        is_too_old = time.monotonic() - self._started_s > self._max_age_s
        if self._instance is None or self._path != path or is_too_old:
            self._drop_instance()
            self._instance = self._make(path)
            self._path, self._started_s = path, time.monotonic()
        return self._instance.cursor()

    @contextmanager
    def beside(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to the instance for a path, without attaching the file."""
        with self._in_use:
            connection = self._connected(path)
            try:
                yield connection
            finally:
                connection.close()

    def wrote(self, rows: int) -> None:
        """Note how many rows the last batch added: row groups are sized and merged by it."""
        self._last_rows = rows
        if rows < _LARGE_ROW_GROUP_ROWS:
            self._rows += rows

    def forget(self) -> None:
        """Forget the file's state: another file was put in its place on purpose."""
        self._detached_state = self._sound_state = None

    def seems_unchanged(self, path: Path) -> bool:
        """Return whether nobody else has written to a file since `detach`, by its inode and time of change alone."""
        state = self._detached_state
        try:
            now = path.stat()
        except OSError:
            return False
        return state is not None and (state.device, state.inode, state.changed_ns) == (
            now.st_dev, now.st_ino, now.st_ctime_ns
        )  # fmt: skip

    def detach(self) -> None:
        """Write a checkpoint and close the file. Raises duckdb.Error; the file is closed nevertheless."""
        assert self._connection is not None
        try:
            self._connection.execute("USE memory")
            self._connection.execute(f"DETACH {_NAME}")
        except BaseException:
            self.close()
            raise
        if self._is_writing:
            self._detached_state = _state(self._path)
            self.fate = _fate(self._attached_state, self._detached_state)
            if self.fate is Fate.OURS:
                self._sound_state = self._detached_state
        self._connection.close()  # and with it its temporary tables
        self._connection = None
        self._in_use.release()

    def abandon(self) -> None:
        """Close file and instance after an error: the state of the file is unknown."""
        self._detached_state = None
        self.close()

    def close(self) -> None:
        """Close file and instance, in whatever state they are."""
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
        """Close the instance, so that a child inherits none, unless another thread is using it."""
        if self._in_use.acquire(blocking=False):
            self._drop_instance()
            self._in_use.release()

    def after_fork(self) -> None:
        """In a child: keep what the parent's threads were using; closing it would crash."""
        _abandoned.append((self._instance, self._connection))
        self._instance = self._connection = None
        self._in_use = threading.Lock()


def _new_instance(path: Path) -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(config=dict(CONFIG))
    # What does not fit into memory is spilled beside the file, not into the current folder as by default.
    instance.execute(f"SET GLOBAL temp_directory = {literal(str(spill_path(path)))}")
    instance.execute(f"SET GLOBAL write_buffer_row_group_memory_limit = '{_BUFFER_BYTES}B'")
    instance.execute(f"SET GLOBAL default_block_size = {_BLOCK_BYTES}")
    instance.execute("SET GLOBAL max_vacuum_tasks = 0")
    # Each commit is a checkpoint, without a write-ahead log (docs/decisions/0021).
    instance.execute("SET GLOBAL auto_checkpoint_skip_wal_threshold = 0")
    instance.execute("SET GLOBAL wal_autocheckpoint = '1B'")
    # In order, row groups would wait for each other, and one thread would compress them all.
    instance.execute("SET GLOBAL preserve_insertion_order = false")
    return instance


@contextmanager
def new_file(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Create a file and yield a connection to it; it is complete, and closed, when the `with` block ends."""
    engine = Engine(is_for_new_file=True)
    connection = engine.attach(path)
    try:
        yield connection
        engine.detach()
    finally:
        engine.close()


def within_memory(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Call `work` with DuckDB limited to 1 GiB of memory; else DuckDB keeps all that it reads and writes in memory.

    If the rows are too large for that, `work` is called again without a limit, so it has to roll back if it fails.
    Raises duckdb.OutOfMemoryException if the machine has too little memory.
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
    """Fingerprint of a database file: differs when the file was written to or replaced.

    The headers alone are not enough: a copy that was restored and written to may have the same (docs/decisions/0021).
    """

    headers: bytes
    device: int
    inode: int
    changed_ns: int

    @property
    def checkpoints(self) -> tuple[int, int]:
        """The numbers of the last two checkpoints. DuckDB writes them in turn to two headers, after a checksum."""
        first, second = (
            int.from_bytes(self.headers[start + _CHECKSUM_BYTES : start + 2 * _CHECKSUM_BYTES], "little")
            for start in (_HEADER_BYTES, 2 * _HEADER_BYTES)
        )
        return first, second


def fingerprint(path: Path) -> bytes | None:
    """Return bytes that differ whenever a database file was written to or replaced; None where that is not known.

    Not while this process has the file attached: see `_state`.
    """
    state = _state(path)
    return None if state is None else state.headers + repr(state[1:]).encode()


def _is_overwritten(sound: _State | None, now: _State | None) -> bool:
    """Return whether a file is back at an earlier state, or is another file with the same inode, by its headers."""
    if sound is None or now is None or (sound.device, sound.inode) != (now.device, now.inode):
        return False
    is_other = sound.headers[:_HEADER_BYTES] != now.headers[:_HEADER_BYTES]
    return is_other or max(now.checkpoints) < max(sound.checkpoints)


def _fate(before: _State | None, after: _State | None) -> Fate:
    """Return what happened to a file while it was attached, by the checkpoint numbers in its headers."""
    if after is None:
        return Fate.OURS
    low, high = sorted(after.checkpoints)
    if before is None or len(before.headers) < _HEADERS * _HEADER_BYTES:  # it was new or empty
        return Fate.OURS if high - low <= 1 else Fate.MIXED
    is_the_file = (before.device, before.inode) == (after.device, after.inode)
    if is_the_file and high > max(before.checkpoints):
        return Fate.OURS if low == high - 1 else Fate.MIXED
    is_untouched = after.headers == before.headers and after.changed_ns == before.changed_ns
    return Fate.OURS if is_the_file and is_untouched else Fate.REPLACED


def _state(path: Path) -> _State | None:
    """Return the fingerprint of a file; None if it cannot be read or another program has to recover it.

    Do not call it while the file is attached: closing a file drops all locks of the process on it (fcntl(2)).
    """
    if path.with_name(path.name + ".wal").exists():  # another program crashed, and its log has to be played first
        return None
    try:
        with open(path, "rb", buffering=0, opener=root_files.without_waiting) as file:
            stat = os.fstat(file.fileno())
            return _State(file.read(_HEADERS * _HEADER_BYTES), stat.st_dev, stat.st_ino, stat.st_ctime_ns)
    except OSError:
        return None


def spill_path(path: Path) -> Path:
    """Return the folder beside a file where DuckDB puts what does not fit into memory."""
    return path.with_name(path.name + ".tmp")


_engines = forks.Instances[Engine](Phase.STATE, before=Engine.before_fork, after_in_child=Engine.after_fork)
#: In a child: what the parent's threads were using.
_abandoned: list[object] = []
