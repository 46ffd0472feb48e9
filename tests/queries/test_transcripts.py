"""The views over imported transcripts: values, against known totals and against real files."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.importers.claude_code import SOURCE, ClaudeCode
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.positions import FILE_NAME
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from fixtures import transcripts
from tests.conftest import PROJECT

TOKENS = (
    "uncached_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
)
PER_MODEL = f"SELECT model, count(*), {', '.join(f'sum({name})::BIGINT' for name in TOKENS)} FROM llm_calls GROUP BY 1"


def import_all(root: Path, paths: list[Path], workspace: str | None = None) -> None:
    with importing(Config(root=str(root), strict=True), ClaudeCode(workspace=workspace)) as importer:
        for path in paths:
            importer.run(path)


def per_model(store: ReadStore) -> dict[str, tuple[int, ...]]:
    return {row[0]: tuple(row[1:]) for row in store.sql(PER_MODEL).rows}


@pytest.fixture
def store(root: Path) -> ReadStore:
    import_all(root, SOURCE.find([transcripts.FOLDER]))
    Indexer(root).catch_up()
    return ReadStore(root)


def test_each_workspace_has_its_own_calls(root: Path) -> None:
    """A transcript that two workspaces imported is twice what it is, all together and one by one."""
    for workspace in ("a", "b", None):
        import_all(root, SOURCE.find([transcripts.FOLDER]), workspace)
    Indexer(root).catch_up()
    whole = ReadStore(root)
    assert per_model(whole) == {model: tuple(3 * each for each in of) for model, of in transcripts.TOTALS.items()}
    for workspace in ("a", "b"):
        assert per_model(ReadStore(root, workspace=workspace)) == transcripts.TOTALS
    count = "SELECT count(*), count(finished) FROM tool_calls"
    ((calls, finished),) = ReadStore(root, workspace="a").sql(count).rows
    assert whole.sql(count).rows == [(3 * calls, 3 * finished)]


def test_tokens_are_counted_once_per_call(store: ReadStore) -> None:
    """Across lines, across files, in subagents, at the largest usage; no synthetic model."""
    assert per_model(store) == transcripts.TOTALS


def test_a_call_has_its_session_its_times_and_its_subagent(store: ReadStore) -> None:
    """The first line's time; the session of the line with the largest usage."""
    rows = store.sql(
        "SELECT message_id, request_id, subagent_id, strftime(timestamp, '%H:%M:%S'), service_tier "
        "FROM llm_calls ORDER BY timestamp, 1"
    ).rows
    assert rows == [
        ("msg_1", "req_1", None, "10:00:02", "standard"),
        ("msg_sub", "req_sub", "a1", "10:00:07", "standard"),
        ("msg_2", "req_2", None, "10:00:14", "standard"),
        ("msg_f", "req_f", None, "10:01:10", "standard"),
        ("msg_g", None, None, "10:01:31", None),
    ]


def test_tool_calls_are_joined_with_their_results(store: ReadStore) -> None:
    """With duration, and whether it went well; a call that two files repeat is one."""
    rows = store.sql(
        "SELECT tool, count(*), count(*) FILTER (NOT ok), max(duration_ms) FROM tool_calls GROUP BY 1"
    ).rows
    assert {row[0]: tuple(row[1:]) for row in rows} == transcripts.TOOLS
    assert store.sql("SELECT input ->> 'command', output ->> '$' FROM tool_calls WHERE tool = 'Bash'").rows == [
        ("make", "make: *** [all] Error 2")
    ]


def test_sessions(store: ReadStore) -> None:
    """Lines without a time do not stretch a session to 1970; lines that a fork copied are in the original alone."""
    rows = store.sql(
        "SELECT session_id, duration_s, events, tool_calls, tool_failures, project, summary FROM sessions ORDER BY 1"
    ).rows
    assert rows == [
        ("fork", 0, 1, 0, 0, "/home/ada/engine", None),
        ("glued", 2, 3, 0, 0, "/home/ada/engine", None),
        ("main", 16, 14, 3, 1, "/home/ada/engine", "Teach the engine to count"),
    ]


def test_messages_are_what_was_said(root: Path) -> None:
    """Texts of users and models, also of a session that lies in two files; what a fork repeats is said once."""
    import_all(root, SOURCE.find([transcripts.FOLDER]))
    copy = root / "a-copy.jsonl"
    copy.write_text(transcripts.files()["main.jsonl"].replace("\n", "\n\n"))
    import_all(root, [copy])
    Indexer(root).catch_up()
    rows = (
        ReadStore(root)
        .sql(
            "SELECT session_id, role, kind, model, text, strftime(timestamp, '%H:%M:%S') FROM messages "
            "WHERE source = 'claude_code' ORDER BY session_id, timestamp"
        )
        .rows
    )
    asked, looked = "Make it count. Résumé: naïve façade ☃", "I shall look."
    assert rows == [
        ("fork", "assistant", "text", transcripts.OPUS, "Another way.", "10:01:10"),
        ("glued", "user", "text", None, "two on one line: }{", "10:01:30"),
        ("glued", "assistant", "text", transcripts.OPUS, "}{ indeed", "10:01:31"),
        ("main", "user", "text", None, asked, "10:00:01"),
        ("main", "assistant", "thinking", transcripts.OPUS, "Hm.", "10:00:02"),
        ("main", "assistant", "text", transcripts.OPUS, looked, "10:00:03"),
        ("main", "assistant", "note", "<synthetic>", "API Error", "10:00:15"),
    ]


def test_unreadable_lines_are_in_quarantine(store: ReadStore) -> None:
    """As they stood in the file."""
    rows = store.sql("SELECT decode(raw), reason FROM quarantine ORDER BY length DESC").rows
    assert [row[0] for row in rows] == [
        '{"type":"user","sessionId":"glued","message":{"role":"user","cont',
        '"massive error"',
        "42",
    ]
    assert rows[1][1] == "import: not a JSON object"


def test_following_a_session_while_it_is_written(root: Path, tmp_path: Path) -> None:
    """New lines show up in the index."""
    folder = tmp_path / "projects"
    folder.mkdir()
    lines = transcripts.files()["main.jsonl"].splitlines()
    path = folder / "main.jsonl"
    path.write_text("\n".join(lines[:3]))
    environment = {**os.environ, "EVENTLOG_DIR": str(root)}
    command = [sys.executable, "-m", "eventlog"]
    processes = [
        subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for arguments in (["index", "--watch"], ["import", "claude-code", str(folder), "--follow"])
    ]
    try:
        _wait_for_events(root, 3)
        with path.open("a") as file:
            for each in lines[3:]:
                file.write("\n" + each)
                file.flush()
        _wait_for_events(root, len(lines))
        (folder / "fork.jsonl").write_text(transcripts.files()["fork.jsonl"])
        _wait_for_events(root, len(lines) + 1)  # four of its lines are copies
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(20) for process in processes] == [0, 0]


def _wait_for_events(root: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    found = -1
    while found != count:
        assert time.monotonic() < deadline, f"{found} events, not {count}"
        time.sleep(0.05)
        if (root / "index.duckdb").exists():
            counts = ReadStore(root).counts(["claude_code"])
            found = counts[0].events if counts else 0


# -- real files ------------------------------------------------------------------------------


def naive_totals(paths: list[Path]) -> dict[str, tuple[int, ...]]:
    """Count tokens by hand: a dictionary over the raw files, and nothing of eventlog."""
    usages: dict[tuple[str, str | None], dict[str, Any]] = {}
    models: dict[tuple[str, str | None], str] = {}

    def total(usage: dict[str, Any]) -> int:
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
        return sum(usage.get(name) or 0 for name in names)

    def look(message: dict[str, Any], request: str | None) -> None:
        if message["model"] == "<synthetic>":
            return
        key, usage = (message["id"], request), message.get("usage") or {}
        models[key] = message["model"]
        if key not in usages or total(usage) > total(usages[key]):
            usages[key] = usage

    for path in paths:
        for text in path.read_text(encoding="utf-8").split("\n"):
            position = 0
            while position < len(text.rstrip()):
                try:
                    line, position = json.JSONDecoder().raw_decode(text, position)
                except ValueError:
                    break
                if not isinstance(line, dict):
                    continue
                if line.get("type") == "assistant":
                    look(line["message"], line.get("requestId"))
                data = line.get("data") or {}
                if line.get("type") == "progress" and data.get("type") == "agent_progress":
                    nested = data["message"]
                    if nested["type"] == "assistant":
                        look(nested["message"], nested.get("requestId"))
    totals: dict[str, list[int]] = defaultdict(lambda: [0] * 6)
    for key, usage in usages.items():
        row, written = totals[models[key]], usage.get("cache_creation") or {}
        long = written.get("ephemeral_1h_input_tokens") or 0
        short = written.get("ephemeral_5m_input_tokens")
        row[0] += 1
        row[1] += usage.get("input_tokens") or 0
        row[2] += usage.get("cache_read_input_tokens") or 0
        row[3] += (usage.get("cache_creation_input_tokens") or 0) - long if short is None else short
        row[4] += long
        row[5] += usage.get("output_tokens") or 0
    return {model: tuple(row) for model, row in totals.items()}


_ODD: list[Any] = [
    None,
    "",
    "null",
    "[]",
    '"',
    "é\u2028\U0001f600",
    0,
    -1,
    2**70,
    1.5,
    True,
    [],
    ["x"],
    {},
    {"id": 1},
]


def test_what_is_kept_of_a_line_is_what_it_says(root: Path) -> None:
    """Whatever stands where a text or a number belongs."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for odd in _ODD:
        message = {"id": odd, "model": odd, "stop_reason": odd, "usage": odd}
        usage = {"input_tokens": odd, "service_tier": odd, "cache_creation": {"ephemeral_5m_input_tokens": odd}}
        for said in (message, {"model": "m", "usage": usage}, odd):
            line = {"type": "assistant", "message": said, "requestId": odd, "agentId": odd, "cwd": odd}
            recorder.emit("claude_code", line)
            progress = {"type": "agent_progress", "message": line}
            recorder.emit("claude_code", {"type": "progress", "cwd": odd, "data": progress})
        recorder.emit("claude_code", {"type": odd, "data": odd, "summary": odd})
    recorder.shutdown()
    Indexer(root).catch_up()
    store = ReadStore(root)
    calls = """
        SELECT event_id, message_id, request_id, model, project, stop_reason FROM llm_calls
    """
    said = """
        SELECT event_id, coalesce(m ->> 'id', event_id::VARCHAR), r, m ->> 'model', p, m ->> 'stop_reason'
        FROM (SELECT event_id, payload ->> 'cwd' AS p,
                     if(payload ->> 'type' = 'progress', payload -> '$.data.message.message',
                        payload -> 'message') AS m,
                     if(payload ->> 'type' = 'progress', payload ->> '$.data.message.requestId',
                        payload ->> 'requestId') AS r
              FROM events WHERE event_type = 'claude_code')
        WHERE m ->> 'model' IS NOT NULL
    """
    # Lines that share a message are one call, so only those count that are one.
    expected = {row[0]: row for row in store.sql(said).rows}
    found = store.sql(calls).rows
    assert len(found) > 2 * len(_ODD)
    assert [row for row in found if row != expected[row[0]]] == []


def test_a_type_of_that_name_of_somebodys_own_has_its_own_fields(root: Path) -> None:
    """What is kept of imported lines is none of them."""
    code = (
        "import msgspec, eventlog as obs\n"
        "@obs.event('claude_code')\nclass Mine(msgspec.Struct):\n    parts: str\n    n: int\n"
        f"obs.configure(root={str(root)!r}, strict=True)\nobs.emit(Mine(parts='hello', n=5))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=60, check=True)
    Indexer(root).catch_up()
    assert ReadStore(root).sql("SELECT parts, n FROM claude_code").rows == [("hello", 5)]


@pytest.mark.realdata
def test_token_totals_of_real_transcripts_equal_a_naive_count(root: Path, real_data: Path) -> None:
    """Per model and kind of token."""
    paths = SOURCE.find([real_data / "claude-code"])
    import_all(root, paths)
    Indexer(root).catch_up()
    expected = naive_totals(paths)
    assert per_model(ReadStore(root)) == expected
    assert sum(row[5] for row in expected.values()) > 100_000


def test_the_naive_count_agrees_on_the_fixtures() -> None:
    """So that the comparison above means something."""
    assert naive_totals(SOURCE.find([transcripts.FOLDER])) == transcripts.TOTALS


@pytest.mark.realdata
def test_importing_real_transcripts_twice_in_any_order_with_a_killed_indexer(tmp_path: Path, real_data: Path) -> None:
    """The content hash is the same as of one plain import."""
    paths = SOURCE.find([real_data / "claude-code"])
    import_all(tmp_path / "plain", paths)
    Indexer(tmp_path / "plain").catch_up()
    expected = ReadStore(tmp_path / "plain").digest()
    _import_under_fire(tmp_path / "fire", paths, seed=7)
    found = ReadStore(tmp_path / "fire").digest()
    assert (found.events, found.content, found.quarantined) == (expected.events, expected.content, expected.quarantined)
    assert replay.verify(tmp_path / "fire").equal


@pytest.mark.parametrize("seed", [1, 2])
def test_importing_twice_in_any_order_with_a_killed_indexer(tmp_path: Path, seed: int) -> None:
    """The same with small files, wherever the tests run."""
    paths = SOURCE.find([transcripts.FOLDER])
    import_all(tmp_path / "plain", paths)
    Indexer(tmp_path / "plain").catch_up()
    _import_under_fire(tmp_path / "fire", paths, seed=seed)
    assert ReadStore(tmp_path / "fire").digest().content == ReadStore(tmp_path / "plain").digest().content
    assert replay.verify(tmp_path / "fire").equal


def _import_under_fire(root: Path, paths: list[Path], *, seed: int) -> None:
    """Import everything twice, in a random order, forgetting the checkpoints in between, with an
    indexer that is killed at random moments."""
    random_ = random.Random(seed)
    for _ in range(2):
        shuffled = random_.sample(paths, len(paths))
        for start in range(0, len(paths), max(len(paths) // 3, 1)):
            process = subprocess.Popen(
                [sys.executable, "-m", "eventlog", "index", "--watch", "--root", str(root)], cwd=PROJECT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            for path in root.glob(FILE_NAME + "*"):  # so that all is appended again
                path.unlink()
            settings = Config(root=str(root), strict=True, segment_max_bytes=random_.choice([5000, 10**6]))
            no_checkpoints = mock.patch("eventlog.importers.checkpoints.read", return_value=[])
            with no_checkpoints, importing(settings, ClaudeCode()) as importer:
                for path in shuffled[start : start + max(len(paths) // 3, 1)]:
                    importer.run(path)
            time.sleep(random_.uniform(0.2, 0.8))
            process.kill()
            process.wait()
    Indexer(root).catch_up()


REAL_JSONL: dict[str, tuple[dict[str, Any], int]] = {
    "gharchive": ({"type_field": "type", "time_field": "created_at", "id_field": "id"}, 0),
    "windows-events": ({"type_": "windows_event", "time_field": "@timestamp"}, 0),
    "beads": ({"type_": "beads_interaction", "time_field": "created_at", "id_field": "id"}, 0),
    "zeek": ({"type_field": "@stream", "time_field": "ts"}, 0),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_JSONL)
def test_real_jsonl_is_imported_whole(root: Path, real_data: Path, name: str) -> None:
    """As many events as lines that differ; a second import adds nothing; the payload says the same."""
    options, rejected = REAL_JSONL[name]
    paths = sorted((real_data / name).glob("*.jsonl"))
    lines = [line for path in paths for line in path.read_bytes().splitlines() if line.strip()]
    for _ in range(2):
        with importing(Config(root=str(root), strict=True), Jsonl(**options)) as importer:
            for path in paths:
                importer.run(path)
    Indexer(root).catch_up()
    store = ReadStore(root)
    rows = store.sql("SELECT payload FROM events WHERE event_type NOT LIKE 'import_%'", row_limit=10**6).rows
    if "id_field" in options:
        ids = {json.loads(line)[options["id_field"]] for line in lines}
        assert len(rows) == len(ids)
    else:
        assert len(rows) == len(lines)
    assert store.state().quarantined == rejected
    assert {json.dumps(json.loads(row[0]), sort_keys=True) for row in rows} <= {
        json.dumps(json.loads(line), sort_keys=True) for line in lines
    }
    assert replay.verify(root).equal


def test_absurd_numbers_of_tokens_do_not_break_the_views(root: Path) -> None:
    """What is no count is not counted, and said; the other rows are there."""
    usage = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens"), 2**63 - 1)
    usage["cache_creation_input_tokens"] = -(2**63)
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for n in range(2):
        message = {"id": f"m{n}", "model": "m", "usage": usage | {"cache_creation": {"ephemeral_1h_input_tokens": 5}}}
        recorder.emit("claude_code", {"type": "assistant", "message": message}, session_id="s")
    recorder.shutdown()
    Indexer(root).catch_up()
    store = ReadStore(root)
    rows = store.sql("SELECT output_tokens, cache_write_1h_tokens, usage_problem FROM llm_calls").rows
    assert rows == [(0, 5, "input_tokens: a huge number")] * 2
    assert store.sql("SELECT llm_calls FROM sessions").rows == [(2,)]
