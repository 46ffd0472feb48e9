"""`eventlog requests`, and the head of a request in `eventlog show`."""

from __future__ import annotations

from datetime import datetime

import click

from eventlog.cli.text import counted, printable
from eventlog.format.envelope import AUDIT_LEVELS, AuditLevel
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.runs.requests import Request
from eventlog.queries.text import tables
from eventlog.queries.text.tables import Column
from eventlog.queries.text.units import duration, spent


@click.command()
@options.agent_option
@options.since_option
@click.option("--audit-level", type=click.Choice(AUDIT_LEVELS), help="Only requests of this level, or of a higher one.")
@options.limit_option(50)
@options.reading(times=True)
def requests(
    context: Context, agent: str | None, since: datetime | None, audit_level: AuditLevel | None, limit: int
) -> None:
    """List requests, newest first.

    A request is what recorded events name as their request_id, whatever runs they are in.

    \b
    Example:
      eventlog requests --since 24h
      eventlog requests --audit-level export --json
    """
    found = context.store().requests.list(agent=agent, since=since, audit_level=audit_level, limit=limit)
    if_none = "record one with obs.request(…)"
    context.show_list(found, lambda: _lines(found, context), noun="requests", limit=limit, if_none=if_none)


def _lines(found: list[Request], context: Context) -> list[str]:
    rows = [
        (
            request.request_id, request.name or "", request.agent or "", request.status or "",
            context.time(request.last), duration(_took_ms(request)), f"{len(request.run_ids):,}",
            f"{request.events:,}", f"{request.llm_calls:,}", f"{request.tool_calls:,}", f"{request.failures:,}",
            f"{request.decisions:,}", cost(request), request.audit_level, request.session_id or "",
            request.workspace or "",
        )
        for request in found
    ]  # fmt: skip
    return tables.listed(
        rows,
        Column("request"), Column("name", rank=3, elastic=True), Column("agent", rank=4, elastic=True),
        Column("status"),
        Column(context.heading("last", [request.last for request in found]), rank=1),
        Column("took", rank=5, number=True),
        Column("runs", rank=6, number=True), Column("events", rank=7, number=True),
        Column("calls", rank=5, number=True), Column("tools", rank=5, number=True),
        Column("failed", rank=3, number=True), Column("decisions", rank=4, number=True),
        Column("cost", rank=2, number=True), Column("audit", rank=7), Column("session", rank=8),
        Column("workspace", rank=8),
    )  # fmt: skip


def _took_ms(request: Request) -> float | None:
    """Return how long it took, as its event says; else the time between its first and its last event."""
    if request.duration_ms is not None or request.first is None or request.last is None:
        return request.duration_ms
    return (request.last - request.first).total_seconds() * 1000


def cost(request: Request) -> str:
    """Return its cost for people; with a `+` where calls without a price are not in it, and "" without calls."""
    if request.cost_usd is None:
        return counted(request.unpriced, "unpriced call") if request.unpriced else ""
    return spent(request.cost_usd, request.unpriced)


def head(request: Request, context: Context) -> list[tuple[str, str]]:
    """Return what stands above the tree of a request, as names and values."""
    error = ": ".join(each for each in (request.error_type, request.error_message) if each)
    took = _took_ms(request)
    entries = [
        ("request", " ".join(each for each in (request.request_id, request.name) if each)),
        ("status", (request.status or "not answered yet") + (f": {error}" if error else "")),
        (
            "when",
            f"{context.stamp(request.first)} → {context.stamp(request.last)}"
            + (f" ({duration(took)})" if took is not None else ""),
        ),
        ("agent", request.agent or ""),
        ("workspace", request.workspace or ""),
        ("session", request.session_id or ""),
        ("decisions", f"{request.decisions:,}" if request.decisions else ""),
        ("audit", request.audit_level if request.audit_level != "turn" else ""),
    ]
    return [(name, printable(value)) for name, value in entries if value]
