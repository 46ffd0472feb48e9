"""The application: its routes, its guard, and its life from the first request to the last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.server.guard import Guard
from eventlog.server.parts import Parts
from eventlog.server.problems import Problem, not_found
from eventlog.server.routes import alerts, asking, jobs, keys, login, prices, probes, sending, streaming
from eventlog.server.web import files, pages

ROUTES = [
    *probes.ROUTES, *login.ROUTES, *sending.ROUTES, *asking.ROUTES, *alerts.ROUTES, *prices.ROUTES, *keys.ROUTES,
    *jobs.ROUTES, *streaming.ROUTES, *files.ROUTES, *pages.ROUTES,
]  # fmt: skip


def create(parts: Parts, *, names: Iterable[str] = (), origins: Collection[str] = ()) -> Starlette:
    """Return the ASGI application of a server. `names` and `origins` are those of the guard."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await parts.open()
        try:
            yield
        finally:
            await parts.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(Guard, names=names, origins=origins)],
        exception_handlers={HTTPException: _http_problem, Problem: _problem},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # an address is right or wrong
    app.state.parts = parts
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.state.request_id)


async def _http_problem(request: Request, error: Exception) -> Response:
    """Give an error of Starlette's own the form of ours."""
    assert isinstance(error, HTTPException)
    problem = not_found()
    if error.status_code == 405:
        routes = (each for each in ROUTES if isinstance(each, Route) and each.path_regex.match(request.url.path))
        allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        problem = Problem(405, "wrong_method", f"use {allowed}", headers={"Allow": allowed})
    elif error.status_code != 404:
        problem = Problem(error.status_code, "bad_request", "the request cannot be understood")
    return problem.response(request.state.request_id)
