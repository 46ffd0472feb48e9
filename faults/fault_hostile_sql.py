"""Hostile SQL, through the read store and through the command."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.queries.access.sandbox import STUCK_S
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults import oracle, pace
from faults.campaign import Plan, fault
from faults.hostile_queries import ENDLESS, GREEDY, calls, refused

_SECRET = "TOP-SECRET-7"
_LIMIT_S = 1.0
#: How long a command may take besides the query: Python and DuckDB start, on a busy machine.
_START_S = 15.0
_GROWN_MAX_KIB = 1024**2

#: Asks queries from standard input one by one, and says what came of each. Like the command, it bounds its
#: memory, and ends itself where DuckDB does not come back; a program that uses the library must do so, too.
_ASK = """
import contextlib, functools, json, os, sys
from pathlib import Path
from eventlog.errors import QueryFailed
from eventlog.indexer.index import index_file
from eventlog.queries.access import sandbox
from eventlog.queries.store import ReadStore
root, folder, limit_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
answer = folder / "answer"
def say(verdict, text):
    told = " TELLS THE SECRET" if os.environ["TOKEN"] in text else ""
    os.write(1, json.dumps([verdict + told, text[:1000]]).encode() + b"\\n")
def give_up(error):
    say("stopped", str(error))
    os._exit(0)
store = ReadStore(root, timeout_s=limit_s, on_stuck=give_up)
stack = contextlib.ExitStack()
@functools.cache
def opened():
    connection = stack.enter_context(index_file.reading(root))
    sandbox.harden(connection, Path(root))
    return connection
def call(query):
    # As the store does it, but without opening the index each time.
    with sandbox.time_limit(opened(), limit_s, give_up):
        return sandbox.execute(opened(), sandbox.check(opened(), query).statement, None).fetchmany(1000)
ways = {
    "call": call,
    "sql": lambda query: store.sql(query, row_limit=1000).rows,
    "arrow": lambda query: store.arrow(query).num_rows,
    "copy": lambda query: store.copy(query, answer, "csv", row_limit=1000) and answer.read_text(),
}
store.sql("SELECT 1")
sandbox.bound_process()
for line in sys.stdin:
    way, query = json.loads(line)
    try:
        said = "answered", repr(ways[way](query))
    except QueryFailed as error:
        said = "refused", str(error)
    except BaseException as error:
        said = "raised", repr(error)
    answer.unlink(missing_ok=True)
    say(*said)
"""


class _Said(NamedTuple):
    verdict: str
    text: str


def _ask(plan: Plan, root: Path, asked: list[tuple[str, str]]) -> list[_Said]:
    """Run all queries; one that ends its process without a message is reported as `died`."""
    found: list[_Said] = []
    folder = plan.folder / "answers"
    folder.mkdir(exist_ok=True)
    while len(found) < len(asked):
        done = subprocess.run(
            [sys.executable, "-c", _ASK, str(root), str(folder), str(_LIMIT_S)],
            input="".join(json.dumps(each) + "\n" for each in asked[len(found) :]).encode(),
            capture_output=True,
            timeout=600,
            env={**os.environ, "TOKEN": _SECRET},
            check=False,
        )
        found += [_Said(*json.loads(line)) for line in done.stdout.splitlines()]
        if len(found) < len(asked) and done.returncode:
            found.append(_Said("died", f"exit {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"))
    shutil.rmtree(folder)
    return found


def _index(plan: Plan) -> Path:
    root = plan.root
    recorder = Recorder(Config(root=str(root), strict=True))
    for number in range(1000):
        recorder.emit("t", {"n": number})
    recorder.shutdown()
    oracle.recover(root)
    return root


def _tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@fault("Hostile SQL: ways out", "files, network, settings, writes, code in text; every function of DuckDB")
def hostile_sql(plan: Plan) -> str:
    root = _index(plan)
    secret = plan.folder / "secret.csv"
    secret.write_text(f"a,{_SECRET}\n")
    (root / "index.duckdb.tmp").mkdir(exist_ok=True)
    (root / "index.duckdb.tmp/spilled.csv").write_text(f"a,{_SECRET}\n")
    digest, tree = ReadStore(root).digest(), _tree(plan.folder)
    ways_out = refused(secret, root)
    if plan.scale < 1:
        ways_out = plan.rng.sample(ways_out, max(plan.times(len(ways_out)), 100))
    asked = [("sql", query) for query in ways_out]
    asked += [(plan.rng.choice(["arrow", "copy"]), query) for query in ways_out[::5]]
    for (way, query), said in zip(asked, _ask(plan, root, asked), strict=True):
        Plan.check(said.verdict == "refused", f"{way} of {query!r} {said.verdict}: {said.text[:500]}")
    odd = plan.rng.sample(list(calls(plan.rng, 3)), plan.times(4000))
    for query, said in zip(odd, _ask(plan, root, [("call", query) for query in odd]), strict=True):
        Plan.check(said.verdict in ("refused", "answered", "stopped"), f"{query!r} {said.verdict}: {said.text[:500]}")
    Plan.check(_tree(plan.folder) == tree, f"files changed: {set(_tree(plan.folder).items()) ^ set(tree.items())}")
    Plan.check(ReadStore(root).digest() == digest, "the index has changed")
    return f"{len(asked):,} attempts refused; {len(odd):,} odd calls of any function, no process ended; index unchanged"


@fault("Hostile SQL: endless and greedy", "recursion, cross joins, regular expressions, lists and texts of gigabytes")
def greedy_sql(plan: Plan) -> str:
    root = _index(plan)
    digest = ReadStore(root).digest()
    queries = plan.rng.sample(ENDLESS, max(plan.times(len(ENDLESS)), 2))
    started = time.monotonic()
    for query, said in zip(queries, _ask(plan, root, [("sql", query) for query in queries]), strict=True):
        Plan.check(said.verdict in ("refused", "answered", "stopped"), f"{query!r} {said.verdict}: {said.text[:500]}")
    mean_s = (time.monotonic() - started) / len(queries)
    Plan.check(
        not pace.took_too_long(mean_s, 3 * _LIMIT_S + _START_S / len(queries)),
        f"{mean_s:.1f} s per query, at a limit of {_LIMIT_S:g} s",
    )
    greedy = plan.rng.sample(GREEDY, max(plan.times(len(GREEDY)), 2))
    longest_s = 0.0
    for query in greedy:
        started = time.monotonic()
        done = oracle.eventlog("sql", query, "--timeout", str(_LIMIT_S), "--root", root, timeout_s=120)
        elapsed_s = time.monotonic() - started
        Plan.check(done.returncode in (0, 2), f"{query[:100]!r} ends with {done.returncode}: {done.stderr[-1000:]}")
        Plan.check("Traceback" not in done.stderr, f"{query[:100]!r}: {done.stderr[-1000:]}")
        longest_s = max(longest_s, elapsed_s, _by_the_library(root, query))
    Plan.check(
        not pace.took_too_long(longest_s, _LIMIT_S + STUCK_S + _START_S),
        f"a query took {longest_s:.1f} s, its limit was {_LIMIT_S:g} s",
    )
    Plan.check(ReadStore(root).digest() == digest, "the index has changed")
    return (
        f"{len(queries)} endless ones stopped after {mean_s:.1f} s on average (limit {_LIMIT_S:g} s); "
        f"{len(greedy)} greedy ones by the command and the library, the longest {longest_s:.1f} s; "
        "none ends the process otherwise"
    )


def _by_the_library(root: Path, query: str) -> float:
    """Run the queries in this process, which must live on and not grow; return the seconds it took."""
    started, before_kib = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(QueryFailed):
        ReadStore(root, timeout_s=_LIMIT_S).sql(query, row_limit=2)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    Plan.check(grown_kib < _GROWN_MAX_KIB, f"{query[:100]!r} takes {grown_kib:,} KiB of the process that asks")
    return time.monotonic() - started
