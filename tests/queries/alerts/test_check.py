"""The whole way of an alert: from events to a firing in the log, once, and to its end."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog.errors import IndexFailed, QueryFailed, WriteFailed
from eventlog.format import builtin
from eventlog.format.alerts import AlertAcknowledged, AlertRuleSet
from eventlog.indexer.index import index_file
from eventlog.indexer.replay import replay
from eventlog.queries.alerts import changes
from eventlog.queries.alerts.check import check
from eventlog.queries.store import ReadStore
from tests.conftest import PROJECT, lines_of
from tests.indexer.support import digest_of, index
from tests.queries.alerts.support import NOW, Channel, add, at, checked, emit, rule, states


def call(cost: str, **fields: Any) -> builtin.LlmCall:
    return builtin.LlmCall(request_model="m", cost_usd=Decimal(cost), **fields)


def payloads(root: Path, event_type: str) -> list[dict[str, Any]]:
    return [json.loads(line)["payload"] for line in lines_of(root, event_type)]


def history(root: Path) -> list[tuple[str, str, datetime, datetime | None, str | None]]:
    """Firings as the store tells of them, the oldest first."""
    firings = reversed(ReadStore(root).alerts())
    return [(firing.name, firing.state, firing.fired, firing.resolved, firing.because) for firing in firings]


def test_a_rule_fires_once_and_is_resolved(root: Path) -> None:
    """While the cost of the last hour is over the threshold; then it is over, and fires again when it is again."""
    add(root, rule("spend", "cost", "5", severity="critical"))
    emit(root, (-60, call("5.000000000001"), {}))
    done = checked(root)
    assert states(done) == {"spend": "firing"}
    assert not done.is_quiet
    assert [(each.name, each.severity, each.summary) for each in done.fired] == [
        ("spend", "critical", "spend: $5.00; cost over $5.00 in 1h")
    ]
    again = checked(root, 60)
    assert (states(again), again.fired, again.resolved) == ({"spend": "firing"}, [], [])
    over = checked(root, 3600)
    assert states(over) == {"spend": "ok"}
    assert over.is_quiet
    assert [(each.name, each.because, each.firing_id) for each in over.resolved] == [
        ("spend", "cleared", done.fired[0].firing_id)
    ]
    emit(root, (4000, call("6"), {}))
    assert len(checked(root, 4001).fired) == 1
    assert history(root) == [
        ("spend", "resolved", at(0), at(3600), "cleared"),
        ("spend", "open", at(4001), None, None),
    ]
    first = ReadStore(root).alerts()[-1]
    assert (first.value, first.threshold, first.samples, first.kind) == ("5.000000000001", "5", 1, "cost")
    (fired, _) = payloads(root, "alert_fired")
    assert fired == {
        "name": "spend",
        "rule_id": ReadStore(root).alert_rules()[0].rule_id,
        "kind": "cost",
        "severity": "critical",
        "summary": "spend: $5.00; cost over $5.00 in 1h",
        "value": "5.000000000001",
        "threshold": "5",
        "samples": 1,
        "window_s": 3600.0,
    }


def test_late_events_count_when_they_come(root: Path) -> None:
    """What happened within the window and was written after the last check fires the next one."""
    add(root, rule("spend", "cost", "5"))
    emit(root, (-60, call("4"), {}))
    assert checked(root).fired == []
    emit(root, (-1800, call("2"), {}))
    assert len(checked(root, 1).fired) == 1


def test_a_cooldown_keeps_a_rule_from_firing_again(root: Path) -> None:
    """For so long after its end."""
    add(root, rule("spend", "cost", "1", window_s=60.0, cooldown_s=300.0))
    for seconds, cost in ((0, "2"), (100, None), (200, "2"), (399, "2"), (400, "2")):
        if cost:
            emit(root, (seconds - 1, call(cost), {}))
        done = checked(root, seconds)
        assert bool(done.fired) == (seconds in (0, 400))
        assert states(done)["spend"] == {0: "firing", 100: "ok", 200: "cooling", 399: "cooling", 400: "firing"}[seconds]


def test_a_snoozed_rule_is_evaluated_and_quiet(root: Path, channel: Channel) -> None:
    """It neither fires nor delivers; what is over is resolved; then it fires."""
    add(root, rule("spend", "cost", "1", window_s=60.0, channels=[channel.url]))
    emit(root, (-1, call("2"), {}))
    changes.snooze(root, "spend", at(100), now=at(-1))
    done = checked(root)
    assert (states(done), done.fired, channel.received) == ({"spend": "snoozed"}, [], [])
    assert done.rules[0].value == "2"
    emit(root, (99, call("2"), {}))
    assert len(checked(root, 100).fired) == len(channel.received) == 1
    changes.snooze(root, "spend", at(500), now=at(101))
    assert [each.because for each in checked(root, 300).resolved] == ["cleared"]
    emit(root, (399, call("2"), {}))
    changes.snooze(root, "spend", at(390), now=at(390))
    assert len(checked(root, 400).fired) == 1
    assert len(channel.received) == 2


def test_a_delivery_that_is_due_waits_for_the_end_of_a_snooze(root: Path, channel: Channel) -> None:
    """The firing was before it."""
    channel.answers = [500]
    add(root, rule("spend", "cost", "1", channels=[channel.url]))
    emit(root, (-1, call("2"), {}))
    assert [each.ok for each in checked(root).deliveries] == [False]
    changes.snooze(root, "spend", at(100), now=at(1))
    assert checked(root, 60).deliveries == []
    assert [each.ok for each in checked(root, 100).deliveries] == [True]


def test_a_firing_is_acknowledged_and_all_else_goes_on(root: Path, channel: Channel) -> None:
    """The first time counts, and the last note; the next firing is one that nobody has seen."""
    add(root, rule("spend", "cost", "1", window_s=60.0, channels=[channel.url]))
    assert changes.acknowledge(root, "spend", now=at(-2)) is None
    emit(root, (-1, call("2"), {}))
    checked(root)
    (before,) = ReadStore(root).alerts.list()
    assert (before.acknowledged, before.acknowledged_note) == (None, None)
    assert changes.acknowledge(root, "spend", now=at(1), note="looking") == before.firing_id
    assert changes.acknowledge(root, "spend", now=at(2), note="found it") == before.firing_id
    (seen,) = ReadStore(root).alerts.list()
    assert (seen.acknowledged, seen.acknowledged_note, seen.state) == (at(1), "found it", "open")
    assert [each.acknowledged for each in ReadStore(root).alerts.rules()] == [at(1)]
    assert states(checked(root, 30)) == {"spend": "firing"}
    assert [each.because for each in checked(root, 100).resolved] == ["cleared"]
    emit(root, (119, call("2"), {}))
    assert len(checked(root, 120).fired) == 1
    assert [each.acknowledged for each in ReadStore(root).alerts.list()] == [None, at(1)]
    assert [each.acknowledged for each in ReadStore(root).alerts.rules()] == [None]
    with pytest.raises(QueryFailed, match="there is no rule 'other'; there are: spend"):
        changes.acknowledge(root, "other")


def test_nobody_acknowledges_the_firings_of_another_workspace(root: Path) -> None:
    """Not even by their ids."""
    add(root, rule("spend", "cost", "1"), workspace="theirs")
    emit(root, (-1, call("2"), {"workspace": "theirs"}))
    checked(root)
    (firing,) = ReadStore(root).alerts.list()
    emit(root, (1, AlertAcknowledged(name="spend", firing_id=firing.firing_id), {"workspace": "mine"}))
    index(root)
    assert [each.acknowledged for each in ReadStore(root).alerts.list()] == [None]


def test_a_changed_rule_begins_anew(root: Path) -> None:
    """Its firing is over, because it was changed; the new one fires by itself, cooldown or not."""
    root.mkdir()
    made = changes.add(root, rule("spend", "cost", "1", cooldown_s=9999.0), now=at(-100))
    assert made is not None
    assert changes.add(root, rule("spend", "cost", "1", cooldown_s=9999.0), now=at(-99)) is None
    emit(root, (-1, call("2"), {}))
    checked(root)
    changes.add(root, rule("spend", "cost", "1.5", cooldown_s=9999.0), now=at(10))
    assert history(root) == [("spend", "resolved", at(0), at(10), "changed")]
    checked(root, 20)
    changes.add(root, rule("spend", "cost", "9"), now=at(30))
    done = checked(root, 40)
    assert states(done) == {"spend": "ok"}
    assert history(root) == [
        ("spend", "resolved", at(0), at(10), "changed"),
        ("spend", "resolved", at(20), at(30), "changed"),
    ]


def test_the_history_of_a_removed_rule_stays(root: Path, channel: Channel) -> None:
    """Its firings, what they were about, and what it was; it is evaluated no more."""
    root.mkdir()
    changes.add(root, rule("spend", "cost", "1", note="ask Ada", channels=[channel.url]), now=at(-100))
    emit(root, (-1, call("2"), {}))
    checked(root)
    changes.remove(root, "spend", now=at(5))
    assert checked(root, 10).rules == []
    assert history(root) == [("spend", "resolved", at(0), at(5), "removed")]
    (firing,) = ReadStore(root).alerts()
    assert (firing.summary, firing.value, len(firing.delivered)) == (
        "spend: $2.00; cost over $1.00 in 1h",
        "2",
        1,
    )
    (listed,) = ReadStore(root).alert_rules()
    assert (listed.state, listed.removed, listed.note, listed.condition) == (
        "removed", at(5), "ask Ada", "cost over $1.00 in 1h",
    )  # fmt: skip
    with pytest.raises(QueryFailed, match="there is no rule 'spend'; there is none"):
        changes.remove(root, "spend")
    changes.add(root, rule("spend", "cost", "1"), now=at(20))
    assert len(checked(root, 30).fired) == 1
    assert [each.state for each in ReadStore(root).alert_rules()] == ["firing"]


def test_rules_that_were_changed_by_events_alone_are_settled_by_the_next_check(root: Path) -> None:
    """Somebody emitted `alert_rule_removed`, or `rm` was killed half way."""
    from eventlog.format.alerts import AlertRuleRemoved

    add(root, rule("a", "cost", "1"), rule("b", "cost", "1"))
    emit(root, (-1, call("2"), {}))
    checked(root)
    emit(root, (5, AlertRuleRemoved(name="a"), {}), (5, rule("b", "cost", "1.1"), {}))
    done = checked(root, 10)
    assert [(each.name, each.because) for each in done.resolved] == [("a", "removed"), ("b", "changed")]
    assert [each.name for each in done.fired] == ["b"]


def test_a_snooze_ends_with_its_rule(root: Path) -> None:
    """One that is removed and set again is not quiet; one that is changed is."""
    root.mkdir()
    changes.add(root, rule("r", "cost", "1"), now=at(-9))
    changes.snooze(root, "r", at(999), now=at(-8))
    changes.add(root, rule("r", "cost", "1.5"), now=at(-7))
    emit(root, (-1, call("2"), {}))
    assert states(checked(root)) == {"r": "snoozed"}
    changes.remove(root, "r", now=at(1))
    changes.add(root, rule("r", "cost", "1"), now=at(2))
    assert states(checked(root, 3)) == {"r": "firing"}


def test_a_change_comes_after_the_one_before_even_where_the_clock_does_not(root: Path) -> None:
    """A rule that was set in the future can be removed now."""
    root.mkdir()
    changes.add(root, rule("r", "cost", "1"), now=at(1000))
    changes.remove(root, "r", now=at(0))
    assert [each.state for each in ReadStore(root).alert_rules()] == ["removed"]


def test_rules_of_workspaces_are_apart(root: Path) -> None:
    """One name in two workspaces is two rules, each with its own firings; SQL of a workspace sees no other."""
    for workspace in ("w", "v"):
        add(root, rule("r", "cost", "1"), rule("s", "sql", sql="SELECT workspace FROM llm_calls"), workspace=workspace)
    emit(root, (-1, call("2"), {"workspace": "w"}))
    done = checked(root)
    assert {(each.workspace, each.name, each.state) for each in done.rules} == {
        ("w", "r", "firing"), ("w", "s", "firing"), ("v", "r", "ok"), ("v", "s", "ok"),
    }  # fmt: skip
    assert {each.name for each in ReadStore(root, workspace="w").alerts()} == {"r", "s"}
    assert ReadStore(root, workspace="v").alerts() == []
    assert {each.state for each in ReadStore(root, workspace="v").alert_rules()} == {"ok"}
    changes.remove(root, "r", workspace="v", now=at(1))
    assert [(each.workspace, each.name) for each in checked(root, 2).rules] == [("v", "s"), ("w", "r"), ("w", "s")]
    assert [each.state for each in ReadStore(root, workspace="w").alerts()] == ["open", "open"]


def test_one_workspace_cannot_end_another_ones_alert(root: Path) -> None:
    """Nor say that it was delivered."""
    from eventlog.format.alerts import AlertDelivered, AlertResolved

    add(root, rule("r", "cost", "1", channels=["env:NOWHERE"]), workspace="w")
    emit(root, (-1, call("2"), {"workspace": "w"}))
    (fired,) = checked(root, environ={}).fired
    emit(
        root,
        (1, AlertResolved(name="r", firing_id=fired.firing_id, reason="cleared"), {"workspace": "v"}),
        (1, AlertDelivered(name="r", firing_id=fired.firing_id, channel="env:NOWHERE", attempt=1), {"workspace": "v"}),
    )
    index(root)
    (firing,) = ReadStore(root).alerts()
    assert (firing.state, firing.pending, firing.delivered) == ("open", ["env:NOWHERE"], [])


def test_a_rule_that_somebody_wrote_by_hand_and_wrong_fails_alone(root: Path) -> None:
    """It is said what is wrong with it; the others are evaluated."""
    obs.configure(root=str(root), strict=True, operator=True)
    obs.emit("alert_rule_set", {"name": "odd", "kind": "moon"}, timestamp=at(-9))
    with obs.context(run_id="r", workspace=None):
        obs.emit(AlertRuleSet(name="well", kind="cost", threshold=Decimal(1)), timestamp=at(-9))
    obs.shutdown()
    emit(root, (-1, call("2"), {}))
    done = checked(root)
    assert states(done) == {"odd": "failing", "well": "firing"}
    assert done.rules[0].error == (
        "'moon' is not a kind of rule; use one of cost, budget, error_rate, latency, heartbeat, sql"
    )


def test_events_of_alerts_have_nothing_of_the_run_in_which_somebody_checks(root: Path) -> None:
    """Neither its id nor its workspace; they are those of the rule."""
    add(root, rule("r", "cost", "1"), workspace="w")
    emit(root, (-1, call("2"), {"workspace": "w"}))
    with obs.context(run_id="mine", workspace="mine", agent="me"):
        checked(root)
    (line,) = map(json.loads, lines_of(root, "alert_fired"))
    assert line["workspace"] == "w"
    assert not {"run_id", "agent"} & line.keys()


def test_a_replay_gives_the_same_alerts_and_delivers_nothing_again(root: Path, channel: Channel) -> None:
    """Rules, firings, snoozes, deliveries and dead letters, row for row."""
    add(root, rule("r", "cost", "1", channels=[channel.url, "env:NOWHERE"]), rule("q", "heartbeat"))
    emit(root, (-1, call("2"), {}))
    for seconds in (0, 31, 100, 300, 600, 2000, 6000, 9000, 20000):
        checked(root, seconds, environ={})
    changes.snooze(root, "q", at(99999), now=at(20001))
    tables = ("alert_rules", "alerts", "alert_deliveries", "alert_dead_letters")

    def everything() -> list[Any]:
        return [ReadStore(root).sql(f"SELECT * FROM {table} ORDER BY ALL").rows for table in tables]

    before, digest_before = everything(), digest_of(root)
    assert [len(rows) for rows in before] == [2, 2, 2, 1]
    index_file.index_path(root).unlink()
    index(root)
    assert everything() == before
    replay(root)
    assert everything() == before
    assert digest_of(root) == digest_before
    assert len(channel.received) == 1
    done = checked(root, 20002, environ={})
    assert (done.fired, done.resolved, done.deliveries) == ([], [], [])
    assert len(channel.received) == 1


def test_the_program_of_the_page_on_alerts_runs(root: Path) -> None:
    """And fires."""
    obs.configure(root=str(root))
    obs.emit(call("6"))
    page = (PROJECT / "docs/alerts.md").read_text()
    program = re.search(r"<!-- test: python -->\n```python\n(.*?)```", page, re.DOTALL)
    assert program
    names: dict[str, Any] = {"root": root}
    exec(program[1], names)
    assert [each.name for each in names["done"].fired] == ["spend"]
    assert [each.state for each in names["firings"]] == ["open"]


def test_a_check_makes_the_index_that_it_needs(root: Path) -> None:
    """Without rules there is nothing to say; without a root to write to it says so."""
    emit(root, (-1, call("2"), {}))
    done = check(root, now=NOW)
    assert (done.rules, done.is_quiet, done.at) == ([], True, NOW)
    assert ReadStore(root).alerts() == []


def test_the_store_needs_an_index(root: Path) -> None:
    """As for any question."""
    with pytest.raises(IndexFailed):
        ReadStore(root).alerts()


def test_costs_are_those_of_the_price_list(root: Path) -> None:
    """Calls that report no cost are priced by the prices of their time, and by those that were set."""
    price = builtin.PriceSet(model="mine", input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(10))
    emit(
        root,
        (-9999, price, {}),
        (-9, builtin.LlmCall(request_model="mine-1", uncached_input_tokens=1000, output_tokens=300), {}),
    )
    add(root, rule("r", "cost", "0.004"), rule("s", "sql", sql="FROM llm_costs WHERE cost_usd = 0.005"))
    done = checked(root)
    assert states(done) == {"r": "firing", "s": "firing"}
    assert done.rules[0].value == "0.005"
    assert done.at.tzinfo is UTC


def test_the_first_rule_makes_the_root(tmp_path: Path) -> None:
    """As an event does, for its owner alone; where something is in the way, it says so."""
    folder = tmp_path / "some/where"
    made = changes.add(folder, rule("spend", "cost", "5"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [json.loads(line)["event_id"] for line in lines_of(folder, "alert_rule_set")] == [made]
    assert states(check(folder)) == {"spend": "ok"}
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match=r"file.*: File exists; the root cannot be created"):
        changes.add(tmp_path / "file", rule("spend", "cost", "5"))
