"""`GET /v1/stream` (server-sent events) and `/v1/ws` (WebSocket): events as they are appended.

Both are the same streams (eventlog.server.streams); here is how their frames are written, and how a client asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from eventlog.errors import EventlogError
from eventlog.format.envelope import check_event_type
from eventlog.server.backlog import Frame, Wanted
from eventlog.server.callers import COOKIE, Caller, is_local_socket
from eventlog.server.parts import Parts, parts_of
from eventlog.server.positions import After, parse
from eventlog.server.problems import Problem, bad_parameter
from eventlog.server.streams import LAST_WORDS_S, End, Payload, Stream

_PARAMETERS = ("types", "agent", "run", "session", "after")
_TYPES_MAX = 100
_TEXT_MAX_CHARS = 10_000
_SSE_HEADERS = {"x-accel-buffering": "no", "cache-control": "no-store"}
#: What a browser waits before it connects again, in milliseconds.
_RETRY = b"retry: 1000\n\n"
#: An extension of the ASGI scope: a function that cuts the connection (eventlog.server.serve).
ABORT = "eventlog.abort"
_CLOSE_CODES = {End.STOPPING: 1001, End.KEY_INVALID: 1008, End.GAP: 1013, End.FAILED: 1011, End.CLIENT_LEFT: 1000}


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client wants: the first message of a WebSocket; of `/v1/stream`, the parameters and Last-Event-ID."""

    types: list[str] | None = None
    agent: str | None = None
    run: str | None = None
    session: str | None = None
    after: str | None = None
    token: str | None = None

    def wanted(self, caller: Caller) -> Wanted:
        """Return the filter. Raises Problem."""
        for name in ("agent", "run", "session"):
            if len(getattr(self, name) or "") > _TEXT_MAX_CHARS:
                raise bad_parameter(name, f"at most {_TEXT_MAX_CHARS} characters")
        if self.types is None:
            return Wanted(caller.workspace, None, self.agent, self.run, self.session)
        if not 0 < len(self.types) <= _TYPES_MAX:
            raise bad_parameter("types", f"1 to {_TYPES_MAX} event types; leave it out for all")
        try:
            types = frozenset(map(check_event_type, self.types))
        except EventlogError as error:
            raise bad_parameter("types", str(error)) from None
        return Wanted(caller.workspace, types, self.agent, self.run, self.session)

    def position(self) -> After | None:
        """Return where to begin; None is now. Raises Problem."""
        if not self.after:
            return None
        try:
            return parse(self.after)
        except EventlogError as error:
            raise bad_parameter("after", str(error)) from None


# -- server-sent events ------------------------------------------------------------------------


class _ServerSentEvents:
    def events(self, frames: Sequence[Frame]) -> list[Payload]:
        return [b"".join(map(self._event, frames))]

    def ping(self, position: str) -> Payload:
        # The id alone is no event, but it moves the Last-Event-ID of a client whose filter lets nothing through.
        return b": ping\nid: %b\n\n" % position.encode()

    def gap(self, position: str, missed: int) -> Payload:
        return b'id: %b\nevent: gap\ndata: {"missed":%d}\n\n' % (position.encode(), missed)

    @staticmethod
    def _event(frame: Frame) -> bytes:
        # JSON of other programs may have a carriage return between two values, which would end a line here.
        line = frame.line.replace(b"\r", b" ")
        head = f"id: {frame.id}\nevent: {frame.envelope.event_type}\ndata: "
        return b"%b%b\n\n" % (head.encode(), line)


_SSE = _ServerSentEvents()


async def stream(request: Request) -> Response:
    """`GET /v1/stream`: server-sent events, until somebody ends it."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "read")
    asked = _asked_by_parameters(request)
    wanted, after = asked.wanted(caller), asked.position()
    if request.method == "HEAD":
        return Response(headers=_SSE_HEADERS, media_type="text/event-stream")
    return _StreamResponse(parts, caller, wanted, after)


def _asked_by_parameters(request: Request) -> _Asked:
    parameters: QueryParams = request.query_params
    for name in parameters:
        if name not in _PARAMETERS:
            raise bad_parameter(name[:100], f"there is no such parameter; there are {', '.join(_PARAMETERS)}")
        if len(parameters.getlist(name)) > 1:
            raise bad_parameter(name, "give it once; of types, several with commas between them")
    values: dict[str, Any] = {name: parameters[name] for name in parameters}
    if "types" in values:
        values["types"] = values["types"].split(",")
    # Which the browser sends when it connects again, to an address that may say where it once began.
    values["after"] = request.headers.get("last-event-id") or values.get("after")
    return _Asked(**values)


class _StreamResponse(Response):
    """An answer that goes on. It is no StreamingResponse: that would wait for its client to leave."""

    def __init__(self, parts: Parts, caller: Caller, wanted: Wanted, after: After | None) -> None:
        super().__init__(headers=_SSE_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._parts = parts
        self._caller = caller
        self._wanted = wanted
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._parts.streams

        async def write(payloads: Sequence[Payload]) -> None:
            body = b"".join(payloads)  # type: ignore[arg-type]  # this framing makes bytes
            await send({"type": "http.response.body", "body": body, "more_body": True})

        with streams.slot(), streams.opened(self._caller, self._wanted, self._after, _SSE) as opened:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write([_RETRY])
            reads = await _run(opened, write, receive, "http.disconnect")
        if opened.ended.result() is not End.CLIENT_LEFT:
            await _end(scope, send({"type": "http.response.body", "body": b""}) if reads else None)


# -- WebSocket ---------------------------------------------------------------------------------


class _Messages:
    def events(self, frames: Sequence[Frame]) -> list[Payload]:
        return [self._event(frame) for frame in frames]

    def ping(self, position: str) -> Payload:
        return f'{{"kind":"ping","id":"{position}"}}'

    def gap(self, position: str, missed: int) -> Payload:
        return f'{{"kind":"gap","id":"{position}","missed":{missed}}}'

    @staticmethod
    def _event(frame: Frame) -> str:
        head = f'{{"kind":"event","id":"{frame.id}","type":"{frame.envelope.event_type}","event":'
        return f"{head}{frame.line.decode()}}}"


_MESSAGES = _Messages()
_first_messages = msgspec.json.Decoder(_Asked)


async def websocket(connection: WebSocket) -> None:
    """`/v1/ws`: the same as messages. The first one comes from the client, and says what it wants."""
    parts = parts_of(connection)
    with contextlib.ExitStack() as counted:
        caller = None
        if _is_authenticated(connection):
            caller = parts.callers.of(connection, "read")
            counted.enter_context(parts.streams.slot())
        await connection.accept()
        try:
            asked = await _first_message(connection, parts.limits.header_timeout_s)
            if caller is None:
                caller = parts.callers.of_key(asked.token or "", "read")
                counted.enter_context(parts.streams.slot())
            elif asked.token is not None:
                raise bad_parameter("token", "this connection has a key already")
            await _stream_messages(connection, parts, caller, asked)
        except Problem as problem:
            await _refuse(connection, problem)
        except OSError:
            pass  # the client has gone


def _is_authenticated(connection: HTTPConnection) -> bool:
    return "authorization" in connection.headers or COOKIE in connection.cookies or is_local_socket(connection)


async def _first_message(connection: WebSocket, limit_s: float) -> _Asked:
    """Return what the client wants. Raises Problem, and OSError where it leaves instead."""
    try:
        message = await asyncio.wait_for(connection.receive(), limit_s)
    except TimeoutError:
        raise Problem(408, "no_first_message", f"send what you want within {limit_s:g} s: {{}} is all") from None
    if message["type"] == "websocket.disconnect":
        raise ConnectionResetError
    text = message.get("text")
    if text is None:
        raise bad_parameter("message", "the first message is a text, not bytes")
    try:
        return _first_messages.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        members = ", ".join(_Asked.__struct_fields__)
        raise bad_parameter("message", f"{error}; the first message is an object with any of {members}") from None


async def _stream_messages(connection: WebSocket, parts: Parts, caller: Caller, asked: _Asked) -> None:
    async def write(payloads: Sequence[Payload]) -> None:
        try:
            for payload in payloads:
                await connection.send({"type": "websocket.send", "text": payload})
        except (WebSocketDisconnect, RuntimeError):  # the latter after a close
            raise ConnectionResetError from None

    wanted, after = asked.wanted(caller), asked.position()
    with parts.streams.opened(caller, wanted, after, _MESSAGES) as opened:
        reads = await _run(opened, write, connection.receive, "websocket.disconnect")
    reason = opened.ended.result()
    if reason is not End.CLIENT_LEFT:
        await _end(connection.scope, connection.close(_CLOSE_CODES[reason], reason.value) if reads else None)


async def _refuse(connection: WebSocket, problem: Problem) -> None:
    """Say why there is no stream: once it is accepted, a WebSocket has no status any more."""
    told = {"kind": "problem", "problem": problem.body(connection.state.request_id)}
    text = msgspec.json.encode(told).decode()
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await connection.send({"type": "websocket.send", "text": text})
        await connection.close(1013 if problem.status in (429, 503) else 1008, problem.code)


# -- both ----------------------------------------------------------------------------------------


async def _run(
    opened: Stream,
    write: Callable[[Sequence[Payload]], Awaitable[None]],
    receive: Callable[[], Awaitable[Message]],
    farewell: str,
) -> bool:
    """Send until the stream ends; it ends when the client leaves. What the client says is not listened to.

    Returns whether the client reads what it is sent.
    """

    async def listen() -> None:
        while (await receive())["type"] != farewell:
            pass
        opened.end(End.CLIENT_LEFT)

    listening = asyncio.create_task(listen())
    try:
        return await opened.run(write)
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def _end(scope: Scope, last: Awaitable[None] | None) -> None:
    """Send the last of a stream; cut the connection where the client does not take it."""
    try:
        if last is not None:
            await asyncio.wait_for(last, LAST_WORDS_S)
            return
    except TimeoutError:
        pass
    except (OSError, WebSocketDisconnect, RuntimeError):
        return  # the client has gone
    if ABORT in scope.get("extensions", {}):
        scope["extensions"][ABORT]()
        await asyncio.sleep(0)


ROUTES = [Route("/v1/stream", stream, methods=["GET"]), WebSocketRoute("/v1/ws", websocket)]
