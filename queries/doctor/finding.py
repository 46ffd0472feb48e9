"""What a check says: how bad it is, what it is, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path

import msgspec

_NAMED_MAX = 3


class Level(enum.Enum):
    """How much a finding matters. Only a problem fails the command."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found. `check` is its name in the table, filled in by whoever runs it."""

    check: str = ""
    level: Level
    what: str
    what_to_do: str | None = None
    path: str | None = None


def ok(what: str, path: Path | None = None) -> Finding:
    """All is well; says what was looked at."""
    return _finding(Level.OK, what, None, path)


def note(what: str, what_to_do: str, path: Path | None = None) -> Finding:
    """Worth knowing, and right as it is in many places."""
    return _finding(Level.NOTE, what, what_to_do, path)


def warning(what: str, what_to_do: str, path: Path | None = None) -> Finding:
    """Works today; somebody should look at it."""
    return _finding(Level.WARNING, what, what_to_do, path)


def problem(what: str, what_to_do: str, path: Path | None = None) -> Finding:
    """Events are, or are about to be, not recorded, not indexed or not readable."""
    return _finding(Level.PROBLEM, what, what_to_do, path)


def _finding(level: Level, what: str, what_to_do: str | None, path: Path | None) -> Finding:
    return Finding(
        level=level,
        what=unicode(what),
        what_to_do=None if what_to_do is None else unicode(what_to_do),
        path=None if path is None else unicode(str(path)),
    )


def unicode(text: str) -> str:
    """File names may be any bytes; what is shown is Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def several(things: Iterable[object]) -> str:
    """Name the first of many: `a, b, c and 7 more`."""
    names = [str(each) for each in things]
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
