"""Starting: what it costs to have eventlog in a program, and to call it from a shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.case import Bench, Claim, Measurement, case, compare
from bench.measure import eventlog, interleave, run

_AGAINST = "python -c 'import logging, json'"
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
    Claim(name="emit", what="eventlog emit, from a shell", against=_AGAINST, limit=1.5),
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
