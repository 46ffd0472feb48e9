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
from tests.server.running import Running, serving

RULES = "/v1/alerts/rules"
STUCK = {"kind": "sql", "sql": "SELECT 1 FROM events WHERE event_type = 'stuck'", "severity": "critical"}


@pytest.fixture
def served(root: Path) -> Iterator[Running]:
    with serving(root) as started:
        yield started


def rules(root: Path) -> dict[tuple[str | None, str], RuleState]:
    Indexer(root).catch_up()
    return {(rule.workspace, rule.name): rule for rule in ReadStore(root).alerts.rules()}


def firings(root: Path) -> list[Firing]:
    Indexer(root).catch_up()
    return ReadStore(root).alerts.list()


def test_a_rule_lives_over_http_and_its_history_stays(served: Running) -> None:
    """Set, changed, fired by a check, acknowledged, snoozed, removed."""
    root = served.root
    made = served.request("PUT", f"{RULES}/spend", {"kind": "cost", "threshold": "5", "window_s": 3600})
    assert (made.status, made.json["changed"], made.json["condition"]) == (200, True, "cost over $5.00 in 1h")
    again = served.request("PUT", f"{RULES}/spend", {"kind": "cost", "threshold": 5})
    assert (again.json["changed"], again.json["rule_id"]) == (False, None)
    assert served.request("PUT", f"{RULES}/stuck", STUCK).status == 200
    assert served.request("POST", f"{RULES}/stuck/ack").code == "not_firing"

    served.request("POST", "/v1/events", {"event_type": "stuck"})
    assert [change.name for change in check(root).fired] == ["stuck"]
    seen = served.request("POST", f"{RULES}/stuck/ack", {"note": "Anna looks at it"})
    (firing,) = firings(root)
    assert (seen.status, seen.json["firing_id"], firing.acknowledged_note) == (
        200,
        firing.firing_id,
        "Anna looks at it",
    )

    snoozed = served.request("POST", f"{RULES}/stuck/snooze", {"for_s": 3600})
    until = datetime.fromisoformat(snoozed.json["snoozed_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert rules(root)[None, "stuck"].state == "snoozed"
    assert served.request("POST", f"{RULES}/stuck/snooze", {"until": "2020-01-01T00:00:00Z"}).status == 200
    assert rules(root)[None, "stuck"].state == "firing"

    assert served.request("DELETE", f"{RULES}/stuck").status == 204
    assert rules(root)[None, "stuck"].state == "removed"
    (firing,) = firings(root)
    assert (firing.state, firing.because) == ("resolved", "removed")
    assert served.request("DELETE", f"{RULES}/stuck").code == "not_found"


def test_nothing_is_evaluated_in_a_request(served: Running) -> None:
    """A rule that would fire at once does not, before a check."""
    served.request("POST", "/v1/events", {"event_type": "stuck"})
    assert served.request("PUT", f"{RULES}/stuck", STUCK).status == 200
    assert firings(served.root) == []
    assert len(check(served.root).fired) == 1


def test_a_key_of_a_workspace_has_rules_of_its_own(served: Running) -> None:
    """It neither sees nor changes those of others; a key of the whole root names the workspace."""
    team = served.known_key("admin", workspace="team")
    cost = {"kind": "cost", "threshold": 5}
    assert served.request("PUT", f"{RULES}/spend", cost, key=team).json["workspace"] == "team"
    assert served.request("PUT", f"{RULES}/spend?workspace=other", cost).json["workspace"] == "other"
    assert served.request("PUT", f"{RULES}/all", cost).json["workspace"] is None
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/snooze"), ("POST", "/ack")):
        assert (
            served.request(method, f"{RULES}/spend{path}?workspace=other", cost, key=team).code == "foreign_workspace"
        )
    refused = served.request("DELETE", f"{RULES}/all", key=team)
    assert (refused.status, refused.code) == (404, "not_found")
    assert "all" not in refused.json["detail"].split("there are: ")[1]
    assert served.request("DELETE", f"{RULES}/spend", key=team).status == 204
    states = {where: rule.state for where, rule in rules(served.root).items()}
    assert states == {(None, "all"): "ok", ("other", "spend"): "ok", ("team", "spend"): "removed"}


def test_a_tenant_may_deliver_only_where_the_operator_allows_it(served: Running) -> None:
    """A key of the whole root is the operator's."""
    team = served.known_key("admin", workspace="team")
    cost = {"kind": "cost", "threshold": 5, "channels": ["https://hooks.example.com/in"]}
    refused = served.request("PUT", f"{RULES}/spend", cost, key=team)
    assert (refused.status, refused.code) == (422, "invalid_rule")
    assert "alerts.toml does not name hooks.example.com:443" in refused.json["detail"]
    assert not rules(served.root)
    assert served.request("PUT", f"{RULES}/all", cost).status == 200
    assert allowed.read(served.root).hosts == ["hooks.example.com:443"]
    assert served.request("PUT", f"{RULES}/spend", cost, key=team).status == 200


REFUSED: list[tuple[str, str, bytes | dict[str, object] | None, int, str]] = [
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


def test_what_makes_no_sense_is_refused(served: Running) -> None:
    """And nothing is recorded."""
    for method, path, body, status, code in REFUSED:
        refused = served.request(method, f"{RULES}/{path}", body)
        assert (refused.status, refused.code) == (status, code), (path, body)
    assert not (served.root / "log/alert_rule_set").exists()


def test_only_admins_change_rules(served: Running) -> None:
    """Neither a key of another scope, nor nobody."""
    reader = served.known_key("read", "ingest")
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/snooze"), ("POST", "/ack")):
        assert served.request(method, f"{RULES}/spend{path}", {}, key=reader).code == "missing_scope"
        assert served.request(method, f"{RULES}/spend{path}", {}, key=None).status == 401


def test_a_change_that_would_wait_too_long_is_refused_for_now(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody checks alerts, say."""
    with hold_lock(served.root, wait_s=0):
        refused = served.request("PUT", f"{RULES}/spend", {"kind": "cost", "threshold": 5})
    assert (refused.status, refused.code) == (503, "alerts_busy")
    assert refused.headers["Retry-After"] == "1"
