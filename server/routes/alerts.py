"""Alert rules over HTTP: set, change, snooze, acknowledge, remove; their history stays. See docs/alerts.md.

Nothing is evaluated in a request: rules fire in `eventlog alerts watch`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.format.alerts import AlertRuleSet
from eventlog.server import bodies
from eventlog.server.callers import Caller
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer, Problem
from eventlog.server.rule_changes import RuleChange, RuleOutcome, Verb

_SNOOZE_S_MAX = 366 * 86400.0
_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Channel = Annotated[str, msgspec.Meta(max_length=2000)]


class RuleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The definition of a rule, without its name: the fields of an `alert_rule_set` event."""

    kind: Annotated[str, msgspec.Meta(max_length=100)]
    threshold: Decimal | None = None
    window_s: float = 3600.0
    agent: _Text | None = None
    model: _Text | None = None
    of: _Text | None = None
    percentile: float | None = None
    at_percent: Decimal | None = None
    min_samples: int = 1
    severity: Annotated[str, msgspec.Meta(max_length=100)] = "warning"
    cooldown_s: float = 0.0
    sql: Annotated[str, msgspec.Meta(max_length=20_000)] | None = None
    timeout_s: float | None = None
    channels: Annotated[list[_Channel], msgspec.Meta(max_length=20)] = []
    note: _Text | None = None


class SnoozeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long, or until when, to snooze; 0 or a time in the past ends a snooze."""

    for_s: Annotated[float, msgspec.Meta(ge=0, le=_SNOOZE_S_MAX)] | None = None
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    note: _Text | None = None


class AcknowledgeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was seen, or who sees to it."""

    note: _Text | None = None


class _Named:
    """A request about one rule, of a caller who may change it."""

    def __init__(self, request: Request) -> None:
        """Raises Problem."""
        self.parts: Parts = parts_of(request)
        self.caller: Caller = self.parts.callers.of(request, "admin")
        self.name: str = request.path_params["name"]
        self.workspace = self.caller.workspace_for(request.query_params.get("workspace"))

    async def change(self, verb: Verb, **fields: Any) -> RuleOutcome:
        root = str(self.parts.root)
        made = RuleChange(root=root, verb=verb, name=self.name, workspace=self.workspace, **fields)
        return await self.parts.rule_changes.make(made)


async def set_(request: Request) -> Response:
    """`PUT /v1/alerts/rules/{name}`: set a rule, or replace the one of its name; answer 200 with its condition."""
    named = _Named(request)
    body = await bodies.read_struct(request, RuleBody, named.parts.limits)
    rule = AlertRuleSet(name=named.name, **msgspec.structs.asdict(body))
    # Where messages may go is for the operator of the root: a tenant may use what is allowed there.
    outcome = await named.change("set", rule=rule, allows_channels=named.caller.workspace is None)
    return Answer(
        {
            "name": named.name, "workspace": named.workspace, "condition": outcome.condition,
            "changed": outcome.rule_id is not None, "rule_id": outcome.rule_id,
        }
    )  # fmt: skip


async def remove(request: Request) -> Response:
    """`DELETE /v1/alerts/rules/{name}`: remove a rule; answer 204. Its history stays."""
    await _Named(request).change("remove")
    return Response(status_code=204)


async def snooze(request: Request) -> Response:
    """`POST /v1/alerts/rules/{name}/snooze`: snooze a rule, or end that; answer 200 with the time of its end."""
    named = _Named(request)
    body = await bodies.read_struct(request, SnoozeBody, named.parts.limits)
    if (body.for_s is None) == (body.until is None):
        raise Problem(422, "invalid_body", "send either for_s or until")
    until = body.until or datetime.now(UTC) + timedelta(seconds=body.for_s or 0)
    await named.change("snooze", until=until, note=body.note)
    return Answer({"name": named.name, "workspace": named.workspace, "snoozed_until": until})


async def acknowledge(request: Request) -> Response:
    """`POST /v1/alerts/rules/{name}/ack`: say that somebody has seen the open firing; answer 200 with its id."""
    named = _Named(request)
    body = await bodies.read_struct(request, AcknowledgeBody, named.parts.limits)
    outcome = await named.change("acknowledge", note=body.note)
    if outcome.firing_id is None:
        raise Problem(409, "not_firing", "the rule is not firing; there is nothing to acknowledge")
    return Answer({"name": named.name, "workspace": named.workspace, "firing_id": outcome.firing_id})


ROUTES = [
    Route("/v1/alerts/rules/{name}", set_, methods=["PUT"]),
    Route("/v1/alerts/rules/{name}", remove, methods=["DELETE"]),
    Route("/v1/alerts/rules/{name}/snooze", snooze, methods=["POST"]),
    Route("/v1/alerts/rules/{name}/ack", acknowledge, methods=["POST"]),
]
