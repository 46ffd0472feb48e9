"""The modes: what stays in log and index, and that db_only deletes nothing too early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from eventlog.config import Config, Mode
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.load import batch
from eventlog.indexer.load.batch import BatchResult
from eventlog.log import layout
from eventlog.log.segment import Segment
from eventlog.maintenance import verification
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.sealing import seal
from eventlog.record.recorder import Recorder
from tests.indexer.support import COUNT, index, line, rows, segment

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
    lines = sum(segment.path.read_bytes().count(b"\n") for segment in layout.list_log(root).segments)
    assert lines == (0 if mode is Mode.DB_ONLY else 100)
    index(root)
    assert rows(root, COUNT) == [(100, 100)]


TYPED_PROGRAM = """
import msgspec
import eventlog as obs
@obs.event("reading")
class Reading(msgspec.Struct):
    celsius: float
obs.configure(root={root!r}, mode={mode!r})
for n in range(100):
    obs.emit(Reading(n))
"""


@pytest.mark.parametrize("mode", ["dual", "db_only"])
def test_a_typed_program_that_ends_has_indexed_all_of_it(root: Path, mode: str) -> None:
    """Its last batch has two parts, and at the end of an interpreter no thread can be started to read ahead."""
    command = [sys.executable, "-c", TYPED_PROGRAM.format(root=str(root), mode=mode)]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert done.stderr == ""
    assert rows(root, "SELECT count(*), sum(celsius) FROM reading") == [(100, 4950.0)]


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


def test_db_only_releases_rotated_segments_while_the_program_lives(root: Path) -> None:
    """What was indexed while its writer held it goes when the writer has left it."""
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, strict=True))
    indexer = Indexer(root, release=True)
    for n in range(60):
        recorder.emit("t", {"n": n, "pad": "x" * 300})
        indexer.catch_up()
    recorder.flush()  # a segment that was left is let go of once it is synced
    indexer.catch_up()
    assert len(layout.list_log(root).segments) == 1
    recorder.shutdown()
    indexer.catch_up()
    assert layout.list_log(root).segments == []
    assert rows(root, COUNT) == [(60, 60)]


def test_verify_in_db_only_compares_the_same_moment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released while it replays is not held against the index."""
    segment(root, line(1))
    first = segment(root, line(2))
    Indexer(root).catch_up()
    real = replay._build

    def build(*arguments: Any) -> tuple[int, dict[str, str]]:
        with first.open("ab") as file:
            file.write(line(3))
        segment(root, line(4), b"bad\n")
        Indexer(root, release=True).catch_up()
        assert layout.list_log(root).segments == []
        return real(*arguments)

    monkeypatch.setattr(replay, "_build", build)
    found = replay.verify(root)
    assert found.live.events == 2
    assert found.equal


def test_what_is_released_while_a_replay_builds_keeps_its_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through that replay, which had read the segment, and through the next, which cannot."""
    segment(root, line(1), line(2))
    index(root)
    real = replay._build

    def build(*arguments: Any) -> tuple[int, dict[str, str]]:
        built = real(*arguments)
        Indexer(root, release=True).catch_up()
        return built

    with monkeypatch.context() as patch:
        patch.setattr(replay, "_build", build)
        replay.replay(root)
    assert layout.list_log(root).segments == []
    replay.replay(root)
    assert rows(root, COUNT) == [(2, 2)]


@pytest.mark.parametrize("archiving", [False, True])
def test_what_was_sealed_is_no_spool(root: Path, archiving: bool) -> None:
    """Or the chain of seals would break, and verify find segments gone that nobody has taken."""
    segment(root, line(1), line(2))
    seal(root)
    if archiving:
        archive_sealed(root)
    spooled = segment(root, line(3))
    indexer = Indexer(root, release=True)
    indexer.catch_up()
    assert not spooled.exists()
    assert verification.verify(root).sealed_segments == 2
    assert verification.verify(root).findings == []
    assert indexer._sweep.thorough() == []
    assert rows(root, "SELECT count(*) FROM segments WHERE released") == [(1,)]


def test_what_is_sealed_while_it_is_indexed_is_no_spool(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it was none when the batch began."""
    segment(root, line(1))
    real = batch.index_batch

    def index_batch(*arguments: Any, **named: Any) -> BatchResult:
        done = real(*arguments)
        seal(root)
        return done

    monkeypatch.setattr("eventlog.indexer.indexer.index_batch", index_batch)
    Indexer(root, release=True).catch_up()
    assert verification.verify(root).findings == []


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

    def release(self: Indexer, connection: duckdb.DuckDBPyConnection, done: BatchResult) -> None:
        real(self, cast("duckdb.DuckDBPyConnection", Crashing(connection)), done)

    monkeypatch.setattr(Indexer, "_release_segments", release)
    with pytest.raises(Crash):
        Indexer(root, release=True).catch_up()
    monkeypatch.undo()
    Indexer(root, release=True).catch_up()
    assert rows(root, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") == [(1, 1)]
    assert layout.list_log(root).segments == []
