"""Runs in processes that end, fork, share threads, and are interrupted by signals."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.record.sinks import MemorySink
from tests.eventlog.runs import in_child, logged, only

#: A program, its exit code, and the ends of runs that are logged.
LIVES: dict[str, tuple[str, int, list[tuple[str, str | None]]]] = {
    "returns": ("with obs.run('r'): pass", 0, [("ok", None)]),
    "raises": ("with obs.run('r'): 1 / 0", 1, [("error", "division by zero")]),
    "exits": ("with obs.run('r'): sys.exit(4)", 4, [("cancelled", "4")]),
    "is interrupted": ("with obs.run('r'): os.kill(os.getpid(), signal.SIGINT)", -2, [("cancelled", None)]),
    "forgets": ("obs.run('r').__enter__()", 0, [("cancelled", "the process ended before the run did")]),
    "forgets a generator": (
        "def g():\n    with obs.run('r'):\n        yield 1\nkept = g(); next(kept)",
        0, [("cancelled", "the process ended before the run did")],
    ),
    "is killed": ("with obs.run('r'): os.kill(os.getpid(), signal.SIGKILL)", -9, []),
    "leaves at once": ("with obs.run('r'): os._exit(7)", 7, []),
    "forks a child that leaves the block": (
        "with obs.run('r'), obs.step('s'):\n    child = os.fork()\n    if child == 0: sys.exit(0)\n"
        "    os.waitpid(child, 0)",
        0, [("ok", None)],
    ),
    "forks a child that leaves a call": (
        "with obs.run('r'), obs.timed_tool_call('t'):\n    child = os.fork()\n    if child == 0: sys.exit(0)\n"
        "    os.waitpid(child, 0)",
        0, [("ok", None)],
    ),
    "forks a child that ends in the block": (
        "run = obs.run('r'); run.__enter__()\nchild = os.fork()\nif child == 0:\n"
        "    obs.emit('of_child'); sys.exit(0)\nos.waitpid(child, 0); run.__exit__(None, None, None)",
        0, [("ok", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIVES)
def test_a_run_ends_once_or_its_process_did_not_live_to_say_so(case: str, root: Path) -> None:
    """One beginning, at most one end, and nothing is said on standard error but what the program says."""
    program, code, ends = LIVES[case]
    done = in_child(f"import os, signal, sys\nimport eventlog as obs\n{program}", root)
    assert done.returncode == code, done.stderr
    if code in (0, 4, 7, -9):
        assert done.stderr == ""
    (started,) = logged(root, "run_started")
    finished = [each["payload"] for each in logged(root, "run_finished")]
    assert [(each.get("status", "ok"), each.get("error_message")) for each in finished] == ends
    assert started["payload"]["pid"] > 0
    assert len(logged(root, "step")) == ("step" in program)
    assert len(logged(root, "tool_call")) == ("tool_call" in program)
    assert all(event["run_id"] == started["run_id"] for event in logged(root, "of_child"))


def test_a_forked_child_works_on_in_the_run(root: Path) -> None:
    """With steps, calls and runs of its own; locks that another thread held do not stop it."""
    program = """
        import os, sys, threading
        import eventlog as obs
        with obs.run("r") as run, run.step("s") as step:
            held = threading.Event()
            def hold():
                with run.totals._lock:
                    held.set()
                    threading.Event().wait(2)
            threading.Thread(target=hold, daemon=True).start()
            held.wait()
            child = os.fork()
            if child == 0:
                with run.step("of child") as own:
                    run.tool_call("t")
                with obs.run("own"):
                    pass
                os._exit(0 if run.stats().tool_calls == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert run.stats().tool_calls == 0
    """
    done = in_child(program, root)
    assert (done.returncode, done.stderr) == (0, "")
    steps = {each["payload"]["name"]: each for each in logged(root, "step")}
    assert steps["of child"]["parent_event_id"] == steps["s"]["event_id"]
    outer, own = logged(root, "run_started")
    assert own["payload"]["parent_run_id"] == outer["run_id"]
    assert own["payload"]["pid"] != outer["payload"]["pid"]


def test_many_threads_share_a_run(captured: MemorySink) -> None:
    """Nothing is lost or counted twice."""

    def work() -> None:
        for _ in range(50):
            with run.step("s"):
                run.tool_call("t")

    with obs.run("r") as run:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (run.stats().steps, run.stats().tool_calls) == (400, 400)
    steps = {event.event_id for event in captured.of_type("step")}
    assert len(steps) == 400
    assert {event.parent_event_id for event in captured.of_type("tool_call")} == steps


def test_a_signal_handler_may_record(captured: MemorySink) -> None:
    """In the middle of whatever the run does."""

    before = signal.signal(signal.SIGUSR1, lambda *_: obs.tool_call("from the handler"))
    try:
        with obs.run("r") as run, run.totals._lock:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert only(captured, "tool_call").run_id == run.id


class Client:
    """Its repr tells more than it should."""

    def __repr__(self) -> str:
        return "Client(api_key=sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH)"


def test_a_mended_event_is_redacted_as_any_other(captured: MemorySink) -> None:
    """A repr may hold a secret."""
    with pytest.raises(RuntimeError), obs.step("s", input={"client": Client()}):
        raise RuntimeError(repr(Client()))
    line = captured.lines[0]
    assert b"Client(" in line
    assert b"sk-ant" not in line
