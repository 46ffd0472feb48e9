"""What people and models wrote in Claude Code's transcripts. Lines that hold the results of tools have no text."""

from __future__ import annotations

from eventlog.indexer.sql import literal
from eventlog.indexer.views import messages as shared
from eventlog.indexer.views.claude_code.calls import messages
from eventlog.indexer.views.claude_code.lines import LINES, TYPE
from eventlog.indexer.views.claude_code.subagents import SUBAGENTS, join_subagents, subagent_of

_CONTENTS = messages(
    LINES,
    "payload -> '/message/content' AS content, payload ->> '/uuid' AS line_id",
    "payload -> '/data/message/message/content', payload ->> '/data/message/uuid'",
)

# A session may lie in two files.
MESSAGES = f"""
WITH RECURSIVE {SUBAGENTS}, lines AS (
    SELECT *, {shared.text_of("content")} AS text,
           row_number() OVER (
               PARTITION BY workspace, session_id, coalesce(line_id, event_id::VARCHAR)
               ORDER BY timestamp, segment, line_offset
           ) AS position
    FROM ({_CONTENTS})
)
SELECT role, text, model, run_id, session_id, parent_event_id, {subagent_of("lines")} AS subagent_id, lines.workspace,
       agent, {literal(TYPE)} AS source, timestamp, event_id
FROM lines {join_subagents("lines")} WHERE text <> '' AND position = 1
"""
