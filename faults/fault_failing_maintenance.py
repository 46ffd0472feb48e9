"""Maintenance whose system calls fail: index, replay, seal, archive, prune."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import EventlogError
from eventlog.indexer import replay, retention
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.maintenance import archiving, sealing, verification
from eventlog.record.recorder import Recorder
from faults import files
from faults.campaign import FaultFound, Plan, fault
from faults.forked import in_child

_ERRORS = ("EIO", "ENOSPC", "EDQUOT")
_BY_PYTHON, _BY_STRACE = 20, 6
_WAIT_S = 2.0
#: What a command may raise to say that it could not do its work.
_SAID = (EventlogError, OSError, duckdb.Error)


def _index(root: Path) -> None:
    Indexer(root, timeout_s=_WAIT_S, say=lambda _: None).catch_up()


def _replay(root: Path) -> None:
    replay.replay(root, timeout_s=_WAIT_S)


def _archive(root: Path) -> None:
    archiving.archive_sealed(root, level=1)


def _prune(root: Path) -> None:
    retention.prune(root, 0, timeout_s=_WAIT_S)


def _seal(root: Path) -> None:
    sealing.seal(root)


#: What each command is called, does, and needs to have been done before.
COMMANDS: dict[str, tuple[Callable[[Path], None], tuple[Callable[[Path], None], ...]]] = {
    "index": (_index, ()),
    "replay": (_replay, (_index,)),
    "seal": (_seal, (_index,)),
    "archive": (_archive, (_seal, _index)),
    "prune": (_prune, (_seal, _index)),
}
_LINES = {"prune": ("--older-than", "0s"), "archive": ("--level", "1")}


@fault(
    "failing system calls of maintenance",
    "index, replay, seal, archive, prune: any call, once and lasting; those of DuckDB and zstd by strace",
)
def failing_maintenance(plan: Plan) -> str:
    runs = Counter[str]()
    traced = shutil.which("strace") is not None
    for name, (work, before) in COMMANDS.items():
        base = plan.root
        ids = set(in_child(functools.partial(_prepare, base, before)))
        runs["python"] += _fail_by_python(plan, base, name, work, ids)
        if traced:
            runs["strace"] += _fail_by_strace(plan, base, name, work, ids)
    by_strace = (
        f"{runs['strace']} by strace" if traced else "those of DuckDB and zstd not tried, since strace is missing"
    )
    return (
        f"{runs['python']} runs with failing calls and {by_strace}; after each a second run repairs: "
        "no event lost, none twice, index equal to a replay, log as sealed"
    )


def _fail_by_python(plan: Plan, base: Path, name: str, work: Callable[[Path], None], ids: set[str]) -> int:
    asked = in_child(functools.partial(_asked, _copy(base, plan.root), work))
    cases = [(call, when) for call, count in sorted(asked.items()) for when in range(1, count + 1)]
    chosen = plan.rng.sample(cases, min(plan.times(_BY_PYTHON), len(cases)))
    for call, when in chosen:
        error, lasting = plan.rng.choice(_ERRORS), plan.rng.random() < 0.5
        root = _copy(base, plan.root)
        what = f"{name}: {call} number {when} with {error}{' and on' * lasting}"
        rule = files.Failing(call, error, when, lasting=lasting)
        _checked(what, functools.partial(_run, root, work, rule))
        _checked(what, functools.partial(_repaired, root, work, ids))
        shutil.rmtree(root)
    return len(chosen)


def _checked(what: str, child: Callable[[], object]) -> None:
    try:
        in_child(child)
    except FaultFound as found:
        raise FaultFound(f"{what}: {found}") from None


def _prepare(root: Path, before: tuple[Callable[[Path], None], ...]) -> list[str]:
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, durability=Durability.SYNCED))
    ids = [recorder.emit(f"kind{n % 3}", {"n": n, "pad": "x" * 400}) for n in range(60)]
    recorder.shutdown()
    for work in before:
        work(root)
    return [str(each) for each in ids]


def _copy(base: Path, root: Path) -> Path:
    shutil.copytree(base, root)
    return root


def _asked(root: Path, work: Callable[[Path], None]) -> Counter[str]:
    """Count the calls of a run without failures."""
    rule = files.Failing("none", "EIO", 1, lasting=False)
    files.install(root, rule)
    work(root)
    return rule.asked


def _run(root: Path, work: Callable[[Path], None], rule: files.Failing) -> None:
    files.install(root, rule)
    with contextlib.suppress(*_SAID):
        work(root)


def _repaired(root: Path, work: Callable[[Path], None], ids: set[str]) -> None:
    """Run again without failures, and check the result in this process, since a campaign has hundreds of these."""
    work(root)
    _index(root)
    found = verification.verify(root)
    Plan.check(not found.findings, f"not as sealed: {found.findings}")
    Plan.check(not list(layout.log_folder(root).glob("*/*.part")), "a file in the making stays behind")
    compared = replay.verify(root)
    Plan.check(compared.equal, f"the index differs from a replay: {compared.differences[:3]}")
    with index_file.reading(root) as connection:
        rows = [str(row[0]) for row in connection.execute("SELECT event_id FROM events").fetchall()]
    Plan.check(ids <= set(rows), f"{len(ids - set(rows))} of {len(ids)} events are no rows")
    Plan.check(len(rows) == len(set(rows)), f"{len(rows) - len(set(rows))} events have two rows")


# -- by strace: what DuckDB and zstd ask of the operating system ---------------------------


def _fail_by_strace(plan: Plan, base: Path, name: str, work: Callable[[Path], None], ids: set[str]) -> int:
    root = _copy(base, plan.root)
    log_path = plan.folder / f"strace-{name}"
    _trace(root, name, "-o", log_path)
    asked = Counter(re.findall(r"^\d+ +(\w+)\(", log_path.read_text(), re.MULTILINE))
    calls = ("write", "pwrite64", "pread64", "fdatasync", "fsync", "openat", "ftruncate", "rename", "unlink")
    cases = [(call, when) for call in calls for when in range(1, asked[call] + 1)]
    chosen = plan.rng.sample(cases, min(plan.times(_BY_STRACE), len(cases)))
    for call, when in chosen:
        lasting = plan.rng.random() < 0.5
        error = plan.rng.choice(_ERRORS if lasting else (*_ERRORS, "EINTR"))
        root = _copy(base, plan.root)
        what = f"{name}: {call} number {when} of DuckDB or zstd with {error}{' and on' * lasting}"
        _trace(root, name, "-o", os.devnull, "-e", f"inject={call}:error={error}:when={when}{'+' * lasting}")
        _checked(what, functools.partial(_repaired, root, work, ids))
        shutil.rmtree(root)
    return len(chosen)


def _trace(root: Path, name: str, *options: str | Path) -> None:
    """Run a command under strace, which sees calls on the index and on archives that are being written."""
    index = index_file.index_path(root)
    paths = [index, *index_file.wal_paths(index)]
    paths += [path.with_name(path.name + ".replay") for path in paths[:1]]
    paths += [
        layout.archive_of(each.path).with_name(layout.archive_of(each.path).name + layout.PART_SUFFIX)
        for each in layout.list_log(root).segments
    ]
    seen = [word for path in paths for word in ("-P", str(path))]
    command = [sys.executable, "-m", "eventlog", name, "--root", str(root), *_LINES.get(name, ())]
    started = time.monotonic()
    done = subprocess.run(
        ["strace", "-f", "-qq", *map(str, options), *seen, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    Plan.check("Traceback" not in done.stderr, f"{name} {options} fell over: {done.stderr[-2000:]}")
    Plan.check(time.monotonic() - started < 100, f"{name} {options} took {time.monotonic() - started:.0f} s")
