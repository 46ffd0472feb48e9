"""Replay: build a new index from the log alone, and swap it in or compare it with the live one.

A replay writes beside the live index and swaps at the end. So readers read the old index meanwhile, and a crash leaves
the old one in place:

    1. build <root>/index.duckdb.replay from all segments
    2. take the fair lock exclusively, so that nobody has the index open
    3. carry over rows that only the old index has (eventlog.indexer.carry_over): of segments that were released,
       pruned or deleted, or that are another file now
    4. if the new index lacks an event nevertheless, link the old one to another name
    5. delete the old index's WAL, rename the new file over the old one, sync the folder
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import IndexBusy, IndexFailed
from eventlog.indexer.carry_over import RELEASE_OTHERS, Carried, carry, carry_released, find_lacking
from eventlog.indexer.comparison import Difference, differences
from eventlog.indexer.index import checkpoint, engine, index_file, lock, schema
from eventlog.indexer.index.digest import Digest, digest
from eventlog.indexer.index.index_file import DEFAULT_TIMEOUT_S
from eventlog.indexer.load import versions
from eventlog.indexer.load.batch import SegmentChanged, in_order, index_batch
from eventlog.indexer.sql import literal
from eventlog.indexer.views import projections, typed
from eventlog.log import layout
from eventlog.log.pruned import Pruned, read_pruned
from eventlog.log.segment import sync_folder
from eventlog.process import root_files

#: Called with the bytes done so far, and the total.
Progress = Callable[[int, int], None]

_REPLAY_BATCH_BYTES = 1024 * 1024 * 1024
#: Attempts of `verify` while segments come and go.
_COMPARISONS = 3


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a replay."""

    digest: Digest
    #: Number of segments in the log.
    segments: int
    #: Why segments could not be read, one message each.
    unreadable: list[str]
    #: Pruned segments whose rows are in no index: only a backup may have them.
    pruned: list[Pruned]
    #: Numbers of events that only the old index had.
    carried: Carried
    #: The path of the old index, if it has events that the new one lacks or could not be read; else None.
    old_index: str | None
    #: How many events of the old index the new one lacks; None if that is unknown.
    lacking_events: int | None
    elapsed_s: float


class _LiveIsDamaged(Exception):
    """The live index cannot be read and was renamed to `path`: nothing can be carried over from it."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of the live index and of a replay of the same bytes, and the first rows that differ."""

    live: Digest
    replayed: Digest
    #: Events of released segments: only the index has them, so they cannot differ.
    carried: int
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        return self.live == self.replayed


def replay(root: str | Path, *, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Replayed:
    """Rebuild the index from the log and swap it in.

    Raises IndexBusy if the lock on the live index, or another replay, takes longer than `timeout_s` seconds, and
    IndexFailed. The log and the live index are unchanged then.
    """
    with _work_file(root, timeout_s) as path:
        return _replay_into(path, root, progress, timeout_s)


def rebuild(
    root: str | Path, *, inode: int | None, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Replayed | None:
    """Replay, unless the inode of the index is another than `inode` by now: another process has replaced it.

    Returns None then. Raises like `replay`.
    """
    with _work_file(root, timeout_s) as path:
        if index_file.inode_of(index_file.index_path(root)) != inode:
            return None
        return _replay_into(path, root, progress, timeout_s)


def _replay_into(path: Path, root: str | Path, progress: Progress | None, timeout_s: float) -> Replayed:
    started = time.monotonic()
    try:
        return _replay(root, path, progress, timeout_s, started)
    except _LiveIsDamaged as damaged:
        _remove(path)
        done = _replay(root, path, progress, timeout_s, started)
        return msgspec.structs.replace(done, old_index=str(damaged.path), lacking_events=None)


def _replay(root: str | Path, path: Path, progress: Progress | None, timeout_s: float, started: float) -> Replayed:
    with ExitStack() as stack:
        connection = stack.enter_context(_new_index(path))
        segments, unreadable = _build(connection, root, None, progress)
        with lock.fair_lock(root, exclusive=True, timeout_s=timeout_s):
            aside, is_newer = _look_at_live(root)
            carried, lacking = _carry(connection, root, unreadable)
            content = _finish(connection)
            pruned = _pruned_without_rows(connection, root)
            stack.close()  # there is no write-ahead log: the file is complete only now
            if lacking or is_newer:
                aside = index_file.keep(index_file.index_path(root))
            _swap(root, path)
    return Replayed(
        digest=content,
        segments=segments,
        unreadable=list(unreadable.values()),
        pruned=pruned,
        carried=carried,
        old_index=None if aside is None else str(aside),
        lacking_events=lacking or (None if aside is not None else 0),
        elapsed_s=time.monotonic() - started,
    )


def remarks(done: Replayed) -> list[str]:
    """Return messages about events that the log did not have: where they are, and what to do."""
    reasons = {
        "of segments that the log has no more": done.carried.deleted,
        "of segments that cannot be read": done.carried.unreadable,
        "of segments of which the log has another file now": done.carried.replaced,
    }
    messages = [
        f"{count:,} events {reason} were carried over from the old index, which is their only home"
        for reason, count in reasons.items()
        if count
    ]
    if done.old_index is not None:
        reason = (
            "could not be read"
            if done.lacking_events is None
            else f"has {done.lacking_events:,} events that the new one lacks"
        )
        messages.append(
            f"warning: the old index {reason}; it was kept as {done.old_index}. Delete it if you do not need them, "
            "or restore their segments and replay again"
        )
    return messages


def verify(root: str | Path, *, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Verified:
    """Compare the live index with a replay of exactly the bytes that it has indexed; change nothing.

    Raises IndexBusy if segments come and go during each of three comparisons, as beside a restore, or if the lock
    takes longer than `timeout_s` seconds; and IndexFailed.
    """
    for _ in range(_COMPARISONS):
        verified = _compared(root, progress, timeout_s)
        if verified is not None:
            return verified
    raise IndexBusy(
        f"{root}: segments were deleted, restored or replaced each time while the index was compared with the log; "
        "try again when that is over"
    )


def _compared(root: str | Path, progress: Progress | None, timeout_s: float) -> Verified | None:
    """Compare once; return None if they differ because segments of the live index came or went meanwhile."""
    with index_file.reading(root, timeout_s=timeout_s) as connection:
        if schema.version(connection) != schema.SCHEMA_VERSION:
            raise IndexFailed(f"{index_file.index_path(root)} has another schema version; try: eventlog replay")
        live = engine.within_memory(connection, partial(digest, connection))
        marks = checkpoint.read(connection)
    with _work_file(root, timeout_s) as path, _new_index(path) as connection:
        limits = {name: mark.indexed_offset for name, mark in marks.items()}
        of_log = {name: limits[name] for name, mark in marks.items() if not mark.released}
        _, unreadable = _build(connection, root, of_log, progress)
        missed = of_log.keys() - checkpoint.read(connection).keys() - unreadable.keys()
        with lock.fair_lock(root, exclusive=True, timeout_s=timeout_s):
            with _live_attached(connection, root):
                carry_released(connection, limits)
                has_moved = _has_moved(connection, marks) or _is_any_back(root, missed)
            replayed = _finish(connection)
            if live != replayed and has_moved:
                return None
            rows = [] if live == replayed else _differences(connection, root, limits)
            carried = sum(mark.events for mark in checkpoint.read(connection).values() if mark.released)
            return Verified(live=live, replayed=replayed, carried=carried, differences=rows)


def _has_moved(connection: duckdb.DuckDBPyConnection, marks: Mapping[str, checkpoint.Checkpoint]) -> bool:
    """Return whether segments of the live index were released, or came back, or got a version, since the marks."""
    now = dict(connection.execute(SELECT_RELEASED).fetchall())
    if any(now.get(name) != mark.released for name, mark in marks.items()):
        return True
    return any(versions.MARK in name and name not in marks for name in now)


def _is_any_back(root: str | Path, missed: Collection[str]) -> bool:
    """Return whether the log has segments that were missing while it was read: pruned and restored in between."""
    return any(segment.name in missed for segment in layout.list_log(root).segments)


@contextmanager
def _new_index(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Create an empty index and yield a connection; it is complete, and closed, when the `with` block ends."""
    with engine.new_file(path) as connection:
        path.chmod(0o600)  # DuckDB makes it readable for everybody
        projections.create(connection)
        yield connection


@contextmanager
def _work_file(root: str | Path, timeout_s: float) -> Iterator[Path]:
    """Yield the path of the file to build, to one replay at a time; delete it at the end. Raises IndexBusy."""
    folder = Path(root).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "index.duckdb.replay"
    index_file.regular(root)
    if root_files.kind_of(path) == "a folder":
        raise IndexFailed(root_files.refusal(path))
    with lock.replay_lock(folder, timeout_s=timeout_s):
        _remove(path)  # left by a replay that was killed
        try:
            yield path
        finally:
            _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    index_file.remove_wal(path)
    shutil.rmtree(engine.spill_path(path), ignore_errors=True)


def _build(
    connection: duckdb.DuckDBPyConnection, root: str | Path, limits: Mapping[str, int] | None, progress: Progress | None
) -> tuple[int, dict[str, str]]:
    """Fill a new index; return the number of segments, and the reasons why some could not be read, by name."""
    segments = in_order(layout.list_log(root).segments)
    if limits is not None:
        segments = [segment for segment in segments if segment.name in limits]
    total = sum(segment.size for segment in segments)
    done_bytes = 0
    unreadable: dict[str, str] = {}
    waiting = segments
    while waiting:
        try:
            batch = partial(index_batch, connection, waiting, limits=limits, max_bytes=_REPLAY_BATCH_BYTES)
            done = engine.within_memory(connection, batch)  # called twice, it goes on from what it has committed
        except SegmentChanged as error:
            raise IndexFailed(f"{error}, during a replay; try again when no other program changes the log") from None
        done_bytes += done.bytes
        unreadable |= done.unreadable
        waiting = waiting[done.next :]
        if progress is not None:
            progress(min(done_bytes, total), total)
    connection.execute("CHECKPOINT")  # now, rather than while others wait for the lock
    return len(segments), unreadable


def _look_at_live(root: str | Path) -> tuple[Path | None, bool]:
    """Rename a broken live index; return its new path or None, and whether a newer eventlog made it."""
    live = index_file.regular(root)
    if not live.exists():
        return None, False
    try:
        with contextlib.closing(index_file.connect(root, timeout_s=1)) as connection:
            version = schema.version(connection)
    except index_file.BrokenIndex:
        version = -1
    # It may be the only one to have some rows, so do not delete it.
    return (index_file.move_aside(live) if version == -1 else None), (version or 0) > schema.SCHEMA_VERSION


def _carry(connection: duckdb.DuckDBPyConnection, root: str | Path, unreadable: Collection[str]) -> tuple[Carried, int]:
    """Carry over rows that only the live index has; return their numbers, and how many events are lacking still."""
    present = [segment.name for segment in layout.list_log(root).segments]
    if not _has_segments(root):
        connection.execute(RELEASE_OTHERS, [present])
        return Carried(), 0
    try:
        with _live_attached(connection, root):
            carried = carry(connection, present, unreadable)
            return carried, find_lacking(connection) if carried.replaced else 0
    except duckdb.Error:
        live = index_file.index_path(root)
        if not index_file.is_damaged(live):
            raise
        raise _LiveIsDamaged(index_file.move_aside(live)) from None


def _has_segments(root: str | Path) -> bool:
    """Return whether there is a live index with tables."""
    if not index_file.index_path(root).exists():
        return False
    with contextlib.closing(index_file.connect(root, timeout_s=1)) as connection:
        return schema.version(connection) is not None


def _finish(connection: duckdb.DuckDBPyConnection) -> Digest:
    """Create the views that depend on what is in the new index, and return its digest."""
    connection.begin()
    projections.read_sources(connection)
    typed.create_views(connection)
    connection.commit()
    return engine.within_memory(connection, partial(digest, connection))


def _pruned_without_rows(connection: duckdb.DuckDBPyConnection, root: str | Path) -> list[Pruned]:
    pruned = read_pruned(root, damaged={})  # a damaged segment is reported as unreadable already
    marks = checkpoint.read(connection) if pruned else {}
    return [accounts[-1].pruned for name, accounts in pruned.items() if name not in marks]


def _differences(
    connection: duckdb.DuckDBPyConnection, root: str | Path, limits: Mapping[str, int]
) -> list[Difference]:
    with _live_attached(connection, root):
        return differences(connection, limits)


@contextmanager
def _live_attached(connection: duckdb.DuckDBPyConnection, root: str | Path) -> Iterator[None]:
    connection.execute(f"ATTACH {literal(str(index_file.index_path(root)))} AS live (READ_ONLY)")
    try:
        yield
    finally:
        connection.execute("DETACH live")


def _swap(root: str | Path, path: Path) -> None:
    live = index_file.index_path(root)
    # The WAL first: a new file beside an old one's WAL would be played forward into
    # nonsense, while the old file without its WAL is merely older.
    index_file.remove_wal(live)
    os.replace(path, live)
    sync_folder(live.parent)  # the rename is durable only when the folder is


SELECT_RELEASED = "SELECT name, released FROM live.segments"
