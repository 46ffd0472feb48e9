"""Making logs by hand, byte for byte, and looking at what the index makes of them."""

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
    """A valid line whose event_id is fixed by n."""
    event = {
        "event_id": ids.derived_id(n * 1000, str(n)),
        "event_type": event_type,
        "timestamp": f"2026-01-01T00:{n // 60 % 60:02d}:{n % 60:02d}.000000Z",
        "payload": {"n": n},
    } | fields
    return msgspec.json.encode(event) + b"\n"


def segment(root: Path, *lines: bytes, event_type: str = "t", name: str | None = None) -> Path:
    """Write a segment; later ones sort behind earlier ones."""
    folder = root / "log" / event_type
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ((name or layout.new_segment_name(next(_clock) * 10**9)) + ".jsonl")
    path.write_bytes(b"".join(lines))
    return path


def name(n: int) -> str:
    """A segment name that sorts by n."""
    return f"20260101T0000{n:02d}000000Z-{n:016x}"


def index(root: Path) -> list[str]:
    """Catch up; return what the indexer said."""
    said: list[str] = []
    Indexer(root, say=said.append).catch_up()
    return said


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the index."""
    with index_file.reading(root, timeout_s=10) as connection:
        return connection.execute(query).fetchall()


def digest_of(root: Path) -> Digest:
    """The content hash of the index."""
    with index_file.reading(root, timeout_s=10) as connection:
        return digest(connection)


def wait_for(root: Path, query: str, expected: object, timeout_s: float = 20) -> None:
    """Ask until the answer is as expected, within a bound."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = rows(root, query) if index_file.index_path(root).exists() else None
        if found == expected:
            return
        assert time.monotonic() < deadline, f"{found} is not {expected}"
        time.sleep(0.02)
