"""Browsers log in with the one-time link that `eventlog serve` prints, or with a key, and get a cookie for it."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from eventlog.server import bodies
from eventlog.server.callers import COOKIE
from eventlog.server.parts import parts_of
from eventlog.server.problems import Answer, Problem
from eventlog.server.web.templates import render

_LOGIN_MAX_BYTES = 4096


async def page(_: Request) -> Response:
    """`GET /login`: the form. A script puts the token of the link into it."""
    return HTMLResponse(render("login.html"))


async def log_in(request: Request) -> Response:
    """`POST /login`: open a session for a token or a key, given as a form; go on to the first page."""
    parts = parts_of(request)
    body = await bodies.read_body(request, max_bytes=_LOGIN_MAX_BYTES, timeout_s=parts.limits.body_timeout_s)
    given = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
    cookie = parts.callers.log_in(given)
    if cookie is None:
        raise Problem(401, "unauthorized", "the key or token is unknown, used up or expired; see: eventlog serve")
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        COOKIE, cookie, max_age=int(parts.limits.session_s), httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


async def log_out(request: Request) -> Response:
    """`POST /logout`: end the session."""
    parts = parts_of(request)
    body = await bodies.read_body(request, max_bytes=_LOGIN_MAX_BYTES, timeout_s=parts.limits.body_timeout_s)
    token = parse_qs(body.decode("utf-8", "replace")).get("csrf_token", [None])[0]
    parts.callers.log_out(request, token)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


async def session(request: Request) -> Response:
    """`GET /v1/session`: what the caller may do, and the token that forms and scripts of a session send along."""
    caller = parts_of(request).callers.of(request, "read")
    return Answer(
        {
            "workspace": caller.workspace,
            "scopes": sorted(caller.key.scopes),
            "csrf_token": caller.session.csrf_token if caller.session else None,
        }
    )


ROUTES = [
    Route("/login", page, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/v1/session", session),
]
