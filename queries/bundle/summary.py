"""The summary in a bundle: facts, calls, cost, tools and errors, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from eventlog.queries.runs.tree import Tree
from eventlog.queries.text.units import usd

_ERRORS_MAX = 100


def summary(subject: Mapping[str, Any], tree: Tree, events_by_type: Mapping[str, int]) -> dict[str, Any]:
    """Return the facts as JSON can hold them; amounts are texts with all digits, and times are in UTC."""
    facts = tree.run or tree.request
    calls = [node for node in tree.nodes if node.event_type in ("llm_call", "tool_call")]
    failed = [node for node in tree.nodes if not node.is_group and node.ok is False]
    built: dict[str, Any] = msgspec.to_builtins(
        {
            "what": dict(subject),
            "facts": facts,
            "started": tree.started,
            "finished": tree.finished,
            "events_by_type": dict(sorted(events_by_type.items())),
            "input_tokens": tree.input_tokens,
            "output_tokens": tree.output_tokens,
            "cost_usd": tree.cost_usd,
            "calls_without_a_price": tree.unpriced,
            "models": _counted(node.name for node in calls if node.event_type == "llm_call"),
            "tools": _counted(node.name for node in calls if node.event_type == "tool_call"),
            "failed_tools": _counted(
                node.name for node in calls if node.event_type == "tool_call" and node.ok is False
            ),
            "errors": [
                {"event_id": node.event_id, "event_type": node.event_type, "name": node.name, "error": node.error}
                for node in failed[:_ERRORS_MAX]
            ],
            "error_count": len(failed),
            "not_summarised": tree.left_out,
            "runs": [run.run_id for run in tree.children],
        }
    )
    return built


def _counted(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def text(facts: Mapping[str, Any]) -> str:
    """Return the summary for people."""
    what, about = facts["what"], facts["facts"] or {}
    cost = "not known" if facts["cost_usd"] is None else usd(Decimal(facts["cost_usd"]))
    unpriced = f" ({facts['calls_without_a_price']} calls without a price)" if facts["calls_without_a_price"] else ""
    lines = [
        f"{what['kind']} {what['id']}" + (f" of the workspace {what['workspace']}" if what["workspace"] else ""),
        *(f"{name}: {about[name]}" for name in ("name", "status", "agent", "task", "error_message") if about.get(name)),
        f"from {facts['started']} to {facts['finished']}",
        f"tokens: {facts['input_tokens']:,} in, {facts['output_tokens']:,} out",
        f"cost: {cost}{unpriced}, at the prices of the day of the export",
        *_table("events", facts["events_by_type"]),
        *_table("models", facts["models"]),
        *_table("tools", facts["tools"]),
        f"errors: {facts['error_count']:,}",
        *(f"  {each['event_id']}  {each['name']}  {each['error'] or ''}".rstrip() for each in facts["errors"]),
    ]
    return "".join(f"{_one_line(line)}\n" for line in lines)


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{title}:", *(f"  {count:>8,}  {name}" for name, count in counts.items())] if counts else []


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
