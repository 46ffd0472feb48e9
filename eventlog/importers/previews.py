"""Lines of Claude Code and Codex in few words, and what hooks are told: who said what, and which tool was called.

Only what a reader of a terminal looks for: what counts as said, and what is a copy, is for the index to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

_CHARS = 400


def _short(text: object) -> str:
    return " ".join(text[:_CHARS].split()) if isinstance(text, str) else ""


def _blocks(value: object) -> list[dict[str, Any]]:
    return [block for block in value if isinstance(block, dict)] if isinstance(value, list) else []


def _call(tool: object, arguments: object) -> str:
    """Return a tool call with the first text among its arguments."""
    texts = [each for each in arguments.values() if isinstance(each, str)] if isinstance(arguments, dict) else []
    first = arguments if isinstance(arguments, str) else texts[0] if texts else ""
    return f"▸ {_short(tool) or 'tool'} {_short(first)}".rstrip()


# -- Claude Code -----------------------------------------------------------------------------


def claude_code(line: dict[str, Any]) -> Iterator[str]:
    """Yield what a line of a transcript says, such as `user: Make it count`."""
    kind = _short(line.get("type")) or "line"
    data = line.get("data")
    if kind in ("user", "assistant"):
        if line.get("isSidechain") is True:
            yield "subagent"
        yield from _message(kind, line.get("message"))
    elif isinstance(data, dict) and isinstance(data.get("message"), dict):
        inner = data["message"]
        yield "subagent"
        yield from _message(_short(inner.get("type")), inner.get("message"))
    else:
        yield kind.replace("-", " ")
        yield from (_short(line.get(name)) for name in ("summary", "subtype", "content", "customTitle", "operation"))
        yield from map(_short, data.values() if isinstance(data, dict) else ())


def _message(role: str, message: object) -> Iterator[str]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        yield f"{role}: {_short(content)}"
    for block in _blocks(content):
        kind = block.get("type")
        if kind == "text":
            yield f"{role}: {_short(block.get('text'))}"
        elif kind == "thinking":
            yield f"thought: {_short(block.get('thinking'))}"
        elif kind == "tool_use":
            yield _call(block.get("name"), block.get("input"))
        elif kind == "tool_result":
            texts = block.get("content")
            text = texts if isinstance(texts, str) else " ".join(_short(each.get("text")) for each in _blocks(texts))
            yield f"{'failed' if block.get('is_error') is True else 'result'}: {_short(text)}"
        else:
            yield f"{role}: [{_short(kind)}]"


def hook(payload: dict[str, Any]) -> Iterator[str]:
    """Yield what Claude Code told a hook, such as `user: Make it count`, or `▸ Bash ls`."""
    kind = _short(payload.get("hook_event_name")) or "hook"
    if kind == "UserPromptSubmit":
        yield f"user: {_short(payload.get('prompt'))}"
    elif kind == "PreToolUse":
        yield _call(payload.get("tool_name"), payload.get("tool_input"))
    else:
        yield kind
        yield from (
            _short(payload.get(name)) for name in ("tool_name", "message", "source", "trigger", "reason", "error")
        )


# -- Codex -----------------------------------------------------------------------------------


def codex(line: dict[str, Any]) -> Iterator[str]:
    """Yield what a line of a rollout says, such as `▸ exec_command ls`."""
    payload = line.get("payload")
    item = payload if isinstance(payload, dict) else {}
    kind = _short(item.get("type")) or _short(line.get("type")) or "line"
    if kind == "message":
        texts = (_short(block.get("text")) for block in _blocks(item.get("content")))
        yield f"{_short(item.get('role'))}: {' '.join(texts)}"
    elif kind in ("user_message", "agent_message", "agent_reasoning"):
        label = {"user_message": "user", "agent_message": "assistant", "agent_reasoning": "thought"}[kind]
        yield f"{label}: {_short(item.get('message', item.get('text')))}"
    elif kind == "reasoning":
        summary = " ".join(_short(block.get("text")) for block in _blocks(item.get("summary")))
        yield f"thought: {summary}" if summary else "thought (encrypted)"
    elif kind.endswith("_call"):
        arguments = item.get("arguments", item.get("input", item.get("action")))
        yield _call(item.get("name") or kind.removesuffix("_call"), _decoded(arguments))
    elif kind.endswith("_output"):
        yield f"result: {_short(item.get('output'))}"
    else:
        yield kind.replace("_", " ")


def _decoded(arguments: object) -> object:
    """Return arguments that are JSON in a text as objects."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return arguments
