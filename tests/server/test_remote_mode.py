"""Mode `remote`: the local log is the buffer, and a thread sends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog as obs
from eventlog.config import Config, Mode
from eventlog.errors import ConfigError
from eventlog.log import layout
from eventlog.record.recorder import Recorder
from eventlog.ship import sender
from tests.conftest import Run, lines_of
from tests.indexer.support import index, rows
from tests.server.running import Running, serving


def _ids(root: Path, *event_types: str) -> set[str]:
    return {msgspec.json.decode(line)["event_id"] for name in event_types for line in lines_of(root, name)}


def _until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _remote(root: Path, server: Running, **settings: Any) -> None:
    obs.configure(root=root, mode="remote", url=server.url, key=server.key, **settings)


def test_what_is_emitted_arrives_with_its_id(root: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "hub") as server:
        _remote(root, server, workspace="w", agent="a")
        with obs.run("nightly"):
            ids = {obs.emit("note", {"n": n}) for n in range(5)}
        obs.shutdown()
        assert _ids(server.root, "note") == ids == _ids(root, "note")
        assert _ids(server.root, "run_started", "run_finished") == _ids(root, "run_started", "run_finished")
        assert obs.stats().sent == 7
    index(root)
    index(server.root)
    query = (
        "SELECT * EXCLUDE (segment, line_offset, line_length) FROM events "
        "WHERE event_type NOT IN ('event_schema', 'api_key_created') ORDER BY ALL"
    )
    assert rows(server.root, query) == rows(root, query)


def test_a_server_that_is_down_costs_nothing_but_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was emitted meanwhile, and by a process that has ended, is sent later, once."""
    monkeypatch.setattr(sender, "_DELAY_MAX_S", 0.5)
    with serving(tmp_path / "hub") as first:
        _remote(root, first)
        port = int(first.url.rsplit(":", 1)[1])
        before = obs.emit("note", {"n": 0})
        _until(lambda: _ids(first.root, "note") == {before})
    began = time.monotonic()
    during = {obs.emit("note", {"n": n}) for n in range(1, 200)}
    assert time.monotonic() - began < 2
    _until(lambda: obs.stats().background_errors > 0)
    obs.shutdown()
    assert time.monotonic() - began < 10
    with serving(tmp_path / "hub", port=port) as second:
        obs.configure(root=root, mode="remote", url=second.url, key=first.key)
        after = obs.emit("note", {"n": 200})
        _until(lambda: _ids(second.root, "note") == {before, after} | during)
        obs.shutdown()
        assert len(lines_of(second.root, "note")) == 201


def test_what_was_recorded_before_is_sent_as_well(root: Path, server: Running) -> None:
    """A root that was used without a server."""
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096))
    ids = {recorder.emit("earlier", {"n": n, "pad": "x" * 100}) for n in range(1500)}
    recorder.shutdown()
    assert len(layout.list_log(root).segments) > 20
    _remote(root, server)
    obs.emit("later")
    _until(lambda: _ids(server.root, "earlier") == ids)
    obs.shutdown()
    assert len(lines_of(server.root, "earlier")) == 1500


def test_large_fields_arrive_whole(root: Path, server: Running) -> None:
    """They are in blobs here, and in blobs there."""
    _remote(root, server)
    text = "".join(chr(65 + n % 26) for n in range(200_000))
    payload = {"text": text, "lookalike": {"$blob": {"x": 1}}}
    event_id = obs.emit("large", payload)
    obs.shutdown()
    (line,) = lines_of(server.root, "large")
    assert len(line) < 10_000
    from eventlog.log import blobs

    event = msgspec.json.decode(line)
    whole = blobs.resolve(server.root, msgspec.json.encode(event["payload"]), event.get("workspace"))
    assert (event["event_id"], msgspec.json.decode(whole)) == (event_id, payload)


def test_what_the_server_never_takes_does_not_hold_up_the_rest(
    root: Path, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    key = server.make_key("ingest", workspace="theirs")
    time.sleep(1)
    obs.configure(root=root, mode="remote", url=server.url, key=key)
    obs.emit("mixed", {"n": 1}, workspace="ours")
    good = obs.emit("mixed", {"n": 2})
    obs.shutdown()
    assert _ids(server.root, "mixed") == {good}
    stats = obs.stats()
    assert (stats.sent, stats.refused_by_server) == (1, 1)
    assert "has refused 1 events, which stay in the local log: the event names another workspace" in caplog.text


def test_an_event_that_is_too_large_for_the_server(root: Path, tmp_path: Path) -> None:
    """Batches become smaller until it is alone; then it stays here, and the others are there."""
    with serving(tmp_path / "hub", settings="[server]\nbody_max_bytes = 20000\n") as server:
        _remote(root, server)
        ids = [obs.emit("sized", {"pad": "x" * (30_000 if n == 50 else 300)}) for n in range(100)]
        _until(lambda: len(_ids(server.root, "sized")) == 99)
        obs.shutdown()
        assert _ids(server.root, "sized") == set(ids) - {ids[50]}
        assert obs.stats().refused_by_server == 1


def test_control_events_stay_here(root: Path, server: Running) -> None:
    obs.configure(root=root, mode="remote", url=server.url, key=server.key, operator=True)
    obs.emit("price_set", {"model": "m", "input_usd_per_mtok": "1"})
    obs.emit("beside.control")
    obs.shutdown()
    assert _ids(server.root, "beside.control")
    assert not lines_of(server.root, "price_set")


def test_two_processes_on_one_root(root: Path, server: Running) -> None:
    """One sends for both; a child of a fork is sent by its parent."""
    script = """
import os, sys, time, eventlog as obs
obs.configure(root=sys.argv[1], mode="remote", url=sys.argv[2], key=sys.argv[3])
for n in range(50):
    print(obs.emit("crew", {"n": n}), flush=True)
    if n == 25:
        if os.fork() == 0:
            print(obs.emit("crew", {"n": -1}), flush=True)
            os._exit(0)
        os.wait()
    time.sleep(0.01)
obs.shutdown()
"""
    command = [sys.executable, "-c", script, str(root), server.url, server.key]
    crew = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    ids = {each for process in crew for each in process.communicate(timeout=60)[0].decode().split()}
    assert len(ids) == 153
    _remote(root, server)
    obs.emit("last.of_the_crew")
    _until(lambda: _ids(server.root, "crew") == ids)
    assert len(lines_of(server.root, "crew")) == len(ids)


@pytest.mark.parametrize("state", ["gone", "rubbish", "a folder", "of another server"])
def test_what_was_sent_is_sent_again_with_the_same_ids(state: str, root: Path, server: Running, tmp_path: Path) -> None:
    """Where nobody knows how far it was; or not at all, where nothing can be kept. No row is there twice."""
    event_type = "again." + state.rsplit(maxsplit=1)[-1]
    _remote(root, server)
    ids = {obs.emit(event_type, {"n": n}) for n in range(3)}
    obs.shutdown()
    file = root / "sending.json"
    if state == "of another server":
        file.write_text(json.dumps({"servers": {"http://other": {}}}))
    elif state == "rubbish":
        file.write_bytes(b'{"servers": {"a": "\xff')
    else:
        file.unlink()
        if state == "a folder":
            file.mkdir()
    _remote(root, server)
    ids.add(obs.emit(event_type, {"n": 3}))
    obs.shutdown()
    assert _ids(server.root, event_type) <= ids
    if state != "a folder":
        assert _ids(server.root, event_type) == ids
    assert None not in ids


def test_mode_remote_needs_a_url(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Told where it is set in code; an agent that is configured by its surroundings goes on, and writes its log."""
    with pytest.raises(ConfigError, match="needs the url of a server"):
        obs.configure(root=root, mode="remote")
    from eventlog.record import api

    monkeypatch.setattr(api, "_recorder", None)
    monkeypatch.setenv("EVENTLOG_MODE", Mode.REMOTE.value)
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    assert obs.emit("note") is not None
    assert "needs the url of a server" in caplog.text


def test_a_black_hole_keeps_no_program_from_ending(root: Path) -> None:
    """A server that takes the connection and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        script = (
            "import sys, eventlog as obs; obs.configure(root=sys.argv[1], mode='remote', url=sys.argv[2]); "
            "obs.emit('t')"
        )
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", script, str(root), url], check=True, timeout=30, env=dict(os.environ))
        assert time.monotonic() - began < 8
    assert len(lines_of(root, "t")) == 1


def test_the_command_sends_what_it_has_emitted(root: Path, server: Running, run: Run) -> None:
    """And prints the id also where the server is away."""
    done = run(
        "emit", "by.command", '{"n": 1}', EVENTLOG_MODE="remote", EVENTLOG_URL=server.url, EVENTLOG_KEY=server.key
    )
    assert _ids(server.root, "by.command") == {done.stdout.strip()}
    away = {"EVENTLOG_MODE": "remote", "EVENTLOG_URL": "http://127.0.0.1:1"}
    done = run("emit", "by.command", "-", stdin='{"n": 2}\n{"n": 3}\n', **away)
    assert (done.returncode, len(done.stdout.split())) == (0, 2)
    assert "events are not sent; they are in the local log" in done.stderr


def test_hooks_that_post_to_the_server(server: Running, run: Run) -> None:
    """Written only where a server of ours answers, and takes the key; another installation's hooks are replaced."""
    path = Path.home() / ".claude/settings.json"
    assert run("hooks", "install", "claude-code").returncode == 0
    wrong = run("hooks", "install", "claude-code", "--server", server.url, EVENTLOG_KEY="evk_00000000_wrong")
    away = run("hooks", "install", "claude-code", "--server", "http://127.0.0.1:1")
    assert (wrong.returncode, away.returncode) == (2, 2)
    assert "does not take the key" in wrong.stderr
    assert "does not answer" in away.stderr
    done = run("hooks", "install", "claude-code", "--server", server.url, EVENTLOG_KEY=server.key)
    assert done.returncode == 0
    settings = path.read_text()
    assert server.key not in settings
    (group,) = msgspec.json.decode(settings)["hooks"]["PreToolUse"]
    (hook,) = group["hooks"]
    assert (hook["type"], hook["url"]) == ("http", f"{server.url}/v1/hooks/claude-code")
    assert hook["headers"] == {"Authorization": "Bearer $EVENTLOG_KEY"}
    assert hook["allowedEnvVars"] == ["EVENTLOG_KEY"]
    assert run("hooks", "install", "claude-code", "--server", server.url).stdout.startswith("the hooks are in")
    assert run("hooks", "uninstall", "claude-code").returncode == 0
    assert not path.exists()
