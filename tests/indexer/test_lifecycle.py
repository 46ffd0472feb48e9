"""The life of an index: catching up, crashing, being in the way, deleted, outdated, broken, rebuilt."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from eventlog import log
from eventlog import segment as segments_module
from eventlog.config import Config, Mode
from eventlog.errors import IndexBusy, IndexFailed
from eventlog.recorder import Recorder
from eventlog.segment import Segment
from indexer import index_file, replay, schema, turns
from indexer.batch import Done
from indexer.indexer import Indexer
from indexer.watch import watch
from tests.conftest import PROJECT
from tests.indexer.support import digest_of, index, line, name, rows, segment, wait_for

COUNT = "SELECT count(*), count(DISTINCT event_id) FROM events"


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
    index_file.wal_path(index_file.index_path(root)).write_bytes(b"left behind")
    indexer.catch_up()
    assert digest_of(root) == before


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: len(line(1))]),
    "emptied": lambda path: path.write_bytes(b""),
    "rewritten and grown": lambda path: path.write_bytes(line(5) + line(6) + line(7)),
    "replaced by a longer one": lambda path: path.with_suffix(".new").rename(path).write_bytes(line(8) * 9),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_segment_raises_an_alarm_and_the_index_follows_the_log(root: Path, how: str) -> None:
    """No row without a line; the alarm is an event and survives replays; another look finds no more."""
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
    assert ("20",) in rows(root, "SELECT payload ->> 'n' FROM events")


def _set_version(root: Path, version: str) -> None:
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute("UPDATE index_meta SET value = ? WHERE key = 'schema_version'", [version])


def test_an_index_of_an_older_version_is_rebuilt_saying_so(root: Path) -> None:
    """Without being asked: all is in the log."""
    segment(root, line(1))
    index(root)
    _set_version(root, "0")
    (said,) = index(root)
    assert "older eventlog (schema 0, now 1); rebuilding it from the log" in said
    assert rows(root, COUNT) == [(1, 1)]


def test_an_index_of_a_newer_version_is_left_alone(root: Path) -> None:
    """Two versions would rebuild it in turns for ever."""
    segment(root, line(1))
    index(root)
    _set_version(root, str(schema.SCHEMA_VERSION + 1))
    with pytest.raises(IndexFailed, match="written by a newer eventlog"):
        index(root)


def _foreign(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 42 AS answer")


BROKEN: dict[str, Callable[[Path], object]] = {
    "nonsense": lambda path: path.write_bytes(b"this is no database" * 1000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "of somebody else": _foreign,
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
    """The second one says who is at it."""
    root.mkdir()
    with (root / "index.replay.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(IndexFailed, match=f"running already: pid {os.getpid()}"):
            replay.replay(root)


DIFFERENCES = {
    "a row more": "INSERT INTO events SELECT * FROM events LIMIT 1",
    "a row less": "DELETE FROM events WHERE payload ->> 'n' = '1'",
    "another payload": "UPDATE events SET payload = '{\"n\":9}' WHERE payload ->> 'n' = '1'",
    "another field": "UPDATE events SET run_id = 'x' WHERE payload ->> 'n' = '1'",
    "another place": "UPDATE events SET line_offset = 7 WHERE payload ->> 'n' = '1'",
    "two payloads swapped": "UPDATE events SET payload = "
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


# -- crashes ---------------------------------------------------------------------------------


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
    from indexer import checkpoint, loader

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

            def store_and_crash(connection: duckdb.DuckDBPyConnection, checked: loader.Checked) -> None:
                real(connection, checked)
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


# -- turns -----------------------------------------------------------------------------------


def test_readers_share_and_a_writer_is_alone(root: Path) -> None:
    """Whoever comes too late is told who holds the index, within the bound."""
    segment(root, line(1))
    index(root)
    with index_file.reading(root, timeout_s=5), index_file.reading(root, timeout_s=5):
        started = time.monotonic()
        with (
            pytest.raises(IndexBusy, match=rf"held for 0.2 s by pid {os.getpid()} \("),
            index_file.writing(root, timeout_s=0.2),
        ):
            pass
        assert 0.15 < time.monotonic() - started < 3
    with (
        index_file.writing(root, timeout_s=5),
        pytest.raises(IndexBusy, match="The log is not affected"),
        index_file.reading(root, timeout_s=0.1),
    ):
        pass


def test_whoever_waits_gets_its_turn_when_the_other_lets_go(root: Path) -> None:
    """And one that gave up does not hold on to it later."""
    root.mkdir()
    order: list[str] = []

    def take(who: str, exclusive: bool, timeout_s: float) -> None:
        try:
            with turns.turn(root, exclusive=exclusive, timeout_s=timeout_s):
                order.append(who)
        except IndexBusy:
            order.append(f"{who} gave up")

    with turns.turn(root, exclusive=False, timeout_s=1):
        impatient = threading.Thread(target=take, args=("impatient writer", True, 0.05))
        impatient.start()
        impatient.join()
        writer = threading.Thread(target=take, args=("writer", True, 10))
        writer.start()
        while not turns.holders(root / "index.turn"):
            time.sleep(0.005)
        reader = threading.Thread(target=take, args=("reader", False, 10))
        reader.start()
        time.sleep(0.05)
        order.append("let go")
    writer.join()
    reader.join()
    assert order == ["impatient writer gave up", "let go", "writer", "reader"]


def test_a_foreign_program_that_holds_the_file_is_waited_for_and_named(root: Path) -> None:
    """It knows nothing of turns."""
    segment(root, line(1))
    index(root)
    program = (
        "import duckdb, sys, time\n"
        f"c = duckdb.connect({str(index_file.index_path(root))!r})\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        with pytest.raises(IndexBusy, match=f"pid {process.pid}"), index_file.reading(root, timeout_s=0.3):
            pass
        threading.Timer(0.3, process.kill).start()
        assert rows(root, COUNT) == [(1, 1)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# -- watching --------------------------------------------------------------------------------


@pytest.mark.parametrize("poll", [False, True])
def test_a_watching_indexer_follows_the_log(root: Path, poll: bool) -> None:
    """New types, new segments, and what was there before; stopping indexes what is left."""
    segment(root, line(1))
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"poll": poll, "say": print})
    thread.start()
    try:
        recorder = Recorder(Config(root=str(root), segment_max_bytes=4096))
        wait_for(root, COUNT, [(1, 1)])
        recorder.emit_many("new.type", [{"n": n, "pad": "x" * 500} for n in range(50)])
        wait_for(root, COUNT, [(51, 51)])
        recorder.emit("t", {"last": True})
        recorder.shutdown()
    finally:
        stop.set()
        thread.join()
    assert rows(root, COUNT) == [(52, 52)]


def test_watching_falls_back_to_looking_where_there_are_no_notifications(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch limit of the machine is no reason to stop."""
    import watchfiles

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", fail)
    monkeypatch.setattr("indexer.watch.SWEEP_S", 0.05)
    said: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"say": said.append})
    thread.start()
    segment(root, line(1))
    wait_for(root, COUNT, [(1, 1)])
    stop.set()
    thread.join()
    assert "no file notifications" in said[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_watching_command_ends_on_a_signal(root: Path, number: signal.Signals) -> None:
    """With exit code 0, all indexed, and the file closed."""
    segment(root, line(1))
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "index", "--watch", "--root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(root, COUNT, [(1, 1)])
    segment(root, line(2))
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in err
    assert rows(root, COUNT) == [(2, 2)]


# -- modes -----------------------------------------------------------------------------------

MODE_PROGRAM = """
import eventlog as obs
obs.configure(root={root!r}, mode={mode!r}, segment_max_bytes=4096)
for n in range(100):
    obs.emit("t", {{"n": n, "pad": "x" * 100}})
"""


@pytest.mark.parametrize("mode", [Mode.FILE_ONLY, Mode.DUAL, Mode.DB_ONLY])
def test_modes_differ_in_what_is_left_when_the_program_ends(root: Path, mode: Mode) -> None:
    """file_only: the log. dual: log and index. db_only: the index; the log was a spool."""
    program = MODE_PROGRAM.format(root=str(root), mode=mode.value)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert index_file.index_path(root).exists() == (mode is not Mode.FILE_ONLY)
    lines = sum(segment.path.read_bytes().count(b"\n") for segment in log.list_log(root).segments)
    assert lines == (0 if mode is Mode.DB_ONLY else 100)
    index(root)
    assert rows(root, COUNT) == [(100, 100)]


def test_rows_of_released_segments_survive_replays(root: Path) -> None:
    """In db_only the index is their only home; what is still in the log joins them."""
    for n in range(2):
        program = MODE_PROGRAM.format(root=str(root), mode="db_only")
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        replayed = replay.replay(root)
        assert replayed.digest.events == 100 * (n + 1)
        assert replay.verify(root).equal
    segment(root, line(1), b"bad\n")
    assert replay.replay(root).digest.events == 201
    assert rows(root, "SELECT bool_or(released), bool_and(released) FROM segments") == [(True, False)]


def test_db_only_keeps_what_is_not_indexed(root: Path) -> None:
    """A segment that grows between commit and deletion is read on, and goes when it is done."""
    path = segment(root, line(1))
    indexer = Indexer(root, release=True)
    owner = Segment.adopt(path)
    assert owner is not None
    indexer.catch_up()
    assert path.exists()
    owner.append(line(2))
    owner.close()
    indexer.catch_up()
    assert not path.exists()
    assert rows(root, COUNT) == [(2, 2)]


def test_two_indexers_on_one_root_do_not_disturb_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that listed the log before the other went further sees no change where there is none."""
    path = segment(root, line(1))
    slow, fast = Indexer(root), Indexer(root)
    slow.catch_up()
    with path.open("ab") as file:
        file.write(line(2))
    stale = slow._sweep()
    with path.open("ab") as file:
        file.write(line(3))
    fast.catch_up()
    with monkeypatch.context() as patch:
        patch.setattr(slow, "_sweep", iter([stale, []]).__next__)
        slow.catch_up()
    assert rows(root, COUNT) == [(3, 3)]


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


def test_db_only_releases_rotated_segments_while_the_program_lives(root: Path) -> None:
    """What was indexed while its writer held it goes when the writer has left it."""
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, strict=True))
    indexer = Indexer(root, release=True)
    for n in range(60):
        recorder.emit("t", {"n": n, "pad": "x" * 300})
        indexer.catch_up()
    assert len(log.list_log(root).segments) == 1
    recorder.shutdown()
    indexer.catch_up()
    assert log.list_log(root).segments == []
    assert rows(root, COUNT) == [(60, 60)]


def test_a_forked_child_does_not_hold_on_to_the_index(root: Path) -> None:
    """Whatever the parent held at the moment of the fork: the gate, a segment, a replay."""
    path = segment(root, line(1))
    index(root)
    ready, done = os.pipe()
    with index_file.writing(root), segments_module.held_still(path):
        pid = os.fork()
        if pid == 0:
            os.close(done)
            os.read(ready, 1)
            os._exit(0)
    try:
        with index_file.writing(root, timeout_s=1):
            pass
        owner = Segment.adopt(path)
        assert owner is not None
        owner.close()
    finally:
        os.close(done)
        os.close(ready)
        os.waitpid(pid, 0)


def test_nobody_adopts_a_segment_whose_tail_is_being_judged(root: Path) -> None:
    """What is read as torn must not be a line that a new owner is writing."""
    path = segment(root, line(1))
    with segments_module.held_still(path) as still:
        assert still
        assert Segment.adopt(path) is None
    owner = Segment.adopt(path)
    assert owner is not None
    with segments_module.held_still(path) as still:
        assert not still
    owner.close()


def test_a_holder_that_cannot_be_seen_is_still_a_holder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another container, /proc/locks does not show it; the file's lock does."""
    segment(root, line(1))
    index(root)
    path = str(index_file.index_path(root))
    program = f"import duckdb, time\nc = duckdb.connect({path!r})\nprint(1, flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setattr(turns, "holders", lambda path: [])
    try:
        with pytest.raises(IndexBusy, match="another process"):
            Indexer(root, timeout_s=0.2).catch_up()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list(root.glob("*broken*")) == []


def test_an_index_that_cannot_be_opened_for_want_of_something_is_not_broken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, for one: the file is sound, and stays."""
    segment(root, line(1))
    index(root)

    def fail(*arguments: object, **named: object) -> None:
        raise duckdb.IOException("IO Error: Cannot open file: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", fail)
        with pytest.raises(IndexFailed, match="cannot be opened here, though it seems sound: IO Error: Cannot open"):
            Indexer(root, timeout_s=0.1).catch_up()
    assert list(root.glob("*broken*")) == []
    assert rows(root, COUNT) == [(1, 1)]


def test_replay_keeps_a_broken_index_that_may_be_the_only_copy(root: Path) -> None:
    """In db_only it held rows that no log has."""
    segment(root, line(1))
    index(root)
    index_file.index_path(root).write_bytes(b"broken")
    replay.replay(root)
    (aside,) = root.glob("index.duckdb.broken-*")
    assert aside.read_bytes() == b"broken"
    assert rows(root, COUNT) == [(1, 1)]


def test_verify_in_db_only_compares_the_same_moment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released while it replays is not held against the index."""
    segment(root, line(1))
    first = segment(root, line(2))
    Indexer(root).catch_up()
    real = replay._build

    def build(*arguments: Any) -> int:
        with first.open("ab") as file:
            file.write(line(3))
        segment(root, line(4), b"bad\n")
        Indexer(root, release=True).catch_up()
        assert log.list_log(root).segments == []
        return real(*arguments)

    monkeypatch.setattr(replay, "_build", build)
    found = replay.verify(root)
    assert found.live.events == 2
    assert found.equal


def test_a_crash_while_releasing_leaves_the_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its segment would be read, and its bad lines counted, once more."""
    segment(root, line(1), b"bad\n")

    class Crash(BaseException):
        pass

    class Crashing:
        def __init__(self, real: duckdb.DuckDBPyConnection) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def execute(self, query: str, *arguments: Any) -> Any:
            if query.startswith("INSERT INTO segments"):
                raise Crash
            return self._real.execute(query, *arguments)

    real = Indexer._release_segments

    def release(self: Indexer, connection: duckdb.DuckDBPyConnection, done: Done) -> None:
        real(self, cast("duckdb.DuckDBPyConnection", Crashing(connection)), done)

    monkeypatch.setattr(Indexer, "_release_segments", release)
    with pytest.raises(Crash):
        Indexer(root, release=True).catch_up()
    monkeypatch.undo()
    Indexer(root, release=True).catch_up()
    assert rows(root, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") == [(1, 1)]
    assert log.list_log(root).segments == []


def test_the_index_is_for_its_owner_alone(root: Path) -> None:
    """Like the log: it holds the same."""
    segment(root, line(1))
    index(root)
    assert index_file.index_path(root).stat().st_mode & 0o777 == 0o600
    replay.replay(root)
    assert index_file.index_path(root).stat().st_mode & 0o777 == 0o600
