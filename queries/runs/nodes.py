"""What stands in the tree of a run, a session or a request."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a tree, or a turn or cycle above events (`is_group`).

    `depth` 0 is the root. Times are in UTC; `started` is `finished` minus the duration.

    `input_tokens` counts all input, cached or not. Tokens and cost of a node that is not a model call are those of the
    calls below it, and `llm_calls`, `tool_calls` and `failures` count the calls below it and those that failed.
    `text` is a short summary: the first text argument of a tool call, a message, a question. `ok` is False where it
    failed, and None where that is unknown: an imported tool call has no result yet, or never got one. The `event_id`
    of a group is no id, but unique in its tree, such as "turn 3".
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
    ok: bool | None = True
    error: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    turn_number: int | None = None
    cycle: int | None = None
    llm_calls: int = 0
    tool_calls: int = 0
    failures: int = 0
    is_group: bool = False
