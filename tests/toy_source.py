"""Toy: a chat program that writes one file per chat, `<chat>.toy`, with a JSON object on each line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eventlog.format import ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers.records import importer_parts
from eventlog.importers.sources import Source
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.sources import SourceViews, rows_of

# -- the writing half: lines become envelopes ------------------------------------------------


class Line(msgspec.Struct):
    """What an envelope needs of a line; all else is only in the payload."""

    chat: str
    at: Any = None


class ToyFormat:
    def __init__(self, *, workspace: str | None = None, agent: str | None = None) -> None:
        self.workspace = workspace
        self.agent = agent
        self.key = msgspec.json.encode(["toy", workspace, agent]).decode()

    def source_name(self, path: Path) -> str:
        return path.name

    def envelopes(self, data: bytes, source: str, occurrence: int) -> list[Envelope]:
        line = msgspec.json.decode(data, type=Line)
        moment = timestamps.from_foreign(line.at)
        timestamp = timestamps.UNKNOWN if moment is None else timestamps.to_text(moment)
        event_id = ids.derived_id(
            timestamps.to_us(timestamps.parse(timestamp)),
            *("toy", source, *importer_parts(self.agent), data, str(occurrence)),
            workspace=self.workspace,
        )
        envelope = Envelope(
            event_id=event_id,
            event_type="toy",
            timestamp=timestamp,
            session_id=line.chat,
            workspace=self.workspace,
            agent=self.agent,
            payload=msgspec.Raw(data),
        )
        return [envelope]


SOURCE = Source(
    name="toy",
    command="toy",
    help="Import toy chats; by default all of ~/toy.",
    event_types=("toy",),
    format=ToyFormat,
    default_folders=lambda: [Path.home() / "toy"],
    patterns=("*.toy",),
    noun="chat",
    views="tests.toy_source:VIEWS",
)

# -- the reading half: rows become calls, sessions and messages ------------------------------

PROMOTED = (
    PromotedColumn("toy", "kind", "VARCHAR"),
    PromotedColumn("toy", "model", "VARCHAR"),
    PromotedColumn("toy", "read", "BIGINT"),
    PromotedColumn("toy", "written", "BIGINT"),
    PromotedColumn("toy", "ms", "DOUBLE"),
)

LLM_CALLS = f"""
SELECT payload ->> 'id' AS message_id, run_id, session_id, parent_event_id,
       payload ->> 'helper' AS subagent_id, workspace, agent, 'toy' AS source,
       'anthropic' AS provider, "toy/model" AS model,
       coalesce("toy/read", 0) AS uncached_input_tokens, 0::BIGINT AS cache_read_tokens,
       0::BIGINT AS cache_write_5m_tokens, 0::BIGINT AS cache_write_1h_tokens,
       coalesce("toy/written", 0) AS output_tokens, "toy/ms" AS latency_ms,
       payload ->> 'error' IS NULL AS ok, payload ->> 'error' AS error_type,
       timestamp, timestamp AS last_timestamp, event_id
FROM {rows_of("toy")} WHERE "toy/kind" = 'answer'
"""

TOOL_CALLS = f"""
SELECT payload ->> 'id' AS tool_call_id, run_id, session_id, parent_event_id,
       workspace, agent, 'toy' AS source, payload ->> 'tool' AS tool, payload -> 'with' AS input,
       payload -> 'gave' AS output, timestamp, TRY(timestamp + to_milliseconds("toy/ms")) AS finished,
       "toy/ms" AS duration_ms, payload ->> 'error' IS NULL AS ok, payload ->> 'error' AS error_type, event_id
FROM {rows_of("toy")} WHERE "toy/kind" = 'tool'
"""

SESSIONS = f"""
SELECT workspace, session_id, arg_max(payload ->> 'folder', event_id) AS project,
       arg_max(payload ->> 'title', event_id) AS summary
FROM {rows_of("toy")} WHERE "toy/kind" = 'chat' GROUP BY workspace, session_id
"""

MESSAGES = f"""
SELECT CASE WHEN "toy/kind" = 'ask' THEN 'user' ELSE 'assistant' END AS role, payload ->> 'text' AS text,
       "toy/model" AS model, run_id, session_id, parent_event_id, payload ->> 'helper' AS subagent_id, workspace, agent,
       'toy' AS source, timestamp, event_id
FROM {rows_of("toy")} WHERE "toy/kind" IN ('ask', 'answer') AND payload ->> 'text' <> ''
"""

VIEWS = SourceViews(promoted=PROMOTED, llm_calls=LLM_CALLS, tool_calls=TOOL_CALLS, sessions=SESSIONS, messages=MESSAGES)
