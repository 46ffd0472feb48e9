"""Event types that are paths, or nearly: in `emit` and on the command line."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from eventlog.config import Config
from eventlog.errors import EventlogError
from eventlog.record.recorder import Recorder
from faults import oracle
from faults.campaign import Plan, fault

_NAMES = [
    "", " ", ".", "..", "../x", "../../x", "/x", "/etc/x", "x/../../y", "x/y", "x\\y", "~", "~root", "-", "-x", "_x",
    "1x", "X", "xY", "É", "x\n", "\nx", "x\ny", "x\r", "x\t", "x\0", "\0", "x\0y", "x ", " x", "x" * 101, "x" * 300,
    "x" * 5000,
    "ⅹ", "х", "x\u200b", "x\u202e", "x\ufeff", "a\u0301", "ｘ", "x／y", "x∕y", "․․", "١", "x²", "\ud800", "x\udcff",
    "x;y", "x'y", 'x"y', "x`y`", "$(x)", "x*", "x?", "x[1]", "x|y", "x&y", "x<y", "x>y", "x%00", "x:y", "x@y", "x+y",
    "C:", "\\\\x\\y", "file:x", "log/x", "index.duckdb\0", "%2e%2e", "🙂", "x,y", "{x}", "#", "!x", "x=y",
]  # fmt: skip
#: Names that are allowed, however odd.
_ALLOWED = [
    "x",
    "x" * 100,
    "x.y",
    "con",
    "nul",
    "aux",
    "com1",
    "lost.found",
    "a..",
    "a..b",
    "a-",
    "a.jsonl",
    "index.duckdb",
]


def _tree(folder: Path) -> set[bytes]:
    return {
        os.path.join(path, name) for path, folders, files in os.walk(os.fsencode(folder)) for name in (*folders, *files)
    }


class _Text(str):
    """A text whose `str()` is another text, as of members of `class Kind(str, Enum)`."""

    def __str__(self) -> str:
        return "../../x"

    def __fspath__(self) -> str:
        return "../../x"


def _others(plan: Plan) -> Iterator[object]:
    yield from (None, 1, b"x", ["../x"], {"../x": 1}, object(), Path("../x"), _Text("../x"), type, 1.5, True, ("../x",))
    letters = string.printable + "éх／\u2028\0\udc80"
    for _ in range(plan.times(3000)):
        yield "".join(plan.rng.choice(letters) for _ in range(plan.rng.randint(0, 6)))


def _ways(root: Path) -> dict[str, Callable[[object], object]]:
    strict = Recorder(Config(root=str(root), strict=True))
    lenient = Recorder(Config(root=str(root)))

    def lenient_emit(name: object) -> None:
        refused = lenient.stats().refused
        if lenient.emit(name, {}) is not None:  # type: ignore[arg-type]  # that is the fault
            return
        Plan.check(lenient.stats().refused == refused + 1, f"{name!r} was not counted as refused: {lenient.stats()}")
        raise EventlogError(str(lenient.stats().last_error))

    return {
        "emit": lambda name: strict.emit(name, {}),  # type: ignore[arg-type]
        "emit_many": lambda name: strict.emit_many(name, [{}]),  # type: ignore[arg-type]
        "lenient emit": lenient_emit,
    }


@fault("Event types that are paths", "dots, slashes, newlines, NUL, lookalikes, 300 letters; emit and every command")
def hostile_names(plan: Plan) -> str:
    root = plan.root
    Recorder(Config(root=str(root), strict=True)).emit("x", {})
    oracle.recover(root)  # reads make an index where there is none
    before = _tree(plan.folder)
    tried = 0
    for how, way in _ways(root).items():
        for name in [*_NAMES, *_others(plan)]:
            if isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_.-]{0,99}", name) and type(name) is str:
                continue
            tried += 1
            try:
                way(name)
            except EventlogError as error:
                clear = ("is refused: use", "is not an event: ", "emit takes a typed event", "is no iterable of events")
                Plan.check(any(part in str(error) for part in clear), f"not clear: {error}")
                Plan.check(len(str(error)) < 400, f"{how} of {name!r:.80}: an error of {len(str(error))} characters")
            except (TypeError, AttributeError):
                Plan.check(not isinstance(name, str) and how == "emit_many", f"{how} of {name!r} raises something else")
            else:
                Plan.check(how == "emit_many" and not isinstance(name, str), f"{how} of {name!r} was not refused")
    tried += _commands(root)
    made = _tree(plan.folder) - before
    Plan.check(not made, f"files appeared: {sorted(made)[:5]}")
    recorder = Recorder(Config(root=str(root), strict=True))
    for name in _ALLOWED:
        recorder.emit(_Text(name), {})
    recorder.shutdown()
    folders = sorted(each.name for each in (root / "log").iterdir())
    Plan.check(folders == sorted(_ALLOWED), f"allowed names made the folders {folders}")
    rows = oracle.judge(root, [])
    Plan.check(rows == 1 + len(_ALLOWED), f"{rows} rows")
    return (
        f"{tried:,} names refused by emit and commands, no file appeared; {len(_ALLOWED)} odd but valid ones are rows"
    )


_RUN_ALL = """
import sys
from eventlog.cli.main import run
root, source = sys.argv[1:3]
names = sys.stdin.buffer.read().split(b"\\0")[:-1]
for raw in names:
    name = raw.decode("utf-8", "surrogateescape")
    for command in (["emit", "--root", root, "--", name], ["tail", "--root", root, "--", name],
                    ["export", "--root", root, "--format", "csv", "--", name],
                    ["import", "jsonl", source, "--root", root, f"--type={name}"]):
        code = run(command)
        print(command[0], code, ascii(name), sep="\\t", file=sys.__stderr__, flush=True)
"""


def _commands(root: Path) -> int:
    """Run every command that takes an event type with all names, in one process."""
    source = root.parent / "source.jsonl"
    existed = source.exists()
    source.write_text('{"a":1}\n')
    names = [name.encode("utf-8", "surrogatepass") for name in _NAMES if "\0" not in name]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, str(root), str(source)],
        input=b"".join(name + b"\0" for name in [*names, b"\xff", b"x\xff"]),
        capture_output=True,
        timeout=120,
        check=False,
    )
    if not existed:
        source.unlink()
    said = done.stderr.decode(errors="replace")
    codes = [line.split("\t") for line in said.splitlines() if line.count("\t") == 2]
    Plan.check(done.returncode == 0 and len(codes) == 4 * (len(names) + 2), f"the command line died: {said[-1500:]}")
    wrong = [code for code in codes if code[1] != "2"]
    Plan.check(not wrong, f"not refused as wrong usage: {wrong[:5]}")
    Plan.check("unexpected" not in said and "Traceback" not in said, f"an unforeseen error: {said[:1500]}")
    return len(codes)
