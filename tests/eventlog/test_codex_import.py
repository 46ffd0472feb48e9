"""Codex rollouts become events: where they lie, whose lines they are, once each, whatever is written in them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from eventlog.cli.main import run as command
from eventlog.errors import ImportFailed
from eventlog.importers.codex import SOURCE, Codex, default_folders
from eventlog.log.reader import read_events
from tests.codex_lines import CHILD, PARENT, TURN, Line, count, event, item, meta, turn, usage, write

LINES = [meta(), turn(), count("10:00:02", usage(100, 10))]
NAME = f"rollout-2026-06-17T10-00-00-{PARENT}.jsonl"


def sessions(root: Path) -> list[str | None]:
    return [event.session_id for _, event in read_events(root, "codex")]


def imported(root: Path, *arguments: str | Path) -> int:
    return command(["import", "codex", *map(str, arguments), "--root", str(root)])


def test_each_line_is_an_event_with_its_session_and_turn(root: Path, tmp_path: Path) -> None:
    """Verbatim; the session is that of the first line, also where a fork goes on with the first line of its parent."""
    odd = {"timestamp": "soon", "type": "event_msg", "payload": {"type": "x", "turn_id": 7, "extra": [1.50]}}
    done = item("10:00:03", "function_call", call_id="c", metadata={"turn_id": TURN})
    lines = [meta(CHILD, forked_from_id=PARENT), *LINES, odd, {"no": "payload"}, done]
    assert imported(root, write(tmp_path / "a.jsonl", lines)) == 0
    events = [each for _, each in read_events(root, "codex")]
    assert [json.loads(bytes(each.payload)) for each in events] == lines
    assert {each.session_id for each in events} == {CHILD}
    assert [each.request_id for each in events] == [None, None, TURN, None, None, None, TURN]
    assert [each.timestamp for each in events][3:5] == ["2026-06-17T10:00:02.000000Z", "1970-01-01T00:00:00.000000Z"]


@pytest.mark.parametrize(
    ("name", "lines", "session"),
    [
        ("a.jsonl", LINES, PARENT),
        (NAME, LINES[1:], PARENT),
        (NAME, [{"type": "session_meta", "payload": {"id": None}}], PARENT),
        (f"rollout-2026-06-17T10-00-00-{CHILD}.jsonl", LINES, PARENT),
        ("a.jsonl", LINES[1:], "a"),
        ("a.jsonl", [{"id": "x"}], "a"),
    ],
)
def test_the_session_of_a_file(root: Path, tmp_path: Path, name: str, lines: list[Line], session: str) -> None:
    """By its first line, else by its name."""
    assert imported(root, write(tmp_path / name, lines)) == 0
    assert set(sessions(root)) == {session}


def test_without_a_path_all_rollouts_are_imported(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those in use and the archived ones, of CODEX_HOME, else of ~/.codex; other files there are none."""
    assert imported(root) == 1
    assert capsys.readouterr().err == (
        f"error: there is no {Path.home()}/.codex/sessions or {Path.home()}/.codex/archived_sessions; "
        "name a rollout or a folder of them\n"
    )
    write(Path.home() / ".codex/archived_sessions" / NAME, LINES)
    assert imported(root) == 0
    assert sessions(root) == [PARENT] * 3
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "other"))
    assert default_folders() == [tmp_path / "other/sessions", tmp_path / "other/archived_sessions"]
    write(tmp_path / "other/sessions/2026/06/18/rollout-x.jsonl", [meta(CHILD)])
    write(tmp_path / "other/history.jsonl", [{"session_id": CHILD, "ts": 1, "text": "yes"}])
    assert imported(root) == 0
    assert imported(root, tmp_path / "other") == 0
    assert set(sessions(root)) == {PARENT, CHILD}


def test_an_archived_copy_of_a_rollout_in_use_is_left_out(root: Path, tmp_path: Path) -> None:
    """The one in use has gone on. The same line from both places is one event, by its id."""
    active = write(tmp_path / "sessions/2026/06/17" / NAME, LINES)
    archived = write(tmp_path / "archived_sessions" / NAME, [*LINES[:2], event("10:00:09", "of_the_copy")])
    packed = tmp_path / "archived_sessions" / f"{NAME}.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(archived.read_bytes()))
    alone = write(tmp_path / "archived_sessions" / "rollout-b.jsonl", [meta(CHILD)])
    assert SOURCE.find([tmp_path]) == [alone, active]
    assert imported(root, tmp_path) == 0
    assert imported(root, tmp_path / "archived_sessions") == 0
    by_id = {each.event_id: bytes(each.payload) for _, each in read_events(root, "codex")}
    assert len(by_id) == len(LINES) + 1 + 1
    with pytest.raises(ImportFailed, match="does not exist; name a rollout"):
        SOURCE.find([tmp_path / "nowhere"])


def test_compressed_and_torn_files(root: Path, tmp_path: Path) -> None:
    """They give the same events as the plain file; a line that is not finished is left for later."""
    plain = write(tmp_path / "a" / NAME, LINES)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"{NAME}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "b" / f"{CHILD}.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    with plain.open("a") as file:
        file.write('{"timestamp":"2026-06-17T10:00:05.000Z","type":"event_ms')
    assert imported(root, tmp_path) == 0
    assert len({each.event_id for _, each in read_events(root, "codex")}) == len(LINES)
    assert set(sessions(root)) == {PARENT}


def test_options_change_the_events_and_names_cannot_be_confused() -> None:
    """Two sets of options have two keys."""
    keys = {
        Codex(workspace=workspace, agent=agent).key for workspace in (None, "a", 'a"') for agent in (None, "a", "b")
    }
    assert len(keys) == 9


def test_rollouts_are_refused_by_other_sources_and_others_by_codex(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, with the command to try."""
    rollout = write(tmp_path / "codex/a.jsonl", LINES)
    transcript = write(tmp_path / "claude/b.jsonl", [{"type": "user", "uuid": "u", "sessionId": "s", "message": {}}])
    assert command(["import", "claude-code", str(rollout.parent), "--root", str(root)]) == 1
    assert capsys.readouterr().err == (
        f"error: nothing was imported; {rollout}: this looks like Codex; "
        f"try: eventlog import codex --root {root} {rollout.parent}\n"
    )
    assert imported(root, transcript) == 1
    assert capsys.readouterr().err == (
        f"error: nothing was imported; {transcript}: this looks like Claude Code; "
        f"try: eventlog import claude-code --root {root} {transcript}\n"
    )
    assert imported(root, tmp_path) == 0
    assert sessions(root) == [PARENT] * 3
