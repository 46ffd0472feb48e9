"""What every request passes first, and every answer last: pure ASGI, so that streams stay streams.

Host          a name of ours, or an address: a foreign name that points here is DNS rebinding
Origin        of a page of ours, where a browser says so: no other page makes requests for its visitor
headers       no sniffing, no frames, no referrer, no foreign scripts, on errors, too
exceptions    one form (eventlog.server.problems); what is unexpected is logged, and says nothing of itself
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventlog.server.callers import is_local_socket
from eventlog.server.problems import Problem

_logger = logging.getLogger("eventlog.server")
REQUEST_ID = "eventlog-request-id"
_SAME = ("same-origin", "none")
_SAFE_METHODS = ("GET", "HEAD")
#: Mode and destination of a link that somebody followed.
_VISIT = ("navigate", "document")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with that, browsers say that a form of ours is of no origin.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Guard:
    """Refuses requests that no program or page of the owner's makes."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str] = (), origins: Collection[str] = ()) -> None:
        """`names` are host names besides localhost, `origins` foreign pages that may ask: `https://a.example`."""
        self._app = app
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        headers = Headers(scope=scope)
        allowed_origin = self._foreign_origin(headers)
        is_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_begun
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                is_begun = True
                _complete(MutableHeaders(scope=message), request_id, allowed_origin)
            await send(message)

        try:
            self._check(scope, headers)
            if scope["type"] == "http" and scope["method"] == "OPTIONS" and allowed_origin:
                await _preflight(scope, receive, send_with_headers)
                return
            await self._app(scope, receive, send_with_headers)
        except Problem as problem:
            await _refuse(problem, request_id, scope, receive, send_with_headers)
        except Exception:
            _logger.exception("request %s failed", request_id)
            if is_begun:
                raise  # the server closes the connection: what was sent is no whole answer
            fault = Problem(500, "internal_error", "this is a fault of ours; the server's log has more")
            await _refuse(fault, request_id, scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if (len(hosts) != 1 or not self._is_ours(hosts[0])) and not is_local_socket(HTTPConnection(scope)):
            raise Problem(403, "foreign_host", "this server does not go by that name; see --public-url")
        origin = headers.get("origin")
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        site = headers.get("sec-fetch-site")
        is_visit = is_safe and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == _VISIT
        is_foreign = site is not None and site not in _SAME and not is_visit
        if origin is not None and not (is_safe and origin == "null"):
            is_foreign = is_foreign or not self._is_origin_ours(origin, hosts)
        if is_foreign and self._foreign_origin(headers) is None:
            raise Problem(403, "foreign_origin", "pages of other origins may not ask this server")

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        return name is not None and (name in self._names or _is_address(name))

    def _is_origin_ours(self, origin: str, hosts: list[str]) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and bool(hosts) and parts.netloc.lower() == hosts[0].lower()

    def _foreign_origin(self, headers: Headers) -> str | None:
        origin = headers.get("origin")
        return origin if origin is not None and origin.lower() in self._origins else None


def _host_name(host: str) -> str | None:
    """Return the name of a Host header, without its port and in lower case; None for what is no host."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name and "@" not in host else None


def _is_address(name: str) -> bool:
    """Say whether a host is an address: no name can be made to point to another one then."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _complete(headers: MutableHeaders, request_id: str, allowed_origin: str | None) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("cache-control", "no-store")
    headers[REQUEST_ID] = request_id
    if allowed_origin is not None:
        headers["access-control-allow-origin"] = allowed_origin
        headers["cross-origin-resource-policy"] = "cross-origin"
        headers.add_vary_header("Origin")


async def _preflight(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {
        "access-control-allow-methods": "GET, POST, PUT, DELETE",
        "access-control-allow-headers": "authorization, content-type, content-encoding, idempotency-key, last-event-id",
        "access-control-max-age": "600",
    }
    await Response(status_code=204, headers=headers)(scope, receive, send)


async def _refuse(problem: Problem, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        # Of such a server, a WebSocket is refused by closing it before it is accepted: the client sees 403.
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
        return
    await problem.response(request_id)(scope, receive, send)
