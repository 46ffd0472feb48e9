"""Costs by query: each call's, what sums of them are, what prices set by events change, and what has none."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from eventlog.importers.claude_code import SOURCE
from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.cost import costs, prices, report
from eventlog.queries.store import ReadStore
from tests.queries.calls import MILLION, NOON, TOKENS, call, price, recorded, store, utc
from tests.queries.test_transcripts import import_all

KINDS = (
    "input_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "output_cost_usd", "request_cost_usd",
    "web_search_cost_usd",
)  # fmt: skip


# -- a call --------------------------------------------------------------------------------


def test_a_call_with_its_cost_by_kind_and_where_it_comes_from(root: Path) -> None:
    """Key, version, band and source; savings are what caching made cheaper, less what it made dearer."""
    tokens = (1_000, 200_000, 40_000, 8_000, 2_000)
    found = store(root, call(NOON, "claude-sonnet-4-5-20250929", *tokens)).sql(
        f"SELECT {', '.join(KINDS)}, cost_usd, cache_savings_usd, cost_source, price_key, price_version, price_band, "
        "unpriced_because FROM llm_costs"
    )
    assert found.types[6] == "DECIMAL(38,18)"
    # over 200,000 tokens of input: 6 in, 0.6 read, 7.5 and 12 written, 22.5 out per million
    assert found.rows == [
        (
            Decimal("0.006"), Decimal("0.12"), Decimal("0.3") + Decimal("0.096"), Decimal("0.045"), Decimal(0),
            Decimal(0), Decimal("0.567"),
            Decimal("0.2") * Decimal("5.4") - Decimal("0.04") * Decimal("1.5") - Decimal("0.008") * 6,
            "computed", "anthropic:claude-sonnet-4-5", "genai-prices 0.2.3", "over 200,000 input tokens", None,
        )
    ]  # fmt: skip


def test_llm_costs_has_all_that_llm_calls_has(root: Path) -> None:
    """The same columns and rows, and those of the cost behind them."""
    read = store(root, call(NOON, "claude-opus-4-5", 1), call(NOON, "nobody", 1), call(NOON, None, 1))
    plain, with_costs = read.sql("FROM llm_calls ORDER BY event_id"), read.sql("FROM llm_costs ORDER BY event_id")
    assert with_costs.columns[: len(plain.columns)] == plain.columns
    assert with_costs.columns[len(plain.columns) :] == [
        "cost_usd", *KINDS, "cache_savings_usd", "cost_source", "price_key", "price_version", "price_band",
        "unpriced_because", "cut_short", "cut_short_cost_usd",
    ]  # fmt: skip
    assert [row[: len(plain.columns)] for row in with_costs.rows] == plain.rows


@pytest.mark.parametrize("seed", [1, 2])
def test_sql_and_decimals_of_python_agree_to_the_last_digit(root: Path, seed: int) -> None:
    """For each of some hundred calls of many models, tiers, times and sizes, and for their sum."""
    chance = random.Random(seed)
    models = ["claude-opus-4-6", "claude-sonnet-4-5", "gpt-5.1", "deepseek-v4-pro", "sonar-pro", "qwen3", "mine"]
    own = price("mine", "0.000000000001", "999999.999999999999")
    events = [
        call(
            f"{utc('2026-01-01') + timedelta(seconds=chance.randrange(300 * 86_400)):%Y-%m-%dT%H:%M:%SZ}",
            chance.choice(models),
            *(chance.choice([0, 1, chance.randrange(300_000), chance.randrange(10**11)]) for _ in TOKENS),
            provider_name=None, service_tier=chance.choice(["standard", "batch", "flex", None]),
            reasoning_tokens=chance.randrange(1000),
        )
        for _ in range(300)
    ]  # fmt: skip
    read = store(root, own, *events)
    names = (*TOKENS, "reasoning_tokens")
    rows = read.sql(
        f"SELECT model, provider, timestamp, service_tier, cost_usd, {', '.join(names)} FROM llm_costs"
    ).rows
    total = Decimal(0)
    priced = 0
    for model, provider, timestamp, tier, found, *counts in rows:
        expected = prices.price_of_call(model, provider, timestamp, dict(zip(names, counts, strict=True)), tier)
        with localcontext(prec=100):
            if model == "mine":
                output = counts[4] * Decimal("0.999999999999999999")
                expected = sum(counts[:4]) * Decimal("0.000000000000000001") + output
            assert found == expected, (model, timestamp, counts)
            total += found or 0
        priced += found is not None
    assert 100 < priced < 300
    assert read.sql("SELECT sum(cost_usd) FROM llm_costs").rows == [(total,)]


def test_what_was_reported_counts_before_what_is_computed(root: Path) -> None:
    """To the last digit, with no version of any price; what cannot be an amount is none."""
    read = store(
        root,
        call(NOON, "claude-opus-4-5", MILLION, agent="reported", cost_usd="0.123456789012"),
        call(NOON, "nobody", MILLION, agent="unknown model", cost_usd="0.5"),
        call(NOON, "claude-opus-4-5", MILLION, agent="free", cost_usd="0"),
        call(NOON, "claude-opus-4-5", MILLION, agent="negative", cost_usd="-1"),
        call(NOON, "claude-opus-4-5", MILLION, agent="absurd", cost_usd="1e25"),
    )
    rows = read.sql("SELECT agent, cost_usd, cost_source, input_cost_usd, price_version FROM llm_costs").rows
    assert {row[0]: row[1:] for row in rows} == {
        "reported": (Decimal("0.123456789012"), "reported", None, None),
        "unknown model": (Decimal("0.5"), "reported", None, None),
        "free": (Decimal(0), "reported", None, None),
        "negative": (Decimal(5), "computed", Decimal(5), "genai-prices 0.2.3"),
        "absurd": (Decimal(5), "computed", Decimal(5), "genai-prices 0.2.3"),
    }


UNPRICED = {
    "no model is named": call(NOON, None, 5),
    "no price is known": call(NOON, "nobody", 5),
    "no tokens are counted": call(NOON, "claude-opus-4-5"),
    "its token counts are no counts": call(NOON, "claude-opus-4-5", -5, 2**63 - 1, 2**63 - 1, 0, -(2**63)),
    "the price names not all its kinds of tokens": call(NOON, "input-only", 5, 0, 0, 0, 1),
}


@pytest.mark.parametrize("because", UNPRICED)
def test_what_has_no_price_has_no_cost_and_says_why(root: Path, because: str) -> None:
    """NULL, in its own column and in sums, and never zero."""
    read = store(root, price("input-only", "1", None), UNPRICED[because])
    assert read.sql(
        "SELECT cost_usd, cost_source, unpriced_because, price_key, price_version, cache_savings_usd FROM llm_costs"
    ).rows == [(None, "unpriced", because, None, None, None)]
    found = read.costs()
    assert (found.total.cost_usd, found.total.unpriced_calls, found.total.calls) == (None, 1, 1)
    assert [(each.because, each.calls) for each in found.unpriced] == [(because, 1)]


def test_a_call_that_failed_before_a_token_was_counted_costs_nothing(root: Path) -> None:
    """A model that has no price has none then either."""
    failed = {"error_type": "Timeout"}
    read = store(root, call(NOON, "claude-opus-4-5", **failed), call(NOON, "nobody", **failed))
    assert read.sql("SELECT model, cost_usd, cost_source FROM llm_costs ORDER BY 1").rows == [
        ("claude-opus-4-5", Decimal(0), "computed"),
        ("nobody", None, "unpriced"),
    ]


def test_fast_mode_of_imported_sessions_has_its_own_price(root: Path) -> None:
    """Claude Code tells of it as a speed, beside the tier."""
    message = {"model": "claude-fable-5-2", "usage": {"input_tokens": MILLION, "service_tier": "standard"}}
    for speed, usd in [("standard", "8"), ("fast", "16")]:
        one = root / speed
        usage = {**message["usage"], "speed": speed}  # type: ignore[dict-item]
        line = {"type": "assistant", "message": {**message, "usage": usage}}
        recorded(one, ("claude_code", {"timestamp": NOON, **line}))
        assert ReadStore(one).sql("SELECT cost_usd FROM llm_costs").rows == [(Decimal(usd),)]


# -- sums ----------------------------------------------------------------------------------


def some_calls(count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    chance = random.Random(seed)
    for n in range(count):
        at = utc("2026-01-01") + timedelta(minutes=chance.randrange(150 * 1440))
        yield call(
            f"{at:%Y-%m-%dT%H:%M:%SZ}",
            chance.choice(["claude-opus-4-6", "claude-haiku-4-5", "gpt-5.1", "nobody"]),
            *(chance.randrange(150_000) for _ in TOKENS),
            agent=chance.choice(["a", "b", None]), workspace=chance.choice(["w", "v", None]), session_id=f"s{n % 7}",
            provider_name=None, cost_usd=chance.choice([None, None, "0.01"]),
        )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_the_rows_of_any_grouping_sum_up_to_the_total(root: Path, seed: int) -> None:
    """Exactly, for every amount and count, in any period by anything; within bounds of time, too."""
    read = store(root, *some_calls(200, seed))
    summed = [name for name in report.Cost.__struct_fields__ if name not in ("start", "group", "group_workspace")]
    with IndexReader(root).trusted() as connection:
        for since, until in [(None, None), (utc("2026-02-03"), utc("2026-04-05T06:07"))]:
            totals = set()
            for period, by in {
                *itertools.product((None, "day"), (None, *report.GROUPS)),
                ("week", None),
                ("month", None),
            }:
                found = report.report(connection, period=period, by=by, since=since, until=until)  # type: ignore[arg-type]
                for name in summed:
                    parts = [getattr(row, name) for row in found.rows if getattr(row, name) is not None]
                    assert (sum(parts) if parts else None) == getattr(found.total, name), (period, by, name)
                assert len({(row.start, row.group, row.group_workspace) for row in found.rows}) == len(found.rows)
                totals.add(found.total)
            assert len(totals) == 1
    ((everything,),) = read.sql("SELECT sum(cost_usd) FROM llm_costs").rows
    total = read.costs().total
    assert total.cost_usd == everything
    kinds = sum((getattr(total, name) for name in KINDS), Decimal(0))
    assert kinds + Decimal("0.01") * total.reported_calls == everything


def test_a_call_belongs_to_the_day_of_its_time(root: Path) -> None:
    """UTC; weeks begin on Monday, months on the first."""
    read = store(
        root,
        call("2026-02-28T23:59:59.999999Z", "claude-opus-4-5", MILLION),
        call("2026-03-01T00:00:00Z", "claude-opus-4-5", 2 * MILLION),
        call("2026-03-02T00:30:00+01:00", "claude-opus-4-5", 4 * MILLION),
        call("2026-03-02T00:00:00Z", "claude-opus-4-5", 8 * MILLION),
    )
    days = {"2026-02-28": 5, "2026-03-01": 30, "2026-03-02": 40}
    weeks = {"2026-02-23": 35, "2026-03-02": 40}
    months = {"2026-02-01": 5, "2026-03-01": 70}
    for period, expected in zip(report.PERIODS, (days, weeks, months), strict=True):
        found = {f"{row.start:%Y-%m-%d}": row.cost_usd for row in read.costs(period).rows}
        assert found == {start: Decimal(usd) for start, usd in expected.items()}
    assert [row.cost_usd for row in read.costs(since=utc("2026-03-01"), until=utc("2026-03-02")).rows] == [30]


def test_the_dearest_stand_first(root: Path) -> None:
    """In each period, with what has no price last, and what belongs to nobody as nobody's."""
    read = store(
        root, call(NOON, "claude-haiku-4-5", 1), call(NOON, "nobody", 9), call(NOON, "claude-opus-4-5", 1),
        call(NOON, None, 1),
    )  # fmt: skip
    assert [row.group for row in read.costs(by="model").rows] == ["claude-opus-4-5", "claude-haiku-4-5", "nobody", None]


def test_the_running_day(root: Path) -> None:
    """What it cost so far, per hour, and until midnight; whatever the report is about."""
    read = store(
        root, call("2026-11-20T23:59:59Z", "claude-opus-4-5", 100 * MILLION),
        call("2026-11-21T00:00:00Z", "claude-opus-4-5", MILLION), call("2026-11-21T05:00:00Z", "nobody", 1),
        call("2026-11-21T05:59:00Z", "claude-opus-4-5", 2 * MILLION),
    )  # fmt: skip
    for since in (None, utc("2026-11-21T05:30")):
        today = read.costs("month", since=since, now=utc("2026-11-21T06:00")).today
        assert today == report.Burn(
            day=utc("2026-11-21"), calls=3, unpriced_calls=1, cost_usd=Decimal(15), elapsed_s=21_600.0,
            usd_per_hour=Decimal("2.5"), projected_usd=Decimal(60),
        )  # fmt: skip
    midnight = read.costs(now=utc("2026-11-22")).today
    assert (midnight.calls, midnight.cost_usd, midnight.projected_usd) == (0, Decimal(0), Decimal(0))


def test_unpriced_calls_are_counted_and_listed(root: Path) -> None:
    """By model, provider, tier and reason, with tokens and times; they are in no sum."""
    read = store(
        root, call("2026-01-01", "nobody", 1, 2, 3, 4, 5), call("2026-01-03", "nobody", 1),
        call("2026-01-02", "claude-opus-4-5", 7, service_tier="priority"), call(NOON, "claude-opus-4-5", MILLION),
    )  # fmt: skip
    found = read.costs("month")
    assert (found.total.calls, found.total.unpriced_calls, found.total.cost_usd) == (4, 3, Decimal(5))
    assert [(row.unpriced_calls, row.cost_usd) for row in found.rows] == [(3, None), (0, 5)]
    because = "no price is known"
    assert found.unpriced == [
        report.Unpriced(
            provider=None, model="nobody", service_tier=None, because=because, can_be_set=True, calls=2, tokens=16,
            first=utc("2026-01-01"), last=utc("2026-01-03"),
        ),
        report.Unpriced(
            provider="anthropic", model="claude-opus-4-5", service_tier="priority", because=because, can_be_set=True,
            calls=1, tokens=7, first=utc("2026-01-02"), last=utc("2026-01-02"),
        ),
    ]  # fmt: skip


def test_past_calls_at_the_prices_of_another_time(root: Path) -> None:
    """Old, new and the difference, per model and in total; reported costs stay; hours of the day stay."""
    read = store(
        root,
        price("m", "1", "1", effective_from="2026-01-01T00:00:00Z"),
        price("m", "3", "3", effective_from="2026-06-01T00:00:00Z"),
        call("2026-02-01", "m", MILLION), call("2026-07-01", "m", MILLION), call("2025-12-01", "m", MILLION),
        call("2026-02-01", "m", MILLION, cost_usd="10"),
        call("2026-02-01T02:00:00Z", "deepseek-v4-pro", MILLION), call("2026-02-01", "deepseek-v4-pro", MILLION),
    )  # fmt: skip
    found = read.recomputed_costs(utc("2026-09-01"))
    names = (
        "group",
        "calls",
        "old_usd",
        "new_usd",
        "difference_usd",
        "newly_priced_usd",
        "no_longer_priced_usd",
        "old_unpriced_calls",
        "new_unpriced_calls",
    )
    assert [tuple(getattr(each, name) for name in names) for each in (*found.rows, found.total)] == [
        ("m", 4, 14, 19, 2, 3, None, 1, 0),
        ("deepseek-v4-pro", 2, Decimal("1.755"), Decimal("1.98"), Decimal("0.225"), None, None, 0, 0),
        (None, 6, Decimal("15.755"), Decimal("20.98"), Decimal("2.225"), 3, None, 1, 0),
    ]
    within = read.recomputed_costs(utc("2026-02-01"), by="agent", since=utc("2026-06-01"))
    assert [(row.old_usd, row.new_usd, row.difference_usd) for row in within.rows] == [
        (Decimal(3), Decimal(1), Decimal(-2))
    ]
    assert read.costs(None).total.cost_usd == Decimal("15.755")


def test_what_only_one_side_has_a_price_for_is_no_difference(root: Path) -> None:
    """The total's difference is the sum of the rows', whatever was or became unpriced."""
    read = store(
        root,
        price("new", "5", "1", effective_from="2026-06-01T00:00:00Z"),
        price("gone", "7", "1", effective_until="2026-06-01T00:00:00Z"),
        price("m", "1", "1"), price("m", "3", "1", effective_from="2026-06-01T00:00:00Z"),
        *(call("2026-03-01", model, MILLION) for model in ("new", "gone", "m", "none")),
    )  # fmt: skip
    found = read.recomputed_costs(utc("2026-07-01"))
    names = ("group", "old_usd", "new_usd", "difference_usd", "newly_priced_usd", "no_longer_priced_usd")
    assert [tuple(getattr(each, name) for name in names) for each in (*found.rows, found.total)] == [
        ("new", None, 5, None, 5, None), ("m", 1, 3, 2, None, None), ("gone", 7, None, None, None, 7),
        ("none", None, None, None, None, None), (None, 8, 8, 2, 5, 7),
    ]  # fmt: skip


def test_prices_in_use(root: Path) -> None:
    """The rates of the models that were called, and None for those that have none."""
    read = store(
        root, price("m", "1.5", "2", workspace="w"), call(NOON, "m", 1, workspace="w"), call(NOON, "m", 1),
        call(NOON, "claude-sonnet-4-5", 1), call(NOON, "claude-sonnet-4-5", 1, service_tier="batch"),
    )  # fmt: skip
    found, notes = read.prices_in_use()
    assert notes == []
    assert [
        (each.workspace, each.model, each.service_tier, each.rate and (each.rate.input, each.rate.band))
        for each in found
    ] == [
        (None, "claude-sonnet-4-5", "standard", (Decimal(3), "up to 200,000 input tokens")),
        (None, "claude-sonnet-4-5", "standard", (Decimal(6), "over 200,000 input tokens")),
        (None, "claude-sonnet-4-5", "batch", (Decimal("1.5"), "batch, up to 200,000 input tokens")),
        (None, "claude-sonnet-4-5", "batch", (Decimal(3), "batch, over 200,000 input tokens")),
        (None, "m", "standard", None),
        ("w", "m", "standard", (Decimal("1.5"), "standard")),
    ]
    assert [each.model for each in read.prices_in_use("SONNET")[0]] == ["claude-sonnet-4-5"] * 4


def test_there_is_a_limit_to_kinds_of_calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most frequent ones are priced, and a note tells of the others."""
    monkeypatch.setattr(costs, "KEYS_MAX", 2)
    models = ["claude-opus-4-5"] * 3 + ["claude-haiku-4-5"] * 2 + ["claude-sonnet-4-5"]
    found = store(root, *(call(f"2026-11-01T12:00:0{n}Z", model, 1) for n, model in enumerate(models))).costs()
    assert (found.total.calls, found.total.unpriced_calls) == (6, 1)
    assert "only the most frequent are priced" in found.notes[0]


def test_nothing_costs_nothing(root: Path) -> None:
    """Without a call there are no rows, and no cost is known."""
    found = store(root, price("m", "1", "1")).costs()
    assert (found.rows, found.total.calls, found.total.cost_usd, found.today.cost_usd) == ([], 0, None, Decimal(0))
    assert found.notes == []


def test_without_the_library_what_was_set_and_what_was_reported_still_counts(root: Path) -> None:
    """The rest is unpriced, and a note names the extra."""
    recorded(
        root, price("m", "1", "1"), call(NOON, "m", MILLION), call(NOON, "claude-opus-4-5", 1, cost_usd="2"),
        call(NOON, "claude-opus-4-5", MILLION),
    )  # fmt: skip
    program = """
        import sys; sys.modules["genai_prices"] = None
        from eventlog.cli.main import run
        raise SystemExit(run(["cost", "--json"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())],
        env={**os.environ, "EVENTLOG_DIR": str(root)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["total"]["cost_usd"], found["total"]["unpriced_calls"]) == ("3", 1)
    assert "pip install 'agent-eventlog[index]'" in found["notes"][0]


# -- real sessions ---------------------------------------------------------------------------

#: USD per million tokens: input, cache read, cache writes for 5 minutes and for an hour, output. Of models that the
#: table beside the real logs no longer lists: https://platform.claude.com/docs/en/about-claude/pricing
RETIRED = {
    "claude-sonnet-4": ("3", "0.3", "3.75", "6", "15"),
    "claude-sonnet-4-20250514": ("3", "0.3", "3.75", "6", "15"),
    "claude-3-sonnet-20240229": ("3", "0.3", "3.75", "6", "15"),
}
_IN_TABLE = (
    "input_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr", "output_cost_per_token",
)  # fmt: skip


def independent_costs(paths: list[Path], table: dict[str, dict[str, Any]]) -> dict[str, Decimal]:
    """Cost per model by hand, from the files and a table of prices; nothing of eventlog and of its library."""
    best: dict[tuple[str, str | None], tuple[int, str, tuple[int, ...]]] = {}
    for path in paths:
        for text in path.read_text(encoding="utf-8").split("\n"):
            place = 0
            while place < len(text.rstrip()):
                try:
                    line, place = json.JSONDecoder().raw_decode(text, place)
                except ValueError:
                    break
                if isinstance(line, dict) and line.get("type") == "progress":
                    data = line.get("data") or {}
                    line = data.get("message") if data.get("type") == "agent_progress" else None
                if not isinstance(line, dict) or line.get("type") != "assistant":
                    continue
                message = line["message"]
                if message["model"] == "<synthetic>":
                    continue
                usage = message.get("usage") or {}
                written = usage.get("cache_creation_input_tokens") or 0
                split = usage.get("cache_creation") or {}
                long = split.get("ephemeral_1h_input_tokens") or 0
                short = split.get("ephemeral_5m_input_tokens", written - long)
                counts = (usage.get("input_tokens") or 0, usage.get("cache_read_input_tokens") or 0)
                output = usage.get("output_tokens") or 0
                size = sum(counts) + written + output
                key = (message["id"], line.get("requestId"))
                if key not in best or size > best[key][0]:
                    best[key] = (size, message["model"], (*counts, short, long, output))
    total: dict[str, Decimal] = defaultdict(Decimal)
    for _, model, tokens in best.values():
        if model in RETIRED:
            rates = [Decimal(rate) / MILLION for rate in RETIRED[model]]
        else:
            rates = [Decimal(table[model][name]) for name in _IN_TABLE]
            assert sum(tokens[:4]) <= 200_000, "beyond this, models had other prices, which this does not know"
        total[model] += sum(count * rate for count, rate in zip(tokens, rates, strict=True))
    return dict(total)


@pytest.mark.realdata
def test_costs_of_real_sessions_equal_an_independent_computation(root: Path, real_data: Path) -> None:
    """Per model and in total, to the cent and beyond, with the prices of another project's table."""
    (path,) = (real_data / "prices").glob("model_prices_and_context_window.litellm-*.json")
    table = json.loads(path.read_text(), parse_float=Decimal)
    paths = SOURCE.find([real_data / "claude-code"])
    import_all(root, paths)
    Indexer(root).catch_up()
    expected = independent_costs(paths, table)
    found = ReadStore(root).costs(None, by="model")
    assert {row.group: row.cost_usd for row in found.rows} == expected
    assert found.total.cost_usd == sum(expected.values()) > 50
    assert (found.total.unpriced_calls, found.total.reported_calls, found.notes) == (0, 0, [])
    assert datetime.now(UTC) > min(row.start or utc("2025-01-01") for row in ReadStore(root).costs().rows)
