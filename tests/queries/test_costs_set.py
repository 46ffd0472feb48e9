"""Prices that were set by events: what they reach, which of several counts, and what odd ones do."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.cost import costs, price_sets
from eventlog.queries.store import ReadStore
from tests.indexer.support import line, segment
from tests.queries.calls import MILLION, NOON, call, price, recorded, store, utc


def cost(root: Path, *events: tuple[str, dict[str, Any]]) -> Any:
    """What the one call among these events costs."""
    ((found,),) = store(root, *events).sql("SELECT cost_usd FROM llm_costs").rows
    return found


def test_a_price_that_was_set_counts_before_the_library(root: Path) -> None:
    """With its event as the version; kinds that it does not name cost what input costs."""
    ids = recorded(root, price("claude-opus", "1", "2"), call(NOON, "claude-opus-4-5", 10, 20, 30, 40, 50))
    assert ReadStore(root).sql("SELECT cost_usd, price_key, price_version, price_band FROM llm_costs").rows == [
        (Decimal("0.0002"), "claude-opus", f"price_set {ids[0]}", "standard")
    ]


def test_every_kind_that_is_named_has_the_price_that_was_set(root: Path) -> None:
    """Numbers or texts; writes for an hour cost what those for five minutes cost, if nothing else is said."""
    more = {"cache_read_usd_per_mtok": 0.125, "cache_write_5m_usd_per_mtok": "3"}
    set_ = price("m", "1", "2", **more)
    assert cost(root, set_, call(NOON, "m", MILLION, MILLION, MILLION, MILLION, MILLION)) == Decimal("9.125")
    one = root / "1h"
    assert cost(one, price("m", "1", "2", cache_write_1h_usd_per_mtok="7"), call(NOON, "m", 0, 0, 0, MILLION)) == 7


def test_which_of_several_prices_counts(root: Path) -> None:
    """Own workspace, longest beginning, provider, tier, latest start, in this order; whatever came first."""
    better = [
        price("mod", "1", "1", agent="global"),
        price("mod", "2", "1", effective_from="2021-01-01T00:00:00Z"),
        price("mod", "3", "1", service_tier="batch"),
        price("mod", "4", "1", provider_name="acme"),
        price("model", "5", "1"),
        price("MODEL-", "6", "1"),
        price("m", "7", "1", workspace="w"),
        price("mo", "8", "1", workspace="w"),
    ]
    asked = call(NOON, "model-1", MILLION, provider_name="Acme", service_tier="batch", workspace="w")
    for count in range(1, len(better) + 1):
        assert cost(root / str(count), *better[:count], asked) == count
    assert cost(root / "reversed", *better[::-1], asked) == len(better)


def test_prices_do_not_reach_where_they_do_not_belong(root: Path) -> None:
    """Another workspace, provider, tier or model, a time before or after: the library's price stands."""
    elsewhere = [
        price("claude-opus-4-5", "1", "1", workspace="other"),
        price("claude-opus-4-5", "1", "1", provider_name="acme"),
        price("claude-opus-4-5", "1", "1", service_tier="batch"),
        price("claude-opus-4-5-", "1", "1"),
        price("laude-opus-4-5", "1", "1"),
        price("claude-opus-4-5", "1", "1", effective_from="2026-11-01T12:00:00.000001Z"),
        price("claude-opus-4-5", "1", "1", effective_until=NOON),
    ]
    assert cost(root, *elsewhere, call(NOON, "claude-opus-4-5", MILLION, workspace="w")) == 5


def test_prices_have_a_beginning_and_an_end(root: Path) -> None:
    """From `effective_from` on and before `effective_until`, to the microsecond; zones are reckoned with."""
    read = store(
        root,
        price("m", "1", "1", effective_from="2026-02-01T01:00:00+01:00"),
        price("m", "2", "1", effective_from="2026-03-01T00:00:00Z", effective_until="2026-04-01T00:00:00Z"),
        *(
            call(at, "m", MILLION, agent=at)
            for at in ("2026-01-31T23:59:59.999999Z", "2026-02-01T00:00:00Z", "2026-02-28T23:59:59.999999Z",
                       "2026-03-01T00:00:00Z", "2026-03-31T23:59:59.999999Z", "2026-04-01T00:00:00Z")
        ),
    )  # fmt: skip
    rows = read.sql("SELECT cost_usd FROM llm_costs ORDER BY timestamp").rows
    assert [row[0] for row in rows] == [None, 1, 1, 2, 2, 1]


def test_a_price_without_a_beginning_holds_from_its_own_time_on(root: Path) -> None:
    """So that a new price does not change the past unless it says so."""
    read = store(
        root, price("m", "1", "1", effective_from=None, timestamp="2026-05-01T00:00:00Z"),
        call("2026-04-30T23:00:00Z", "m", MILLION), call("2026-05-01T00:00:00Z", "m", MILLION),
    )  # fmt: skip
    assert read.sql("SELECT cost_usd FROM llm_costs ORDER BY timestamp").rows == [(None,), (Decimal(1),)]


def test_a_correction_that_comes_later_changes_the_past(root: Path) -> None:
    """A `price_set` with a beginning that lies there; of two with the same one, the later event counts."""
    assert cost(root, price("m", "9", "9"), call(NOON, "m", MILLION)) == 9
    recorded(root, price("m", "4", "4", timestamp="2026-12-01"))
    assert ReadStore(root).sql("SELECT cost_usd FROM llm_costs").rows == [(Decimal(4),)]


def test_a_price_that_says_no_time_holds_from_when_it_was_set(root: Path) -> None:
    """Beside one that says a time, and in what calls would have cost at another time."""
    event = {"model": "m", "input_usd_per_mtok": "2"}
    segment(root, line(0, "price_set", payload=event, timestamp="2026-01-01T00:00:00.000000Z"), event_type="price_set")
    early = {"model": "m", "input_usd_per_mtok": "3", "effective_from": "2025-01-01T00:00:00Z"}
    segment(root, line(1, "price_set", payload=early, timestamp="2026-01-01T00:00:01.000000Z"), event_type="price_set")
    read = store(root, call("2025-06-01", "m", MILLION), call("2026-06-01", "m", MILLION))
    assert read.costs().total.cost_usd == 3 + 2
    assert read.recomputed_costs(utc("2026-06-01")).total.new_usd == 2 + 2
    assert read.recomputed_costs(utc("2025-06-01")).total.new_usd == 3 + 3
    assert len(read.prices_in_use()[0]) == 2


WRONG: dict[str, dict[str, Any]] = {
    "negative": {"input_usd_per_mtok": "-1"},
    "nan": {"input_usd_per_mtok": "NaN"},
    "huge": {"input_usd_per_mtok": "1e6"},
    "fine beyond measure": {"input_usd_per_mtok": "0.0000000000001"},
    "nothing": {},
    "words": {"input_usd_per_mtok": "three"},
    "digits beyond measure": {"input_usd_per_mtok": "999999." + "9" * 60},
    "too large for a number": {"input_usd_per_mtok": "1e999999999"},
    "too fine for a number": {"input_usd_per_mtok": "1e-999999999"},
    "before the year 1": {"effective_from": "0001-01-01T00:00:00+10:00", "input_usd_per_mtok": "1"},
    "after the year 9999": {"effective_until": "9999-12-31T23:59:59-10:00", "input_usd_per_mtok": "1"},
    "no model": {"model": None, "input_usd_per_mtok": "1"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_price_that_is_none_is_left_out_and_named(root: Path, name: str) -> None:
    """The others count; the log may hold anything, written by anybody."""
    event_id = "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"
    payload = {"model": "m", "effective_from": "2020-01-01T00:00:00Z"} | WRONG[name]
    line = {
        "event_id": event_id, "event_type": "price_set", "timestamp": "2026-01-01T00:00:00.000000Z",
        "payload": {key: value for key, value in payload.items() if value is not None},
    }  # fmt: skip
    folder = root / "log/price_set"
    folder.mkdir(parents=True)
    (folder / "20260101T000000000000Z-0000000000000001.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    found = store(root, price("m", "2", "2"), call(NOON, "m", MILLION)).costs()
    assert found.total.cost_usd == 2
    assert [note for note in found.notes if event_id in note], found.notes


_MOMENTS: st.SearchStrategy[Any] = st.sampled_from(
    ["0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00", "9999-12-31T23:59:59.999999Z",
     "2026-01-01", "2026-02-31T00:00:00Z", "infinity", 0, 1e300, None, []]
)  # fmt: skip
_RATES: st.SearchStrategy[Any] = st.sampled_from(
    ["1", "1.5", "-0", "0e-9999999", "0e9999999", "1e-999999999999", "1e400", "NaN", "sNaN", "-Infinity", "1" * 5000,
     "999999." + "9" * 60, "1." + "0" * 60, "0." + "3" * 60, 7, 0.1, 10**40, True, None, {}]
)  # fmt: skip
_TEXTS: st.SearchStrategy[Any] = st.sampled_from(
    ["m", "", "\0", "m\0", "'\"\\", "m" * 100_000, "İ", "a/b", None, 3, "batch"]
)
_PAYLOADS = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "", "m\0", "m" * 100_000, None])},
    optional={
        "provider_name": _TEXTS, "service_tier": _TEXTS, "effective_from": _MOMENTS, "effective_until": _MOMENTS,
        "input_usd_per_mtok": _RATES, "cache_read_usd_per_mtok": _RATES, "output_usd_per_mtok": _RATES,
    },
)  # fmt: skip


@settings(max_examples=12)
@given(st.lists(_PAYLOADS, max_size=20), st.lists(st.tuples(_TEXTS, _TEXTS, _TEXTS), min_size=1, max_size=8))
def test_odd_prices_and_odd_calls_break_no_answer(tmp_path_factory: Any, payloads: list[Any], calls: list[Any]) -> None:
    """Whatever one event says, everybody's other calls have their costs."""
    root = tmp_path_factory.mktemp("root")
    workspaces = itertools.cycle([None, "w", "\0", "'"])
    odd = [{"request_model": a, "provider_name": b, "service_tier": c, "output_tokens": 5} for a, b, c in calls]
    usual = {"request_model": "claude-opus-4-5", "uncached_input_tokens": MILLION, "cost_usd": "3"}
    for first, event_type, given_ in ((0, "price_set", payloads), (50, "llm_call", [usual, *odd])):
        lines = [line(n, event_type, payload=each, workspace=next(workspaces)) for n, each in enumerate(given_, first)]
        segment(root, *lines, event_type=event_type)
    Indexer(root).catch_up()
    found = ReadStore(root).costs(None, by="model")
    assert {row.group: row for row in found.rows}["claude-opus-4-5"].cost_usd == 3
    assert found.total.calls == 1 + len(calls)
    assert ReadStore(root).recomputed_costs(utc("2026-06-01")).total.calls == 1 + len(calls)
    assert ReadStore(root).prices_in_use()[0]


def test_prices_of_a_workspace_are_its_own(root: Path) -> None:
    """Its name may be anything; others have the price for all."""
    odd = "o'brien \"; DROP"
    read = store(
        root, price("m", "1", "1"), price("m", "2", "2", workspace=odd), price("m", "3", "3", workspace="w"),
        *(call(NOON, "m", MILLION, workspace=name, agent=name or "none") for name in (odd, "w", "other", None)),
    )  # fmt: skip
    assert {each.group: each.cost_usd for each in read.costs(by="agent").rows} == {
        odd: 2,
        "w": 3,
        "other": 1,
        "none": 1,
    }


def test_a_store_of_one_workspace_knows_its_own_costs_only(root: Path) -> None:
    """At its own prices and those for all, with nothing of others: no call, rate, note or sum."""
    recorded(
        root, price("m", "1", "1"), price("m", "2", "2", workspace="w"), price("m", "4", "4", workspace="other"),
        price("n", "8", "8"), price("n", None, None, workspace="other"), price("n", "-1", "1", workspace="w"),
        call(NOON, "m", MILLION, workspace="w"), call(NOON, "n", MILLION, workspace="w"),
        call(NOON, "m", MILLION, workspace="other"), call(NOON, "secret", MILLION, workspace="other"),
        call(NOON, "m", MILLION),
    )  # fmt: skip
    expected = {"w": (10, {"m", "n"}), "other": (4, {"m", "secret"}), "nobody": (None, set())}
    for workspace, (usd, models) in expected.items():
        read = ReadStore(root, workspace=workspace)
        found = read.costs(by="model")
        assert found.total.cost_usd == usd
        assert {row.group for row in found.rows} == models
        assert {row[0] for row in read.sql("SELECT model FROM llm_costs").rows} == models
        assert {row[0] for row in read.sql("SELECT model FROM llm_rates").rows} == models - {"secret"}
        assert {each.model for each in read.prices_in_use()[0]} == models
        assert len(found.notes) == (1 if workspace != "nobody" else 0)
        assert read.recomputed_costs(utc(NOON[:19])).total.new_usd == usd
    assert ReadStore(root).costs().total.cost_usd == 15


def test_the_order_of_prices_changes_nothing(root: Path) -> None:
    """Same rates from any order of the same events, and after a replay."""
    ids = recorded(
        root,
        *(price(model, str(n), "1", timestamp="2026-01-01") for n, model in enumerate(["m", "m-1", "m-1", "m-"])),
        *(call(f"2026-0{month}-01", "m-1", MILLION, agent=str(month)) for month in range(1, 7)),
    )
    read = ReadStore(root)
    first = read.costs(by="agent").rows
    with IndexReader(root).trusted() as connection:
        events = price_sets.read(connection)
        expected = costs.resolve(connection).rates
        for order in itertools.permutations(events):
            assert costs.resolve(connection, order).rates == expected
    assert len(ids) == 10
    replay.replay(root)
    assert read.costs(by="agent").rows == first
