"""What a page asks: the same endpoints as programs do, a few at once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from eventlog.server.callers import Caller
from eventlog.server.endpoints import SQL, SqlQuestion
from eventlog.server.frames import Question
from eventlog.server.parts import parts_of
from eventlog.server.problems import Problem
from eventlog.server.web.templates import render


class NotLoggedIn(Exception):
    """Nobody has logged in in this browser."""


def caller_of(request: Request) -> Caller:
    """Return who looks at a page. Raises NotLoggedIn, and Problem without the scope read."""
    caller = parts_of(request).callers.find(request)
    if caller is None:
        raise NotLoggedIn
    if not caller.may("read"):
        raise Problem(403, "missing_scope", "this key has no scope read")
    return caller


async def ask_sql(request: Request, query: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the rows of a SELECT. Raises Problem."""
    body = msgspec.json.encode(SqlQuestion(query=query, limit=limit))
    rows: list[dict[str, Any]] = await _asked(request, SQL, {}, body)
    return rows


async def ask(request: Request, endpoint: str, **parameters: str | int | None) -> Any:
    """Return the answer of an endpoint as plain objects. Raises Problem."""
    texts = {name: [str(value)] for name, value in parameters.items() if value not in (None, "")}
    return await _asked(request, endpoint, texts)


async def _asked(request: Request, endpoint: str, texts: dict[str, list[str]], body: bytes = b"") -> Any:
    caller = caller_of(request)
    workspace = caller.workspace if caller.workspace is not None else request.query_params.get("workspace") or None
    parts = parts_of(request)
    question = Question(workspace=workspace, endpoint=endpoint, texts=texts, body=body)
    reply = await parts.readers.ask(question, after=parts.accepted)
    return msgspec.json.decode(reply.body)


async def ask_all(*questions: Coroutine[Any, Any, Any]) -> list[Any]:
    """Return the answers to several questions, asked at once. Raises Problem."""
    return await asyncio.gather(*questions)


def shown(build: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a page: whoever has not logged in is sent there, and problems have a page of their own."""

    @functools.wraps(build)
    async def show(request: Request) -> Response:
        try:
            return await build(request)
        except NotLoggedIn:
            return RedirectResponse("/login", status_code=303)
        except Problem as problem:
            context = {"problem": problem, "request_id": request.state.request_id}
            return HTMLResponse(render("problem.html", **context), problem.status, problem.headers)

    return show


def page(request: Request, template: str, **context: Any) -> Response:
    """Return a page, with what all of them show."""
    caller = caller_of(request)
    given = request.query_params
    kept = {"workspace": given.get("workspace") if caller.workspace is None else None}
    html = render(
        template, here=request.url.path, given=given, kept=kept, caller=caller, now=datetime.now(UTC),
        csrf_token=caller.session.csrf_token if caller.session else "", **context,
    )  # fmt: skip
    return HTMLResponse(html)
