"""Nodes of a tree, grouped by the turns and cycles that their events carry.

A turn is one exchange of a conversation, a cycle one round of an agent inside of it: cycles stand below turns. What
stands below a node belongs to the node's turn, unless it carries another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import duckdb

from eventlog.queries.identity import Scope
from eventlog.queries.runs.nodes import Node

_PLACES = """
    SELECT event_id::VARCHAR, turn_number, cycle FROM events
    WHERE {scope} AND (turn_number IS NOT NULL OR cycle IS NOT NULL)
"""


class Position(NamedTuple):
    """The turn and the cycle of an event, each None where there is none."""

    turn: int | None = None
    cycle: int | None = None


class Group(NamedTuple):
    """Nodes of one turn, or of one cycle, below the same node: `key` is unique in a tree, `parent` is a node's key."""

    key: str
    parent: str | None
    kind: str
    position: Position
    members: list[Node]


def read_places(connection: duckdb.DuckDBPyConnection, scope: Scope) -> dict[str, Position]:
    """Return turn and cycle of the events that carry one, by event id."""
    rows = connection.execute(scope.within(_PLACES), scope.params).fetchall()
    return {event_id: Position(turn, cycle) for event_id, turn, cycle in rows}


def grouped(nodes: Iterable[Node]) -> tuple[list[Group], dict[str, str | None]]:
    """Return the groups of nodes that are in tree order, and the key of what each node and group stands below."""
    groups: dict[str, Group] = {}
    parents: dict[str, str | None] = {}
    above: list[tuple[str, Position]] = []
    for node in nodes:
        del above[node.depth :]
        parent, outer = above[-1] if above else (None, Position())
        here = _inside(Position(node.turn_number, node.cycle), outer)
        if here.turn != outer.turn:
            parent = _joined(groups, parent, "turn", Position(here.turn), node)
            outer = Position(here.turn)
        if here.cycle != outer.cycle:
            parent = _joined(groups, parent, "cycle", here, node)
        parents[node.event_id] = parent
        above.append((node.event_id, here))
    return list(groups.values()), {**parents, **{group.key: group.parent for group in groups.values()}}


def _inside(own: Position, outer: Position) -> Position:
    """Return the place of a node: what it does not carry is that of the node above, within the same turn."""
    turn = outer.turn if own.turn is None else own.turn
    cycle = outer.cycle if own.cycle is None and turn == outer.turn else own.cycle
    return Position(turn, cycle)


def _joined(groups: dict[str, Group], parent: str | None, kind: str, position: Position, node: Node) -> str:
    """Add a node to its group, which is made where there is none yet; return the group's key."""
    number = position.turn if kind == "turn" else position.cycle
    key = f"{kind} {number}" if parent is None else f"{kind} {number} below {parent}"
    groups.setdefault(key, Group(key, parent, kind, position, [])).members.append(node)
    return key
