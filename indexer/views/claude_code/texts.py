"""What people and models wrote in Claude Code's transcripts. Lines that hold the results of tools have no text."""

from __future__ import annotations

from eventlog.indexer.sql import literal
from eventlog.indexer.views import messages as shared
from eventlog.indexer.views.claude_code.calls import messages
from eventlog.indexer.views.claude_code.lines import LINES, TYPE, uuid_of
from eventlog.indexer.views.claude_code.subagents import SUBAGENTS, join_subagents, subagent_of

#: How texts begin that Claude Code itself writes in the user's name. A command (`/init`) is the user's.
_NOTE = (
    r"^\s*(?:<(?:local-command-[a-z]+|bash-(?:stdout|stderr)|system-reminder|task-notification|user-memory-input)>"
    r"|\[Request interrupted by user)"
)
#: A line may be large, and each look into it takes memory: one tells whether it has texts, and what kind of line it is.
_LOOK = '{"isMeta": "VARCHAR", "isCompactSummary": "VARCHAR", "message": {"content": [{"type": "VARCHAR"}]}}'


def _look(line: str) -> str:
    return f"TRY(json_transform({line}, {literal(_LOOK)}))"


_CONTENTS = messages(
    LINES,
    f"payload -> '/message/content' AS content, line AS line_id, {_look('payload')} AS look",
    f"""payload -> '/data/message/message/content', {uuid_of("(payload ->> '/data/message/uuid')")},
        {_look("payload -> '/data/message'")}""",
)
_KIND = f"""CASE WHEN look.isCompactSummary = 'true' THEN 'summary'
     WHEN look.isMeta = 'true' OR model = '<synthetic>'
          OR (role = 'user' AND regexp_matches({shared.text_of("content")}, {literal(_NOTE)})) THEN 'note'
     ELSE 'text' END"""

# A session may lie in two files.
MESSAGES = f"""
WITH RECURSIVE {SUBAGENTS}, lines AS (
    SELECT *, row_number() OVER (
                  PARTITION BY workspace, session_id, coalesce(line_id, event_id)
                  ORDER BY timestamp, segment, line_offset
              ) AS position
    FROM ({_CONTENTS}) WHERE {shared.has_text("look.message.content")}
), parts AS (
    SELECT * EXCLUDE content, unnest({shared.both("content", _KIND)}) AS part FROM lines
    WHERE position = 1
)
SELECT role, part.text AS text, part.kind AS kind, part.block AS block, model, run_id, session_id, parent_event_id,
       {subagent_of("parts")} AS subagent_id, parts.workspace, agent, {literal(TYPE)} AS source, timestamp, event_id
FROM parts {join_subagents("parts")} WHERE part.text <> ''
"""
