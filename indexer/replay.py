"""Replay: a new index from the log alone, and the comparison of an index with its log.

A replay writes beside the live index and swaps at the end, so whoever reads meanwhile
reads the old one, and a crash leaves the old one in place:

    1. build <root>/index.duckdb.replay from all segments
    2. take the index's turn, so that nobody has it open
    3. carry over what only the old index has (eventlog.indexer.carry_over): rows of segments that were
       released, pruned, deleted, or that came back shorter or different
    4. should the new index lack an event all the same, keep the old one under another name
    5. drop the old index's WAL, rename the new file over the old one, sync the folder
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
from eventlog.indexer.carry_over import Carried, carry, carry_released, find_lacking
from eventlog.indexer.index import checkpoint, engine, index_file, lock, schema
from eventlog.indexer.index.digest import Digest, digest
from eventlog.indexer.index.index_file import DEFAULT_TIMEOUT_S
from eventlog.indexer.load import versions
from eventlog.indexer.load.batch import SegmentChanged, in_order, index_batch
from eventlog.indexer.parity import Difference, differences
from eventlog.indexer.sql import literal
from eventlog.indexer.views import projections, typed
from eventlog.log import layout
from eventlog.log.pruned import Pruned, read_pruned
from eventlog.log.segment import sync_folder
from eventlog.process import root_files

#: Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]

_REPLAY_BATCH_BYTES = 1024 * 1024 * 1024
_COMPARISONS = 3


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The new index: its digest, and how long building it took.

    `unreadable` says which segments could not be read, and why. `pruned` are those that
    retention had deleted and whose rows no index had kept: only a backup has them. `carried` counts
    events that only the old index had. `kept` is the old index, where the new one lacks `kept_events`
    of its events all the same, or where it could not be read: then there is no telling how many.
    """

    digest: Digest
    segments: int
    unreadable: list[str]
    pruned: list[Pruned]
    carried: Carried
    kept: str | None
    kept_events: int | None
    elapsed_s: float


class _LiveIsDamaged(Exception):
    """The live index cannot be read, and was set aside as `path`: there is nothing to carry over from."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The live index beside a fresh replay of the same bytes, and the first rows that differ.

    `carried` lines are in segments that were pruned or released: the index alone has them.
    """

    live: Digest
    replayed: Digest
    carried: int
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        return self.live == self.replayed


def replay(root: str | Path, *, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Replayed:
    """Rebuild the index from the log and put it in place of the live one.

    Raises IndexBusy where the live index cannot be had within the bound, or another replay takes
    longer; the log and the live index are then as they were.
    """
    with _work_file(root, timeout_s) as path:
        return _replay_into(path, root, progress, timeout_s)


def rebuild(
    root: str | Path, *, inode: int | None, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Replayed | None:
    """Replay, unless the index is another file by now than the one of `inode`: somebody was faster."""
    with _work_file(root, timeout_s) as path:
        if index_file.inode_of(index_file.index_path(root)) != inode:
            return None
        return _replay_into(path, root, progress, timeout_s)


def _replay_into(path: Path, root: str | Path, progress: Progress | None, timeout_s: float) -> Replayed:
    started = time.monotonic()
    try:
        return _replay(root, path, progress, timeout_s, started)
    except _LiveIsDamaged as found:
        _remove(path)
        done = _replay(root, path, progress, timeout_s, started)
        return msgspec.structs.replace(done, kept=str(found.path), kept_events=None)


def _replay(root: str | Path, path: Path, progress: Progress | None, timeout_s: float, started: float) -> Replayed:
    with ExitStack() as stack:
        connection = stack.enter_context(_new_index(path))
        segments, unreadable = _build(connection, root, None, progress)
        with lock.turn(root, exclusive=True, timeout_s=timeout_s):
            aside, is_newer = _look_at_live(root)
            carried, lacking = _carry(connection, root, unreadable)
            found = _finish(connection)
            pruned = _pruned_without_rows(connection, root)
            stack.close()  # there is no write-ahead log: only now is the file what it should be
            if lacking or is_newer:
                aside = index_file.keep(index_file.index_path(root))
            _swap(root, path)
    return Replayed(
        digest=found,
        segments=segments,
        unreadable=list(unreadable.values()),
        pruned=pruned,
        carried=carried,
        kept=None if aside is None else str(aside),
        kept_events=lacking or (None if aside is not None else 0),
        elapsed_s=time.monotonic() - started,
    )


def remarks(done: Replayed) -> list[str]:
    """Return what is to be said of events that the log did not have: where they are, and what can be done."""
    reasons = {
        "of segments that the log has no more": done.carried.deleted,
        "of segments that cannot be read": done.carried.unreadable,
        "of segments of which the log has another file now": done.carried.replaced,
    }
    found = [
        f"{count:,} events {reason} were carried over from the old index, which is their only home"
        for reason, count in reasons.items()
        if count
    ]
    if done.kept is not None:
        what = (
            "could not be read"
            if done.kept_events is None
            else f"has {done.kept_events:,} events that the new one lacks"
        )
        found.append(
            f"warning: the old index {what}; it was kept as {done.kept}. Delete it if they may go, "
            "or restore their segments and replay again"
        )
    return found


def verify(root: str | Path, *, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Verified:
    """Compare the live index with a replay of exactly the bytes that it has indexed.

    Raises IndexBusy where segments come and go each time that it is compared, as beside a restore.
    """
    for _ in range(_COMPARISONS):
        found = _compared(root, progress, timeout_s)
        if found is not None:
            return found
    raise IndexBusy(
        f"{root}: segments were deleted, restored or replaced each time while the index was compared with the log; "
        "try again when that is over"
    )


def _compared(root: str | Path, progress: Progress | None, timeout_s: float) -> Verified | None:
    """Compare once; None where they differ, but the live index has been told of other files since it was looked at."""
    with index_file.reading(root, timeout_s=timeout_s) as connection:
        if schema.version(connection) != schema.SCHEMA_VERSION:
            raise IndexFailed(f"{index_file.index_path(root)} has another schema version; try: eventlog replay")
        live = engine.within_memory(connection, partial(digest, connection))
        marks = checkpoint.read(connection)
    with _work_file(root, timeout_s) as path, _new_index(path) as connection:
        limits = {name: mark.indexed_offset for name, mark in marks.items()}
        _build(connection, root, {name: limits[name] for name, mark in marks.items() if not mark.released}, progress)
        with lock.turn(root, exclusive=True, timeout_s=timeout_s):
            with _live_attached(connection, root):
                carry_released(connection, limits)
                has_moved = _has_moved(connection, marks)
            replayed = _finish(connection)
            if live != replayed and has_moved:
                return None
            found = [] if live == replayed else _differences(connection, root, limits)
            carried = sum(mark.events for mark in checkpoint.read(connection).values() if mark.released)
            return Verified(live=live, replayed=replayed, carried=carried, differences=found)


def _has_moved(connection: duckdb.DuckDBPyConnection, marks: Mapping[str, checkpoint.Checkpoint]) -> bool:
    """Say whether the live index has given up files, or got them back, or put their rows aside, since the marks."""
    now = dict(connection.execute("SELECT name, released FROM live.segments").fetchall())
    if any(now.get(name) != mark.released for name, mark in marks.items()):
        return True
    return any(versions.MARK in name and name not in marks for name in now)


@contextmanager
def _new_index(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make an empty index; it is whole, and let go of, when the block ends."""
    with engine.new_file(path) as connection:
        path.chmod(0o600)  # DuckDB makes it readable for everybody
        projections.create(connection)
        yield connection


@contextmanager
def _work_file(root: str | Path, timeout_s: float) -> Iterator[Path]:
    """Lend the path of the file that is built, to one replay at a time; clear up after it. Raises IndexBusy."""
    folder = Path(root).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "index.duckdb.replay"
    index_file.regular(root)
    if root_files.kind_of(path) == "a folder":
        raise IndexFailed(root_files.refusal(path))
    with lock.replaying(folder, timeout_s=timeout_s):
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
    """Fill a new index; return how many segments there are, and which could not be read and why."""
    segments = in_order(layout.list_log(root).segments)
    if limits is not None:
        segments = [each for each in segments if each.name in limits]
    total = sum(each.size for each in segments)
    done_bytes = 0
    unreadable: dict[str, str] = {}
    waiting = segments
    while waiting:
        try:
            batch = partial(index_batch, connection, waiting, limits=limits, max_bytes=_REPLAY_BATCH_BYTES)
            done = engine.within_memory(connection, batch)  # what was committed of it is not read again
        except SegmentChanged as error:
            raise IndexFailed(f"{error}, while it was replayed; try again when nobody edits the log") from None
        done_bytes += done.bytes
        unreadable |= done.unreadable
        waiting = waiting[done.next :]
        if progress is not None:
            progress(min(done_bytes, total), total)
    connection.execute("CHECKPOINT")  # now, rather than while others wait for the turn
    return len(segments), unreadable


def _look_at_live(root: str | Path) -> tuple[Path | None, bool]:
    """Set aside a live index that is none of ours, or broken; say where it is, and whether a newer eventlog made it."""
    live = index_file.regular(root)
    if not live.exists():
        return None, False
    try:
        with contextlib.closing(index_file.connect(root, timeout_s=1)) as connection:
            found = schema.version(connection)
    except index_file.BrokenIndex:
        found = -1
    # It may have been the only home of some rows: keep it for whoever can read it.
    return (index_file.move_aside(live) if found == -1 else None), (found or 0) > schema.SCHEMA_VERSION


def _carry(connection: duckdb.DuckDBPyConnection, root: str | Path, unreadable: Collection[str]) -> tuple[Carried, int]:
    """Carry over what only the live index has; return how much, and how many events it has all the same alone."""
    present = [segment.name for segment in layout.list_log(root).segments]
    if not _has_segments(root):
        connection.execute(
            "UPDATE segments SET released = true WHERE name NOT IN (SELECT unnest(?::VARCHAR[]))", [present]
        )
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
    """Say whether there is a live index, and anything in it."""
    if not index_file.index_path(root).exists():
        return False
    with contextlib.closing(index_file.connect(root, timeout_s=1)) as connection:
        return schema.version(connection) is not None


def _finish(connection: duckdb.DuckDBPyConnection) -> Digest:
    """Make the views, and take the digest of the new index."""
    connection.begin()
    typed.create_views(connection)
    connection.commit()
    return engine.within_memory(connection, partial(digest, connection))


def _pruned_without_rows(connection: duckdb.DuckDBPyConnection, root: str | Path) -> list[Pruned]:
    pruned = read_pruned(root, damaged={})  # a damaged segment is among the unreadable ones already
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
