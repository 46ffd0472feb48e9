"""Parameters of questions: declared once, for reading them, for the OpenAPI document and for the tests.

    ?since=7d&limit=20 ──→ collected (by name, no unknown ones) ──→ read (times, numbers, choices) ──→ arguments

They have the names of the options of the commands, with `_` for `-`, and say the same. Times without a zone are of
`zone`, which is UTC unless another one is named: whoever asks over a network is not where the server is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal

import msgspec

from eventlog.errors import QueryFailed
from eventlog.format import spoken, timestamps
from eventlog.format.envelope import AUDIT_LEVELS
from eventlog.server.problems import bad_parameter

Kind = Literal["text", "time", "zone", "age", "flag", "number", "amount"]
#: How often one may be repeated, and how long each text is then; and how long the text of another one is. All of an
#: address has to fit into 64 KiB, in which a character may take twelve bytes.
_VALUES_MAX, _VALUE_MAX_CHARS = 50, 200
_TEXT_MAX_CHARS = 2_000
_FLAGS = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_NUMBER = re.compile(r"[0-9]{1,9}")
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


class Parameter(msgspec.Struct, frozen=True):
    """One parameter; numbers are from `least` to `most`."""

    name: str
    kind: Kind
    meaning: str
    default: Any = None
    choices: tuple[str, ...] = ()
    many: bool = False
    required: bool = False
    least: int = 1
    most: int = 1000

    @property
    def max_chars(self) -> int:
        """How long a text may be."""
        return _VALUE_MAX_CHARS if self.many else _TEXT_MAX_CHARS

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of one value."""
        kinds: dict[Kind, dict[str, Any]] = {
            "text": {"type": "string", "maxLength": self.max_chars},
            "time": {"type": "string", "examples": ["2026-01-31T12:00:00Z", "7d", "yesterday"]},
            "zone": {"type": "string", "examples": ["Europe/Berlin"]},
            "age": {"type": "string", "pattern": "^[0-9]{1,6}[smhdw]$"},
            "flag": {"type": "boolean"},
            "number": {"type": "integer", "minimum": self.least, "maximum": self.most},
            "amount": {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"},
        }
        one = kinds[self.kind] | ({"enum": [*self.choices]} if self.choices else {})
        if self.many:
            return {"type": "array", "items": one, "maxItems": _VALUES_MAX}
        return one if self.default is None else one | {"default": self.default}


Texts = Mapping[str, Sequence[str]]


def collect(parameters: Iterable[Parameter], pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of a query string by name. Raises Problem for a name that is not one of the parameters."""
    names = [parameter.name for parameter in parameters]
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in names:
            near = difflib.get_close_matches(name.replace("-", "_"), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
            raise bad_parameter(name[:100], f"there is no such parameter here; {hint}")
        values.setdefault(name, []).append(value)
    return values


def read(parameters: Iterable[Parameter], texts: Texts, now: datetime) -> dict[str, Any]:
    """Return the arguments that texts stand for; ages count from `now`. Raises Problem.

    `zone` is always among them: None is that of the server's machine.
    """
    zone = _zone(texts.get("zone", ("UTC",))[-1])
    arguments: dict[str, Any] = {"zone": zone}
    for parameter in parameters:
        own = texts.get(parameter.name, ())
        if len(own) > (_VALUES_MAX if parameter.many else 1):
            at_most = f"at most {_VALUES_MAX} times" if parameter.many else "once"
            raise bad_parameter(parameter.name, f"it may be given {at_most}")
        if parameter.required and not own:
            raise bad_parameter(parameter.name, "it is missing")
        if parameter.kind == "zone":
            continue
        values = [_value(parameter, text, zone, now) for text in own]
        if not values and parameter.kind in ("time", "age") and parameter.default is not None:
            values = [_value(parameter, parameter.default, zone, now)]
        arguments[parameter.name] = tuple(values) if parameter.many else values[0] if values else parameter.default
    since, until = arguments.get("since"), arguments.get("until")
    if since is not None and until is not None and since >= until:
        raise bad_parameter("since", "it is not before `until`, so nothing is between them; exchange the two")
    return arguments


def _zone(name: str) -> tzinfo | None:
    try:
        return None if name == "local" else timestamps.zone_named(name)
    except QueryFailed as error:
        raise bad_parameter("zone", str(error)) from None


def _value(parameter: Parameter, text: str, zone: tzinfo | None, now: datetime) -> Any:
    try:
        return _READERS[parameter.kind](parameter, text, zone, now)
    except ValueError as error:
        raise bad_parameter(parameter.name, str(error)) from None


def _text(parameter: Parameter, text: str, _: tzinfo | None, __: datetime) -> str:
    if parameter.choices and text not in parameter.choices:
        raise ValueError(f"{text[:100]!r} is none of {', '.join(parameter.choices)}")
    if len(text) > parameter.max_chars:
        raise ValueError(f"it is longer than {parameter.max_chars:,} characters")
    return text


def _time(_: Parameter, text: str, zone: tzinfo | None, now: datetime) -> datetime:
    try:
        return spoken.read(text, zone, now)
    except ValueError:
        raise ValueError(f"{text[:100]!r} is not a time; use {spoken.UNDERSTOOD}") from None


def _age(_: Parameter, text: str, __: tzinfo | None, ___: datetime) -> float:
    seconds = timestamps.age_s(text)
    if seconds is None:
        raise ValueError(f"{text[:100]!r} is not a length of time; use one like 90m, 24h, 7d")
    return seconds


def _flag(_: Parameter, text: str, __: tzinfo | None, ___: datetime) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("use 1 or 0")
    return _FLAGS[text.lower()]


def _number(parameter: Parameter, text: str, _: tzinfo | None, __: datetime) -> int:
    if not _NUMBER.fullmatch(text) or not parameter.least <= int(text) <= parameter.most:
        raise ValueError(f"{text[:100]!r} is no number from {parameter.least:,} to {parameter.most:,}")
    return int(text)


def _amount(_: Parameter, text: str, __: tzinfo | None, ___: datetime) -> Decimal:
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise ValueError(f"{text[:100]!r} is not an amount of USD, such as 100 or 12.50")
    return Decimal(text)


_READERS = {"text": _text, "time": _time, "age": _age, "flag": _flag, "number": _number, "amount": _amount}


# -- those that several questions have ---------------------------------------------------------

ZONE = Parameter("zone", "zone", "The zone of times and days: a name, or `local` for that of the server; else UTC.")
WORKSPACE = Parameter("workspace", "text", "See this workspace and nothing else; for a key of all workspaces.")
SINCE = Parameter("since", "time", "From this time on: a time, an age (7d), or a word such as yesterday.")
UNTIL = Parameter("until", "time", "Before this time.")
AGENT = Parameter("agent", "text", "Of this agent.")
TYPES = Parameter("type", "text", "Of this event type; may be repeated.", many=True)
AUDIT_LEVEL = Parameter("audit_level", "text", "Of this level, or of a higher one.", choices=AUDIT_LEVELS)
WORDS = Parameter("words", "text", "With all these words; may be repeated.", many=True)
AFTER = Parameter("after", "text", "The page behind this place: from `next`, or the header Link, of the page before.")
OF_EVENTS = (
    AGENT,
    Parameter("run_id", "text", "Of this run."),
    Parameter("session_id", "text", "Of this session."),
    Parameter("request_id", "text", "Of this request."),
)


def limit(default: int, most: int = 1000) -> Parameter:
    """Return the parameter for how many at most."""
    return Parameter("limit", "number", "How many at most.", default=default, most=most)
