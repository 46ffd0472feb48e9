"""A run, or a session, as a tree of what happened in it.

    events of the run ──→ nodes ──→ each below the one that its parent_event_id names ──→ a list in order of the tree

The tree is a flat list, each node with its depth: events may name each other as parents in a chain
of any length, or in a circle, and neither may break what reads them. A node whose parent is not in the
run hangs at the root, and so does the first of a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import msgspec

from eventlog.queries.identity import Named
from eventlog.queries.runs import call_costs, lookup
from eventlog.queries.runs.lookup import Run

#: A tree with more is for programs: steps go first, then calls and errors, then what else there is.
NODES_MAX = 5_000
_TEXT_CHARS = 300
_ABSURD_MS = 1e15
#: What a line of the tree is made of: field of Node or word → places in a payload, the first that is there.
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
_POINTERS = list(dict.fromkeys(field for fields in _FIELDS.values() for field in fields))


def _argument(arguments: str) -> str:
    """Return the first text among a tool call's arguments, or else the first of them; none that is kept apart."""
    values = f"json_extract({arguments}, '$.*')"
    return f"""(CASE WHEN json_type({arguments}) <> 'OBJECT' THEN {arguments} ->> '$'
                     WHEN ({arguments} -> '/$blob') IS NULL THEN json_extract_string(
                         coalesce([each FOR each IN {values} IF json_type(each) = 'VARCHAR'][1], {values}[1]), '$')
                END)[1:{_TEXT_CHARS}]"""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a tree. `input_tokens` are all of them, cached or not; those of a step are its calls'.

    `text` is what it is about: the argument of a tool call that says most, a message, a question.

    Times in UTC; `started` is `finished` less the duration. `depth` 0 is the root.
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
    """A run or a session. `nodes` are in the order of the tree; `left_out` counts by event type those beyond NODES_MAX.

    Tokens and cost of a step are sums over what is below it, and so counted once in `cost_usd`, the total;
    calls without a price are counted in `unpriced`.
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


def named(connection: duckdb.DuckDBPyConnection, given: str) -> Tree:
    """Return the tree of a run, or else of a session, that is called so or whose id alone begins so.

    Raises QueryFailed.
    """
    run = lookup.run_named(connection, given)
    if run is not None:
        return of_run(connection, run)
    session = lookup.session_named(connection, given)
    if session is not None:
        return of_session(connection, session)
    raise lookup.neither(given)


# -- of a run --------------------------------------------------------------------------------


def of_run(connection: duckdb.DuckDBPyConnection, which: Named) -> Tree:
    """Return the tree of a run. Events of a run that nobody began are one, too."""
    names = ", ".join(f"'/{name}'" for name in _POINTERS)
    rows = connection.execute(
        f"""
        SELECT event_id::VARCHAR, event_type, parent_event_id, timestamp,
               [each[1:{_TEXT_CHARS}] FOR each IN json_extract_string(payload, [{names}])],
               {_argument("payload -> 'arguments'")}
        FROM events WHERE {which.condition}
        ORDER BY CASE WHEN event_type IN ('run_started', 'run_finished', 'step') THEN 0
                      WHEN event_type IN ('llm_call', 'tool_call', 'error') THEN 1
                      WHEN event_type = 'heartbeat' THEN 3 ELSE 2 END, timestamp, event_id
        LIMIT {NODES_MAX}
        """,
        which.params,
    ).fetchall()
    costs = call_costs.costs(connection, which)
    nodes = [_node(row, costs) for row in rows]
    left_out: dict[str, int] = {}
    if len(nodes) == NODES_MAX:
        all_of_it = connection.execute(
            f"SELECT event_type, count(*) FROM events WHERE {which.condition} GROUP BY 1 ORDER BY 1", which.params
        ).fetchall()
        shown = Counter(node.event_type for node in nodes)
        left_out = {kind: count - shown[kind] for kind, count in all_of_it if count > shown[kind]}
    run = lookup.run(connection, which) or _unbegun(which, nodes)
    return _tree(nodes, which, run=run, left_out=left_out, children=lookup.children(connection, which))


def _node(row: tuple[Any, ...], costs: dict[str, Decimal]) -> Node:
    event_id, event_type, parent, timestamp, values, argument = row
    at: dict[str, str | None] = dict(zip(_POINTERS, values, strict=True))

    def first(word: str) -> str | None:
        return next((at[field] for field in _FIELDS[word] if at[field]), None)

    duration_ms = _number(first("duration_ms"))
    failed = first("ok") == "false" or event_type == "error" or at["error_type"] is not None
    finished = timestamp.replace(tzinfo=UTC)
    name = first("name") or event_type
    kind_of_error = None if event_type == "error" and name == first("error_type") else first("error_type")
    error = ": ".join(each for each in (kind_of_error, first("error_message")) if each)
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
        input_tokens=sum(_count(first(word)) for word in ("uncached", "cache_read", "write_5m", "write_1h")),
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


def _unbegun(which: Named, nodes: list[Node]) -> Run:
    """Make a run of events of which none says that it began."""
    return Run(
        run_id=which.id,
        workspace=which.workspace,
        started=min((node.started for node in nodes), default=None),
        last_event=max((node.finished for node in nodes), default=None),
        events=len(nodes),
    )


# -- of a session ----------------------------------------------------------------------------

_CALLS = f"""
    WITH llm AS (FROM llm_calls WHERE {{condition}}), tool AS (FROM tool_calls WHERE {{condition}})
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
    ORDER BY 7, 8, 2, 1 LIMIT {NODES_MAX + 1}
"""


def of_session(connection: duckdb.DuckDBPyConnection, which: Named) -> Tree:
    """Return the calls of a session in order of time, imported or recorded, and the runs that belong to it.

    Several tool calls may stand in one imported event: the id of such a node is the event's and, behind a
    slash, the call's.
    """
    rows = connection.execute(_CALLS.format(condition=which.condition), which.params).fetchall()
    costs = call_costs.costs(connection, which)
    nodes = [_call(row, costs) for row in rows[:NODES_MAX]]
    left_out: dict[str, int] = {}
    if len(rows) > NODES_MAX:
        counts = connection.execute(
            f"SELECT (SELECT count(*) FROM llm_calls WHERE {which.condition}), "
            f"(SELECT count(*) FROM tool_calls WHERE {which.condition})",
            which.params,
        ).fetchall()[0]
        shown = Counter(node.event_type for node in nodes)
        kinds = zip(("llm_call", "tool_call"), counts, strict=True)
        left_out = {kind: count - shown[kind] for kind, count in kinds if count > shown[kind]}
    names = ", ".join(Run.__struct_fields__)
    runs = connection.execute(
        f"SELECT {names} FROM runs WHERE {which.condition} ORDER BY started, run_id LIMIT {lookup.LIMIT_MAX}",
        which.params,
    ).fetchall()
    return _tree(nodes, which, run=None, left_out=left_out, children=[lookup.of_row(row) for row in runs])


def _call(row: tuple[Any, ...], costs: dict[str, Decimal]) -> Node:
    event_id, event_type, parent, name, subagent, text, begun, over, duration_ms, ok, error, sent, got = row
    finished = over.replace(tzinfo=UTC)
    started = begun.replace(tzinfo=UTC)
    if event_type == "llm_call" and started == finished:
        started = _before(finished, duration_ms)
    return Node(
        event_id=event_id, event_type=event_type, parent_event_id=parent, name=name,
        kind=None if subagent is None else "subagent", text=text, started=started, finished=finished,
        duration_ms=duration_ms, ok=bool(ok), error=error, input_tokens=sent, output_tokens=got,
        cost_usd=costs.get(event_id) if event_type == "llm_call" else None,
    )  # fmt: skip


# -- what both are made of -------------------------------------------------------------------


def _tree(nodes: list[Node], which: Named, *, run: Run | None, left_out: dict[str, int], children: list[Run]) -> Tree:
    calls = [node for node in nodes if node.event_type == "llm_call"]
    costs = [node.cost_usd for node in calls if node.cost_usd is not None]
    return Tree(
        run=run,
        session_id=which.id if run is None else None,
        workspace=which.workspace,
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
    """Return the nodes in the order of their tree, each once, with its depth; siblings by when they began."""
    by_id = {node.event_id: node for node in sorted(nodes, key=lambda each: (each.started, each.event_id))}
    below: dict[str | None, list[str]] = {}
    parents = _parents(by_id)
    for event_id in by_id:
        below.setdefault(parents[event_id], []).append(event_id)
    found_: list[Node] = []
    waiting = [(event_id, 0) for event_id in reversed(below.get(None, []))]
    while waiting:
        event_id, depth = waiting.pop()
        found_.append(msgspec.structs.replace(by_id[event_id], depth=depth))
        waiting += [(each, depth + 1) for each in reversed(below.get(event_id, []))]
    return found_


def _parents(by_id: dict[str, Node]) -> dict[str, str | None]:
    """Return each node's parent in the tree: the one it names, if that is there and not below itself."""
    parents: dict[str, str | None] = {}
    for event_id in by_id:
        path: dict[str, None] = {}
        each: str | None = event_id
        while each is not None and each not in parents and each not in path:
            path[each] = None
            named = by_id[each].parent_event_id
            each = named if named in by_id else None
        if each in path:  # a circle: the first of it, in order of time, is cut from its parent
            circle = list(path)[list(path).index(each):]  # fmt: skip
            parents[min(circle, key=lambda one: (by_id[one].started, one))] = None
        for one in path:
            named = by_id[one].parent_event_id
            parents.setdefault(one, named if named in by_id else None)
    return parents


def _summed(nodes: list[Node]) -> list[Node]:
    """Give each node that is no call the tokens and costs of the calls below it."""
    sums = [_own(node) for node in nodes]
    above: list[int | None] = []
    open_: list[int] = []
    for place, node in enumerate(nodes):
        del open_[node.depth :]
        above.append(open_[-1] if open_ else None)
        open_.append(place)
    for place in range(len(nodes) - 1, -1, -1):  # whoever is below stands behind
        parent = above[place]
        if parent is not None:
            sums[parent] = _added(sums[parent], sums[place])
    return [
        node if node.event_type == "llm_call"
        else msgspec.structs.replace(node, input_tokens=sent, output_tokens=got, cost_usd=cost)
        for node, (sent, got, cost) in zip(nodes, sums, strict=True)
    ]  # fmt: skip


_Sum = tuple[int, int, Decimal | None]


def _own(node: Node) -> _Sum:
    return (node.input_tokens, node.output_tokens, node.cost_usd) if node.event_type == "llm_call" else (0, 0, None)


def _added(one: _Sum, other: _Sum) -> _Sum:
    costs = [each for each in (one[2], other[2]) if each is not None]
    return one[0] + other[0], one[1] + other[1], sum(costs, Decimal(0)) if costs else None
