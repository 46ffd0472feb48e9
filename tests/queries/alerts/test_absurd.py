"""Absurd events and absurd rules: an error of the rules that look at them, and of no other."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from eventlog.format import builtin
from eventlog.queries.alerts import evaluate
from eventlog.queries.alerts.check import Checked
from eventlog.queries.alerts.evaluate import AsOf
from eventlog.queries.alerts.machine import Reading
from eventlog.queries.alerts.rules import Rule
from eventlog.queries.cost import costs
from tests.conftest import lines_of
from tests.queries.alerts.support import add, checked, emit, rule


def call(cost: str = "1", **fields: object) -> builtin.LlmCall:
    return builtin.LlmCall(request_model="m", cost_usd=Decimal(cost), **fields)  # type: ignore[arg-type]  # fields of many types


def failing(done: Checked) -> dict[str, str]:
    """The rules that could not be measured, and why."""
    return {each.name: each.error for each in done.rules if each.error}


def test_what_is_no_duration_is_left_out(root: Path) -> None:
    """Of 5, -1, 1e30 and the greatest that counts; for calls of models and tools, and for runs."""
    took = (5.0, -1.0, 1e30, 1e12)
    emit(root, *((-5, call(latency_ms=each), {}) for each in took))
    emit(root, *((-5, builtin.ToolCall(tool_name="t", duration_ms=each), {}) for each in took))
    emit(root, *((-5, builtin.RunFinished(duration_ms=each), {"run_id": f"r{each}"}) for each in took))
    ofs = ("llm_calls", "tool_calls", "runs")
    add(root, *(rule(f"p50 {of}", "latency", "5", of=of, percentile=50.0) for of in ofs))
    add(root, *(rule(f"p99 {of}", "latency", "5", of=of, percentile=99.0) for of in ofs))
    done = checked(root)
    outcomes = {each.name: (each.state, each.value, each.samples) for each in done.rules}
    assert outcomes == {f"p50 {of}": ("ok", "5", 2) for of in ofs} | {
        f"p99 {of}": ("firing", "1000000000000", 2) for of in ofs
    }


def test_rules_with_absurd_numbers_fail_alone(root: Path) -> None:
    """As somebody may have emitted them: each with its reason, and the others fire."""
    emit(root, (-5, call(), {}))
    add(
        root,
        rule("tiny", "budget", "1e-30"),
        rule("nan", "budget", "1", at_percent=Decimal("NaN")),
        rule("long", "cost", "1e-999999"),
        rule("least", "budget", "0.000001"),
        rule("cost", "cost", "0.5"),
    )
    done = checked(root)
    assert failing(done) == {
        "tiny": "a budget of under $0.000000001 is too small; $0.000001 is the least",
        "nan": "a budget fires at 0 to 100 percent, not at NaN",
        "long": "threshold 1E-999999 has more than 30 decimals",
    }
    firing = {each.name: each.detail for each in done.rules if each.state == "firing"}
    assert firing == {"least": "100,000,000.0% of the budget", "cost": None}


def test_a_rule_that_cannot_be_measured_is_found_among_the_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 100, whatever it is that it raises: the others fire, after few statements; it is said once."""
    read = evaluate.MEASURES[("error_rate",)]
    asked = 0

    def fail(connection: duckdb.DuckDBPyConnection, of_kind: Sequence[Rule], as_of: AsOf) -> list[Reading]:
        nonlocal asked
        asked += 1
        if any(each.name == "wild" for each in of_kind):
            raise LookupError("wild")
        return read(connection, of_kind, as_of)

    monkeypatch.setitem(evaluate.MEASURES, ("error_rate",), fail)
    emit(root, (-5, call(error_type="E"), {}))
    wells = [rule(f"well {n}", "error_rate", "0.5") for n in range(99)]
    add(root, *wells[:40], rule("wild", "error_rate", "0.5"), *wells[40:])
    done = checked(root)
    assert failing(done) == {"wild": "what it looks at cannot be measured: LookupError: wild"}
    assert len(done.fired) == 99
    assert asked <= 2 * 7 + 1
    checked(root, 30)
    assert len(lines_of(root, "alert_rule_failed")) == 1


def test_prices_that_cannot_be_read_stop_no_other_kind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that they raise: rules on cost say so, and the error rate fires."""

    def overflow(_: object) -> None:
        raise OverflowError("date value out of range")

    monkeypatch.setattr(costs, "provide", overflow)
    emit(root, (-5, call(error_type="E"), {}))
    add(root, rule("cost", "cost", "0"), rule("errors", "error_rate", "0.5"))
    done = checked(root)
    assert failing(done) == {"cost": "what it looks at cannot be measured: OverflowError: date value out of range"}
    assert [each.name for each in done.fired] == ["errors"]
