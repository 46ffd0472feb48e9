"""A run, a session or a request as a tree of its events.

    events of the run ──→ nodes ──→ each below its parent (parent_event_id) ──→ a list, depth first

Where events carry turns or cycles, a node of each turn and cycle stands above them (eventlog.queries.runs.turns).

The tree is a flat list of nodes with their depths, and is built without recursion: parents may form a chain of
any length, or a cycle, and neither may crash the reader. A node whose parent is not in the run is a root, and so is
the earliest node of a cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.format import timestamps
from eventlog.format.timestamps import utc
from eventlog.indexer.views import values
from eventlog.indexer.views.definitions import tool_ok
from eventlog.queries.identity import Scope
from eventlog.queries.runs import call_costs, lookup, owners, requests, turns
from eventlog.queries.runs.lookup import Run
from eventlog.queries.runs.nodes import Node
from eventlog.queries.runs.requests import Request

#: Of a run with more events, steps are shown first, then calls and errors, then other events, then heartbeats.
NODES_MAX = 5_000
_TEXT_CHARS = 300
_OF_RUNS = ("run_started", "run_finished", "heartbeat")
_COUNT_END, _COUNT_DIGITS = 2**63, 19
#: Field of Node (or part of one) → fields of a payload; the first that has a value is taken.
_FIELDS = {
    "name": ("name", "tool_name", "tool", "response_model", "request_model", "model", "action", "error_type"),
    "kind": ("kind", "level", "role"),
    "text": ("error_message", "message", "question", "content", "text", "uri", "explanation", "chosen"),
    "duration_ms": ("duration_ms", "latency_ms", "elapsed_ms"),
    "error_type": ("error_type",),
    "error_message": ("error_message",),
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


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A run (`run`), a session (`session_id`) or a request (`request`), with its nodes depth first.

    `left_out` counts the events beyond NODES_MAX by type, such as `{"heartbeat": 120}`. `input_tokens`,
    `output_tokens` and `cost_usd` are totals of the model calls; `unpriced` counts the calls without a price, which
    are not in `cost_usd`. `children` are the sub-runs of a run, or the runs of a session or request.
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
    request: Request | None = None


def find_tree(connection: duckdb.DuckDBPyConnection, prefix: str) -> Tree:
    """Return the tree of the run, else of the session, else of the request with this id.

    Any unique prefix of an id works. Raises QueryFailed if there is none, or if several ids start so.
    """
    run = lookup.find_run(connection, prefix)
    if run is not None:
        return run_tree(connection, run)
    session = lookup.find_session(connection, prefix)
    if session is not None:
        return session_tree(connection, session)
    request = requests.find_request(connection, prefix)
    if request is not None:
        return request_tree(connection, request)
    raise lookup.not_found(prefix)


# -- of a run or a request -------------------------------------------------------------------

#: As the views `llm_calls`, `steps` and `tool_calls` have it; an event of another type may say that it failed, too.
_OK = f"""CASE WHEN event_type = 'error' THEN false
                WHEN event_type IN ('llm_call', 'step') THEN payload ->> '/error_type' IS NULL
                ELSE {tool_ok(values.field("ok", "BOOLEAN", "'true'"), "(payload ->> '/error_type')")} END"""
_RUN_EVENTS = f"""
    SELECT event_id::VARCHAR, event_type, parent_event_id, timestamp,
           [value[1:{_TEXT_CHARS}] FOR value IN
               json_extract_string(payload, [{", ".join(f"'/{name}'" for name in _PAYLOAD_FIELDS)}])],
           {_argument("payload -> 'arguments'")}, {_OK}
    FROM events WHERE {{scope}}
    ORDER BY CASE WHEN event_type IN ('run_started', 'run_finished', 'step') THEN 0
                  WHEN event_type IN ('llm_call', 'tool_call', 'error') THEN 1
                  WHEN event_type = 'heartbeat' THEN 3 ELSE 2 END, timestamp, event_id
    LIMIT $limit
"""
_RUN_COUNTS = "SELECT event_type, count(*) FROM events WHERE {scope} GROUP BY 1 ORDER BY 1"


def run_tree(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Tree:
    """Return the tree of a run. Events whose run has no `run_started` make a tree, too."""
    nodes, left_out = _events_of(connection, scope)
    run = lookup.read_run(connection, scope) or _without_start(scope, nodes)
    return _tree(nodes, scope, run=run, left_out=left_out, children=lookup.child_runs(connection, scope))


def request_tree(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Tree:
    """Return the tree of all events of a request, whatever runs they are in, and its runs."""
    nodes, left_out = _events_of(connection, scope)
    request = requests.read_request(connection, scope)
    if request is None:
        raise lookup.request_not_found(scope.id)
    gone = owners.gone(connection)
    named = (lookup.read_run(connection, Scope("run_id", run_id, scope.workspace), gone) for run_id in request.run_ids)
    children = [run for run in named if run is not None]
    return _tree(nodes, scope, run=None, left_out=left_out, children=children, request=request)


def _events_of(connection: duckdb.DuckDBPyConnection, scope: Scope) -> tuple[list[Node], dict[str, int]]:
    """Return the events of a run or a request as nodes, NODES_MAX at most, and how many of each type are left out."""
    rows = connection.execute(scope.within(_RUN_EVENTS), {**scope.params, "limit": NODES_MAX}).fetchall()
    costs = call_costs.read_costs(connection, scope)
    nodes = _placed([_node(row, costs) for row in rows], turns.read_places(connection, scope))
    if len(nodes) < NODES_MAX:
        return nodes, {}
    return nodes, _left_out(nodes, connection.execute(scope.within(_RUN_COUNTS), scope.params).fetchall())


def _placed(nodes: list[Node], places: dict[str, turns.Position]) -> list[Node]:
    """Return nodes with the turns and cycles that their events carry; what is about a whole run is in none."""
    return [
        node if place is None else msgspec.structs.replace(node, turn_number=place.turn, cycle=place.cycle)
        for node in nodes
        for place in [None if node.event_type in _OF_RUNS else places.get(node.event_id.partition("/")[0])]
    ]


def _left_out(nodes: Iterable[Node], counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return how many events of each type are not among the nodes, where any are missing."""
    shown = Counter(node.event_type for node in nodes)
    return {event_type: count - shown[event_type] for event_type, count in counts if count > shown[event_type]}


def _node(row: tuple[Any, ...], costs: dict[str, Decimal]) -> Node:
    event_id, event_type, parent, timestamp, values, argument, ok = row
    payload: dict[str, str | None] = dict(zip(_PAYLOAD_FIELDS, values, strict=True))

    def first(field: str) -> str | None:
        return next((payload[name] for name in _FIELDS[field] if payload[name]), None)

    duration_ms = _number(first("duration_ms"))
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
        ok=ok,
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
    return value if 0 <= value <= timestamps.MS_MAX else None


def _count(text: str | None) -> int:
    """Return a number of tokens; 0 for what is none, such as one that the columns of `llm_calls` do not hold either."""
    count = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS else 0
    return count if count < _COUNT_END else 0


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
           coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
               + coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0),
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
    nodes = _placed([_call(row, costs) for row in rows[:NODES_MAX]], turns.read_places(connection, scope))
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
        duration_ms=duration_ms, ok=ok, error=error, input_tokens=input_tokens,
        output_tokens=output_tokens, cost_usd=costs.get(event_id) if event_type == "llm_call" else None,
    )  # fmt: skip


# -- all -------------------------------------------------------------------------------------


def _tree(
    nodes: list[Node],
    scope: Scope,
    *,
    run: Run | None,
    left_out: dict[str, int],
    children: list[Run],
    request: Request | None = None,
) -> Tree:
    calls = [node for node in nodes if node.event_type == "llm_call"]
    costs = [node.cost_usd for node in calls if node.cost_usd is not None]
    return Tree(
        run=run,
        session_id=scope.id if scope.column == "session_id" else None,
        workspace=scope.workspace,
        started=min((node.started for node in nodes), default=None),
        finished=max((node.finished for node in nodes), default=None),
        nodes=_summed(_grouped(arranged(nodes))),
        left_out=left_out,
        children=children,
        input_tokens=sum(node.input_tokens for node in calls),
        output_tokens=sum(node.output_tokens for node in calls),
        cost_usd=call_costs.total(costs),
        unpriced=len(calls) - len(costs),
        request=request,
    )


def _grouped(nodes: list[Node]) -> list[Node]:
    """Return nodes in tree order with a node above those of each turn and cycle; without any, as they are."""
    groups, parents = turns.grouped(nodes)
    return arranged([*nodes, *map(_group_node, groups)], parents) if groups else nodes


def _group_node(group: turns.Group) -> Node:
    started = min(node.started for node in group.members)
    finished = max(node.finished for node in group.members)
    number = group.position.turn if group.kind == "turn" else group.position.cycle
    return Node(
        event_id=group.key, event_type=group.kind, parent_event_id=group.parent, name=f"{group.kind} {number:,}",
        started=started, finished=finished, duration_ms=(finished - started) / timedelta(milliseconds=1),
        turn_number=group.position.turn, cycle=group.position.cycle, is_group=True,
    )  # fmt: skip


def arranged(nodes: Iterable[Node], parents: dict[str, str | None] | None = None) -> list[Node]:
    """Return the nodes depth first, each once and with its depth; siblings in order of their start.

    `parents` are the ids of the nodes that each stands below; by default those that the nodes name.
    """
    by_id = {node.event_id: node for node in sorted(nodes, key=lambda node: (node.started, node.event_id))}
    children: dict[str | None, list[str]] = {}
    parents = _parents(by_id) if parents is None else parents
    for event_id in by_id:  # not in the order of `parents`
        children.setdefault(parents[event_id], []).append(event_id)
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
            sums[parent] = sums[parent].plus(sums[index])
    return [node if node.event_type == "llm_call" else total.on(node) for node, total in zip(nodes, sums, strict=True)]


class _Sum(NamedTuple):
    """What is summed up over the calls below a node: tokens, cost in USD, counts of calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    llm_calls: int = 0
    tool_calls: int = 0
    failures: int = 0

    def plus(self, other: _Sum) -> _Sum:
        return _Sum(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            call_costs.total((self.cost_usd, other.cost_usd)),
            self.llm_calls + other.llm_calls,
            self.tool_calls + other.tool_calls,
            self.failures + other.failures,
        )

    def on(self, node: Node) -> Node:
        """Return a node with these sums; a tool call does not count itself."""
        is_call = node.event_type == "tool_call"
        below = self._replace(
            tool_calls=self.tool_calls - is_call, failures=self.failures - (is_call and node.ok is False)
        )
        return msgspec.structs.replace(node, **below._asdict())


def _own(node: Node) -> _Sum:
    failures = int(node.ok is False)
    if node.event_type == "llm_call":
        return _Sum(node.input_tokens, node.output_tokens, node.cost_usd, llm_calls=1, failures=failures)
    return _Sum(tool_calls=1, failures=failures) if node.event_type == "tool_call" else _Sum()
