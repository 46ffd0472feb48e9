"""Reading one JSON object without loading `json`, which loads `re`: that takes longer than starting Python.

`json` itself uses the same scanner, written in C. Numbers, names and constants are read strictly: what another
parser might read otherwise is refused.
"""

from __future__ import annotations

from _json import make_scanner

_NUMBER_MAX_CHARS = 18


def _whole(digits: str) -> int:
    if len(digits) > _NUMBER_MAX_CHARS:
        raise ValueError("a number that not every parser reads the same")
    return int(digits)


def _fraction(digits: str) -> float:
    if len(digits) > _NUMBER_MAX_CHARS or "e" in digits or "E" in digits:
        raise ValueError("a number that not every parser reads the same")
    return float(digits)


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


class _Strict:
    """The settings of a strict scanner: the class itself is what the scanner takes them from."""

    strict = True
    object_hook = None
    object_pairs_hook = _members
    array_hook = None
    parse_int = _whole
    parse_float = _fraction
    parse_constant = _constant


class _Usual(_Strict):
    """Those of `json.loads`, except that NaN and infinities are refused."""

    object_pairs_hook = None  # type: ignore[assignment]  # the scanner makes dicts by itself
    parse_int = int
    parse_float = float


def parsed(text: str, *, strict: bool = False) -> dict[str, object] | None:
    """Return the members of a JSON object with nothing but white space around it; None where the text is none.

    With `strict`, None for repeated names, too, and for long numbers and exponents.
    """
    text = text.strip(" \t\r\n")
    settings: type[_Strict] = _Strict if strict else _Usual
    try:
        value, end = make_scanner(settings)(text, 0)  # type: ignore[arg-type]  # anything with these attributes will do
    except (ValueError, StopIteration, RecursionError, SystemError):  # the last: its own error is in json.decoder
        return None
    return value if isinstance(value, dict) and end == len(text) else None
