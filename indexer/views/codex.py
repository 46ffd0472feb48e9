"""Imported Codex rollouts as calls of models and tools, sessions and messages. docs/codex.md says the rules.

What Codex writes, by its source (codex-rs/protocol/src/protocol.rs, codex-rs/core/src/agent/control) and by rollouts of
0.140 to 0.142:

- `token_count` has the sum of all calls of the session so far (`total_token_usage`) and the last one. It is repeated
  when only rate limits changed, and after an interrupted turn a call is in the sum that no event shows: so a call is
  the change of the sum. Where the sum falls, counting began anew, and a call is what the event calls the last one.
- `turn_context` names the model of the calls after it.
- A fork begins with lines of its parent, their counts among them, under new times; a subagent may. Ids of turns are
  those of the parent then, and as UUIDs of version 7 older than the session (kenn-io/agentsview#657).
- What was typed and answered is in `response_item` lines, and for display once more in `event_msg` lines.
"""

from __future__ import annotations

from eventlog.indexer.sql import ident, literal, literals
from eventlog.indexer.views.projects import project_of
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.sources import CopiedLines, SourceViews, rows_of

_TYPE = "codex"

#: Where the small texts of a line stand (RFC 6901).
_PARTS = {
    "turn_id": "/payload/turn_id",
    "turn_of_item": "/payload/metadata/turn_id",
    "ordinal": "/ordinal",
    # session_meta, turn_context
    "meta_id": "/payload/id",
    "began": "/payload/timestamp",
    "forked_from": "/payload/forked_from_id",
    "parent": "/payload/parent_thread_id",
    "spawned_by": "/payload/source/subagent/thread_spawn/parent_thread_id",
    "subagent": "/payload/source/subagent",
    "own_from": "/payload/subagent_history_start_ordinal",
    "base_to": "/payload/history_base/end_ordinal_exclusive",
    "cwd": "/payload/cwd",
    "git_branch": "/payload/git/branch",
    "provider": "/payload/model_provider",
    "model": "/payload/model",
    "service_tier": "/payload/service_tier",
    # tools and messages
    "call_id": "/payload/call_id",
    "name": "/payload/name",
    "namespace": "/payload/namespace",
    "tool_of_server": "/payload/invocation/tool",
    "status": "/payload/status",
    "action": "/payload/action/type",
    "success": "/payload/success",
    "success_of_output": "/payload/output/success",
    "exit_code": "/payload/exit_code",
    "is_error": "/payload/result/Ok/isError",
    "source": "/payload/source",
    "role": "/payload/role",
    # other events
    "reason": "/payload/reason",
    "error_info": "/payload/codex_error_info",
    "thread_name": "/payload/thread_name",
}
_NAMES = list(_PARTS)

KIND = PromotedColumn(
    _TYPE,
    "kind",
    "VARCHAR",
    """concat_ws('/', payload ->> '/type',
       CASE WHEN payload ->> '/type' IN ('event_msg', 'response_item') THEN payload ->> '/payload/type' END)""",
)
#: As a JSON array in one column: a payload is taken apart once, when it is indexed, and each column costs a batch.
PARTS = PromotedColumn(
    _TYPE, "parts", "VARCHAR", f"to_json(json_extract_string(payload, [{literals(_PARTS.values())}]))::VARCHAR"
)
USAGE = PromotedColumn(
    _TYPE,
    "usage",
    "VARCHAR",
    "CASE WHEN payload ->> '/payload/type' = 'token_count' THEN (payload -> '/payload/info')::VARCHAR END",
)
#: The beginning of a text: a prompt, the output of a command, the error of a server.
TEXT = PromotedColumn(
    _TYPE,
    "text",
    "VARCHAR",
    """left(CASE
       WHEN payload ->> '/payload/type' = 'user_message' THEN payload ->> '/payload/message'
       WHEN payload ->> '/payload/type' = 'message' THEN payload ->> '/payload/content/0/text'
       WHEN payload ->> '/payload/type' = 'mcp_tool_call_end' THEN (payload -> '/payload/result/Err')::VARCHAR
       WHEN ends_with(payload ->> '/payload/type', '_output') THEN
           coalesce('Exit code: ' || TRY_CAST(CASE WHEN starts_with(payload ->> '/payload/output', '{"output"')
                        THEN TRY(json_extract_string(payload ->> '/payload/output', '/metadata/exit_code'))
                        END AS BIGINT),
                    payload ->> '/payload/output')
       END, 500)""",
)


#: Copies, too: without those of a fork's ancestor nobody knows where its own counts begin.
_ROWS = rows_of(_TYPE, with_copies=True)


def _lines(*kinds: str) -> str:
    """Return the subquery for lines of some kinds, with their parts as columns."""
    parts = ", ".join(f"parts[{number}] AS {name}" for number, name in enumerate(_NAMES, 1))
    return f"""(
        SELECT event_id, timestamp, run_id, session_id, parent_event_id, workspace, agent, segment, line_offset,
               payload, kind, usage, head, {parts}
        FROM (SELECT *, {ident(KIND.column)} AS kind, {ident(USAGE.column)} AS usage, {ident(TEXT.column)} AS head,
                     {ident(PARTS.column)}::JSON::VARCHAR[] AS parts
              FROM {_ROWS} WHERE {ident(KIND.column)} IN ({literals(kinds)}))
    )"""


#: The order of a session's lines. Several have the same time, some have none, and clocks go back: so within a segment
#: it is their position; where an import went on in another segment, the time of the lines before them decides.
_ORDER = "moment, segment, line_offset"
_AT = f"row({_ORDER})"
_OF_SESSION = "PARTITION BY workspace, session_id"
_SO_FAR = f"({_OF_SESSION} ORDER BY {_ORDER} ROWS UNBOUNDED PRECEDING)"


def _in_order(lines: str, columns: str = "*") -> str:
    return f"""
    SELECT {columns}, coalesce(max(timestamp) FILTER (timestamp > 'epoch') OVER (
                                   {_OF_SESSION}, segment ORDER BY line_offset ROWS UNBOUNDED PRECEDING),
                               min(timestamp) FILTER (timestamp > 'epoch') OVER ({_OF_SESSION}, segment),
                               timestamp) AS moment
    FROM {lines}"""


_TURNS = ("turn_context", "event_msg/task_started", "event_msg/turn_started")
_FAILURES = ("event_msg/error", "event_msg/stream_error", "event_msg/turn_aborted")
_SEARCH = "response_item/web_search_call"
_COUNT = "event_msg/token_count"
_MARKS = _in_order(_lines("session_meta", *_TURNS, _COUNT, *_FAILURES, _SEARCH), "* EXCLUDE (payload, head)")


def _same(one: str, other: str, its: str = "session_id", others: str = "session_id") -> str:
    return f"{one}.workspace IS NOT DISTINCT FROM {other}.workspace AND {one}.{its} = {other}.{others}"


#: What a usage object counts, in the order of lists of counts. Cached and written input are in the input, reasoning is
#: in the output.
_FIELDS = (
    "input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens", "reasoning_output_tokens",
)  # fmt: skip


#: A text as a count: 0 where there is none, NULL where it is no whole number.
_NUMBER = """CASE WHEN text IS NULL THEN 0
                  WHEN regexp_full_match(text, '[0-9]{1,18}') THEN TRY_CAST(text AS BIGINT) END"""


def _counts(of: str) -> str:
    """Return the counts of a usage object as BIGINT[], as SQL; NULL where it has none, or one is no whole number."""
    texts = f"json_extract_string(usage, [{literals(f'/{of}/{field}' for field in _FIELDS)}])"
    numbers = f"[{_NUMBER} FOR text IN {texts}]"
    return f"""CASE WHEN coalesce({texts}[1], {texts}[4]) IS NOT NULL AND list_count({numbers}) = {len(_FIELDS)}
                    THEN {numbers} END"""


def _of_each(expression: str, aggregate: str | None = None) -> str:
    """Return a list with an expression for each position `i` in lists of counts, or an aggregate of it, as SQL."""
    values = f"[{expression} FOR i IN range(1, {len(_FIELDS) + 1})]"
    return values if aggregate is None else f"list_aggregate({values}, {literal(aggregate)})"


# A session is `forked` where its file has a second session_meta, or names what it was forked from: it may begin with
# lines of its ancestors. They end
# - with the last of the counts at its beginning that an ancestor had when the session began; equal counts of others,
#   and later ones, say nothing;
# - not before the ordinal that its session_meta names, else the first turn that began after the session did, by UUIDs
#   of version 7: an ancestor's counts may not be all there;
# - where there are no such counts and no such turn, before the first turn that its ancestors do not have.
_LINEAGE = f"""
marks AS MATERIALIZED ({_MARKS}),
counts AS MATERIALIZED (
    SELECT *, {_counts("total_token_usage")} AS total, {_counts("last_token_usage")} AS last
    FROM marks WHERE kind = {literal(_COUNT)} AND json_type(usage) <> 'NULL'
), metas AS (
    SELECT workspace, session_id, list_sort(list(DISTINCT meta_id) FILTER (meta_id <> session_id)) AS others,
           arg_min(struct_pack(moment, began, forked_from, parent, spawned_by, own_from, base_to), {_AT}) AS own
    FROM marks WHERE kind = 'session_meta' GROUP BY workspace, session_id
), forked AS (
    SELECT workspace, session_id, others,
           coalesce(own.forked_from, own.parent, own.spawned_by, others[1]) AS ancestor,
           greatest(own.moment, TRY_CAST(own.began AS TIMESTAMP)) AS forked_at,
           coalesce(TRY_CAST(own.own_from AS BIGINT), TRY_CAST(own.base_to AS BIGINT)) AS own_ordinal
    FROM metas WHERE own.forked_from IS NOT NULL OR len(others) > 0
), ancestors AS (
    SELECT workspace, session_id, forked_at, unnest(list_distinct(list_append(others, ancestor))) AS ancestor
    FROM forked
), counts_of_ancestors AS (
    SELECT DISTINCT ancestors.workspace, ancestors.session_id, total
    FROM ancestors JOIN counts ON {_same("ancestors", "counts", "ancestor")} AND moment <= forked_at
), copied_counts AS (
    SELECT workspace, session_id, max({_AT}) FILTER (copied) AS copied_to
    FROM (
        SELECT counts.*, bool_and(same.total IS NOT NULL) OVER (
                   PARTITION BY counts.workspace, counts.session_id ORDER BY {_ORDER} ROWS UNBOUNDED PRECEDING
               ) AS copied
        FROM counts SEMI JOIN forked ON {_same("counts", "forked")}
        LEFT JOIN counts_of_ancestors AS same ON {_same("counts", "same")} AND same.total = counts.total
    ) GROUP BY workspace, session_id
), turns_of_ancestors AS (
    SELECT DISTINCT ancestors.workspace, ancestors.session_id, turn_id
    FROM ancestors JOIN marks ON {_same("ancestors", "marks", "ancestor")} AND turn_id IS NOT NULL
), parents AS (
    SELECT DISTINCT forked.workspace, forked.session_id FROM forked JOIN marks ON {_same("forked", "marks", "ancestor")}
), own_turns AS (
    SELECT marks.workspace, marks.session_id,
           min({_AT}) FILTER (
               CASE WHEN own_ordinal IS NOT NULL THEN TRY_CAST(ordinal AS BIGINT) >= own_ordinal
                    ELSE regexp_matches(marks.turn_id, '^[0-9a-f]{{8}}-[0-9a-f]{{4}}-7')
                         AND regexp_matches(marks.session_id, '^[0-9a-f]{{8}}-[0-9a-f]{{4}}-7')
                         AND left(marks.turn_id, 13) >= left(marks.session_id, 13) AND theirs.turn_id IS NULL END
           ) AS own_from,
           min({_AT}) FILTER (
               marks.turn_id IS NOT NULL AND theirs.turn_id IS NULL AND parents.session_id IS NOT NULL
           ) AS other_from
    FROM marks JOIN forked ON {_same("marks", "forked")}
    LEFT JOIN parents ON {_same("marks", "parents")}
    LEFT JOIN turns_of_ancestors AS theirs ON {_same("marks", "theirs")} AND theirs.turn_id = marks.turn_id
    GROUP BY marks.workspace, marks.session_id
), lineage AS (
    SELECT forked.workspace, forked.session_id, ancestor, copied_to,
           coalesce(own_turns.own_from, CASE WHEN copied_to IS NULL THEN other_from END) AS own_at,
           parents.session_id IS NOT NULL AS has_parent,
           NOT has_parent AND own_turns.own_from IS NULL AS doubtful
    FROM forked
    LEFT JOIN parents ON {_same("forked", "parents")}
    LEFT JOIN own_turns ON {_same("forked", "own_turns")}
    LEFT JOIN copied_counts ON {_same("forked", "copied_counts")}
), subagents AS (
    SELECT DISTINCT workspace, session_id FROM marks WHERE kind = 'session_meta' AND meta_id = session_id
    AND subagent IS NOT NULL
)"""
#: Whether a line belongs to an ancestor, in a join with `lineage`.
_COPIED = f"(coalesce({_AT} < lineage.own_at, false) OR coalesce({_AT} <= lineage.copied_to, false))"


def _with_lineage(lines: str) -> str:
    return f"{lines} LEFT JOIN lineage ON {_same(lines, 'lineage')} LEFT JOIN subagents ON {_same(lines, 'subagents')}"


#: Providers in `model_provider` that have another name in eventlog (eventlog.indexer.views.providers).
_PROVIDER = """CASE provider WHEN 'azure' THEN 'azure.ai.openai' WHEN 'amazon-bedrock' THEN 'aws.bedrock'
                    WHEN 'oss' THEN 'ollama' ELSE coalesce(nullif(provider, ''), 'openai') END"""
#: Reasons of turn_aborted that are no failure of a call: a user, or a limit of the user's, ended the turn.
_STOPPED = ("interrupted", "replaced", "review_ended", "budget_limited")
_NO_CALLS = ("sandbox_error", "thread_rollback_failed")

_ITS_FOLDER = "CASE WHEN kind IN ('session_meta', 'turn_context') THEN cwd END"
_LLM_CALLS = f"""
WITH {_LINEAGE}, carried AS (
    SELECT event_id, workspace,
           last_value(CASE WHEN kind = 'turn_context' THEN model END IGNORE NULLS) OVER so_far AS model,
           last_value(CASE WHEN kind IN ({literals(_TURNS)}) THEN turn_id END IGNORE NULLS) OVER so_far AS turn,
           last_value(CASE WHEN kind = 'turn_context' OR (kind = 'session_meta' AND meta_id = session_id)
                      THEN provider END IGNORE NULLS) OVER so_far AS provider,
           last_value(CASE WHEN kind = 'turn_context' THEN coalesce(service_tier, '') END IGNORE NULLS)
               OVER so_far AS tier,
           count(*) FILTER (kind = {literal(_SEARCH)} AND action = 'search') OVER so_far AS searches,
           {project_of(f"arg_min({_ITS_FOLDER}, {_AT}) OVER ({_OF_SESSION})")} AS project,
           last_value(CASE WHEN kind = 'session_meta' AND meta_id = session_id THEN nullif(git_branch, '') END
                      IGNORE NULLS) OVER so_far AS branch
    FROM marks WINDOW so_far AS {_SO_FAR}
), changes AS (
    SELECT *, {_of_each("total[i] < before[i]", "bool_or")} AS fell,
           {_of_each("last[i] <= total[i]", "bool_and")} AS fits
    FROM (SELECT *, last_value(total IGNORE NULLS) OVER (
                        {_OF_SESSION} ORDER BY {_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM counts)
), used AS (
    SELECT changes.* EXCLUDE (turn_id, model, provider, service_tier), ancestor, doubtful,
           subagents.session_id AS subagent_id, {_COPIED} AS copied,
           CASE WHEN total IS NULL THEN [0, 0, 0, 0, 0]
                -- counting begins: in a fork with the counts of its ancestor, else at 0
                WHEN coalesce(fell, before IS NULL AND lineage.session_id IS NOT NULL) AND fits THEN last
                WHEN before IS NULL OR fell THEN total
                ELSE {_of_each("total[i] - before[i]")} END AS tokens
    FROM {_with_lineage("changes")}
), calls AS (
    SELECT * FROM (
        SELECT used.*, carried.* EXCLUDE (event_id, workspace), searches - coalesce(lag(searches) OVER (
                   PARTITION BY used.workspace, used.session_id ORDER BY {_ORDER}), 0) AS web_searches
        FROM used JOIN carried ON {_same("used", "carried", "event_id", "event_id")}
        WHERE total IS NULL OR list_sum(tokens) > 0
    ) WHERE NOT copied
), failures AS (
    SELECT marks.* EXCLUDE (turn_id, model, provider, service_tier), carried.* EXCLUDE (event_id, workspace),
           subagents.session_id AS subagent_id,
           coalesce(CASE WHEN starts_with(error_info, '{{') THEN TRY(json_keys(error_info)[1]) ELSE error_info END,
                    reason, split_part(kind, '/', 2)) AS error_type
    FROM {_with_lineage("marks")} JOIN carried ON {_same("marks", "carried", "event_id", "event_id")}
    WHERE kind IN ({literals(_FAILURES)}) AND NOT {_COPIED}
      AND coalesce(reason NOT IN ({literals(_STOPPED)}), kind <> 'event_msg/turn_aborted')
      AND coalesce(error_info NOT IN ({literals(_NO_CALLS)}), true)
)
SELECT concat_ws(':', session_id, turn, row_number() OVER (
           PARTITION BY workspace, session_id, turn ORDER BY {_ORDER})) AS message_id,
       turn AS request_id, run_id, session_id, parent_event_id, subagent_id, workspace, agent,
       {literal(_TYPE)} AS source, project, branch, {_PROVIDER} AS provider, model,
       greatest(tokens[1] - tokens[2] - tokens[3], 0) AS uncached_input_tokens, tokens[2] AS cache_read_tokens,
       tokens[3] AS cache_write_5m_tokens, 0::BIGINT AS cache_write_1h_tokens, tokens[4] AS output_tokens,
       tokens[5] AS reasoning_tokens, nullif(tier, '') AS service_tier, TRY(usage::JSON) AS raw_usage,
       CASE WHEN total IS NULL THEN 'its counts are not whole numbers'
            WHEN doubtful THEN 'may be a call of the session ' || coalesce(ancestor, '?') || ', which is not imported'
            WHEN tokens[2] + tokens[3] > tokens[1] THEN 'more cached input than input'
            WHEN tokens[5] > tokens[4] THEN 'more reasoning than output' END AS usage_problem,
       web_searches, true AS ok, NULL::VARCHAR AS error_type, timestamp, timestamp AS last_timestamp, event_id
FROM calls
UNION ALL BY NAME
SELECT event_id::VARCHAR AS message_id, turn AS request_id, run_id, session_id, parent_event_id, subagent_id, workspace,
       agent, {literal(_TYPE)} AS source, project, branch, {_PROVIDER} AS provider, model,
       0::BIGINT AS uncached_input_tokens, 0::BIGINT AS cache_read_tokens, 0::BIGINT AS cache_write_5m_tokens,
       0::BIGINT AS cache_write_1h_tokens,
       0::BIGINT AS output_tokens, false AS ok, error_type, timestamp, timestamp AS last_timestamp, event_id
FROM failures
"""

_CALLS = (
    "response_item/function_call", "response_item/custom_tool_call", "response_item/local_shell_call",
    "response_item/web_search_call", "response_item/tool_search_call", "response_item/image_generation_call",
)  # fmt: skip
_OUTPUTS = (
    "response_item/function_call_output", "response_item/custom_tool_call_output", "response_item/tool_search_output",
)  # fmt: skip
#: Events of the tool itself. Without a call of the model they stand for one.
_ENDS = {
    "event_msg/exec_command_end": "exec_command",
    "event_msg/mcp_tool_call_end": "mcp",
    "event_msg/patch_apply_end": "apply_patch",
}
_NAMES_OF_ENDS = " ".join(f"WHEN {literal(kind)} THEN {literal(tool)}" for kind, tool in _ENDS.items())
#: The exit code in the lines before a command's output: `Exit code: 1`, or `Process exited with code 1` after others.
_EXIT_CODE = r"^(?:Exit code: |(?:Chunk ID: [^\n]*\n)?(?:Wall time: [^\n]*\n)?Process exited with code )(-?[0-9]+)"


def _boolean(text: str) -> str:
    return f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END"


# Whether a tool succeeded: NULL where nothing says so, as of a tool that was interrupted, declined, or still runs.
_WENT = f"""CASE
    WHEN status = 'declined' THEN NULL
    WHEN kind = 'event_msg/exec_command_end' AND regexp_full_match(exit_code, '-?[0-9]+') THEN exit_code = '0'
    WHEN kind = 'event_msg/patch_apply_end' THEN {_boolean("success")}
    WHEN kind = 'event_msg/mcp_tool_call_end' THEN head IS NULL AND NOT coalesce({_boolean("is_error")}, false)
    WHEN kind IN ({literals(_OUTPUTS)}) THEN coalesce(
        {_boolean("success")}, {_boolean("success_of_output")},
        TRY_CAST(nullif(regexp_extract(head, {literal(_EXIT_CODE)}, 1), '') AS BIGINT) = 0,
        CASE WHEN status IN ('failed', 'completed') THEN status = 'completed' END)
    WHEN status = 'failed' THEN false
    WHEN kind IN ('response_item/web_search_call', 'response_item/image_generation_call')
         THEN CASE WHEN status = 'completed' THEN true END
    END"""
_INPUT = """CASE WHEN starts_with(kind, 'event_msg/')
         THEN coalesce(payload -> '/payload/command', payload -> '/payload/invocation/arguments',
                       payload -> '/payload/changes')
         ELSE coalesce(TRY((payload ->> '/payload/arguments')::JSON), payload -> '/payload/arguments',
                       payload -> '/payload/input', payload -> '/payload/action') END"""
_OUTPUT = """coalesce(payload -> '/payload/output', payload -> '/payload/aggregated_output',
                  payload -> '/payload/result', payload -> '/payload/stdout', payload -> '/payload/tools')"""

# An id of a call may come again in a later turn: a result belongs to the last call with its id.
_TOOL_LINES = f"""
WITH {_LINEAGE}, lines AS (
    SELECT *, kind IN ({literals(_CALLS)}) AS is_call, coalesce(call_id, event_id::VARCHAR) AS key,
           {_WENT} AS went, {_INPUT} AS input, {_OUTPUT} AS output
    FROM ({_in_order(_lines(*_CALLS, *_OUTPUTS, *_ENDS))})
    WHERE NOT (kind = 'event_msg/exec_command_end' AND source IS NOT DISTINCT FROM 'user_shell')
), numbered AS (
    SELECT lines.*, subagents.session_id AS subagent_id,
           count(*) FILTER (is_call) OVER (
               PARTITION BY lines.workspace, lines.session_id, key ORDER BY {_ORDER} ROWS UNBOUNDED PRECEDING
           ) AS nth
    FROM {_with_lineage("lines")} WHERE NOT {_COPIED}
)"""
_TOOL_CALLS = f"""
{_TOOL_LINES}, first AS (
    SELECT *, CASE WHEN is_call
                   THEN coalesce(nullif(concat_ws('.', nullif(namespace, ''), name), ''),
                                 regexp_replace(split_part(kind, '/', 2), '_call$', ''))
                   ELSE coalesce(tool_of_server, CASE kind {_NAMES_OF_ENDS} END)
              END AS tool
    FROM numbered WHERE is_call OR (nth = 0 AND kind IN ({literals(_ENDS)}))
    QUALIFY row_number() OVER (PARTITION BY workspace, session_id, key, nth ORDER BY is_call DESC, {_ORDER}) = 1
), results AS (
    SELECT workspace, session_id, key, nth, bool_and(went) AS ok, min(timestamp) FILTER (NOT is_call) AS finished,
           arg_min(output, (is_call, kind NOT IN ({literals(_OUTPUTS)}), {_ORDER})) AS output,
           max(CASE WHEN kind = 'event_msg/exec_command_end' THEN exit_code
                    ELSE nullif(regexp_extract(head, {literal(_EXIT_CODE)}, 1), '') END) AS exit_code
    FROM numbered GROUP BY workspace, session_id, key, nth
)
SELECT first.call_id AS tool_call_id, run_id, first.session_id, parent_event_id, subagent_id, first.workspace, agent,
       {literal(_TYPE)} AS source, tool, input, results.output, timestamp, finished,
       date_sub('millisecond', timestamp, finished)::DOUBLE AS duration_ms, ok,
       CASE WHEN NOT ok THEN 'exit code ' || results.exit_code END AS error_type, event_id
FROM first JOIN results ON {_same("first", "results")} AND first.key = results.key AND first.nth = results.nth
"""

#: As messages of tools: a rollout may begin in the middle, and a person may read what it has.
_RESULTS_ALONE = f"""
{_TOOL_LINES}
SELECT 'tool' AS role, CASE json_type(output) WHEN 'VARCHAR' THEN output ->> '$' ELSE output::VARCHAR END AS text,
       'text' AS kind, 0::BIGINT AS block, NULL::VARCHAR AS model, run_id, session_id, parent_event_id, subagent_id,
       workspace, agent, {literal(_TYPE)} AS source, timestamp, event_id
FROM numbered WHERE nth = 0
QUALIFY kind IN ({literals(_OUTPUTS)}) AND output IS NOT NULL
    AND row_number() OVER (PARTITION BY workspace, session_id, key, kind IN ({literals(_OUTPUTS)})
                           ORDER BY {_ORDER}) = 1
    AND NOT bool_or(kind IN ({literals(_ENDS)})) OVER (PARTITION BY workspace, session_id, key)
"""

#: What Codex writes in the name of the user: instructions, surroundings, notices.
_WRAPPER = (
    r"^\s*(?:# AGENTS\.md instructions|<(?:environment_context|user_instructions|INSTRUCTIONS|permissions instructions"
    r"|turn_aborted|skill|user_shell_command|subagent_notification|model_switch|user_action|collaboration_mode"
    r"|personality_spec|apps_instructions|skills_instructions|plugins_instructions|realtime_conversation)>)"
)
_PROMPTS = ("event_msg/user_message", "response_item/message")

# A title is the name that the thread was given last, else the first prompt. What a fork copies is its ancestor's.
_SESSIONS = f"""
WITH {_LINEAGE}, lines AS (
    {_in_order(_lines("session_meta", "turn_context", "event_msg/thread_name_updated", *_PROMPTS), "* EXCLUDE payload")}
), said AS (
    SELECT lines.*,
           CASE WHEN kind = 'event_msg/thread_name_updated' THEN thread_name
                WHEN kind = 'event_msg/user_message' THEN head
                WHEN role = 'user' AND NOT regexp_matches(head, {literal(_WRAPPER)}) THEN head END AS words,
           nullif(left(trim(regexp_replace(words, '\\s+', ' ', 'g')), 200), '') AS title
    FROM {_with_lineage("lines")} WHERE NOT {_COPIED} OR kind = 'session_meta'
), titles AS (
    SELECT workspace, session_id, {project_of(f"arg_min(cwd, {_AT})")} AS project,
           arg_max(nullif(git_branch, ''), {_AT}) FILTER (kind = 'session_meta' AND meta_id = session_id) AS branch,
           arg_max(title, {_AT}) FILTER (kind = 'event_msg/thread_name_updated') AS thread_name,
           coalesce(arg_min(title, {_AT}) FILTER (kind = 'event_msg/user_message'),
                    arg_min(title, {_AT}) FILTER (kind = 'response_item/message')) AS prompt
    FROM said GROUP BY workspace, session_id
)
SELECT workspace, session_id, project, branch, coalesce(thread_name, prompt) AS title,
       CASE WHEN thread_name IS NOT NULL THEN 'name'
            WHEN prompt IS NOT NULL THEN 'prompt' END AS title_source
FROM titles
"""

_THOUGHTS = ("response_item/reasoning", "event_msg/agent_reasoning")
#: Thinking is there whole (`content`), in short (`summary`), or encrypted.
_THINKING = " ".join(
    f"""WHEN len(CASE json_type(payload, '/payload/{name}') WHEN 'ARRAY'
                      THEN (payload -> '/payload/{name}')::JSON[] END) > 0
        THEN array_to_string([block ->> 'text' FOR block IN (payload -> '/payload/{name}')::JSON[]], chr(10))"""
    for name in ("content", "summary")
)

# A text is there twice: as an item of the conversation, and as an event for the screen. Events count where there is no
# item with their text, which may repeat: the second event then needs a second item. Events of thinking are parts of
# items: they count where no item of the session can be read.
_MESSAGES = f"""
WITH {_LINEAGE}, lines AS (
    {_in_order(_lines("turn_context", "compacted", "event_msg/agent_message", *_THOUGHTS, *_PROMPTS))}
), texts AS (
    SELECT *, CASE WHEN kind = 'response_item/message' THEN role WHEN kind = 'event_msg/user_message' THEN 'user'
                   ELSE 'assistant' END AS speaker,
           CASE WHEN kind IN ({literals(_THOUGHTS)}) THEN 'thinking' WHEN kind = 'compacted' THEN 'summary'
                ELSE 'text' END AS said_as,
           starts_with(kind, 'response_item/') OR kind = 'compacted' AS is_item,
           last_value(CASE WHEN kind = 'turn_context' THEN model END IGNORE NULLS) OVER {_SO_FAR} AS model_so_far,
           CASE WHEN kind = 'response_item/message' THEN array_to_string(
                    [block ->> 'text' FOR block IN CASE WHEN json_type(payload, '/payload/content') = 'ARRAY'
                                                        THEN (payload -> '/payload/content')::JSON[] END
                     IF block ->> 'type' IN ('input_text', 'output_text', 'text')
                        AND NOT regexp_full_match(block ->> 'text', '</?image[^>]*>')], chr(10))
                WHEN kind = 'response_item/reasoning' THEN CASE {_THINKING} END
                WHEN kind = 'event_msg/agent_reasoning' THEN payload ->> '/payload/text'
                ELSE payload ->> '/payload/message' END AS text
    FROM lines
), said AS (
    SELECT texts.*, subagents.session_id AS subagent_id, md5(trim(text)) AS digest
    FROM {_with_lineage("texts")}
    WHERE kind <> 'turn_context' AND speaker IN ('user', 'assistant') AND trim(text) <> '' AND NOT {_COPIED}
      AND NOT (is_item AND speaker = 'user' AND regexp_matches(head, {literal(_WRAPPER)}))
)
SELECT speaker AS role, text, said_as AS kind, 0::BIGINT AS block,
       CASE WHEN speaker = 'assistant' THEN model_so_far END AS model, run_id, session_id,
       parent_event_id, subagent_id, workspace, agent, {literal(_TYPE)} AS source, timestamp, event_id
FROM said
QUALIFY is_item OR CASE WHEN said_as = 'thinking'
    THEN count(*) FILTER (is_item) OVER (PARTITION BY workspace, session_id, said_as) = 0
    ELSE row_number() OVER (PARTITION BY workspace, session_id, speaker, said_as, digest, is_item
                             ORDER BY {_ORDER})
         > count(*) FILTER (is_item) OVER (PARTITION BY workspace, session_id, speaker, said_as, digest) END
"""

# What a fork has copied, where its parent is there. The line that begins a rollout is its own.
_COPIES = CopiedLines(
    _TYPE,
    f"""
WITH {_LINEAGE}, lines AS (
    {_in_order(f"(SELECT workspace, session_id, event_id, timestamp, segment, line_offset FROM {_ROWS})")}
), firsts AS (
    SELECT workspace, event_id FROM marks WHERE kind = 'session_meta' AND meta_id = session_id
)
SELECT lines.workspace, lines.event_id
FROM lines JOIN lineage ON {_same("lines", "lineage")}
ANTI JOIN firsts ON {_same("lines", "firsts", "event_id", "event_id")}
WHERE has_parent AND {_COPIED}
""",
    f"""
WITH metas AS ({_lines("session_meta")}), forked AS (
    SELECT DISTINCT workspace, session_id FROM metas WHERE meta_id <> session_id OR forked_from IS NOT NULL
)
SELECT metas.workspace, metas.session_id, unnest([meta_id, forked_from, parent, spawned_by]) AS ancestor
FROM metas JOIN forked ON {_same("metas", "forked")}
""",
)

VIEWS = SourceViews(
    promoted=(KIND, PARTS, USAGE, TEXT),
    copies=_COPIES,
    llm_calls=_LLM_CALLS,
    tool_calls=_TOOL_CALLS,
    sessions=_SESSIONS,
    messages=f"FROM ({_MESSAGES}) UNION ALL BY NAME FROM ({_RESULTS_ALONE})",
)
