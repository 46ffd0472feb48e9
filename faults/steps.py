"""Dying at a named step: the calls of an indexer's work, counted from outside.

Calls are wrapped in the process that is to die; the product knows nothing of it. One run without dying lists the steps,
so a new step is found by itself.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import duckdb

from eventlog.indexer import carry_over, indexer, replay
from eventlog.indexer.index import checkpoint, index_file
from eventlog.indexer.index.engine import Engine
from eventlog.indexer.load import loader, versions
from eventlog.indexer.views import projections, typed

_TRACED: tuple[tuple[Any, str], ...] = (
    (loader, "stage"),
    (loader, "store"),
    (loader, "merge_batch"),
    (loader, "insert_rejected"),
    (checkpoint, "write"),
    (projections, "create"),
    (typed, "prepare"),
    (typed, "insert"),
    (typed, "create_views"),
    (Engine, "attach"),
    (Engine, "detach"),
    (indexer, "index_batch"),
    (indexer, "remove_if_finished"),
    (indexer.Indexer, "_release_segments"),
    (indexer.Indexer, "_alarm"),
    (replay, "_build"),
    (indexer.Indexer, "_retire"),
    (versions, "_drop_what_comes_again"),
    (replay, "_finish"),
    (replay, "_carry"),
    (carry_over, "_carry_gone"),
    (carry_over, "_carry_replaced"),
    (replay, "_swap"),
    (index_file, "move_aside"),
    (os, "replace"),
    (os, "unlink"),
    (os, "fsync"),
)
_CHANGES_NOTHING = tuple(
    f"execute {each}" for each in ("SELECT", "CREATE TEMP", "CREATE OR REPLACE TEMP", "SET", "USE", "PRAGMA")
)
_CONNECTION_STEPS = frozenset({"begin", "commit", "rollback", "execute", "close"})


class Death(NamedTuple):
    """Where to die: at the call of this name and number, before it begins or after it is done."""

    name: str
    number: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.name} ({self.number})"


class Steps:
    """Counts the steps by name, and kills the process at one of them."""

    def __init__(self, death: Death | None) -> None:
        self.counts = Counter[str]()
        self._death = death

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Make steps of all traced calls, for the length of the block."""
        with ExitStack() as stack:
            real = duckdb.connect
            connect = mock.patch.object(
                duckdb, "connect", lambda *args, **named: _Connection(real(*args, **named), self)
            )
            stack.enter_context(connect)
            for owner, name in _TRACED:
                step = self.step(f"{owner.__name__.split('.')[-1]}.{name}", getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, step))
            yield

    def step(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function a step."""

        def counted(*arguments: Any, **named: Any) -> Any:
            shown = f"{name} {_words(arguments[0])}" if name == "execute" else name
            if shown.startswith(_CHANGES_NOTHING):
                return call(*arguments, **named)
            number = self.counts[shown]
            self.counts[shown] += 1
            self._die_at(Death(shown, number, after=False))
            result = call(*arguments, **named)
            self._die_at(Death(shown, number, after=True))
            return result

        return counted

    def _die_at(self, moment: Death) -> None:
        if moment == self._death:
            os.kill(os.getpid(), signal.SIGKILL)


class _Connection:
    """A connection whose statements are steps."""

    def __init__(self, real: duckdb.DuckDBPyConnection, steps: Steps) -> None:
        self._real = real
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name == "cursor":
            return lambda: _Connection(found(), self._steps)
        return self._steps.step(name, found) if name in _CONNECTION_STEPS else found


def _words(statement: object) -> str:
    """Return the beginning of a statement, enough to identify it, without values such as paths.

    The views of a new index are created one after the other in one transaction: they are one step, many times.
    """
    words = re.sub("'[^']*'", "…", str(statement)).split()
    return " ".join(words[: 2 if words[:2] == ["CREATE", "VIEW"] else 6])[:60]
