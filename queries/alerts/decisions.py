"""What a check decides about each rule: recorded in the log as it is decided, and reported as outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format.alerts import AlertFired, AlertResolved, AlertRuleFailed, AlertRuleRecovered
from eventlog.queries.alerts import channels, machine, rules
from eventlog.queries.alerts.journal import Journal, event_id
from eventlog.queries.alerts.machine import Action, Open, Reading, Standing
from eventlog.queries.alerts.rules import Rule
from eventlog.queries.text import units

_REASON_CHARS_MAX = 500


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a check measured for one rule. `state` is ok, firing, snoozed, cooling or failing.

    A history.RuleState is how the rule stands between checks: nothing is measured there, so it has no value, and does
    not know that a cooldown keeps a condition that holds from firing. The columns that both have are equal.
    `value` is decimal text in the unit of the kind: USD, a share, ms, seconds of silence, or rows. `condition` is text:
    `cost over $5.00 in 1h`. `error` says why a rule is failing.
    """

    workspace: str | None
    name: str
    kind: str
    severity: str
    state: str
    condition: str
    value: str | None = None
    samples: int = 0
    detail: str | None = None
    error: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A firing that began or ended in a check. `because` is None for a new one, else cleared, changed or removed.

    The history.Firing of its `firing_id` has the same in the columns of these names, and tells of deliveries, which are
    not known yet when a check decides.
    """

    workspace: str | None
    name: str
    severity: str
    firing_id: str
    summary: str
    because: str | None = None


class Decisions:
    """The decisions of one check at `now`, over all rules.

    Construction ends the firings of rules that were changed or removed. Then call `record` once for each rule of
    `to_measure`, and read `fired`, `resolved` and `outcomes()`. Raises WriteFailed.
    """

    def __init__(self, journal: Journal, now: datetime, all_rules: Sequence[Rule]) -> None:
        self._journal, self._now = journal, now
        self.fired: list[Change] = []
        self.resolved: list[Change] = []
        self.to_measure: list[Rule] = []
        self._outcomes: list[Outcome] = []
        #: By workspace and rule id: rules of two workspaces may have one id.
        self._standings: dict[tuple[str | None, str], Standing] = {}
        for rule in all_rules:
            standing = self._act(rule, rule.standing, machine.settle(rule.standing), None)
            self._standings[rule.workspace, rule.rule_id] = standing
            if rule.standing.removed:
                continue
            if rule.problem is not None:
                self.record(rule, Reading(holds=None, error=rule.problem))
            else:
                self.to_measure.append(rule)

    def record(self, rule: Rule, reading: Reading) -> None:
        """Decide what follows from a reading, and write its events. A value that no event can hold fails the rule."""
        try:
            self._record(rule, reading)
        except (ArithmeticError, InvalidEvent) as error:
            if reading.error is not None:
                raise
            reason = f"what was measured cannot be recorded: {type(error).__name__}: {error}"
            self._record(rule, Reading(holds=None, error=reason))

    def _record(self, rule: Rule, reading: Reading) -> None:
        standing = self._standings[rule.workspace, rule.rule_id]
        standing = self._act(rule, standing, machine.decide(standing, reading, self._now), reading)
        self._outcomes.append(_outcome(rule, reading, machine.state(standing, reading, self._now)))
        if reading.passing:
            return  # the outcome has it; in the log it would be an event for each check that ran out of time
        error = reading.error and reading.error[:_REASON_CHARS_MAX]
        if error is not None and error != rule.failing_because:
            self._write(rule, AlertRuleFailed(name=rule.name, rule_id=rule.rule_id, reason=error))
        if error is None and rule.failing_because is not None:
            self._write(rule, AlertRuleRecovered(name=rule.name, rule_id=rule.rule_id))

    def _write(self, rule: Rule, event: msgspec.Struct) -> None:
        self._journal.write(event, workspace=rule.workspace, at=self._now)

    def _act(self, rule: Rule, standing: Standing, action: Action, reading: Reading | None) -> Standing:
        firing_id = ""
        if action is Action.FIRE:
            assert reading is not None
            firing_id = self._fire(rule, standing, reading)
        elif action is not Action.NOTHING:
            assert standing.open is not None
            resolve(self._journal, rule, standing.open, action, self._now, reading.value if reading else None)
            ended = standing.open  # the rule may have been set anew: what fired is what it was then
            summary, severity = ended.summary or rule.name, ended.severity or rule.definition.severity
            self.resolved.append(_change(rule, ended.firing_id, severity, summary, action.value))
        return machine.after(standing, action, self._now, firing_id)

    def _fire(self, rule: Rule, standing: Standing, reading: Reading) -> str:
        definition = rule.definition
        event = AlertFired(
            name=rule.name,
            rule_id=rule.rule_id,
            kind=definition.kind,
            severity=definition.severity,
            summary=rules.summary(definition, reading.value),
            value=None if reading.value is None else Decimal(units.plain(reading.value)),
            threshold=definition.threshold,
            samples=reading.samples,
            window_s=None if definition.kind == "sql" else definition.window_s,
            agent=definition.agent,
            model=definition.model,
            detail=reading.detail,
            channels=list(dict.fromkeys(map(channels.label, definition.channels))),
        )
        # Derived from the rule and the number of its firings: two checkers that decide the same write one event.
        began = max(standing.last_resolved or rule.set_at, rule.set_at)
        derived = event_id(began, rule.workspace, "alert_fired", rule.rule_id, str(rule.firings))
        firing_id = self._journal.write(event, workspace=rule.workspace, at=self._now, event_id=derived)
        self.fired.append(_change(rule, firing_id, event.severity, event.summary, None))
        return firing_id

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every rule that was not removed, by workspace and name."""
        return sorted(self._outcomes, key=lambda outcome: (outcome.workspace or "", outcome.name))


def resolve(
    journal: Journal, rule: Rule, firing: Open, action: Action, now: datetime, value: Decimal | None = None
) -> None:
    """Write that the firing of a rule is over. Raises WriteFailed."""
    journal.write(
        AlertResolved(name=rule.name, firing_id=firing.firing_id, reason=action.value, value=value),
        workspace=rule.workspace,
        at=now,
        event_id=event_id(firing.fired, rule.workspace, "alert_resolved", firing.firing_id),
    )


def _change(rule: Rule, firing_id: str, severity: str, summary: str, because: str | None) -> Change:
    return Change(
        workspace=rule.workspace,
        name=rule.name,
        severity=severity,
        firing_id=firing_id,
        summary=summary,
        because=because,
    )


def _outcome(rule: Rule, reading: Reading, state: machine.State) -> Outcome:
    return Outcome(
        workspace=rule.workspace,
        name=rule.name,
        kind=rule.definition.kind,
        severity=rule.definition.severity,
        state=state.value,
        condition=rules.condition(rule.definition),
        value=None if reading.value is None else units.plain(reading.value),
        samples=reading.samples,
        detail=reading.detail,
        error=reading.error,
    )
