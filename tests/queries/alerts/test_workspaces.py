"""Rules of a workspace read what a reader of that workspace reads, whatever others have under the same names."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format import builtin
from eventlog.importers.claude_code import SOURCE, ClaudeCode
from eventlog.importers.engine import importing
from eventlog.queries.store import ReadStore
from fixtures import transcripts
from tests.queries.alerts.support import add, checked, emit, rule, states

SCOPES: tuple[str | None, ...] = ("a", "b", None)


@pytest.mark.parametrize("bad", ["a", "b"])
def test_a_run_id_may_be_in_two_workspaces(root: Path, bad: str) -> None:
    """The run of one failed: its rule fires, and that of the other is well."""
    for seconds, workspace in ((-100, "a"), (-50, "b")):
        fields = {"run_id": "nightly-7", "workspace": workspace}
        status = "error" if workspace == bad else "ok"
        emit(root, (seconds - 10, builtin.RunStarted(name="nightly"), fields))
        emit(root, (seconds, builtin.RunFinished(status=status, duration_ms=10_000.0), fields))
    for workspace in ("a", "b"):
        add(root, rule(f"of {workspace}", "error_rate", "0.5", of="runs"), workspace=workspace)
        add(root, rule(f"slow {workspace}", "latency", "1", of="runs"), workspace=workspace)
    done = checked(root)
    outcomes = {each.name: (each.value, each.samples) for each in done.rules}
    assert outcomes == {f"of {workspace}": ("1" if workspace == bad else "0", 1) for workspace in ("a", "b")} | {
        f"slow {workspace}": ("10000", 1) for workspace in ("a", "b")
    }
    assert states(done)[f"of {bad}"] == "firing"
    assert list(states(done).values()).count("firing") == 3, "the slow ones, too"


def test_what_was_imported_into_two_workspaces_costs_each_of_them(root: Path) -> None:
    """The same messages: the rule of each reads what the cost report of each says, and one over all the sum of both."""
    for workspace in ("a", "b"):
        with importing(Config(root=str(root), strict=True), ClaudeCode(workspace=workspace)) as importer:
            for path in SOURCE.find([transcripts.FOLDER]):
                importer.run(path)
    year = {"window_s": 366 * 86400.0}
    for scope in SCOPES:
        add(root, rule(f"cost {scope}", "cost", "0.01", **year), workspace=scope)
    done = checked(root)
    expected = {}
    for scope in SCOPES:
        report = ReadStore(root, workspace=scope).costs(None)
        expected[f"cost {scope}"] = (report.total.cost_usd, report.total.calls - report.total.unpriced_calls)
    cost, calls = expected["cost a"]
    assert cost
    assert expected["cost b"] == (cost, calls)
    assert expected["cost None"] == (cost and 2 * cost, 2 * calls)
    assert {each.name: (Decimal(each.value or "0"), each.samples) for each in done.rules} == expected
    assert set(states(done).values()) == {"firing"}
