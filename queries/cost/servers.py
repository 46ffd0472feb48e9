"""Which servers of tools (MCP) a model asked for in an answer: `github` for a call of `mcp__github__search`.

A call costs what it costs, whatever was asked for in it. One that asked several servers is of all of them together
(`github, slack`), so that the sums over servers are the sum over calls.

Which call asked for a tool: where a source names the message, that of this message. Other imported lines count the
tokens of an answer behind it, so there it is the next call of the session. What a program records of a tool comes after
the call that asked for it, so there it is the last one before, of the run or else of the session.
"""

from __future__ import annotations

#: What stands between the first and the next two underscores; Codex has a dot before the name of the tool.
_SERVER = "nullif(split_part(split_part(tool[6:], '__', 1), '.', 1), '')"
_SAME_WORKSPACE = "asked.workspace IS NOT DISTINCT FROM calls.workspace"
_SAME_SESSION = "asked.session_id IS NOT DISTINCT FROM calls.session_id"
#: What the calls of a recorded tool and of a model have in common; as a text, since ASOF joins know no NULL.
_PLACE = "concat_ws(chr(10), coalesce(workspace, ''), coalesce('run ' || run_id, 'session ' || session_id))"


#: Columns of model calls, and `server`: whom the answer asked, NULL for nobody.
CALLS_WITH_SERVERS = f"""
    WITH calls AS (
        SELECT *, row_number() OVER () AS number, {_PLACE} AS place FROM {{calls}}
    ), asked AS (
        SELECT workspace, session_id, message_id, source, timestamp, {_SERVER} AS server, {_PLACE} AS place
        FROM tool_calls WHERE starts_with(tool, 'mcp__')
    ), servers AS (
        SELECT number, server FROM asked JOIN calls
          ON asked.message_id = calls.message_id AND {_SAME_WORKSPACE} AND {_SAME_SESSION}
        UNION ALL
        SELECT number, server FROM (FROM asked WHERE message_id IS NULL AND source <> 'tool_call') AS asked
        ASOF JOIN (FROM calls WHERE ok) AS calls
          ON asked.place = calls.place AND asked.source = calls.source AND asked.timestamp <= calls.timestamp
        UNION ALL
        SELECT number, server FROM (FROM asked WHERE source = 'tool_call') AS asked
        ASOF JOIN (FROM calls WHERE source = 'llm_call') AS calls
          ON asked.place = calls.place AND asked.timestamp >= calls.timestamp
    )
    SELECT {{selected}}, server FROM calls LEFT JOIN (
        SELECT number, string_agg(DISTINCT server, ', ' ORDER BY server) AS server FROM servers GROUP BY number
    ) USING (number)
"""
