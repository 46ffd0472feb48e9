"""Trouble around a producer: forks, threads, clock, permissions, descriptors, suspended processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from eventlog.config import Config
from eventlog.indexer.index import lock
from eventlog.log import layout
from eventlog.log.segment import is_owned
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults import oracle
from faults.campaign import Plan, Skipped, fault
from faults.pace import Deadline, took_too_long

#: No emit may take longer, whatever is wrong; a busy machine gets the benefit of the doubt.
_EMIT_MAX_S = 1.0

_HEAD = """
import json, os, random, sys, threading, time
import eventlog as obs
root = sys.argv[1]
slowest = 0.0
def emit(event_type, payload):
    global slowest
    started = time.monotonic()
    event_id = obs.emit(event_type, payload)
    slowest = max(slowest, time.monotonic() - started)
    if event_id:
        os.write(1, event_id.encode() + b"\\n")
    return event_id
def tell():
    stats = obs.stats()
    told = {"slowest_s": slowest, "lost": stats.lost, "emitted": stats.emitted, "refused": stats.refused}
    os.write(2, json.dumps(told).encode() + b"\\n")
obs.configure(root=root, segment_max_bytes=65536)
import logging; logging.disable()
"""


def _start(root: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HEAD + code, str(root), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[list[str], list[dict[str, float]]]:
    """Wait for a producer; return the ids that it got, and the last report of each of its processes.

    A process that DuckDB has ended, if that runs in the same process, reports nothing.
    """
    try:
        out, errors = oracle.communicate(process, timeout_s)
    except subprocess.TimeoutExpired:
        Plan.check(False, f"a producer hangs: {process.communicate()[1][-2000:]}")
    if process.returncode == -signal.SIGABRT and "duckdb::" in errors:
        return out.splitlines(), []
    Plan.check(process.returncode == 0, f"a producer ended with {process.returncode}: {errors[-2000:]}")
    told = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    return out.splitlines(), told


def _judge(root: Path, acked: list[str], told: list[dict[str, float]]) -> int:
    """Check that no acknowledged event is lost, that there are no others, and that no emit was slow."""
    slowest = max(each["slowest_s"] for each in told)
    Plan.check(not took_too_long(slowest, _EMIT_MAX_S), f"an emit took {slowest:.2f} s")
    rows = oracle.judge(root, acked)
    own = ReadStore(root).sql("SELECT count(*) FROM events WHERE event_type NOT LIKE 'events_%'").rows[0][0]
    Plan.check(own == len(acked), f"{own} rows, {len(acked)} acknowledged")
    return rows


_FORKS = """
stop = False
def work(name, count):
    for number in range(count):
        emit(random.choice(["a", "b", "c"]), {"who": name, "n": number})
threads = [threading.Thread(target=work, args=(f"thread {number}", 300)) for number in range(8)]
for thread in threads: thread.start()
children = []
for number in range(int(sys.argv[2])):
    emit("a", {"who": "parent", "n": number})
    child = os.fork()
    if not child:
        slowest = 0.0
        work(f"child {number}", 20)
        if number % 3 == 0:
            grandchild = os.fork()
            if not grandchild:
                work(f"grandchild {number}", 5)
                os._exit(0)
            os.waitpid(grandchild, 0)
        tell()
        os._exit(0)
    children.append(child)
for thread in threads: thread.join()
codes = [os.waitpid(child, 0)[1] for child in children]
assert not any(codes), codes
tell()
"""


@fault("Forks while threads emit", "children and grandchildren that go on emitting, beside 8 threads")
def forks(plan: Plan) -> str:
    root = plan.root
    acked, told = _end(_start(root, _FORKS, str(plan.times(100))))
    rows = _judge(root, acked, told)
    expected = 8 * 300 + plan.times(100) * 21 + (plan.times(100) + 2) // 3 * 5
    Plan.check(rows == expected, f"{rows} rows, {expected} emitted")
    return f"{plan.times(100)} forks, {rows:,} events of parents, children, threads: 0 lost, 0 twice"


_CLOCK = """
real, shift = time.time_ns, [0]
time.time_ns = lambda: real() + shift[0]
time.time = lambda: time.time_ns() / 1e9
for jump, hours in enumerate((0, -1, 2, -24 * 365, 24 * 365 * 50, -60 * 24 * 365, 0)):
    shift[0] = hours * 3600 * 10**9
    for number in range(int(sys.argv[2])):
        emit("t", {"jump": jump, "n": number})
tell()
"""


@fault("The clock jumps", "an hour back, two on, a year, fifty years, before 1970")
def clock(plan: Plan) -> str:
    root = plan.root
    acked, told = _end(_start(root, _CLOCK, str(plan.times(1000))))
    Plan.check(len(acked) == 7 * plan.times(1000), f"{len(acked)} of {7 * plan.times(1000)} were acknowledged: {told}")
    rows = _judge(root, acked, told)
    wrong = (
        ReadStore(root)
        .sql(
            "SELECT count(*) FROM (SELECT (payload ->> 'n')::INT - lag((payload ->> 'n')::INT) OVER "
            "(PARTITION BY segment, payload ->> 'jump' ORDER BY line_offset) AS step FROM events) WHERE step < 1"
        )
        .rows
    )
    Plan.check(wrong == [(0,)], f"{wrong} events stand before one that was emitted earlier")
    slowest_ms = told[0]["slowest_s"] * 1000
    return f"{rows:,} events over 6 jumps, in order within each segment, 0 lost, slowest emit {slowest_ms:.1f} ms"


_RIGHTS = """
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for step in sys.stdin:
    for number in range(20):
        emit("a", {"n": number, "pad": "x" * 8000}); emit("b", {"n": number, "pad": "x" * 8000})
    print("done", file=sys.stderr, flush=True)
tell()
"""


@fault("Rights lost and given back", "the root, the log, a folder, segments; another user's segments; read-only index")
def rights(plan: Plan) -> str:
    if os.getuid() != 0:
        raise Skipped("needs root, to become somebody who is not")
    root = plan.folder / "shared" / "root"
    plan.folder.chmod(0o755)
    for folder in (root.parent, root):
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    process = _start(root, _RIGHTS)
    assert process.stdin is not None
    assert process.stderr is not None
    steps = 0

    def step() -> None:
        nonlocal steps
        process.stdin.write("go\n")  # type: ignore[union-attr]  # checked above
        process.stdin.flush()  # type: ignore[union-attr]
        Plan.check(process.stderr.readline() == "done\n", "the producer is gone")  # type: ignore[union-attr]
        steps += 1

    step()
    for _ in range(plan.times(4)):
        for taken, mode in (
            (root / "log", 0o500),
            (root / "log" / "a", 0o000),
            (root, 0o000),
            (root / "log" / "b", 0o555),
        ):
            before = taken.stat().st_mode & 0o777
            taken.chmod(mode)
            step()
            for path in (root / "log").glob("*/*.jsonl"):  # finished, or taken away by somebody
                path.chmod(0o400)
                os.chown(path, 0, 0) if plan.rng.random() < 0.5 else None
                if plan.rng.random() < 0.3:
                    path.rename(path.with_suffix(".kept"))
            step()
            taken.chmod(before)
            for path in (root / "log").glob("*/*.kept"):
                path.rename(path.with_suffix(".jsonl"))
            step()
    acked, told = _end(process)
    Plan.check(
        told[0]["emitted"] + told[0]["lost"] >= 40 * steps and told[0]["refused"] == 0,
        f"{told[0]} of {40 * steps} events: some were not counted",
    )
    rows = _judge(root, acked, told)
    read = _readers(plan, root)
    return f"{steps} times 40 events: {rows:,} rows, {told[0]['lost']:g} lost and counted, none raised; {read}"


_READ = """
import os, sys
# First, since whoever is nobody may not read this program.
import encodings.idna, eventlog.cli.tail, eventlog.indexer.cli, eventlog.queries.cli.sql, eventlog.queries.cli.render
from eventlog.cli.main import run
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


def _readers(plan: Plan, root: Path) -> str:
    """Check that an indexer and readers without permissions say so in one line, and change nothing."""
    digest = ReadStore(root).digest()
    segment = next((root / "log" / "a").glob("*.jsonl"))
    with segment.open("ab") as file:
        file.write(segment.read_bytes().split(b"\n")[0] + b"\n")
    os.chown(segment, 0, 0)
    taken = ((segment, 0o000), (root / "log" / "a", 0o000), (root / "index.duckdb", 0o000), (root, 0o500))
    for path, mode in plan.rng.sample(taken, plan.times(len(taken))):
        before = path.stat().st_mode & 0o777
        path.chmod(mode)
        for command in (["index", "--wait", "1"], ["tail"], ["sql", "SELECT 1", "--wait", "1"]):
            arguments = [sys.executable, "-c", _READ, *command, "--root", str(root)]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
            Plan.check("Traceback" not in done.stderr and "unexpected" not in done.stderr, f"{command}: {done.stderr}")
        path.chmod(before)
    oracle.recover(root)
    Plan.check(ReadStore(root).digest() == digest, "the index has changed")
    return "readers without rights say so"


_SUSPENDED = """
for number in range(100):
    emit("a", {"n": number})
tell()
time.sleep(600)
"""
_WATCHED = """
kept = []  # nobody reads the pipe meanwhile
while not os.path.exists(sys.argv[2]):
    started = time.monotonic()
    kept.append(obs.emit("a", {"n": len(kept)}))
    slowest = max(slowest, time.monotonic() - started)
    time.sleep(0.001)
tell()
print("\\n".join(filter(None, kept)))
"""


@fault("Suspended processes", "SIGSTOP of producers that own segments, and of an indexer in the middle of its turn")
def suspended(plan: Plan) -> str:
    root = plan.root
    sleepers = [_start(root, _SUSPENDED) for _ in range(3)]
    for sleeper in sleepers:
        assert sleeper.stderr is not None
        sleeper.stderr.readline()
        sleeper.send_signal(signal.SIGSTOP)
    owned = [each.path for each in layout.list_log(root).segments]
    sizes = {path: path.stat().st_size for path in owned}
    Plan.check(len(owned) == 3 and all(map(is_owned, owned)), f"{owned} are not all owned")
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("a", {})
    recorder.shutdown()
    oracle.recover(root)
    Plan.check({path: path.stat().st_size for path in owned} == sizes, "a suspended owner's segment was written to")
    stopped_s = _suspended_indexer(plan, root)
    acked = []
    for sleeper in sleepers:
        sleeper.send_signal(signal.SIGCONT)
        sleeper.kill()
        acked += sleeper.communicate()[0].splitlines()
    oracle.judge(root, acked)
    return (
        f"3 suspended owners kept their segments; an indexer suspended {plan.times(6)} times in its turn, for "
        f"{stopped_s:.1f} s: producers went on, readers were told who holds the index, 0 lost"
    )


def _suspended_indexer(plan: Plan, root: Path) -> float:
    """Stop an indexer at random moments: emit does not notice, and readers give up in time."""
    done_file = plan.folder / "done"
    producer = _start(root, _WATCHED, str(done_file))
    watching = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "index", "--watch", "--root", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    stopped_s = 0.0
    for _ in range(plan.times(6)):
        time.sleep(plan.rng.random() * 0.2)
        _stop_in_its_turn(watching.pid, root)
        started = time.monotonic()
        found = oracle.eventlog("sql", "SELECT 1", "--wait", "0.5", "--root", root, timeout_s=30)
        told_who = f"pid {watching.pid} " in found.stderr
        Plan.check(found.returncode and told_who, f"a reader of a held index: {found.returncode} {found.stderr}")
        Plan.check(not took_too_long(time.monotonic() - started, 10), "a reader did not give up in time")
        watching.send_signal(signal.SIGCONT)
        stopped_s += time.monotonic() - started
    watching.send_signal(signal.SIGINT)
    Plan.check(watching.wait(60) == 0, f"the indexer ended with {watching.returncode}")
    done_file.touch()
    acked, told = _end(producer)
    _judge_slowest(told)
    known = {str(row[0]) for row in ReadStore(root).sql("SELECT event_id FROM events", row_limit=10**6).rows}
    oracle.recover(root)
    rows = {str(row[0]) for row in ReadStore(root).sql("SELECT event_id FROM events", row_limit=10**6).rows}
    Plan.check(known <= rows and set(acked) <= rows, f"{len(set(acked) - rows)} events lost")
    return stopped_s


def _stop_in_its_turn(pid: int, root: Path) -> None:
    """Suspend an indexer while it holds the lock on the index."""
    deadline = Deadline(30)
    while not deadline.has_passed():
        if any(f"pid {pid} " in each for each in lock.index_holders(root)):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.02)
            if any(f"pid {pid} " in each for each in lock.index_holders(root)):
                return
            os.kill(pid, signal.SIGCONT)
    state = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("State")]
    Plan.check(False, f"the indexer, {state}, was never seen to hold the index: {lock.index_holders(root)}")


def _judge_slowest(told: list[dict[str, float]]) -> None:
    slowest = told[0]["slowest_s"]
    Plan.check(not took_too_long(slowest, _EMIT_MAX_S), f"an emit took {slowest:.2f} s")


_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
emit("a", {"n": -1})
for round_ in range(int(sys.argv[2])):
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    for number in range(50):
        emit("a", {"n": number})          # open already
        emit(f"k{round_}", {"n": number}) # needs a segment
        if number == 25:
            os.close(taken.pop())
            os.close(taken.pop())
    for fd in taken:
        os.close(fd)
    time.sleep(float(sys.argv[3]))
    emit("a", {"n": "x" * 70_000})
tell()
"""


@fault("No descriptors left", "EMFILE at the first and at later emits, with an index thread beside (dual)")
def descriptors(plan: Plan) -> str:
    found = []
    for mode in ("file_only", "dual"):
        root = plan.root
        code = _DESCRIPTORS.replace('emit("a", {"n": -1})', f'obs.configure(root=root, mode="{mode}"); emit("a", {{}})')
        acked, told = _end(_start(root, code, str(plan.times(20)), "0.2" if mode == "dual" else "0"))
        if not told:
            # DuckDB calls std::terminate where a file cannot be opened in the middle of its work.
            Plan.check(mode == "dual", "DuckDB ended a process that does not index")
            found.append(f"{mode}: DuckDB ended the process in the middle, {oracle.judge(root, acked):,} rows, 0 lost")
            continue
        total = 1 + plan.times(20) * 101
        Plan.check(
            told[0]["lost"] + len(acked) == total, f"{total} emitted, {len(acked)} acknowledged, {told[0]} counted"
        )
        _judge(root, acked, told)
        torn = ReadStore(root).sql("SELECT count(*) FROM quarantine").rows
        Plan.check(torn == [(0,)], f"{torn} lines in quarantine, of a writer that lives")
        found.append(f"{mode}: {len(acked):,} rows, {told[0]['lost']:g} lost and counted")
    return "; ".join(found)
