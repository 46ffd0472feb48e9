"""Starting: what it costs to have eventlog in a program, and to call it from a shell."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

from bench.case import Bench, Claim, Measurement, case, compare
from bench.measure import PROJECT, Command, Sample, eventlog, interleave, run

_AGAINST = "python -c 'import logging, json'"
_BARE = "python -I -S -c pass"
#: What Claude Code runs for its status line and its hooks.
_SHORT = [sys.executable, "-I", "-S", str(PROJECT / "eventlog/__main__.py")]
#: What a tool does for a while; some 0.3 s.
_TOOL = "sum(n * n for n in range(5_000_000))"
#: Two hooks beside a tool, as Claude Code starts those that it does not wait for.
_WITH_HOOKS = '"$1" -I -S "$2" hook --root "$3" <"$4" & "$1" -I -S -c "$5"; "$1" -I -S "$2" hook --root "$3" <"$4" &'
_ROUNDS_MIN = 15
#: What is loaded by the import, beyond what a bare interpreter has and what the standard library is.
_LOADED = """
import sys
before = set(sys.modules)
import eventlog
names = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(*sorted(name for name in names if not name.startswith("_")))
"""
_EXPECTED = {"eventlog", "msgspec", "typing_extensions"}  # the last by msgspec, where it is there


@case(
    Claim(name="import", what="import eventlog", against=_AGAINST, limit=1.5),
    Claim(name="emit", what="eventlog emit, from a shell", against=_AGAINST, limit=1.2),
    Claim(
        name="modules", what="packages that the import loads, besides msgspec", against="",
        limit=0, unit="",
    ),
)  # fmt: skip
def start(bench: Bench) -> Iterator[Measurement]:
    """Fresh interpreters, from start to end, compiled modules and files warm."""
    root = bench.folder / "root"
    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN),
        {
            "import": lambda: run([sys.executable, "-c", "import eventlog"], bench.home),
            "emit": lambda: run(eventlog("emit", "step", '{"name": "search"}', "--root", root), bench.home),
            "peer": lambda: run([sys.executable, "-c", "import logging, json"], bench.home),
        },
    )
    yield compare("import", taken["import"], taken["peer"])
    yield compare("emit", taken["emit"], taken["peer"])
    loaded = set(run([sys.executable, "-c", _LOADED], bench.home).said.decode().split())
    more = sorted(loaded - _EXPECTED)
    yield Measurement("modules", len(more), note=", ".join(more))


@case(Claim(name="time", what="eventlog statusline", against=_BARE, limit=1.5))
def statusline(bench: Bench) -> Iterator[Measurement]:
    """As Claude Code runs it, with a session on standard input and what today cost in its file; against an interpreter
    that does nothing."""
    root, session = bench.folder / "root", bench.folder / "session.json"
    session.write_text(json.dumps({"model": {"id": "m"}, "cost": {"total_cost_usd": 1.5}}))
    run(eventlog("emit", "note", "--root", root), bench.home)
    run(eventlog("cost", "--root", root), bench.home)
    command: Command = [
        "sh",
        "-c",
        '"$1" -I -S "$2" statusline --root "$3" <"$4"',
        "sh",
        _SHORT[0],
        _SHORT[3],
        root,
        session,
    ]
    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN),
        {
            "ours": lambda: run(command, bench.home),
            "peer": lambda: run(["sh", "-c", '"$1" -I -S -c pass <"$2"', "sh", _SHORT[0], session], bench.home),
        },
    )
    yield compare("time", taken["ours"], taken["peer"])


@case(Claim(name="time", what="a tool of an agent, with hooks beside it", against="without", limit=1.05))
def hooks(bench: Bench) -> Iterator[Measurement]:
    """A shell that starts a hook, runs a tool and starts another hook, waiting for the tool alone; as Claude Code runs
    hooks that are async, which those of `eventlog hooks install claude-code` are."""
    root, told = bench.folder / "root", bench.folder / "hook.json"
    told.write_text(json.dumps({"session_id": "s", "hook_event_name": "PreToolUse", "tool_input": {"command": "ls"}}))
    command: Command = ["sh", "-c", _WITH_HOOKS, "sh", _SHORT[0], _SHORT[3], root, told, _TOOL]

    def with_hooks() -> Sample:
        sample = run(command, bench.home)
        time.sleep(0.1)  # the hook behind the tool is not to be in the next sample
        return sample

    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN),
        {
            "ours": with_hooks,
            "peer": lambda: run(["sh", "-c", '"$1" -I -S -c "$2"', "sh", _SHORT[0], _TOOL], bench.home),
        },
    )
    yield compare("time", taken["ours"], taken["peer"])
