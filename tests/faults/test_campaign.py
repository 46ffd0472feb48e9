"""The fault campaign on a small scale: each fault is tried, and eventlog holds."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait

import pytest

from faults import children
from faults.campaign import Fault, FaultFound, Plan, Skipped, discover, run

#: For most faults: a hundredth of the full campaign, which is seconds each.
_SCALE = 0.01
#: Where a hundredth would be too little to mean anything, or still take long.
_SCALES = {"kill-producers": 0.03, "kill-indexers": 0.03, "end-producers": 0.03, "hold-many-segments": 0.03}

SEED = random.SystemRandom().randrange(10**9)


@pytest.mark.parametrize("name", discover())
def test_eventlog_holds(name: str) -> None:
    """Other choices each time; the seed is in the message when it does not."""
    outcome = run(discover()[name], seed=SEED, scale=_SCALES.get(name, _SCALE))
    if outcome.verdict == "skipped":
        pytest.skip(outcome.figure)
    again = f"python -m faults --only {name} --seed {SEED} --scale {_SCALES.get(name, _SCALE)}"
    assert outcome.verdict == "held", f"{outcome.figure}\nrepeat with: {again}"


def _lose(plan: Plan) -> str:
    plan.check(plan.times(100) == 1, "nothing is lost")
    plan.check(False, "lost: 3 events")
    return "not reached"


def _skip(plan: Plan) -> str:
    raise Skipped("there is no second disk")


def _fail(plan: Plan) -> str:
    raise RuntimeError("the fault itself is wrong")


@pytest.mark.parametrize(
    ("try_", "verdict", "figure"),
    [
        (lambda plan: f"{plan.times(500)} kills", "held", "5 kills"),
        (_lose, "broken", "lost: 3 events"),
        (_skip, "skipped", "there is no second disk"),
        (_fail, "broken", "RuntimeError: the fault itself is wrong"),
    ],
)
def test_what_a_fault_does_becomes_its_verdict(try_, verdict: str, figure: str) -> None:  # type: ignore[no-untyped-def]  # lambdas and functions
    """A fault that fails for another reason than a broken promise has not held either."""
    outcome = run(Fault("name", "title", "how", try_), seed=1, scale=0.01)
    assert outcome.verdict == verdict
    assert figure in outcome.figure


def test_a_seed_repeats_the_choices() -> None:
    """Of one fault, and not those of another."""

    def choice(name: str, seed: int) -> str:
        return run(Fault(name, "", "", lambda plan: str(plan.rng.random())), seed=seed, scale=1).figure

    assert choice("a", 1) == choice("a", 1)
    assert len({choice("a", 1), choice("a", 2), choice("b", 1)}) == 3
    assert issubclass(FaultFound, AssertionError)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_exit_code_is_right_when_another_thread_starts_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start one is to look which have ended, and the code of each can be read once."""
    real = multiprocessing.forkserver.read_signed

    def slow(fd: int) -> object:
        time.sleep(0.2)
        return real(fd)

    process = children.start(_die)
    assert wait([process.sentinel], 30)
    monkeypatch.setattr("multiprocessing.forkserver.read_signed", slow)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(children.start, _die)
        assert pool.submit(children.ended, process, 30).result() == -signal.SIGKILL
        children.kill(other.result())
    assert process.exitcode == -signal.SIGKILL
