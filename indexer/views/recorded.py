"""Views of the built-in events (eventlog.format.builtin): runs, steps, model calls and tool calls.

Their small fields are promoted columns in every index, so these views answer over millions of events without reading a
payload.
"""

from __future__ import annotations

from eventlog.format.timestamps import MS_MAX
from eventlog.indexer.sql import ident, literal, literals
from eventlog.indexer.views import definitions, usage, values
from eventlog.indexer.views.definitions import ABANDONED_AFTER_S, token_count
from eventlog.indexer.views.fields import default_of
from eventlog.indexer.views.ordering import HORIZON
from eventlog.indexer.views.promoted import NOTHING, PromotedColumn

_HEARTBEAT_MAX_S = 30 * 86_400

_FIELDS = {
    "run_started": {"name": "VARCHAR"},
    "run_finished": {"status": "VARCHAR", "duration_ms": "DOUBLE", "error_type": "VARCHAR"},
    "step": {"name": "VARCHAR", "kind": "VARCHAR", "duration_ms": "DOUBLE", "error_type": "VARCHAR"},
    "llm_call": {
        "provider_name": "VARCHAR",
        "request_model": "VARCHAR",
        "response_model": "VARCHAR",
        "uncached_input_tokens": "HUGEINT",
        "cache_read_tokens": "HUGEINT",
        "cache_write_5m_tokens": "HUGEINT",
        "cache_write_1h_tokens": "HUGEINT",
        "output_tokens": "HUGEINT",
        "reasoning_tokens": "HUGEINT",
        "service_tier": "VARCHAR",
        "web_searches": "HUGEINT",
        "inference_geo": "VARCHAR",
        "usage_problem": "VARCHAR",
        "latency_ms": "DOUBLE",
        "time_to_first_token_ms": "DOUBLE",
        "cost_usd": "DECIMAL(38,18)",
        "error_type": "VARCHAR",
    },
    "heartbeat": {"interval_s": "DOUBLE"},
    "tool_call": {"tool_name": "VARCHAR", "ok": "BOOLEAN", "duration_ms": "DOUBLE", "error_type": "VARCHAR"},
}
#: The JSON that counts where an event of any version lacks a field: a tool call went well unless it says otherwise.
_ABSENT = {("tool_call", "ok"): "true", ("run_finished", "status"): '"ok"', ("step", "kind"): '"action"'}
_COUNTS = [name for name, kind in _FIELDS["llm_call"].items() if kind == "HUGEINT"]


def _usage_problem() -> PromotedColumn:
    """As the call reports it, else the first count that is none, as `output_tokens: "12"`: such a call has no price."""
    step = "llm_call/usage_problem/json"
    pointers = literals(map(values.pointer, ("usage_problem", *_COUNTS)))
    problems = [values.of_json(f"{ident(step)}[1]", "VARCHAR")]
    for number, name in enumerate(_COUNTS, start=2):
        json = f"{ident(step)}[{number}]"
        is_none = f"{json} <> 'null' AND ({values.of_json(json, 'BIGINT')}) IS NULL"
        problems.append(f"CASE WHEN {is_none} THEN {literal(name + ': ')} || {usage.shown(json)} END")
    return PromotedColumn(
        "llm_call", "usage_problem", "VARCHAR", f"coalesce({', '.join(problems)})",
        ((step, f"json_extract(payload, [{pointers}])::VARCHAR[]"),),
    )  # fmt: skip


#: A cost is rounded to 18 decimals; a quotient has more.
_COST = PromotedColumn("llm_call", "cost_usd", "DECIMAL(38,18)", "TRY_CAST(payload ->> '/cost_usd' AS DECIMAL(38,18))")
_COMPUTED = {column.column: column for column in (_usage_problem(), _COST)}
_PLAIN = [
    PromotedColumn(event_type, field, kind, absent=literal(absent) if absent else NOTHING)
    for event_type, fields in _FIELDS.items()
    for field, kind in fields.items()
    for absent in [_ABSENT.get((event_type, field))]
]
PROMOTED = [_COMPUTED.get(column.column, column) for column in _PLAIN]
#: The same columns as the schemas of the built-in events declare them, whose defaults are those of one version.
AS_DECLARED = [
    column._replace(absent=default_of({1: absent}))
    for column in PROMOTED
    for absent in [_ABSENT.get((column.event_type, column.field))]
    if absent is not None
]


#: The first time that Python and the log know; DuckDB goes on to years before Christ.
_FIRST = "TIMESTAMP '0001-01-01'"


def _before(duration_ms: str, end: str = "timestamp") -> str:
    """Return the SQL for the start of what lasted until `end`; NULL where the duration is none, or the start no time.

    A duration is 0 to timestamps.MS_MAX: any other one would move the event to another year.
    """
    start = f"{end} - to_microseconds(CAST({duration_ms} * 1000 AS BIGINT))"
    # A CASE in a CASE: DuckDB may evaluate either side of an AND first, and the cast fails on NaN.
    return f"CASE WHEN {duration_ms} BETWEEN 0 AND {MS_MAX:.0f} THEN CASE WHEN {start} >= {_FIRST} THEN {start} END END"


LLM_CALLS = f"""
SELECT coalesce(payload ->> 'response_id', event_id::VARCHAR) AS message_id, request_id, run_id, session_id,
       parent_event_id, NULL::VARCHAR AS subagent_id, workspace, agent, 'llm_call' AS source,
       NULL::VARCHAR AS project, NULL::VARCHAR AS branch, "llm_call/provider_name" AS provider,
       coalesce("llm_call/response_model", "llm_call/request_model") AS model,
       "llm_call/request_model" AS request_model,
       coalesce({token_count("uncached_input_tokens")}, 0) AS uncached_input_tokens,
       coalesce({token_count("cache_read_tokens")}, 0) AS cache_read_tokens,
       coalesce({token_count("cache_write_5m_tokens")}, 0) AS cache_write_5m_tokens,
       coalesce({token_count("cache_write_1h_tokens")}, 0) AS cache_write_1h_tokens,
       coalesce({token_count("output_tokens")}, 0) AS output_tokens,
       {token_count("reasoning_tokens")} AS reasoning_tokens,
       payload ->> '$.finish_reasons[0]' AS stop_reason, "llm_call/service_tier" AS service_tier,
       payload -> 'raw_usage' AS raw_usage,
       "llm_call/usage_problem" AS usage_problem, {token_count("web_searches")} AS web_searches,
       "llm_call/inference_geo" AS inference_geo, NULL::BIGINT AS output_chars,
       "llm_call/latency_ms" AS latency_ms,
       "llm_call/time_to_first_token_ms" AS ttft_ms, "llm_call/error_type" IS NULL AS ok,
       "llm_call/error_type" AS error_type, "llm_call/cost_usd" AS reported_cost_usd,
       timestamp, timestamp AS last_timestamp, event_id
FROM event_rows WHERE event_type = 'llm_call'
"""


TOOL_CALLS = f"""
SELECT payload ->> 'tool_call_id' AS tool_call_id, NULL::VARCHAR AS message_id, run_id, session_id, parent_event_id,
       NULL::VARCHAR AS subagent_id, workspace, agent, 'tool_call' AS source, "tool_call/tool_name" AS tool,
       payload -> 'arguments' AS input, payload -> 'result' AS output, NULL::BIGINT AS block,
       coalesce({_before('"tool_call/duration_ms"')}, timestamp) AS timestamp, timestamp AS finished,
       "tool_call/duration_ms" AS duration_ms, {definitions.RECORDED_TOOL_OK} AS ok,
       "tool_call/error_type" AS error_type, event_id
FROM event_rows WHERE event_type = 'tool_call'
"""

STEPS = f"""
SELECT event_id, run_id, parent_event_id, session_id, workspace, agent, "step/name" AS name,
       coalesce("step/kind", 'action') AS kind, coalesce({_before('"step/duration_ms"')}, timestamp) AS started,
       timestamp AS finished,
       "step/duration_ms" AS duration_ms, "step/error_type" IS NULL AS ok, "step/error_type" AS error_type,
       payload ->> 'error_message' AS error_message
FROM event_rows WHERE event_type = 'step'
"""

_OUTCOME = definitions.outcome("now() AT TIME ZONE 'UTC'")

# An event from a clock that ran ahead does not keep a run from being abandoned. A field that the last `run_finished`
# does not have (`arg_max_null`) is not taken from an earlier one. Where the end is stamped before the start, and does
# not say how long the run took, nobody knows: it took no time.
RUNS = f"""
WITH begun AS (
    SELECT workspace, run_id, count(*) AS starts, min(timestamp) AS started, max(timestamp) AS last_started,
           arg_min("run_started/name", (timestamp, event_id)) AS name,
           arg_min(payload ->> 'task', (timestamp, event_id)) AS task,
           arg_min(agent, (timestamp, event_id)) AS agent,
           arg_min(session_id, (timestamp, event_id)) AS session_id,
           arg_min(payload ->> 'parent_run_id', (timestamp, event_id)) AS parent_run_id,
           arg_max_null(payload ->> 'host', (timestamp, event_id)) AS host,
           arg_max_null(payload ->> 'boot', (timestamp, event_id)) AS boot,
           arg_max_null({values.field("pid", "BIGINT")}, (timestamp, event_id)) AS pid,
           arg_min(event_id, (timestamp, event_id)) AS event_id
    FROM event_rows WHERE event_type = 'run_started' AND run_id IS NOT NULL GROUP BY workspace, run_id
), ended AS (
    SELECT workspace, run_id, count(*) AS ends, max(timestamp) AS finished,
           arg_max(coalesce("run_finished/status", 'ok'), (timestamp, event_id)) AS status,
           arg_max_null("run_finished/duration_ms", (timestamp, event_id)) AS duration_ms,
           arg_max_null("run_finished/error_type", (timestamp, event_id)) AS error_type,
           arg_max_null(payload ->> 'error_message', (timestamp, event_id)) AS error_message,
           arg_max(agent, (timestamp, event_id)) AS agent, arg_max(session_id, (timestamp, event_id)) AS session_id,
           arg_max(event_id, (timestamp, event_id)) AS event_id
    FROM event_rows WHERE event_type = 'run_finished' AND run_id IS NOT NULL GROUP BY workspace, run_id
), done AS (
    SELECT workspace, run_id, count(*) AS events, max(timestamp) AS last_event,
           max(timestamp) FILTER (timestamp <= {HORIZON}) AS last_word,
           max("heartbeat/interval_s") FILTER ("heartbeat/interval_s" BETWEEN 0 AND {_HEARTBEAT_MAX_S}) AS interval_s,
           {definitions.RECORDED_COUNTS}
    FROM event_rows WHERE run_id IS NOT NULL GROUP BY workspace, run_id
), known AS (
    SELECT coalesce(begun.run_id, ended.run_id) AS run_id, coalesce(begun.workspace, ended.workspace) AS workspace,
           name, task, coalesce(begun.agent, ended.agent) AS agent,
           coalesce(begun.session_id, ended.session_id) AS session_id, started, finished AS last_end, status,
           duration_ms, error_type, error_message, parent_run_id, host, boot, pid, starts,
           coalesce(begun.event_id, ended.event_id) AS event_id,
           {definitions.is_open("last_started", "finished", "starts", "ends")} AS open
    FROM begun FULL JOIN ended
      ON begun.run_id = ended.run_id AND begun.workspace IS NOT DISTINCT FROM ended.workspace
), told AS (
    SELECT known.*, CASE WHEN NOT open THEN last_end END AS finished,
           done.* EXCLUDE (run_id, workspace, interval_s, last_word),
           CASE WHEN open THEN last_word + to_seconds(greatest({ABANDONED_AFTER_S}, coalesce(2 * interval_s, 0))) END
               AS abandoned_at
    FROM known JOIN done ON known.run_id = done.run_id AND known.workspace IS NOT DISTINCT FROM done.workspace
)
SELECT run_id, name, task, workspace, agent, session_id,
       CASE WHEN open THEN {_OUTCOME} ELSE status END AS status, {_OUTCOME} AS outcome,
       coalesce(started, {_before("duration_ms", "finished")}) AS started,
       finished, last_event, abandoned_at,
       CASE WHEN NOT open THEN coalesce(duration_ms, CASE WHEN started > finished THEN 0
                                                          ELSE date_sub('microsecond', started, finished) * 0.001 END)
           END AS duration_ms,
       CASE WHEN NOT open THEN error_type END AS error_type,
       CASE WHEN NOT open THEN error_message END AS error_message,
       events, steps, llm_calls, llm_failures, tool_calls, tool_failures, errors,
       uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens,
       parent_run_id, host, boot, pid, starts, event_id
FROM told
"""
