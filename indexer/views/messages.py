"""`messages`: what users, models and tools said, of recorded `message` events and of sources."""

from __future__ import annotations


def text_of(content: str) -> str:
    """Return the text of a message's content, as SQL: a text, or the `text` blocks of a list, with newlines between.

    `content` is an expression of type JSON. NULL where it is neither, or large and kept beside the log.
    """
    return f"""CASE json_type({content})
        WHEN 'VARCHAR' THEN ({content}) ->> '$'
        WHEN 'ARRAY' THEN array_to_string(
            [block ->> 'text' FOR block IN ({content})::JSON[] IF block ->> 'type' = 'text'], chr(10)
        ) END"""


RECORDED = f"""
SELECT payload ->> 'role' AS role, {text_of("payload -> 'content'")} AS text, NULL::VARCHAR AS model,
       run_id, session_id, parent_event_id, NULL::VARCHAR AS subagent_id, workspace, agent, 'message' AS source,
       timestamp, event_id
FROM event_rows WHERE event_type = 'message'
"""
