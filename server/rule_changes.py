"""Changes of alert rules, each in a process of its own: they read and bring up to date the index, with DuckDB, which
shares no process with those who append.

    PUT, DELETE, POST → RuleChange as JSON → python -m eventlog.server.rule_changes → RuleOutcome as JSON

Nothing is evaluated: rules fire in `eventlog alerts watch`, which `eventlog up` runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from datetime import datetime
from typing import Literal

import msgspec

from eventlog.errors import (
    AlertsBusy,
    ConfigError,
    IndexBusy,
    InvalidEvent,
    NoSuchRule,
    QueryFailed,
    WriteFailed,
)
from eventlog.format.alerts import AlertRuleSet
from eventlog.server import leash
from eventlog.server.problems import Problem, not_found, too_busy

#: For the locks of alerts and index, each.
WAIT_S = 5.0
#: Of one change, with the start of its process.
_TIMEOUT_S = 60.0
#: Changes that wait for one another.
_WAITING_MAX = 20

Verb = Literal["set", "remove", "snooze", "acknowledge"]


class RuleChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `rule` is for set, `until` for snooze. With `allows_channels`, its channels are allowed here, too."""

    root: str
    verb: Verb
    name: str
    workspace: str | None
    rule: AlertRuleSet | None = None
    until: datetime | None = None
    note: str | None = None
    allows_channels: bool = False


class RuleOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change, or why there was none: the `code` of a problem, and its detail.

    `rule_id` is that of a rule that was set, None if it was set like that before; `firing_id` that of the firing that
    was acknowledged, None if there is none.
    """

    rule_id: str | None = None
    condition: str | None = None
    firing_id: str | None = None
    code: str | None = None
    detail: str = ""


class RuleChanges:
    """Makes changes, one after the other."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def make(self, change: RuleChange) -> RuleOutcome:
        """Make a change. Raises Problem."""
        if self._waiting >= _WAITING_MAX:
            raise too_busy("too_many_changes", "other changes of rules are under way; try again")
        self._waiting += 1
        try:
            async with self._turn:
                return _checked(await _run(msgspec.json.encode(change)))
        finally:
            self._waiting -= 1


async def _run(change: bytes) -> bytes:
    """Return what a process answers to a change."""
    with leash.leash() as fd:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", __name__, str(fd), stdin=PIPE, stdout=PIPE, pass_fds=[fd]
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                output, _ = await process.communicate(change)
        except TimeoutError:
            raise too_busy("timed_out", f"it took longer than {_TIMEOUT_S:g} s; see whether it was made") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    return output


def _checked(output: bytes) -> RuleOutcome:
    """Return an outcome. Raises Problem where nothing was changed."""
    try:
        outcome = msgspec.json.decode(output, type=RuleOutcome)
    except msgspec.MsgspecError:
        raise Problem(500, "internal_error", "the change failed; the server's log has more") from None
    if outcome.code is None:
        return outcome
    if outcome.code == "not_found":
        raise not_found(outcome.detail)
    if outcome.code in ("alerts_busy", "not_written"):
        raise too_busy(outcome.code, outcome.detail)
    raise Problem(409 if outcome.code == "channels_unusable" else 422, outcome.code, outcome.detail)


# -- in the process --------------------------------------------------------------------------


def apply(change: RuleChange) -> RuleOutcome:
    """Make a change, here and now; return what became of it. Raises what nobody foresees."""
    try:
        return _applied(change)
    except NoSuchRule as error:
        return RuleOutcome(code="not_found", detail=str(error))
    except (QueryFailed, InvalidEvent) as error:
        return RuleOutcome(code="invalid_rule", detail=str(error))
    except ConfigError:
        detail = "alerts.toml of the root cannot be used; `eventlog alerts check` says why"
        return RuleOutcome(code="channels_unusable", detail=detail)
    except (AlertsBusy, IndexBusy):
        return RuleOutcome(code="alerts_busy", detail=f"alerts or the index were busy for {WAIT_S:g} s; try again")
    except WriteFailed:
        return RuleOutcome(code="not_written", detail="the log took no lines; nothing was changed")


def _applied(change: RuleChange) -> RuleOutcome:
    from eventlog.queries.alerts import changes, rules  # noqa: PLC0415 - with DuckDB, for which this process is there

    root, name, workspace, note = change.root, change.name, change.workspace, change.note
    if change.verb == "set":
        assert change.rule is not None
        rule_id = changes.add(
            root, change.rule, workspace=workspace, wait_s=WAIT_S, allows_channels=change.allows_channels
        )
        return RuleOutcome(rule_id=rule_id, condition=rules.condition(change.rule))
    if change.verb == "remove":
        changes.remove(root, name, workspace=workspace, wait_s=WAIT_S)
        return RuleOutcome()
    if change.verb == "snooze":
        assert change.until is not None
        changes.snooze(root, name, change.until, workspace=workspace, note=note, wait_s=WAIT_S)
        return RuleOutcome()
    return RuleOutcome(firing_id=changes.acknowledge(root, name, workspace=workspace, note=note, wait_s=WAIT_S))


def _main() -> None:
    leash.attach(int(sys.argv[1]))
    change = msgspec.json.decode(sys.stdin.buffer.read(), type=RuleChange)
    sys.stdout.buffer.write(msgspec.json.encode(apply(change)))


if __name__ == "__main__":
    _main()
