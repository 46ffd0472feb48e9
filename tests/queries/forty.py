"""A root with forty events, for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from eventlog.config import Config
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.indexer.support import segment

START = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)


def forty_events(root: Path) -> ReadStore:
    """Record and index 40 events of two types, one every ten minutes, two at each moment, and a line that is none."""
    recorder = Recorder(Config(root=str(root), strict=True))
    for n in range(40):
        recorder.emit(
            "a" if n % 4 else "b",
            {"n": n},
            timestamp=START + timedelta(minutes=n // 2 * 10),
            dedupe_key=str(n),
            run_id=f"r{n % 3}",
            cycle=n % 5,
        )
    recorder.shutdown()
    segment(root, b"nonsense\n", event_type="c")
    Indexer(root).catch_up()
    return ReadStore(root)
