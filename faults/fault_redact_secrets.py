"""Secrets of every known shape, anywhere in a payload: none is in the log, and what is no secret is unchanged."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from eventlog.config import Config
from eventlog.format import payloads
from eventlog.log.reader import read_events
from eventlog.record import redaction
from eventlog.record.recorder import Recorder
from eventlog.record.redaction import commands, names, shapes, tokens
from faults.campaign import Plan, fault

_MARK = re.compile(r"\[redacted:[^\]]*\]")
_RUN = re.compile("[A-Za-z0-9]+")
_RUN_MIN = 6
_WORDS = ("the", "plan", "of", "today", "is", "done", "größer", "ok", "42", "→", "file.txt", "\U0001f642")
_ROWS: list[Any] = [*tokens.TOKENS, *shapes.SHAPES, *names.NAMES, *commands.OPTIONS]


class _Placement(NamedTuple):
    name: str
    place: Callable[[Plan, str], str]
    #: Whether a row of the tables is looked for in this form.
    applies: Callable[[Any], bool] = lambda _: True


def _words(plan: Plan) -> str:
    return " ".join(plan.rng.choice(_WORDS) for _ in range(plan.rng.randint(1, 8)))


def _among_lines(plan: Plan, text: str) -> str:
    return f"{_words(plan)}\n{text}\n{_words(plan)}"


def _in_json(plan: Plan, text: str) -> str:
    """JSON in a text, up to three times."""
    for _ in range(plan.rng.randint(1, 3)):
        shape: Any = plan.rng.choice([text, [text], {"x": text}, {"y": 1, "x": [text], "z": None}])
        text = json.dumps(shape, ensure_ascii=plan.rng.random() < 0.5)
    return text


def _slashes(_plan: Plan, text: str) -> str:
    """As PHP writes JSON."""
    return json.dumps({"x": text}).replace("/", "\\/")


def _for_html(_plan: Plan, text: str) -> str:
    """As programs write JSON that may stand in HTML."""
    text = json.dumps({"x": text})
    for character in "=<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _in_url(plan: Plan, text: str) -> str:
    return "https://example.com/?next=" + urllib.parse.quote(text, safe=plan.rng.choice(["", "/", "~"]))


def _is_token(row: Any) -> bool:
    return isinstance(row, tokens.Token) and "/" not in row.prefix


def _is_assignment(row: Any) -> bool:
    return _is_token(row) or (
        isinstance(row, names.Name) and bool(re.fullmatch("[A-Za-z_]+=[A-Za-z0-9]+", row.example))
    )


_PLACEMENTS = (
    _Placement("alone", lambda _, text: text),
    _Placement("among lines", _among_lines),
    _Placement("in JSON", _in_json),
    _Placement("in JSON with \\/", _slashes, lambda row: isinstance(row, shapes.Shape) or _is_token(row)),
    _Placement("in JSON for HTML", _for_html, _is_assignment),
    _Placement("in a URL", _in_url, _is_token),
)


def _nested(plan: Plan, text: str) -> Any:
    """Return a payload with the text somewhere in it."""
    value: Any = text
    for _ in range(plan.rng.randint(0, 6)):
        value = [value] if plan.rng.random() < 0.5 else {plan.rng.choice("abcxyz"): value}
        for beside in range(plan.rng.randint(0, 3)):
            other: Any = plan.rng.choice([_words(plan), plan.rng.randint(0, 99), None, True, 1.5, [], {}])
            if isinstance(value, list):
                value.insert(plan.rng.randint(0, len(value)), other)
            else:
                value = {**value, f"o{beside}": other} if plan.rng.random() < 0.5 else {f"o{beside}": other, **value}
    return {"text": value}


def _secrets(example: str) -> list[str]:
    """Return of each secret in an example its longest run of letters and digits, which no encoding changes."""
    marked = json.loads(redaction.redact(json.dumps({"t": example}).encode()))["t"]
    taken = re.fullmatch("(.*?)".join(map(re.escape, _MARK.split(marked))), example, re.DOTALL)
    runs = [max(_RUN.findall(part), key=len, default="") for part in (taken.groups() if taken else ())]
    return [run for run in runs if len(run) >= _RUN_MIN]


def _placed() -> Iterator[tuple[_Placement, Any]]:
    for placement in _PLACEMENTS:
        for row in _ROWS:
            if placement.applies(row):
                yield placement, row


@fault(
    "Secrets anywhere in a payload", "every row of the tables, alone, in text, in JSON in JSON, with escapes, in URLs"
)
def redact_secrets(plan: Plan) -> str:
    root = plan.root
    recorder = Recorder(Config(root=str(root), strict=True))
    secrets: dict[str, tuple[str, list[str]]] = {}
    innocent: dict[str, tuple[str, Any]] = {}
    tried = 0
    for placement, row in list(_placed()) * plan.times(4):
        tried += 1
        hidden = _nested(plan, placement.place(plan, row.example))
        event_id = recorder.emit("secret", hidden)
        secrets[str(event_id)] = f"{row.example!r} {placement.name}", _secrets(row.example)
        kept = _nested(plan, placement.place(plan, row.innocent))
        event_id = recorder.emit("innocent", kept)
        innocent[str(event_id)] = f"{row.innocent!r} {placement.name}", kept
    recorder.shutdown()
    searched = 0
    for _, event in read_events(root, "secret"):
        what, runs = secrets.pop(event.event_id)
        searched += len(runs)
        found = [run for run in runs if run.encode() in bytes(event.payload)]
        Plan.check(not found, f"{what}: {found} is in the log: {bytes(event.payload)!r}")
    Plan.check(not secrets, f"{len(secrets)} payloads with a secret are not in the log")
    for _, event in read_events(root, "innocent"):
        what, expected = innocent.pop(event.event_id)
        Plan.check(payloads.decode(event.payload) == expected, f"{what} was marked: {bytes(event.payload)!r}")
    Plan.check(not innocent, f"{len(innocent)} innocent payloads are not in the log")
    return (
        f"{tried:,} payloads with a secret of {len(_ROWS)} shapes in {len(_PLACEMENTS)} kinds of places: none of "
        f"{searched:,} secrets is in the log's bytes; as many payloads without one unchanged"
    )
