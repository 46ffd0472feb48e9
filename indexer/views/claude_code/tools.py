"""Calls of tools in Claude Code's transcripts, and results whose calls are not there.

A call is a block of an answer, and its result a block of a later line. Ids of Anthropic's tools are unique; others are
used again in each turn (`Bash:0`), so a result belongs to the last call with its id before it, in its conversation. A
call without a result was interrupted, or is not done: whether it went well is not known.
"""

from __future__ import annotations

from eventlog.indexer.sql import literal
from eventlog.indexer.views import values
from eventlog.indexer.views.claude_code.calls import messages
from eventlog.indexer.views.claude_code.lines import LINES, ROWS, TYPE
from eventlog.indexer.views.claude_code.subagents import SUBAGENTS, join_subagents, subagent_of
from eventlog.indexer.views.messages import text_of

#: What is needed of each block to find out what belongs together. Arguments and results may be large: they are read of
#: the lines again, once that is known.
_BLOCK = '{"type": "VARCHAR", "id": "VARCHAR", "tool_use_id": "VARCHAR", "is_error": "JSON"}'


def _blocks(line: str) -> str:
    """Return SQL for the blocks of a line; NULL where its content is no list."""
    shape = literal(f'{{"message": {{"content": [{_BLOCK}]}}}}')
    return f"struct_extract(struct_extract(TRY(json_transform({line}, {shape})), 'message'), 'content')"


_BLOCKS = f"""
    SELECT * EXCLUDE blocks, unnest(blocks) AS block, unnest(range(len(blocks))) AS number
    FROM ({messages(LINES, f"{_blocks('payload')} AS blocks", _blocks("payload -> '/data/message'"))})
"""


def _field_of_block(lines: str, block: str, name: str) -> str:
    """Return SQL for a field of a block, of the payload of its line."""
    content = f"CASE WHEN {block}.within THEN '/data/message/message' ELSE '/message' END"
    return f"json_extract({lines}.payload, {content} || '/content/' || {block}.number || '/{name}')"


def _join_lines(lines: str, block: str) -> str:
    """Return the join of blocks with their lines."""
    return f"""LEFT JOIN {ROWS} AS {lines} ON {lines}.event_id = {block}.event_id
  AND {lines}.workspace IS NOT DISTINCT FROM {block}.workspace"""


# `turn` counts how many answers have used an id so far. An answer has several lines, and may be there twice: within a
# `progress` line, and in a file of its own.
_WITH = f"""
WITH RECURSIVE {SUBAGENTS}, blocks AS (
    SELECT workspace, session_id, agent_id, line, before, run_id, parent_event_id, agent, timestamp, segment,
           line_offset, event_id, within, coalesce(message_id, event_id::VARCHAR) AS message_id, number,
           block.type = 'tool_use' AS is_call, coalesce(block.id, block.tool_use_id) AS tool_call_id,
           block.is_error AS is_error
    FROM ({_BLOCKS}) WHERE block.type IN ('tool_use', 'tool_result')
), scoped AS (
    SELECT *, CASE WHEN starts_with(tool_call_id, 'toolu_') OR length(tool_call_id) >= 20 THEN ''
                   ELSE concat_ws(chr(10), session_id, agent_id) END AS scope
    FROM blocks
), marked AS (
    SELECT *, is_call AND scope <> '' AND row_number() OVER (
                  PARTITION BY workspace, scope, tool_call_id, is_call, message_id
                  ORDER BY timestamp, segment, line_offset) = 1 AS begins
    FROM scoped
), turns AS (
    SELECT *, CASE WHEN scope = '' THEN 1 ELSE greatest(1, count(*) FILTER (begins) OVER (
                  PARTITION BY workspace, scope, tool_call_id ORDER BY timestamp, segment, line_offset
                  ROWS UNBOUNDED PRECEDING)) END AS turn
    FROM marked
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY workspace, scope, tool_call_id, turn, is_call
                                 ORDER BY timestamp, segment, line_offset) AS position
    FROM turns
), results AS (
    SELECT *, coalesce({values.of_json("is_error", "BOOLEAN")}, false) AS failed
    FROM numbered WHERE NOT is_call AND position = 1
), calls AS (
    SELECT * FROM numbered WHERE is_call AND position = 1
)
"""
_ONE = """results.tool_call_id = calls.tool_call_id AND results.scope = calls.scope AND results.turn = calls.turn
 AND results.workspace IS NOT DISTINCT FROM calls.workspace"""

TOOL_CALLS = f"""
{_WITH}
SELECT calls.tool_call_id, calls.message_id, calls.run_id, calls.session_id, calls.parent_event_id,
       {subagent_of("calls")} AS subagent_id,
       calls.workspace, calls.agent, {literal(TYPE)} AS source,
       {_field_of_block("called", "calls", "name")} ->> '$' AS tool,
       {_field_of_block("called", "calls", "input")} AS input,
       {_field_of_block("resulted", "results", "content")} AS output, calls.number AS block, calls.timestamp,
       results.timestamp AS finished,
       date_sub('millisecond', calls.timestamp, results.timestamp)::DOUBLE AS duration_ms,
       NOT failed AS ok, NULL::VARCHAR AS error_type, calls.event_id
FROM calls {join_subagents("calls")} LEFT JOIN results ON {_ONE}
{_join_lines("called", "calls")} {_join_lines("resulted", "results")}
"""

#: As messages of tools: a transcript may begin in the middle, and a person may read what it has.
RESULTS_ALONE = f"""
{_WITH}
SELECT 'tool' AS role, {text_of("output")} AS text, 'text' AS kind, number AS block, NULL::VARCHAR AS model, run_id,
       session_id, parent_event_id, subagent_id, workspace, agent, {literal(TYPE)} AS source, timestamp, event_id
FROM (
    SELECT alone.*, {_field_of_block("resulted", "alone", "content")} AS output
    FROM (
        SELECT results.*, {subagent_of("results")} AS subagent_id
        FROM results {join_subagents("results")} ANTI JOIN calls ON {_ONE}
    ) AS alone {_join_lines("resulted", "alone")}
) WHERE text <> ''
"""
