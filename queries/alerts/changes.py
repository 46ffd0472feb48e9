"""Changing rules: each change is an event, and the end of a firing that follows from it is recorded with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from eventlog.errors import NoSuchRule, QueryFailed, WriteFailed
from eventlog.format.alerts import AlertAcknowledged, AlertDeliveryRetried, AlertRuleRemoved, AlertRuleSet, AlertSnoozed
from eventlog.format.timestamps import utc
from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import allowed, channels, rules
from eventlog.queries.alerts.check import WAIT_S
from eventlog.queries.alerts.decisions import resolve
from eventlog.queries.alerts.journal import Journal, locked
from eventlog.queries.alerts.machine import Action
from eventlog.queries.alerts.rules import Rule

_TICK = timedelta(microseconds=1)


class _Change:
    """The rules of a root while its lock is held, and a journal for what changes."""

    def __init__(self, journal: Journal, reader: IndexReader, now: datetime) -> None:
        self.journal, self.reader, self.now = journal, reader, now
        with reader.trusted() as connection:
            self.rules = {(rule.workspace, rule.name): rule for rule in rules.read(connection, now)}

    def find(self, name: str, workspace: str | None) -> Rule | None:
        """Return a rule that was not removed; None if there is none of this name."""
        rule = self.rules.get((workspace, name))
        return None if rule is None or rule.standing.removed else rule

    def need(self, name: str, workspace: str | None) -> Rule:
        """Return a rule that was not removed. Raises NoSuchRule if there is none of this name."""
        rule = self.find(name, workspace)
        if rule is not None:
            return rule
        where = "" if workspace is None else f" in workspace {workspace!r}"
        there = ", ".join(other for of, other in self.rules if of == workspace and self.find(other, of))
        raise NoSuchRule(f"there is no rule {name!r}{where}; " + (f"there are: {there}" if there else "there is none"))

    def time_after(self, rule: Rule | None) -> datetime:
        """Return the time for a change: now, but after the last change of the rule if the clock went backwards."""
        return self.now if rule is None else max(self.now, rule.changed_at + _TICK)

    def end_firing(self, rule: Rule, action: Action, at: datetime) -> None:
        """Record the end of the open firing of a rule, if it has one."""
        if rule.standing.open is not None:
            resolve(self.journal, rule, rule.standing.open, action, at)


@contextmanager
def _changing(root: str | Path, wait_s: float, now: datetime | None) -> Iterator[_Change]:
    root = Path(root)
    with locked(root, wait_s=wait_s) as journal:
        indexer = Indexer(root, timeout_s=wait_s)
        indexer.catch_up()
        yield _Change(journal, IndexReader(root, wait_s=wait_s), now or datetime.now(UTC))
        if journal.written:
            indexer.catch_up()


def add(
    root: str | Path,
    rule: AlertRuleSet,
    *,
    workspace: str | None = None,
    allows_channels: bool = True,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> str | None:
    """Set a rule, or replace the one of its name; return its id, or None if it is set like that already.

    Without a workspace the rule is over all of them. A root that does not exist is created. The channels of the rule
    are allowed here from now on; with `allows_channels` False they have to be so already. Raises QueryFailed if the
    rule makes no sense or a channel is not allowed, ConfigError if channels cannot be allowed here, AlertsBusy and
    IndexBusy past `wait_s`, and WriteFailed.
    """
    rule = msgspec.structs.replace(rule, channels=list(dict.fromkeys(map(channels.normal, rule.channels))))
    rules.check(rule)
    for channel in rule.channels:
        if channels.variable(channel) is None and (refused := channels.refusal(channel)) is not None:
            raise QueryFailed(f"{channels.label(channel)}: {refused}")
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"{root}: {error.strerror}; the root cannot be created; use another one") from error
    with _changing(root, wait_s, now) as change:
        if allows_channels:
            allowed.allow(root, rule.channels)  # before the rule: it may be checked at once
        else:
            _check_allowed(root, rule)
        before = change.find(rule.name, workspace)
        if before is not None and before.definition == rule:
            return None
        at = change.time_after(change.rules.get((workspace, rule.name)))
        rule_id = change.journal.write(rule, workspace=workspace, at=at)
        if before is not None:
            change.end_firing(before, Action.CHANGED, at)
    return rule_id


def _check_allowed(root: Path | str, rule: AlertRuleSet) -> None:
    allowed_here = allowed.read(root)
    for channel in rule.channels:
        if (refused := allowed_here.why_not(channel)) is not None:
            raise QueryFailed(f"{channels.label(channel)}: {refused}")


def remove(
    root: str | Path,
    name: str,
    *,
    workspace: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> None:
    """Remove a rule; its history stays.

    Raises NoSuchRule, AlertsBusy and IndexBusy past `wait_s`, and WriteFailed.
    """
    with _changing(root, wait_s, now) as change:
        rule = change.need(name, workspace)
        at = change.time_after(rule)
        change.journal.write(AlertRuleRemoved(name=name), workspace=workspace, at=at)
        change.end_firing(rule, Action.REMOVED, at)


def snooze(
    root: str | Path,
    name: str,
    until: datetime,
    *,
    workspace: str | None = None,
    note: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> None:
    """Snooze a rule: it neither fires nor delivers before `until` (UTC). A time in the past ends a snooze.

    Raises NoSuchRule, AlertsBusy and IndexBusy past `wait_s`, and WriteFailed.
    """
    with _changing(root, wait_s, now) as change:
        rule = change.need(name, workspace)
        snoozed = AlertSnoozed(name=name, until=until.astimezone(UTC), note=note)
        change.journal.write(snoozed, workspace=workspace, at=change.time_after(rule))


def acknowledge(
    root: str | Path,
    name: str,
    *,
    workspace: str | None = None,
    note: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> str | None:
    """Record that an operator has seen the open firing of a rule; return its id, or None if nothing is open.

    The rule is evaluated and its messages are delivered as before. Raises NoSuchRule,
    AlertsBusy and IndexBusy past `wait_s`, and WriteFailed.
    """
    with _changing(root, wait_s, now) as change:
        firing = change.need(name, workspace).standing.open
        if firing is None:
            return None
        seen = AlertAcknowledged(name=name, firing_id=firing.firing_id, note=note)
        change.journal.write(seen, workspace=workspace, at=max(change.now, firing.fired + _TICK))
        return firing.firing_id


DEAD_LETTERS = """
    SELECT firing_id::VARCHAR, name, channel, last_failure FROM alert_dead_letters
    WHERE workspace IS NOT DISTINCT FROM $workspace AND ($name IS NULL OR name = $name) ORDER BY ALL
"""


def retry(
    root: str | Path,
    name: str | None = None,
    *,
    workspace: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> int:
    """Have the next check retry the dead letters of a rule, or of all rules of the workspace; return how many.

    Those of a rule that was changed or removed since stay dead: its owner no longer wants them delivered there. Raises
    AlertsBusy and IndexBusy past `wait_s`, and WriteFailed.
    """
    with _changing(root, wait_s, now) as change:
        with change.reader.trusted() as connection:
            dead = connection.execute(DEAD_LETTERS, {"workspace": workspace, "name": name}).fetchall()
        for firing_id, rule_name, channel, failed in dead:
            retried = AlertDeliveryRetried(name=rule_name, firing_id=firing_id, channel=channel)
            change.journal.write(retried, workspace=workspace, at=max(change.now, utc(failed) + _TICK))
    return len(dead)
