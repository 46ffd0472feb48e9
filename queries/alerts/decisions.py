"""What readings make of rules, recorded as it is decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from eventlog.format.alerts import AlertFired, AlertResolved, AlertRuleFailed, AlertRuleRecovered
from eventlog.queries.alerts import delivery, machine, rules
from eventlog.queries.alerts.journal import Journal, event_id
from eventlog.queries.alerts.machine import Action, Reading, Standing
from eventlog.queries.alerts.rules import Rule

_REASON_CHARS_MAX = 500


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found of one rule. `state` is ok, firing, snoozed, cooling or failing; `error` says why it fails."""

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
    """A firing that began or ended. `because` of an end is cleared, changed or removed."""

    workspace: str | None
    name: str
    severity: str
    firing_id: str
    summary: str
    because: str | None = None


class Steps:
    """What becomes of each rule, recorded as it is decided."""

    def __init__(self, writing: Journal, now: datetime, everything: Sequence[Rule]) -> None:
        self._writing, self._now = writing, now
        self.fired: list[Change] = []
        self.resolved: list[Change] = []
        self._taken: list[tuple[Rule, Standing, Reading]] = []
        #: By workspace and id of the rule: rules of two workspaces may have one id.
        self._standings: dict[tuple[str | None, str], Standing] = {}
        self.evaluated: list[Rule] = []
        for rule in everything:
            standing = self._do(rule, rule.standing, machine.settle(rule.standing), None)
            self._standings[rule.workspace, rule.rule_id] = standing
            if rule.standing.removed:
                continue
            if rule.problem is not None:
                self.take(rule, Reading(holds=None, error=rule.problem))
            else:
                self.evaluated.append(rule)

    def take(self, rule: Rule, reading: Reading) -> None:
        """Do what a reading makes of a rule."""
        standing = self._standings[rule.workspace, rule.rule_id]
        standing = self._do(rule, standing, machine.decide(standing, reading, self._now), reading)
        self._taken.append((rule, standing, reading))
        if reading.passing:
            return  # said in the answer; in the log it would be an event for each check that somebody stopped
        error = reading.error and reading.error[:_REASON_CHARS_MAX]
        if error is not None and error != rule.failing_because:
            failed = AlertRuleFailed(name=rule.name, rule_id=rule.rule_id, reason=error)
            self._writing.write(failed, workspace=rule.workspace, at=self._now)
        if error is None and rule.failing_because is not None:
            recovered = AlertRuleRecovered(name=rule.name, rule_id=rule.rule_id)
            self._writing.write(recovered, workspace=rule.workspace, at=self._now)

    def _do(self, rule: Rule, standing: Standing, action: Action, reading: Reading | None) -> Standing:
        firing_id = ""
        if action is Action.FIRE:
            assert reading is not None
            firing_id = self._fire(rule, standing, reading)
        elif action is not Action.NOTHING:
            assert standing.open is not None
            resolve(self._writing, rule, standing.open, action, self._now, reading.value if reading else None)
            self.resolved.append(_change(rule, standing.open.firing_id, action.value))
        return machine.after(standing, action, self._now, firing_id)

    def _fire(self, rule: Rule, standing: Standing, reading: Reading) -> str:
        what = rule.definition
        begun = max(standing.last_resolved or rule.set_at, rule.set_at)
        made = self._writing.write(
            AlertFired(
                name=rule.name,
                rule_id=rule.rule_id,
                kind=what.kind,
                severity=what.severity,
                summary=rules.summary(what, reading.value),
                value=None if reading.value is None else Decimal(rules.plain(reading.value)),
                threshold=what.threshold,
                samples=reading.samples,
                window_s=None if what.kind == "sql" else what.window_s,
                agent=what.agent,
                model=what.model,
                detail=reading.detail,
                channels=list(dict.fromkeys(map(delivery.label, what.channels))),
            ),
            workspace=rule.workspace,
            at=self._now,
            # Of the rule, and of how often it has fired: two who decide the same write one event.
            event_id=event_id(begun, rule.workspace, "alert_fired", rule.rule_id, str(rule.firings)),
        )
        self.fired.append(_change(rule, made, None, reading))
        return made

    def outcomes(self) -> list[Outcome]:
        """Return what was found of each rule that is there."""
        found = [_outcome(rule, standing, reading, self._now) for rule, standing, reading in self._taken]
        return sorted(found, key=lambda each: (each.workspace or "", each.name))


def resolve(
    writing: Journal, rule: Rule, firing: machine.Open, action: Action, now: datetime, value: Decimal | None = None
) -> None:
    """Record that a firing is over."""
    writing.write(
        AlertResolved(name=rule.name, firing_id=firing.firing_id, reason=action.value, value=value),
        workspace=rule.workspace,
        at=now,
        event_id=event_id(firing.fired, rule.workspace, "alert_resolved", firing.firing_id),
    )


def _change(rule: Rule, firing_id: str, because: str | None, reading: Reading | None = None) -> Change:
    what = rule.definition
    said = rules.summary(what, reading.value) if reading else f"{rule.name}: {because}"
    return Change(
        workspace=rule.workspace,
        name=rule.name,
        severity=what.severity,
        firing_id=firing_id,
        summary=said,
        because=because,
    )


def _outcome(rule: Rule, standing: Standing, reading: Reading, now: datetime) -> Outcome:
    return Outcome(
        workspace=rule.workspace,
        name=rule.name,
        kind=rule.definition.kind,
        severity=rule.definition.severity,
        state=machine.state(standing, reading, now).value,
        condition=rules.condition(rule.definition),
        value=None if reading.value is None else rules.plain(reading.value),
        samples=reading.samples,
        detail=reading.detail,
        error=reading.error,
    )
