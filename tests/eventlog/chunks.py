"""Looking at what is under blobs/, and at the lines that refer to it."""

from __future__ import annotations

from pathlib import Path

import msgspec

import eventlog as obs

CHUNK = 32 * 1024


def payloads(root: Path, event_type: str) -> list[bytes]:
    """The payloads of a type as they stand in the log; a line that a kill has torn is none."""
    whole = [
        line
        for path in sorted((root / "log" / event_type).glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [bytes(msgspec.json.decode(line, type=obs.Envelope).payload) for line in whole]


def files(root: Path) -> dict[str, bytes]:
    """All files under blobs/, by their path there."""
    folder = root / "blobs"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text(size: int, seed: int = 0) -> str:
    """A text of ASCII in which no two chunks are the same."""
    return "".join(f"{seed} {n:09}\n" for n in range(size // 11 + 1))[:size]
