"""The pages. Each asks at most three questions, and keeps its state in its address."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.server.problems import Problem
from eventlog.server.web.asking import ask, ask_all, ask_sql, caller_of, page, shown

_ROWS = 50
_TREE_MAX = 500
_TEXT_CHARS = 20_000
_SQL_ROWS = 500
COST_GROUPS = ("model", "agent", "project", "session", "workspace", "branch", "subagent", "source")
_SORTS = ("time", "duration", "cost")


async def now(request: Request) -> Response:
    """`/`: what runs, what it costs, what is wrong."""
    runs, cost, alerts = await ask_all(
        ask(request, "runs", limit=15), ask(request, "cost", since="14d"), ask(request, "alerts")
    )
    firing = [rule for rule in alerts if rule["state"] in ("firing", "failing")]
    return page(request, "now.html", runs=runs, cost=cost, firing=firing, rules=alerts)


async def runs(request: Request) -> Response:
    """`/runs`: the newest first, by agent, outcome, time and words."""
    given = request.query_params
    found = await ask(
        request, "runs", agent=given.get("agent"), status=given.get("status"), since=given.get("since"),
        words=given.get("words"), after=given.get("after"), limit=_ROWS,
    )  # fmt: skip
    return page(request, "runs.html", runs=found, rows=_ROWS)


async def sessions(request: Request) -> Response:
    """`/sessions`: the one with the newest event first."""
    given = request.query_params
    found = await ask(
        request, "sessions", agent=given.get("agent"), since=given.get("since"), words=given.get("words"),
        after=given.get("after"), limit=_ROWS,
    )  # fmt: skip
    return page(request, "sessions.html", sessions=found, rows=_ROWS)


async def work(request: Request) -> Response:
    """`/runs/{id}` and `/sessions/{id}`: one run or session as conversation, waterfall, or what stands out."""
    id_ = request.path_params["id"]
    kind = "run" if request.url.path.startswith("/runs/") else "session"
    view = request.query_params.get("view") or "conversation"
    talk = await ask(request, "messages", id=id_, text_chars=_TEXT_CHARS)
    context: dict[str, Any] = {"talk": talk, "kind": kind, "view": view, "id": id_}
    if view == "waterfall":
        tree = await ask(request, kind, id=id_)
        context |= _waterfall(tree, request.query_params.get("sort") or "time")
    elif view == "insights":
        context["insights"] = await ask(request, "insights", id=id_)
    elif view != "conversation":
        raise Problem(404, "not_found", "there is no such view; use conversation, waterfall or insights")
    return page(request, "work.html", **context)


def _waterfall(tree: dict[str, Any], sort: str) -> dict[str, Any]:
    """Return the rows of a tree, each with where its bar begins and how long it is, in thousandths."""
    if sort not in _SORTS:
        raise Problem(400, "bad_parameter", f"sort: use one of {', '.join(_SORTS)}")
    start, end = _seconds(tree["started"]), _seconds(tree["finished"])
    span = max(end - start, 1e-6)
    rows = []
    for node in tree["nodes"]:
        begun, ended = _seconds(node["started"]), _seconds(node["finished"])
        left = min(max(round((begun - start) / span * 1000), 0), 999)
        width = max(round((ended - begun) / span * 1000), 2)
        rows.append({**node, "left": left, "width": min(width, 1000 - left)})
    if sort == "duration":
        rows.sort(key=lambda row: -(row["duration_ms"] or 0))
    elif sort == "cost":
        rows.sort(key=lambda row: -float(row["cost_usd"] or 0))
    return {"rows": rows[:_TREE_MAX], "more": max(len(rows) - _TREE_MAX, 0), "sort": sort, "sorts": _SORTS}


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


async def cost(request: Request) -> Response:
    """`/cost`: by day, and by one of COST_GROUPS, with each kind of token."""
    given = request.query_params
    by, since = given.get("by") or "model", given.get("since") or "30d"
    if by not in COST_GROUPS:
        raise Problem(400, "bad_parameter", f"by: use one of {', '.join(COST_GROUPS)}")
    daily, grouped = await ask_all(
        ask(request, "cost", since=since), ask(request, "cost", since=since, by=by, period="total")
    )
    return page(request, "cost.html", daily=daily, grouped=grouped, by=by, since=since, groups=COST_GROUPS)


async def search(request: Request) -> Response:
    """`/search`: events by their words."""
    text = request.query_params.get("q", "").strip()
    found = await ask(request, "search", text=text, limit=_ROWS) if text else None
    return page(request, "search.html", found=found, text=text)


async def event(request: Request) -> Response:
    """`/events/{id}`: one event, where it stands, and whether the log still backs it."""
    found = await ask(request, "event", id=request.path_params["id"])
    return page(request, "event.html", found=found)


async def health(request: Request) -> Response:
    """`/health`: each agent's score with what took points off."""
    return page(request, "health.html", agents=await ask(request, "health"))


async def alerts(request: Request) -> Response:
    """`/alerts`: rules, and their firings."""
    rules, firings = await ask_all(ask(request, "alerts"), ask(request, "alerts", history="true"))
    return page(request, "alerts.html", rules=rules, firings=firings)


async def diff(request: Request) -> Response:
    """`/diff`: what differs between two runs, or two sessions."""
    given = request.query_params
    a, b = given.get("a", "").strip(), given.get("b", "").strip()
    return page(request, "diff.html", found=await ask(request, "diff", a=a, b=b) if a and b else None)


async def sql(request: Request) -> Response:
    """`/sql`: the rows of one SELECT, within the limits of every question."""
    query = request.query_params.get("query", "").strip()
    rows, problem = None, ""
    if query:
        try:
            rows = await ask_sql(request, query, limit=_SQL_ROWS)
        except Problem as refused:
            problem = refused.detail
    columns = list(rows[0]) if rows else []
    return page(request, "sql.html", query=query, rows=rows, columns=columns, problem=problem, limit=_SQL_ROWS)


async def live(request: Request) -> Response:
    """`/live`: events as they are recorded."""
    caller_of(request)
    return page(request, "live.html")


_PAGES = {
    "/": now,
    "/runs": runs,
    "/runs/{id:path}": work,
    "/sessions": sessions,
    "/sessions/{id:path}": work,
    "/cost": cost,
    "/search": search,
    "/events/{id}": event,
    "/health": health,
    "/alerts": alerts,
    "/diff": diff,
    "/sql": sql,
    "/live": live,
}
ROUTES = [Route(path, shown(build)) for path, build in _PAGES.items()]
