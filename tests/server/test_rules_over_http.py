"""Alert rules over HTTP: set, changed, snoozed, acknowledged and removed; a check evaluates them, not a request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.queries.alerts import allowed
from eventlog.queries.alerts.check import check
from eventlog.queries.alerts.history import Firing, RuleState
from eventlog.queries.alerts.journal import hold_lock
from eventlog.queries.store import ReadStore
from tests.server.support_serving import Served, serving

RULES = "/v1/alerts/rules"
STUCK = {"kind": "sql", "sql": "SELECT 1 FROM events WHERE event_type = 'stuck'", "severity": "critical"}


@pytest.fixture
def served(root: Path) -> Iterator[Served]:
    with serving(root) as started:
        yield started


def rules(root: Path) -> dict[tuple[str | None, str], RuleState]:
    Indexer(root).catch_up()
    return {(rule.workspace, rule.name): rule for rule in ReadStore(root).alerts.rules()}


def firings(root: Path) -> list[Firing]:
    Indexer(root).catch_up()
    return ReadStore(root).alerts.list()


def test_a_rule_lives_over_http_and_its_history_stays(served: Served) -> None:
    """Set, changed, fired by a check, acknowledged, snoozed, removed."""
    admin, root = served.key("admin"), served.root
    made = served.ask("PUT", f"{RULES}/spend", admin, {"kind": "cost", "threshold": "5", "window_s": 3600})
    assert (made.status, made.body["changed"], made.body["condition"]) == (200, True, "cost over $5.00 in 1h")
    again = served.ask("PUT", f"{RULES}/spend", admin, {"kind": "cost", "threshold": 5})
    assert (again.body["changed"], again.body["rule_id"]) == (False, None)
    assert served.ask("PUT", f"{RULES}/stuck", admin, STUCK).status == 200
    assert served.ask("POST", f"{RULES}/stuck/ack", admin).code == "not_firing"

    served.ask("POST", "/v1/events", admin, {"event_type": "stuck"})
    assert [change.name for change in check(root).fired] == ["stuck"]
    seen = served.ask("POST", f"{RULES}/stuck/ack", admin, {"note": "Anna looks at it"})
    (firing,) = firings(root)
    assert (seen.status, seen.body["firing_id"], firing.acknowledged_note) == (
        200,
        firing.firing_id,
        "Anna looks at it",
    )

    snoozed = served.ask("POST", f"{RULES}/stuck/snooze", admin, {"for_s": 3600})
    until = datetime.fromisoformat(snoozed.body["snoozed_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert rules(root)[None, "stuck"].state == "snoozed"
    assert served.ask("POST", f"{RULES}/stuck/snooze", admin, {"until": "2020-01-01T00:00:00Z"}).status == 200
    assert rules(root)[None, "stuck"].state == "firing"

    assert served.ask("DELETE", f"{RULES}/stuck", admin).status == 204
    assert rules(root)[None, "stuck"].state == "removed"
    (firing,) = firings(root)
    assert (firing.state, firing.because) == ("resolved", "removed")
    assert served.ask("DELETE", f"{RULES}/stuck", admin).code == "not_found"


def test_nothing_is_evaluated_in_a_request(served: Served) -> None:
    """A rule that would fire at once does not, before a check."""
    admin = served.key("admin")
    served.ask("POST", "/v1/events", admin, {"event_type": "stuck"})
    assert served.ask("PUT", f"{RULES}/stuck", admin, STUCK).status == 200
    assert firings(served.root) == []
    assert len(check(served.root).fired) == 1


def test_a_key_of_a_workspace_has_rules_of_its_own(served: Served) -> None:
    """It neither sees nor changes those of others; a key of the whole root names the workspace."""
    admin, team = served.key("admin"), served.key("admin", workspace="team")
    cost = {"kind": "cost", "threshold": 5}
    assert served.ask("PUT", f"{RULES}/spend", team, cost).body["workspace"] == "team"
    assert served.ask("PUT", f"{RULES}/spend?workspace=other", admin, cost).body["workspace"] == "other"
    assert served.ask("PUT", f"{RULES}/all", admin, cost).body["workspace"] is None
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/snooze"), ("POST", "/ack")):
        assert served.ask(method, f"{RULES}/spend{path}?workspace=other", team, cost).code == "foreign_workspace"
    refused = served.ask("DELETE", f"{RULES}/all", team)
    assert (refused.status, refused.code) == (404, "not_found")
    assert "all" not in refused.body["detail"].split("there are: ")[1]
    assert served.ask("DELETE", f"{RULES}/spend", team).status == 204
    states = {where: rule.state for where, rule in rules(served.root).items()}
    assert states == {(None, "all"): "ok", ("other", "spend"): "ok", ("team", "spend"): "removed"}


def test_a_tenant_may_deliver_only_where_the_operator_allows_it(served: Served) -> None:
    """A key of the whole root is the operator's."""
    admin, team = served.key("admin"), served.key("admin", workspace="team")
    cost = {"kind": "cost", "threshold": 5, "channels": ["https://hooks.example.com/in"]}
    refused = served.ask("PUT", f"{RULES}/spend", team, cost)
    assert (refused.status, refused.code) == (422, "invalid_rule")
    assert "alerts.toml does not name hooks.example.com:443" in refused.body["detail"]
    assert not rules(served.root)
    assert served.ask("PUT", f"{RULES}/all", admin, cost).status == 200
    assert allowed.read(served.root).hosts == ["hooks.example.com:443"]
    assert served.ask("PUT", f"{RULES}/spend", team, cost).status == 200


REFUSED: list[tuple[str, str, object, int, str]] = [
    ("PUT", "spend", {"kind": "weather"}, 422, "invalid_rule"),
    ("PUT", "spend", {"kind": "cost"}, 422, "invalid_rule"),
    ("PUT", "%20spend", {"kind": "cost", "threshold": 1}, 422, "invalid_rule"),
    ("PUT", "spend", {"kind": "cost", "threshold": 1, "channels": ["file:///etc/passwd"]}, 422, "invalid_rule"),
    ("PUT", "spend", {"kind": "cost", "threshold": 1, "name": "x"}, 422, "invalid_body"),
    ("PUT", "spend", {"kind": "sql", "sql": "x" * 20_001}, 422, "invalid_body"),
    ("PUT", "spend", {}, 422, "invalid_body"),
    ("PUT", "spend", b"{", 400, "not_json"),
    ("POST", "spend/snooze", {}, 422, "invalid_body"),
    ("POST", "spend/snooze", {"for_s": 1, "until": "2030-01-01T00:00:00Z"}, 422, "invalid_body"),
    ("POST", "spend/snooze", {"for_s": -1}, 422, "invalid_body"),
    ("POST", "spend/snooze", {"for_s": 60}, 404, "not_found"),
    ("GET", "spend", None, 405, "wrong_method"),
]  # fmt: skip


def test_what_makes_no_sense_is_refused(served: Served) -> None:
    """And nothing is recorded."""
    admin = served.key("admin")
    for method, path, body, status, code in REFUSED:
        refused = served.ask(method, f"{RULES}/{path}", admin, body)
        assert (refused.status, refused.code) == (status, code), (path, body)
    assert not (served.root / "log/alert_rule_set").exists()


def test_only_admins_change_rules(served: Served) -> None:
    """Neither a key of another scope, nor nobody."""
    reader = served.key("read", "ingest")
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/snooze"), ("POST", "/ack")):
        assert served.ask(method, f"{RULES}/spend{path}", reader, {}).code == "missing_scope"
        assert served.ask(method, f"{RULES}/spend{path}", None, {}).status == 401


def test_a_change_that_would_wait_too_long_is_refused_for_now(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody checks alerts, say."""
    admin = served.key("admin")
    with hold_lock(served.root, wait_s=0):
        refused = served.ask("PUT", f"{RULES}/spend", admin, {"kind": "cost", "threshold": 5})
    assert (refused.status, refused.code) == (503, "alerts_busy")
    assert refused.headers["Retry-After"] == "1"
