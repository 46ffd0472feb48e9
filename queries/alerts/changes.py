"""Changing rules: each change is an event, and what follows from it for a firing that is open is recorded with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from eventlog.errors import QueryFailed, WriteFailed
from eventlog.format.alerts import AlertDeliveryRetried, AlertRuleRemoved, AlertRuleSet, AlertSnoozed
from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import allowed, channels, rules
from eventlog.queries.alerts.check import WAIT_S
from eventlog.queries.alerts.decisions import resolve
from eventlog.queries.alerts.journal import Journal, journal, turn
from eventlog.queries.alerts.machine import Action
from eventlog.queries.alerts.rules import Rule

_TICK = timedelta(microseconds=1)


class _Change:
    """The lock, an index that is up to date, and what it says."""

    def __init__(self, writing: Journal, reader: IndexReader, now: datetime | None) -> None:
        self.writing = writing
        self.reader = reader
        self.now = now or datetime.now(UTC)
        with reader.trusted() as connection:
            self.rules = rules.read(connection, self.now)

    def find(self, name: str, workspace: str | None) -> Rule | None:
        """Return the rule of a name, if it is there."""
        return next((each for each in self.rules if self._is(each, name, workspace)), None)

    @staticmethod
    def _is(rule: Rule, name: str, workspace: str | None) -> bool:
        return rule.name == name and rule.workspace == workspace and not rule.standing.removed

    def need(self, name: str, workspace: str | None) -> Rule:
        """Return the rule of a name. Raises QueryFailed where there is none."""
        found = self.find(name, workspace)
        if found is None:
            place = "" if workspace is None else f" in workspace {workspace!r}"
            known = ", ".join(each.name for each in self.rules if self._is(each, each.name, workspace))
            raise QueryFailed(
                f"there is no rule {name!r}{place}; " + (f"there are: {known}" if known else "there is none")
            )
        return found

    def at(self, rule: Rule | None) -> datetime:
        """Return the time of a change: after the one before it, even where the clock went backwards."""
        return self.now if rule is None else max(self.now, rule.changed_at + _TICK)

    def end(self, rule: Rule, action: Action, at: datetime) -> None:
        """Record that the open firing of a rule is over, if it has one."""
        if rule.standing.open is not None:
            resolve(self.writing, rule, rule.standing.open, action, at)


@contextmanager
def _changing(root: str | Path, wait_s: float, now: datetime | None) -> Iterator[_Change]:
    with turn(root, wait_s=wait_s), journal(root) as writing:
        indexer = Indexer(root, timeout_s=wait_s)
        indexer.catch_up()
        yield _Change(writing, IndexReader(root, wait_s=wait_s), now)
        if writing.written:
            indexer.catch_up()


def add(
    root: str | Path,
    rule: AlertRuleSet,
    *,
    workspace: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> str | None:
    """Set a rule; return its id, or None where it stands like that already. One of its name is replaced.

    Without a workspace it is over all of them. A root that is not there yet is made, as by an event. Raises
    QueryFailed where the rule makes no sense, ConfigError where its channels cannot be allowed here, and WriteFailed.
    """
    rule = msgspec.structs.replace(rule, channels=list(dict.fromkeys(map(channels.normal, rule.channels))))
    rules.check(rule)
    for channel in rule.channels:
        if channels.variable(channel) is None and (refused := channels.refusal(channel)) is not None:
            raise QueryFailed(f"{channels.label(channel)}: {refused}")
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"{root}: {error.strerror}; the root cannot be made, give another one") from error
    with _changing(root, wait_s, now) as change:
        allowed.allow(root, rule.channels)  # before the rule: it may be checked at once
        before = change.find(rule.name, workspace)
        if before is not None and before.definition == rule:
            return None
        at = change.at(_last(change, rule.name, workspace))
        made = change.writing.write(rule, workspace=workspace, at=at)
        if before is not None:
            change.end(before, Action.CHANGED, at)
    return made


def _last(change: _Change, name: str, workspace: str | None) -> Rule | None:
    return next((each for each in change.rules if each.name == name and each.workspace == workspace), None)


def remove(
    root: str | Path,
    name: str,
    *,
    workspace: str | None = None,
    wait_s: float = WAIT_S,
    now: datetime | None = None,
) -> None:
    """Remove a rule; its history stays. Raises QueryFailed where there is none of that name."""
    with _changing(root, wait_s, now) as change:
        rule = change.need(name, workspace)
        at = change.at(rule)
        change.writing.write(AlertRuleRemoved(name=name), workspace=workspace, at=at)
        change.end(rule, Action.REMOVED, at)


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
    """Have a rule neither fire nor deliver until a time (UTC); one that is past ends a snooze. Raises QueryFailed."""
    with _changing(root, wait_s, now) as change:
        rule = change.need(name, workspace)
        snoozed = AlertSnoozed(name=name, until=until.astimezone(UTC), note=note)
        change.writing.write(snoozed, workspace=workspace, at=change.at(rule))


_DEAD = """
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
    """Have the dead letters of a rule, or of all, be tried again by the next check; return how many.

    Those of a rule that was changed or removed since stay dead: where they were to go is no longer wanted.
    """
    with _changing(root, wait_s, now) as change:
        with change.reader.trusted() as connection:
            dead = connection.execute(_DEAD, {"workspace": workspace, "name": name}).fetchall()
        for firing_id, of, channel, failed in dead:
            again = AlertDeliveryRetried(name=of, firing_id=firing_id, channel=channel)
            change.writing.write(again, workspace=workspace, at=max(change.now, rules.utc(failed) + _TICK))
    return len(dead)
