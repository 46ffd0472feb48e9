"""What rules of each kind look at: values, windows and scopes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import changes, evaluate, rules
from eventlog.queries.alerts.machine import Reading, Standing
from eventlog.queries.metrics import aggregates
from eventlog.queries.text import units
from eventlog.record.recorder import Recorder
from tests.indexer.support import index
from tests.queries.alerts.support import NOW, add, at, checked, emit, rule, states

US = 1e-6


def call(cost: str | None = None, model: str = "m-1", **fields: object) -> builtin.LlmCall:
    return builtin.LlmCall(request_model=model, cost_usd=None if cost is None else Decimal(cost), **fields)  # type: ignore[arg-type]  # fields of many types


def read(root: Path, *definitions: AlertRuleSet, workspace: str | None = None, seconds: float = 0) -> list[Reading]:
    """The readings of rules, in their order."""
    add(root, *definitions, workspace=workspace)
    with IndexReader(root).trusted() as connection:
        by_name = {each.name: each for each in rules.read(connection, at(seconds)) if each.workspace == workspace}
    return evaluate.measure(root, [by_name[each.name] for each in definitions], at(seconds), limit_s=30)


def test_cost_is_the_sum_over_a_window_that_is_open_at_its_beginning(root: Path) -> None:
    """After now - window, up to now: a call at its very beginning is out, one at its end is in, a later one out."""
    emit(
        root,
        (-600, call("100"), {}),
        (-600 + US, call("0.1"), {}),
        (-5, call("0.2"), {}),
        (0, call("0.000000000003"), {}),
        (US, call("100"), {}),
    )
    (reading,) = read(root, rule("r", "cost", "0.3", window_s=600))
    assert reading == Reading(holds=True, value=Decimal("0.300000000003"), samples=3)
    (reading,) = read(root, rule("r", "cost", "0.300000000003", window_s=600))
    assert reading.holds is False, "over the threshold, not at it"


def test_a_call_without_a_price_is_said_and_not_counted_as_nothing(root: Path) -> None:
    """Of two, one; of one, none."""
    emit(root, (-5, call("0.2", model="a"), {}), (-4, call(model="a"), {}), (-3, call(model="b"), {}))
    both, unpriced, none = read(
        root, rule("a", "cost", "0.1", model="a"), rule("b", "cost", "0", model="b"), rule("c", "cost", "0", model="c")
    )
    assert both == Reading(holds=True, value=Decimal("0.2"), samples=1, detail="1 call has no price and is not counted")
    assert (unpriced.holds, unpriced.value) == (False, None)
    assert (none.holds, none.value) == (False, Decimal(0))


def test_a_budget_fires_at_a_part_of_it(root: Path) -> None:
    """At 80% of $10, exactly."""
    emit(root, (-5, call("8"), {}))
    readings = read(
        root,
        rule("at", "budget", "10", at_percent=Decimal(80)),
        rule("before", "budget", "10", at_percent=Decimal("80.01")),
        rule("whole", "budget", "8"),
    )
    assert [each.holds for each in readings] == [True, False, True]
    assert readings[0].detail == "80.0% of the budget"


def test_an_error_rate_is_of_model_calls_tool_calls_or_runs(root: Path) -> None:
    """Runs that nothing came from any more have failed; those cancelled or under way count neither way."""
    emit(
        root,
        *((-50 + n, call(error_type="E" if n == 0 else None), {}) for n in range(4)),
        *((-50 + n, builtin.ToolCall(tool_name="t", ok=n > 1), {}) for n in range(4)),
        (-3000, builtin.RunStarted(name="r"), {"run_id": "gone"}),
        (-100, builtin.RunStarted(name="r"), {"run_id": "going"}),
        (-50, builtin.RunFinished(status="error"), {"run_id": "bad"}),
        (-50, builtin.RunFinished(status="cancelled"), {"run_id": "stopped"}),
        (-50, builtin.RunFinished(status="ok"), {"run_id": "good"}),
    )
    readings = read(
        root,
        rule("llm", "error_rate", "0.25"),
        rule("tool", "error_rate", "0.49", of="tool_calls"),
        rule("run", "error_rate", "0.49", of="runs"),
        rule("few", "error_rate", "0.1", of="tool_calls", min_samples=5),
    )
    assert [(each.holds, each.value, each.samples) for each in readings] == [
        (False, Decimal("0.25"), 4),
        (True, Decimal("0.5"), 4),
        (True, Decimal("0.666667"), 3),
        (False, Decimal("0.5"), 4),
    ]
    assert readings[1].detail == "2 of 4 failed"


def test_a_run_that_ended_in_a_word_of_its_own_has_failed(root: Path) -> None:
    """As in metrics: one ok, two that are not; nothing is said of one that was cancelled."""
    emit(
        root,
        *(
            (-50, builtin.RunFinished(status=status), {"run_id": f"r{n}"})
            for n, status in enumerate(("ok", "timeout", "Failed", "cancelled"))
        ),
    )
    (reading,) = read(root, rule("run", "error_rate", "0.6", of="runs"))
    assert reading == Reading(holds=True, value=Decimal("0.666667"), samples=3, detail="2 of 3 failed")
    with IndexReader(root).trusted() as connection:
        (day,) = aggregates.metrics(connection, now=NOW)
    assert (day.runs_ok, day.runs_error, day.runs_cancelled) == (1, 2, 1)


def test_latency_is_a_percentile(root: Path) -> None:
    """Of 1 to 100 ms; each rule its own: a latency that there was, as metrics say it."""
    emit(root, *((-50, call(latency_ms=float(n)), {}) for n in range(1, 101)), (-50, call(), {}))
    p50, p95, p999, few, none = read(
        root,
        rule("50", "latency", "50", percentile=50.0),
        rule("95", "latency", "94.99"),
        rule("99.9", "latency", "99.9", percentile=99.9),
        rule("few", "latency", "1", min_samples=101),
        rule("none", "latency", "0", of="runs"),
    )
    assert (p50.holds, p50.value, p50.samples) == (False, Decimal("50.000"), 100)
    assert (p95.holds, p95.value) == (True, Decimal("95.000"))
    assert (p999.holds, p999.value) == (True, Decimal("100.000"))
    assert (few.holds, few.samples) == (False, 100)
    assert none == Reading(holds=False, value=None, samples=0)
    with IndexReader(root).trusted() as connection:
        (day,) = aggregates.metrics(connection, now=NOW)
    assert day.latency_ms == aggregates.Percentiles(100, 50.0, 95.0, 99.0)


def test_a_heartbeat_is_missed_after_the_window(root: Path) -> None:
    """Counted from the last one, or from when the rule was set where none ever came."""
    emit(
        root,
        (-600, builtin.Heartbeat(), {"agent": "late"}),
        (-600 + US, builtin.Heartbeat(), {"agent": "well"}),
        (5, builtin.Heartbeat(), {"agent": "late"}),
    )
    definitions = [rule(name, "heartbeat", window_s=600, agent=name) for name in ("late", "well", "never")]
    late, well, never = read(root, *definitions)
    assert (late.holds, late.value) == (True, Decimal(600))
    assert (well.holds, well.value) == (False, Decimal("599.999999"))
    assert (never.holds, never.value, never.samples) == (True, Decimal(7200), 0)
    assert [each.holds for each in read(root, *definitions, seconds=-6601)] == [False, False, False]
    assert read(root, rule("any", "heartbeat", window_s=600))[0].holds is False


def test_scopes(root: Path) -> None:
    """A rule sees its workspace, its agent and the models whose names begin so; one that names none sees all."""
    emit(
        root,
        (-1, call("1", model="opus-4-1"), {"workspace": "w", "agent": "a"}),
        (-1, call("2", model="opus-4-5"), {"workspace": "w", "agent": "b"}),
        (-1, call("4", model="haiku-4"), {"workspace": "v", "agent": "a"}),
        (-1, call("8", model="haiku-4"), {"agent": "a"}),
        (-1, call("16", model="haiku-4"), {}),
    )
    definitions = [
        rule("all", "cost", "0"),
        rule("a", "cost", "0", agent="a"),
        rule("opus", "cost", "0", model="opus-4"),
        rule("opus-4-1", "cost", "0", model="opus-4-1"),
        rule("a haiku", "cost", "0", agent="a", model="haiku"),
        rule("nobody", "cost", "0", agent="x"),
    ]
    assert [each.value for each in read(root, *definitions)] == [31, 13, 3, 1, 12, 0]
    assert [each.value for each in read(root, *definitions, workspace="w")] == [3, 1, 3, 1, 0, 0]
    assert [each.value for each in read(root, *definitions, workspace="v")] == [4, 4, 0, 0, 4, 0]


def test_five_hundred_rules_are_four_statements_and_little_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each kind (cost and budget share one), over 20,000 calls; each rule has its own value."""
    statements: list[tuple[str, ...]] = []

    def counted(kinds: tuple[str, ...]) -> Callable[..., list[Reading]]:
        measure_kind = evaluate.MEASURES[kinds]

        def measure(*arguments: Any) -> list[Reading]:
            statements.append(kinds)
            return measure_kind(*arguments)

        return measure

    for kinds in evaluate.MEASURES:
        monkeypatch.setitem(evaluate.MEASURES, kinds, counted(kinds))
    recorder = Recorder(Config(root=str(root), strict=True))
    for agent in range(100):
        made = [call("0.01", latency_ms=float(agent), error_type="E" if n < agent else None) for n in range(200)]
        recorder.emit_many(made, agent=f"a{agent}", timestamp=at(-60))
    recorder.shutdown()
    index(root)
    definitions = []
    for n in range(100):
        for kind, threshold in (
            ("cost", "1"), ("budget", "2"), ("error_rate", "0.1"), ("latency", "50"), ("heartbeat", None),
        ):  # fmt: skip
            window_s = 60.0 * (1 + n % 7) + 1
            definitions.append(rule(f"{kind} {n}", kind, threshold, agent=f"a{n}", window_s=window_s))
    to_measure = [
        rules.Rule(
            workspace=None, name=each.name, rule_id="r", set_at=at(-7200), changed_at=at(-7200), firings=0,
            definition=each, standing=Standing(rule_id="r"),
        )
        for each in definitions
    ]  # fmt: skip
    begun = time.monotonic()
    measured = evaluate.measure(root, to_measure, NOW, limit_s=60)
    assert time.monotonic() - begun < 10
    assert statements == list(evaluate.MEASURES)
    readings = dict(zip((each.name for each in definitions), measured, strict=True))
    for n in range(100):
        assert readings[f"cost {n}"].value == Decimal("2.00")
        assert readings[f"budget {n}"].holds
        assert readings[f"error_rate {n}"].value == Decimal(n) / 200
        assert readings[f"error_rate {n}"].holds == (n > 20)
        assert readings[f"latency {n}"].holds == (n > 50)
        assert readings[f"heartbeat {n}"].holds


def test_a_kind_that_takes_too_long_is_an_error_of_its_rules(root: Path) -> None:
    """With no time at all: each rule says so, and nothing is raised."""
    emit(root, (-1, call("1"), {}))
    add(root, rule("c", "cost", "0"), rule("h", "heartbeat"))
    with IndexReader(root).trusted() as connection:
        made = rules.read(connection, NOW)
    readings = evaluate.measure(root, made, NOW, limit_s=0)
    assert [each.error for each in readings] == [evaluate.USED_UP] * 2


def test_sql_fires_when_it_has_rows(root: Path) -> None:
    """Its first row is told; without rows it is well."""
    emit(root, (-1, call("1"), {"agent": "a"}), (-1, call("2"), {"agent": "b"}))
    query = "SELECT agent, reported_cost_usd AS usd FROM llm_calls WHERE reported_cost_usd > {} ORDER BY agent"
    add(root, rule("some", "sql", sql=query.format(0)), rule("none", "sql", sql=query.format(9)))
    done = checked(root)
    assert states(done) == {"some": "firing", "none": "ok"}
    none, some = done.rules
    assert (some.value, some.detail) == ("2", 'agent = a, usd = "1.000000000000000000"')
    assert none.value == "0"


HOSTILE = {
    "not sql": "SELEC 1",
    "writes": "DELETE FROM event_rows",
    "reads a file": "SELECT * FROM read_text('/etc/passwd')",
    "two": "SELECT 1; SELECT 2",
    "long": "SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b",
    "huge": "SELECT list_sum(range(2000000000))",
}


def test_sql_that_misbehaves_is_an_error_of_its_rule_alone(root: Path) -> None:
    """Refused, stopped after its limit, or out of memory: the others are evaluated, and each error is logged once."""
    emit(root, (-1, call("1"), {}))
    add(root, *(rule(name, "sql", sql=query, timeout_s=1.0) for name, query in HOSTILE.items()))
    add(root, rule("well", "sql", sql="SELECT 1"), rule("cost", "cost", "0"))
    begun = time.monotonic()
    done = checked(root)
    assert time.monotonic() - begun < 60
    assert states(done) == dict.fromkeys(sorted(HOSTILE), "failing") | {"well": "firing", "cost": "firing"}
    errors = {each.name: each.error or "" for each in done.rules}
    assert "refused" in errors["writes"]
    assert errors["long"] == "the query was stopped after 1 s; narrow it, or allow more time"
    assert not done.is_quiet
    checked(root, 60)
    from eventlog.queries.store import ReadStore

    store = ReadStore(root)
    count = "SELECT count(*), count(DISTINCT payload ->> 'name') FROM events WHERE event_type = 'alert_rule_failed'"
    assert store.sql(count).rows == [(6, 6)]
    add(root, rule("not sql", "sql", sql="SELECT 1 WHERE false"), seconds=90)
    assert states(checked(root, 120))["not sql"] == "ok"
    problems = {each.name: each.problem for each in store.alert_rules()}
    assert problems["not sql"] is None
    assert problems["writes"] == errors["writes"]


def test_sql_that_is_stuck_is_killed_with_its_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that no interruption reaches is ended; the next rule has another."""
    from eventlog.queries.alerts import sql_rules

    monkeypatch.setattr(sql_rules, "_GRACE_S", 0.0)
    monkeypatch.setattr(sql_rules, "_WAIT_S", 0.2)
    monkeypatch.setattr(sql_rules, "_START_S", 3.0)
    emit(root, (-1, call("1"), {}))
    index(root)
    definitions = [
        rule(name, "sql", sql=query, timeout_s=0.2)
        for name, query in (
            ("stuck", "SELECT damerau_levenshtein(repeat('x', 300000), repeat('y', 300000))"),
            ("well", "SELECT 1"),
        )
    ]
    made = [
        rules.Rule(
            workspace=None, name=each.name, rule_id="r", set_at=NOW, changed_at=NOW, firings=0, definition=each,
            standing=Standing(rule_id="r"),
        )
        for each in definitions
    ]  # fmt: skip
    stuck, well = sql_rules.measure(root, made, limit_s=60, wait_s=0.2)
    assert stuck.error == "the query was stopped after 0.2 s, with the process that ran it"
    assert well == Reading(holds=True, value=Decimal(1), samples=1, detail="1 = 1")


def test_a_check_that_has_no_time_says_so_and_writes_nothing(root: Path) -> None:
    """It was not the rule's fault: nothing of it is in the log, and the next check has time."""
    emit(root, (-1, call("1"), {}))
    add(root, rule("well", "sql", sql="SELECT 1"))
    stop = threading.Event()
    stop.set()
    done = checked(root, stop=stop)
    assert [(each.state, each.error) for each in done.rules] == [("failing", evaluate.USED_UP)]
    assert not (root / "log/alert_rule_failed").exists()
    assert states(checked(root, 1)) == {"well": "firing"}


def test_what_is_not_reached_in_time_says_so(root: Path) -> None:
    """Two rules of two seconds each, with three for both."""
    from eventlog.queries.alerts import sql_rules

    emit(root, (-1, call("1"), {}))
    index(root)
    made = [
        rules.Rule(
            workspace=None, name=str(n), rule_id="r", set_at=NOW, changed_at=NOW, firings=0,
            definition=rule(str(n), "sql", sql=HOSTILE["long"], timeout_s=30.0),
            standing=Standing(rule_id="r"),
        )
        for n in range(2)
    ]  # fmt: skip
    begun = time.monotonic()
    readings = sql_rules.measure(root, made, limit_s=2)
    assert time.monotonic() - begun < 6
    assert [each.holds for each in readings] == [None, None]
    assert readings[1].error == evaluate.USED_UP


REFUSED: dict[str, tuple[AlertRuleSet, str]] = {
    "no name": (rule("", "cost", "1"), "is not a name for a rule"),
    "a name with a newline": (rule("a\nb", "cost", "1"), "is not a name for a rule"),
    "an unknown kind": (rule("r", "costs", "1"), "is not a kind of rule; use one of cost, budget"),
    "no threshold": (rule("r", "latency"), "a rule of kind latency needs a threshold"),
    "a threshold too much": (rule("r", "heartbeat", "1"), "a rule of kind heartbeat has no threshold"),
    "a negative threshold": (rule("r", "cost", "-1"), "threshold -1 is out of range"),
    "a share above one": (rule("r", "error_rate", "5"), "can never be exceeded"),
    "a budget of nothing": (rule("r", "budget", "0"), "a budget of 0 is always spent"),
    "a budget of next to nothing": (
        rule("r", "budget", "1e-30"),
        r"too small; \$0\.000001 is the least",
    ),
    "a threshold of many decimals": (rule("r", "cost", "1e-31"), "threshold 1E-31 has more than 30 decimals"),
    "no percent": (rule("r", "budget", "1", at_percent=Decimal("NaN")), "a budget fires at 0 to 100 percent"),
    "no window": (rule("r", "cost", "1", window_s=0.0), "a window is 1 s to 366 days"),
    "an endless cooldown": (rule("r", "cost", "1", cooldown_s=float("inf")), "a cooldown is 0 s to 366 days"),
    "an unknown severity": (rule("r", "cost", "1", severity="bad"), "is not a severity"),
    "a model of tools": (rule("r", "latency", "1", of="tool_calls", model="m"), "only model calls have a model"),
    "an unknown measure": (rule("r", "latency", "1", of="steps"), "cannot be measured"),
    "a percentile of 100": (rule("r", "latency", "1", percentile=100.0), "a percentile is between 0 and 100"),
    "no sql": (rule("r", "sql"), "a rule of kind sql needs a SELECT"),
    "too long a query": (rule("r", "sql", sql="SELECT 1", timeout_s=61.0), "a query may take at most 60 s"),
    "no channel": (rule("r", "cost", "1", channels=["slack"]), "is not a channel"),
}


@pytest.mark.parametrize(("definition", "message"), REFUSED.values(), ids=REFUSED)
def test_rules_that_make_no_sense_are_refused(root: Path, definition: AlertRuleSet, message: str) -> None:
    """By name of what is wrong; nothing is logged."""
    with pytest.raises(QueryFailed, match=message):
        changes.add(root, definition)
    assert not (root / "log/alert_rule_set").exists()


def test_a_rule_in_words() -> None:
    """As the list and the message show it."""
    assert [
        rules.condition(each)
        for each in (
            rule("r", "cost", "5", window_s=3600.0, agent="a", model="m"),
            rule("r", "budget", "1500.5", window_s=30 * 86400.0, at_percent=Decimal(80)),
            rule("r", "error_rate", "0.05", window_s=900.0, of="tool_calls"),
            rule("r", "latency", "2500", window_s=90.0, percentile=99.9),
            rule("r", "heartbeat", window_s=120.0, agent="a"),
            rule("r", "sql", sql="SELECT 1"),
        )
    ] == [
        "cost over $5.00 in 1h (agent a, model m)",
        "80% of $1,500.50 spent in 30d",
        "over 5% of tool calls failed in 15m",
        "p99.9 of llm calls over 2500 ms in 90s",
        "no heartbeat in 2m (agent a)",
        "SELECT has rows",
    ]
    assert units.usd(Decimal("0.000012")) == "$0.000012"
    assert units.usd(Decimal("9" * 29)) == "$99,999,999,999,999,999,999,999,999,999.00"
    assert timedelta(seconds=1) == at(1) - NOW
