"""Segments that are changed behind the indexer's back, and other things in the log's folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from eventlog.format import ids
from eventlog.log import layout
from eventlog.queries.store import ReadStore
from faults import oracle
from faults.campaign import Plan, fault

_LINES = 40


def _line(plan: Plan, event_type: str = "t") -> bytes:
    event = {
        "event_id": ids.new_id(plan.rng.randrange(10**18, 2 * 10**18)),
        "event_type": event_type,
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "payload": {"n": plan.rng.randrange(10**9), "pad": "x" * plan.rng.randrange(300)},
    }
    return json.dumps(event).encode() + b"\n"


def _segment(plan: Plan, root: Path, event_type: str = "t", lines: int = _LINES) -> Path:
    folder = root / "log" / event_type
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (layout.new_segment_name(plan.rng.randrange(10**18, 2 * 10**18)) + layout.SUFFIX)
    path.write_bytes(b"".join(_line(plan, event_type) for _ in range(lines)))
    return path


def _append(plan: Plan, path: Path) -> None:
    with path.open("ab") as file:
        file.write(_line(plan))


def _edited(plan: Plan, data: bytes, *, last: int | None = None) -> bytes:
    """Change one digit of a payload, in the last bytes or anywhere; the line stays valid."""
    start = 0 if last is None else max(len(data) - last, 0)
    places = [
        at + 5 for at in range(start, len(data)) if data.startswith(b'"n": ', at) and data[at + 5 : at + 6] != b"0"
    ]
    at = plan.rng.choice(places)
    return data[:at] + (b"1" if data[at : at + 1] != b"1" else b"2") + data[at + 1 :]


# Each way of tampering takes the path of a segment that is indexed to its end.


def _cut(plan: Plan, path: Path) -> None:
    os.truncate(path, plan.rng.randrange(path.stat().st_size))


def _cut_and_regrown(plan: Plan, path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, plan.rng.randrange(size - 1))  # else the last newline is put back, and nothing was changed
    with path.open("ab") as file:
        file.write(b"\n")
        while file.tell() <= size:
            file.write(_line(plan))


def _edited_near_the_end(plan: Plan, path: Path) -> None:
    data = _edited(plan, path.read_bytes(), last=4000)
    with path.open("r+b") as file:
        file.write(data)
    _append(plan, path)


def _replaced_with_the_same_size_and_time(plan: Plan, path: Path) -> None:
    stat, data = path.stat(), _edited(plan, path.read_bytes(), last=4000)
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _append(plan, path)


def _emptied(_: Plan, path: Path) -> None:
    os.truncate(path, 0)


def _overwritten_by_another(plan: Plan, path: Path) -> None:
    other = b"".join(_line(plan) for _ in range(3 * _LINES))
    path.unlink()
    path.write_bytes(other)


_SEEN: list[Callable[[Plan, Path], None]] = [
    _cut, _cut_and_regrown, _edited_near_the_end, _replaced_with_the_same_size_and_time, _emptied,
    _overwritten_by_another,
]  # fmt: skip


def _rows_are_the_log(root: Path, only_indexed: Collection[str] = ()) -> None:
    """Check that each row has the content of its line in the log, and that no line is missing.

    Rows whose lines are in no file any more must be among those that were `only_indexed`.
    """
    rows = ReadStore(root).sql("SELECT segment, line_offset, line_length, event_id::VARCHAR, payload FROM events").rows
    paths = {each.name: each.path for each in layout.list_log(root).segments}
    for segment, offset, length, event_id, payload in rows:
        if segment not in paths:
            Plan.check(event_id in only_indexed, f"the row of {segment} at byte {offset} comes from nowhere")
            continue
        line = paths[segment].read_bytes()[offset : offset + length]
        found = json.loads(line)
        Plan.check(
            (found["event_id"], found["payload"]) == (event_id, json.loads(payload)),
            f"the row of {segment} at byte {offset} says {event_id} {payload}, the log {line[:200]!r}",
        )
    oracle.account(root, ReadStore(root))


@fault("Segments tampered with", "cut, regrown, edited, emptied, replaced (same size and time, same inode)")
def tampered_segments(plan: Plan) -> str:
    rounds = plan.times(18)
    for number in range(rounds):
        tamper = _SEEN[number % len(_SEEN)]
        root = plan.root
        paths = [_segment(plan, root) for _ in range(3)]
        oracle.recover(root)
        ids_before = _ids(paths[1])
        tamper(plan, paths[1])
        said = oracle.recover(root)
        Plan.check("an alarm was logged" in said, f"nothing was said of a segment {tamper.__name__}: {said}")
        alarms = ReadStore(root).sql("SELECT payload ->> 'segment' FROM events WHERE event_type = 'index_alarm'").rows
        Plan.check(alarms == [(paths[1].stem,)], f"{tamper.__name__}: alarms {alarms}")
        oracle.nothing_lost(root, ids_before)
        _rows_are_the_log(root, ids_before)
        oracle.same_as_replay(root)
        shutil.rmtree(root)
    unseen = _unseen_edits(plan)
    return f"{rounds} of {rounds} seen when next indexed, with an alarm row each, 0 wrong rows, 0 lost; {unseen}"


def _ids(path: Path) -> list[str]:
    return [json.loads(line)["event_id"] for line in path.read_bytes().splitlines()]


def _unseen_edits(plan: Plan) -> str:
    """Check edits that do not change a segment's size: only its end is compared, and replay --verify finds the rest.

    Deletions and moves are harmless.
    """
    root = plan.root
    edited, deleted, moved = (_segment(plan, root) for _ in range(3))
    late = _segment(plan, root)
    oracle.recover(root)
    stat = edited.stat()
    data = edited.read_bytes()
    with edited.open("r+b") as file:  # not in the last 4 KiB, which an indexer looks at when it starts
        file.write(_edited(plan, data[:-5000]) + data[-5000:])
    os.utime(edited, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ids_deleted = _ids(deleted)
    deleted.unlink()
    again = _segment(plan, root, lines=1)  # the file system likes to give the inode of the one that was deleted
    same_content = moved.read_bytes()
    moved.unlink()
    moved.write_bytes(same_content)
    _append(plan, moved)
    never_read = _segment(plan, root)
    never_read.unlink()
    with late.open("ab") as file:
        file.write(b"{")
    oracle.recover(root)
    count = ReadStore(root).sql("SELECT count(*) FROM events").rows[0][0]
    Plan.check(count == 4 * _LINES + 2, f"{count} rows, expected {4 * _LINES + 2}")
    rows = ReadStore(root).sql("SELECT count(*) FROM events WHERE segment = ?", [again.stem]).rows
    Plan.check(rows == [(1,)], f"{again.stem} in the place of a deleted segment: {rows}")
    verified = oracle.eventlog("replay", "--verify", "--root", root)
    Plan.check(verified.returncode == 1, "replay --verify does not see an edit of the same size and time")
    Plan.check(oracle.eventlog("replay", "--root", root).returncode == 0, "the replay failed")
    _rows_are_the_log(root, ids_deleted)
    return "an edit without growth is found by replay --verify"


def _zoo(plan: Plan, root: Path) -> int:
    """Put things that are not segments into the log; return their number."""
    folder = os.fsencode(root / "log" / "t")
    real = os.fsencode(_segment(plan, root))
    other = os.fsencode(_segment(plan, root, "other"))
    made = 0

    def name() -> bytes:
        return os.fsencode(layout.new_segment_name(plan.rng.randrange(10**18, 2 * 10**18)) + layout.SUFFIX)

    for target in (real, folder, b"/dev/zero", b"/dev/stdin", b"/proc/self/mem", b"nowhere", b"/etc/passwd"):
        os.symlink(target, os.path.join(folder, name()))
        os.symlink(target, os.path.join(folder, b"..", b"link%d" % made))
        made += 2
    loop = os.path.join(folder, name())
    os.symlink(loop, loop)
    os.mkfifo(os.path.join(folder, name()))
    os.mkfifo(os.path.join(folder, b"..", b"fifo"))
    os.mkdir(os.path.join(folder, name()))
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            listener.bind(name().decode())
        finally:
            os.chdir(here)
    made += 5
    odd = (b"a\nb.jsonl", b"\xff\xfe.jsonl", b"x" * 255, b"20260101T250000000000Z-0000000000000000.jsonl", b".jsonl",
           b"20260101T000000000000Z-0000000000000000.jsonl\n", b"20260101T000000000000Z-000000000000000G.jsonl",
           "20260101T000000000000Z-000000000000000\u0661.jsonl".encode(), b"-rf", b"$(reboot).jsonl")  # fmt: skip
    for each in odd:
        Path(os.fsdecode(os.path.join(folder, each))).write_bytes(_line(plan))
        made += 1
    for each in (b"\xff", b"a\nb", b"T", b"x" * 255, b".hidden", "\u0442".encode(), b"t ", b"..t"):
        os.mkdir(os.path.join(folder, b"..", each))
        made += 1
    os.link(real, os.path.join(os.path.dirname(other), os.path.basename(real)))  # one name, two folders
    return made + 1


@fault("Things in the log that are no segments", "links, loops, devices, FIFOs, sockets, folders, names of any bytes")
def odd_files(plan: Plan) -> str:
    root = plan.root
    made = _zoo(plan, root)
    said = oracle.recover(root, timeout_s=30)
    Plan.check(said.count("left alone") == made, f"{made} things that are none, reported: {said.count('left alone')}")
    _rows_are_the_log(root)
    commands = [
        ["tail", "-n", "100000"], ["tail", "--since", "2000-01-01"], ["status"], ["status", "--json"],
        ["replay"], ["replay", "--verify"], ["sql", "FROM event_types"], ["export", "t", "--format", "csv"],
        ["emit", "t"], ["index"],
    ]  # fmt: skip
    commands = plan.rng.sample(commands, max(plan.times(len(commands)), 3))
    for command in commands:
        done = oracle.eventlog(*command, "--root", root, timeout_s=30)
        Plan.check(done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr[-1000:]}")
        Plan.check("Traceback" not in done.stderr, f"{command}: {done.stderr[-1000:]}")
    _watch(root)
    return f"{made} things reported and left alone by {len(commands) + 1} commands, none hangs" + _swapped(plan, root)


def _watch(root: Path) -> None:
    command = [sys.executable, "-m", "eventlog", "index", "--watch", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watching:
        try:
            watching.wait(3)
        except subprocess.TimeoutExpired:
            watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30)
    Plan.check(watching.returncode == 0, f"index --watch ended with {watching.returncode}: {said[-1000:]!r}")


_OPEN_ALL = """
import sys, contextlib
from pathlib import Path
from eventlog.log import reader, segment
from eventlog.errors import EventlogError
from eventlog.indexer.index import checkpoint
from eventlog.queries.store import ReadStore
root, path, event_id = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
for look in (lambda: list(reader.read_lines(path)), lambda: segment.is_owned(path),
             lambda: segment.Segment.adopt(path), lambda: checkpoint.tail_hash(path, 10),
             lambda: ReadStore(root).event(event_id)):
    with contextlib.suppress(EventlogError):
        look()
"""


def _swapped(plan: Plan, root: Path) -> str:
    """Replace a segment by something else after it was listed; all functions that open it by name return."""
    rows = ReadStore(root).sql("SELECT segment, event_id::VARCHAR FROM events WHERE event_type = 't'").rows
    kinds: dict[str, Callable[[Path], object]] = {
        "a FIFO": os.mkfifo, "a folder": os.mkdir, "a link to /dev/zero": lambda path: os.symlink("/dev/zero", path),
    }  # fmt: skip
    for kind, make in kinds.items():
        segment, event_id = plan.rng.choice(rows)
        path = layout.segment_path(root, "t", segment)
        kept = path.with_name("kept")
        path.rename(kept)
        make(path)
        arguments = [sys.executable, "-c", _OPEN_ALL, str(root), str(path), event_id]
        try:
            done = subprocess.run(arguments, capture_output=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            Plan.check(False, f"a segment that became {kind} holds its reader up")
        Plan.check(done.returncode == 0, f"a segment that became {kind}: {done.stderr.decode()[-1000:]}")
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        kept.rename(path)
    return f"; {len(kinds)} ways of a segment to become something else under its reader"
