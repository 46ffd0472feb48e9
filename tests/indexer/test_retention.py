"""The index over sealed, archived and pruned segments: the same rows, and true records of what was deleted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.config import Config
from eventlog.errors import IndexBusy, InvalidEvent
from eventlog.indexer import replay, retention
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.retention import prune
from eventlog.log import content, layout, reader, zst
from eventlog.log.pruned import read_pruned
from eventlog.log.segment import held_still
from eventlog.maintenance import verification
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.sealing import read_chain, seal
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.eventlog.test_sealing import forced
from tests.indexer.support import COUNT, digest_of, index, line, rows, segment

Run = Callable[..., subprocess.CompletedProcess[str]]


def aged(path: Path, days: float = 60) -> Path:
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))
    return path


def old_and_sealed(root: Path) -> list[Path]:
    """Three segments, last written 60 days ago, sealed; a torn tail and a bad line among them."""
    paths = [
        aged(segment(root, *(line(n) for n in range(10)))),
        aged(segment(root, line(20), b"bad\n", line(21))),
        aged(segment(root, line(30), b'{"torn')),
    ]
    seal(root)
    return paths


def test_archiving_changes_nothing_in_the_index(root: Path) -> None:
    """Neither live, nor after a replay, nor when it was archived before it was indexed."""
    old_and_sealed(root)
    index(root)
    before = digest_of(root)
    archive_sealed(root)
    assert index(root) == []
    assert digest_of(root) == before
    assert replay.verify(root).equal
    assert replay.replay(root).digest == before
    (root / "index.duckdb").unlink()
    index(root)
    assert digest_of(root) == before
    assert rows(root, "SELECT count(*) FROM quarantine") == [(2,)]


def test_archived_halfway_through_is_read_on_at_the_offset(root: Path) -> None:
    """Offsets count uncompressed bytes."""
    path = segment(root, *(line(n) for n in range(5)))
    index(root)
    with path.open("ab") as file:
        file.write(line(5) + b'{"torn')
    seal(root)
    archive_sealed(root)
    assert index(root) == []
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(6,)]
    assert rows(root, "SELECT line_offset, length FROM quarantine") == [(sum(len(line(n)) for n in range(6)), 6)]
    assert replay.verify(root).equal


def test_a_line_is_shown_from_its_archive(root: Path) -> None:
    """With the place where it stands now."""
    path = segment(root, line(1), line(2))
    seal(root)
    archive_sealed(root)
    index(root)
    found = ReadStore(root).event(json.loads(line(2))["event_id"])
    assert found is not None
    assert found.line == line(2)[:-1]
    assert found.path == str(zst.archived_path(path))


def test_a_damaged_archive_does_not_keep_others_from_being_indexed(root: Path) -> None:
    """It is said once, and read when it is mended; a replay says what it leaves out."""
    old_and_sealed(root)
    archive_sealed(root)
    stored = min((root / "log/t").iterdir())
    whole = stored.read_bytes()
    forced(stored, whole[:-20])
    indexer_said: list[str] = []
    indexer = Indexer(root, say=indexer_said.append)
    indexer.catch_up()
    indexer.catch_up()
    (said,) = indexer_said
    assert said.startswith(f"left out for now: {stored}: cannot be read: damaged archive: ")
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(3,)]
    (reason,) = replay.replay(root).unreadable
    assert stored.name in reason
    forced(stored, whole)
    index(root)
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]


def test_a_segment_whose_permission_is_lost_is_not_taken_for_a_changed_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows stay, and no alarm is raised."""
    path = segment(root, line(1))
    index(root)
    with path.open("ab") as file:
        file.write(line(2))
    real = os.open

    def refused(name: object, *arguments: object, **options: object) -> int:
        if name == path:
            raise PermissionError(13, "Permission denied")
        return real(name, *arguments, **options)  # type: ignore[arg-type]  # passed on as it came

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        (said,) = index(root)
    assert "Permission denied" in said
    assert rows(root, "SELECT count(*) FROM events") == [(1,)]
    index(root)
    assert rows(root, "SELECT count(*) FROM events") == [(2,)]


# -- pruning ---------------------------------------------------------------------------


def test_pruned_rows_stay_and_the_log_says_what_is_gone(root: Path) -> None:
    """Through a replay as well; verify stays truthful."""
    paths = old_and_sealed(root)
    index(root)
    before = ReadStore(root).sql("SELECT event_id, payload FROM events WHERE event_type = 't' ORDER BY 1").rows
    done = prune(root, 30 * 86400)
    assert [each.segment for each in done.pruned] == [path.stem for path in paths]
    assert done.retained == []
    assert layout.list_type(root, "t") == []
    index(root)
    assert replay.verify(root).equal
    again = replay.replay(root)
    assert again.pruned == []
    after = ReadStore(root).sql("SELECT event_id, payload FROM events WHERE event_type = 't' ORDER BY 1").rows
    assert after == before
    assert rows(root, "SELECT count(*) FROM quarantine") == [(2,)]
    verified = verification.verify(root)
    assert verified.findings == []
    assert verified.pruned_segments == 3
    ((told, _),) = read_pruned(root)[paths[0].stem]
    assert (told.segment_type, told.lines, told.size_bytes, told.indexed) == (
        "t",
        10,
        sum(len(line(n)) for n in range(10)),
        True,
    )
    assert told.sha256 == next(each.seal.sha256 for each in read_chain(root) if each.seal.segment == paths[0].stem)


def test_once_the_index_is_lost_too_replay_says_what_is_missing(root: Path, run: Run) -> None:
    """Rather than presenting what is left as the whole."""
    old_and_sealed(root)
    index(root)
    prune(root, 30 * 86400)
    (root / "index.duckdb").unlink()
    done = run("replay")
    assert "14 lines of 3 pruned segments are in no log and no index any more; no backup" in done.stderr


def test_a_dry_run_says_the_same_and_does_nothing(root: Path) -> None:
    """Not even in the index."""
    old_and_sealed(root)
    index(root)
    before = {path: path.read_bytes() for path in sorted(root.rglob("*.jsonl"))}
    would = prune(root, 30 * 86400, dry_run=True)
    assert {path: path.read_bytes() for path in sorted(root.rglob("*.jsonl"))} == before
    assert rows(root, "SELECT count(*) FROM segments WHERE released") == [(0,)]
    assert prune(root, 30 * 86400) == would


def unsealed(root: Path, paths: list[Path]) -> None:
    aged(segment(root, line(90)))


def not_indexed(root: Path, paths: list[Path]) -> None:
    aged(segment(root, line(91)))
    seal(root)


def tampered(root: Path, paths: list[Path]) -> None:
    data = bytearray(paths[0].read_bytes())
    data[100] ^= 1
    forced(paths[0], bytes(data))
    aged(paths[0])


KEPT = {
    "not sealed": unsealed,
    "not indexed yet": not_indexed,
    "not what was sealed": tampered,
}


@pytest.mark.parametrize("reason", KEPT)
def test_what_is_not_safe_elsewhere_is_kept(root: Path, reason: str) -> None:
    """And the reason is said."""
    paths = old_and_sealed(root)
    index(root)
    KEPT[reason](root, paths)
    done = prune(root, 30 * 86400)
    (kept,) = done.retained
    assert reason in kept
    assert len(layout.list_type(root, "t")) == 1


def test_without_an_index_only_what_is_backed_up_goes(root: Path, tmp_path: Path) -> None:
    """With the very content that was sealed."""
    paths = old_and_sealed(root)
    backup(root, Folder(tmp_path / "backup"), say=print)
    (object_,) = (tmp_path / "backup/log/t").glob(f"{paths[1].stem}.*")
    object_.write_bytes(object_.read_bytes()[::-1])
    (object_,) = (tmp_path / "backup/log/t").glob(f"{paths[2].stem}.*")
    object_.unlink()
    done = prune(root, 30 * 86400)
    assert [(each.segment, each.indexed, each.backups) for each in done.pruned] == [
        (paths[0].stem, False, [str(tmp_path / "backup")])
    ]
    assert ["nor in a backup that could be looked at" in each for each in done.retained] == [True, True]
    assert sorted(each.rpartition(" ")[2] for each in done.backup_problems) == ["damaged", f"log/t/{object_.name}"]


def test_young_segments_other_types_and_bookkeeping_stay(root: Path) -> None:
    """Age is that of the last write."""
    old_and_sealed(root)
    aged(segment(root, line(50, "u"), event_type="u"))
    aged(segment(root, line(60)), days=10)
    seal(root)
    for path in (root / "log/segment_sealed").iterdir():
        aged(path)
    index(root)
    prune(root, 30 * 86400, ["t"])
    left = {(each.event_type, each.size) for each in layout.list_log(root).segments if each.event_type in "tu"}
    assert left == {("t", len(line(60))), ("u", len(line(50, "u")))}
    prune(root, 0)
    assert {each.event_type for each in layout.list_log(root).segments} == {"segment_sealed", "segment_pruned"}
    with pytest.raises(InvalidEvent, match="segment_sealed is kept for ever"):
        prune(root, 0, ["segment_sealed"])


@pytest.mark.parametrize("step", ["_release", "_log_pruned", "_delete"])
def test_a_crash_in_the_middle_is_completed_by_the_next_run(
    root: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was done before it; nothing is told twice."""
    old_and_sealed(root)
    index(root)

    class Crash(BaseException):
        pass

    def crash(*arguments: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(retention, step, crash)
        with pytest.raises(Crash):
            prune(root, 30 * 86400)
    assert verification.verify(root).findings == []
    assert replay.verify(root).equal
    prune(root, 30 * 86400)
    assert layout.list_type(root, "t") == []
    index(root)
    assert rows(
        root, "SELECT count(*), count(DISTINCT payload ->> 'segment') FROM events WHERE event_type = 'segment_pruned'"
    ) == [(3, 3)]
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]
    assert replay.verify(root).equal


def test_a_replay_that_had_read_what_was_pruned_meanwhile_keeps_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index is the only home of those rows from now on, and says so to the next replay."""
    old_and_sealed(root)
    index(root)
    real = replay._build

    def build(*arguments: Any) -> tuple[int, dict[str, str]]:
        found = real(*arguments)
        assert len(prune(root, 30 * 86400).pruned) == 3
        return found

    with monkeypatch.context() as patch:
        patch.setattr(replay, "_build", build)
        replay.replay(root)
    index(root)
    for _ in range(2):
        assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]
        assert rows(root, "SELECT count(*) FROM segments WHERE released") == [(3,)]
        replay.replay(root)


def test_a_pruned_segment_that_comes_back_is_a_segment_again(root: Path) -> None:
    """As when it is restored from a backup: no row twice, and no need of the old index."""
    paths = old_and_sealed(root)
    data = {path: path.read_bytes() for path in paths}
    index(root)
    prune(root, 30 * 86400)
    for path, each in data.items():
        path.write_bytes(each)
        path.chmod(0o400)
    index(root)
    assert replay.verify(root).equal
    replay.replay(root)
    assert rows(root, "SELECT count(*) FROM segments WHERE released") == [(0,)]
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]


def test_a_damaged_account_of_what_was_pruned_does_not_stop_a_replay(root: Path) -> None:
    """It is left out and named like any other damaged segment; the pruned rows are carried over."""
    old_and_sealed(root)
    index(root)
    prune(root, 30 * 86400)
    seal(root)
    archive_sealed(root)
    (path,) = (each.path for each in layout.list_type(root, "segment_pruned"))
    data = path.read_bytes()
    forced(path, data[:-10] + bytes([data[-10] ^ 0xFF]) + data[-9:])
    done = replay.replay(root)
    assert [path.name in each for each in done.unreadable] == [True]
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]


def test_prunings_of_two_copies_of_a_root_are_both_told_when_their_logs_meet(root: Path, tmp_path: Path) -> None:
    """Each account stands in a segment of its own, so that none is written over by the other's."""
    first, second, third = (segment(root, line(n), event_type=kind) for n, kind in enumerate("abc"))
    for path in (first, second, third):
        aged(path)
    seal(root)
    index(root)
    prune(root, 30 * 86400, ["a"])
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    prune(root, 30 * 86400, ["b"])
    prune(copy, 30 * 86400, ["c"])
    for each in (root, copy):
        seal(each)
    for source, target in ((root, copy), (copy, root)):
        shutil.copytree(source / "log", target / "log", dirs_exist_ok=True)
    for each in (root, copy):
        for path in (second, third):  # what the other side still had came with its log
            (each / path.relative_to(root)).unlink()
        verified = verification.verify(each)
        assert (verified.findings, verified.forks, verified.pruned_segments) == ([], [], 3)


def test_what_is_pruned_while_it_verifies_is_no_finding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing a large log takes long enough for that."""
    old_and_sealed(root)
    index(root)
    real = content.digests

    def digests(*arguments: Any) -> content.Digests:
        prune(root, 30 * 86400)
        return real(*arguments)

    monkeypatch.setattr(verification, "digests", digests)
    assert verification.verify(root).findings == []
    assert layout.list_type(root, "t") == []


def test_an_index_that_is_made_after_the_verdict_is_to_have_all_that_goes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, a backup is enough. Else its rows would be gone with its next replay."""
    paths = old_and_sealed(root)
    backup(root, open_destination(str(tmp_path / "backup")), say=print)
    real = retention._judge

    def judge(*arguments: Any) -> Any:
        index(root)
        return real(*arguments)

    monkeypatch.setattr(retention, "_judge", judge)
    with pytest.raises(IndexBusy, match="was made meanwhile; try again"):
        prune(root, 30 * 86400)
    assert all(path.exists() for path in paths)


def test_a_file_that_is_no_index_is_named(root: Path, run: Run) -> None:
    """As any other command does."""
    old_and_sealed(root)
    duckdb.connect(str(root / "index.duckdb")).execute("CREATE TABLE t (n INTEGER)").close()
    done = run("prune", "--older-than", "30d")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {root}/index.duckdb is not an index of this version; try: eventlog index\n",
    )


def test_what_could_not_be_deleted_is_not_called_deleted(root: Path, run: Run) -> None:
    """An indexer looks at it this very moment, say. The next run deletes it."""
    held, *_ = old_and_sealed(root)
    index(root)
    with held_still(held):
        done = run("prune", "--older-than", "30d")
    assert done.stdout.splitlines()[-1].startswith("deleted 2 segments, ")
    assert done.stderr.startswith(f"kept: t/{held.stem}: not deleted: another process holds it")
    assert [each.segment for each in prune(root, 30 * 86400).pruned] == [held.stem]
    assert layout.list_type(root, "t") == []


def test_the_command_prunes(root: Path, run: Run) -> None:
    """What it says, and what it refuses."""
    paths = old_and_sealed(root)
    run("index")
    done = run("prune", "--older-than", "30d", "--dry-run")
    assert done.stdout.splitlines()[0] == f"t/{paths[0].stem}  {paths[0].stat().st_size:,} bytes  indexed"
    total = sum(path.stat().st_size for path in paths)
    assert done.stdout.splitlines()[-1] == f"would delete 3 segments, {total:,} bytes on disk"
    done = run("prune", "--older-than", "4w")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"deleted 3 segments, {total:,} bytes on disk")
    assert run("prune", "--older-than", "soon").returncode == 2
    assert run("prune").returncode == 2


def test_the_whole_way_from_emit_to_restore(root: Path, tmp_path: Path, run: Run) -> None:
    """Emit, index, seal, archive, back up, prune, lose the index, replay, restore, replay: the same rows."""
    for n in range(20):
        recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, strict=True))
        recorder.emit_many(f"kind{n % 3}", [{"n": n, "pad": "x" * 700} for _ in range(5)])
        recorder.shutdown()
    run("index")
    rows_before = rows(root, "SELECT event_id, payload FROM events WHERE event_type LIKE 'kind%' ORDER BY 1")
    place = str(tmp_path / "backup")
    for command in (["seal"], ["archive"], ["backup", place], ["index"]):
        assert run(*command).returncode == 0
    assert run("prune", "--older-than", "0s").stdout.splitlines()[-1].startswith("deleted ")
    assert not [each for each in layout.list_log(root).segments if each.event_type.startswith("kind")]
    assert run("verify").returncode == 0
    (root / "index.duckdb").unlink()
    done = run("replay")
    assert f"are in no log and no index any more; try: eventlog restore {place}" in done.stderr
    assert run("restore", place).returncode == 0
    done = run("replay")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(root, "SELECT event_id, payload FROM events WHERE event_type LIKE 'kind%' ORDER BY 1") == rows_before
    assert run("verify", "--index").returncode == 0


def test_verify_index_names_the_row_that_is_not_its_line(root: Path, run: Run) -> None:
    """Changed, missing, or made up."""
    path = segment(root, line(1), line(2), line(3))
    run("index")

    with duckdb.connect(str(root / "index.duckdb")) as connection:
        connection.execute("""UPDATE event_rows SET payload = '{"n":9}' WHERE line_offset = ?""", [len(line(1))])
        connection.execute("DELETE FROM event_rows WHERE line_offset = ?", [len(line(1)) * 2])
    done = run("verify", "--index")
    assert done.returncode == 1
    assert f"t/{path.stem}: byte {len(line(1))}: the row differs from its line in payload" in done.stdout
    assert f"t/{path.stem}: byte {len(line(1)) * 2}: the line has no row" in done.stdout
    found = json.loads(run("verify", "--index", "--json").stdout)["index"]
    assert [each["line_offset"] for each in found["differences"]] == [len(line(1)), len(line(1)) * 2]
    run("replay")
    assert run("verify", "--index").returncode == 0


def test_a_replay_carries_over_what_the_log_has_no_more(root: Path, run: Run) -> None:
    """A folder was deleted by hand: what only the index has is not thrown away, and it is said."""
    segment(root, line(1), line(2))
    other = segment(root, line(3, "u"), event_type="u")
    run("index")
    other.unlink()
    done = run("replay")
    assert (done.returncode, done.stderr) == (
        0,
        "1 events of segments that the log has no more were carried over from the old index, "
        "which is their only home\n",
    )
    assert rows(root, "SELECT count(*) FROM events") == [(3,)]
    assert list(root.glob("index.duckdb.replaced-*")) == []
    assert run("replay").stderr == ""
    assert run("replay", "--verify").returncode == 0


def test_a_replay_keeps_the_rows_of_an_archive_that_is_damaged(root: Path) -> None:
    """The index may be the only one that still knows them."""
    old_and_sealed(root)
    archive_sealed(root)
    index(root)
    stored = min((root / "log/t").iterdir())
    forced(stored, stored.read_bytes()[:-20])
    done = replay.replay(root)
    assert len(done.unreadable) == 1
    assert (done.carried.unreadable, done.old_index) == (10, None)
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(13,)]


def test_a_replay_keeps_the_rows_of_a_segment_that_cannot_be_read_to_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first lines are read, and the others are carried over; when it can be read again, it is read on."""
    path = segment(root, *(line(n) for n in range(20)))
    index(root)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 1024)
    real = zst._Plain.pread

    def failing(self: zst._Plain, size: int, offset: int) -> bytes:
        if offset > 1500:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, size, offset)

    monkeypatch.setattr(zst._Plain, "pread", failing)
    done = replay.replay(root)
    assert [path.name in each for each in done.unreadable] == [True]
    assert (done.carried.unreadable, done.old_index) == (20, None)
    assert rows(root, COUNT) == [(20, 20)]
    monkeypatch.undo()
    with path.open("ab") as file:
        file.write(line(21))
    assert index(root) == []
    assert rows(root, COUNT) == [(21, 21)]


def test_a_dry_run_needs_no_right_to_write(root: Path) -> None:
    """It does not even make the lock file."""
    old_and_sealed(root)
    index(root)
    (root / "maintenance.lock").unlink()
    assert len(prune(root, 30 * 86400, dry_run=True).pruned) == 3
    assert not (root / "maintenance.lock").exists()
