"""Hostile lines, in the log and in what is imported."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from pathlib import Path

from eventlog.format import envelope
from eventlog.importers.records import SourceLine, split_records
from eventlog.log import layout, reader
from eventlog.queries.store import ReadStore
from faults import oracle
from faults.campaign import FaultFound, Plan, fault
from faults.hostile_bytes import event, hostile_lines, mutated, torture_files, with_value

#: Indexes a root in a fresh process and says how many MB it needed at most.
_INDEX = """
import sys
from pathlib import Path
from eventlog.indexer.indexer import Indexer
Indexer(sys.argv[1]).catch_up()
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def _write(plan: Plan, root: Path, lines: list[bytes], segments: int = 1) -> None:
    folder = root / "log" / "t"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(segments):
        path = folder / (layout.new_segment_name(plan.rng.randrange(10**18, 2 * 10**18)) + layout.SUFFIX)
        path.write_bytes(b"".join(line + b"\n" for line in lines[number::segments]))


def _index_peak_mb(root: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _INDEX, str(root)], capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode:
        raise FaultFound(f"indexing ended with {done.returncode}: {done.stderr[-2000:]}")
    return int(done.stdout) // 1024


def _lines(plan: Plan, mutations: int) -> list[bytes]:
    lines = [*hostile_lines(plan.rng), *torture_files()]
    small = [line for line in lines if len(line) < 20_000]
    small += [event(plan.rng) for _ in small]
    lines += [mutated(plan.rng, plan.rng.choice(small)) for _ in range(plan.times(mutations))]
    # A segment is cut at newlines, whoever wrote them.
    return [part for line in lines for part in line.split(b"\n")]


@fault("Hostile lines in the log", "one of each kind, JSON torture files, random changes; a line of 100 MB")
def hostile_log(plan: Plan) -> str:
    root = plan.root
    lines = _lines(plan, 20_000)
    plan.rng.shuffle(lines)
    good = [event(plan.rng) for _ in range(100)]
    _write(plan, root, [*good[:50], *lines, *good[50:]], segments=5)
    peak_mb = _index_peak_mb(root)
    counts = ReadStore(root).sql("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)").rows[0]
    oracle.judge(root, [line[14:50].decode() for line in good])
    long_mb = _long_lines(plan)
    return (
        f"{len(lines):,} lines: {counts[0]:,} rows, {counts[1]:,} in quarantine, every byte accounted for, equal to "
        f"a replay, peak {peak_mb} MB; {long_mb}"
    )


def _long_lines(plan: Plan) -> str:
    """Check that memory does not grow with the length of a line, nor time with its square."""
    peaks = []
    size_mb = max(plan.times(100), 20)  # over the limit of a line, which is kept whole
    for size in (1, size_mb * 1_000_000, 3 * size_mb * 1_000_000):
        root = plan.root
        long = with_value(plan.rng, b'"' + b"x" * size + b'"')
        _write(plan, root, [event(plan.rng), long, event(plan.rng), b"x" * size])
        with next((root / "log" / "t").iterdir()).open("ab") as file:
            file.write(b"y" * size)  # a torn tail
        peaks.append(_index_peak_mb(root))
        oracle.account(root, ReadStore(root))
    rest, one, three = peaks
    Plan.check(three - one < 64, f"indexing took {one} MB at one length of line and {three} MB at three times that")
    Plan.check(three - rest < 256, f"indexing took {three} MB with long lines and {rest} MB without")
    return f"a line of {size_mb} MB: peak {one} MB, {3 * size_mb} MB: {three} MB (none: {rest} MB)"


@fault("Hostile lines to the importers", "the same lines, to jsonl and claude-code, plain and compressed, twice")
def hostile_import(plan: Plan) -> str:
    root = plan.root
    lines = [line for line in _lines(plan, 5_000) if len(line) < 5_000_000]
    plain, packed = plan.folder / "source.jsonl", plan.folder / "other.jsonl.gz"
    plain.write_bytes(b"\n".join(lines) + b"\n")  # or the last line would wait for its rest
    packed.write_bytes(gzip.compress(b"\r\n".join(lines[::7]) + b"\n" + b"z" * plan.times(40) * 1_000_000, 1))
    commands: list[list[str | Path]] = [
        ["jsonl", plain, packed, "--type", "foreign"],
        ["jsonl", plain, "--type-field", "event_type", "--time-field", "timestamp", "--id-field", "payload.n"],
        ["claude-code", plain, packed],
    ]
    told = []
    for command in commands:
        first = oracle.eventlog("import", *command, "--root", root, timeout_s=240)
        again = oracle.eventlog("import", *command, "--root", root, timeout_s=240)
        for done in (first, again):
            Plan.check("unexpected" not in done.stderr and done.returncode == 0, f"{command}: {done.stderr[-1500:]}")
        Plan.check(" 0 new events" in again.stdout, f"{command}, the second time: {again.stdout}")
        told.append(first.stdout.strip().split(" (the first")[0].split(": ", 1)[1])
    rows = oracle.judge(root, [])
    # Mutations share ids, so there are conflicts, which are as they should be.
    others = "reason NOT LIKE 'import: %' AND reason NOT LIKE 'conflict: %'"
    wrong = ReadStore(root).sql(f"SELECT count(*) FROM quarantine WHERE {others}").rows[0][0]
    Plan.check(wrong == 0, f"{wrong} lines written by the importers are no events")
    kept = _kept(root)
    stripped = [line.removeprefix(b"\xef\xbb\xbf").strip() for line in lines]
    lost = [line for line in stripped if not _made_of(line, kept) and not _made_of(_mended(line), kept)]
    Plan.check(not lost, f"{len(lost)} lines are neither events nor rejected, such as {lost[:1]!r:.300}")
    return f"{len(lines):,} lines, each an event or rejected, {rows:,} rows; {told[0]}; the second time 0 new"


def _kept(root: Path) -> dict[bytes, list[bytes]]:
    """Return all lines that the log holds verbatim, longest first, by their first bytes."""
    kept: dict[bytes, list[bytes]] = {}
    for located in reader.read_log(root, ["foreign", "import_rejected"]):
        payload = bytes(envelope.decode(located.data).envelope.payload)
        if located.event_type == "import_rejected":
            rejected = json.loads(payload)
            payload = rejected["raw"].encode() if "raw" in rejected else base64.b64decode(rejected["raw_base64"])
        kept.setdefault(payload[:1], []).append(payload)
    return {first: sorted(set(found), key=len, reverse=True) for first, found in kept.items()}


def _mended(line: bytes) -> bytes:
    """Return a line as its records are imported: without half characters, and without zeros around them."""
    return b"".join(record.data for record in split_records(SourceLine(line, len(line), len(line), True)))


def _made_of(line: bytes, kept: dict[bytes, list[bytes]]) -> bool:
    """Return whether a line is one of these, or several of them joined."""
    while line:
        part = next((each for each in kept.get(line[:1], []) if line.startswith(each)), None)
        if part is None:
            return False
        line = line[len(part) :].strip()
    return True
