"""Reading again what an import rejected: after an upgrade that can read it, or with other options.

    import_rejected events ──raw──→ the same format ──→ events, and an import_recovered event ──→ log

The log keeps what was rejected, with the bytes as they stood in the file, so that the file is not needed. An
`import_recovered` event says that a rejected record has become events: it is out of quarantine then, and is not read
again. It comes after the events, so that a crash between them costs nothing: the events come once more, and their ids
are the same. What still cannot be read stays as it is.

The ids of the events are those of an import of the file: they hold how often the same bytes came before in it
(`occurrence`). A rejected record says that only by its own id, which is a hash of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers import events, sources
from eventlog.importers.events import REJECTED_EVENT, Made, Rejected
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.records import SourceLine, split_records
from eventlog.importers.sources import Format
from eventlog.log import reader
from eventlog.record.recorder import Recorder

RECOVERED_EVENT = "import_recovered"
#: Of records with the same bytes in one file, so many are told apart.
_OCCURRENCES_MAX, _HASHED_MAX_BYTES = 10_000, 256 * 1024 * 1024
_REASON_CHARS = 200
#: Makes a format of the key of the one that rejected a record, and of the workspace and the agent of its event; None
#: where there is no such format.
FormatOf = Callable[[str, str | None, str | None], Format | None]


class Retried(msgspec.Struct):
    """What reading again did.

    `records` counts the rejected records that were looked at, and were not recovered before: `recovered` gave `events`
    now; `failed` are rejected as before, `reasons` says why; of `cut` ones the log has the first part only; for those
    of `unknown` importers nothing here can read them.
    """

    records: int = 0
    recovered: int = 0
    events: int = 0
    failed: int = 0
    cut: int = 0
    unknown: int = 0
    reasons: dict[str, int] = {}
    unknown_importers: list[str] = []


class _Entry(NamedTuple):
    """An `import_rejected` event that was not recovered yet."""

    event: Envelope
    rejected: Rejected


def retry(
    recorder: Recorder,
    *,
    format_of: FormatOf | None = None,
    wanted: Callable[[Rejected], bool] = lambda _: True,
) -> Retried:
    """Read the rejected records of a log again, those that are `wanted`; append the events that come out.

    `recorder` is strict, and of the maintenance role. Raises WriteFailed and SegmentUnreadable.
    """
    find = format_of or known_format
    done, reasons, unknown = Retried(), Counter[str](), Counter[str]()
    for event, rejected in _waiting(recorder.config.root):
        if not wanted(rejected):
            continue
        done.records += 1
        format_ = find(rejected.importer, event.workspace, event.agent)
        if format_ is None:
            unknown[rejected.importer] += 1
            continue
        occurrence = _occurrence(event, rejected)
        if occurrence is None:
            done.cut += 1
            continue
        try:
            made = _made(format_, rejected, occurrence)
        except (InvalidEvent, ValueError, RecursionError) as error:
            reasons[str(error)[:_REASON_CHARS]] += 1
            continue
        for each in made:
            recorder.record_lines(each.event_type, [each.line])
        recorder.record([_recovered(event, format_, len(made))])
        done.recovered += 1
        done.events += len(made)
    done.failed, done.reasons = reasons.total(), dict(reasons.most_common())
    done.unknown, done.unknown_importers = unknown.total(), sorted(unknown)
    return done


def _waiting(root: str) -> Iterator[_Entry]:
    """Yield the rejected records that were not recovered, each once."""
    seen = {(event.workspace, rejected) for event, rejected in _recovered_before(root)}
    for _, event in reader.read_events(root, REJECTED_EVENT):
        key = (event.workspace, event.event_id)
        if key in seen:
            continue
        seen.add(key)
        try:
            yield _Entry(event, msgspec.json.decode(event.payload, type=Rejected))
        except msgspec.MsgspecError:
            continue  # of another program: nothing says how to read it


class _Recovered(msgspec.Struct, frozen=True):
    rejected: str


def _recovered_before(root: str) -> Iterator[tuple[Envelope, str]]:
    for _, event in reader.read_events(root, RECOVERED_EVENT):
        try:
            yield event, msgspec.json.decode(event.payload, type=_Recovered).rejected
        except msgspec.MsgspecError:
            continue


def _recovered(event: Envelope, format_: Format, made: int) -> Envelope:
    """Return the event that says that a rejected record has become events."""
    return Envelope(
        event_id=ids.derived_id(0, RECOVERED_EVENT, event.event_id, workspace=event.workspace),
        event_type=RECOVERED_EVENT,
        timestamp=timestamps.UNKNOWN,
        workspace=event.workspace,
        agent=event.agent,
        payload=envelope.encode_payload({"rejected": event.event_id, "importer": format_.key, "events": made}),
    )


def _made(format_: Format, rejected: Rejected, occurrence: int) -> list[Made]:
    """Return the events of a record. Raises InvalidEvent, ValueError and RecursionError."""
    data = rejected.data or b""
    made: list[Made] = []
    for record in split_records(SourceLine(data, len(data), len(data), True)):
        if record.reason is not None:
            raise InvalidEvent(record.reason)
        made += events.of_format(format_, record.data, rejected.source, occurrence)
    if not made:
        raise InvalidEvent(rejected.reason)
    return made


def _occurrence(event: Envelope, rejected: Rejected) -> int | None:
    """Return how often the bytes of a record came before in its source; None where the log has not all of them."""
    data = rejected.data
    if data is None or rejected.is_cut:
        return None
    for occurrence in range(min(_OCCURRENCES_MAX, _HASHED_MAX_BYTES // (len(data) + 1))):
        if events.rejected_id(rejected, data, occurrence, event.workspace) == event.event_id:
            return occurrence
    return None


# -- formats ---------------------------------------------------------------------------------


def known_format(key: str, workspace: str | None, agent: str | None) -> Format | None:
    """Return the format with this key; None where this version has none.

    Its options are those of then: a key holds all of them.
    """
    return Jsonl.of_key(key) or _format_of_source(key, workspace, agent)


def _format_of_source(key: str, workspace: str | None, agent: str | None) -> Format | None:
    made = (source.format(workspace=workspace, agent=agent) for source in sources.all_sources())
    return next(islice((each for each in made if each.key == key), 1), None)
