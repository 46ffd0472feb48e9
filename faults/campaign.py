"""Faults and plans, and the list of all faults."""

from __future__ import annotations

import importlib
import pkgutil
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import faults
from faults import pace
from faults.outcomes import Outcome, Verdict

_ROOM_BYTES = 2 * 1024**3


class FaultFound(AssertionError):
    """A promise was broken; the message says which, with the values."""


class Skipped(Exception):
    """The fault cannot be tried on this machine; the message says why."""


class Plan:
    """What one fault gets: its random numbers, its scale, and a folder of its own.

    `scale` is 1.0 in the full campaign and small in `make test`: multiply counts by it with `times`. All random choices
    come from `rng`, so a seed repeats them (but not the scheduling of processes). `deep` asks for many times more, for
    hours.
    """

    def __init__(self, seed: int, name: str, scale: float, folder: Path, *, deep: bool = False) -> None:
        self.rng = random.Random(f"{seed}/{name}")
        self.scale = scale
        self.folder = folder
        self.deep = deep
        self._roots = 0

    @property
    def root(self) -> Path:
        """A new root for a log, each time it is read."""
        self._roots += 1
        return self.folder / f"root{self._roots}"

    def times(self, count: int) -> int:
        """Scale a count of the full campaign; never less than one."""
        return max(1, round(count * self.scale))

    @staticmethod
    def check(condition: object, message: str) -> None:
        """Raise FaultFound unless the condition holds."""
        if not condition:
            raise FaultFound(message)


Try = Callable[[Plan], str]


class Fault(NamedTuple):
    """A fault: `name` for the command line, `title` and `how` for the table."""

    name: str
    title: str
    how: str
    try_: Try


FAULTS: dict[str, Fault] = {}


def fault(title: str, how: str) -> Callable[[Try], Try]:
    """Register a function as a fault; it returns the figure that goes into the table."""

    def register(function: Try) -> Try:
        name = function.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, title, how, function)
        return function

    return register


def discover() -> dict[str, Fault]:
    """Import all modules of faults; return the registered faults, by name."""
    for module in pkgutil.iter_modules(faults.__path__):
        if module.name.startswith("fault_"):
            importlib.import_module(f"faults.{module.name}")
    return FAULTS


def run(chosen: Fault, *, seed: int, scale: float, deep: bool = False) -> Outcome:
    """Try one fault; whatever it raises becomes its outcome."""
    pace.note_slowness()
    started = time.monotonic()
    with _folder(chosen.name) as folder:
        try:
            verdict, figure = Verdict.HELD, chosen.try_(Plan(seed, chosen.name, scale, folder, deep=deep))
        except Skipped as reason:
            verdict, figure = Verdict.SKIPPED, str(reason)
        except FaultFound as found:
            verdict, figure = Verdict.BROKEN, str(found)
        except Exception:  # noqa: BLE001 - a campaign goes on behind a fault that fails in an unforeseen way
            verdict, figure = Verdict.BROKEN, traceback.format_exc()
    return Outcome(
        name=chosen.name,
        title=chosen.title,
        how=chosen.how,
        verdict=verdict,
        figure=figure,
        elapsed_s=round(time.monotonic() - started, 1),
    )


def not_tried(chosen: Fault) -> Outcome:
    """Return the outcome of a fault that is not tried yet, or for which there was no time."""
    return Outcome(
        name=chosen.name,
        title=chosen.title,
        how=chosen.how,
        verdict=Verdict.NOT_TRIED,
        figure="go on with `python -m faults --resume`",
        elapsed_s=0,
    )


@contextmanager
def memory() -> Iterator[Path]:
    """Yield a folder on a file system in memory, if there is one.

    For faults that do not depend on the disk: what the kernel has accepted survives a SIGKILL there as well, and a
    hundred thousand files, or a thousand syncs, take only as long as eventlog takes.
    """
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > _ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="eventlog-", dir=shared if roomy else None) as folder:
        yield Path(folder)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"eventlog-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
