"""The lines of Claude Code's transcripts: their small parts, and whose they are.

A line is taken apart once, when it is indexed. What the parts mean is said in the modules beside this one, so that a
better rule improves the past as well.
"""

from __future__ import annotations

from eventlog.indexer.sql import ident, literals
from eventlog.indexer.views import usage
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.sources import Copies, rows_of

TYPE = "claude_code"

#: What the small parts of a message are called here, and where they stand in it (RFC 6901).
_OF_MESSAGE = {
    "message_id": "/id",
    "model": "/model",
    "stop_reason": "/stop_reason",
}
#: Where they stand in a line. What a subagent said is a line within a line.
OF_LINE = {
    "role": "/type",
    "request_id": "/requestId",
    "agent_id": "/agentId",
    **{name: f"/message{pointer}" for name, pointer in _OF_MESSAGE.items()},
}
OF_PROGRESS = {
    "role": "/data/message/type",
    "request_id": "/data/message/requestId",
    "agent_id": "/data/agentId",
    **{name: f"/data/message/message{pointer}" for name, pointer in _OF_MESSAGE.items()},
}
#: What only some kinds of lines say: titles, failed calls, what a call cost.
_SELDOM = {
    "kind": "/type",
    "custom_title": "/customTitle",
    "ai_title": "/aiTitle",
    "summary": "/summary",
    "leaf": "/leafUuid",
    "subtype": "/subtype",
    "is_api_error": "/isApiErrorMessage",
    "error": "/error",
    "error_kind": "/error/error/type",
    "error_kind_within": "/error/error/error/type",
    "error_status": "/error/status",
    "cost_usd": "/costUSD",
    "duration_ms": "/durationMs",
}
_POINTERS = list(
    dict.fromkeys(
        ["/cwd", "/gitBranch", "/data/type", "/forkedFrom", "/sessionKind", *OF_LINE.values(), *OF_PROGRESS.values()]
    )
)
_SELDOM_POINTERS = list(_SELDOM.values())

#: The small parts of a line, as a JSON array in one column: each column costs every batch a little, and many short
#: texts cost DuckDB more to store than one.
PARTS = PromotedColumn(
    TYPE, "parts", "VARCHAR", f"to_json(json_extract_string(payload, [{literals(_POINTERS)}]))::VARCHAR"
)
#: The reading of a line's usage object. Only lines that have one are taken apart again for it.
USAGE = usage.promoted(
    TYPE,
    "usage",
    """CASE WHEN contains(payload::VARCHAR, '"usage"') THEN list_transform(
        [json_extract(payload, ['/type', '/message/usage', '/data/message/message/usage'])],
        lambda x: CASE WHEN x[1] = '"progress"' THEN x[3] ELSE x[2] END)[1] END""",
)
SELDOM = PromotedColumn(
    TYPE,
    "seldom",
    "VARCHAR",
    f"""CASE WHEN regexp_matches(
            payload::VARCHAR, '"(customTitle|aiTitle|summary|isApiErrorMessage|costUSD)"|"api_error"'
        ) THEN to_json(json_extract_string(payload, [{literals(_SELDOM_POINTERS)}]))::VARCHAR END""",
)


def uuid_of(text: str) -> str:
    """Return a line's id as a UUID, also where it is none."""
    return f"coalesce(TRY_CAST({text} AS UUID), md5({text})::UUID)"


#: A line has a uuid, which its copies share. What has none and names no session (a summary, a snapshot of files) is
#: known by its text.
LINE = PromotedColumn(
    TYPE,
    "line",
    "UUID",
    f"""CASE WHEN payload ->> '/uuid' IS NOT NULL THEN {uuid_of("(payload ->> '/uuid')")}
         WHEN payload ->> '/sessionId' IS NULL THEN md5(payload::VARCHAR)::UUID END""",
)
#: Of a line of a subagent that older versions wrote between the others, without an id of the subagent: the line before.
#: Of the first one, itself.
BEFORE = PromotedColumn(
    TYPE,
    "before",
    "UUID",
    f"""CASE WHEN contains(payload::VARCHAR, '"isSidechain"') AND payload ->> '/isSidechain' = 'true'
          AND payload ->> '/agentId' IS NULL
         THEN {uuid_of("coalesce(payload ->> '/parentUuid', payload ->> '/uuid')")} END""",
)


def _blocks(content: str, value: str) -> str:
    return f"""CASE json_type({content})
        WHEN 'VARCHAR' THEN length({content} ->> '$')
        WHEN 'ARRAY' THEN list_sum([length({value}) FOR block IN ({content})::JSON[]]) END"""


_PRODUCED = "coalesce(block ->> 'text', block ->> 'thinking', (block -> 'input')::VARCHAR, '')"
#: How many characters a model produced in a line: text, reasoning, arguments of tools.
CHARS = PromotedColumn(
    TYPE,
    "chars",
    "INTEGER",
    f"""CASE WHEN payload ->> '/type' = 'assistant' THEN {_blocks("(payload -> '/message/content')", _PRODUCED)}
         WHEN contains(payload::VARCHAR, '"agent_progress"') AND payload ->> '/data/message/type' = 'assistant'
         THEN {_blocks("(payload -> '/data/message/message/content')", _PRODUCED)} END""",
)
PROMPT_MAX_CHARS = 200
_PROMPT = """CASE json_type(payload -> '/message/content')
    WHEN 'VARCHAR' THEN payload ->> '/message/content'
    WHEN 'ARRAY' THEN [
        block ->> 'text' FOR block IN (payload -> '/message/content')::JSON[] IF block ->> 'type' = 'text'][1]
    END"""
_COMMAND = """concat_ws(' ', nullif(regexp_extract(said, '<command-name>([^<]*)', 1), ''),
                        nullif(trim(regexp_extract(said, '<command-args>([^<]*)', 1)), ''))"""
#: The beginning of what a person asked, or the command that they gave: `/init`, with its arguments. Other tags, and
#: brackets, begin what Claude Code itself put there: outputs, reminders, `[Request interrupted by user]`.
PROMPT = PromotedColumn(
    TYPE,
    "prompt",
    "VARCHAR",
    f"""CASE WHEN contains(payload::VARCHAR, '"user"') AND payload ->> '/type' = 'user'
          AND NOT contains(payload::VARCHAR, '"tool_use_id"')
          AND coalesce(payload ->> '/isMeta', 'false') = 'false'
          AND coalesce(payload ->> '/isSidechain', 'false') = 'false'
          AND coalesce(payload ->> '/isCompactSummary', 'false') = 'false'
         THEN [nullif(regexp_extract(CASE WHEN starts_with(said, '<command-') THEN {_COMMAND} ELSE said END,
                                     '^[^<\\[\\s][\\s\\S]{{0,{PROMPT_MAX_CHARS - 1}}}'), '')
               FOR said IN [trim({_PROMPT})]][1] END""",
)
PROMOTED = (PARTS, USAGE, SELDOM, LINE, BEFORE, CHARS, PROMPT)

ROWS = rows_of(TYPE)
#: All lines, with their parts as lists.
LINES = f"""(
    SELECT * EXCLUDE ({", ".join(ident(column.column) for column in PROMOTED)}),
           {ident(PARTS.column)}::JSON::VARCHAR[] AS parts, {ident(SELDOM.column)}::JSON::VARCHAR[] AS seldom,
           {ident(LINE.column)} AS line, {ident(BEFORE.column)} AS before, {ident(CHARS.column)} AS chars,
           {ident(PROMPT.column)} AS prompt, {ident(USAGE.column)}::JSON::VARCHAR[] AS reading
    FROM {ROWS}
)"""


def part(pointer: str) -> str:
    """Return what stands somewhere in a line, as an expression over LINES."""
    return f"parts[{_POINTERS.index(pointer) + 1}]"


def seldom(name: str) -> str:
    """Return what only some kinds of lines say, as an expression over LINES."""
    return f"seldom[{list(_SELDOM).index(name) + 1}]"


#: The branch of git that was checked out when a line was written.
BRANCH = f"nullif({part('/gitBranch')}, '')"


def parts(pointers: dict[str, str]) -> str:
    """Return a list of columns from names and where they stand."""
    return ", ".join(f"{part(pointer)} AS {name}" for name, pointer in pointers.items())


def _mark(pointer: str) -> str:
    return f"({ident(PARTS.column)}::JSON::VARCHAR[])[{_POINTERS.index(pointer) + 1}]"


#: A fork says of each line that it has copied where it is from; one in the background says only what it is itself.
COPIES = Copies(TYPE, LINE, f"{_mark('/forkedFrom')} IS NOT NULL OR coalesce({_mark('/sessionKind')} = 'bg', false)")
