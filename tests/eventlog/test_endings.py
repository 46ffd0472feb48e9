"""Programs that record while they end, in every Python that is found: all of it is in the log, and they end."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests import pythons
from tests.conftest import PROJECT

ENVIRONMENTS = pythons.environments()

_BEGINNING = """
    import atexit, builtins, os, signal, sys, threading, time, weakref
    from tests.eventlog.endings import Last, behind
    import eventlog as obs

    def emit(emit=obs.emit):
        emit("t", {"n": 1})

    def runs(run=obs.run):
        with run("r", heartbeat_s=0.05) as made, made.step("s"):
            pass

    def fast(**settings):
        obs.configure(root=sys.argv[1], **{"sync_interval_s": 0.02, **settings})
"""

#: What a program does, and how many events of which type are in the log when it has ended.
ENDINGS: dict[str, tuple[str, dict[str, int]]] = {
    "a finalizer": ("fast(); emit(); builtins.kept = Last(emit)", {"t": 2}),
    "a finalizer, when the thread that syncs has ended": (
        """
        fast(); emit()
        while any(each.name == "eventlog-sync" for each in threading.enumerate()): time.sleep(0.01)
        builtins.kept = Last(emit)
        """,
        {"t": 2},
    ),
    "a finalizer is the first to emit": (
        "os.environ['EVENTLOG_DIR'] = sys.argv[1]; kept = Last(emit)",
        {"t": 1},
    ),
    "a finalizer in a cycle": ("fast(); made = Last(emit); made.itself = made; builtins.kept = made", {"t": 1}),
    "a finalizer that emits much": ("fast(); builtins.kept = Last(lambda: [emit() for _ in range(50)])", {"t": 50}),
    "a finalizer, synced": ("fast(durability='synced'); emit(); builtins.kept = Last(emit)", {"t": 2}),
    "a finalizer, strict": ("fast(strict=True); builtins.kept = Last(emit)", {"t": 1}),
    "a finalizer that opens a run": (
        "fast(); kept = Last(runs)",
        {"run_started": 1, "step": 1, "run_finished": 1},
    ),
    "a generator that is left open": (
        """
        fast()
        def work():
            try:
                yield
            finally:
                emit()
        builtins.kept = work(); next(builtins.kept)
        """,
        {"t": 1},
    ),
    "weakref.finalize": ("fast(); made = Last(lambda: None); weakref.finalize(made, emit)", {"t": 1}),
    "an exit handler": ("fast(); atexit.register(emit)", {"t": 1}),
    "an exit handler behind eventlog's own": ("fast(); emit(); behind.append(emit)", {"t": 2}),
    "an exit handler is the first to emit": ("os.environ['EVENTLOG_DIR'] = sys.argv[1]; behind.append(emit)", {"t": 1}),
    "an exit handler that opens a run": (
        "fast(); behind.append(runs)",
        {"run_started": 1, "step": 1, "run_finished": 1},
    ),
    "an exit handler behind the index thread": ("fast(mode='dual'); emit(); behind.append(emit)", {"t": 2}),
    "an exit handler is the first to emit, with an index thread": (
        "os.environ.update(EVENTLOG_DIR=sys.argv[1], EVENTLOG_MODE='dual'); behind.append(emit)",
        {"t": 1},
    ),
    "a finalizer is the first to emit, with an index thread": (
        "os.environ.update(EVENTLOG_DIR=sys.argv[1], EVENTLOG_MODE='db_only'); kept = Last(emit)",
        {"t": 1},
    ),
    "a signal while exit handlers run": (
        """
        fast()
        signal.signal(signal.SIGALRM, lambda *_: emit())
        behind.append(lambda: (signal.setitimer(signal.ITIMER_REAL, 0.01), time.sleep(0.1)))
        """,
        {"t": 1},
    ),
    "daemon threads that emit all the time": (
        """
        fast()
        def work(emit=obs.emit):
            while True: emit("other", {})
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        builtins.kept = Last(lambda: [emit() for _ in range(20)])
        time.sleep(0.1)
        """,
        {"t": 20},
    ),
    "a thread that goes on behind the main one": (
        """
        fast()
        def work():
            threading.main_thread().join(5)
            emit()
            time.sleep(0.1)
            emit()
            deadline = time.monotonic() + 5
            while not obs.recorder()._writer._is_synced(): assert time.monotonic() < deadline, "not synced"
        threading.Thread(target=work).start()
        """,
        {"t": 2},
    ),
    "an exception that nobody catches": (
        "fast(); sys.excepthook = lambda *_: emit(); builtins.kept = Last(emit); raise_ = 1 / 0",
        {"t": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
@pytest.mark.parametrize("version", pythons.VERSIONS)
def test_what_is_recorded_while_the_interpreter_ends_is_in_the_log(version: str, case: str, root: Path) -> None:
    """No thread is started then, whose start might be waited for for ever, and the program ends by itself."""
    if version not in ENVIRONMENTS:
        pytest.skip(f"no Python {version} with msgspec, duckdb and watchfiles; make pythons makes those that are found")
    program, expected = ENDINGS[case]
    code = textwrap.dedent(_BEGINNING) + textwrap.dedent(program)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTLOG")}
    environment |= {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [ENVIRONMENTS[version], "-c", code, root],
        env=environment, capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip
    assert done.returncode == ("excepthook" in program), done.stderr
    assert not done.stderr
    for event_type, count in expected.items():
        segments = (root / "log" / event_type).glob("*.jsonl")
        assert sum(path.read_bytes().count(b"\n") for path in segments) == count, event_type
