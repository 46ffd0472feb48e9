"""`messages`: what users, models and tools said and thought, of recorded `message` events and of sources.

One row for the texts of a line, and one for its thinking. `kind` says what a text is:

    text      what a user or a model said
    thinking  what a model thought before it answered, where the log has it
    summary   what stands for the conversation before it, once that had become too long
    note      what the program itself wrote there: a reminder, the output of a command, an interruption
"""

from __future__ import annotations

from eventlog.indexer.sql import literal

#: Types of blocks that hold a text, and the field that has it.
_TEXT, _THINKING = "text", "thinking"


def text_of(content: str) -> str:
    """Return the text of a message's content, as SQL: a text, or the `text` blocks of a list, with newlines between.

    `content` is an expression of type JSON. NULL where it is neither, or large and kept beside the log.
    """
    return f"""CASE json_type({content})
        WHEN 'VARCHAR' THEN ({content}) ->> '$'
        WHEN 'ARRAY' THEN array_to_string(
            [CASE json_type(block) WHEN 'VARCHAR' THEN block ->> '$' ELSE block ->> 'text' END
             FOR block IN ({content})::JSON[] IF json_type(block) = 'VARCHAR' OR block ->> 'type' = {literal(_TEXT)}],
            chr(10)
        ) END"""


def thinking_of(content: str) -> str:
    """Return the `thinking` blocks of a message's content, as SQL, with newlines between; NULL where it is no list."""
    return f"""CASE json_type({content}) WHEN 'ARRAY' THEN array_to_string(
            [block ->> 'thinking' FOR block IN ({content})::JSON[] IF block ->> 'type' = {literal(_THINKING)}], chr(10)
        ) END"""


def block_of(content: str, kind: str) -> str:
    """Return the place of the first block of a type in a message's content, from 0, as SQL; 0 for a text."""
    types = f"CASE json_type({content}) WHEN 'ARRAY' THEN [block ->> 'type' FOR block IN ({content})::JSON[]] END"
    return f"(coalesce(list_position({types}, {literal(kind)}), 1) - 1)::BIGINT"


def has_text(blocks: str) -> str:
    """Return whether a message may have texts, as SQL: results of tools, which may be large, have none.

    `blocks` is a list of structs with the `type` of each block of its content, NULL where that is no list.
    """
    return f"""({blocks} IS NULL OR len(list_filter(
        {blocks}, lambda block: coalesce(block.type IN ({literal(_TEXT)}, {literal(_THINKING)}), true))) > 0)"""


def both(content: str, kind: str) -> str:
    """Return a list of structs, as SQL: the texts of a message's content with their `kind`, and its thinking.

    `kind` is SQL for the kind of the texts.
    """
    return f"""[struct_pack(kind := {kind}, text := {text_of(content)}, block := {block_of(content, _TEXT)}),
            struct_pack(kind := {literal(_THINKING)}, text := {thinking_of(content)},
                        block := {block_of(content, _THINKING)})]"""


# A message without any text is there, too.
RECORDED = f"""
SELECT role, part.text AS text, part.kind AS kind, part.block AS block, NULL::VARCHAR AS model,
       run_id, session_id, parent_event_id, NULL::VARCHAR AS subagent_id, workspace, agent, 'message' AS source,
       timestamp, event_id
FROM (
    SELECT payload ->> 'role' AS role, unnest({both("payload -> 'content'", literal(_TEXT))}) AS part, run_id,
           session_id, parent_event_id, workspace, agent, timestamp, event_id
    FROM event_rows WHERE event_type = 'message'
) WHERE part.kind = {literal(_TEXT)} OR part.text <> ''
"""
