"""Sessions: "sessions" in docs/schema.md, with the titles and projects of Claude Code's transcripts."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import Any

from tests.recount.calls import TOKENS, LlmCall, ToolCall, branch_of, llm_calls, tool_calls
from tests.recount.costs import cost
from tests.recount.log import EPOCH, Event, nested, text

Key = tuple[str | None, str]
TITLE_CHARS = 200
_WORKTREES = ("/.claude/worktrees/", "/.worktrees/", "/.git/worktrees/")


def sessions(events: list[Event]) -> dict[Key, dict[str, Any]]:
    """The sessions by workspace and id: names of columns → values. `events` are without copies."""
    of_session: dict[Key, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.order):
        if event.session_id is not None:
            of_session[event.workspace, event.session_id].append(event)
    calls: dict[Key, list[LlmCall]] = defaultdict(list)
    for call in llm_calls(events):
        calls[call.workspace, call.session_id or ""].append(call)
    tools: dict[Key, list[ToolCall]] = defaultdict(list)
    for tool in tool_calls(events):
        tools[tool.workspace, tool.session_id or ""].append(tool)
    summaries = _summaries(events)
    prices = [event for event in events if event.event_type == "price_set"]
    return {
        key: _times(told) | _title(told, summaries.get(key)) | _sums(calls[key], tools[key]) | spent(calls[key], prices)
        for key, told in of_session.items()
    }


def _times(told: list[Event]) -> dict[str, Any]:
    times = [event.timestamp for event in told if event.timestamp > EPOCH]
    by_id = sorted(told, key=lambda event: event.event_id)
    return {
        "first": min(times, default=None),
        "last": max(times, default=None),
        "duration_s": (max(times) - min(times)) // timedelta(seconds=1) if times else None,
        "events": len(told),
        "agent": next((event.agent for event in by_id if event.agent is not None), None),
    }


def _sums(calls: list[LlmCall], tools: list[ToolCall]) -> dict[str, Any]:
    return {
        "llm_calls": len(calls),
        "tool_calls": len(tools),
        "tool_failures": sum(tool.ok is False for tool in tools),
        "models": sorted({call.model for call in calls if call.model is not None}),
        **{f"{name}_tokens": sum(call.tokens[place] for call in calls) for place, name in enumerate(TOKENS)},
    }


def spent(calls: list[LlmCall], prices: list[Event]) -> dict[str, Any]:
    """What calls cost together, None where none has a price; and how many have none."""
    with localcontext(prec=60):
        known = [each.quantize(Decimal("1e-18")) for call in calls if (each := cost(call, prices)) is not None]
        return {"cost_usd": sum(known, Decimal(0)) if known else None, "unpriced": len(calls) - len(known)}


def _summaries(events: list[Event]) -> dict[Key, str]:
    """The last summary in the log whose leaf is a line of the session."""
    own = {
        (event.workspace, text(event.payload.get("uuid"))): (event.workspace, event.session_id or "")
        for event in events
        if event.event_type == "claude_code" and text(event.payload.get("uuid"))
    }
    found: dict[Key, str] = {}
    for event in sorted(events, key=lambda event: event.place):
        leaf = text(event.payload.get("leafUuid"))
        if event.payload.get("type") == "summary" and leaf and (session := own.get((event.workspace, leaf))):
            found[session] = event.payload["summary"]
    return found


def _title(told: list[Event], summary: str | None) -> dict[str, Any]:
    told = [event for event in told if event.event_type == "claude_code"]
    as_written = sorted(told, key=lambda event: event.place)
    person = [event.payload.get("customTitle") for event in as_written if event.payload.get("type") == "custom-title"]
    model = [event.payload.get("aiTitle") for event in as_written if event.payload.get("type") == "ai-title"]
    prompts = [asked for event in told if (asked := prompt(event.payload)) is not None]
    branches = [branch for event in told if (branch := branch_of(event))]
    folders = [cwd for event in told if (cwd := text(event.payload.get("cwd")))]
    project = folders[0] if folders else None
    for inside in _WORKTREES:
        project = project.split(inside)[0] if project else None
    candidates = {
        "person": next(filter(None, reversed(person)), None),
        "model": next(filter(None, reversed(model)), None),
        "summary": summary,
        "prompt": next((asked for asked in prompts if not asked.startswith("/")), next(iter(prompts), None)),
        "project": project,
    }
    source = next((name for name, title in candidates.items() if title is not None), None)
    return {
        "summary": summary,
        "title": candidates[source] if source else None,
        "title_source": source,
        "project": project,
        "branch": branches[-1] if branches else None,
    }


def prompt(payload: dict[str, Any]) -> str | None:
    """What a person asked, or the command that they gave, with its arguments.

    Not what Claude Code wrote in the person's name, which begins with another tag or a bracket.
    """
    if payload.get("type") != "user" or any(
        payload.get(name) is True for name in ("isMeta", "isSidechain", "isCompactSummary")
    ):
        return None
    content = nested(payload, "message", "content")
    if isinstance(content, list):
        blocks = [block for block in content if isinstance(block, dict)]
        if any(block.get("type") == "tool_result" for block in blocks):
            return None
        content = next((block.get("text") for block in blocks if block.get("type") == "text"), None)
    asked = (text(content) or "").strip(" ")
    if asked.startswith("<command-"):
        parts = (asked.partition(f"<command-{part}>")[2].partition("<")[0] for part in ("name", "args"))
        asked = " ".join(filter(None, (part.strip(" ") for part in parts)))
    return None if not asked or asked[0] in "<[" or asked[0].isspace() else asked[:TITLE_CHARS]
