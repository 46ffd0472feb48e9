"""What both framings of the stream promise, each over a real server: one suite for server-sent events and WebSocket."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.server import keys
from tests.server.running import Running, serving
from tests.server.support_streams import (
    Framing,
    Refused,
    Sse,
    Ws,
    events_of,
    is_until_it_ends,
    lines_by_place,
    place,
    recording,
    watching,
)

SETTINGS = "[server]\nping_s = 0.5\nstreams_max = 12\nstreams_per_key_max = 3\nheader_timeout_s = 0.5\n"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with short times."""
    with serving(tmp_path_factory.mktemp("watched") / "root", settings=SETTINGS) as running:
        yield running


def key_of(server: Running, workspace: str | None = None) -> str:
    """Make a key of its own for a test, and wait until the server knows it."""
    key = server.make_key("read", workspace=workspace)
    _until(lambda: server.get("/v1/session", key=key).status != 401)
    return key


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_events_of_other_processes_arrive_within_a_second(framing: Framing, watched: Running) -> None:
    """Half of them within 0.3 s, and each one as its line stands in the log."""
    waits = []
    with watching(framing, watched, types=["arrive"]) as client, recording(watched.root) as recorder:
        for n in range(20):
            recorder.emit("arrive", {"n": n})
            started = time.monotonic()
            frame = events_of(client, 1)[0]
            waits.append(time.monotonic() - started)
            assert (frame.type, frame.n) == ("arrive", n)
            assert lines_by_place(watched.root)[place(frame)] == frame.line
            time.sleep(0.02)
    assert max(waits) < 1
    assert statistics.median(waits) < 0.3


def test_events_of_a_command_and_of_the_server_itself(framing: Framing, watched: Running) -> None:
    with watching(framing, watched, types=["both"]) as client:
        watched.post("/v1/events", {"event_type": "both", "payload": {"n": 1}})
        assert events_of(client, 1)[0].n == 1
        command = [sys.executable, "-m", "eventlog", "emit", "both", '{"n": 2}', "--root", str(watched.root)]
        subprocess.run(command, check=True, timeout=30, stdout=subprocess.DEVNULL)
        assert events_of(client, 1)[0].n == 2


FILTERS: dict[str, dict[str, Any]] = {
    "types": {"types": ["f1", "f2"]},
    "agent": {"types": ["f1", "f2", "f3"], "agent": "a"},
    "run": {"types": ["f1", "f2", "f3"], "run": "r 1&\n"},
    "session": {"types": ["f1", "f2", "f3"], "session": "s;ü"},
    "all of them": {"types": ["f1"], "agent": "a", "run": "r 1&\n", "session": "s;ü"},
}
EMITTED = [
    ("f1", {"agent": "a", "run_id": "r 1&\n", "session_id": "s;ü"}),
    ("f1", {"agent": "b"}),
    ("f2", {"agent": "a"}),
    ("f2", {"run_id": "r 1&\n"}),
    ("f3", {"session_id": "s;ü"}),
]
EXPECTED = {"types": {0, 1, 2, 3}, "agent": {0, 2}, "run": {0, 3}, "session": {0, 4}, "all of them": {0}}


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str, framing: Framing, watched: Running) -> None:
    """By exact values; several of them have to hold together."""
    with watching(framing, watched, **FILTERS[name]) as client, recording(watched.root) as recorder:
        for n, (event_type, fields) in enumerate(EMITTED):
            recorder.emit(event_type, {"n": n}, **fields)
        assert {frame.n for frame in events_of(client, len(EXPECTED[name]))} == EXPECTED[name]
        assert client.next().kind == "ping"


def test_a_workspace_sees_its_own(framing: Framing, watched: Running) -> None:
    """Live and from the log; a key without a workspace sees all."""
    team = f"team {framing.__name__}"
    key = key_of(watched, team)
    with watching(framing, watched, key=key) as mine, watching(framing, watched, types=["ours"]) as all_of_it:
        with recording(watched.root) as recorder:
            for n, workspace in enumerate([team, "other", None, team]):
                recorder.emit("ours", {"n": n}, workspace=workspace)
        assert [frame.n for frame in events_of(mine, 2)] == [0, 3]
        assert [frame.n for frame in events_of(all_of_it, 4)] == [0, 1, 2, 3]
    with watching(framing, watched, key=key, after="start") as again:
        assert {frame.n for frame in events_of(again, 2)} == {0, 3}
        assert again.next().kind == "ping"


def test_what_the_index_would_not_take_is_not_sent(framing: Framing, watched: Running) -> None:
    """Torn, foreign and malformed lines; a line with a carriage return between two values is one frame."""
    with watching(framing, watched, types=["odd"]) as client, recording(watched.root) as recorder:
        recorder.emit("odd", {"n": 0})
        recorder.flush()
        segment = max((watched.root / "log" / "odd").glob("*.jsonl"))
        good = segment.read_bytes().splitlines()[-1]
        new = segment.with_name("20260101T000000000000Z-00000000000000ff.jsonl")
        lines = [b"{}", good.replace(b'"odd"', b'"even"'), b"\xff", b"", good.replace(b",", b",\r"), good[:20]]
        new.write_bytes(b"\n".join(lines))
        assert [frame.n for frame in events_of(client, 2)] == [0, 0]
        assert client.next().kind == "ping"
        with new.open("ab") as file:
            file.write(good[20:] + b"\n")
        assert events_of(client, 1)[0].line == good
        new.unlink()


def test_it_says_that_it_lives(framing: Framing, watched: Running) -> None:
    """With an id: a client whose filter lets nothing through still knows where it stands."""
    with watching(framing, watched, types=["never"]) as client, recording(watched.root) as recorder:
        first = client.next(2)
        recorder.emit("another", {"n": 1})
        time.sleep(0.6)
        second = [client.next(2) for _ in range(3)][-1]
    assert second.id != first.id
    assert (first.kind, second.kind) == ("ping", "ping")
    with watching(framing, watched, types=["another"], after=second.id) as client:
        assert client.next().kind == "ping"
    with watching(framing, watched, types=["another"], after=first.id) as client:
        assert events_of(client, 1)[0].n == 1


def test_a_revoked_key_ends_its_streams_within_a_second(framing: Framing, watched: Running) -> None:
    key = key_of(watched)
    with watching(framing, watched, key=key) as client, watching(framing, watched) as other:
        keys.revoke(watched.root, key.split("_")[1])
        started = time.monotonic()
        assert is_until_it_ends(client, 3)
        assert time.monotonic() - started < 1
        assert other.next().kind in ("event", "ping")
    with pytest.raises(Refused) as refused:
        framing(watched, key=key)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")


def test_a_key_has_so_many_streams(framing: Framing, watched: Running) -> None:
    """One that was closed makes room for another."""
    key = key_of(watched)
    opened = [framing(watched, key=key) for _ in range(3)]
    try:
        with pytest.raises(Refused) as refused:
            framing(watched, key=key)
        assert (refused.value.status, refused.value.code) == (429, "too_many_streams_of_key")
        opened.pop().close()
        _until_open(framing, watched, key).close()
    finally:
        for client in opened:
            client.close()


def _until_open(framing: Framing, server: Running, key: str) -> Sse | Ws:
    deadline = time.monotonic() + 5
    while True:
        try:
            return framing(server, key=key)
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_has_so_many_streams(framing: Framing, watched: Running) -> None:
    several = [key_of(watched) for _ in range(4)]
    _until_open(framing, watched, several[0]).close()
    time.sleep(0.2)  # until those of other tests are gone
    opened = [framing(watched, key=key) for key in several for _ in range(3)]
    try:
        with pytest.raises(Refused) as refused:
            framing(watched)
        assert (refused.value.status, refused.value.code) == (503, "too_many_streams")
    finally:
        for client in opened:
            client.close()


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"types": ["Not A Type"]}, 400, "bad_parameter"),
        ({"types": [f"t{n}" for n in range(101)]}, 400, "bad_parameter"),
        ({"agent": "x" * 10_001}, 400, "bad_parameter"),
        ({"after": "yesterday"}, 400, "bad_parameter"),
        ({"after": "20260101T000000000000Z-00000000000000ff:-1"}, 400, "bad_parameter"),
        ({"after": "20260101T000000000000Z-00000000000000ff:0;!!"}, 400, "bad_parameter"),
        ({"after": "20260101T000000000000Z-00000000000000ff:0;gqFhAQ"}, 400, "bad_parameter"),
        ({"workspace": "other"}, 400, "bad_parameter"),
        ({"key": "evk_12345678_" + "x" * 43}, 401, "unauthorized"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], status: int, code: str, framing: Framing, watched: Running) -> None:
    """With the same codes."""
    with pytest.raises(Refused) as refused:
        framing(watched, **asked)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_key_that_may_not_read(framing: Framing, watched: Running) -> None:
    key = watched.make_key("ingest")
    _until(lambda: watched.post("/v1/events", {"event_type": "t"}, key=key).status != 401)
    with pytest.raises(Refused) as refused:
        framing(watched, key=key)
    assert (refused.value.status, refused.value.code) == (403, "missing_scope")


def test_a_long_line(framing: Framing, watched: Running) -> None:
    """Of more than a block, a queue and a socket hold: live, and from the log."""
    name = f"long_{framing.__name__.lower()}"
    with watching(framing, watched, types=[name]) as client, recording(watched.root, blob_min_bytes=0) as recorder:
        recorder.emit(name, {"n": 1, "text": "x" * 9_000_000})
        frame = events_of(client, 1)[0]
        assert len(frame.line) > 9_000_000
    with watching(framing, watched, types=[name], after="start") as client:
        assert events_of(client, 1)[0].line == frame.line


def test_a_root_without_a_log(framing: Framing, tmp_path: Path) -> None:
    """Whose first folder is made while the stream is open."""
    with serving(tmp_path / "root") as server, watching(framing, server, types=["first"]) as client:
        with recording(server.root) as recorder:
            recorder.emit("first", {"n": 1})
        assert events_of(client, 1)[0].n == 1
