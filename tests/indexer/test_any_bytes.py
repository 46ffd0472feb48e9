"""Any bytes in a segment: each line is a row or in quarantine, with its content unchanged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.sources import Format
from eventlog.indexer import replay
from eventlog.indexer.index.schema import CONTENT
from eventlog.log.reader import Line, read_lines
from faults.hostile_bytes import event, mutated
from tests.conftest import lines_of
from tests.indexer.support import index, rows, segment


def _changed(seed: int) -> bytes:
    rng = random.Random(seed)
    extra: dict[str, Any] = {"cycle": rng.randrange(-(2**63), 2**63), "agent": "é\u2028\0", "x": {"y": [1e300, None]}}
    line = event(rng, **(extra if rng.random() < 0.3 else {}))
    return line if rng.random() < 0.3 else mutated(rng, line)


_LINES = st.lists(st.integers(0, 2**32).map(_changed) | st.binary(max_size=60), max_size=25)
_BYTES = st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n", b"\n\n", b""])).map(lambda parts: parts[1].join(parts[0]))


@given(data=_BYTES)
@settings(max_examples=25)
def test_every_byte_of_a_segment_is_a_row_or_in_quarantine(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """A row says what the line decodes to, quarantine why it does not, and a replay says the same."""
    root = tmp_path_factory.mktemp("root")
    path = segment(root, data)
    index(root)
    events = {
        row[0]: row[1:] for row in rows(root, f"SELECT line_offset, line_length, {', '.join(CONTENT)} FROM events")
    }
    known = {str(row[2]) for row in events.values()}
    quarantine = {row[0]: row[1:] for row in rows(root, "SELECT line_offset, length, reason FROM quarantine")}
    assert not events.keys() & quarantine.keys()
    end = 0
    for line in read_lines(path):
        end = line.offset + line.length
        _check(line, events.get(line.offset), quarantine.get(line.offset), known)
    assert quarantine.get(end, (0,))[0] == len(data) - end
    assert replay.verify(root).equal


def _check(line: Line, row: tuple[Any, ...] | None, rejected: tuple[int, str] | None, known: set[str]) -> None:
    found, extra, reason = _decoded(line)
    if found is None:
        assert rejected == (line.length, reason)
        return
    if row is None:
        reasons = ("conflict: ", "event_type ", "envelope field ", "timestamp ")
        assert found.event_id.lower() in known if rejected is None else rejected[1].startswith(reasons)
        return
    assert row[0] == line.length
    for name, value in zip(CONTENT, row[1:], strict=True):
        if name == "extra":
            assert (value is None) == (not extra)
            assert value is None or _read(value.encode()) == sorted(
                (key, _read(raw)) for key, raw in (extra or {}).items()
            )
        elif name == "payload":
            assert _read(value.encode()) == _read(found.payload)
        elif name == "timestamp":
            assert value.isoformat(timespec="microseconds") + "Z" == found.timestamp
        else:
            assert str(value).lower() == str(getattr(found, name)).lower()


def _decoded(line: Line) -> tuple[envelope.Envelope | None, dict[str, Any] | None, str]:
    try:
        return (*envelope.decode(line.data), "")
    except InvalidEvent as error:
        return None, None, str(error)


def _read(data: Any) -> Any:
    """Parse JSON with integers as they are written, and repeated keys."""
    return json.loads(bytes(data), object_pairs_hook=list, parse_int=str)


@given(data=_BYTES, which=st.sampled_from(["jsonl", "claude", "fields"]))
@settings(max_examples=30)
def test_any_bytes_can_be_imported_and_a_second_time_adds_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, which: str
) -> None:
    """Each record becomes an event or an `import_rejected` event; an unfinished last line waits for its rest."""
    folder = tmp_path_factory.mktemp("import")
    root, source = folder / "root", folder / "source.jsonl"
    source.write_bytes(data)
    formats: dict[str, Format] = {
        "jsonl": Jsonl(type_="foreign"),
        "claude": ClaudeCode(),
        "fields": Jsonl(type_field="event_type", time_field="timestamp", id_field="payload.n"),
    }
    settings = Config(root=str(root), strict=True)
    with importing(settings, formats[which]) as importer:
        first = importer.run(source)
    there = _all_lines(root)
    assert len(there) == first.events + (b"\n" in data)  # a checkpoint, behind the last whole line
    for line in there:
        envelope.decode(line)
    with importing(settings, formats[which]) as importer:
        again = importer.run(source)
    assert again.events == 0
    assert _all_lines(root) == there


def _all_lines(root: Path) -> list[bytes]:
    folder = root / "log"
    return [line for each in sorted(folder.iterdir()) for line in lines_of(root, each.name)] if folder.exists() else []
