"""A conversation as structs: turns, and what was said and done in each.

Times are in UTC, with their zone; None where the line has none. Durations are in ms, texts in characters, costs in USD.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from eventlog.queries.runs.lookup import Run


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What calls add up to. `input_tokens` counts all input, cached or not.

    `cost_usd` is without the `unpriced` calls, and None where no call has a price. `tool_unknown` are calls of tools of
    which nothing says whether they went well, as of one that was interrupted.
    """

    llm_calls: int = 0
    llm_failures: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    tool_unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    unpriced: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True, tag="message"):
    """A text that somebody wrote, or thought.

    `role` is who: user, assistant, system or tool, or another word that the log has. `kind` is `text`, `thinking`,
    `summary` (of the conversation before it, which had become too long), `note` (of the program that ran the agent) or
    `error` (why a call failed). `chars` is the length of the whole text, of which `text` is the beginning.
    """

    role: str
    kind: str
    text: str
    chars: int
    model: str | None = None
    timestamp: datetime | None
    event_id: str


class ToolUse(msgspec.Struct, frozen=True, kw_only=True, tag="tool"):
    """A call of a tool, with its result.

    `arguments` is JSON, or the beginning of it; `result` is a text, None where there is none (yet). `ok` is None where
    nothing says whether it went well. `branches` are the subagents that it started.
    """

    tool: str
    tool_call_id: str | None
    arguments: str
    arguments_chars: int
    result: str | None
    result_chars: int
    ok: bool | None
    error: str | None = None
    duration_ms: float | None = None
    timestamp: datetime | None
    event_id: str
    branches: list[Branch] = []


class Branch(msgspec.Struct, frozen=True, kw_only=True, tag="subagent"):
    """The conversation of a subagent, and what its calls add up to."""

    subagent_id: str
    items: list[Message | ToolUse]
    totals: Totals
    started: datetime | None
    finished: datetime | None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a user said, and all that was done until the user spoke again, subagents included.

    Where events carry a `turn_number`, a turn is what carries the same one; `number` is None for what carries none.
    """

    number: int | None
    started: datetime | None
    finished: datetime | None
    items: list[Message | ToolUse | Branch]
    totals: Totals


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What was said and done in a run or a session, in the order of the log; each text once.

    `run` is set for a run, and `session_id` for what belongs to a session. Where `title_source` is `prompt`, the title
    is the beginning of the first prompt. `copied_lines` are lines that its program
    copied from another session: they stay with that one, and are not here. `runs` are the runs of a session, or the
    sub-runs of a run. `left_out_items` and `left_out_chars` count what is beyond the limits of an answer.
    """

    kind: Literal["run", "session"]
    id: str
    workspace: str | None
    title: str | None
    title_source: str | None
    agent: str | None
    project: str | None
    models: list[str]
    session_id: str | None
    run: Run | None
    started: datetime | None
    finished: datetime | None
    turns: list[Turn]
    totals: Totals
    runs: list[Run]
    copied_lines: int = 0
    left_out_items: int = 0
    left_out_chars: int = 0
