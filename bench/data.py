"""The data of the cases: generated logs, which are kept between runs, and real files if there are any."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import count as numbers
from pathlib import Path

from bench import generator
from bench.measure import PROJECT
from eventlog.log import layout

REAL_DATA = PROJECT.parent / "shared" / "data"
_BLOCK_BYTES = 4 * 1024 * 1024

Shard = tuple[int, int]


def default_folder() -> Path:
    """Return the folder of kept data: in the virtual environment, or else with temporary files."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "bench-data"
    return Path(tempfile.gettempdir()) / "eventlog-bench-data"


class InUse(Exception):
    """Another run of the benchmarks uses these data; both would measure each other."""


class Data:
    """Generated logs of one seed. A log is made of hard links to kept shards, so it costs next to nothing.

    Nobody appends to these files: they are too old for a writer to adopt. Ask for copies if files are to be changed
    (sealed, archived).
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder / "lock")
        self._shards = folder / f"v{generator.VERSION}-seed{seed}"
        self._shards.mkdir(parents=True, exist_ok=True)
        #: For the folders of cases: on the same disk, or links would be copies.
        self.work = folder / "work"
        shutil.rmtree(self.work, ignore_errors=True)  # left by a run that was killed
        self.work.mkdir()

    def root(self, path: Path, events: int, *, after: int = 0, copies: bool = False) -> Path:
        """Make a log of a number of events at `path`, the first `after` events left out; return the path."""
        self.add(path, events, after=after, copies=copies)
        return path

    def add(self, root: Path, events: int, *, after: int = 0, copies: bool = False) -> None:
        """Add events to a log, as `root` would."""
        skipped = -(-after // generator.SHARD_EVENTS)
        shards = [(skipped + number, count) for number, count in generator.shards_of(events)]
        self._ensure(shards)
        for shard in shards:
            for segment in layout.list_log(self._path(shard)).segments:
                target = layout.segment_path(root, segment.event_type, segment.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(segment.path, target, copy=copies)

    def _path(self, shard: Shard) -> Path:
        return self._shards / f"{shard[0]:04}-{shard[1]}"

    def _ensure(self, shards: Iterable[Shard]) -> None:
        """Make the missing shards, in parallel."""
        missing = [shard for shard in shards if not self._path(shard).exists()]
        if not missing:
            return
        generator.check_room(self._shards, sum(count for _, count in missing) * generator.LINE_BYTES)
        with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1)) as pool:
            for done in [pool.submit(_make, self._path(shard), self.seed, *shard) for shard in missing]:
                done.result()


def _lock(path: Path) -> int:
    """Lock the data for this process, until it ends. Raises InUse."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUse("another benchmark is running; wait for it, or both would measure each other") from None
    return fd


def _make(path: Path, seed: int, number: int, events: int) -> None:
    """Make one shard under a temporary name, and rename it when it is complete."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    generator.write_shard(part, seed, number, events)
    part.rename(path)


def _link(source: Path, target: Path, *, copy: bool) -> None:
    if not copy:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(source, target)


def log_bytes(root: Path) -> int:
    """Return the uncompressed size of a log."""
    return sum(segment.size for segment in layout.list_log(root).segments)


def read_through(root: Path) -> None:
    """Read a log once, so that it is in the page cache for all sides."""
    for segment in layout.list_log(root).segments:
        with segment.path.open("rb", buffering=0) as file:
            for _ in numbers():
                if not file.read(_BLOCK_BYTES):
                    break
