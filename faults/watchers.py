"""`eventlog index --watch` as an operator runs it, and its output."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import eventlog as obs
from eventlog.format import ids
from eventlog.log import layout
from faults import children
from faults.campaign import Plan

_INDEXED = re.compile(r"indexed ([0-9,]+) events? ")


class Watcher:
    """A running `index --watch`."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    def batches(self) -> list[int]:
        """The number of events of each batch that had some."""
        return [int(count.replace(",", "")) for count in _INDEXED.findall(self._out.read_text())]

    def wait_for(self, events: int, what: str, timeout_s: float) -> float:
        """Wait until a number of events is indexed in all; return the seconds it took."""
        took_s = children.wait_until(lambda: sum(self.batches()) >= events, what, timeout_s)
        Plan.check(sum(self.batches()) == events, f"{what}: {sum(self.batches()):,} events instead of {events:,}")
        return took_s

    def said(self) -> str:
        """Its output on standard error."""
        return self._err.read_text()

    def memory_max_bytes(self) -> int:
        """Its peak memory so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def cpu_s(self) -> float:
        """Its processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def watching(root: Path, *options: str, prefix: Sequence[str] = ()) -> Iterator[Watcher]:
    """Run it for the length of the block; `prefix` is a command that runs it."""
    out, err = root.parent / f"{root.name}.watch.out", root.parent / f"{root.name}.watch.err"
    command = [
        *prefix,
        sys.executable,
        "-m",
        "eventlog",
        "index",
        "--watch",
        "--every",
        "0",
        "--root",
        str(root),
        *options,
    ]
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(command, stdout=to_out, stderr=to_err)
    try:
        yield Watcher(process, out, err)
    finally:
        process.kill()
        process.wait()


def make_segments(root: Path, event_types: list[str], per_type: int, key: str = "") -> list[str]:
    """Write segments of one event each, as fast as files can be made; return the ids."""
    made = []
    for event_type in event_types:
        folder = root / "log" / event_type
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(per_type):
            event_id = ids.derived_id(1_700_000_000_000_000, event_type, key, str(number))
            line = (
                f'{{"event_id":"{event_id}","event_type":"{event_type}",'
                f'"timestamp":"2026-01-01T00:00:00.000000Z","payload":{{"number":{number}}}}}\n'
            )
            name = layout.new_segment_name((1_700_000_000 + number) * 10**9)
            (folder / f"{name}.jsonl").write_text(line)
            made.append(event_id)
    return made


def emit_one(root: Path, event_type: str) -> str:
    """Emit one event in this process; return its id."""
    obs.configure(root=root)
    event_id = obs.emit(event_type, {})
    obs.shutdown()
    Plan.check(event_id, f"nothing could be emitted to {root}")
    return str(event_id)
