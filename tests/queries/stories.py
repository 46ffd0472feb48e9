"""Small logs of what agents did, with times and ids that tests can name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from eventlog.config import Config
from eventlog.format import builtin
from eventlog.format.control import Role
from eventlog.record.recorder import Recorder
from tests.indexer.support import index

START = datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Seconds after START, which is ten seconds before midnight."""
    return START + timedelta(seconds=seconds)


class Story:
    """Emits events, and indexes them at the end of the block."""

    def __init__(self, root: Path, *, blob_min_bytes: int = 64 * 1024, **context: Any) -> None:
        self.root = root
        self._recorder = Recorder(
            Config(root=str(root), strict=True, blob_min_bytes=blob_min_bytes), role=Role.MAINTENANCE
        )
        self._context = context

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *error: object) -> None:
        self._recorder.shutdown()
        index(self.root)

    def tell(self, seconds: float, event: msgspec.Struct | str, payload: Any = None, **fields: Any) -> str:
        """Emit an event at seconds after START; return its id."""
        arguments = (event,) if payload is None else (event, payload)
        event_id = self._recorder.emit(*arguments, timestamp=at(seconds), **self._context | fields)
        assert event_id is not None
        return event_id


def nightly(root: Path, run_id: str = "nightly-7", *, shift: float = 0, failing: bool = True) -> dict[str, str]:
    """A run of 20 s with a step, model and tool calls; returns the ids of its events by name."""
    ids: dict[str, str] = {}
    with Story(root, run_id=run_id, agent="planner", session_id="s1", workspace="w") as story:
        ids["start"] = story.tell(shift, builtin.RunStarted(name="nightly", task="Tidy the shelf"))
        ids["llm"] = story.tell(
            shift + 3,
            builtin.LlmCall(
                request_model="m", system_instructions="You tidy.", latency_ms=2400.0,
                input_messages=[{"role": "user", "content": "Tidy the shelf now" if failing else "Tidy the shelf"}],
                uncached_input_tokens=1200, cache_write_5m_tokens=800, output_tokens=90,
            ),
        )  # fmt: skip
        search = builtin.ToolCall(
            tool_name="search", arguments={"n": 1, "q": "shelf"}, result="none", duration_ms=700.0
        )
        for number, second in enumerate((5, 6, 7) if failing else (5,)):
            ids[f"search{number}"] = story.tell(
                shift + second, msgspec.structs.replace(search, ok=not failing or number == 2)
            )
        ids["step"] = story.tell(shift + 15, builtin.Step(name="retrieve", duration_ms=7000.0))
        inside = {"parent_event_id": ids["step"]}
        ids["inner"] = story.tell(
            shift + 12,
            builtin.LlmCall(request_model="m", cache_read_tokens=2000, uncached_input_tokens=300, output_tokens=40),
            **inside,
        )
        make = {"command": "make all" if failing else "make"}
        ids["make"] = story.tell(
            shift + 14, builtin.ToolCall(tool_name="bash", arguments=make, duration_ms=1000.0), **inside
        )
        if failing:
            ids["error"] = story.tell(
                shift + 18, builtin.Error(error_type="Overflow", error_message="the shelf is full")
            )
        end = builtin.RunFinished(status="error", error_type="Overflow") if failing else builtin.RunFinished()
        ids["end"] = story.tell(shift + 20, msgspec.structs.replace(end, duration_ms=20_000.0))
    return ids
