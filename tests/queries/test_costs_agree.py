"""Money is the same figure wherever it is asked for: one log, every face, value by value."""

from __future__ import annotations

import random
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, get_args

import pytest

from eventlog.queries.cost import costs, report
from tests.queries.calls import TOKENS, call, price, store, utc

MODELS = ["claude-opus-4-8", "claude-sonnet-4-5", "us.anthropic.claude-opus-5", "own", "nobody", None]


def log(seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Calls of every kind, each in a session and a run, in two workspaces.

    Computed, reported (up to the limit, and to 18 decimals), of set prices, unpriced, failed.
    """
    chance = random.Random(seed)
    events = [price("own", "0.000000000001", "999999.999999999999"), price("own", "3", "4", workspace="w")]
    for n in range(120):
        workspace = chance.choice(["w", None])
        run_id = f"r{chance.randrange(4)}-{workspace}"
        events.append(
            call(
                f"2026-11-{chance.randrange(1, 4):02}T{chance.randrange(24):02}:00:00Z",
                chance.choice(MODELS),
                *(chance.choice([0, 7, 250_000]) for _ in TOKENS),
                provider_name=None, workspace=workspace, agent=chance.choice(["a", None]), run_id=run_id,
                session_id=f"s{chance.randrange(3)}-{workspace}", error_type=chance.choice(["Overloaded", None, None]),
                cost_usd=chance.choice([None, None, None, "9999999999", "0.000000000000000001"]),
            )
        )  # fmt: skip
        if n < 8:
            events.append(("run_started", {"timestamp": "2026-10-31T00:00:00Z", "name": "n", "workspace": workspace,
                                           "run_id": run_id}))  # fmt: skip
    return events


def total(amounts: list[Decimal | None]) -> Decimal:
    with localcontext(prec=80):
        return sum((amount for amount in amounts if amount is not None), Decimal(0))


@pytest.mark.parametrize("seed", [1, 2])
def test_every_face_tells_the_same_money(root: Path, seed: int) -> None:
    """`cost` in every grouping, `metrics`, `show` of all runs and of all sessions, `sessions`, and SQL."""
    read = store(root, *log(seed))
    ((money, calls, unpriced, tokens),) = read.sql(
        "SELECT sum(cost_usd), count(*), count(*) FILTER (cost_usd IS NULL), sum(output_tokens) FROM llm_costs"
    ).rows
    expected = (money, calls, unpriced, tokens)
    for by in (None, *get_args(report.By)):
        for period in (None, *report.PERIODS):
            rows = read.cost.report(period, by=by).rows
            assert of_rows(rows, "calls") == expected, (by, period)
    for bucket in ("day", "hour"):
        for groups in ((), ("model",), ("agent", "workspace", "model")):
            assert of_rows(read.metrics(bucket, groups), "llm_calls") == expected  # type: ignore[arg-type]
    sessions = read.sessions.list()
    assert (sum(each.llm_calls for each in sessions), sum(each.output_tokens for each in sessions)) == (calls, tokens)
    for column, get in (("session_id", read.sessions.get), ("run_id", read.runs.get)):
        trees = [get(each) for (each,) in read.sql(f"SELECT DISTINCT {column} FROM llm_costs").rows]
        assert (total([tree.cost_usd for tree in trees]), sum(tree.unpriced for tree in trees)) == (money, unpriced)


def test_a_session_is_its_workspaces(root: Path) -> None:
    """Two workspaces may have a session of one id, or a run: they are two rows, and each says whose it is."""
    where = [{"session_id": "s", "run_id": "r", "workspace": workspace} for workspace in ("v", "w", "w")]
    read = store(root, *(call("2026-11-01", "claude-opus-4-8", 1_000_000, **each) for each in where))
    for by in ("session", "run"):
        rows = [(row.group, row.group_workspace, row.cost_usd) for row in read.cost.by(by)]
        assert rows == [(where[0][f"{by}_id"], "w", Decimal(10)), (where[0][f"{by}_id"], "v", Decimal(5))]
    again = read.cost.recomputed(utc("2026-11-02"), by="session")
    assert [(row.group_workspace, row.new_usd) for row in again.rows] == [("w", Decimal(10)), ("v", Decimal(5))]


def of_rows(rows: list[Any], calls: str) -> tuple[Decimal, int, int, int]:
    return (
        total([each.cost_usd for each in rows]),
        sum(getattr(each, calls) for each in rows),
        sum(each.unpriced_calls for each in rows),
        sum(each.output_tokens for each in rows),
    )


def test_sums_of_recorded_calls_read_no_payloads(root: Path) -> None:
    """Only a call that may have been cut short needs its stop reason, and recorded calls do not say how long they were.

    Payloads take ten times longer to read than all that costs depend on.
    """
    asked = store(root, call("2026-11-01", "claude-opus-4-5", 5), call("2026-11-02", "nobody-knows", 5))
    with asked._reader.trusted() as connection:
        costs.provide(connection)
        sums = "SELECT sum(cost_usd), count(*) FILTER (cut_short), count(*) FILTER (cost_usd IS NULL) FROM llm_costs"
        ((_, plan),) = connection.execute(f"EXPLAIN {sums}").fetchall()
        ((_, with_payloads),) = connection.execute("EXPLAIN SELECT max(stop_reason) FROM llm_calls").fetchall()
    assert "payload" in with_payloads
    assert "payload" not in plan
