"""Disasters for the doctor: each makes one in a healthy root, and says what is to be said of it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.record.recorder import Recorder

NOBODY = 65534
#: Check, level, and patterns for what it is and what to do.
Said = tuple[str, str, str, str]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners or mounts")


def emit(root: Path, event_type: str, payload: dict[str, object], **fields: str) -> None:
    made = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    made.emit(event_type, payload, **fields)
    made.shutdown()


def new_segment(root: Path, data: bytes, *, event_type: str = "t", created_s: float | None = None) -> Path:
    name = layout.new_segment_name(int((created_s or time.time()) * 10**9))
    path = root / "log" / event_type / f"{name}.jsonl"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def no_log(root: Path) -> Said:
    shutil.rmtree(root / "log")
    return "root", "note", "nothing is recorded yet: there is no log", "emit an event"


def open_to_all(root: Path) -> Said:
    root.chmod(0o755)
    (root / "log/t").chmod(0o750)
    what = r"other users may get at the root \(mode 0755\), and at 1 file or folder in it"
    return "privacy", "note", what, "chmod -R go= "


def foreign_files(root: Path) -> Said:
    os.chown(root / "log/t", NOBODY, NOBODY)
    return "owners", "warning", "1 of 6 files and folders belong to somebody else .*: log/t", "chown -R 0 "


def somebody_elses(root: Path) -> Said:
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    return "owners", "note", "all belongs to .*uid 65534.*, and you are .*uid 0", "emit and index as its owner"


def emitted_by_the_superuser(root: Path) -> Said:
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    os.chown(new_segment(root, b""), 0, 0)
    return "root", "problem", r".*65534\) may not read 1 segment: log/t/.*\(0600, root", "chown -R 65534 .*as that user"


def indexed_by_the_superuser(root: Path) -> Said:
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    os.chown(root / "index.duckdb", 0, 0)
    return "root", "problem", ".* may not read and write index.duckdb$", "run the indexer as that user"


def a_type_closed_to_its_owner(root: Path) -> Said:
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    (root / "log/u").chmod(0o000)
    return "root", "problem", ".* may not read 1 folder: .*/log/u$", "chmod -R u.rwX"


def a_type_that_cannot_be_written(root: Path) -> Said:
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    (root / "log/u").chmod(0o500)
    return "root", "problem", ".* may not write to 1 folder: .*/log/u$", "only reads"


def an_odd_name(root: Path) -> Said:
    (root / "log/t/notes\x1b[31m.txt").write_text("")
    return "oddities", "warning", "log/t/notes.*txt is left alone: the name is not that of a segment", "move it out"


def a_name_that_is_not_unicode(root: Path) -> Said:
    (root / "log" / os.fsdecode(b"bad\xff")).mkdir()
    return "oddities", "warning", r"log/bad\\udcff is left alone", "move it out"


def a_link(root: Path) -> Said:
    (root / "log/v").symlink_to(root)
    return "oddities", "warning", "log/v is left alone: a symbolic link, not followed", "move it out"


def a_namesake(root: Path) -> Said:
    (path,) = (root / "log/t").iterdir()
    shutil.copy(path, root / "log/u")
    return "oddities", "warning", "log/u/.* is left alone: .*/log/t/.* has the same name", "move it out"


def a_torn_line(root: Path) -> Said:
    new_segment(root, b"x" * 999 + b"\n" + b'{"torn":')
    return "torn tails", "note", "log/t/.* ends in 8 bytes of a line that begins at byte 1,000", "nothing: the indexer"


def a_long_torn_line(root: Path) -> Said:
    new_segment(root, b"\n" + b"x" * 200_000)
    return "torn tails", "note", "log/t/.* ends in 200,000 bytes of a line that begins at byte 1$", "nothing"


def many_torn_lines(root: Path) -> Said:
    for _ in range(11):
        new_segment(root, b"x")
    return "torn tails", "warning", r"11 segments end in torn lines \(the first 5 are shown\)", "what kills the writers"


def many_small_segments(root: Path) -> Said:
    for n in range(1001):
        new_segment(root, b"", event_type="w", created_s=10**9 + n)
    return "segments", "warning", "w has 1,001 segments of 0 B on average", "more per process"


def a_segment_of_the_future(root: Path) -> Said:
    new_segment(root, b"", created_s=time.time() + 3600)
    return "clock", "warning", "1 segments were created in the future: log/t/", "check the clocks"


def an_event_of_the_future(root: Path) -> Said:
    emit(root, "v", {}, timestamp="2999-01-01T00:00:00Z")
    return "clock", "note", "the last events of v carry times in the future", "check the clock"


def a_killed_replay(root: Path) -> Said:
    (root / "index.duckdb.replay").write_bytes(b"x" * 100)
    (root / "index.replay.lock").touch()
    return "leftovers", "note", "an unfinished index of 100 B, whose replay is gone", "the next replay"


def a_broken_index_set_aside(root: Path) -> Said:
    (root / "index.duckdb").write_bytes(b"no database")
    Indexer(root, say=lambda _: None).catch_up()
    return "leftovers", "warning", r"1 file of an index .* \(11 B\): index.duckdb.broken-", "look for the cause"


def an_unfinished_copy(root: Path) -> Said:
    (root / ".calls.parquet.0a1b2c3d.part").touch()
    return "leftovers", "note", "1 unfinished copy: .calls.parquet.0a1b2c3d.part", "delete"


def a_log_of_an_index_that_is_gone(root: Path) -> Said:
    (root / "index.duckdb").rename(root / "index.duckdb.wal")
    return "leftovers", "note", "a write-ahead log without its index", "nothing"


def no_index(root: Path) -> Said:
    (root / "index.duckdb").unlink()
    return "index", "note", "there is none", "eventlog index makes it"


def a_broken_index(root: Path) -> Said:
    (root / "index.duckdb").write_bytes(b"no database")
    return "index", "problem", "it cannot be opened: .*not a valid DuckDB database file", "eventlog index sets it aside"


def an_index_of_another_version(root: Path) -> Said:
    with index_file.writing(root) as connection:
        connection.execute("UPDATE index_meta SET value = '99' WHERE key = 'schema_version'")
    return (
        "index",
        "problem",
        f".* has schema 99, this eventlog reads {schema.SCHEMA_VERSION}",
        "a newer one needs the newer",
    )


def an_index_from_elsewhere(root: Path) -> Said:
    (root / "index.gate").unlink()
    return "index", "note", "not looked into: it has no lock files", "eventlog status"


def an_index_that_is_behind(root: Path) -> Said:
    new_segment(root, b"x" * 49 + b"\n")
    return "index", "note", "50 B in 1 of 3 segments are not indexed yet", "eventlog index --watch"


def a_lost_segment(root: Path) -> Said:
    (path,) = (root / "log/t").iterdir()
    path.unlink()
    return "index", "warning", f"1 indexed segments are no longer in the log: log/t/{path.name}", "bring them back"


def a_cut_segment(root: Path) -> Said:
    (path,) = (root / "log/t").iterdir()
    os.truncate(path, 10)
    return "index", "warning", "1 segment shorter than what was indexed: log/t/", "raises an alarm"


def quarantined_lines(root: Path) -> Said:
    new_segment(root, b"nonsense\n")
    Indexer(root).catch_up()
    return "index", "warning", "1 line in quarantine, beside 4 events", "quarantine list"


def values_that_do_not_fit(root: Path) -> Said:
    schema_of_t = {"properties": {"n": {"type": "integer"}}}
    emit(root, "event_schema", {"name": "t", "version": 1, "json_schema": schema_of_t})
    emit(root, "t", {"n": "12"})
    Indexer(root).catch_up()
    return "index", "note", "1 event of t with values that do not fit", 'SELECT unfit, count.* FROM "t" WHERE unfit IS'


def an_alarm(root: Path) -> Said:
    (path,) = (root / "log/t").iterdir()
    path.write_bytes(b" " + path.read_bytes())
    Indexer(root, say=lambda _: None).catch_up()
    return "index", "warning", "1 alarm: .* last at 20", "index_alarm"


def an_old_alarm(root: Path) -> Said:
    emit(root, "index_alarm", {}, timestamp="2026-01-01T00:00:00Z", dedupe_key="k")
    Indexer(root).catch_up()
    return "index", "note", "1 alarm: .* last at 2026-01-01 00:00 UTC", "index_alarm"


def lost_events(root: Path) -> Said:
    emit(root, "events_dropped", {"count": 7})
    emit(root, "events_dropped", {"count": 5})
    Indexer(root).catch_up()
    return "index", "warning", "12 events could not be written and are lost, last reported at 20", "which and why"


def a_run_id_used_twice(root: Path) -> Said:
    for run_id in ("r", "r", "s"):
        emit(root, "run_started", {"name": "n"}, run_id=run_id)
    emit(root, "run_started", {"name": "n"}, run_id="s", workspace="w")
    Indexer(root).catch_up()
    return "index", "warning", "1 run id was started more than once in a workspace, last at 2.*: r$", "an id of its own"


def a_run_id_used_twice_long_ago(root: Path) -> Said:
    for key in ("1", "2"):
        emit(root, "run_started", {"name": "n"}, run_id="r", timestamp="2026-01-01T00:00:00Z", dedupe_key=key)
    Indexer(root).catch_up()
    return "index", "note", "1 run id was started more than once .* 2026-01-01 00:00 UTC: r$", "an id of its own"


WITHOUT_RIGHTS = [
    no_log, an_odd_name, a_name_that_is_not_unicode, a_link, a_namesake, a_torn_line, a_long_torn_line,
    many_torn_lines, many_small_segments, a_segment_of_the_future, an_event_of_the_future, a_killed_replay,
    a_broken_index_set_aside, an_unfinished_copy, a_log_of_an_index_that_is_gone, no_index, a_broken_index,
    an_index_of_another_version, an_index_from_elsewhere, an_index_that_is_behind, a_lost_segment, a_cut_segment,
    quarantined_lines, values_that_do_not_fit, an_alarm, an_old_alarm, lost_events, a_run_id_used_twice,
    a_run_id_used_twice_long_ago, open_to_all,
]  # fmt: skip
AS_ROOT = [
    foreign_files, somebody_elses, emitted_by_the_superuser, indexed_by_the_superuser, a_type_closed_to_its_owner,
    a_type_that_cannot_be_written,
]  # fmt: skip
DISASTERS = [*WITHOUT_RIGHTS, *(pytest.param(each, marks=needs_root) for each in AS_ROOT)]
