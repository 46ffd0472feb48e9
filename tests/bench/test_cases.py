"""The cases: what is promised is measured, and none disappears. Nothing here looks at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.case import MODULES, Bench, Case, Claim, Measurement, Outcome, Skipped, discover, run
from bench.data import Data, InUse
from bench.measure import PROJECT

PROMISED = {
    "emit": 7, "emit-many": 1, "emit-synced": 1, "start": 3, "statusline": 1, "hooks": 1, "replay-1m": 2,
    "replay-5m": 2, "replay-real": 3, "first-answer": 2, "cost-daily": 2, "catch-up": 1, "freshness": 2,
    "growth": 1, "aggregates": 6, "sizes": 2, "sql-in-the-shell": 1, "idle": 2, "post": 2, "reads": 1,
    "stream": 4, "search-1m": 4, "search-5m": 4,
}  # fmt: skip
#: Cases that need neither peers nor long: a smoke test that they run.
QUICK = ("emit-many", "replay-1m", "aggregates", "search-1m", "growth")


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "data", seed=1)


def test_every_module_of_cases_has_its_place() -> None:
    """In the order of the table."""
    found = {path.stem for path in (PROJECT / "bench").glob("case_*.py")}
    assert found == set(MODULES)


def test_every_promise_is_a_case_with_a_target() -> None:
    """And every case says how it measures."""
    known = discover()
    assert {name: len(each.claims) for name, each in known.items()} == PROMISED
    for each in known.values():
        assert len(each.how) > 20
        assert len({claim.name for claim in each.claims}) == len(each.claims)
        for claim in each.claims:
            assert claim.what
            assert claim.limit >= 0


@pytest.mark.parametrize("name", QUICK)
def test_cases_run_at_a_tiny_size(name: str, data: Data) -> None:
    """Each claim ends with a figure."""
    outcomes = list(run(discover()[name], scale=0.0001, rounds=1, data=data))
    assert len(outcomes) == PROMISED[name]
    for outcome in outcomes:
        assert outcome.verdict in ("met", "missed"), outcome.reason
        assert outcome.value is not None
    assert not list(data.work.iterdir())


CLAIMS = tuple(Claim(name=name, what=name, against="", limit=1) for name in ("first", "second"))


def outcomes_of(measure: object, data: Data) -> dict[str, tuple[str, str]]:
    made = Case("made-up", "as a test", CLAIMS, measure)  # type: ignore[arg-type]  # a lambda or a function
    found: list[Outcome] = list(run(made, scale=1, rounds=1, data=data))
    return {outcome.claim.name: (outcome.verdict, outcome.reason) for outcome in found}


def _skip(bench: Bench) -> Iterator[Measurement]:
    yield Measurement("first", 0.5)
    raise Skipped("npm is not installed")


def _fail(bench: Bench) -> Iterator[Measurement]:
    yield Measurement("first", 1.5)
    raise RuntimeError("cannot read /home/somebody/secret/file.txt")


def _leave_out(bench: Bench) -> Iterator[Measurement]:
    yield Measurement("first", skipped="loguru is not installed")


def test_claims_are_skipped_with_a_reason(data: Data) -> None:
    """What a case did not get to, as well as what it passes over."""
    assert outcomes_of(_skip, data) == {"first": ("met", ""), "second": ("skipped", "npm is not installed")}
    assert outcomes_of(_leave_out, data) == {
        "first": ("skipped", "loguru is not installed"),
        "second": ("failed", "the case ended without a word about it"),
    }


def test_a_case_that_fails_says_so_without_paths(data: Data) -> None:
    """The others are measured all the same."""
    assert outcomes_of(_fail, data) == {
        "first": ("missed", ""),
        "second": ("failed", "RuntimeError: cannot read …/file.txt"),
    }


def test_two_benchmarks_do_not_run_at_once(data: Data, tmp_path: Path) -> None:
    """They would measure each other."""
    with pytest.raises(InUse, match="another benchmark is running"):
        Data(tmp_path / "data", seed=1)


def test_generated_data_are_kept_and_linked(data: Data, tmp_path: Path) -> None:
    """Links for those who read, copies for those who change."""
    one = data.root(tmp_path / "one", 300)
    two = data.root(tmp_path / "two", 300, copies=True)
    paths = sorted(path.relative_to(one) for path in one.rglob("*.jsonl"))
    assert paths == sorted(path.relative_to(two) for path in two.rglob("*.jsonl"))
    for path in paths:
        assert (one / path).read_bytes() == (two / path).read_bytes()
        assert ((one / path).stat().st_nlink, (two / path).stat().st_nlink) == (2, 1)
    data.add(one, 300, after=300)
    assert len(list(one.rglob("*.jsonl"))) == 2 * len(paths)
