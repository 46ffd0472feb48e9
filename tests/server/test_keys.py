"""API keys: who may do what, from when, and until when."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from eventlog.errors import QueryFailed
from eventlog.format.keys import KEY_EVENTS, SCOPES
from eventlog.indexer import retention
from eventlog.server import keys
from eventlog.server.keys import KeyRing
from tests.conftest import Run, lines_of
from tests.server.running import Running

_IN_FORCE_S = 1.0


def _until(condition: Callable[[], bool], seconds: float = _IN_FORCE_S) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_the_command_line(root: Path, run: Run) -> None:
    """The key alone is the last line; nobody can show it again."""
    made = run(
        "keys", "create", "--workspace", "team", "--scopes", "ingest,read", "--expires", "90d", "--note", "for ci"
    )
    key = made.stdout
    assert made.returncode == 0
    assert made.stdout.count("\n") == 1
    assert key.startswith("evk_")
    listed = run("keys", "list").stdout
    assert "active" in listed
    assert "workspace team" in listed
    assert "for ci" in listed
    (state,) = msgspec.json.decode(run("keys", "list", "--json").stdout)
    assert key.strip() not in str(state) + listed
    again = run("keys", "rotate", state["key_id"][:4]).stdout
    assert again != key
    assert [each.state for each in keys.list_keys(root)] == ["revoked", "active"]
    assert run("keys", "revoke", keys.list_keys(root)[1].key_id).stdout.startswith("revoked ")
    assert not len(KeyRing(root))
    assert run("keys", "rotate", state["key_id"]).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--scopes", "write"), ("create", "--scopes", ""), ("create", "--expires", "soon"),
        ("create", "--events-per-s", "0"), ("revoke", "abc"), ("revoke", ""), ("rotate", "abc"),
    ],
)  # fmt: skip
def test_mistakes(arguments: tuple[str, ...], run: Run) -> None:
    done = run("keys", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_log_has_no_key(root: Path) -> None:
    """But its sha256, from which nobody makes a key again."""
    key, _ = keys.create(root, scopes=["read"], workspace=None)
    (line,) = lines_of(root, "api_key_created")
    assert key.encode() not in line
    assert key.split("_")[2].encode() not in line
    assert hashlib.sha256(key.encode()).hexdigest().encode() in line


def test_no_retention_drops_keys() -> None:
    assert set(KEY_EVENTS) <= retention.PERMANENT_TYPES


def test_a_ring_knows_valid_keys_only(root: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    good, _ = keys.create(root, scopes=["read"], workspace="w")
    expired, _ = keys.create(root, scopes=["read"], workspace="w", expires=past)
    revoked, event = keys.create(root, scopes=["read"], workspace="w")
    keys.revoke(root, event.key_id)
    ring = KeyRing(root)
    found = ring.find(good)
    assert found is not None
    assert (found.workspace, found.scopes) == ("w", frozenset({"read"}))
    for other in (expired, revoked, good[:-1], good + "x", good.upper(), "", "evk_", "evk_" + "x" * 10_000, "\udc80"):
        assert ring.find(other) is None


def test_a_revocation_does_not_depend_on_clocks(root: Path, tmp_path: Path) -> None:
    """An event of a clock that ran behind ends the key all the same."""
    key, event = keys.create(root, scopes=["read"], workspace=None)
    keys.revoke(root, event.key_id)
    (path,) = (root / "log/api_key_revoked").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"timestamp":"20', b'"timestamp":"10'))
    assert KeyRing(root).find(key) is None


def test_a_key_that_is_forged_in_another_folder_opens_nothing(root: Path) -> None:
    """A line counts in the folder of its type alone."""
    key, _ = keys.create(root, scopes=["admin"], workspace=None)
    (path,) = (root / "log/api_key_created").glob("*.jsonl")
    (root / "log/other").mkdir()
    path.rename(root / "log/other" / path.name)
    assert KeyRing(root).find(key) is None


def test_several_keys_of_one_prefix(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_ids = iter(["aa01", "aa02"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(key_ids))
    for _ in range(2):
        keys.create(root, scopes=["read"], workspace=None)
    with pytest.raises(QueryFailed, match="several keys"):
        keys.find(root, "aa")


# -- over HTTP -------------------------------------------------------------------------------


def test_a_key_is_in_force_within_a_second_and_no_longer_than_that(server: Running) -> None:
    key = server.make_key("ingest", workspace="w")
    event = {"event_type": "t"}
    assert _until(lambda: server.post("/v1/events", event, key=key).status == 200)
    keys.revoke(server.root, key.split("_")[1])
    assert _until(lambda: server.post("/v1/events", event, key=key).status == 401)


@pytest.mark.parametrize("scope", SCOPES)
def test_scopes(scope: str, server: Running) -> None:
    key = server.make_key(scope)  # type: ignore[arg-type]  # one of SCOPES
    event = {"event_type": "t"}
    assert _until(lambda: server.post("/v1/events", event, key=key).status != 401)
    assert server.post("/v1/events", event, key=key).status == (403 if scope == "read" else 200)
    assert server.get("/v1/session", key=key).status == (403 if scope == "ingest" else 200)


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer evk_00000000_x", "Basic evk", "evk_00000000_x"])
def test_who_has_no_key_is_told_how_to_send_one(given: str, server: Running) -> None:
    answer = server.post("/v1/events", {"event_type": "t"}, key=None, headers={"Authorization": given})
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer realm="eventlog"'


def test_no_line_of_the_log_of_the_server_has_a_key(tmp_path: Path) -> None:
    """Not of one that is refused either."""
    from tests.server.running import serving

    with serving(tmp_path / "root") as running:
        running.post("/v1/events", {"event_type": "t"}, key="evk_00000000_guessed")
        running.get(f"/v1/session?key={running.key}")
        running.post("/v1/hooks/claude-code", "no JSON")
        running.process.terminate()
        _, said = running.process.communicate(timeout=20)
    assert b"was not recorded" in said
    assert running.key.encode() not in said
    assert b"guessed" not in said


# -- browsers and the unix socket ------------------------------------------------------------


def _log_in(server: Running, token: str) -> str | None:
    answer = server.post("/login", f"key={token}", key=None)
    return answer.headers["set-cookie"].split(";")[0] if answer.status == 303 else None


def test_the_login_link_works_once(server: Running) -> None:
    url, _, token = server.login.partition("#token=")
    assert url == f"{server.url}/login"
    cookie = _log_in(server, token)
    assert cookie is not None
    assert _log_in(server, token) is None
    answer = server.get("/v1/session", key=None, headers={"Cookie": cookie})
    assert answer.json["scopes"] == sorted(SCOPES)
    attributes = server.post("/login", f"key={server.key}", key=None).headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes


def test_a_session_ends_with_its_key_and_needs_its_token_to_write(server: Running) -> None:
    key = server.make_key("ingest", "read", workspace="w")
    assert _until(lambda: _log_in(server, key) is not None)
    cookie = _log_in(server, key)
    sent = {"Cookie": str(cookie)}
    token = server.get("/v1/session", key=None, headers=sent).json["csrf_token"]
    event = {"event_type": "by_browser"}
    for headers in (sent, {**sent, "X-CSRF-Token": ""}, {**sent, "X-CSRF-Token": token[:-1]}):
        assert server.post("/v1/events", event, key=None, headers=headers).code == "bad_csrf_token"
    assert server.post("/v1/events", event, key=None, headers={**sent, "X-CSRF-Token": token}).status == 200
    keys.revoke(server.root, key.split("_")[1])
    assert _until(lambda: server.get("/v1/session", key=None, headers=sent).status == 401)


def test_logging_out_ends_a_session(server: Running) -> None:
    sent = {"Cookie": str(_log_in(server, server.key))}
    token = server.get("/v1/session", key=None, headers=sent).json["csrf_token"]
    assert server.post("/logout", b"", key=None, headers={**sent, "X-CSRF-Token": token}).status == 303
    assert server.get("/v1/session", key=None, headers=sent).status == 401


def test_the_owner_needs_no_key_through_the_unix_socket(tmp_path: Path) -> None:
    from tests.server.running import serving

    path = tmp_path / "eventlog.sock"
    with serving(tmp_path / "root", "--uds", str(path)) as running:
        assert path.stat().st_mode & 0o777 == 0o600
        command = ["curl", "-s", "--unix-socket", str(path), "http://eventlog/v1/events", "-d", '{"event_type":"t"}']
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        assert msgspec.json.decode(done.stdout)["accepted"] == 1
        assert running.post("/v1/events", {"event_type": "t"}, key=None).status == 401
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    from eventlog.errors import ConfigError
    from eventlog.server import serve

    path = tmp_path / "a.sock"
    serve.listen_locally(path).close()
    opened = serve.listen_locally(path)
    with pytest.raises(ConfigError, match="another server listens"):
        serve.listen_locally(path)
    opened.close()
    os.unlink(path)
    path.write_text("mine")
    with pytest.raises(ConfigError):
        serve.listen_locally(path)
    assert path.read_text() == "mine"
