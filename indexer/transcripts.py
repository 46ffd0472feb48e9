"""Imported Claude Code transcripts as calls of models and tools.

The rules come from looking at real transcripts: one model message spans several lines
that all repeat its usage, growing from line to line, and forked sessions repeat whole
lines; so a call is one (message id, request id), anywhere, with its largest usage. What
subagents used is inside `progress` lines and nowhere else. `<synthetic>` is no model.
"""

from __future__ import annotations

_MESSAGES = """
    SELECT event_id, timestamp, run_id, session_id, parent_event_id, workspace, agent, payload ->> 'type' AS role,
           payload -> 'message' AS message, payload ->> 'requestId' AS request_id,
           payload ->> 'agentId' AS subagent_id, payload ->> 'cwd' AS project
    FROM events
    WHERE event_type = 'claude_code' AND payload ->> 'type' IN ('assistant', 'user')
    UNION ALL
    SELECT event_id, timestamp, run_id, session_id, parent_event_id, workspace, agent,
           payload ->> '$.data.message.type', payload -> '$.data.message.message',
           payload ->> '$.data.message.requestId', payload ->> '$.data.agentId', payload ->> 'cwd'
    FROM events
    WHERE event_type = 'claude_code' AND payload ->> 'type' = 'progress'
      AND payload ->> '$.data.type' = 'agent_progress'
"""

LLM_CALLS = f"""
WITH lines AS (
    SELECT *, coalesce(message ->> 'id', event_id::VARCHAR) AS message_id,
           message ->> 'model' AS model, message -> 'usage' AS usage
    FROM ({_MESSAGES}) WHERE role = 'assistant'
), counted AS (
    SELECT *,
           TRY_CAST(usage ->> 'input_tokens' AS BIGINT) AS uncached_input_tokens,
           TRY_CAST(usage ->> 'cache_read_input_tokens' AS BIGINT) AS cache_read_tokens,
           TRY_CAST(usage ->> 'cache_creation_input_tokens' AS BIGINT) AS cache_write_tokens,
           TRY_CAST(usage ->> '$.cache_creation.ephemeral_5m_input_tokens' AS BIGINT) AS written_5m,
           TRY_CAST(usage ->> '$.cache_creation.ephemeral_1h_input_tokens' AS BIGINT) AS written_1h,
           TRY_CAST(usage ->> 'output_tokens' AS BIGINT) AS output_tokens
    FROM lines WHERE model IS NOT NULL AND model <> '<synthetic>'
), ranked AS (
    SELECT *,
           row_number() OVER (
               PARTITION BY message_id, request_id
               ORDER BY coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
                        + coalesce(cache_write_tokens, 0) + coalesce(output_tokens, 0) DESC, timestamp, event_id
           ) AS position,
           min(timestamp) OVER (PARTITION BY message_id, request_id) AS first_timestamp,
           max(timestamp) OVER (PARTITION BY message_id, request_id) AS last_timestamp
    FROM counted
)
SELECT message_id, request_id, run_id, session_id, parent_event_id, subagent_id, workspace, agent,
       'claude_code' AS source, project, 'anthropic' AS provider, model, NULL::VARCHAR AS request_model,
       coalesce(uncached_input_tokens, 0) AS uncached_input_tokens,
       coalesce(cache_read_tokens, 0) AS cache_read_tokens,
       -- without the split by lifetime, a cache write has the default one of 5 minutes
       coalesce(written_5m, TRY(cache_write_tokens - coalesce(written_1h, 0)), 0) AS cache_write_5m_tokens,
       coalesce(written_1h, 0) AS cache_write_1h_tokens,
       coalesce(output_tokens, 0) AS output_tokens, NULL::BIGINT AS reasoning_tokens,
       message ->> 'stop_reason' AS stop_reason,
       -- Anthropic's fast mode is a speed beside the tier, and has prices of its own as tiers have
       CASE WHEN usage ->> 'speed' = 'fast' THEN 'fast' ELSE usage ->> 'service_tier' END AS service_tier,
       usage AS raw_usage,
       NULL::DOUBLE AS latency_ms, NULL::DOUBLE AS ttft_ms, true AS ok, NULL::VARCHAR AS error_type,
       NULL::DECIMAL(38,12) AS reported_cost_usd,
       first_timestamp AS timestamp, last_timestamp, event_id
FROM ranked WHERE position = 1
"""

_BLOCKS = f"""
    SELECT * EXCLUDE message, unnest(
        CASE WHEN json_type(message, '$.content') = 'ARRAY' THEN (message -> 'content')::JSON[] END) AS block
    FROM ({_MESSAGES})
"""

TOOL_CALLS = f"""
WITH blocks AS ({_BLOCKS}), calls AS (
    SELECT block ->> 'id' AS tool_call_id, timestamp, run_id, session_id, parent_event_id, subagent_id,
           workspace, agent,
           block ->> 'name' AS tool, block -> 'input' AS input, event_id,
           row_number() OVER (PARTITION BY block ->> 'id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_use'
), results AS (
    SELECT block ->> 'tool_use_id' AS tool_call_id, timestamp AS finished, block -> 'content' AS output,
           coalesce(TRY_CAST(block ->> 'is_error' AS BOOLEAN), false) AS failed,
           row_number() OVER (PARTITION BY block ->> 'tool_use_id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_result'
)
SELECT tool_call_id, run_id, session_id, parent_event_id, subagent_id, workspace, agent,
       'claude_code' AS source, tool, input, output, calls.timestamp, finished,
       date_sub('millisecond', calls.timestamp, finished)::DOUBLE AS duration_ms,
       NOT failed AS ok, NULL::VARCHAR AS error_type, event_id
FROM calls LEFT JOIN (SELECT * FROM results WHERE position = 1) USING (tool_call_id)
WHERE calls.position = 1
"""
