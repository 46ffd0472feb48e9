"""Lists of requests, with what their model calls cost, and the request that an id means."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import duckdb
import msgspec

from eventlog.format.envelope import AuditLevel
from eventlog.format.timestamps import naive_utc
from eventlog.queries.access import sandbox
from eventlog.queries.identity import Scope, levels
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs import call_costs, lookup


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the view `requests`, with the cost of its calls. Times are in UTC, with their zone.

    `cost_usd` does not include the `unpriced` calls, and is None where no call has a price. `status` is None without a
    `request` event.
    """

    request_id: str
    name: str | None
    workspace: str | None
    session_id: str | None
    agent: str | None
    run_ids: list[str]
    status: str | None
    first: datetime | None
    last: datetime | None
    duration_ms: float | None
    error_type: str | None
    error_message: str | None
    audit_level: str
    events: int
    steps: int
    llm_calls: int
    llm_failures: int
    tool_calls: int
    tool_failures: int
    errors: int
    decisions: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    event_id: str | None
    cost_usd: Decimal | None = None
    unpriced: int = 0

    @property
    def cursor(self) -> str:
        """Its place in a list: pass that of the last one as `after` for the next page."""
        return lookup.cursor(self.last, self.request_id, self.workspace)

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not."""
        return (
            self.uncached_input_tokens + self.cache_read_tokens
            + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        )  # fmt: skip

    @property
    def failures(self) -> int:
        """Failed calls and errors together."""
        return self.llm_failures + self.tool_failures + self.errors


_COLUMNS = ", ".join(
    "event_id::VARCHAR AS event_id" if name == "event_id" else name
    for name in Request.__struct_fields__
    if name not in ("cost_usd", "unpriced")
)
_LIST_REQUESTS = f"""
    SELECT {_COLUMNS} FROM requests
    WHERE ($agent::VARCHAR IS NULL OR agent = $agent) AND ($since::TIMESTAMP IS NULL OR last >= $since::TIMESTAMP)
      AND ($levels::VARCHAR[] IS NULL OR list_contains($levels::VARCHAR[], audit_level)) AND {{is_after}}
    ORDER BY last DESC NULLS LAST, request_id, workspace NULLS FIRST LIMIT $limit
"""
_ONE_REQUEST = f"""
    SELECT {_COLUMNS} FROM requests
    WHERE request_id = $id AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR
"""
#: By the events that name the request: `request_id` of imported calls is the provider's.
_COSTS = """
    SELECT events.request_id, events.workspace, sum(cost_usd), count(*) FILTER (cost_usd IS NULL)
    FROM llm_costs JOIN events
      ON llm_costs.event_id = events.event_id AND llm_costs.workspace IS NOT DISTINCT FROM events.workspace
    WHERE events.event_type = 'llm_call' AND events.request_id IN (SELECT unnest($ids::VARCHAR[]))
    GROUP BY ALL
"""
_IDS_WITH_PREFIX = f"""
    SELECT request_id, list(DISTINCT workspace) AS workspaces, max(last) AS last FROM requests
    WHERE starts_with(request_id, $prefix)
    GROUP BY 1 ORDER BY request_id = $prefix DESC, last DESC, 1 LIMIT {lookup.CANDIDATES + 1}
"""


def list_requests(
    connection: duckdb.DuckDBPyConnection,
    *,
    agent: str | None = None,
    since: datetime | None = None,
    audit_level: AuditLevel | None = None,
    limit: int = 50,
    after: str | None = None,
) -> list[Request]:
    """List requests, the one with the latest event first: those with an event at `since` or later.

    With `audit_level`, those whose own level, the highest of their events, is at least that. `after` is the
    `cursor` of the last one of the page before. Raises QueryFailed for an unknown level, and for a limit that is
    not 1 to LIMIT_MAX.
    """
    is_after, position = lookup.after_position(after, "last", "request_id")
    params = {
        "agent": agent,
        "since": since and naive_utc(since),
        "levels": levels(audit_level),
        "limit": lookup.checked_limit(limit),
        **position,
    }
    rows = rows_as_dicts(sandbox.execute(connection, _LIST_REQUESTS.replace("{is_after}", is_after), params))
    return _with_costs(connection, [Request(**row) for row in rows])


def read_request(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Request | None:
    """Return one request; None where no recorded event names it."""
    rows = rows_as_dicts(connection.execute(_ONE_REQUEST, scope.params))
    return next(iter(_with_costs(connection, [Request(**row) for row in rows])), None)


def find_request(connection: duckdb.DuckDBPyConnection, prefix: str) -> Scope | None:
    """Return the request with this id, or with the only id that starts with it; as `lookup.find_run` does."""
    rows = connection.execute(_IDS_WITH_PREFIX, {"prefix": prefix}).fetchall() if prefix else []
    return lookup.only_one(rows, prefix, "request_id", "request")


def _with_costs(connection: duckdb.DuckDBPyConnection, found: list[Request]) -> list[Request]:
    # Loading the prices takes longer than all the rest.
    ids = [request.request_id for request in found if request.llm_calls]
    if not ids:
        return found
    from eventlog.queries.cost import costs  # noqa: PLC0415

    costs.provide(connection)
    rows = connection.execute(_COSTS, {"ids": ids}).fetchall()
    sums = {(request_id, workspace): call_costs.Sum.of(*found) for request_id, workspace, *found in rows}
    return [call_costs.with_sum(request, sums.get((request.request_id, request.workspace))) for request in found]
