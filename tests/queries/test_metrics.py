"""Metrics: figures counted by hand, and the same figures for random logs counted in plain Python."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.indexer import replay
from eventlog.queries.metrics import aggregates
from eventlog.queries.metrics.aggregates import BUCKETS, GROUPS, Bucket, Group, Metrics, Percentiles
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.queries.recordings import Told, record

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
#: Long after everything: what is open then is abandoned.
LATER = MIDNIGHT + timedelta(days=30)


def at(minutes: float) -> datetime:
    """A time before or after midnight."""
    return MIDNIGHT + timedelta(minutes=minutes)


def shown(metrics: Metrics) -> dict[str, Any]:
    """The figures that are not nothing, and the success rate where there is one."""
    return {
        name: value
        for name, value in msgspec.structs.asdict(metrics).items()
        if name not in ("start", *GROUPS) and value is not None and value != {} and (value or name == "success_rate")
    }


def one(value: float) -> Percentiles:
    """The percentiles of one value."""
    return Percentiles(1, value, value, value)


A = {"run_id": "r1", "agent": "a", "workspace": "w"}
B = {"run_id": "r2", "agent": "b", "workspace": "w"}
DAY_AND_NIGHT: list[Told] = [
    (at(-10), builtin.RunStarted(name="late"), A),
    (at(-5), builtin.LlmCall(
        request_model="m", uncached_input_tokens=100, cache_read_tokens=50, output_tokens=7, latency_ms=800.0,
        time_to_first_token_ms=120.0, cost_usd=Decimal("0.000000000001")), A),
    (at(1), builtin.ToolCall(tool_name="grep", duration_ms=120_000.0, ok=False), A),
    (at(5), builtin.LlmCall(
        request_model="m", output_tokens=3, reasoning_tokens=2, latency_ms=900.0, error_type="Timeout",
        cost_usd=Decimal("1.10")), A),
    (at(6), builtin.Error(error_type="Oops"), A),
    (at(10), builtin.RunFinished(status="error", duration_ms=1.2e6, error_type="Timeout"), A),
    (at(20), builtin.RunStarted(name="early"), B),
    (at(21), builtin.LlmCall(request_model="n", output_tokens=1), B),
    (at(30), builtin.RunFinished(duration_ms=6e5), B),
]  # fmt: skip


def test_what_lies_on_both_sides_of_midnight(root: Path) -> None:
    """A run counts where it began, a tool where it began, a model's call where it ended."""
    record(root, *DAY_AND_NIGHT)
    before, after = ReadStore(root).metrics(now=LATER)
    assert (before.start, after.start) == (at(-1440), MIDNIGHT)
    assert shown(before) == {
        "runs": 1, "runs_error": 1, "success_rate": 0.0, "run_errors": {"Timeout": 1}, "run_duration_ms": one(1.2e6),
        "llm_calls": 1, "uncached_input_tokens": 100, "cache_read_tokens": 50, "output_tokens": 7,
        "cost_usd": Decimal("0.000000000001"), "latency_ms": one(800), "ttft_ms": one(120),
        "tool_calls": 1, "tool_failures": 1, "tool_errors": {"(unknown)": 1}, "tool_duration_ms": one(120_000),
    }  # fmt: skip
    assert shown(after) == {
        "runs": 1, "runs_ok": 1, "success_rate": 1.0, "run_duration_ms": one(6e5),
        "llm_calls": 2, "llm_failures": 1, "llm_errors": {"Timeout": 1}, "output_tokens": 4, "reasoning_tokens": 2,
        "cost_usd": Decimal("1.10"), "unpriced_calls": 1, "latency_ms": one(900), "logged_errors": {"Oops": 1},
    }  # fmt: skip


def test_by_model_what_has_no_model_stands_apart(root: Path) -> None:
    """Once, in the rows without a model; calls are with theirs."""
    record(root, *DAY_AND_NIGHT)
    found = ReadStore(root).metrics("hour", ("agent", "model"), since=MIDNIGHT, now=LATER)
    assert [(each.start, each.agent, each.model, each.runs, each.llm_calls, each.output_tokens) for each in found] == [
        (MIDNIGHT, "a", None, 0, 0, 0), (MIDNIGHT, "a", "m", 0, 1, 3),
        (MIDNIGHT, "b", None, 1, 0, 0), (MIDNIGHT, "b", "n", 0, 1, 1),
    ]  # fmt: skip
    assert [each.logged_errors for each in found] == [{"Oops": 1}, {}, {}, {}]


def test_a_late_event_stands_where_it_belongs(root: Path) -> None:
    """Metrics asked before it came are right after it as well, and it is counted once however often it comes."""
    record(root, *DAY_AND_NIGHT[1:5], *DAY_AND_NIGHT[6:])
    store = ReadStore(root)
    assert [each.runs for each in store.metrics(now=LATER)] == [0, 1]
    record(root, DAY_AND_NIGHT[0], DAY_AND_NIGHT[5])
    again = [(when, event, fields | {"dedupe_key": "k"}) for when, event, fields in DAY_AND_NIGHT[6:7]]
    found = store.metrics(now=LATER)
    assert [(each.runs, each.runs_error) for each in found] == [(1, 1), (1, 0)]
    record(root, *again, *again)
    record(root, *again)
    assert store.metrics(now=LATER) == found == store.metrics(now=LATER)


def test_a_replay_gives_the_same_metrics(root: Path) -> None:
    """All of them, by everything."""
    record(root, *DAY_AND_NIGHT)
    before = [ReadStore(root).metrics(bucket, GROUPS, now=LATER) for bucket in BUCKETS]
    replay.replay(root)
    assert [ReadStore(root).metrics(bucket, GROUPS, now=LATER) for bucket in BUCKETS] == before


STATUSES: dict[str, tuple[list[tuple[float, msgspec.Struct]], str]] = {
    "ok": ([(0, builtin.RunStarted(name="n")), (1, builtin.RunFinished())], "runs_ok"),
    "error": ([(0, builtin.RunStarted(name="n")), (1, builtin.RunFinished(status="error"))], "runs_error"),
    "a word of its own": ([(0, builtin.RunStarted(name="n")), (1, builtin.RunFinished(status="bored"))], "runs_error"),
    "cancelled": ([(0, builtin.RunStarted(name="n")), (1, builtin.RunFinished(status="cancelled"))], "runs_cancelled"),
    "silent": ([(0, builtin.RunStarted(name="n"))], "runs_abandoned"),
    "going on": ([(0, builtin.RunStarted(name="n")), (20, builtin.Step(name="s"))], "runs_running"),
    "only its end": ([(1, builtin.RunFinished())], "runs_ok"),
}
RATES = {"runs_ok": 1.0, "runs_error": 0.0, "runs_abandoned": 0.0, "runs_cancelled": None, "runs_running": None}


@pytest.mark.parametrize("story", STATUSES)
def test_success_is_ok_of_those_that_could_be(root: Path, story: str) -> None:
    """A run that was given up failed; one that was cancelled, or is under way, neither failed nor succeeded."""
    told, status = STATUSES[story]
    record(root, *((at(minutes), event, {"run_id": "r"}) for minutes, event in told))
    (found,) = ReadStore(root).metrics(now=at(20))
    figures = shown(found)
    assert {name for name in figures if name.startswith("runs")} == {"runs", status}
    assert found.success_rate == RATES[status]


def test_percentiles_are_values_that_were_measured(root: Path) -> None:
    """Of 1 to 200 ms the p50 is 100, the p95 190, the p99 198; of three values the p95 is the greatest."""
    latencies = [builtin.LlmCall(request_model="m", latency_ms=float(n)) for n in range(1, 201)]
    firsts = [builtin.LlmCall(request_model="n", time_to_first_token_ms=n) for n in (5.5, 1.5, 2.5)]
    record(root, *((at(0), call, {}) for call in latencies + firsts))
    found = ReadStore(root).metrics("day", ["model"])
    assert [each.latency_ms for each in found] == [Percentiles(200, 100, 190, 198), None]
    assert [each.ttft_ms for each in found] == [None, Percentiles(3, 2.5, 5.5, 5.5)]


def test_what_is_no_duration_is_not_measured(root: Path) -> None:
    """Negative, not a number, or absurd: such a call counts, its latency does not."""
    given = ("NaN", -1, 1e300, "soon", None, 40.5)
    lines = (line(n, "llm_call", payload={"latency_ms": latency}) for n, latency in enumerate(given))
    segment(root, *lines, event_type="llm_call")
    index(root)
    (found,) = ReadStore(root).metrics()
    assert (found.llm_calls, found.latency_ms) == (6, one(40.5))


def test_bounds_cut_and_agents_are_picked(root: Path) -> None:
    """From `since` on, before `until`, also within a day; a time without a zone is UTC."""
    record(root, *DAY_AND_NIGHT)
    store = ReadStore(root)
    assert [each.llm_calls for each in store.metrics(since=at(-5), until=at(5))] == [1]
    assert [each.llm_calls for each in store.metrics(since=at(-4), until=at(6).replace(tzinfo=None))] == [0, 1]
    assert sum(each.llm_calls for each in store.metrics()) == 3
    assert [(each.agent, each.runs, each.llm_calls) for each in store.metrics(by=["agent"], agent="b")] == [("b", 1, 1)]
    assert store.metrics(agent="nobody") == []


def test_costs_are_those_of_the_cost_report(root: Path) -> None:
    """Computed from prices, also from one that was set for the time of the call, on its day; in a workspace, too."""
    price = builtin.PriceSet(model="m", input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(10))
    told: list[Told] = [
        (at(minutes), builtin.LlmCall(request_model="m", uncached_input_tokens=500_000, output_tokens=1), A)
        for minutes in (-600, -1, 1)
    ]
    record(root, (at(-100), price, {}), *told)
    expected = [(at(-1440), Decimal("1.00001"), 1), (MIDNIGHT, Decimal("1.00001"), 0)]
    for store in (ReadStore(root), ReadStore(root, workspace="w")):
        assert [(each.start, each.cost_usd, each.unpriced_calls) for each in store.metrics()] == expected
        assert [(each.start, each.cost_usd, each.unpriced_calls) for each in store.costs().rows] == expected


def test_the_most_frequent_types_of_errors_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are summed up, so that none is missing."""
    monkeypatch.setattr(aggregates, "TYPES_MAX", 2)
    types = ["A", "B", "B", "C", "C", "C", "D"]
    record(root, *((at(0), builtin.ToolCall(tool_name="t", error_type=each), {}) for each in types))
    (found,) = ReadStore(root).metrics()
    assert list(found.tool_errors.items()) == [("C", 3), ("B", 2), ("(other)", 2)]


def test_questions_that_make_no_sense_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with what would do."""
    record(root, *DAY_AND_NIGHT)
    store = ReadStore(root)
    with pytest.raises(QueryFailed, match=r"^unknown bucket 'week'; use day or hour$"):
        store.metrics("week")  # type: ignore[arg-type]
    with pytest.raises(QueryFailed, match=r"^cannot group by tool; use workspace, agent, model$"):
        store.metrics(by=("tool",))  # type: ignore[arg-type]
    monkeypatch.setattr(aggregates, "ROWS_MAX", 1)
    with pytest.raises(
        QueryFailed, match=r"^there are more than 1 rows; narrow it by a later `since`, or by fewer groups$"
    ):
        store.metrics("hour", GROUPS)


# -- random logs, counted in plain Python -----------------------------------------------------

ERRORS = (None, None, None, "Timeout", "RateLimit")


def random_log(seed: int) -> tuple[list[Told], list[dict[str, Any]]]:
    """Three days of events in any order, and what each of them adds to which row."""
    chance = random.Random(seed)
    told: list[Told] = []
    facts: list[dict[str, Any]] = []
    for n in range(120):
        who = {"workspace": chance.choice(("w", "v", None)), "agent": chance.choice(("a", "b", None))}
        moment = at(chance.uniform(-2000, 2000))
        length_s = chance.choice((0.5, 30.0, 4000.0, 90_000.0))
        ended = moment + timedelta(seconds=length_s)
        error = chance.choice(ERRORS)
        match n % 4:
            case 0:
                status = "ok" if error is None else chance.choice(("error", "cancelled"))
                told.append((moment, builtin.RunStarted(name="n"), who | {"run_id": f"r{n}"}))
                told.append((ended, builtin.RunFinished(status=status, duration_ms=length_s * 1000, error_type=error),
                             who | {"run_id": f"r{n}"}))  # fmt: skip
                facts.append(who | {"moment": moment, "runs": 1, f"runs_{status}": 1,
                                    "run_duration_ms": length_s * 1000}
                             | ({"run_errors": error} if status == "error" else {}))  # fmt: skip
            case 1:
                model = chance.choice(("m", "n", None))
                tokens = chance.randrange(1000)
                call = builtin.LlmCall(request_model=model, output_tokens=tokens, error_type=error, latency_ms=length_s,
                                      cost_usd=Decimal(tokens) / 1000)  # fmt: skip
                told.append((moment, call, who))
                facts.append(who | {"moment": moment, "model": model, "llm_calls": 1, "output_tokens": tokens,
                                    "latency_ms": length_s, "cost_usd": Decimal(tokens) / 1000}
                             | ({"llm_errors": error, "llm_failures": 1} if error else {}))  # fmt: skip
            case 2:
                told.append(
                    (ended, builtin.ToolCall(tool_name="t", duration_ms=length_s * 1000, error_type=error), who)
                )
                facts.append(who | {"moment": moment, "tool_calls": 1, "tool_duration_ms": length_s * 1000}
                             | ({"tool_errors": error, "tool_failures": 1} if error else {}))  # fmt: skip
            case _:
                told.append((moment, builtin.Error(error_type=error), who))
                facts.append(who | {"moment": moment, "logged_errors": error or "(unknown)"})
    chance.shuffle(told)
    return told, facts


def counted(facts: list[dict[str, Any]], bucket: Bucket, by: Sequence[Group]) -> list[tuple[Any, ...]]:
    """The rows that facts make: start, group, and the figures that are not nothing."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for fact in facts:
        start = fact["moment"].replace(minute=0, second=0, microsecond=0)
        start = start.replace(hour=0) if bucket == "day" else start
        cells.setdefault((start, *(fact.get(each) if each in by else None for each in GROUPS)), []).append(fact)
    rows = []
    for key in sorted(cells, key=lambda key: (key[0], *((each is not None, each or "") for each in key[1:]))):
        figures: dict[str, Any] = {}
        for name in dict.fromkeys(name for fact in cells[key] for name in fact if name not in ("moment", *GROUPS)):
            values = sorted(fact[name] for fact in cells[key] if name in fact)
            if name.endswith("_ms"):
                ranks = (values[math.ceil(percent * len(values) / 100) - 1] for percent in (50, 95, 99))
                figures[name] = Percentiles(len(values), *ranks)
            else:
                figures[name] = dict(Counter(values)) if name.endswith("errors") else sum(values)
        judged = figures.get("runs_ok", 0) + figures.get("runs_error", 0)
        if judged:
            figures["success_rate"] = figures.get("runs_ok", 0) / judged
        rows.append((*key, {name: value for name, value in figures.items() if value or name == "success_rate"}))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_random_logs_are_counted_right(root: Path, seed: int) -> None:
    """In every grouping, per day and hour; so all groupings add up to the same, since the facts do."""
    told, facts = random_log(seed)
    record(root, *told[:150])
    record(root, *told[150:])
    store = ReadStore(root)
    for bucket in BUCKETS:
        for by in (by for size in range(4) for by in combinations(GROUPS, size)):
            found = store.metrics(bucket, by, now=LATER)
            assert [
                (each.start, each.workspace, each.agent, each.model, shown(each)) for each in found
            ] == counted(facts, bucket, by), (bucket, by)  # fmt: skip


def test_a_workspace_has_its_own_metrics(root: Path) -> None:
    """Those that the whole store has in its rows."""
    told, facts = random_log(3)
    record(root, *told)
    whole = ReadStore(root).metrics("hour", GROUPS, now=LATER)
    for workspace in ("w", "v"):
        inside = ReadStore(root, workspace=workspace)
        assert inside.metrics("hour", GROUPS, now=LATER) == [each for each in whole if each.workspace == workspace]
        own = [fact for fact in facts if fact["workspace"] == workspace]
        assert [(each.start, None, None, None, shown(each)) for each in inside.metrics(now=LATER)] == counted(
            own, "day", ()
        )


# -- the command --------------------------------------------------------------------------------


def test_the_command(run: Run, root: Path) -> None:
    """A table of days or hours, of the groups that are asked for; --json has all of it."""
    record(root, *DAY_AND_NIGHT)
    done = run("metrics", "hourly", "--utc", "--by", "agent", "--since", "2026-03-02")
    assert (done.returncode, done.stderr) == (0, "")
    cells = [[cell.strip() for cell in each.strip("|").split("|")] for each in done.stdout.splitlines() if "|" in each]
    assert cells == [
        ["start", "agent", "runs", "success", "calls", "failed", "tokens in", "tokens out", "cost", "p50 ms",
         "p95 ms", "p99 ms", "first token ms", "tools", "tools failed", "most frequent errors"],
        ["2026-03-02 00:00Z", "a", "0", "", "1", "1", "0", "3", "$1.10", "900", "900", "900", "", "0", "0",
         "call Timeout ×1, logged Oops ×1"],
        ["2026-03-02 00:00Z", "b", "1", "100.0%", "1", "0", "0", "1", "–+", "", "", "", "", "0", "0", ""],
    ]  # fmt: skip
    (first, _) = json.loads(run("metrics", "--json").stdout)
    assert (first["start"], first["run_errors"], first["cost_usd"]) == (
        "2026-03-01T00:00:00Z", {"Timeout": 1}, str(ReadStore(root).metrics()[0].cost_usd)
    )  # fmt: skip
    refused = run("metrics", "--since", "soon")
    assert (refused.returncode, refused.stdout) == (2, "")
