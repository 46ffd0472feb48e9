"""What people and models wrote in Claude Code's transcripts. Lines that hold the results of tools have no text."""

from __future__ import annotations

from eventlog.indexer.sql import literal
from eventlog.indexer.views import messages as shared
from eventlog.indexer.views.claude_code.calls import messages
from eventlog.indexer.views.claude_code.lines import LINES, TYPE
from eventlog.indexer.views.claude_code.subagents import SUBAGENTS, join_subagents, subagent_of

#: How texts begin that Claude Code itself writes in the user's name. A command (`/init`) is the user's.
_NOTE = (
    r"^\s*(?:<(?:local-command-[a-z]+|bash-(?:stdout|stderr)|system-reminder|task-notification|user-memory-input)>"
    r"|\[Request interrupted by user)"
)
_CONTENTS = messages(
    LINES,
    """payload -> '/message/content' AS content, payload ->> '/uuid' AS line_id, payload ->> '/isMeta' AS is_meta,
       payload ->> '/isCompactSummary' AS is_summary""",
    """payload -> '/data/message/message/content', payload ->> '/data/message/uuid', payload ->> '/data/message/isMeta',
       NULL""",
)
_KIND = f"""CASE WHEN is_summary = 'true' THEN 'summary'
     WHEN is_meta = 'true' OR model = '<synthetic>'
          OR (role = 'user' AND regexp_matches({shared.text_of("content")}, {literal(_NOTE)})) THEN 'note'
     ELSE 'text' END"""

# A session may lie in two files.
MESSAGES = f"""
WITH RECURSIVE {SUBAGENTS}, lines AS (
    SELECT *, row_number() OVER (
                  PARTITION BY workspace, session_id, coalesce(line_id, event_id::VARCHAR)
                  ORDER BY timestamp, segment, line_offset
              ) AS position
    FROM ({_CONTENTS})
), parts AS (
    SELECT * EXCLUDE content, unnest({shared.both("content", _KIND)}) AS part FROM lines WHERE position = 1
)
SELECT role, part.text AS text, part.kind AS kind, part.block AS block, model, run_id, session_id, parent_event_id,
       {subagent_of("parts")} AS subagent_id, parts.workspace, agent, {literal(TYPE)} AS source, timestamp, event_id
FROM parts {join_subagents("parts")} WHERE part.text <> ''
"""
