"""An older copy of the index, written over it or put in its place under a watching indexer."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from eventlog.config import Config
from eventlog.errors import EventlogError
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.watch import watch
from eventlog.record.recorder import Recorder
from faults import children, oracle
from faults.campaign import Plan, fault, memory

_CAUGHT_UP_S = 60.0


def _watch(root: Path, said: Path) -> None:
    with said.open("a", buffering=1) as out:

        def say(message: str) -> None:
            out.write(message + "\n")

        watch(Indexer(root, say=say), threading.Event(), say=say)


def _in_place(copy: Path, index: Path) -> None:
    shutil.copyfile(copy, index)


def _in_place_slowly(copy: Path, index: Path) -> None:
    """Overwrite it slowly, as a network file system does: batches are indexed meanwhile."""
    fd = os.open(index, os.O_RDWR | os.O_CREAT, 0o600)
    with copy.open("rb") as source, open(fd, "r+b") as target:
        while block := source.read(64 * 1024):
            target.write(block)
            target.flush()
            time.sleep(0.002)
        target.truncate()


def _moved(copy: Path, index: Path) -> None:
    between = index.with_name("between")
    shutil.copyfile(copy, between)
    os.replace(between, index)


def _deleted_first(copy: Path, index: Path) -> None:
    """Delete it first: the file system often gives the new file the old inode."""
    index.unlink(missing_ok=True)
    shutil.copyfile(copy, index)


_WAYS: list[Callable[[Path, Path], None]] = [_in_place, _in_place_slowly, _moved, _deleted_first]


def _count(root: Path) -> int:
    """Return the number of rows; -1 while the index cannot be read."""
    try:
        with index_file.reading(root, timeout_s=5) as connection:
            row = connection.execute("SELECT count(*) FROM events WHERE event_type = 'note'").fetchone()
    except (EventlogError, duckdb.Error):
        return -1
    return int(row[0]) if row else 0


def _wait_for_rows(root: Path, count: int, said: Path) -> None:
    deadline_s = time.monotonic() + _CAUGHT_UP_S
    while (found := _count(root)) != count:
        what = f"{found} of {count} are rows after {_CAUGHT_UP_S:g} s; the indexer said: {said.read_text()[-1000:]}"
        Plan.check(time.monotonic() < deadline_s, what)
        time.sleep(0.01)


class _Agent:
    """Emits in this process while the index is exchanged."""

    def __init__(self, root: Path) -> None:
        self._recorder = Recorder(Config(root=str(root), strict=True, segment_max_bytes=20_000))
        self.acked: list[str] = []

    def emit(self, count: int) -> None:
        for _ in range(count):
            self.acked.append(str(self._recorder.emit("note", {"pad": "x" * 200})))

    def end(self) -> None:
        self._recorder.shutdown()


@fault("An older index", "written over the index in place, moved there, under a watching indexer and load")
def bring_an_older_index_back(plan: Plan) -> str:
    rounds = plan.times(40)
    with memory() as folder:
        root = folder / "root"
        root.mkdir()
        index = index_file.index_path(root)
        copies: list[Path] = []
        agent = _Agent(root)
        agent.emit(20)
        said = folder / "said"
        said.touch()
        with children.running(_watch, root, said):
            for number in range(rounds):
                _wait_for_rows(root, len(agent.acked), said)
                copy = folder / f"copy {number % 5}"
                with contextlib.suppress(FileNotFoundError):  # set aside at this moment, and about to be made anew
                    shutil.copyfile(index, copy)
                    copies = sorted({*copies, copy})
                if not copies:
                    continue
                agent.emit(plan.rng.randrange(40))
                time.sleep(plan.rng.random() * 0.2)
                plan.rng.choice(_WAYS)(plan.rng.choice(copies), index)
                agent.emit(plan.rng.randrange(2) * 10)
            _wait_for_rows(root, len(agent.acked), said)
        agent.end()
        oracle.judge(root, agent.acked)
        done = oracle.eventlog("replay", "--root", root)
        plan.check(done.returncode == 0, f"replay ended with {done.returncode}: {done.stderr[-1000:]}")
    return f"{rounds} times, under a watching indexer; all {len(agent.acked):,} events were rows again each time"
