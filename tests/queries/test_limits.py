"""Where a limit is reached, the figure is exact all the same, or the limit is said; it is never another figure."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.queries.cost import costs
from eventlog.queries.doctor import diagnose
from eventlog.queries.store import ReadStore
from tests.indexer.support import index, line, rows, segment

LARGEST = 2**63 - 1
SUM = 2**63 + 6
AT = "2026-05-01T12:00:00.000000Z"
WHO = {"run_id": "r", "session_id": "s", "agent": "a"}


def store(root: Path, *events: tuple[str, dict[str, Any]], **fields: Any) -> ReadStore:
    """Index events: a type and a payload each."""
    for number, (event_type, payload) in enumerate(events):
        each = {"timestamp": AT, "payload": payload, **WHO, **fields}
        segment(root, line(number, event_type, **each), event_type=event_type)
    index(root)
    return ReadStore(root)


def call(tokens: int, model: str = "m", **fields: Any) -> tuple[str, dict[str, Any]]:
    return "llm_call", {"request_model": model, "output_tokens": tokens, **fields}


def test_a_sum_of_tokens_beyond_64_bits_is_that_sum_everywhere(root: Path) -> None:
    """The largest integer that a column holds, and 7: 9,223,372,036,854,775,807 + 7."""
    read = store(root, ("run_started", {"name": "n"}), call(LARGEST), call(7))
    (run,), (session,), (metric,) = read.runs(), read.sessions(), read.metrics()
    said = {
        "runs": run.output_tokens, "sessions": session.output_tokens, "metrics": metric.output_tokens,
        "cost": read.costs().total.output_tokens, "show": read.tree("r").output_tokens,
        "show of a session": read.tree("s").output_tokens,
    }  # fmt: skip
    assert said == dict.fromkeys(said, SUM)


def test_the_input_of_a_call_beyond_64_bits_is_that_input(root: Path) -> None:
    """Two kinds of it, each of which fits."""
    read = store(root, call(1, uncached_input_tokens=LARGEST, cache_read_tokens=7))
    resent = read.insights("r").resent
    assert resent is not None
    assert resent.input_tokens == SUM
    assert (read.tree("r").input_tokens, read.tree("s").input_tokens) == (SUM, SUM)


def test_losses_beyond_64_bits_stop_neither_status_nor_doctor_nor_health(root: Path) -> None:
    """Two reports of lost events, one with a count that is none."""
    read = store(root, *(("events_dropped", {"count": count, "cause": "full"}) for count in (LARGEST, 7)))
    assert read.state().dropped == SUM
    assert any(f"{SUM:,}" in finding.what for finding in diagnose(str(root)))
    (health,) = read.health(now=datetime(2026, 5, 1, 13, tzinfo=UTC))
    assert f"{SUM:,} events lost" in next(each.found for each in health.penalties if each.name == "drops")


def test_a_sum_in_a_parquet_file_is_that_sum(root: Path, tmp_path: Path) -> None:
    """2^53 + 1, which no DOUBLE holds."""
    read = store(root, call(2**53), call(1))
    read.copy("SELECT sum(output_tokens) AS n FROM llm_calls", tmp_path / "n.parquet", "parquet")
    assert duckdb.read_parquet(str(tmp_path / "n.parquet")).fetchall() == [(2**53 + 1,)]


def test_a_reported_cost_has_eighteen_decimals(root: Path) -> None:
    """As a computed one has: of a token at a fraction of a cent per million."""
    read = store(root, call(1, cost_usd="0.000000000000000001"), call(1, cost_usd="0.000000000000000002"))
    assert read.costs().total.cost_usd == Decimal("0.000000000000000003")


def test_a_kind_of_calls_that_was_not_looked_up_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its price may be known: the reason is the limit."""
    price = ("price_set", {"model": "m", "output_usd_per_mtok": "1", "effective_from": "2026-01-01T00:00:00Z"})
    read = store(root, call(1, "m1"), call(1, "m1"), call(1, "m2"), price, run_id=None, session_id=None)
    assert read.costs().unpriced == []
    monkeypatch.setattr(costs, "KEYS_MAX", 1)
    (unpriced,) = read.costs().unpriced
    assert (unpriced.model, unpriced.calls) == ("m2", 1)
    assert unpriced.because == "no price is known, or was not looked up: over 1 kinds of calls"


def test_prices_that_are_set_are_found_by_the_beginning_of_a_name(root: Path) -> None:
    """The longest that fits, in whatever case; one for all names; and none for a longer name."""
    prices = [("price_set", {"model": model, "output_usd_per_mtok": usd, "effective_from": "2026-01-01T00:00:00Z"})
              for model, usd in (("", "1"), ("My-", "2"), ("my-model", "3"), ("my-model-2", "4"))]  # fmt: skip
    read = store(root, *prices, *(call(1_000_000, model) for model in ("MY-MODEL", "my-other", "other-model")))
    assert read.costs(by="model").total.cost_usd == 3 + 2 + 1


def test_today_so_far_is_not_what_a_fast_clock_dated_later(root: Path) -> None:
    """A call at noon; asked at 11:00, noon and 13:00."""
    read = store(root, call(1, cost_usd="5"))
    day = [read.costs(now=datetime(2026, 5, 1, hour, tzinfo=UTC)).today for hour in (11, 12, 13)]
    assert [(today.calls, today.cost_usd) for today in day] == [(0, Decimal(0)), (1, Decimal(5)), (1, Decimal(5))]


def test_what_is_no_duration_moves_no_call_and_no_run(root: Path) -> None:
    """Negative ones, and longer than 30 years; the end is all that is known then."""
    odd = (-86_400_000, 1_777_636_800_000, 10)
    read = store(
        root,
        *(("tool_call", {"tool_name": "t", "duration_ms": ms}) for ms in odd),
        *(("step", {"name": "s", "duration_ms": ms}) for ms in odd),
        ("run_finished", {"status": "ok", "duration_ms": odd[1]}),
    )
    assert {f"{row.start:%Y-%m-%d}": row.tool_calls for row in read.metrics()} == {"2026-05-01": 3}
    starts = rows(root, "SELECT started::VARCHAR FROM steps ORDER BY started")
    assert starts == [("2026-05-01 11:59:59.99",), ("2026-05-01 12:00:00",), ("2026-05-01 12:00:00",)]
    assert read.runs()[0].started is None


def test_an_end_that_a_clock_dates_before_its_beginning_is_an_end(root: Path) -> None:
    """And its duration is what it says; a run that begins again after its end is open."""
    for number, (run_id, event_type, at, payload) in enumerate(
        [
            ("back", "run_started", "12:00:00.5", {"name": "n"}),
            ("back", "run_finished", "12:00:00.3", {"duration_ms": 800}),
            ("unsaid", "run_started", "12:00:00.5", {"name": "n"}),
            ("unsaid", "run_finished", "12:00:00.3", {}),
            ("again", "run_started", "12:00:00.0", {"name": "n"}),
            ("again", "run_finished", "12:00:01.0", {}),
            ("again", "run_started", "12:00:02.0", {"name": "n"}),
        ]
    ):
        moment = f"2026-05-01T{at}00000Z"
        segment(root, line(number, event_type, timestamp=moment, payload=payload, run_id=run_id), event_type=event_type)
    index(root)
    found = {run.run_id: (run.status, run.duration_ms) for run in ReadStore(root).runs()}
    assert found == {"back": ("ok", 800), "unsaid": ("ok", 0), "again": ("abandoned", None)}
