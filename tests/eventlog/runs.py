"""Programs that record runs, and what they recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from eventlog.format.envelope import Envelope
from eventlog.record.sinks import MemorySink


def only(captured: MemorySink, event_type: str) -> Envelope:
    (event,) = captured.of_type(event_type)
    return event


def in_child(program: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of its own, on `root`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "EVENTLOG_DIR": str(root)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def logged(root: Path, event_type: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((root / "log" / event_type).glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
