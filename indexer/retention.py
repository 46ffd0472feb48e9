"""Retention: old segments are deleted, once what they say is safe somewhere else.

Of each segment, in this order, so that a crash anywhere leaves either the segment or a
truthful account of where its content is:

    1. it is sealed, it still is what was sealed, and it is indexed or backed up
    2. the index says that the rows of this segment have no other home (`released`), durably
    3. a `segment_pruned` event says so in the log, durably, and is sealed: no other excuses a missing segment
    4. the file is deleted

A backup that is to allow a deletion counts once its copy was read and compared
(eventlog.maintenance.backup_lookup).
Steps 2 to 4 are taken in one turn at the index, so that a replay, which swaps its own index
in under that turn, comes before or after all of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from eventlog.config import SEGMENT_MAX_AGE_S, SEGMENT_MAX_BYTES
from eventlog.durability import Durability
from eventlog.errors import IndexBusy, IndexFailed, InvalidEvent, SegmentUnreadable
from eventlog.format import envelope, ids, timestamps
from eventlog.format.alerts import ALERT_TYPES
from eventlog.format.envelope import Envelope
from eventlog.format.schemas import SCHEMA_EVENT
from eventlog.indexer.index import checkpoint, index_file, lock, schema
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.index.index_file import DEFAULT_TIMEOUT_S
from eventlog.indexer.policies import RETENTION_EVENT, Policies
from eventlog.log import layout
from eventlog.log.chains import Chains, Link
from eventlog.log.fingerprint import sha256
from eventlog.log.layout import SegmentFile
from eventlog.log.pruned import PRUNED_EVENT, Pruned, read_pruned
from eventlog.log.segment import remove_if_finished
from eventlog.log.writer import Writer
from eventlog.maintenance.backup_log import BACKED_UP_EVENT
from eventlog.maintenance.backup_lookup import BackupLookup
from eventlog.maintenance.lock import maintenance
from eventlog.maintenance.sealing import SEAL_EVENT, read_chain, seal_held

#: What the log says of itself, and what importers, views, prices and alert rules go on from: small, and kept for ever.
KEPT_TYPES = ALERT_TYPES | {
    SEAL_EVENT, PRUNED_EVENT, SCHEMA_EVENT, BACKED_UP_EVENT, RETENTION_EVENT, "import_checkpoint",
    "price_set",
}  # fmt: skip


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted, or would be; and of what is old enough, what was kept and why."""

    pruned: list[Pruned]
    kept: list[str]
    #: Of backups that the log tells of: which could not be looked at, or do not hold what they should.
    unseen: list[str] = []


def prune(
    root: str | Path,
    older_than_s: float | None = None,
    event_types: Iterable[str] | None = None,
    *,
    dry_run: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Pruning:
    """Delete segments that were last written over `older_than_s` seconds ago, as far as that is safe.

    What a policy keeps longer stays, and without `older_than_s` policies alone decide (eventlog.indexer.policies).
    Raises InvalidEvent for a type that is kept for ever, QueryFailed where there is neither age nor policy,
    MaintenanceBusy, IndexBusy, and SegmentUnreadable before anything is deleted where the account cannot be sealed.
    """
    types = None if event_types is None else set(event_types)
    if types and types & KEPT_TYPES:
        raise InvalidEvent(f"{min(types & KEPT_TYPES)} is kept for ever: the log would not be understood without it")
    with contextlib.nullcontext() if dry_run else maintenance(root):
        policies = Policies(root, older_than_s)
        old = policies.old(layout.list_log(root, types).segments)
        done = Pruning(pruned=[], kept=[], unseen=[])
        seals = Chains(read_chain(root)).by_segment()
        copies, indexed = BackupLookup(root), _marks(root, timeout_s)
        files = {}
        for file in old:
            if file.event_type in KEPT_TYPES:
                continue
            verdict = _judge(file, policies, seals.get(file.name, []), copies, indexed)
            if isinstance(verdict, str):
                done.kept.append(f"{file.event_type}/{file.name}: {verdict}")
            else:
                done.pruned.append(verdict)
                files[file.name] = file
        done.unseen.extend(copies.problems)
        if done.pruned and not dry_run:
            # In one turn at the index: a replay that ends meanwhile sees all of it or nothing.
            with _turn(root, timeout_s, indexed is not None) as connection:
                if connection is not None:
                    _release(connection, done.pruned)
                _tell(root, done.pruned)
                seal_held(root, PRUNED_EVENT)  # raises where it cannot: an account without a seal excuses no deletion
                for file in files.values():
                    if not _delete(file):
                        done.pruned[:] = [each for each in done.pruned if each.segment != file.name]
                        done.kept.append(
                            f"{file.event_type}/{file.name}: not deleted: somebody holds it, or the folder "
                            "cannot be written; run the same again"
                        )
        return done


@contextmanager
def _turn(root: str | Path, timeout_s: float, has_index: bool) -> Iterator[duckdb.DuckDBPyConnection | None]:
    if has_index:
        with index_file.writing(root, timeout_s=timeout_s) as connection:
            yield connection
    else:
        with lock.turn(root, exclusive=True, timeout_s=timeout_s):
            if index_file.index_path(root).exists():  # then it is to have all that goes
                raise IndexBusy(f"{index_file.index_path(root)} was made meanwhile; try again")
            yield None


def _judge(
    file: SegmentFile,
    policies: Policies,
    seals: list[Link],
    copies: BackupLookup,
    indexed: dict[str, Checkpoint] | None,
) -> Pruned | str:
    """Return what may be deleted, or why it may not."""
    if not seals or not file.sealed:
        return "not sealed; try: eventlog seal"
    seal = seals[0].seal
    if any(link.seal.sha256 != seal.sha256 for link in seals):
        return "two copies of a root have sealed it with different bytes; try: eventlog verify"
    mark = None if indexed is None else indexed.get(file.name)
    is_indexed = mark is not None and mark.indexed_offset == file.size
    if indexed is not None and not is_indexed:
        return "not indexed yet; try: eventlog index"
    try:
        kept = policies.why_kept(file)
        if kept is not None:
            return kept
        if sha256(file.path) != seal.sha256:
            return "not what was sealed; try: eventlog verify"
        if mark is not None and checkpoint.difference(mark, file.path, file.size) is not None:
            return "not the file that was indexed; try: eventlog index"
    except (OSError, SegmentUnreadable) as error:
        return f"cannot be read: {error}"
    backups = copies.destinations_with(file, seal, whole=not is_indexed)  # last: it may read the copies
    if not is_indexed and not backups:
        return "neither indexed, nor in a backup that could be looked at; try: eventlog index"
    return Pruned(
        segment=file.name,
        segment_type=file.event_type,
        size_bytes=seal.size_bytes,
        lines=seal.lines,
        sha256=seal.sha256,
        seal=seal.number,
        origin=seal.origin,
        indexed=is_indexed,
        backups=backups,
    )


def _marks(root: str | Path, timeout_s: float) -> dict[str, Checkpoint] | None:
    """Return how far each segment is indexed; None where there is no index."""
    if not index_file.index_path(root).exists():
        return None
    with index_file.reading(root, timeout_s=timeout_s) as connection:
        if schema.version(connection) != schema.SCHEMA_VERSION:
            raise IndexFailed(f"{index_file.index_path(root)} is not an index of this version; try: eventlog index")
        return checkpoint.read(connection)


def _release(connection: duckdb.DuckDBPyConnection, pruned: list[Pruned]) -> None:
    """Have the index keep rows whose segments are about to go, also through a replay.

    Raises IndexBusy where they are not all in there any more: it was replaced since they were looked at.
    """
    marks = checkpoint.read(connection, [each.segment for each in pruned])
    for each in pruned:
        mark = marks.get(each.segment)
        if mark is None or mark.indexed_offset != each.size_bytes:
            raise IndexBusy(f"{each.segment_type}/{each.segment}: the index was replaced meanwhile; try again")
        mark.released = True
    connection.begin()
    checkpoint.write(connection, marks.values())
    connection.commit()
    connection.execute("CHECKPOINT")


def _tell(root: str | Path, pruned: list[Pruned]) -> None:
    told = [each.pruned for accounts in read_pruned(root).values() for each in accounts]
    lines = [envelope.encode(_envelope(each)) for each in pruned if each not in told]
    if not lines:
        return
    # In a segment of its own: in one that a copy of the root may have as well, two roots would write under one name.
    writer = Writer(
        root,
        segment_max_bytes=SEGMENT_MAX_BYTES,
        segment_max_age_s=SEGMENT_MAX_AGE_S,
        durability=Durability.SYNCED,
        adopts=False,
    )
    try:
        writer.write(PRUNED_EVENT, b"".join(lines))
    finally:
        writer.close()


def _envelope(pruned: Pruned) -> Envelope:
    payload = envelope.encode_payload(pruned)
    now_ns = time.time_ns()
    return Envelope(
        event_id=ids.new_id(now_ns), event_type=PRUNED_EVENT, timestamp=timestamps.from_ns(now_ns), payload=payload
    )


def _delete(file: SegmentFile) -> bool:
    """Delete a segment, and its other form if archiving was interrupted in between; say whether it is gone."""
    there = [path for path in {file.path, layout.archive_of(file.path)} if path.exists()]
    return all(remove_if_finished(path, path.stat().st_size) for path in there)
