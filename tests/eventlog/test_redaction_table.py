"""Every row of the tables of redaction: what must be marked is, what must stay does, and JSON stays JSON."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog.record import redaction
from eventlog.record.redaction import commands, names, shapes, tokens
from eventlog.record.redaction.prefilter import may_hold_secrets
from tests.eventlog.redaction_table import INNOCENT, SECRET

_SEPARATORS = [(",", ":"), (", ", ": ")]
_ROWS: list[Any] = [*tokens.TOKENS, *shapes.SHAPES, *names.NAMES, *commands.OPTIONS]


def encodings(payload: Any) -> list[bytes]:
    return [
        json.dumps(payload, ensure_ascii=ascii_only, separators=separators).encode()
        for separators in _SEPARATORS
        for ascii_only in (True, False)
    ]


@pytest.mark.parametrize(("what", "payload", "secret"), SECRET, ids=[row[0] for row in SECRET])
def test_a_secret_is_marked(what: str, payload: Any, secret: str) -> None:
    """However its payload is encoded; and marking it again changes nothing."""
    for data in encodings(payload):
        marked = redaction.redact(data)
        json.loads(marked)
        assert secret not in marked.decode()
        assert redaction.redact(marked) == marked


@pytest.mark.parametrize(("what", "payload"), INNOCENT, ids=[row[0] for row in INNOCENT])
def test_what_is_no_secret_stays_as_it_is(what: str, payload: Any) -> None:
    """Byte for byte."""
    for data in encodings(payload):
        assert redaction.redact(data) == data


@pytest.mark.parametrize("row", _ROWS, ids=[row.example[:40] for row in _ROWS])
def test_each_row_matches_its_example_and_not_its_counterpart(row: Any) -> None:
    """In a text; and through the first look."""
    for data in encodings({"text": row.example}):
        assert b"[redacted:" in redaction.redact(data)
    for data in encodings({"text": row.innocent}):
        assert redaction.redact(data) == data


@pytest.mark.parametrize("name", ["question", "description", "action", "function", "tool_name", "result", "path"])
def test_the_first_look_passes_over_what_nearly_every_event_has(name: str) -> None:
    """To look closely takes many times as long."""
    assert not any(may_hold_secrets(data) for data in encodings({name: "look it up", "text": "a\nb", "seconds": 0.8}))


def test_source_code_has_at_most_one_mark_per_100_kilobytes() -> None:
    """In two megabytes of the standard library: code, words about passwords, and none of them real."""
    size = marks = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(errors="replace")
        size += len(text)
        marks += redaction.redact(json.dumps({"text": text}).encode()).count(b"[redacted:")
        if size > 2_000_000:
            break
    assert size > 1_000_000
    assert marks <= size / 100_000


def test_what_is_over_the_limit_is_refused_before_secrets_are_looked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for secrets in it would take longer than all else."""
    monkeypatch.setattr(redaction, "redact", lambda _: pytest.fail("looked for secrets"))
    obs.configure(root=root)
    assert obs.emit("big", {"text": "password=" * 2_000_000}) is None
    assert obs.stats().refused == 1
