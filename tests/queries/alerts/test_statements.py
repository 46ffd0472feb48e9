"""Every SQL statement of alerts binds against an empty index, for all rules and for those of one workspace."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import changes, evaluate, history, outbox, rules
from eventlog.queries.cost import costs
from tests.indexer.support import index
from tests.queries.alerts.support import NOW

MOMENT = NOW.replace(tzinfo=None)
CONDITIONS = [{"number": 0, "of": "", "agent": "a", "model": None, "since": "2026-03-01T11:00:00"}]
MEASURED: dict[str, Any] = {
    "conditions": json.dumps(CONDITIONS), "since": MOMENT - timedelta(hours=1), "now": MOMENT,
}  # fmt: skip
SETS_OF = [of for size in (1, 2, 3) for of in itertools.combinations(rules.MEASURED, size)]
STATEMENTS: dict[str, tuple[str, Any]] = {
    "standings": (rules.STANDINGS, {"horizon": MOMENT}),
    "firings": (history.FIRINGS, [10]),
    "deliveries": (history.DELIVERIES, [10]),
    "due": (outbox.DUE, [MOMENT]),
    "dead letters": (changes.DEAD_LETTERS, {"workspace": None, "name": "r"}),
    "cost": (evaluate.COST, MEASURED),
    "heartbeat": (evaluate.HEARTBEAT, {name: MEASURED[name] for name in ("conditions", "now")}),
    **{f"error_rate of {', '.join(of)}": (evaluate.error_rate(of), MEASURED) for of in SETS_OF},
    **{f"latency of {', '.join(of)}": (evaluate.latency(of, [50.0, 99.9]), MEASURED) for of in SETS_OF},
}


@pytest.mark.parametrize("workspace", [None, "w"])
def test_every_statement_binds(root: Path, workspace: str | None) -> None:
    """EXPLAIN resolves each name and type; nothing is read."""
    index(root)
    with IndexReader(root, workspace=workspace).trusted(fenced=False) as connection:
        costs.provide(connection)
        for name, (statement, parameters) in STATEMENTS.items():
            (plan,) = connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
            assert plan[0] == "physical_plan", name
