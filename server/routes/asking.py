"""What is asked: the endpoints, `POST /v1/sql`, the OpenAPI document, and `/metrics` for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.server import bodies, parameters, prometheus
from eventlog.server.endpoints import ENDPOINTS, SQL, Endpoint, SqlQuestion
from eventlog.server.frames import Question, Reply
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Problem, bad_parameter

_SQL_ROWS_MAX = 100_000
_SQL_MAX_CHARS = 100_000
_TAGS_MAX_CHARS = 4_000
#: A browser may keep an answer, and asks each time whether it still holds.
_KEPT = {"cache-control": "private, no-cache", "vary": "Authorization, Cookie"}


def _asking(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        parts = parts_of(request)
        caller = parts.callers.of(request, "read")
        texts = parameters.collect(endpoint.all_parameters, request.query_params.multi_items())
        texts |= {name: [value] for name, value in request.path_params.items()}
        # Here, so that what cannot be understood waits for no process; the process counts ages from its own now.
        parameters.read((*endpoint.of_path, *endpoint.all_parameters), texts, datetime.now(UTC))
        if endpoint.of_the_root:
            caller.expect_whole_root()
        named = texts.pop("workspace", [None])[0]
        question = Question(
            workspace=caller.workspace_for(named), endpoint=endpoint.name, texts=texts,
            tags=request.headers.get("if-none-match", "")[:_TAGS_MAX_CHARS],
        )  # fmt: skip
        reply = await _asked(request, parts, question)
        return _response(request, reply)

    ask.__doc__ = f"`GET {endpoint.path}`: {endpoint.meaning}"
    return ask


async def sql(request: Request) -> Response:
    """`POST /v1/sql`: the rows of one SELECT."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "read")
    limits = parts.limits
    body = await bodies.read_body(request, max_bytes=limits.control_max_bytes, timeout_s=limits.body_timeout_s)
    body = bodies.decompressed(body, request.headers.get("content-encoding", ""), max_bytes=limits.control_max_bytes)
    try:
        asked = msgspec.json.decode(body, type=SqlQuestion)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        detail = f"{error}; it has query, params, format, limit, timeout_s, workspace"
        raise Problem(400, "invalid_question", detail) from None
    if not 1 <= asked.limit <= _SQL_ROWS_MAX:
        raise bad_parameter("limit", f"it is a number from 1 to {_SQL_ROWS_MAX:,}")
    if len(asked.query) > _SQL_MAX_CHARS:
        raise bad_parameter("query", f"it is longer than {_SQL_MAX_CHARS:,} characters")
    if asked.timeout_s is not None and not 0.01 <= asked.timeout_s <= limits.answer_timeout_s:
        raise bad_parameter("timeout_s", f"it is a number of seconds from 0.01 to {limits.answer_timeout_s:g}")
    question = Question(workspace=caller.workspace_for(asked.workspace), endpoint=SQL, body=msgspec.json.encode(asked))
    return _response(request, await _asked(request, parts, question))


async def openapi(request: Request) -> Response:
    """`GET /v1/openapi.json`: what can be asked, for programs that make clients of it."""
    parts = parts_of(request)
    parts.callers.of(request, "read")
    return _response(request, await _asked(request, parts, Question(workspace=None, endpoint="openapi")))


async def metrics(request: Request) -> Response:
    """`GET /metrics`: counts and lags of this server and its root, for Prometheus. They are of the whole root."""
    parts = parts_of(request)
    parts.callers.of(request, "read").expect_whole_root()
    try:
        reply: Reply | None = await _asked(request, parts, Question(workspace=None, endpoint="status"))
    except Problem:  # the rest is known, and that this is not is told by its absence
        reply = None
    return Response(prometheus.text(parts, None if reply is None else reply.body), media_type=prometheus.MEDIA_TYPE)


async def _asked(request: Request, parts: Parts, question: Question) -> Reply:
    """Ask, as long as the client is there. Raises Problem."""
    answer = asyncio.create_task(parts.readers.ask(question, after=parts.accepted))
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise Problem(408, "client_gone", "nobody waits for this answer any more")
    finally:
        for task in (answer, gone):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(request: Request, reply: Reply) -> Response:
    headers = dict(reply.headers)
    if "etag" in headers:
        headers |= _KEPT
    if "link" in headers:  # the place of the next page
        pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "after"]
        pairs.append(("after", headers["link"]))
        headers["link"] = f'<{request.url.path}?{urlencode(pairs)}>; rel="next"'
    return Response(reply.body, reply.status, headers, media_type=reply.media_type if reply.body else None)


ROUTES = [
    *(Route(endpoint.path.replace("{id}", "{id:path}"), _asking(endpoint)) for endpoint in ENDPOINTS),
    Route("/v1/sql", sql, methods=["POST"]),
    Route("/v1/openapi.json", openapi),
    Route("/metrics", metrics),
]
