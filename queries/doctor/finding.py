"""The finding of a check: how serious it is, what it is, and how to fix it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path

import msgspec

_NAMED_MAX = 3


class Level(enum.Enum):
    """How serious a finding is. Only a problem makes the command fail."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a check, whose name in CHECKS is `check`; `doctor.run` sets it.

    `what` is the fact and `what_to_do` the advice: "1 line in quarantine", "eventlog sql … says why".
    """

    check: str = ""
    level: Level
    what: str
    what_to_do: str | None = None
    path: str | None = None


def ok(fact: str, path: Path | None = None) -> Finding:
    """Return the finding that all is well; `fact` says what was checked."""
    return _finding(Level.OK, fact, None, path)


def note(fact: str, advice: str, path: Path | None = None) -> Finding:
    """Return a finding that is worth knowing, and often intended."""
    return _finding(Level.NOTE, fact, advice, path)


def warning(fact: str, advice: str, path: Path | None = None) -> Finding:
    """Return a finding that does no harm yet, but needs attention."""
    return _finding(Level.WARNING, fact, advice, path)


def problem(fact: str, advice: str, path: Path | None = None) -> Finding:
    """Return a finding of the worst level: events cannot be recorded, indexed or read, or soon cannot."""
    return _finding(Level.PROBLEM, fact, advice, path)


def _finding(level: Level, fact: str, advice: str | None, path: Path | None) -> Finding:
    return Finding(
        level=level,
        what=unicode(fact),
        what_to_do=None if advice is None else unicode(advice),
        path=None if path is None else unicode(str(path)),
    )


def unicode(text: str) -> str:
    """Return a text as valid Unicode: a byte of a file name that is no UTF-8 becomes `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def several(things: Iterable[object]) -> str:
    """Return the first names of many: "a, b, c and 7 more"."""
    names = [str(thing) for thing in things]
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
