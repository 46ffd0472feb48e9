"""Logs written by hand, byte for byte, and queries over the index that is made from them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from eventlog.format import ids
from eventlog.indexer.index import index_file
from eventlog.indexer.index.digest import Digest, digest
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout

#: Rows, and how many of them are distinct events.
COUNT = "SELECT count(*), count(DISTINCT event_id) FROM events"
_clock = iter(range(10**9, 2 * 10**9))


def line(n: int, event_type: str = "t", **fields: Any) -> bytes:
    """Return a valid line whose event_id depends on n alone."""
    event = {
        "event_id": ids.derived_id(n * 1000, str(n)),
        "event_type": event_type,
        "timestamp": f"2026-01-01T00:{n // 60 % 60:02d}:{n % 60:02d}.000000Z",
        "payload": {"n": n},
    } | fields
    return msgspec.json.encode(event) + b"\n"


def segment(root: Path, *lines: bytes, event_type: str = "t", name: str | None = None) -> Path:
    """Write a segment; later ones sort after earlier ones."""
    folder = root / "log" / event_type
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ((name or layout.new_segment_name(next(_clock) * 10**9)) + ".jsonl")
    path.write_bytes(b"".join(lines))
    return path


def name(n: int) -> str:
    """Return a segment name that sorts by n."""
    return f"20260101T0000{n:02d}000000Z-{n:016x}"


def index(root: Path) -> list[str]:
    """Index the log; return the indexer's warnings."""
    said: list[str] = []
    Indexer(root, say=said.append).catch_up()
    return said


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    """Query the index."""
    with index_file.reading(root, timeout_s=10) as connection:
        return connection.execute(query).fetchall()


def digest_of(root: Path) -> Digest:
    """Return the content hash of the index."""
    with index_file.reading(root, timeout_s=10) as connection:
        return digest(connection)


def wait_for(root: Path, query: str, expected: object, timeout_s: float = 20) -> None:
    """Query until the answer is as expected, within a time limit."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = rows(root, query) if index_file.index_path(root).exists() else None
        if found == expected:
            return
        assert time.monotonic() < deadline, f"{found} is not {expected}"
        time.sleep(0.02)
