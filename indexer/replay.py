"""Replay: a new index from the log alone, and the comparison of an index with its log.

A replay writes beside the live index and swaps at the end, so whoever reads meanwhile
reads the old one, and a crash leaves the old one in place:

    1. build <root>/index.duckdb.replay from all segments
    2. take the index's turn, so that nobody has it open
    3. carry over the rows of segments that were released (mode db_only): the index is
       their only home
    4. if the old index has rows of segments that are neither in the log nor released (somebody
       has deleted them), or that cannot be read, keep it under another name
    5. drop the old index's WAL, rename the new file over the old one, sync the folder
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import duckdb
import msgspec

from eventlog import forks, log
from eventlog.errors import IndexFailed
from eventlog.pruned import Pruned, read_pruned
from eventlog.segment import sync_folder
from indexer import checkpoint, engine, index_file, loader, projections, schema, turns, typed
from indexer.batch import SegmentChanged, in_order, index_batch
from indexer.digest import Digest, digest
from indexer.index_file import DEFAULT_TIMEOUT_S
from indexer.parity import Difference, differences
from indexer.staging import as_table

#: Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]

_REPLAY_BATCH_BYTES = 1024 * 1024 * 1024


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The new index: its digest, and how long building it took.

    `unreadable` says which segments are missing from it, and why. `pruned` are those that
    retention had deleted and whose rows no index had kept: only a backup has them. `kept` is
    the old index, where that had rows of segments that the log has no more, or cannot be read: `kept_events`.
    """

    digest: Digest
    segments: int
    unreadable: list[str]
    pruned: list[Pruned]
    kept: str | None
    kept_events: int
    elapsed_s: float


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

    Raises IndexBusy where the live index cannot be had within the bound; the log and the
    live index are then as they were.
    """
    started = time.monotonic()
    with _work_file(root) as path, ExitStack() as stack:
        connection = stack.enter_context(_new_index(path))
        segments, unreadable = _build(connection, root, None, progress)
        with turns.turn(root, exclusive=True, timeout_s=timeout_s):
            found = _finish(connection, root, None)
            pruned = _pruned_without_rows(connection, root)
            only_there = _events_only_in_live(connection, root, unreadable)
            stack.close()  # there is no write-ahead log: only now is the file what it should be
            kept = str(index_file.keep(index_file.index_path(root))) if only_there else None
            _swap(root, path)
    return Replayed(
        digest=found,
        segments=segments,
        unreadable=list(unreadable.values()),
        pruned=pruned,
        kept=kept,
        kept_events=only_there,
        elapsed_s=time.monotonic() - started,
    )


def verify(root: str | Path, *, progress: Progress | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Verified:
    """Compare the live index with a replay of exactly the bytes that it has indexed."""
    with index_file.reading(root, timeout_s=timeout_s) as connection:
        if schema.version(connection) != schema.SCHEMA_VERSION:
            raise IndexFailed(f"{index_file.index_path(root)} has another schema version; try: eventlog replay")
        live = engine.within_memory(connection, partial(digest, connection))
        marks = checkpoint.read(connection)
    with _work_file(root) as path, _new_index(path) as connection:
        limits = {name: mark.indexed_offset for name, mark in marks.items()}
        _build(connection, root, limits, progress)
        with turns.turn(root, exclusive=True, timeout_s=timeout_s):
            replayed = _finish(connection, root, limits)
            found = [] if live == replayed else _differences(connection, root, limits)
            carried = sum(mark.events for mark in checkpoint.read(connection).values() if mark.released)
            return Verified(live=live, replayed=replayed, carried=carried, differences=found)


@contextmanager
def _new_index(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make an empty index; it is whole, and let go of, when the block ends."""
    with engine.new_file(path) as connection:
        path.chmod(0o600)  # DuckDB makes it readable for everybody
        projections.create(connection)
        yield connection


@contextmanager
def _work_file(root: str | Path) -> Iterator[Path]:
    """Lend the path of the file that is built, to one replay at a time; clear up after it."""
    folder = Path(root).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "index.duckdb.replay"
    lock = folder / "index.replay.lock"
    with forks.held(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            names = ", ".join(turns.holders(lock) or []) or "another process"
            raise IndexFailed(f"a replay of {folder} is running already: {names}; wait for it") from None
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
    segments = in_order(log.list_log(root).segments)
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


def _finish(connection: duckdb.DuckDBPyConnection, root: str | Path, limits: Mapping[str, int] | None) -> Digest:
    """Carry over what only the live index has, and take the digest of the new one."""
    present = [segment.name for segment in log.list_log(root).segments]
    if limits is None:
        _keep_what_vanished(connection, present)
    if _has_released(root):
        with _live_attached(connection, root):
            _carry_released(connection, limits, present)
    typed.create_views(connection)
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
    connection.execute(f"ATTACH {engine.quoted(index_file.index_path(root))} AS live (READ_ONLY)")
    try:
        yield
    finally:
        connection.execute("DETACH live")


def _events_only_in_live(connection: duckdb.DuckDBPyConnection, root: str | Path, unreadable: Collection[str]) -> int:
    """Count the events of segments that the live index knows, and neither the readable log nor the new one does."""
    if not _in_live(root, "SELECT count(*) FROM segments"):
        return 0
    here = [each.name for each in log.list_log(root).segments if each.name not in unreadable]
    with _live_attached(connection, root):
        connection.execute(
            "CREATE TEMP TABLE here AS SELECT name FROM segments WHERE name NOT IN (SELECT unnest(?::VARCHAR[])) "
            "UNION SELECT unnest(?::VARCHAR[])",
            [list(unreadable), here],
        )
        return _number(connection, "SELECT sum(events) FROM live.segments old ANTI JOIN here USING (name)")


def _has_released(root: str | Path) -> bool:
    """Say whether the live index holds rows that the log no longer does."""
    return bool(_in_live(root, "SELECT count(*) FROM segments WHERE released"))


def _in_live(root: str | Path, query: str) -> int:
    """Ask the live index for a number; 0 where it is none of ours."""
    live = index_file.index_path(root)
    if not live.exists():
        return 0
    try:
        with contextlib.closing(index_file.connect(root, timeout_s=1)) as connection:
            return 0 if schema.version(connection) in (None, -1) else _number(connection, query)
    except index_file.BrokenIndex:
        # It may have been the only home of some rows: keep it for whoever can read it.
        index_file.move_aside(live)
        return 0


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def _keep_what_vanished(connection: duckdb.DuckDBPyConnection, present: list[str]) -> None:
    """Segments that were pruned after this replay had read them have no home but this index now."""
    connection.execute("UPDATE segments SET released = true WHERE name NOT IN (SELECT unnest(?))", [present])


def _carry_released(
    connection: duckdb.DuckDBPyConnection, limits: Mapping[str, int] | None, present: list[str]
) -> None:
    """Copy the rows of released segments that are not `present` in the log, up to the limits if there are any."""
    if limits is None:
        # One that was restored from a backup is in the log again, and needs no carrying.
        connection.execute(
            """
            CREATE TEMP TABLE gone AS SELECT name, NULL::BIGINT AS upto FROM live.segments old
            WHERE released AND NOT (name IN (SELECT unnest(?)) AND EXISTS
                (FROM segments WHERE segments.name = old.name AND segments.indexed_offset >= old.indexed_offset))
            """,
            [present],
        )
    else:
        rows = (msgspec.json.encode({"name": name, "upto": upto}) for name, upto in limits.items())
        with as_table(rows, "name: 'VARCHAR', upto: 'BIGINT'") as table:
            connection.execute(
                f"CREATE TEMP TABLE gone AS FROM {table} SEMI JOIN (FROM live.segments WHERE released) USING (name)"
            )
    here = "JOIN gone ON gone.name = old.segment WHERE upto IS NULL OR line_offset < upto"
    connection.begin()
    for table in ("events", "conflicts"):
        names = _live_columns(connection, table)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {names} FROM live.{table} old {here}")
        loader.merge_batch(connection)
    connection.execute("DELETE FROM rejected WHERE segment IN (SELECT name FROM gone)")
    connection.execute(f"INSERT INTO rejected BY NAME SELECT old.* FROM live.rejected old {here}")
    connection.execute("DELETE FROM segments WHERE name IN (SELECT name FROM gone)")
    connection.execute("INSERT INTO segments BY NAME FROM live.segments SEMI JOIN gone USING (name)")
    connection.commit()


def _live_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Today's columns as the live index has them: one of an older schema may lack some."""
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = 'live' AND table_name = ?", [table]
    ).fetchall()
    there = {row[0] for row in found}
    wanted = schema.CONTENT | schema.PLACE
    return ", ".join(name if name in there else f"NULL::{kind} AS {name}" for name, kind in wanted.items())


def _swap(root: str | Path, path: Path) -> None:
    live = index_file.index_path(root)
    # The WAL first: a new file beside an old one's WAL would be played forward into
    # nonsense, while the old file without its WAL is merely older.
    index_file.remove_wal(live)
    os.replace(path, live)
    sync_folder(live.parent)  # the rename is durable only when the folder is
