"""The oracle: what must be true after recovery, checked without the product's own counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eventlog.log import layout, reader
from eventlog.queries.store import ReadStore
from faults.campaign import FaultFound, Plan
from faults.pace import Deadline

_MAX_ROWS = 10_000_000


class Acked(NamedTuple):
    """An event whose emit returned, and the durability that was promised."""

    event_id: str
    level: str


def reported(report: Path) -> list[Acked]:
    """Read the report of a producer: lines of `id level`, the last one perhaps cut by a kill."""
    lines = report.read_text().split("\n")[:-1] if report.exists() else []
    return [Acked(*line.split(" ")) for line in lines]


def eventlog(*arguments: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the console command in a process of its own. Raises TimeoutExpired."""
    command = [sys.executable, "-m", "eventlog", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        out, errors = communicate(process, timeout_s)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def communicate(process: subprocess.Popen[str], timeout_s: float, stdin: str | None = None) -> tuple[str, str]:
    """Wait for a process; return its output. Kills it, and raises TimeoutExpired, if it takes too long."""
    deadline = Deadline(timeout_s)
    while True:
        try:
            return process.communicate(stdin, timeout=max(timeout_s - deadline.elapsed_s, 0.2))
        except subprocess.TimeoutExpired:
            stdin = None  # it is on its way
            if deadline.has_passed():
                process.kill()
                raise


def recover(root: Path, timeout_s: float = 120) -> str:
    """Index in a fresh process, as an operator would; return its output."""
    done = eventlog("index", "--root", root, timeout_s=timeout_s)
    if done.returncode:
        raise FaultFound(f"`eventlog index` failed with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def judge(root: Path, acked: Iterable[str], *, timeout_s: float = 300) -> int:
    """Recover and check the promises; return the number of rows.

    - each acknowledged id is a row, and the id of each row is there once;
    - every byte of the log is a row, a copy of a row, or in quarantine;
    - the index equals a replay.
    """
    recover(root, timeout_s)
    rows = nothing_lost(root, acked)
    account(root, ReadStore(root, timeout_s=timeout_s))
    same_as_replay(root, timeout_s)
    return rows


def nothing_lost(root: Path, acked: Iterable[str]) -> int:
    """Check that each acknowledged id is a row and each row is there once; return the number of rows."""
    found = ReadStore(root, timeout_s=300).sql("SELECT event_id, workspace FROM events", row_limit=_MAX_ROWS).rows
    lost = set(acked) - {str(row[0]) for row in found}
    Plan.check(not lost, f"{len(lost)} acknowledged events are no rows, such as {sorted(lost)[:3]}")
    Plan.check(len(found) == len(set(found)), f"{len(found) - len(set(found))} events have more than one row")
    return len(found)


def torn_tails(root: Path) -> int:
    """Count the torn tails in quarantine, where nothing else may be."""
    found = ReadStore(root).sql("SELECT reason, segment FROM quarantine", row_limit=_MAX_ROWS).rows
    others = [reason for reason, _ in found if not reason.startswith("torn tail")]
    Plan.check(not others, f"{len(others)} lines in quarantine were never torn, such as: {others[:1]}")
    Plan.check(len(found) == len({segment for _, segment in found}), "a segment has two torn tails")
    return len(found)


def account(root: Path, store: ReadStore) -> None:
    """Check that every byte of every segment is a row, a copy of a row, or in quarantine."""
    placed = store.sql(
        """
        SELECT segment, line_offset, line_length FROM events
        UNION SELECT segment, line_offset, line_length FROM copies
        UNION SELECT segment, line_offset, length FROM quarantine
        """,
        row_limit=_MAX_ROWS,
    ).rows
    lengths = {(segment, offset): length for segment, offset, length in placed}
    ids = "SELECT event_id FROM events UNION SELECT event_id FROM copies"
    known = {str(row[0]) for row in store.sql(ids, row_limit=_MAX_ROWS).rows}
    for segment in layout.list_log(root).segments:
        end = 0
        for line in reader.read_lines(segment.path):
            end = line.offset + line.length
            if (segment.name, line.offset) not in lengths:
                event_id = json.loads(line.data, parse_int=str).get("event_id")  # numbers may be of any length
                Plan.check(str(event_id).lower() in known, f"{segment.path}: the line at byte {line.offset} is nowhere")
        if end < segment.size:
            tail = lengths.get((segment.name, end))
            Plan.check(
                tail == segment.size - end, f"{segment.path}: torn tail {end}..{segment.size} in quarantine as {tail}"
            )


def same_as_replay(root: Path, timeout_s: float = 300) -> None:
    """Check that the live index and a replay have the same content hash."""
    done = eventlog("replay", "--verify", "--root", root, timeout_s=timeout_s)
    Plan.check(done.returncode == 0, f"the index differs from a replay: {done.stdout}{done.stderr}")


def read_whole(root: Path) -> tuple[set[str], int]:
    """Return the ids in a log, and the number of lost events that it reports. Raises FaultFound for a fused line."""
    there: set[str] = set()
    dropped: dict[str, int] = {}
    for path in sorted(layout.log_folder(root).glob("*/*")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                raise FaultFound(f"{path}: a complete line is no event: {line[:60]!r} … {line[-60:]!r}") from None
            there.add(event["event_id"])
            if event["event_type"] == "events_dropped":
                dropped[event["event_id"]] = event["payload"]["count"]
    return there, sum(dropped.values())
