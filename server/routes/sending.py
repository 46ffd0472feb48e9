"""What clients send: events, heartbeats, and what the hooks of agent programs are told."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.format.builtin import Heartbeat
from eventlog.server import bodies, ingest
from eventlog.server.buckets import BURST_S
from eventlog.server.callers import Caller
from eventlog.server.ingest import Sender, Verdicts
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer, Problem

IDEMPOTENCY_KEY = "idempotency-key"
#: As `eventlog hook` records it.
HOOK_EVENT = "agent_hook"
_logger = logging.getLogger("eventlog.server")


async def events(request: Request) -> Response:
    """`POST /v1/events`: append one event, an array of them, or JSON lines; answer with a verdict on each."""
    verdicts = await _appended(request, _as_sent)
    return Answer(verdicts, 200 if verdicts.accepted else 422)


async def heartbeat(request: Request) -> Response:
    """`POST /v1/heartbeat`: record that an agent lives; answer 202 with the id of the event."""
    verdicts = await _appended(request, _as_heartbeat, is_small=True)
    if not verdicts.accepted:
        raise Problem(422, verdicts.rejected[0].code, verdicts.rejected[0].detail)
    return Answer({"id": verdicts.ids[0]}, 202)


async def _appended(request: Request, events_of: Callable[[bytes], bytes], *, is_small: bool = False) -> Verdicts:
    """Append the events that a body stands for. Raises Problem."""
    parts = parts_of(request)
    limits = parts.limits
    caller = parts.callers.of(request, "ingest")
    max_bytes = limits.control_max_bytes if is_small else limits.body_max_bytes
    with parts.intake.room() as room:
        body = await bodies.read_body(request, max_bytes=max_bytes, timeout_s=limits.body_timeout_s, take=room.take)
        sender = Sender(caller.workspace, caller.role, request.headers.get(IDEMPOTENCY_KEY))
        encoding = request.headers.get("content-encoding", "")
        return await parts.intake.run(
            room, functools.partial(_append, parts, caller, body, encoding, sender, events_of, max_bytes)
        )


def _append(
    parts: Parts,
    caller: Caller,
    body: bytes,
    encoding: str,
    sender: Sender,
    events_of: Callable[[bytes], bytes],
    max_bytes: int,
) -> Verdicts:
    """Append a body as it came; in a thread of the intake."""
    data = events_of(bodies.decompressed(body, encoding, max_bytes=max_bytes))
    split = ingest.split(data, events_max=parts.limits.events_max)
    _charge(parts, caller, len(split), len(data))
    verdicts = ingest.append(parts.recorder, split, sender)
    parts.count(verdicts)
    return verdicts


def _charge(parts: Parts, caller: Caller, events: int, size: int) -> None:
    """Take the events and bytes of a request from what its key may send. Raises Problem."""
    key, limits = caller.key, parts.limits
    for name, amount, per_s in (
        ("events", events, key.events_per_s or limits.events_per_s),
        ("bytes", size, key.bytes_per_s or limits.bytes_per_s),
    ):
        taken = parts.buckets.take(f"{key.key_id}/{name}", amount, per_s)
        if taken.wait_s:
            seconds = math.ceil(taken.wait_s)
            policy = f'"{name}";q={math.floor(per_s * BURST_S)};w={math.floor(BURST_S)}'
            headers = {
                "Retry-After": str(seconds),
                "RateLimit": f'"{name}";r={taken.remaining};t={seconds}',
                "RateLimit-Policy": policy,
            }
            detail = f"this key may send {per_s:g} {name} per second on the average; wait {seconds} s"
            raise Problem(429, "rate_limited", detail, headers=headers)


def _as_sent(body: bytes) -> bytes:
    return body


class _HeartbeatBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    agent: str
    status: str | None = None
    interval_s: float | None = None
    run_id: str | None = None
    workspace: str | None = None


def _as_heartbeat(body: bytes) -> bytes:
    try:
        given = msgspec.json.decode(body, type=_HeartbeatBody)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_heartbeat", f"{error}; it has agent, status, interval_s, run_id") from None
    event = {
        "event_type": "heartbeat", "agent": given.agent, "run_id": given.run_id, "workspace": given.workspace,
        "payload": Heartbeat(status=given.status, interval_s=given.interval_s),
    }  # fmt: skip
    return msgspec.json.encode(event)


async def claude_code_hook(request: Request) -> Response:
    """`POST /v1/hooks/claude-code`: record what a hook of Claude Code is told; answer 200 and `{}` whatever happens.

    The program waits for its hooks and acts on what they answer: this one neither stops it nor tells it anything. What
    was refused is in the server's log.
    """
    try:
        verdicts = await _appended(request, _as_hook, is_small=True)
        problem = verdicts.rejected[0].detail if verdicts.rejected else None
    except Problem as refused:
        problem = f"{refused.code}: {refused.detail}"
    if problem is not None:
        parts_of(request).hooks_refused += 1
        _logger.warning("a hook of Claude Code was not recorded: %s", problem)
    return Answer({})


def _as_hook(body: bytes) -> bytes:
    try:
        told = msgspec.json.decode(body, type=_Told)
        session_id = told.session_id if isinstance(told.session_id, str) and told.session_id.isprintable() else None
        payload = msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_hook", f"a hook is a JSON object: {error}") from None
    return msgspec.json.encode({"event_type": HOOK_EVENT, "session_id": session_id, "payload": payload})


class _Told(msgspec.Struct, frozen=True):
    session_id: object = None


ROUTES = [
    Route("/v1/events", events, methods=["POST"]),
    Route("/v1/heartbeat", heartbeat, methods=["POST"]),
    Route("/v1/hooks/claude-code", claude_code_hook, methods=["POST"]),
]
