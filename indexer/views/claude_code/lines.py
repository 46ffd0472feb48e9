"""The lines of Claude Code's transcripts: their small parts, and whose they are.

A line is taken apart once, when it is indexed. What the parts mean is said in the modules beside this one, so that a
better rule improves the past as well.
"""

from __future__ import annotations

import json

from eventlog.indexer.sql import ident, literal, literals
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

#: What else is looked for in every line.
_OTHERS = ["/uuid", "/sessionId", "/parentUuid", "/isSidechain", "/isMeta", "/isCompactSummary"]
_ALL_POINTERS = list(dict.fromkeys([*_POINTERS, *_SELDOM_POINTERS, *_OTHERS]))
_BODY_POINTERS = ["/message/content", "/message/usage", "/data/message/message/content", "/data/message/message/usage"]


def _step(name: str, expression: str) -> tuple[tuple[str, str], str]:
    """Return a step that columns share, and its name in SQL."""
    return (f"{TYPE}/line/{name}", expression), ident(f"{TYPE}/line/{name}")


# A line is parsed once for all that is short in it, and once more for its text and its usage where it may have some:
# each `->` in an expression would parse all of it again.
_ALL, _all = _step("all", f"json_extract_string(payload, [{literals(_ALL_POINTERS)}])")


def _at(pointer: str) -> str:
    """Return the text that stands somewhere in a line, as an expression over the step _ALL."""
    return f"{_all}[{_ALL_POINTERS.index(pointer) + 1}]"


def _names(word: str) -> str:
    return f"contains(payload::VARCHAR, {literal(json.dumps(word))})"


#: What a person asked for is in lines that no tool answers in.
_IS_ASKED = f"{_at('/type')} = 'user' AND NOT {_names('tool_use_id')}"
_BODIES, _bodies = _step(
    "bodies",
    f"""CASE WHEN {_at("/type")} = 'assistant' OR {_at("/data/message/type")} = 'assistant' OR ({_IS_ASKED})
          OR {_names("usage")} THEN json_extract(payload, [{literals(_BODY_POINTERS)}]) END""",
)


def _body(pointer: str) -> str:
    """Return the JSON of a text or a usage, as an expression over the step _BODIES."""
    return f"{_bodies}[{_BODY_POINTERS.index(pointer) + 1}]"


def _listed(pointers: list[str]) -> str:
    return f"to_json([{', '.join(map(_at, pointers))}])::VARCHAR"


#: The small parts of a line, as a JSON array in one column: each column costs every batch a little, and many short
#: texts cost DuckDB more to store than one.
PARTS = PromotedColumn(TYPE, "parts", "VARCHAR", _listed(_POINTERS), (_ALL,))
#: The reading of a line's usage object.
USAGE = usage.promoted(
    TYPE,
    "usage",
    f"""CASE WHEN {_at("/type")} = 'progress' THEN {_body("/data/message/message/usage")}
         ELSE {_body("/message/usage")} END""",
    (_ALL, _BODIES),
)
SELDOM = PromotedColumn(
    TYPE,
    "seldom",
    "VARCHAR",
    f"""CASE WHEN regexp_matches(
            payload::VARCHAR, '"(customTitle|aiTitle|summary|isApiErrorMessage|costUSD)"|"api_error"'
        ) THEN {_listed(_SELDOM_POINTERS)} END""",
    (_ALL,),
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
    f"""CASE WHEN {_at("/uuid")} IS NOT NULL THEN {uuid_of(_at("/uuid"))}
         WHEN {_at("/sessionId")} IS NULL THEN md5(payload::VARCHAR)::UUID END""",
    (_ALL,),
)
#: Of a line of a subagent that older versions wrote between the others, without an id of the subagent: the line before.
#: Of the first one, itself.
BEFORE = PromotedColumn(
    TYPE,
    "before",
    "UUID",
    f"""CASE WHEN {_at("/isSidechain")} = 'true' AND {_at("/agentId")} IS NULL
         THEN {uuid_of(f"coalesce({_at('/parentUuid')}, {_at('/uuid')})")} END""",
    (_ALL,),
)


def _produced(content: str) -> str:
    produced = "coalesce(block ->> 'text', block ->> 'thinking', (block -> 'input')::VARCHAR, '')"
    return f"""CASE json_type({content})
        WHEN 'VARCHAR' THEN length({content} ->> '$')
        WHEN 'ARRAY' THEN list_sum([length({produced}) FOR block IN ({content})::JSON[]]) END"""


#: How many characters a model produced in a line: text, reasoning, arguments of tools.
CHARS = PromotedColumn(
    TYPE,
    "chars",
    "INTEGER",
    f"""CASE WHEN {_at("/type")} = 'assistant' THEN {_produced(_body("/message/content"))}
         WHEN {_at("/data/message/type")} = 'assistant' AND {_names("agent_progress")}
         THEN {_produced(_body("/data/message/message/content"))} END""",
    (_ALL, _BODIES),
)
PROMPT_MAX_CHARS = 200
_PROMPT = f"""CASE json_type({_body("/message/content")})
    WHEN 'VARCHAR' THEN {_body("/message/content")} ->> '$'
    WHEN 'ARRAY' THEN [
        block ->> 'text' FOR block IN ({_body("/message/content")})::JSON[] IF block ->> 'type' = 'text'][1]
    END"""
_COMMAND = """concat_ws(' ', nullif(regexp_extract(said, '<command-name>([^<]*)', 1), ''),
                        nullif(trim(regexp_extract(said, '<command-args>([^<]*)', 1)), ''))"""
#: The beginning of what a person asked, or the command that they gave: `/init`, with its arguments. Other tags, and
#: brackets, begin what Claude Code itself put there: outputs, reminders, `[Request interrupted by user]`.
PROMPT = PromotedColumn(
    TYPE,
    "prompt",
    "VARCHAR",
    f"""CASE WHEN {_IS_ASKED} AND coalesce({_at("/isMeta")}, 'false') = 'false'
          AND coalesce({_at("/isSidechain")}, 'false') = 'false'
          AND coalesce({_at("/isCompactSummary")}, 'false') = 'false'
         THEN [nullif(regexp_extract(CASE WHEN starts_with(said, '<command-') THEN {_COMMAND} ELSE said END,
                                     '^[^<\\[\\s][\\s\\S]{{0,{PROMPT_MAX_CHARS - 1}}}'), '')
               FOR said IN [trim({_PROMPT})]][1] END""",
    (_ALL, _BODIES),
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
