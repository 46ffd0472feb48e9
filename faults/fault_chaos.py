"""All commands side by side, in real processes that are killed, stopped and continued at random.

Two producers emit, `index --watch` follows, and two operators run one command after the other: index, replay, seal,
archive, prune, backup, restore, verify, sql. The oracle checks afterwards that each event whose `emit` returned is a
row, exactly once, before and after a replay, and that the log is as it was sealed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from eventlog.log import layout, zst
from eventlog.queries.store import ReadStore
from faults import children, oracle
from faults.campaign import FaultFound, Plan, fault

_SECONDS = 60.0
_PRODUCERS, _OPERATORS = 2, 2
_COMMAND_MAX_S = 90.0
_MAX_ROWS = 10_000_000

_PRODUCER = """
import os, random, signal, sys, time
import eventlog as obs

root, mode, seed, report = sys.argv[1:]
signal.alarm(600)  # whoever started it may be gone
rng = random.Random(seed)
obs.configure(root=root, mode=mode, segment_max_bytes=65536, blob_min_bytes=8192)
out = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    for _ in range(rng.randint(1, 8)):
        pad = rng.randbytes(6000).hex() if rng.random() < 0.01 else "x" * int(50 * 20 ** rng.random())
        event_id = obs.emit(f"kind{rng.randint(0, 2)}", {"pad": pad})
        if event_id:
            os.write(out, f"{event_id} written\\n".encode())
    time.sleep(rng.random() * 0.1)
"""


class _Order(NamedTuple):
    """A command that an operator may run, its documented exit codes here, and how often it is chosen."""

    arguments: tuple[str, ...]
    codes: frozenset[int] = frozenset({0})
    share: int = 2


#: 3 is "another process holds the index, or does maintenance; try again".
_BUSY = frozenset({0, 3})
_ORDERS = (
    _Order(("index",), _BUSY, 3),
    _Order(("replay",), _BUSY),
    _Order(("replay", "--verify"), _BUSY, 1),
    _Order(("seal",), _BUSY, 4),
    _Order(("archive", "--level", "1"), _BUSY),
    _Order(("prune", "--older-than", "0s"), _BUSY, 3),
    _Order(("backup", "{backup}"), _BUSY, 3),
    _Order(("restore", "{backup}"), _BUSY, 3),
    _Order(("verify",)),
    _Order(("sql", "SELECT event_type, count(*) FROM events GROUP BY ALL"), _BUSY),
)


#: What `verify` says of a segment that a killed `seal` or `prune` has made read-only and not sealed: the next run does.
_HALF_SEALED = "read-only, but no seal names it"


class _Cast:
    """All processes of one run, and the outcomes of the commands."""

    def __init__(self, plan: Plan, mode: str) -> None:
        self.plan = plan
        self.root = plan.root
        self.backup = plan.folder / "backup"
        self.mode = mode
        self.reports: list[Path] = []
        self.alive: dict[str, subprocess.Popen[str]] = {}
        self.broken: list[str] = []
        self.ended = Counter[str]()
        self.signals = Counter[str]()
        self.producer_ends = 0
        self.over = threading.Event()

    # -- who takes part ------------------------------------------------------------------

    def start_producer(self, number: int) -> None:
        """Start a producer, which writes the ids of acknowledged events to a file of its own."""
        self.reports.append(self.plan.folder / f"report{len(self.reports)}")
        seed = str(self.plan.rng.random())
        arguments = [sys.executable, "-c", _PRODUCER, str(self.root), self.mode, seed, str(self.reports[-1])]
        self.alive[f"producer {number}"] = _start(arguments)

    def start_watcher(self) -> None:
        """Start an indexer that watches."""
        self.alive["watch"] = _start(_command("index", "--watch", "--root", str(self.root)))

    def operate(self, number: int, rng: random.Random) -> None:
        """Run one command after the other until the time is over."""
        while not self.over.is_set():
            order = rng.choices(_ORDERS, [each.share for each in _ORDERS])[0]
            try:
                self._run(f"operator {number}", order)
            except FaultFound as found:
                self.broken.append(str(found))
            time.sleep(rng.random() * 0.2)

    def _run(self, who: str, order: _Order) -> None:
        name = " ".join(order.arguments)
        words = [each.format(backup=self.backup) for each in order.arguments]
        process = self.alive[who] = _start(_command(*words, "--root", str(self.root)))
        try:
            out, errors = oracle.communicate(process, _COMMAND_MAX_S)
        except subprocess.TimeoutExpired:
            raise FaultFound(f"`{name}` hangs: not done within {_COMMAND_MAX_S:g} s") from None
        self.ended[f"{order.arguments[0]} {process.returncode}"] += 1
        Plan.check(
            process.returncode in (*order.codes, -signal.SIGKILL)
            or self._is_half_sealed(order, process.returncode, out),
            f"`{name}` ended with {process.returncode}: {out[-1000:]}{errors[-3000:]}",
        )

    def _is_half_sealed(self, order: _Order, code: int, said: str) -> bool:
        """Return whether `verify` found only what a killed `seal` or `prune` leaves until the next run."""
        if order.arguments != ("verify",) or code != 1 or not self.ended["seal -9"] + self.ended["prune -9"]:
            return False
        findings = [line for line in said.splitlines() if ": byte " in line]
        return bool(findings) and all(_HALF_SEALED in line for line in findings)

    # -- what happens to them ------------------------------------------------------------

    def disturb(self) -> None:
        """Kill one of the processes, or stop it for a while."""
        rng = self.plan.rng
        who = rng.choice(sorted(self.alive))
        process = self.alive[who]
        if rng.random() < 0.4:
            process.kill()
            self.signals["SIGKILL"] += 1
        else:
            process.send_signal(signal.SIGSTOP)
            self.over.wait(rng.random() ** 2 * 1.5)
            process.send_signal(signal.SIGCONT)
            self.signals["SIGSTOP"] += 1

    def replace_the_dead(self) -> None:
        """Start another producer or watcher for each that has ended; none should end by itself."""
        for who, process in list(self.alive.items()):
            if who.startswith("operator") or process.poll() is None:
                continue
            said = oracle.communicate(process, 10)[1]
            Plan.check(process.returncode == -signal.SIGKILL, f"{who} ended with {process.returncode}: {said[-3000:]}")
            if who == "watch":
                self.start_watcher()
            else:
                self.producer_ends += 1
                self.start_producer(int(who.split()[1]))

    def stop_all(self) -> None:
        """End the producers and the watcher, half of them as an operator would."""
        for number, (who, process) in enumerate(sorted(self.alive.items())):
            if who.startswith("operator"):
                continue
            process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
            self.producer_ends += who != "watch"
            said = oracle.communicate(process, 60)[1]
            # One that has just been started does not listen to SIGTERM yet, and is ended by it.
            ends = (0, -signal.SIGKILL, -signal.SIGTERM)
            Plan.check(process.returncode in ends, f"{who} ended with {process.returncode}: {said[-3000:]}")

    def kill_all(self) -> None:
        """Kill all processes, whatever happened."""
        for process in self.alive.values():
            process.kill()
            process.wait()


def _start(command: list[str]) -> subprocess.Popen[str]:
    # stderr is read at the end only: warnings that fill a pipe would stop their writer.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eventlog", *arguments]


@contextmanager
def _operating(cast: _Cast) -> Iterator[None]:
    choices = [random.Random(cast.plan.rng.random()) for _ in range(_OPERATORS)]
    threads = [threading.Thread(target=cast.operate, args=each) for each in enumerate(choices)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        cast.over.set()
        for thread in threads:
            thread.join()


def _wreak(cast: _Cast) -> None:
    """Let everything run side by side for a minute, and disturb it all the time."""
    for number in range(_PRODUCERS):
        cast.start_producer(number)
    children.wait_until(lambda: any(map(oracle.reported, cast.reports)), "the first event", 60)
    _succeed("index", cast.root)
    _succeed("backup", cast.root, str(cast.backup))
    cast.start_watcher()
    until = time.monotonic() + max(_SECONDS * cast.plan.scale, 3)
    with _operating(cast):
        while time.monotonic() < until and not cast.broken:
            time.sleep(cast.plan.rng.random() * 0.3)
            cast.disturb()
            cast.replace_the_dead()
    Plan.check(not cast.broken, f"{cast.broken}; ended: {dict(cast.ended)}")
    cast.stop_all()


def _judge(cast: _Cast) -> tuple[int, int]:
    """Check with the commands that an operator would use; return the number of rows and of events in the log."""
    root, acked = cast.root, [each.event_id for report in cast.reports for each in oracle.reported(report)]
    _succeed("index", root)
    rows = oracle.nothing_lost(root, acked)
    emitted = ReadStore(root).sql("SELECT count(*) FROM events WHERE event_type LIKE 'kind%'").rows[0][0]
    more = emitted - len(acked)
    Plan.check(0 <= more <= cast.producer_ends, f"{emitted} rows, {len(acked)} acknowledged, {cast.producer_ends} ends")
    _succeed("replay", root, "--verify")
    _succeed("verify", root)
    _succeed("replay", root)
    Plan.check(oracle.nothing_lost(root, acked) == rows, "a replay has more rows, or fewer")
    _succeed("backup", root, str(cast.backup))
    restored = cast.plan.root
    _succeed("restore", restored, str(cast.backup))
    _succeed("verify", restored)
    here, there = _ids(root) & set(acked), _ids(restored)
    Plan.check(here <= there, f"{len(here - there)} of {len(here)} events in the log did not come back from the backup")
    return rows, len(here)


def _succeed(command: str, root: Path, *arguments: str) -> None:
    done = oracle.eventlog(command, *arguments, "--root", root)
    Plan.check(
        done.returncode == 0,
        f"afterwards, `{command} {' '.join(arguments)}` ended with {done.returncode}: {done.stdout}{done.stderr}",
    )


def _ids(root: Path) -> set[str]:
    """Return the ids of the events in a log, archives included."""
    found = set()
    for segment in layout.list_log(root).segments:
        lines = b"".join(zst.blocks(segment.path)).split(b"\n")[:-1]
        found |= {line.split(b'"event_id":"', 1)[1][:36].decode() for line in lines}
    return found


def _chaos(plan: Plan, mode: str) -> str:
    cast = _Cast(plan, mode)
    try:
        _wreak(cast)
        rows, left = _judge(cast)
    finally:
        cast.kill_all()
    commands = sum(count for name, count in cast.ended.items() if not name.endswith(" -9"))
    pruned = rows - left
    kept = len(list(cast.root.glob("index.duckdb.replaced-*")))
    return (
        f"{cast.signals['SIGKILL']} kills, {cast.signals['SIGSTOP']} stops, {commands} commands to their end, "
        f"{rows:,} rows, {pruned:,} of them in the index only, {kept} old indexes kept; 0 lost, 0 twice"
    )


_HOW = "2 producers, watch, index, replay, seal, archive, prune, backup, restore, verify, sql; SIGKILL, STOP, CONT"


@fault("Chaos, file_only", _HOW)
def chaos_file_only(plan: Plan) -> str:
    return _chaos(plan, "file_only")


@fault("Chaos, dual", _HOW)
def chaos_dual(plan: Plan) -> str:
    return _chaos(plan, "dual")


@fault("Chaos, db_only", _HOW)
def chaos_db_only(plan: Plan) -> str:
    return _chaos(plan, "db_only")
