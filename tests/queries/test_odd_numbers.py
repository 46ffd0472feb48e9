"""Odd numbers and odd times in every field of every built-in event: no command fails, and the rest is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from eventlog.cli.main import run as command
from eventlog.format import alerts, builtin, schemas
from eventlog.queries.store import ReadStore
from tests.indexer.support import index, line, segment

NUMBERS = (
    "-1", "0", "1.5", "-86400000", "1000000000000", "1777636800000", "1780000000000000", "9223372036854775807",
    "-9223372036854775808", "1e18", "1e300", "-1e300", "1e400", "1e-400", "123456789012345678901234567890.5",
)  # fmt: skip
TIMES = ("0001-01-01T00:00:00.000000Z", "0001-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z")
NOON = "2026-05-01T12:00:00.000000Z"
STRUCTS = {
    schemas.of_struct(struct).name: struct
    for module in (builtin, alerts)
    for struct in vars(module).values()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct is not msgspec.Struct
}
_SOUND = {str: '"x"', int: "1", float: "1", Decimal: "1", bool: "true", list: "[]"}


def kinds_of(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (get_origin(hint) or hint,)


def payloads(number: str, moment: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """Yield an event of each type, with the number in all its numeric fields and the moment in those for times."""
    for name, struct in STRUCTS.items():
        fields = {}
        for field, hint in get_type_hints(struct).items():
            kinds = kinds_of(hint)
            if {int, float, Decimal} & {*kinds}:
                fields[field] = number
            elif any("datetime" in str(kind) for kind in kinds):
                fields[field] = f'"{moment}"'
            else:
                fields[field] = next((sound for kind, sound in _SOUND.items() if kind in kinds), "null")
        texts = ", ".join(f'"{key}": {value}' for key, value in fields.items())
        yield name, msgspec.Raw(b"{" + texts.encode() + b"}")


#: Cases of one log each: the time of the events, and the times in their payloads.
CASES = {
    "odd numbers": [(number, NOON, NOON) for number in NUMBERS],
    "odd times": [("1", moment, moment) for moment in TIMES],
    "both": [(number, moment, moment) for moment in TIMES for number in ("-1", "1780000000000000", "1000000000000")],
}
COMMANDS = (
    ["metrics"], ["metrics", "hourly", "--by", "model"], ["runs"], ["sessions"], ["requests"], ["health"], ["cost"],
    ["cost", "--by", "model"], ["alerts", "list", "--all"], ["alerts", "list", "--history"],
    ["alerts", "list", "--dead"], ["status"], ["doctor"], ["search", "x"],
)  # fmt: skip


@pytest.fixture(params=["America/Los_Angeles"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone in which the first or the last day of the calendar is another one, or none at all."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("case", CASES)
def test_no_command_fails(case: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people and as JSON; and the sound run beside them is the one that it is in a log of its own."""
    number = 0
    who = {"agent": "a", "workspace": None}
    for place, (odd, at, moment) in enumerate(CASES[case]):
        for event_type, payload in payloads(odd, moment):
            ids = {"run_id": f"odd{place}", "session_id": f"session{place}", "request_id": f"request{place}"}
            segment(root, line(number, event_type, timestamp=at, payload=payload, **who, **ids), event_type=event_type)
            number += 1
    for event_type, body in (("run_started", {"name": "n"}), ("tool_call", {"tool_name": "t", "duration_ms": 5}),
                             ("run_finished", {"status": "ok", "duration_ms": 7})):  # fmt: skip
        segment(
            root,
            line(number, event_type, timestamp=NOON, payload=body, run_id="sound", agent="a"),
            event_type=event_type,
        )
        number += 1
    index(root)
    one = [
        each
        for n in range(len(CASES[case]))
        for each in (["show", f"odd{n}"], ["insights", f"odd{n}"], ["show", f"session{n}"], ["show", f"request{n}"])
    ]
    failed = {}
    for arguments in (*COMMANDS, *one, ["diff", "odd0", "sound"]):
        for options in ([], ["--json"]) if arguments in COMMANDS else ([],):
            code = command([*arguments, *options, "--root", str(root)])
            said = capsys.readouterr()
            if code not in (0, 1) or "unexpected" in said.err or said.err.startswith("error"):
                failed[" ".join([*arguments, *options])] = said.err.strip()[:300]
            elif options and arguments[0] != "search":
                json.loads(said.out)
    assert not failed, "\n".join(f"{arguments}: {error}" for arguments, error in failed.items())
    store = ReadStore(root)
    sound = next(run for run in store.runs(limit=1000) if run.run_id == "sound")
    assert (sound.status, sound.duration_ms, sound.tool_calls) == ("ok", 7, 1)
    day = [row for row in store.metrics("day") if f"{row.start:%Y-%m-%d}" == "2026-05-01"]
    # The longest duration that is one moves its call to another day; no other does.
    moved = "1000000000000"
    assert sum(row.tool_calls for row in day) == 1 + sum(at == NOON and odd != moved for odd, at, _ in CASES[case])
