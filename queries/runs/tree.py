"""A run or a session as a tree of its events.

    events of the run ──→ nodes ──→ each below its parent (parent_event_id) ──→ a list, depth first

The tree is a flat list of nodes with their depths, and is built without recursion: parents may form a chain of
any length, or a cycle, and neither may crash the reader. A node whose parent is not in the run is a root, and so is
the earliest node of a cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import msgspec

from eventlog.format.timestamps import utc
from eventlog.queries.identity import Scope
from eventlog.queries.runs import call_costs, lookup
from eventlog.queries.runs.lookup import Run

#: Of a run with more events, steps are shown first, then calls and errors, then other events, then heartbeats.
NODES_MAX = 5_000
_TEXT_CHARS = 300
_ABSURD_MS = 1e15
#: Field of Node (or part of one) → fields of a payload; the first that has a value is taken.
_FIELDS = {
    "name": ("name", "tool_name", "tool", "response_model", "request_model", "model", "action", "error_type"),
    "kind": ("kind", "level", "role"),
    "text": ("error_message", "message", "question", "content", "text", "uri", "explanation", "chosen"),
    "duration_ms": ("duration_ms", "latency_ms", "elapsed_ms"),
    "error_type": ("error_type",),
    "error_message": ("error_message",),
    "ok": ("ok",),
    "uncached": ("uncached_input_tokens",),
    "cache_read": ("cache_read_tokens",),
    "write_5m": ("cache_write_5m_tokens",),
    "write_1h": ("cache_write_1h_tokens",),
    "output": ("output_tokens",),
    "handled": ("handled",),
}
_PAYLOAD_FIELDS = list(dict.fromkeys(field for fields in _FIELDS.values() for field in fields))


def _argument(arguments: str) -> str:
    """Return SQL for the first text among a tool call's arguments, else the first argument; NULL for a large field."""
    values = f"json_extract({arguments}, '$.*')"
    return f"""(CASE WHEN json_type({arguments}) <> 'OBJECT' THEN {arguments} ->> '$'
                     WHEN ({arguments} -> '/$blob') IS NULL THEN json_extract_string(
                         coalesce([value FOR value IN {values} IF json_type(value) = 'VARCHAR'][1], {values}[1]), '$')
                END)[1:{_TEXT_CHARS}]"""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a tree. `depth` 0 is the root. Times are in UTC; `started` is `finished` minus the duration.

    `input_tokens` counts all input, cached or not. Tokens and cost of a node that is not a model call are those of the
    calls below it. `text` is a short summary: the first text argument of a tool call, a message, a question.
    """

    event_id: str
    event_type: str
    parent_event_id: str | None
    depth: int = 0
    name: str
    kind: str | None = None
    text: str | None = None
    started: datetime
    finished: datetime
    duration_ms: float | None = None
    ok: bool = True
    error: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A run (`run`) or a session (`session_id`), with its nodes depth first.

    `left_out` counts the events beyond NODES_MAX by type, such as `{"heartbeat": 120}`. `input_tokens`,
    `output_tokens` and `cost_usd` are totals of the model calls; `unpriced` counts the calls without a price, which
    are not in `cost_usd`. `children` are the sub-runs of a run, or the runs of a session.
    """

    run: Run | None
    session_id: str | None
    workspace: str | None
    started: datetime | None
    finished: datetime | None
    nodes: list[Node]
    left_out: dict[str, int]
    children: list[Run]
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    unpriced: int


def find_tree(connection: duckdb.DuckDBPyConnection, prefix: str) -> Tree:
    """Return the tree of the run, or else of the session, with this id. Any unique prefix of an id works.

    Raises QueryFailed if there is none, or if several ids start so.
    """
    run = lookup.find_run(connection, prefix)
    if run is not None:
        return run_tree(connection, run)
    session = lookup.find_session(connection, prefix)
    if session is not None:
        return session_tree(connection, session)
    raise lookup.not_found(prefix)


# -- of a run --------------------------------------------------------------------------------

_RUN_EVENTS = f"""
    SELECT event_id::VARCHAR, event_type, parent_event_id, timestamp,
           [value[1:{_TEXT_CHARS}] FOR value IN
               json_extract_string(payload, [{", ".join(f"'/{name}'" for name in _PAYLOAD_FIELDS)}])],
           {_argument("payload -> 'arguments'")}
    FROM events WHERE {{scope}}
    ORDER BY CASE WHEN event_type IN ('run_started', 'run_finished', 'step') THEN 0
                  WHEN event_type IN ('llm_call', 'tool_call', 'error') THEN 1
                  WHEN event_type = 'heartbeat' THEN 3 ELSE 2 END, timestamp, event_id
    LIMIT $limit
"""
_RUN_COUNTS = "SELECT event_type, count(*) FROM events WHERE {scope} GROUP BY 1 ORDER BY 1"


def run_tree(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Tree:
    """Return the tree of a run. Events whose run has no `run_started` make a tree, too."""
    rows = connection.execute(scope.within(_RUN_EVENTS), {**scope.params, "limit": NODES_MAX}).fetchall()
    costs = call_costs.read_costs(connection, scope)
    nodes = [_node(row, costs) for row in rows]
    left_out: dict[str, int] = {}
    if len(nodes) == NODES_MAX:
        counts = connection.execute(scope.within(_RUN_COUNTS), scope.params).fetchall()
        left_out = _left_out(nodes, counts)
    run = lookup.read_run(connection, scope) or _without_start(scope, nodes)
    return _tree(nodes, scope, run=run, left_out=left_out, children=lookup.child_runs(connection, scope))


def _left_out(nodes: Iterable[Node], counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return how many events of each type are not among the nodes, where any are missing."""
    shown = Counter(node.event_type for node in nodes)
    return {event_type: count - shown[event_type] for event_type, count in counts if count > shown[event_type]}


def _node(row: tuple[Any, ...], costs: dict[str, Decimal]) -> Node:
    event_id, event_type, parent, timestamp, values, argument = row
    payload: dict[str, str | None] = dict(zip(_PAYLOAD_FIELDS, values, strict=True))

    def first(field: str) -> str | None:
        return next((payload[name] for name in _FIELDS[field] if payload[name]), None)

    duration_ms = _number(first("duration_ms"))
    failed = first("ok") == "false" or event_type == "error" or payload["error_type"] is not None
    finished = utc(timestamp)
    name = first("name") or event_type
    error_type = None if event_type == "error" and name == first("error_type") else first("error_type")
    error = ": ".join(part for part in (error_type, first("error_message")) if part)
    return Node(
        event_id=event_id,
        event_type=event_type,
        parent_event_id=parent,
        name=name,
        kind=first("kind"),
        text=argument if event_type == "tool_call" else first("text"),
        started=_before(finished, duration_ms),
        finished=finished,
        duration_ms=duration_ms,
        ok=not failed,
        error=error or None,
        input_tokens=sum(_count(first(kind)) for kind in ("uncached", "cache_read", "write_5m", "write_1h")),
        output_tokens=_count(first("output")),
        cost_usd=costs.get(event_id),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < _ABSURD_MS else None


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else 0


def _before(finished: datetime, duration_ms: float | None) -> datetime:
    try:
        return finished - timedelta(milliseconds=duration_ms or 0)
    except OverflowError:
        return finished


def _without_start(scope: Scope, nodes: list[Node]) -> Run:
    """Return a run for events without a `run_started` and a `run_finished`."""
    return Run(
        run_id=scope.id,
        workspace=scope.workspace,
        started=min((node.started for node in nodes), default=None),
        last_event=max((node.finished for node in nodes), default=None),
        events=len(nodes),
    )


# -- of a session ----------------------------------------------------------------------------

_SESSION_CALLS = f"""
    WITH llm AS (FROM llm_calls WHERE {{scope}}), tool AS (FROM tool_calls WHERE {{scope}})
    SELECT event_id::VARCHAR, 'llm_call', parent_event_id, coalesce(model, 'llm_call'), subagent_id, NULL,
           timestamp, last_timestamp, latency_ms, ok, error_type,
           coalesce(TRY(uncached_input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens), 0),
           output_tokens
    FROM llm
    UNION ALL
    SELECT event_id::VARCHAR || coalesce('/' || tool_call_id, ''), 'tool_call', parent_event_id,
           coalesce(tool, 'tool_call'), subagent_id, {_argument("input")},
           timestamp, coalesce(finished, timestamp), duration_ms, ok, error_type, 0, 0
    FROM tool
    ORDER BY 7, 8, 2, 1 LIMIT $limit
"""


_SESSION_COUNTS = """
    SELECT 'llm_call', count(*) FROM llm_calls WHERE {scope}
    UNION ALL SELECT 'tool_call', count(*) FROM tool_calls WHERE {scope}
    ORDER BY 1
"""


def session_tree(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Tree:
    """Return the model and tool calls of a session in order of time, imported or recorded, and its runs.

    One imported event may hold several tool calls: the id of their nodes is the event's id, a slash and the call's id.
    """
    rows = connection.execute(scope.within(_SESSION_CALLS), {**scope.params, "limit": NODES_MAX + 1}).fetchall()
    costs = call_costs.read_costs(connection, scope)
    nodes = [_call(row, costs) for row in rows[:NODES_MAX]]
    left_out: dict[str, int] = {}
    if len(rows) > NODES_MAX:
        counts = connection.execute(scope.within(_SESSION_COUNTS), scope.params).fetchall()
        left_out = _left_out(nodes, counts)
    return _tree(nodes, scope, run=None, left_out=left_out, children=lookup.runs_in(connection, scope))


def _call(row: tuple[Any, ...], costs: dict[str, Decimal]) -> Node:
    (
        event_id, event_type, parent, name, subagent, text, first, last, duration_ms, ok, error, input_tokens,
        output_tokens,
    ) = row  # fmt: skip
    started, finished = utc(first), utc(last)
    if event_type == "llm_call" and started == finished:
        started = _before(finished, duration_ms)
    return Node(
        event_id=event_id, event_type=event_type, parent_event_id=parent, name=name,
        kind=None if subagent is None else "subagent", text=text, started=started, finished=finished,
        duration_ms=duration_ms, ok=bool(ok), error=error, input_tokens=input_tokens,
        output_tokens=output_tokens, cost_usd=costs.get(event_id) if event_type == "llm_call" else None,
    )  # fmt: skip


# -- both ------------------------------------------------------------------------------------


def _tree(nodes: list[Node], scope: Scope, *, run: Run | None, left_out: dict[str, int], children: list[Run]) -> Tree:
    calls = [node for node in nodes if node.event_type == "llm_call"]
    costs = [node.cost_usd for node in calls if node.cost_usd is not None]
    return Tree(
        run=run,
        session_id=scope.id if run is None else None,
        workspace=scope.workspace,
        started=min((node.started for node in nodes), default=None),
        finished=max((node.finished for node in nodes), default=None),
        nodes=_summed(arranged(nodes)),
        left_out=left_out,
        children=children,
        input_tokens=sum(node.input_tokens for node in calls),
        output_tokens=sum(node.output_tokens for node in calls),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        unpriced=len(calls) - len(costs),
    )


def arranged(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes depth first, each once and with its depth; siblings in order of their start."""
    by_id = {node.event_id: node for node in sorted(nodes, key=lambda node: (node.started, node.event_id))}
    children: dict[str | None, list[str]] = {}
    for event_id, parent in _parents(by_id).items():
        children.setdefault(parent, []).append(event_id)
    ordered: list[Node] = []
    waiting = [(event_id, 0) for event_id in reversed(children.get(None, []))]
    while waiting:
        event_id, depth = waiting.pop()
        ordered.append(msgspec.structs.replace(by_id[event_id], depth=depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(event_id, []))]
    return ordered


def _parents(by_id: dict[str, Node]) -> dict[str, str | None]:
    """Return each node's parent in the tree; None for a root. A cycle is cut above its earliest node."""
    named = {event_id: node.parent_event_id for event_id, node in by_id.items()}
    parents = {event_id: parent if parent in by_id else None for event_id, parent in named.items()}
    visited: set[str] = set()
    for event_id in by_id:
        path: dict[str, None] = {}
        current: str | None = event_id
        while current is not None and current not in visited and current not in path:
            path[current] = None
            current = parents[current]
        if current in path:
            cycle = list(path)[list(path).index(current):]  # fmt: skip
            parents[min(cycle, key=lambda member: (by_id[member].started, member))] = None
        visited.update(path)
    return parents


def _summed(nodes: list[Node]) -> list[Node]:
    """Set the tokens and the cost of each node that is not a model call to those of the calls below it."""
    sums = [_own(node) for node in nodes]
    parents: list[int | None] = []
    ancestors: list[int] = []
    for index, node in enumerate(nodes):
        del ancestors[node.depth :]
        parents.append(ancestors[-1] if ancestors else None)
        ancestors.append(index)
    for index in range(len(nodes) - 1, -1, -1):  # children come after their parents
        parent = parents[index]
        if parent is not None:
            sums[parent] = _added(sums[parent], sums[index])
    return [
        node if node.event_type == "llm_call"
        else msgspec.structs.replace(node, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost)
        for node, (input_tokens, output_tokens, cost) in zip(nodes, sums, strict=True)
    ]  # fmt: skip


#: Input tokens, output tokens, cost in USD.
_Sum = tuple[int, int, Decimal | None]


def _own(node: Node) -> _Sum:
    return (node.input_tokens, node.output_tokens, node.cost_usd) if node.event_type == "llm_call" else (0, 0, None)


def _added(a: _Sum, b: _Sum) -> _Sum:
    costs = [cost for cost in (a[2], b[2]) if cost is not None]
    return a[0] + b[0], a[1] + b[1], sum(costs, Decimal(0)) if costs else None
