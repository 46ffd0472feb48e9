"""What imports rejected is listed by source and reason, and read again when its cause is gone: each event once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format.control import Role
from eventlog.importers import retry
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.retry import Retried
from eventlog.importers.sources import Format
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.replay import verify
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of
from tests.indexer.support import index, line, segment

AT = '"at":"2026-01-01T00:00:00Z"'
#: Of these, one is no JSON; the others have a time under another name than the import was told.
LINES = (f'{{"n":1,{AT}}}', f'{{"n":2,{AT}}}', f'{{"n":2,{AT}}}', "nonsense", '{"n":3}')


def take(root: Path, path: Path, format_: Format) -> None:
    with importing(Config(root=str(root), strict=True), format_) as importer:
        importer.run(path)


def again(root: Path, **options: Any) -> Retried:
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    try:
        return retry.retry(recorder, **options)
    finally:
        recorder.shutdown()
        Indexer(root).catch_up()


def with_time_field(key: str, workspace: str | None, agent: str | None) -> Format | None:
    return Jsonl.of_key(key, time_field="at")


@pytest.fixture
def rejected(root: Path, tmp_path: Path) -> Path:
    """A file of which an import has rejected all lines."""
    path = tmp_path / "app.jsonl"
    path.write_text("".join(f"{each}\n" for each in LINES))
    take(root, path, Jsonl(type_="app", time_field="ts", workspace="w", agent="a"))
    index(root)
    return path


def events(root: Path) -> list[tuple[Any, ...]]:
    columns = "event_id::VARCHAR, payload, timestamp, workspace, agent"
    return ReadStore(root).sql(f"SELECT {columns} FROM events WHERE event_type = 'app' ORDER BY ALL").rows


# -- again -----------------------------------------------------------------------------------


def test_events_come_out_as_an_import_would_have_made_them(root: Path, rejected: Path, tmp_path: Path) -> None:
    """The same rows, ids included; equal lines are as many events as there were lines."""
    done = again(root, format_of=with_time_field)
    assert (done.records, done.recovered, done.events, done.failed) == (5, 3, 3, 2)
    assert sorted(done.reasons) == [
        "not JSON: JSON is malformed: invalid character (byte 1)", "there is no time field 'at'",
    ]  # fmt: skip
    other = tmp_path / "other"
    take(other, rejected, Jsonl(type_="app", time_field="at", workspace="w", agent="a"))
    index(other)
    assert len(events(root)) == 3
    assert events(root) == events(other)
    assert [group.lines for group in ReadStore(root).quarantine()] == [1, 1]
    assert verify(root).equal


def test_a_second_time_adds_nothing(root: Path, rejected: Path) -> None:
    """Neither to the rows nor to the log; and what cannot be read stays, however often it is tried."""
    again(root, format_of=with_time_field)
    logged = lines_of(root, "app")
    for _ in range(2):
        done = again(root, format_of=with_time_field)
        assert (done.records, done.recovered, done.failed) == (2, 0, 2)
    assert lines_of(root, "app") == logged
    assert len(events(root)) == 3
    assert sum(group.lines for group in ReadStore(root).quarantine()) == 2


def test_a_crash_before_it_is_said_costs_nothing(root: Path, rejected: Path) -> None:
    """The events come once more, as the same rows."""
    again(root, format_of=with_time_field)
    for path in (root / "log" / "import_recovered").iterdir():
        path.unlink()
    assert again(root, format_of=with_time_field).recovered == 3
    assert len(events(root)) == 3


def test_after_an_upgrade_the_same_options_do(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that refused a time, and one that reads it; of any importer whose key is known."""
    path = tmp_path / "app.jsonl"
    path.write_text(f"{LINES[0]}\n")
    with monkeypatch.context() as older:
        older.setattr(Jsonl, "envelopes", _refuse)
        take(root, path, Jsonl(type_="app", time_field="at"))
    transcript = tmp_path / "s.jsonl"
    transcript.write_text('{"type":"user","sessionId":"s","uuid":"00000000-aaaa-4aaa-8aaa-000000000001"}\n')
    with monkeypatch.context() as older:
        older.setattr(ClaudeCode, "envelopes", _refuse)
        take(root, transcript, ClaudeCode(workspace="w"))
    done = again(root)
    assert (done.records, done.recovered, done.events) == (2, 2, 2)
    rows = (
        ReadStore(root).sql("SELECT event_type, workspace FROM events WHERE event_type IN ('app', 'claude_code')").rows
    )
    assert sorted(rows) == [("app", None), ("claude_code", "w")]
    assert ReadStore(root).quarantine() == []


def _refuse(*_: object) -> list[Any]:
    raise ValueError("this version cannot read it")


def of_another_program(root: Path) -> None:
    payload = {"importer": "gone v=1", "source": "x", "reason": "r", "raw": "{}"}
    segment(
        root, line(1, "import_rejected", payload=payload), line(2, "import_rejected", payload={"odd": True}),
        event_type="import_rejected",
    )  # fmt: skip


def too_long(root: Path) -> None:
    key = Jsonl(type_="app").key
    raw = base64.b64encode(b"x" * 65536).decode()
    payload = {"importer": key, "source": "x", "reason": "too long", "length": 99_999_999, "raw_base64": raw}
    segment(root, line(1, "import_rejected", payload=payload), event_type="import_rejected")


def forged(root: Path) -> None:
    """The id is not that of these bytes: nobody knows which of equal lines it was."""
    payload = {"importer": Jsonl(type_="app").key, "source": "x", "reason": "r", "raw": "{}"}
    segment(root, line(1, "import_rejected", payload=payload), event_type="import_rejected")


ODD: dict[str, tuple[Callable[[Path], None], dict[str, int]]] = {
    "of an importer that is not here": (of_another_program, {"records": 1, "unknown": 1}),
    "of which the log has the beginning": (too_long, {"records": 1, "cut": 1}),
    "whose id is another": (forged, {"records": 1, "cut": 1}),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_read_again_is_counted(root: Path, name: str) -> None:
    """And nothing is written."""
    write, expected = ODD[name]
    write(root)
    done = again(root)
    assert {field: getattr(done, field) for field in ("records", "unknown", "cut") if getattr(done, field)} == expected
    assert done.recovered == done.failed == 0
    assert not (root / "log" / "import_recovered").exists()


@pytest.mark.parametrize(
    "key",
    ["", "jsonl ", "jsonl []", "jsonl [1,2]", 'jsonl ["a"]', "jsonl [null,null]", "claude_code", "codex x", "\x00"],
)
def test_a_key_that_is_none_has_no_format(key: str) -> None:
    """Whatever stands there."""
    assert retry.known_format(key, None, None) is None


@pytest.mark.parametrize(
    "options",
    [
        {"type_": "t"},
        {"type_": "t", "unwrap": "log"},
        {"type_": "t", "unwrap": "log", "fields": {"run_id": "trace.id"}, "records": "Records"},
        {"type_": "t", "time_field": "t", "time_zone": "Asia/Tokyo"},
        {"type_field": "k", "time_field": "a.b", "id_field": "i", "source": "s", "workspace": "w"},
    ],
)
def test_a_key_holds_all_options(options: dict[str, Any]) -> None:
    """So a format can be made of it."""
    made = Jsonl(**options)
    found = retry.known_format(made.key, made.workspace, made.agent)
    assert found is not None
    assert found.key == made.key


# -- the list --------------------------------------------------------------------------------


def test_groups_have_counts_and_places(root: Path, rejected: Path) -> None:
    """Of imports, of lines that are no events, and of conflicts; the numbers in reasons do not count."""
    at = lines_of(root, "import_rejected")
    bad = segment(root, line(1, "note"), b'{"a": 1\n', b"\xff\n", b"abc \xff\n", event_type="note")
    segment(root, line(1, "note", payload={"other": 1}), event_type="note")
    index(root)
    found = ReadStore(root).quarantine()
    by = {(group.kind, group.source, group.lines) for group in found}
    assert by == {
        ("import", str(rejected), 4), ("import", str(rejected), 1), ("line", "note", 2), ("line", "note", 1),
        ("conflict", "note", 1),
    }  # fmt: skip
    largest = found[0]
    assert largest.reason == "import: there is no time field 'ts'"
    assert (largest.first_offset, largest.last_offset) == (0, sum(len(each) + 1 for each in at[:-1]))
    utf8 = next(group for group in found if group.lines == 2)
    assert utf8.first_segment == utf8.last_segment == bad.name.removesuffix(".jsonl")
    assert utf8.reason.startswith("not UTF-8")


def test_a_workspace_sees_its_own(root: Path, rejected: Path) -> None:
    """What was imported for it, and no line of which nobody knows whose it is."""
    segment(root, b"nonsense\n", event_type="note")
    index(root)
    assert sum(group.lines for group in ReadStore(root).quarantine()) == 6
    assert sum(group.lines for group in ReadStore(root, workspace="w").quarantine()) == 5
    assert ReadStore(root, workspace="x").quarantine() == []
    again(root, format_of=with_time_field)
    assert sum(group.lines for group in ReadStore(root, workspace="w").quarantine()) == 2


def test_a_limit_is_one(root: Path, rejected: Path) -> None:
    """Of 1 to 10,000."""
    assert len(ReadStore(root).quarantine(limit=1)) == 1
    with pytest.raises(QueryFailed, match=r"^limit 0 is out of range: 1 to 10,000"):
        ReadStore(root).quarantine(limit=0)


# -- commands --------------------------------------------------------------------------------


def test_the_commands(root: Path, rejected: Path, run: Run) -> None:
    """List, retry, list; with what to say where nothing came out, and where nothing waits."""
    listed = run("quarantine", "list").stdout.splitlines()
    assert listed[0].split() == ["lines", "kind", "source", "reason", "first", "last"]
    assert listed[1].split()[:3] == ["4", "import", str(rejected)]
    nothing = run("quarantine", "retry")
    assert nothing.returncode == 1
    assert nothing.stdout.splitlines() == [
        "5 rejected records: 0 recovered, 0 new events",
        "5 rejected again:",
        "  4: there is no time field 'ts'",
        "  1: not JSON: JSON is malformed: invalid character (byte 1)",
    ]
    assert json.loads(run("quarantine", "retry", "--of", "elsewhere", "--json").stdout)["records"] == 0
    done = run("quarantine", "retry", "--time-field", "at", "--of", str(rejected))
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0, "5 rejected records: 3 recovered, 3 new events",
    )  # fmt: skip
    run("index")
    assert [group["lines"] for group in json.loads(run("quarantine", "list", "--json").stdout)] == [1, 1]
    both = run("quarantine", "retry", "--type", "a", "--type-field", "b")
    assert (both.returncode, both.stdout) == (2, "")


def test_an_empty_quarantine(root: Path, run: Run) -> None:
    """Says so."""
    run("emit", "t", "{}")
    run("index")
    done = run("quarantine", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no line is in quarantine\n")
    assert run("quarantine", "retry").stdout == "nothing that an import rejected is waiting\n"


def test_another_type_replaces_the_field_of_the_type(root: Path, rejected: Path, run: Run) -> None:
    """Options that exclude each other may be exchanged."""
    run("quarantine", "retry", "--type-field", "kind", "--time-field", "at")
    done = run("quarantine", "retry", "--type", "other", "--time-field", "at")
    assert done.stdout.startswith("5 rejected records: 3 recovered")
    assert len(lines_of(root, "other")) == 3
