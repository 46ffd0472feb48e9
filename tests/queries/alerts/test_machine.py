"""When rules fire: as a table, and against a model over random histories."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal

import duckdb
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eventlog.format import ids, schemas
from eventlog.format.alerts import AlertRuleRemoved, AlertRuleSet, AlertSnoozed
from eventlog.indexer.views import projections
from eventlog.queries.alerts import machine, rules
from eventlog.queries.alerts.decisions import Decisions
from eventlog.queries.alerts.journal import Journal
from eventlog.queries.alerts.machine import Action, Open, Reading, Standing, State
from tests.queries.alerts.support import NOW, at

FIRING = Open("f", "r", at(-100))
OTHER = Open("f", "before", at(-100))


def standing(**fields: object) -> Standing:
    return msgspec.structs.replace(Standing(rule_id="r", cooldown_s=60), **fields)


DECISIONS: dict[str, tuple[Standing, bool | None, Action, State]] = {
    "ok and false": (standing(), False, Action.NOTHING, State.OK),
    "ok and true": (standing(), True, Action.FIRE, State.COOLING),
    "ok and unknown": (standing(), None, Action.NOTHING, State.FAILING),
    "open and true": (standing(open=FIRING), True, Action.NOTHING, State.FIRING),
    "open and false": (standing(open=FIRING), False, Action.CLEARED, State.FIRING),
    "open and unknown": (standing(open=FIRING), None, Action.NOTHING, State.FAILING),
    "open, snoozed and true": (standing(open=FIRING, snoozed_until=at(1)), True, Action.NOTHING, State.SNOOZED),
    "open, snoozed and false": (standing(open=FIRING, snoozed_until=at(1)), False, Action.CLEARED, State.SNOOZED),
    "snoozed and true": (standing(snoozed_until=at(1)), True, Action.NOTHING, State.SNOOZED),
    "no more snoozed and true": (standing(snoozed_until=at(0)), True, Action.FIRE, State.COOLING),
    "cooling after the end": (standing(last_resolved=at(-59)), True, Action.NOTHING, State.COOLING),
    "cooled down": (standing(last_resolved=at(-60)), True, Action.FIRE, State.COOLING),
    "cooling after the firing": (standing(last_fired=at(-59), last_resolved=at(-99)), True, Action.NOTHING,
                                 State.COOLING),
    "removed and true": (standing(removed=True), True, Action.NOTHING, State.REMOVED),
}  # fmt: skip


@pytest.mark.parametrize(("how", "holds", "action", "state"), DECISIONS.values(), ids=DECISIONS)
def test_what_a_reading_makes_of_a_rule(how: Standing, holds: bool | None, action: Action, state: State) -> None:
    """As the drawing in the module says; the state is that before the action."""
    reading = Reading(holds=holds)
    assert machine.decide(how, reading, NOW) is action
    assert machine.state(how, reading, NOW) is state


@pytest.mark.parametrize(
    ("how", "action"),
    [
        (standing(), Action.NOTHING),
        (standing(open=FIRING), Action.NOTHING),
        (standing(open=OTHER), Action.CHANGED),
        (standing(open=FIRING, removed=True), Action.REMOVED),
        (standing(open=OTHER, removed=True), Action.REMOVED),
        (standing(removed=True), Action.NOTHING),
    ],
)
def test_a_firing_ends_with_its_rule(how: Standing, action: Action) -> None:
    """Changed or removed; and the rule that took its place is not kept from firing by that."""
    assert machine.settle(how) is action
    after = machine.after(how, action, NOW, "")
    assert machine.settle(after) is Action.NOTHING
    if action is Action.CHANGED:
        assert machine.decide(after, Reading(holds=True), NOW) is Action.FIRE


class Ledger(Journal):
    """Writes events straight into the rows of an index in memory."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        projections.create(self.connection)
        self.written = 0
        self.count = 0

    def write(self, event: msgspec.Struct, *, workspace: str | None, at: datetime, event_id: str | None = None) -> str:
        self.count += 1
        made = event_id or ids.derived_id(self.count * 1000, str(self.count))
        self.connection.execute(
            "INSERT INTO event_rows (event_id, event_type, timestamp, workspace, payload, schema_version, audit_level, "
            "segment, line_offset) "
            "SELECT $1, $2, $3::TIMESTAMP, $4, $5, 1, 'turn', $2, $6 "
            "WHERE $1 NOT IN (SELECT event_id::VARCHAR FROM event_rows)",
            [made, schemas.of_struct(type(event)).name, at.isoformat()[:-6], workspace,
             msgspec.json.encode(event).decode(), self.count],
        )  # fmt: skip
        return made


class Histories(RuleBasedStateMachine):
    """Two rules of one name in two workspaces, and a model of each that is a handful of values."""

    WORKSPACES = (None, "w")
    COOLDOWN_S = 50

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.now = NOW
        self.holds: dict[str | None, bool | None] = dict.fromkeys(self.WORKSPACES, False)
        self.version: dict[str | None, int | None] = dict.fromkeys(self.WORKSPACES)
        self.open: dict[str | None, int | None] = dict.fromkeys(self.WORKSPACES)
        self.snoozed: dict[str | None, datetime | None] = dict.fromkeys(self.WORKSPACES)
        self.last: dict[str | None, datetime | None] = dict.fromkeys(self.WORKSPACES)
        self.history: list[tuple[str | None, str, datetime]] = []
        self.versions = 0

    workspaces = st.sampled_from(WORKSPACES)

    def teardown(self) -> None:
        self.ledger.connection.close()

    def write(self, event: msgspec.Struct, workspace: str | None) -> None:
        self.now += timedelta(microseconds=1)
        self.ledger.write(event, workspace=workspace, at=self.now)

    @rule(seconds=st.integers(1, 80))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(workspace=workspaces, holds=st.sampled_from([True, True, False, None]))
    def turn(self, workspace: str | None, holds: bool | None) -> None:
        self.holds[workspace] = holds

    @rule(workspace=workspaces)
    def set(self, workspace: str | None) -> None:
        self.versions += 1
        made = AlertRuleSet(name="n", kind="cost", threshold=Decimal(self.versions), cooldown_s=self.COOLDOWN_S)
        self.write(made, workspace)
        if self.version[workspace] is None:
            self.snoozed[workspace] = None
        self.version[workspace], self.last[workspace] = self.versions, None

    @rule(workspace=workspaces)
    def remove(self, workspace: str | None) -> None:
        if self.version[workspace] is not None:
            self.write(AlertRuleRemoved(name="n"), workspace)
            self.version[workspace] = None

    @rule(workspace=workspaces, seconds=st.integers(-10, 100))
    def snooze(self, workspace: str | None, seconds: int) -> None:
        if self.version[workspace] is not None:
            self.snoozed[workspace] = self.now + timedelta(seconds=seconds)
            self.write(AlertSnoozed(name="n", until=self.snoozed[workspace]), workspace)  # type: ignore[arg-type]  # set just above

    @rule()
    def check(self) -> None:
        self.now += timedelta(seconds=1)
        for workspace in self.WORKSPACES:
            self.expect(workspace)
        decisions = Decisions(self.ledger, self.now, rules.read(self.ledger.connection, self.now))
        for each in decisions.to_measure:
            holds = self.holds[each.workspace]
            decisions.record(each, Reading(holds=holds, error="broken" if holds is None else None))

    def expect(self, workspace: str | None) -> None:
        version, holds = self.version[workspace], self.holds[workspace]
        if self.open[workspace] is not None and self.open[workspace] != version:
            self.open[workspace] = None
            self.history.append((workspace, "removed" if version is None else "changed", self.now))
        if version is None or holds is None:
            return
        if self.open[workspace] is not None:
            if not holds:
                self.open[workspace] = None
                self.last[workspace] = self.now
                self.history.append((workspace, "cleared", self.now))
            return
        last, snoozed = self.last[workspace], self.snoozed[workspace]
        quiet = snoozed is not None and self.now < snoozed
        cooling = last is not None and self.now < last + timedelta(seconds=self.COOLDOWN_S)
        if holds and not quiet and not cooling:
            self.open[workspace], self.last[workspace] = version, self.now
            self.history.append((workspace, "fired", self.now))

    @invariant()
    def the_views_tell_what_happened(self) -> None:
        rows = self.ledger.connection.execute(
            "SELECT workspace, 'fired', fired FROM alerts UNION ALL "
            "SELECT workspace, resolved_because, resolved FROM alerts WHERE resolved IS NOT NULL"
        ).fetchall()
        expected = [(workspace, change, moment.replace(tzinfo=None)) for workspace, change, moment in self.history]
        assert sorted(rows, key=str) == sorted(expected, key=str)
        open_ = self.ledger.connection.execute(
            "SELECT a.workspace, (definition ->> 'threshold')::INTEGER FROM alerts a JOIN ("
            "  SELECT event_id, payload AS definition FROM event_rows WHERE event_type = 'alert_rule_set'"
            ") ON event_id = a.rule_id WHERE state = 'open'"
        ).fetchall()
        assert dict(open_) == {each: version for each, version in self.open.items() if version is not None}
        assert len(open_) == len(dict(open_))


Histories.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase


def test_who_decides_the_same_writes_the_same_event() -> None:
    """Two checkers that see one state make one firing, whatever their clocks say."""
    ledger = Ledger()
    ledger.write(AlertRuleSet(name="n", kind="cost", threshold=Decimal(1)), workspace=None, at=at(-10))
    seen = rules.read(ledger.connection, NOW)
    for seconds in (0, 5):
        decisions = Decisions(ledger, at(seconds), seen)
        decisions.record(decisions.to_measure[0], Reading(holds=True, value=Decimal(2)))
    assert ledger.connection.execute("SELECT count(*), min(fired) FROM alerts").fetchall() == [
        (1, NOW.replace(tzinfo=None))
    ]
    (payload,) = ledger.connection.execute("SELECT payload FROM event_rows WHERE event_type = 'alert_fired'").fetchall()
    assert json.loads(payload[0])["value"] == "2"
    ledger.connection.close()
