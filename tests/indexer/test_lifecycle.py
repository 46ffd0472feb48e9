"""The life of an index: catching up, crashing, locked, deleted, outdated, broken, rebuilt."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.config import Config
from eventlog.errors import IndexBusy, IndexFailed
from eventlog.indexer import replay
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.indexer import Indexer
from eventlog.log.segment import Segment
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT
from tests.indexer.support import COUNT, digest_of, index, line, name, rows, segment


def test_only_what_is_new_is_read(root: Path) -> None:
    """From the checkpoint on, also with a new indexer."""
    path = segment(root, line(1))
    index(root)
    with path.open("ab") as file:
        file.write(line(2))
    counted = Indexer(root).catch_up()
    assert (counted.events, counted.bytes) == (1, len(line(2)))
    assert Indexer(root).catch_up().bytes == 0
    assert rows(root, COUNT) == [(2, 2)]


def test_a_line_without_its_newline_waits(root: Path) -> None:
    """While its owner lives; when the owner is gone it is a torn tail."""
    owner = Segment.create(root / "log/t")
    owner.append(line(1))
    indexer = Indexer(root)
    with owner.path.open("ab") as file:
        file.write(line(2)[:20])
        file.flush()
        indexer.catch_up()
        assert rows(root, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") == [(1, 0)]
        file.write(line(2)[20:])
        file.flush()
        indexer.catch_up()
        assert rows(root, COUNT) == [(2, 2)]
        file.write(line(3)[:20])
    indexer.catch_up()
    assert rows(root, "FROM quarantine") == []
    owner.close()
    indexer.catch_up()
    found = rows(root, "SELECT line_offset, length, reason, raw FROM quarantine")
    assert found == [(len(line(1)) * 2, 20, "torn tail: its writer died inside this line", line(3)[:20])]
    assert indexer.catch_up().bytes == 0
    assert replay.verify(root).equal


def test_an_index_deleted_by_hand_comes_back(root: Path) -> None:
    """Under a running indexer as well; a WAL left behind is not played into the new file."""
    segment(root, line(1), line(2))
    indexer = Indexer(root)
    indexer.catch_up()
    before = digest_of(root)
    index_file.index_path(root).unlink()
    for each in index_file.wal_paths(index_file.index_path(root)):
        each.write_bytes(b"left behind")
    indexer.catch_up()
    assert digest_of(root) == before


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: len(line(1))]),
    "emptied": lambda path: path.write_bytes(b""),
    "rewritten and grown": lambda path: path.write_bytes(line(5) + line(6) + line(7)),
    "replaced by a longer one": lambda path: path.with_suffix(".new").rename(path).write_bytes(line(8) * 9),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_segment_raises_an_alarm_and_the_index_has_both_versions(root: Path, how: str) -> None:
    """No acknowledged row goes; the alarm is an event and survives replays; another look finds no more."""
    segment(root, line(20), line(1), name=name(1))
    path = segment(root, line(1), line(2), name=name(2))
    index(root)
    path.with_suffix(".new").touch()
    CHANGES[how](path)
    path.with_suffix(".new").unlink(missing_ok=True)
    (said,) = index(root)
    assert str(path) in said
    assert "an alarm was logged" in said
    assert index(root) == []
    assert rows(
        root, "SELECT payload ->> 'segment', payload ->> 'indexed_offset' FROM events WHERE event_type = 'index_alarm'"
    ) == [(path.stem, str(len(line(1) + line(2))))]
    assert replay.verify(root).equal
    here = {str(json.loads(each)["payload"]["n"]) for each in path.read_bytes().splitlines()}
    assert rows(root, "SELECT payload ->> 'n' FROM events WHERE event_type = 't' ORDER BY 1") == [
        (n,) for n in sorted({"20", "1", "2"} | here)
    ]


def _set_version(root: Path, version: str) -> None:
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute("UPDATE index_meta SET value = ? WHERE key = 'schema_version'", [version])


def test_an_index_of_an_older_version_is_rebuilt_saying_so(root: Path) -> None:
    """Without being asked: all is in the log."""
    segment(root, line(1))
    index(root)
    _set_version(root, "0")
    (said,) = index(root)
    assert f"older eventlog (schema 0, now {schema.SCHEMA_VERSION}); rebuilding it from the log" in said
    assert rows(root, COUNT) == [(1, 1)]


def test_an_index_of_a_newer_version_is_left_alone(root: Path) -> None:
    """Two versions would rebuild it in turns for ever."""
    segment(root, line(1))
    index(root)
    _set_version(root, str(schema.SCHEMA_VERSION + 1))
    with pytest.raises(IndexFailed, match="written by a newer eventlog"):
        index(root)


def _foreign(path: Path, table: str = "mine") -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE {table} AS SELECT 42 AS answer")


BROKEN: dict[str, Callable[[Path], object]] = {
    "nonsense": lambda path: path.write_bytes(b"this is no database" * 1000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "of somebody else": _foreign,
    "of somebody else, with a table that is called as ours": lambda path: _foreign(path, "index_meta"),
    "a text file": lambda path: path.write_text("hello"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_index_is_set_aside_and_rebuilt(root: Path, how: str) -> None:
    """The evidence stays, under a name that says what it is."""
    segment(root, line(1))
    index(root)
    path = index_file.index_path(root)
    BROKEN[how](path)
    evidence = path.read_bytes()
    (said,) = index(root)
    (aside,) = root.glob("index.duckdb.broken-*")
    assert aside.name in said
    assert aside.read_bytes() == evidence
    assert rows(root, COUNT) == [(1, 1)]


# -- replay ----------------------------------------------------------------------------------


def test_replay_gives_the_same_index_in_a_new_file(root: Path) -> None:
    """And leaves nothing else behind."""
    segment(root, line(1), b"bad\n", line(2), line(2, run_id="other"))
    segment(root, line(1, "u"), event_type="u")
    index(root)
    before, inode = digest_of(root), index_file.index_path(root).stat().st_ino
    steps: list[tuple[int, int]] = []
    done = replay.replay(root, progress=lambda so_far, total: steps.append((so_far, total)))
    assert done.digest == before == digest_of(root)
    assert done.segments == 2
    assert steps[-1][0] == steps[-1][1] > 0
    assert index_file.index_path(root).stat().st_ino != inode
    assert {each.name for each in root.iterdir()} == {
        "log", "index.duckdb", "index.turn", "index.gate", "index.replay.lock",
    }  # fmt: skip


def test_replay_without_an_index_or_a_log(root: Path) -> None:
    """The operator at 3 a.m. deleted it; or there is nothing at all yet."""
    assert replay.replay(root).digest.events == 0
    segment(root, line(1))
    index_file.index_path(root).unlink()
    assert replay.replay(root).digest.events == 1


def test_only_one_replay_at_a_time(root: Path) -> None:
    """The second one waits, and says who is at it where that takes too long; so does an indexer that has to rebuild."""
    segment(root, line(1))
    Indexer(root).catch_up()
    index_file.index_path(root).write_bytes(b"nonsense" * 1000)
    works: list[Callable[[], object]] = [
        lambda: replay.replay(root, timeout_s=0.1),
        lambda: Indexer(root, timeout_s=0.1).catch_up(),
    ]
    with (root / "index.replay.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for work in works:
            with pytest.raises(IndexBusy, match=rf"rebuilt by pid {os.getpid()} .* for 0.1 s"):
                work()
        threading.Timer(0.2, file.close).start()
        assert replay.replay(root, timeout_s=30).digest.events == 1


def test_an_indexer_that_waited_for_a_rebuild_does_not_rebuild_again(root: Path) -> None:
    """Two of them may find the same old index."""
    segment(root, line(1))
    Indexer(root).catch_up()
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute("UPDATE index_meta SET value = '0' WHERE key = 'schema_version'")
    before = index_file.inode_of(index_file.index_path(root))
    assert replay.rebuild(root, inode=before) is not None
    after = index_file.inode_of(index_file.index_path(root))
    assert replay.rebuild(root, inode=before) is None
    assert index_file.inode_of(index_file.index_path(root)) == after != before
    assert Indexer(root).catch_up().events == 0


DIFFERENCES = {
    "a row more": "INSERT INTO event_rows SELECT * FROM event_rows LIMIT 1",
    "a row less": "DELETE FROM event_rows WHERE payload ->> 'n' = '1'",
    "another payload": "UPDATE event_rows SET payload = '{\"n\":9}' WHERE payload ->> 'n' = '1'",
    "another field": "UPDATE event_rows SET run_id = 'x' WHERE payload ->> 'n' = '1'",
    "another place": "UPDATE event_rows SET line_offset = 7 WHERE payload ->> 'n' = '1'",
    "two payloads swapped": "UPDATE event_rows SET payload = "
    "CASE payload WHEN '{\"n\":1}' THEN '{\"n\":2}' ELSE '{\"n\":1}' END",
    "quarantine forgotten": "DELETE FROM rejected",
}


@pytest.mark.parametrize("how", DIFFERENCES)
def test_verify_finds_any_difference(root: Path, how: str) -> None:
    """Rows, fields, payloads, places, quarantine."""
    segment(root, line(1), line(2), b"bad\n")
    index(root)
    assert replay.verify(root).equal
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute(DIFFERENCES[how])
    assert not replay.verify(root).equal


def test_verify_compares_the_bytes_that_are_indexed_and_no_others(root: Path) -> None:
    """An index that is behind its log is not wrong."""
    path = segment(root, line(1))
    index(root)
    with path.open("ab") as file:
        file.write(line(2))
    segment(root, line(3))
    assert replay.verify(root).equal


def test_a_segment_that_is_pruned_and_restored_while_verify_reads_is_no_difference(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the log before and after, but not when its turn comes: verify compares once more."""
    path, build, turns = segment(root, line(1), line(2)), replay._build, itertools.count()
    segment(root, line(3))
    index(root)

    def without(*arguments: Any) -> Any:
        if next(turns):
            return build(*arguments)
        path.rename(root / "away")
        try:
            return build(*arguments)
        finally:
            (root / "away").rename(path)

    monkeypatch.setattr(replay, "_build", without)
    assert replay.verify(root).equal
    assert next(turns) == 2


def test_a_segment_that_is_gone_for_good_is_a_difference(root: Path) -> None:
    """Somebody has deleted it, and the index does not know yet."""
    path = segment(root, line(1))
    segment(root, line(3))
    index(root)
    path.unlink()
    verified = replay.verify(root)
    assert (verified.live.events, verified.replayed.events) == (2, 1)


# -- crashes ---------------------------------------------------------------------------------


def test_bytes_that_a_power_cut_took_back_are_noticed_at_the_next_start(root: Path) -> None:
    """The index was synced, the log was not: same size, other bytes. An alarm, and the row stays."""
    path = segment(root, line(1), line(2))
    index(root)
    path.write_bytes(line(1) + b"\0" * len(line(2)))
    (said,) = index(root)
    assert "the bytes before the indexed offset are not the same" in said
    assert rows(root, "SELECT payload ->> 'n' FROM events WHERE event_type = 't' ORDER BY 1") == [("1",), ("2",)]
    assert rows(root, "SELECT line_offset, length FROM quarantine") == [(len(line(1)), len(line(2)))]
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 'index_alarm'") == [(1,)]
    assert index(root) == []
    assert replay.verify(root).equal


def test_an_indexer_killed_at_random_moments_loses_and_doubles_nothing(root: Path) -> None:
    """SIGKILL while producers emit and replays swap; afterwards live equals replay."""
    recorder = Recorder(Config(root=str(root), segment_max_bytes=20_000, strict=True))
    emitted = 0
    for round_ in range(12):
        for n in range(150):
            recorder.emit(
                "t", {"n": n, "pad": "x" * 200}, timestamp="2026-01-01T00:00:00Z", dedupe_key=f"{round_}.{n % 140}"
            )
        emitted += 140
        command = ["replay"] if round_ % 3 == 2 else ["index", "--watch"]
        process = subprocess.Popen(
            [sys.executable, "-m", "eventlog", *command, "--root", str(root)], cwd=PROJECT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.25 + 0.05 * round_)
        process.kill()
        process.wait()
    recorder.shutdown()
    index(root)
    assert rows(root, COUNT) == [(emitted, emitted)]
    assert replay.verify(root).equal


STEPS = ["load", "insert", "checkpoint", "commit", "after commit"]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_of_a_batch_leaves_it_done_or_undone(
    root: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and offsets commit together."""
    from eventlog.indexer.index import checkpoint
    from eventlog.indexer.load import loader

    class Crash(BaseException):
        pass

    def crash(*arguments: object, **named: object) -> None:
        raise Crash

    path = segment(root, line(1))
    index(root)
    with path.open("ab") as file:
        file.write(line(2) + b"bad\n")
    with monkeypatch.context() as patch:
        if step == "load":
            patch.setattr(loader, "merge_batch", crash)
        elif step == "insert":
            patch.setattr(loader, "insert_rejected", crash)
        elif step == "checkpoint":
            patch.setattr(checkpoint, "write", crash)
        elif step == "commit":
            real = loader.store

            def store_and_crash(*arguments: Any) -> None:
                real(*arguments)
                raise Crash

            patch.setattr(loader, "store", store_and_crash)
        else:
            patch.setattr(Indexer, "_release_segments", crash)
        with pytest.raises(Crash):
            Indexer(root, release=step == "after commit").catch_up()
    index(root)
    assert rows(root, "SELECT payload ->> 'n' FROM events ORDER BY 1") == [("1",), ("2",)]
    assert rows(root, "SELECT count(*) FROM quarantine") == [(1,)]
    assert replay.verify(root).equal


def test_replaying_a_log_that_grows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch looks at the files anew."""
    monkeypatch.setattr(replay, "_REPLAY_BATCH_BYTES", 300)
    paths = [segment(root, *(line(100 * k + n) for n in range(4))) for k in range(3)]
    more = iter(range(1000, 1200))

    def grow(done: int, total: int) -> None:
        if next(more) < 1010:
            for path in paths:
                with path.open("ab") as file:
                    file.write(line(next(more)))

    replay.replay(root, progress=grow)
    index(root)
    written = sum(path.read_bytes().count(b"\n") for path in paths)
    assert written > 20
    assert rows(root, COUNT) == [(written, written)]
    assert replay.verify(root).equal


def test_replay_keeps_a_broken_index_that_may_be_the_only_copy(root: Path) -> None:
    """In db_only it held rows that no log has."""
    segment(root, line(1))
    index(root)
    index_file.index_path(root).write_bytes(b"broken")
    replay.replay(root)
    (aside,) = root.glob("index.duckdb.broken-*")
    assert aside.read_bytes() == b"broken"
    assert rows(root, COUNT) == [(1, 1)]


def test_without_descriptors_the_index_is_not_opened(root: Path) -> None:
    """DuckDB would end the whole process, and with it the agent of mode `dual`."""
    segment(root, line(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(10**6))
        for _ in range(8):
            os.close(taken.pop())
        with pytest.raises(IndexFailed, match=r"Too many open files; close some files, or raise `ulimit -n`"):
            index(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    index(root)
    assert rows(root, COUNT) == [(1, 1)]


def test_an_index_with_an_oddly_named_table_can_be_read(root: Path) -> None:
    """The process that reads all of it quotes the names; an error of its own would be taken for damage."""
    segment(root, line(0))
    index(root)
    path = index_file.index_path(root)
    with duckdb.connect(str(path)) as connection:
        connection.execute("""CREATE TABLE "my ""own"" table" AS SELECT 1 AS n""")
    assert not index_file.is_damaged(path)
    path.write_bytes(path.read_bytes()[:4096] + b"nonsense" * 10_000)
    assert index_file.is_damaged(path)
