"""Retention: old segments are deleted once their content is safe somewhere else (docs/decisions/0011).

The steps for a segment. After a crash there is either the segment, or a true record of where its content is:

    1. check that it is sealed, unchanged since, and indexed or backed up
    2. mark it as `released` in the index: only the index has its rows. Sync the index
    3. log a `segment_pruned` event and seal it: a missing segment without one is an error. Sync the log
    4. delete the file

If only a backup allows the deletion, its copy is read and compared first (eventlog.maintenance.backup_lookup). The fair
lock is held during steps 2 to 4. A replay swaps its index in under the same lock, so it sees all of them or none.
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
from eventlog.format.keys import KEY_EVENTS
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
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.log.segment import remove_if_finished
from eventlog.log.writer import Writer
from eventlog.maintenance.backup_log import BACKED_UP_EVENT
from eventlog.maintenance.backup_lookup import BackupLookup
from eventlog.maintenance.lock import maintenance
from eventlog.maintenance.sealing import read_chain, seal_held

#: Event types that are never pruned: the log's records about itself, and the state of importers, views, prices and
#: alert rules. They are small.
PERMANENT_TYPES = ALERT_TYPES | {
    SEAL_EVENT, PRUNED_EVENT, SCHEMA_EVENT, BACKED_UP_EVENT, RETENTION_EVENT, "import_checkpoint",
    "price_set", *KEY_EVENTS,
}  # fmt: skip


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """The result of pruning, or of a dry run."""

    pruned: list[Pruned]
    #: Segments that are old enough but were not deleted: `<type>/<name>: <reason>`.
    retained: list[str]
    #: Backups that could not be read, or whose copies are damaged or missing, one message each.
    backup_problems: list[str] = []
    #: What each of the pruned segments took on disk, by its name: less than its lines have, where it was archived.
    disk_bytes: dict[str, int] = {}


def prune(
    root: str | Path,
    older_than_s: float | None = None,
    event_types: Iterable[str] | None = None,
    *,
    dry_run: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Pruning:
    """Delete segments that were last written more than `older_than_s` seconds ago, as far as that is safe.

    Events that a policy keeps longer stay; without `older_than_s`, policies alone decide (eventlog.indexer.policies).
    `event_types` limits it to some types. A dry run deletes nothing.

    Raises InvalidEvent for a permanent type, QueryFailed if there is neither age nor policy, MaintenanceBusy, IndexBusy
    after `timeout_s` seconds, IndexFailed, and SegmentUnreadable if the `segment_pruned` events cannot be sealed:
    nothing is deleted then.
    """
    types = None if event_types is None else set(event_types)
    if types and types & PERMANENT_TYPES:
        raise InvalidEvent(
            f"{min(types & PERMANENT_TYPES)} is kept for ever: the log would not be understood without it"
        )
    with contextlib.nullcontext() if dry_run else maintenance(root):
        policies = Policies(root, older_than_s)
        old = policies.old(layout.list_log(root, types).segments)
        done = Pruning(pruned=[], retained=[], backup_problems=[], disk_bytes={})
        seals = Chains(read_chain(root)).by_segment()
        copies, indexed = BackupLookup(root), _marks(root, timeout_s)
        files = {}
        for file in old:
            if file.event_type in PERMANENT_TYPES:
                continue
            verdict = _judge(file, policies, seals.get(file.name, []), copies, indexed)
            if isinstance(verdict, str):
                done.retained.append(f"{file.event_type}/{file.name}: {verdict}")
            else:
                done.pruned.append(verdict)
                done.disk_bytes[file.name] = _disk_bytes(file)
                files[file.name] = file
        done.backup_problems.extend(copies.problems)
        if done.pruned and not dry_run:
            # Under one lock: a replay that ends meanwhile sees all of it or nothing.
            with _locked(root, timeout_s, indexed is not None) as connection:
                if connection is not None:
                    _release(connection, done.pruned)
                _log_pruned(root, done.pruned)
                seal_held(root, PRUNED_EVENT)  # raises if it cannot: without a seal, the event does not count
                for file in files.values():
                    if not _delete(file):
                        done.pruned[:] = [pruned for pruned in done.pruned if pruned.segment != file.name]
                        done.disk_bytes.pop(file.name)
                        done.retained.append(
                            f"{file.event_type}/{file.name}: not deleted: another process holds it, or the folder "
                            "cannot be written; run the same again"
                        )
        return done


@contextmanager
def _locked(root: str | Path, timeout_s: float, has_index: bool) -> Iterator[duckdb.DuckDBPyConnection | None]:
    if has_index:
        with index_file.writing(root, timeout_s=timeout_s) as connection:
            yield connection
    else:
        with lock.fair_lock(root, exclusive=True, timeout_s=timeout_s):
            if index_file.index_path(root).exists():  # the segments would have to be indexed first
                raise IndexBusy(f"{index_file.index_path(root)} was made meanwhile; try again")
            yield None


def _judge(
    file: SegmentFile,
    policies: Policies,
    seals: list[Link],
    copies: BackupLookup,
    indexed: dict[str, Checkpoint] | None,
) -> Pruned | str:
    """Return the record of a segment that may be deleted, or the reason why it may not."""
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
        reason = policies.reason_to_keep(file)
        if reason is not None:
            return reason
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
    """Return the checkpoints of all segments; None if there is no index."""
    if not index_file.index_path(root).exists():
        return None
    with index_file.reading(root, timeout_s=timeout_s) as connection:
        if schema.version(connection) != schema.SCHEMA_VERSION:
            raise IndexFailed(f"{index_file.index_path(root)} is not an index of this version; try: eventlog index")
        return checkpoint.read(connection)


def _release(connection: duckdb.DuckDBPyConnection, pruned: list[Pruned]) -> None:
    """Mark segments as released, so that replays carry their rows over. Sync the index.

    Raises IndexBusy if the index does not have all of their rows any more: it was replaced meanwhile.
    """
    marks = checkpoint.read(connection, [segment.segment for segment in pruned])
    for segment in pruned:
        mark = marks.get(segment.segment)
        if mark is None or mark.indexed_offset != segment.size_bytes:
            raise IndexBusy(f"{segment.segment_type}/{segment.segment}: the index was replaced meanwhile; try again")
        mark.released = True
    connection.begin()
    checkpoint.write(connection, marks.values())
    connection.commit()
    connection.execute("CHECKPOINT")


def _log_pruned(root: str | Path, pruned: list[Pruned]) -> None:
    logged = [account.pruned for accounts in read_pruned(root).values() for account in accounts]
    lines = [envelope.encode(_envelope(segment)) for segment in pruned if segment not in logged]
    if not lines:
        return
    # In a new segment: a copy of the root may have the same segments, and both would append to one name.
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
    """Delete a segment, and its archive if archiving was interrupted; return whether both are gone."""
    return all(remove_if_finished(path, path.stat().st_size) for path in _files_of(file))


def _disk_bytes(file: SegmentFile) -> int:
    return sum(path.stat().st_size for path in _files_of(file))


def _files_of(file: SegmentFile) -> list[Path]:
    return [path for path in {file.path, layout.archive_of(file.path)} if path.exists()]
