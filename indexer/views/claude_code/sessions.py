"""Sessions in Claude Code's transcripts: their projects and their titles.

A session is called, in this order, by the last title that a person gave it, the last one that a model gave it, the
summary whose last line (its leaf) is one of its own, or the first thing that a person asked; a command (`/init`) only
where nothing else was asked. A summary may lie in the file of another session: older versions wrote it into the next
one.

Its project is the folder where it was begun, wherever its shell has gone since; of a worktree, the repository around
it (eventlog.indexer.views.projects). Its branch of git is the one that it was on last.
"""

from __future__ import annotations

from eventlog.indexer.views.claude_code.lines import BRANCH, LINES, part, seldom
from eventlog.indexer.views.projects import project_of

_IN_ORDER = "(timestamp, segment, line_offset)"
#: What older lines say first: a title has no time, so the order in the log is that of the file.
_AS_WRITTEN = "(segment, line_offset)"


#: A WITH clause for the folder in which each session was begun.
PROJECTS = f"""projects AS (
    SELECT workspace, session_id,
           {project_of(f"arg_min({part('/cwd')}, {_IN_ORDER})")} AS project
    FROM {LINES} WHERE session_id IS NOT NULL AND {part("/cwd")} IS NOT NULL GROUP BY workspace, session_id
)"""

SESSIONS = f"""
WITH {PROJECTS}, lines AS (
    SELECT workspace, session_id, timestamp, segment, line_offset, line, seldom, prompt,
           {seldom("kind")} AS kind, {BRANCH} AS branch
    FROM {LINES}
), summaries AS (
    SELECT workspace, {seldom("summary")} AS summary, segment, line_offset,
           coalesce(TRY_CAST({seldom("leaf")} AS UUID), md5({seldom("leaf")})::UUID) AS leaf
    FROM lines WHERE kind = 'summary' AND {seldom("leaf")} IS NOT NULL
), summarised AS (
    SELECT lines.workspace, lines.session_id,
           arg_max(summary, (summaries.segment, summaries.line_offset)) AS summary
    FROM summaries JOIN lines
      ON lines.line = summaries.leaf AND lines.workspace IS NOT DISTINCT FROM summaries.workspace
    WHERE lines.session_id IS NOT NULL GROUP BY lines.workspace, lines.session_id
), titled AS (
    SELECT workspace, session_id,
           arg_max({seldom("custom_title")}, {_AS_WRITTEN}) FILTER (kind = 'custom-title') AS custom_title,
           arg_max({seldom("ai_title")}, {_AS_WRITTEN}) FILTER (kind = 'ai-title') AS ai_title,
           coalesce(arg_min(prompt, {_IN_ORDER}) FILTER (NOT starts_with(prompt, '/')),
                    arg_min(prompt, {_IN_ORDER})) AS prompt,
           arg_max(branch, {_IN_ORDER}) AS branch
    FROM lines WHERE session_id IS NOT NULL GROUP BY workspace, session_id
)
SELECT titled.workspace, titled.session_id, project, branch, summary,
       coalesce(custom_title, ai_title, summary, prompt) AS title,
       CASE WHEN custom_title IS NOT NULL THEN 'person' WHEN ai_title IS NOT NULL THEN 'model'
            WHEN summary IS NOT NULL THEN 'summary' WHEN prompt IS NOT NULL THEN 'prompt' END AS title_source
FROM titled
LEFT JOIN projects ON projects.session_id = titled.session_id
  AND projects.workspace IS NOT DISTINCT FROM titled.workspace
LEFT JOIN summarised ON summarised.session_id = titled.session_id
  AND summarised.workspace IS NOT DISTINCT FROM titled.workspace
"""
