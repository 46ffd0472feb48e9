"""Producers that end in every way in which programs end, whatever eventlog is doing at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from faults import children, oracle
from faults.campaign import Plan, fault
from faults.oracle import Acked
from faults.pace import Deadline

_PROGRAM = """
import atexit, builtins, faulthandler, os, signal, sys, threading, time
behind = []  # exit handlers that run after eventlog's own
atexit.register(lambda behind=behind: [each() for each in behind])
import eventlog as obs

root, mode, report = sys.argv[1:]
signal.alarm(120)  # whoever started it may be gone
faulthandler.register(signal.SIGUSR1, file=open(report + ".stacks", "w"))
obs.configure(root=root, mode=mode, segment_max_bytes=8192, sync_interval_s=0.05)
out = open(report, "ab", buffering=0)

def emit(count, record=obs.emit, out=out):
    for n in range(count):
        event_id = record(f"kind{n % 3}", {"n": n, "pad": "x" * (n * 37 % 900)})
        if event_id:
            out.write(f"{event_id} written\\n".encode())

class Last:
    def __del__(self, emit=emit):
        emit(5)

emit(50)
"""

_ENDINGS = {
    "end of the program": "",
    "atexit emits": "atexit.register(emit, 5)",
    "atexit emits behind eventlog's own handler": "behind.append(lambda: emit(5))",
    "a finalizer emits": "builtins.kept = Last()",
    "a finalizer emits, and nothing has been syncing": "time.sleep(0.6); builtins.kept = Last()",
    "a finalizer in a cycle emits": "kept = Last(); kept.kept = kept",
    "a finalizer opens a run": "Last.__del__ = lambda _, run=obs.run: run('r').__enter__(); kept = Last()",
    "daemon threads and a finalizer emit": "[threading.Thread(target=emit, args=(10**9,), daemon=True).start()"
    " for _ in range(3)]; time.sleep(0.05); builtins.kept = Last()",
    "unhandled exception": "raise RuntimeError('unhandled')",
    "sys.exit": "sys.exit(3)",
    "sys.exit in a thread": "t = threading.Thread(target=lambda: (emit(5), sys.exit(1))); t.start(); t.join(); emit(5)",
    "a thread goes on": "threading.Thread(target=emit, args=(500,)).start()",
    "a daemon thread goes on": "threading.Thread(target=emit, args=(10**9,), daemon=True).start(); emit(50)",
    "os._exit": "os._exit(4)",
    "abort": "os.abort()",
    "SIGTERM": "threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start(); emit(10**9)",
    "SIGINT": "threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start(); emit(10**9)",
    "SIGTERM with a handler that emits": "signal.signal(signal.SIGTERM, lambda *_: (emit(5), sys.exit(5)));"
    " threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start(); emit(10**9)",
    "fork, both end": "os.fork(); emit(50)",
    "fork, the child is aborted": "emit(50) if os.fork() else (emit(20), os.abort()); os.wait()",
    "exec": "os.execv('/bin/true', ['true'])",
    "out of descriptors": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); emit(50)",
}
_MODES = ("file_only", "dual", "db_only")
_TIMEOUT_S = 60


def _end(root: Path, mode: str, ending: str, report: Path) -> None:
    # Its own crash report, and what it says of the exception, are no news here.
    environment = {**os.environ, "PYTHONFAULTHANDLER": ""}
    command = [sys.executable, "-c", _PROGRAM + _ENDINGS[ending], str(root), mode, str(report)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = Deadline(_TIMEOUT_S)
        while process.poll() is None and not deadline.has_passed():
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            process.kill()
            stacks = Path(f"{report}.stacks").read_text()[-2000:]
            what = f"{ending}, mode {mode}: the program did not end within {_TIMEOUT_S} s; it was at\n{stacks}"
            Plan.check(False, what)


@fault(
    "Programs that end",
    "end, finalizers, exit handlers, exceptions, sys.exit, os._exit, abort, signals, fork, exec; all modes",
)
def end_producers(plan: Plan) -> str:
    roots = {mode: plan.folder / mode for mode in _MODES}
    tries = [(mode, ending) for _ in range(plan.times(3)) for mode in _MODES for ending in _ENDINGS]
    tries = plan.rng.sample(tries, min(len(tries), plan.times(3 * len(_MODES) * len(_ENDINGS))))
    reports = [(mode, ending, plan.folder / f"report{number}") for number, (mode, ending) in enumerate(tries)]
    children.side_by_side(lambda each: _end(roots[each[0]], *each), reports)
    acked = 0
    for mode in {mode for mode, _, _ in reports}:
        told: list[Acked] = []
        for each, ending, report in reports:
            if each == mode:
                said = oracle.reported(report)
                plan.check(len(said) >= 50, f"{ending}, mode {mode}: only {len(said)} events were acknowledged")
                told += said
        oracle.judge(roots[mode], [each.event_id for each in told])
        acked += len(told)
    return f"{len(tries)} ends in {len(_ENDINGS)} ways, {acked:,} acknowledged; 0 lost, 0 twice"
