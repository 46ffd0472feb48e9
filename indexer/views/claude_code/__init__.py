"""Imported Claude Code transcripts as calls of models and tools, sessions and messages."""

from __future__ import annotations

from eventlog.indexer.views.claude_code.calls import LLM_CALLS
from eventlog.indexer.views.claude_code.lines import COPIES, PROMOTED
from eventlog.indexer.views.claude_code.sessions import SESSIONS
from eventlog.indexer.views.claude_code.texts import MESSAGES
from eventlog.indexer.views.claude_code.tools import RESULTS_ALONE, TOOL_CALLS
from eventlog.indexer.views.sources import SourceViews

VIEWS = SourceViews(
    promoted=PROMOTED,
    copies=COPIES,
    llm_calls=LLM_CALLS,
    tool_calls=TOOL_CALLS,
    sessions=SESSIONS,
    messages=f"FROM ({MESSAGES}) UNION ALL BY NAME FROM ({RESULTS_ALONE})",
)
