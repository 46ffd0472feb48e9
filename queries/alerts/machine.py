"""When a rule fires and when a firing is over: a function of how the rule stands, what was read, and the time.

    ok ── holds ──→ open ── holds no more ──→ resolved (cleared)
                      └──── rule set anew ──→ resolved (changed) ─→ ok
                      └──── rule removed ───→ resolved (removed)

While it is open it does not fire again. After a firing and after its end `cooldown_s` have to pass, and no snooze
may be on. What could not be read changes nothing.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec


class Open(msgspec.Struct, frozen=True):
    """A firing that is not over, and the rule as it was set then."""

    firing_id: str
    rule_id: str
    fired: datetime


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a rule. Of its firings and ends, those since it was set as it is now count."""

    rule_id: str
    removed: bool = False
    snoozed_until: datetime | None = None
    cooldown_s: float = 0.0
    open: Open | None = None
    last_fired: datetime | None = None
    last_resolved: datetime | None = None

    def is_snoozed(self, now: datetime) -> bool:
        """Whether it is to be quiet at a moment."""
        return self.snoozed_until is not None and now < self.snoozed_until

    def cools_until(self) -> datetime | None:
        """Return from when on it may fire again; None where nothing keeps it."""
        last = max((each for each in (self.last_fired, self.last_resolved) if each is not None), default=None)
        return None if last is None else last + timedelta(seconds=self.cooldown_s)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule looks at, at one moment. `holds` None: it could not be read, and `error` says why.

    `passing`: that was not the rule's fault, but for want of time, say.
    """

    holds: bool | None
    value: Decimal | None = None
    samples: int = 0
    detail: str | None = None
    error: str | None = None
    passing: bool = False


class Action(enum.Enum):
    """What becomes of a rule: it fires, its firing is over for one of three reasons, or nothing."""

    FIRE = "fire"
    CLEARED = "cleared"
    CHANGED = "changed"
    REMOVED = "removed"
    NOTHING = "nothing"


class State(enum.Enum):
    """How a rule is, for those who look at it."""

    OK = "ok"
    FIRING = "firing"
    SNOOZED = "snoozed"
    COOLING = "cooling"
    FAILING = "failing"
    REMOVED = "removed"


def settle(standing: Standing) -> Action:
    """Return whether the rule itself, being changed or removed, ends its firing."""
    if standing.open is None:
        return Action.NOTHING
    if standing.removed:
        return Action.REMOVED
    return Action.CHANGED if standing.open.rule_id != standing.rule_id else Action.NOTHING


def decide(standing: Standing, reading: Reading, now: datetime) -> Action:
    """Return what a reading makes of a rule that is settled."""
    if standing.removed or reading.holds is None:
        return Action.NOTHING
    if standing.open is not None:
        return Action.NOTHING if reading.holds else Action.CLEARED
    if not reading.holds or standing.is_snoozed(now):
        return Action.NOTHING
    cools_until = standing.cools_until()
    return Action.NOTHING if cools_until is not None and now < cools_until else Action.FIRE


def after(standing: Standing, action: Action, now: datetime, firing_id: str) -> Standing:
    """Return how a rule stands after an action; `firing_id` is that of a new firing."""
    if action is Action.FIRE:
        opened = Open(firing_id, standing.rule_id, now)
        return msgspec.structs.replace(standing, open=opened, last_fired=now)
    if action is Action.CLEARED:
        return msgspec.structs.replace(standing, open=None, last_resolved=now)
    if action is Action.NOTHING:
        return standing
    # The firing was of another rule: that one's past does not keep this one from firing.
    return msgspec.structs.replace(standing, open=None)


def state(standing: Standing, reading: Reading, now: datetime) -> State:
    """Return how a rule is, after all was decided."""
    if standing.removed:
        return State.REMOVED
    if reading.holds is None:
        return State.FAILING
    if standing.is_snoozed(now):
        return State.SNOOZED
    if standing.open is not None:
        return State.FIRING
    return State.COOLING if reading.holds else State.OK
