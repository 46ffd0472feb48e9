"""Segments that end anywhere, as a kill, a full disk or a power cut leaves the last lines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import eventlog as obs
from eventlog.format import envelope, ids
from eventlog.log import layout
from eventlog.queries.store import ReadStore
from faults import oracle
from faults.campaign import Plan, fault

_TAIL_BYTES = 4096


class _Cut(NamedTuple):
    """A segment and where it was cut: the ids of its complete lines, and the bytes after them."""

    segment: str
    whole: list[str]
    offset: int
    torn: bytes


def _lines(number: int) -> list[tuple[str, bytes]]:
    """Lines of fixed lengths, short and long, with characters of several bytes; their ids are the segment's own."""
    made = []
    for position, pad in enumerate((0, 2500, 40, 700, 0, 1200, 310, 3)):
        event_id = ids.derived_id(1_700_000_000_000_000, str(number), str(position))
        payload = envelope.encode_payload({"text": "käse\n🧀" * (pad // 10), "n": position})
        event = envelope.Envelope(
            event_id=event_id, event_type="cut", timestamp="2026-01-01T00:00:00.000000Z", payload=payload
        )
        made.append((event_id, envelope.encode(event)))
    return made


def _write_cut(folder: Path, number: int, missing: int) -> _Cut:
    name = layout.new_segment_name(time.time_ns())
    lines = _lines(number)
    data = b"".join(line for _, line in lines)
    data = data[: len(data) - missing]
    (folder / f"{name}.jsonl").write_bytes(data)
    offset = data.rfind(b"\n") + 1
    whole = [event_id for event_id, _ in lines[: data.count(b"\n")]]
    return _Cut(name, whole, offset, data[offset:])


@fault("Torn tails", "a segment cut at each byte of its last 4 KiB")
def tear_tails(plan: Plan) -> str:
    root = plan.root
    folder = root / "log" / "cut"
    folder.mkdir(parents=True)
    missing = sorted(plan.rng.sample(range(1, _TAIL_BYTES + 1), min(plan.times(_TAIL_BYTES), _TAIL_BYTES)))
    cuts = [_write_cut(folder, number, each) for number, each in enumerate(missing)]
    oracle.recover(root)
    _compare(root, cuts)
    # Nothing may ever be glued to a torn line: whoever writes next takes another segment.
    obs.configure(root=root)
    more = [event_id for _ in range(3) if (event_id := obs.emit("cut", {"after": True}))]
    obs.shutdown()
    whole = [event_id for cut in cuts for event_id in cut.whole]
    rows = oracle.judge(root, whole + more)
    plan.check(rows == len(whole) + 3, f"{rows} rows of {len(whole) + 3} whole lines")
    torn = sum(bool(cut.torn) for cut in cuts)
    plan.check(oracle.torn_tails(root) == torn, f"not {torn} torn tails after more was written")
    return f"{len(cuts):,} cuts: {len(whole):,} whole lines indexed, {torn:,} torn tails in quarantine, byte for byte"


def _compare(root: Path, cuts: list[_Cut]) -> None:
    """Check that each segment's complete lines are rows, and that the rest is in quarantine, byte for byte."""
    store = ReadStore(root)
    found = store.sql("SELECT segment, list(event_id::VARCHAR ORDER BY line_offset) FROM events GROUP BY 1")
    rows = {str(segment): list(event_ids) for segment, event_ids in found.rows}
    torn = {
        str(segment): (offset, length, bytes(raw))
        for segment, offset, length, raw in store.sql("SELECT segment, line_offset, length, raw FROM quarantine").rows
    }
    for cut in cuts:
        place = f"{cut.segment}, cut behind byte {cut.offset + len(cut.torn):,}"
        Plan.check(rows.get(cut.segment, []) == cut.whole, f"{place}: not the {len(cut.whole)} lines before the cut")
        expected = (cut.offset, len(cut.torn), cut.torn) if cut.torn else None
        Plan.check(torn.get(cut.segment) == expected, f"{place}: in quarantine is {torn.get(cut.segment)}")
