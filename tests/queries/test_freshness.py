"""Reads catch up with the log within a bound, and say what they lack otherwise. Nothing of it stops a read."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import duckdb
import pytest

from eventlog.errors import IndexFailed
from eventlog.indexer import indexer
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.queries.access import freshness
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, rows, segment
from tests.test_cli_habits import as_nobody

COUNT = "SELECT count(*) AS n FROM events WHERE event_type = 't'"
ASK = ("sql", COUNT, "--format", "csv")


def counted(done: subprocess.CompletedProcess[str]) -> int:
    """How many events an answer to ASK has."""
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[1])


def lag(root: Path) -> int:
    """Bytes of the log that are not indexed."""
    with index_file.reading(root, timeout_s=10) as connection:
        return freshness.lag_bytes(root, freshness.read_offsets(connection))


def is_written_to(root: Path, act: Callable[[], object]) -> bool:
    """Whether something writes to the index file."""
    before = index_file.index_path(root).stat()
    act()
    after = index_file.index_path(root).stat()
    return (before.st_ino, before.st_ctime_ns) != (after.st_ino, after.st_ctime_ns)


# -- fresh -----------------------------------------------------------------------------------

COMMANDS: dict[str, list[str]] = {
    "runs": ["runs"],
    "sessions": ["sessions"],
    "show": ["show", "run-1"],
    "insights": ["insights", "run-1"],
    "diff": ["diff", "run-1", "run-2"],
    "cost": ["cost"],
    "cost monthly": ["cost", "monthly"],
    "sql": ["sql", "FROM event_types"],
    "search": ["search", "needle"],
    "metrics": ["metrics"],
    "health": ["health"],
    "requests": ["requests"],
    "quarantine": ["quarantine", "list"],
    "alerts": ["alerts", "list"],
    "export": ["export", "note", "--format", "csv"],
    "bundle": ["export", "bundle", "run-1", "-o", "run.zip"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("indexed", [True, False], ids=["behind", "without an index"])
def test_every_read_has_what_was_just_written(command: str, indexed: bool, run: Run, root: Path) -> None:
    """Also where there was no index yet; and none says anything of it."""
    run("emit", "first")
    if indexed:
        run("index")
    for number in (1, 2):
        run("emit", "run_started", '{"name": "nightly"}', "--run-id", f"run-{number}", "--agent", "planner")
    run("emit", "note", '{"text": "needle"}')
    done = run(*COMMANDS[command])
    assert done.returncode == 0, done.stderr
    assert "index" not in done.stderr
    assert lag(root) == 0


def test_where_nothing_is_new_the_index_is_only_read(run: Run, root: Path) -> None:
    """Whatever the log ends in."""
    path = segment(root, line(1), line(2))
    assert counted(run(*ASK)) == 2
    assert not is_written_to(root, lambda: run(*ASK))
    with path.open("ab") as file:
        file.write(line(3)[:20])
    run(*ASK)  # a torn line, which nobody goes on with: into quarantine, once
    assert not is_written_to(root, lambda: run(*ASK))


def test_the_beginning_of_a_line_is_no_lag_while_its_writer_lives(run: Run, root: Path) -> None:
    """It has nothing to index."""
    path = segment(root, line(1))
    index(root)
    program = """
        import fcntl, sys
        file = open(sys.argv[1], "ab", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b'{"event_id"')
        print(flush=True)
        sys.stdin.read()
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", "import textwrap\n" + f"exec(textwrap.dedent({program!r}))", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert lag(root) == 0
        assert not is_written_to(root, lambda: run(*ASK))
    finally:
        writer.communicate(b"")


def test_reads_at_the_same_time_all_answer(run: Run, root: Path) -> None:
    """Each with all there is; the index is made by one of them."""
    segment(root, *map(line, range(2000)))
    for _ in range(2):
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: run(*ASK), range(6)))
        assert {(counted(done), done.stderr) for done in answers} == {(sum(map(counted, answers)) // 6, "")}
        segment(root, *map(line, range(2000, 4000)))
    assert counted(run(*ASK)) == 4000


# -- disasters -------------------------------------------------------------------------------


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Somebody reads, and goes on reading."""
    with index_file.reading(root):
        yield


@contextmanager
def nothing(_: Path) -> Iterator[None]:
    yield


class Hindrance(NamedTuple):
    """What keeps a read from catching up: how it comes to be, options and settings of the read, and what it says."""

    said: str
    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = MappingProxyType({})
    during: Callable[[Path], AbstractContextManager[None]] = nothing


HINDRANCES = {
    "another process has the index open": Hindrance(
        "note: this answer is without the newest {lag} B of the log: another process holds the index; "
        "try: eventlog index\n",
        during=held,
    ),
    "there is too much": Hindrance(
        "note: this answer is without the newest {lag} B of the log: indexing takes longer than a read may wait; "
        "try: eventlog index\n",
        settings={"EVENTLOG_CATCH_UP_S": "0.000001"},
    ),
    "it is not to catch up at all": Hindrance(
        "note: this answer is without the newest {lag} B of the log: indexing takes longer than a read may wait; "
        "try: eventlog index\n",
        settings={"EVENTLOG_CATCH_UP_S": "0"},
    ),
    "a reader of one workspace": Hindrance(
        "note: this answer is without the newest events: a reader of one workspace indexes nothing; "
        "try: eventlog index\n",
        ("--workspace", "acme"),
    ),
    "asked to leave it out": Hindrance("", ("--no-index",)),
}


@pytest.mark.parametrize("case", HINDRANCES)
def test_a_read_that_cannot_catch_up_answers_as_it_stands(case: str, run: Run, root: Path) -> None:
    """It says so in one line, does not wait long, and the next one that can is fresh."""
    said, options, settings, during = HINDRANCES[case]
    segment(root, line(1, workspace="acme"))
    index(root)
    path = segment(root, line(2, workspace="acme"))
    with during(root):
        started = time.monotonic()
        done = run(*ASK, *options, **settings)
        assert time.monotonic() - started < 10
    assert counted(done) == 1
    assert done.stderr == said.format(lag=path.stat().st_size)
    assert counted(run(*ASK)) == 2


def test_a_root_that_may_only_be_read(root: Path) -> None:
    """Answers come from its index as it stands; so they do where nobody made the files of its lock."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name, "root")
        segment(folder, line(1))
        index(folder)
        segment(folder, line(2))
        for path in (Path(name), folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for is_locked in (True, False):
            if not is_locked:
                for path in folder.glob("index.*"):
                    if path.suffix != ".duckdb":
                        path.unlink()
            with as_nobody():
                store = ReadStore(folder)
                behind = store.catch_up()
                assert behind is not None
                assert behind.reason == "the index is read-only here"
                assert store.sql(COUNT).rows == [(1,)]


def test_the_backlog_of_a_large_log_is_left_to_the_indexer(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index, there is no answer: it says how much there is, and leaves nothing behind."""
    segment(root, *map(line, range(100)))
    done = run(*ASK, EVENTLOG_CATCH_UP_S="0.0001")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: there is no index at {root}/index.duckdb of 1")
    assert done.stderr.endswith(" of log: indexing takes longer than a read may wait; try: eventlog index\n")
    assert not (root / "index.duckdb").exists()
    done = run(*ASK, "--no-index")
    assert (done.returncode, done.stderr) == (
        1, f"error: there is no index at {root}/index.duckdb; try: eventlog index\n",
    )  # fmt: skip


def _of_version(root: Path, version: int) -> None:
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute(f"UPDATE index_meta SET value = '{version}' WHERE key = 'schema_version'")


def test_an_index_of_an_earlier_eventlog_is_rebuilt_where_that_is_quick(run: Run, root: Path) -> None:
    """Else the read says what to do; and it never touches one of a later eventlog."""
    segment(root, line(1))
    index(root)
    _of_version(root, schema.SCHEMA_VERSION - 1)
    done = run(*ASK, EVENTLOG_CATCH_UP_S="0.000001")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {root}/index.duckdb has schema {schema.SCHEMA_VERSION - 1}, ")
    assert "eventlog index" in done.stderr
    done = run(*ASK)
    assert counted(done) == 1
    assert done.stderr.count("\n") == 1
    assert "written by an older eventlog" in done.stderr
    _of_version(root, schema.SCHEMA_VERSION + 1)
    segment(root, line(2))
    for _ in range(2):
        done = run(*ASK)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {root}/index.duckdb has schema {schema.SCHEMA_VERSION + 1}, ")


def test_an_index_that_nobody_filled_is_none(run: Run, root: Path) -> None:
    """Its maker was killed before the first commit."""
    segment(root, line(1))
    duckdb.connect(str(index_file.index_path(root))).close()
    assert counted(run(*ASK)) == 1


def test_a_damaged_index_is_left_to_the_indexer(run: Run, root: Path) -> None:
    """A read says what to do, and moves nothing."""
    segment(root, line(1))
    index(root)
    segment(root, line(2))
    index_file.index_path(root).write_bytes(b"x" * 100_000)
    done = run(*ASK)
    assert done.returncode == 1
    assert "try: eventlog replay" in done.stderr
    assert [path.name for path in root.glob("index.duckdb*")] == ["index.duckdb"]


@pytest.mark.parametrize("tail", [b"nonsense\n", line(3)[:30], b"\xff\xfe\n", b"\0" * 50], ids=str)
def test_broken_lines_are_in_no_readers_way(tail: bytes, run: Run, root: Path) -> None:
    """They go to quarantine, and what stands before them is there."""
    segment(root, line(1))
    index(root)
    segment(root, line(2), tail)
    done = run(*ASK)
    assert (counted(done), done.stderr) == (2, "")
    assert "1" in run("quarantine", "list").stdout


def test_a_segment_that_was_cut_gives_an_alarm_and_an_answer(run: Run, root: Path) -> None:
    """Its rows stay."""
    path = segment(root, line(1), line(2))
    index(root)
    path.write_bytes(line(3) + line(4) + line(5))
    done = run(*ASK)
    assert counted(done) == 5
    assert "an alarm was logged" in done.stderr


def test_segments_that_are_deleted_once_indexed(run: Run, root: Path) -> None:
    """Mode db_only: the rows of released segments are nowhere else, and a read loses none."""
    segment(root, line(1), line(2))
    Indexer(root, release=True).catch_up()
    assert not layout.list_log(root).segments
    segment(root, line(3))
    assert counted(run(*ASK)) == 3
    assert len(layout.list_log(root).segments) == 1


def test_a_folder_of_the_log_that_may_not_be_read_is_named() -> None:
    """The answer is that of the index."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name, "root")
        segment(folder, line(1))
        index(folder)
        for path in (Path(name), folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (folder / "log/t").chmod(0)
        with as_nobody():
            store = ReadStore(folder)
            assert str(store.catch_up()).startswith(
                f"this answer is without the newest events: {folder}/log/t: Permission denied; "
            )
            assert store.sql(COUNT).rows == [(1,)]


# -- the indexer in a hurry ------------------------------------------------------------------


def test_a_hurried_indexer_ends_after_a_batch_and_keeps_it(root: Path) -> None:
    """The next one goes on from there, and none of it is lost or there twice."""
    for start in range(0, 2000, 100):
        segment(root, *map(line, range(start, start + 100)))
    done = 0
    for _ in range(100):
        counted = Indexer(root, within_s=0.0001).catch_up().events
        assert counted < 2000
        done += counted
        if done == 2000:
            break
    assert rows(root, "SELECT count(*), count(DISTINCT event_id) FROM events") == [(2000, 2000)]


def test_progress_goes_from_nothing_to_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a segment that takes several batches."""
    monkeypatch.setattr(indexer, "_SHOWN_BATCH_BYTES", 1 << 20)
    payload = {"text": "x" * 50_000}
    for start in (0, 100):
        segment(root, *(line(number, payload=payload) for number in range(start, start + 100)))
    total = sum(file.size for file in layout.list_log(root).segments)
    shown: list[tuple[int, int]] = []
    Indexer(root).catch_up(lambda done, of: shown.append((done, of)))
    assert shown[0] == (0, total)
    assert shown[-1] == (total, total)
    assert {of for _, of in shown} == {total}
    assert [done for done, _ in shown] == sorted({done for done, _ in shown})
    assert len(shown) >= 5


# -- in Python -------------------------------------------------------------------------------


def test_a_program_asks_the_index_unless_it_wants_to_catch_up(root: Path) -> None:
    """With `catch_up_s`, before each question, whoever asks it and in whatever process."""
    segment(root, line(1))
    index(root)
    still, fresh = ReadStore(root), ReadStore(root, catch_up_s=0.5)
    segment(root, line(2))
    assert still.sql(COUNT).rows == [(1,)]
    assert fresh.sql(COUNT).rows == [(2,)]
    segment(root, line(3))
    assert [count.events for count in fresh.counts()] == [3]
    segment(root, line(4))
    assert fresh.sql(f"SELECT n, repeat('x', 3) FROM ({COUNT})").rows == [(4, "xxx")]
    assert still.catch_up() is None


def test_a_store_that_is_behind_warns_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until it has caught up in between."""
    segment(root, line(1))
    index(root)
    store = ReadStore(root, catch_up_s=0)
    segment(root, line(2))
    for _ in range(3):
        assert store.sql(COUNT).rows == [(1,)]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("this answer is without the newest ")
    index(root)
    assert store.sql(COUNT).rows == [(2,)]
    segment(root, line(3))
    store.sql(COUNT)
    assert len(caplog.messages) == 2


def test_a_store_of_one_workspace_does_not_learn_how_much_others_write(root: Path) -> None:
    """It indexes nothing."""
    segment(root, line(1, workspace="acme"))
    index(root)
    segment(root, *(line(number, workspace="other") for number in range(2, 50)))
    behind = ReadStore(root, workspace="acme").catch_up()
    assert behind is not None
    assert behind.bytes is None
    assert lag(root) > 0


def test_without_anything_recorded_there_is_nothing_to_index(root: Path) -> None:
    """And no index is left in a folder that is perhaps no root."""
    root.mkdir()
    with pytest.raises(IndexFailed, match="nothing is recorded here yet"):
        ReadStore(root).catch_up()
    assert os.listdir(root) == []
