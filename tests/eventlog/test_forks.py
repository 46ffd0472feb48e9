"""What a fork does: hooks in one place, in the order that their phases say, each whatever others raise."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap

from tests.test_architecture import PATHS

#: In which phase each module has its hooks. Close first, then note what is shared, then state, then recorders.
PHASES = {
    "eventlog.process.forks": "DESCRIPTORS",
    "eventlog.log.segment": "DESCRIPTORS",
    "eventlog.indexer.index.index_file": "INHERITED",
    "eventlog.format.ids": "STATE",
    "eventlog.indexer.index.engine": "STATE",
    "eventlog.queries.access.reader": "STATE",
    "eventlog.record.calls": "STATE",
    "eventlog.record.heartbeats": "STATE",
    "eventlog.record.sinks": "STATE",
    "eventlog.record.api": "RECORDERS",
    "eventlog.record.recorder": "RECORDERS",
    "eventlog.record.runs": "RECORDERS",
}


def test_one_call_asks_python_for_forks() -> None:
    """Everybody else registers a hook with it, so that there is one order."""
    callers = [
        module
        for module, path in PATHS.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "register_at_fork")
        or (isinstance(node, ast.alias) and node.name == "register_at_fork")
    ]
    assert callers == ["eventlog.process.forks"]


def test_each_module_has_its_hooks_in_one_phase() -> None:
    """The table above is all of them: who adds a hook has to say when it runs."""
    phases: dict[str, set[str]] = {}
    for module, path in PATHS.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Phase":
                phases.setdefault(module, set()).add(node.attr)
    assert phases == {module: {phase} for module, phase in PHASES.items()}


def in_child(program: str) -> tuple[list[str], str]:
    """What a forked child prints after its hooks have run, after a program of ours, and what Python complains of."""
    code = f"""
import os, sys
from eventlog.process import forks
from eventlog.process.forks import Phase
ran = []
def note(name):
    return lambda: ran.append(name)
{textwrap.dedent(program)}
sys.stdout.flush()
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
print(*ran)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split(), done.stderr


def test_hooks_run_phase_by_phase_whatever_the_order_of_registration() -> None:
    """Within a phase, in the order of registration; before the fork, the other way round."""
    ran, complaints = in_child("""
        forks.register(Phase.RECORDERS, before=note("before-4"), after_in_child=note("4"))
        forks.register(Phase.STATE, after_in_child=note("3-first"))
        forks.register(Phase.DESCRIPTORS, before=note("before-1"), after_in_child=note("1"))
        forks.register(Phase.STATE, after_in_child=note("3-second"))
        forks.register(Phase.INHERITED, after_in_child=note("2"))
    """)
    assert (ran, complaints) == (["before-4", "before-1", "1", "2", "3-first", "3-second", "4"], "")


def test_a_hook_that_raises_keeps_no_other_from_running() -> None:
    """Python prints what it raised, and the program goes on."""
    ran, complaints = in_child("""
        forks.register(Phase.DESCRIPTORS, after_in_child=lambda: 1 / 0)
        forks.register(Phase.STATE, after_in_child=note("3"))
    """)
    assert ran == ["3"]
    assert "ZeroDivisionError" in complaints


def test_living_objects_have_their_hooks_called_and_no_others() -> None:
    """One that was discarded, or that is gone, is not called."""
    ran, _ = in_child("""
        class Named:
            def __init__(self, name):
                self.name = name
                named.add(self)
        named = forks.Instances(Phase.STATE, after_in_child=lambda instance: ran.append(instance.name))
        stays, goes, discarded = Named("stays"), Named("goes"), Named("discarded")
        del goes
        named.discard(discarded)
    """)
    assert ran == ["stays"]


def test_hooks_that_threads_register_all_run() -> None:
    """Modules are imported late, on any thread: no hook is lost, and a fork meanwhile runs those that are there."""
    program = """
        import os, sys, threading
        from eventlog.process.forks import Phase, register
        sys.setswitchinterval(1e-6)
        ran = [0]
        def hook(): ran[0] += 1
        register(Phase.DESCRIPTORS, after_in_child=hook)

        def registering():
            for _ in range(2000):
                for phase in reversed(Phase):
                    register(phase, after_in_child=hook)

        threads = [threading.Thread(target=registering) for _ in range(4)]
        for thread in threads: thread.start()
        for _ in range(20):
            pid = os.fork()
            if not pid:
                os._exit(0 if ran[0] else 1)
            assert os.waitpid(pid, 0)[1] == 0
        for thread in threads: thread.join()
        pid = os.fork()
        if not pid:
            os._exit(0 if ran[0] == 4 * 2000 * len(Phase) + 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
