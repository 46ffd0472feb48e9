"""`eventlog.client` against real servers, and against what a network makes of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from eventlog.client import Client
from eventlog.errors import ConfigError, InvalidEvent, SendFailed
from tests.conftest import lines_of
from tests.server.running import Running, serving


def test_events_are_sent_over_one_connection(server: Running) -> None:
    with Client(server.url, server.key) as client:
        first = client.emit("sent.one", {"n": 1}, run_id="r", agent="a")
        connection = client._connection
        sent = client.send({"event_type": "sent.one", "payload": {"n": n}} for n in (2, 3))
        assert client._connection is connection is not None
    assert sent.rejected == []
    logged = [msgspec.json.decode(line) for line in lines_of(server.root, "sent.one")]
    assert [event["event_id"] for event in logged] == [first, *sent.ids]
    assert (logged[0]["run_id"], logged[0]["agent"]) == ("r", "a")


def test_what_the_server_refuses(server: Running) -> None:
    with Client(server.url, server.key) as client:
        sent = client.send([{"event_type": "t"}, {"event_type": "NO"}])
        assert (len(sent.ids), [each["index"] for each in sent.rejected]) == (1, [1])
        with pytest.raises(InvalidEvent, match="invalid_event: "):
            client.emit("NO")
        assert client.send([]).ids == []


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_what_is_no_json_is_not_sent(payload: dict[str, object], server: Running) -> None:
    with Client(server.url, server.key) as client, pytest.raises(InvalidEvent):
        client.emit("t", payload)


@pytest.mark.parametrize(
    "url", ["", "log.example", "ftp://x", "http://", "http://x:y", "http://a:b@x", "http://x:99999"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        Client(url)


def test_a_wrong_key_is_told_at_once(server: Running) -> None:
    began = time.monotonic()
    with Client(server.url, "evk_00000000_wrong") as client, pytest.raises(SendFailed, match="401 the key is unknown"):
        client.emit("t")
    assert time.monotonic() - began < 5


def test_a_server_that_comes_later(tmp_path: Path) -> None:
    """Nothing listens when the request is made; it is taken once the server is there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    done: list[str] = []
    with serving(tmp_path / "root") as first:
        key = first.key
    with Client(f"http://127.0.0.1:{port}", key, patience_s=30) as client:
        thread = threading.Thread(target=lambda: done.append(client.emit("late")))
        thread.start()
        time.sleep(0.5)
        with serving(tmp_path / "root", port=port):
            thread.join(30)
    assert [msgspec.json.decode(line)["event_id"] for line in lines_of(tmp_path / "root", "late")] == done


def test_a_server_that_never_comes() -> None:
    client = Client("http://127.0.0.1:1", patience_s=1)
    began = time.monotonic()
    with pytest.raises(SendFailed, match=r"has not taken the events: .*refused"):
        client.emit("t")
    assert time.monotonic() - began < 3


@contextmanager
def _behind(server: Running, drops: int) -> Iterator[str]:
    """A proxy that cuts off the answer to the first `drops` requests, after the server has answered."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [drops]
    port = int(server.url.rsplit(":", 1)[1])

    def pump(source: socket.socket, target: socket.socket, *, is_answer: bool) -> None:
        while True:
            try:
                data = source.recv(65536)
                if not data or (is_answer and left[0] > 0):
                    left[0] -= bool(data)
                    break
                target.sendall(data)
            except OSError:
                break
        for each in (source, target):
            each.close()

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(near, far), kwargs={"is_answer": False}, daemon=True).start()
            threading.Thread(target=pump, args=(far, near), kwargs={"is_answer": True}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_an_answer_that_is_lost_adds_nothing_twice(server: Running) -> None:
    """The request is made again with the same key: the same ids, so the same rows."""
    with _behind(server, drops=2) as url, Client(url, server.key) as client:
        sent = client.send([{"event_type": "lost.answer", "payload": {"n": n}} for n in range(3)])
    logged = [msgspec.json.decode(line)["event_id"] for line in lines_of(server.root, "lost.answer")]
    assert len(logged) > 3
    assert set(logged) == set(sent.ids)
    assert len(sent.ids) == 3


def test_it_waits_as_long_as_the_server_says(server: Running) -> None:
    """And not longer than it may: then it says why."""
    key = server.make_key("ingest", events_per_s=2.0)
    time.sleep(1)
    with Client(server.url, key, patience_s=5) as client:
        client.send([{"event_type": "slow"}] * 20)
        began = time.monotonic()
        client.emit("slow")
        assert time.monotonic() - began >= 0.4
        with pytest.raises(SendFailed, match="429"):
            client.send([{"event_type": "slow"}] * 20)
