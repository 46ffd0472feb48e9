"""Subagents in Claude Code's transcripts.

Lines of a subagent have its id. Older versions wrote them between the lines of the main conversation, without an id:
these belong to a subagent of their own, called by the uuid of the first line of their chain.
"""

from __future__ import annotations

from eventlog.indexer.views.claude_code.lines import LINES

#: A WITH clause (recursive) for the lines of subagents without an id, and the first line of each one's chain.
SUBAGENTS = f"""inline_lines AS (
    SELECT workspace, line, before FROM {LINES} WHERE before IS NOT NULL AND line IS NOT NULL
), inline_subagents AS (
    SELECT workspace, line, line AS first FROM inline_lines
    WHERE before = line OR NOT EXISTS (
        FROM inline_lines AS other
        WHERE other.line = inline_lines.before AND other.workspace IS NOT DISTINCT FROM inline_lines.workspace)
    UNION
    SELECT inline_lines.workspace, inline_lines.line, inline_subagents.first
    FROM inline_subagents JOIN inline_lines
      ON inline_lines.before = inline_subagents.line AND inline_lines.line <> inline_subagents.line
     AND inline_lines.workspace IS NOT DISTINCT FROM inline_subagents.workspace
)"""


def subagent_of(rows: str) -> str:
    """Return SQL for the subagent of rows with `agent_id` and `before`, joined by `join_subagents`."""
    return (
        f"coalesce({rows}.agent_id, CASE WHEN {rows}.before IS NOT NULL THEN coalesce(first::VARCHAR, 'sidechain') END)"
    )


def join_subagents(rows: str) -> str:
    """Return the join of rows, which have `before` and `line`, with the chains of subagents."""
    return f"""LEFT JOIN inline_subagents ON {rows}.before IS NOT NULL AND inline_subagents.line = {rows}.line
  AND inline_subagents.workspace IS NOT DISTINCT FROM {rows}.workspace"""
