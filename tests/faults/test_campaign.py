"""The fault campaign on a small scale: each fault is tried, and eventlog holds."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from faults import children, pace
from faults.__main__ import main
from faults.campaign import Fault, FaultFound, Plan, Skipped, Try, discover, run
from faults.outcomes import Outcome, Outcomes, Verdict, in_order, load

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


# -- a campaign that runs out of time --------------------------------------------------------


def _hold(plan: Plan) -> str:
    return f"{plan.rng.random()}"


def _campaign(monkeypatch: pytest.MonkeyPatch, faults: dict[str, Try], *options: str) -> Result:
    known = {name: Fault(name, name, "how", try_) for name, try_ in faults.items()}
    monkeypatch.setattr("faults.__main__.discover", lambda: known)
    return CliRunner().invoke(main, options)


@pytest.mark.parametrize(
    ("faults", "minutes", "code"),
    [
        ({"a": _hold}, "1", 0),
        ({"a": _hold, "b": _skip}, "1", 0),
        ({"a": _hold, "b": _lose}, "1", 1),
        ({"a": _hold, "b": _lose}, "0", 3),
    ],
)
def test_the_exit_code_says_what_became_of_a_campaign(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faults: dict[str, Try], minutes: str, code: int
) -> None:
    """Not to have tried a fault is neither that it held nor that it broke."""
    done = _campaign(monkeypatch, faults, "--minutes", minutes, "--results", str(tmp_path / "results"))
    assert done.exit_code == code, done.output


def test_a_campaign_goes_on_with_what_it_had_no_time_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the same seed, so that the outcomes are those of one campaign."""
    path = tmp_path / "results"
    faults: dict[str, Try] = {"a": _hold, "b": _hold}
    options = ("--seed", "7", "--results", str(path))
    whole = _campaign(monkeypatch, faults, *options)
    expected = load(path)
    assert whole.exit_code == 0
    assert expected is not None

    cut_short = _campaign(monkeypatch, {**faults, "c": _lose}, *options, "--minutes", "0")
    assert cut_short.exit_code == 3
    assert "not tried for lack of time: a, b, c; go on with `python -m faults --resume`" in cut_short.output

    resumed = _campaign(monkeypatch, faults, "--resume", "--results", str(path))
    assert resumed.exit_code == 0, resumed.output
    found = load(path)
    assert found is not None
    assert {name: each.figure for name, each in found.outcomes.items()} == {
        name: each.figure for name, each in expected.outcomes.items()
    }


def test_outcomes_are_kept_after_each_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A campaign that is interrupted can go on behind what it had tried."""
    path = tmp_path / "results"

    def interrupted(plan: Plan) -> str:
        raise KeyboardInterrupt

    _campaign(monkeypatch, {"a": _hold, "b": interrupted}, "--results", str(path))
    kept = load(path)
    assert kept is not None
    assert kept.named(Verdict.HELD) == ["a"]
    assert kept.named(Verdict.NOT_TRIED) == ["b"]


def test_there_must_be_a_campaign_to_go_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that holds something else is none."""
    (tmp_path / "results").write_text("{}")
    done = _campaign(monkeypatch, {"a": _hold}, "--resume", "--results", str(tmp_path / "results"))
    assert done.exit_code == 2
    assert "has no campaign to go on with" in done.output


def test_the_new_and_the_long_come_first() -> None:
    """What runs out of time is then short, and has held before."""

    def outcome(name: str, verdict: Verdict, elapsed_s: float) -> Outcome:
        return Outcome(name=name, title="", how="", verdict=verdict, figure="", elapsed_s=elapsed_s)

    before = [
        outcome("short", Verdict.HELD, 1),
        outcome("long", Verdict.HELD, 100),
        outcome("broken", Verdict.BROKEN, 2),
        outcome("not tried", Verdict.NOT_TRIED, 0),
    ]
    earlier = Outcomes(seed=1, outcomes={each.name: each for each in before})
    found = in_order(["short", "new", "long", "broken", "not tried"], earlier)
    assert found == ["new", "not tried", "broken", "long", "short"]


def test_a_wait_is_bounded_on_a_quiet_machine_and_longer_on_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is in seconds of a quiet machine."""
    monkeypatch.setattr("faults.pace._at_start", 1.0)
    monkeypatch.setattr("faults.pace.slowness", lambda: 3.0)
    assert not pace.took_too_long(2.9, 1)
    assert pace.took_too_long(3.1, 1)


def test_slowness_is_measured() -> None:
    """It is never less than one, and has a limit, so that no wait is for ever."""
    assert 1 <= pace.slowness() <= 20


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
