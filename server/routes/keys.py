"""API keys over HTTP, for keys that have the scope admin. No key makes one that may do more than itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.errors import InvalidEvent, WriteFailed
from eventlog.format.keys import Scope
from eventlog.server import bodies, ingest
from eventlog.server import keys as api_keys
from eventlog.server.callers import Caller
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer, Problem, not_found

_Rate = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class KeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made. Without a `workspace` it has that of the key that makes it."""

    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=10)]
    workspace: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    events_per_s: _Rate | None = None
    bytes_per_s: _Rate | None = None
    note: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class KeyMade(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a key that was made; nobody can show `key` again."""

    key_id: str
    key: str
    scopes: list[Scope]
    workspace: str | None
    expires: datetime | None


async def create(request: Request) -> Response:
    """`POST /v1/keys`: make a key; answer 201 with it. It opens this server at once, and others within a second."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "admin")
    body = await bodies.read_struct(request, KeyBody, parts.limits)
    workspace = caller.workspace_for(body.workspace)
    expires = _earlier(body.expires, caller)
    if expires is not None and expires <= datetime.now(UTC):
        raise Problem(422, "invalid_body", "expires: this is in the past")
    own = caller.key
    made = await asyncio.to_thread(
        _create, parts, scopes=body.scopes, workspace=workspace, expires=expires, note=body.note,
        events_per_s=_least(body.events_per_s, own.events_per_s), bytes_per_s=_least(body.bytes_per_s, own.bytes_per_s),
    )  # fmt: skip
    return Answer(made, 201)


async def list_(request: Request) -> Response:
    """`GET /v1/keys`: all keys that were ever made, oldest first; of its workspace, for a key that has one."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "admin")
    states = await asyncio.to_thread(api_keys.list_keys, parts.root)
    return Answer({"keys": [state for state in states if _may_see(caller, state)]})


async def revoke(request: Request) -> Response:
    """`DELETE /v1/keys/{id}`: revoke a key; answer 204. One that is revoked stays so."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "admin")
    await asyncio.to_thread(_revoke, parts, caller, request.path_params["key_id"])
    return Response(status_code=204)


def _create(
    parts: Parts,
    *,
    scopes: list[Scope],
    workspace: str | None,
    expires: datetime | None,
    events_per_s: float | None,
    bytes_per_s: float | None,
    note: str | None,
) -> KeyMade:
    try:
        key, event = api_keys.create(
            parts.root, scopes=scopes, workspace=workspace, expires=expires, events_per_s=events_per_s,
            bytes_per_s=bytes_per_s, note=note,
        )  # fmt: skip
    except WriteFailed as error:
        raise ingest.unwritten(error) from None
    except InvalidEvent as error:
        raise Problem(422, "invalid_body", str(error)) from None
    parts.keys.refresh()
    return KeyMade(key_id=event.key_id, key=key, scopes=event.scopes, workspace=event.workspace, expires=event.expires)


def _revoke(parts: Parts, caller: Caller, key_id: str) -> None:
    states = {state.key_id: state for state in api_keys.list_keys(parts.root)}
    state = states.get(key_id)
    if state is None or not _may_see(caller, state):
        raise not_found("there is no key of this id; see GET /v1/keys")
    try:
        api_keys.revoke(parts.root, key_id)
    except WriteFailed as error:
        raise ingest.unwritten(error) from None
    parts.keys.refresh()


def _may_see(caller: Caller, state: api_keys.KeyState) -> bool:
    return caller.workspace is None or state.workspace == caller.workspace


def _earlier(expires: datetime | None, caller: Caller) -> datetime | None:
    """Return when a new key ends: no later than the one that makes it."""
    own = None if caller.key.expires is None else datetime.fromtimestamp(caller.key.expires, UTC)
    ends = [end for end in (expires, own) if end is not None]
    return min(ends, default=None)


def _least(asked: float | None, own: float | None) -> float | None:
    return min((rate for rate in (asked, own) if rate is not None), default=None)


ROUTES = [
    Route("/v1/keys", create, methods=["POST"]),
    Route("/v1/keys", list_, methods=["GET"]),
    Route("/v1/keys/{key_id}", revoke, methods=["DELETE"]),
]
