"""The state machine of a rule: when it fires and when a firing is over. Pure functions of standing, reading and time.

    ok ── holds ──→ open ── holds no more ──→ resolved (cleared)
                      └──── rule set anew ──→ resolved (changed) ─→ ok
                      └──── rule removed ───→ resolved (removed)

An open rule does not fire again. After a firing, and after its end, `cooldown_s` must pass before the next one, and
no snooze may be active. A reading that failed changes nothing.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec


class Open(msgspec.Struct, frozen=True):
    """A firing that is not over. `rule_id` is the rule as it was set when it fired; `fired` is UTC.

    `severity` and `summary` are those of its `alert_fired`; None where that has none, or is only being written.
    `acknowledged` (UTC) is when an operator said to have seen it.
    """

    firing_id: str
    rule_id: str
    fired: datetime
    severity: str | None = None
    summary: str | None = None
    acknowledged: datetime | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says about a rule. Times are UTC.

    `last_fired` and `last_resolved` are of firings since the rule was set as it is now; `open` may be an earlier one.
    """

    rule_id: str
    removed: bool = False
    snoozed_until: datetime | None = None
    cooldown_s: float = 0.0
    open: Open | None = None
    last_fired: datetime | None = None
    last_resolved: datetime | None = None

    def is_snoozed(self, now: datetime) -> bool:
        """Whether a snooze is active at `now`."""
        return self.snoozed_until is not None and now < self.snoozed_until

    def cools_until(self) -> datetime | None:
        """Return when the cooldown ends; None if the rule has not fired."""
        last = max((time for time in (self.last_fired, self.last_resolved) if time is not None), default=None)
        return None if last is None else last + timedelta(seconds=self.cooldown_s)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for a rule at one moment: whether its condition holds, the value, and of how many samples.

    `value` is in the unit of the kind: USD, a share, ms, seconds of silence, or rows. `detail` is text, such as
    `2 of 4 failed`. If it could not be measured, `holds` is None and `error` says why; `passing` marks an error that
    is not the rule's own, such as a lack of time.
    """

    holds: bool | None
    value: Decimal | None = None
    samples: int = 0
    detail: str | None = None
    error: str | None = None
    passing: bool = False


class Action(enum.Enum):
    """What a check does with a rule: fire it, end its firing for one of three reasons, or nothing."""

    FIRE = "fire"
    CLEARED = "cleared"
    CHANGED = "changed"
    REMOVED = "removed"
    NOTHING = "nothing"


class State(enum.Enum):
    """The state of a rule, as checks and lists show it."""

    OK = "ok"
    FIRING = "firing"
    SNOOZED = "snoozed"
    COOLING = "cooling"
    FAILING = "failing"
    REMOVED = "removed"


def settle(standing: Standing) -> Action:
    """Return the end of a firing whose rule was changed or removed since: CHANGED, REMOVED or NOTHING."""
    if standing.open is None:
        return Action.NOTHING
    if standing.removed:
        return Action.REMOVED
    return Action.CHANGED if standing.open.rule_id != standing.rule_id else Action.NOTHING


def decide(standing: Standing, reading: Reading, now: datetime) -> Action:
    """Return what follows from a reading, for a rule that `settle` has nothing to do for: FIRE, CLEARED or NOTHING."""
    if standing.removed or reading.holds is None:
        return Action.NOTHING
    if standing.open is not None:
        return Action.NOTHING if reading.holds else Action.CLEARED
    if not reading.holds or standing.is_snoozed(now):
        return Action.NOTHING
    cools_until = standing.cools_until()
    return Action.NOTHING if cools_until is not None and now < cools_until else Action.FIRE


def after(standing: Standing, action: Action, now: datetime, firing_id: str) -> Standing:
    """Return the standing after an action; `firing_id` is used for FIRE."""
    if action is Action.FIRE:
        return msgspec.structs.replace(standing, open=Open(firing_id, standing.rule_id, now), last_fired=now)
    if action is Action.CLEARED:
        return msgspec.structs.replace(standing, open=None, last_resolved=now)
    if action is Action.NOTHING:
        return standing
    # The firing was the rule's as it was set before: its end starts no cooldown for the new one.
    return msgspec.structs.replace(standing, open=None)


def state(standing: Standing, reading: Reading, now: datetime) -> State:
    """Return the state of a rule, of its standing after the decision and its reading."""
    if standing.removed:
        return State.REMOVED
    if reading.holds is None:
        return State.FAILING
    if standing.is_snoozed(now):
        return State.SNOOZED
    if standing.open is not None:
        return State.FIRING
    return State.COOLING if reading.holds else State.OK
