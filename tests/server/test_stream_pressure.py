"""Streams under pressure: clients that do not read, many of them, hostile ones, and the end of the server."""

from __future__ import annotations

import concurrent.futures
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.server.running import Running, serving
from tests.server.support_streams import (
    CLIENTS,
    Ended,
    Frame,
    Framing,
    Sse,
    events_of,
    is_until_it_ends,
    place,
    recording,
    watching,
)

SETTINGS = "[server]\nping_s = 0.5\nheader_timeout_s = 0.5\nwrite_timeout_s = 3\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with short times."""
    with serving(tmp_path_factory.mktemp("pressed") / "root", settings=SETTINGS) as running:
        yield running


def test_a_client_that_does_not_read_gets_a_gap_and_then_everything(framing: Framing, server: Running) -> None:
    """The gap says how much was left out; with its id the rest comes from the log, each event once."""
    name, text, count = f"flood_{framing.__name__.lower()}", "x" * 8000, 3000
    with watching(framing, server, types=[name], receive_bytes=4096) as client:
        with watching(framing, server, types=[name]) as fast, recording(server.root, blob_min_bytes=0) as recorder:
            for start in range(0, count, 100):
                recorder.emit_many(name, [{"n": n, "text": text} for n in range(start, start + 100)])
                events_of(fast, 100)
        frames: list[Frame] = []
        for _ in range(count + 100):
            frame = client.next()
            if frame.kind == "gap":
                break
            frames += [frame] if frame.kind == "event" else []
        assert len(frames) + frame.missed == count
        with pytest.raises(Ended) as ended:
            client.next()
        assert ended.value.args in ((), (1013,))
    with watching(framing, server, types=[name], after=frame.id) as client:
        frames += events_of(client, frame.missed)
    assert [frame.n for frame in frames] == list(range(count))
    assert len(set(map(place, frames))) == count


def test_a_client_that_never_reads_is_cut_off(framing: Framing, server: Running) -> None:
    """It holds a socket and a queue for `write_timeout_s`, no longer."""
    name = f"stuck_{framing.__name__.lower()}"
    connections = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(connections.iterdir()))
    with watching(framing, server, types=[name], receive_bytes=4096):
        with recording(server.root, blob_min_bytes=0) as recorder:
            recorder.emit_many(name, [{"n": n, "text": "x" * 100_000} for n in range(150)])
        deadline = time.monotonic() + 15
        while len(list(connections.iterdir())) > before:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_burst_reaches_a_client_that_reads(framing: Framing, server: Running) -> None:
    """More events at once than a queue holds."""
    name = f"burst_{framing.__name__.lower()}"
    with watching(framing, server, types=[name]) as client, recording(server.root) as recorder:
        recorder.emit_many(name, [{"n": n} for n in range(5000)])
        assert [frame.n for frame in events_of(client, 5000, 30)] == list(range(5000))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_200_open_streams_in_less_than_3_s(end: signal.Signals, tmp_path: Path) -> None:
    """Half of each framing, some of which do not read; each one that reads is told."""
    with serving(tmp_path / "root") as server:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            deaf = list(pool.map(lambda n: CLIENTS[n % 2](server, receive_bytes=4096), range(10)))
            clients = list(pool.map(lambda n: CLIENTS[n % 2](server), range(190)))
        with recording(server.root, blob_min_bytes=0) as recorder:
            recorder.emit_many("t", [{"n": n, "text": "x" * 100_000} for n in range(100)])
        events_of(clients[0], 10)
        started = time.monotonic()
        server.process.send_signal(end)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert all(pool.map(is_until_it_ends, clients, [10] * len(clients)))
        server.process.wait(10)
        assert time.monotonic() - started < 3
        assert server.process.stderr is not None
        assert b"Traceback" not in server.process.stderr.read()
        for client in (*clients, *deaf):
            client.close()


# -- WebSocket alone ---------------------------------------------------------------------------


def _opened(server: Running, **headers: str) -> AbstractContextManager[ClientConnection]:
    return connect(server.url.replace("http", "ws") + "/v1/ws", additional_headers=headers, compression=None)


HOSTILE = {
    "nothing": b"",
    "no JSON": "{",
    "an array": "[]",
    "a number": "1e999",
    "unknown members": '{"workspace": "other"}',
    "wrong types": '{"types": "llm_call"}',
    "numbers as types": '{"types": [1]}',
    "no types": '{"types": []}',
    "bytes": b"\x00\xff",
    "deep": "[" * 30_000,
    "half a character": '{"agent": "\\ud800"}',
    "two tokens": '{"token": "a", "token": "b"}',
    "an object as an id": '{"after": {}}',
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_first_messages_that_are_refused(message: str | bytes, server: Running) -> None:
    """With a problem, and a close that names it."""
    with _opened(server) as connection:
        connection.send(message)
        problem = msgspec.json.decode(connection.recv(timeout=5))
        assert problem["kind"] == "problem"
        assert problem["problem"]["code"] in ("bad_parameter", "unauthorized")
        assert _code(connection) == 1008


def _code(connection: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=5)
    return None if closed.value.rcvd is None else closed.value.rcvd.code


def test_a_first_message_that_does_not_come(server: Running) -> None:
    with _opened(server) as connection:
        assert msgspec.json.decode(connection.recv(timeout=5))["problem"]["code"] == "no_first_message"
        assert _code(connection) == 1008


def test_a_first_message_that_is_too_long(server: Running) -> None:
    """More than 64 KiB is not read at all."""
    with _opened(server) as connection:
        connection.send(b" " * 70_000)
        assert _code(connection) == 1009


def test_a_token_in_the_first_message(server: Running) -> None:
    """Instead of a header, which browsers cannot set; never in the address."""
    with _opened(server) as connection:
        connection.send(msgspec.json.encode({"token": server.key, "types": ["t"]}).decode())
        assert msgspec.json.decode(connection.recv(timeout=5))["kind"] == "ping"
    with _opened(server, Authorization=f"Bearer {server.key}") as connection:
        connection.send(msgspec.json.encode({"token": server.key}).decode())
        assert msgspec.json.decode(connection.recv(timeout=5))["problem"]["code"] == "bad_parameter"
    assert server.get(f"/v1/stream?token={server.key}", key=None).status == 401


def test_pages_of_other_origins(server: Running) -> None:
    """They may open no stream, whatever cookie the browser has."""
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(InvalidStatus) as refused, _opened(server, **headers):
            pass
        assert refused.value.response.status_code == 403
        assert server.get("/v1/stream", headers=headers).code == "foreign_origin"


def test_a_client_that_goes_on_talking(server: Running) -> None:
    """It is not listened to, and nothing piles up."""
    with _opened(server, Authorization=f"Bearer {server.key}") as connection, recording(server.root) as recorder:
        connection.send('{"types": ["talk"]}')
        assert msgspec.json.decode(connection.recv(timeout=5))["kind"] == "ping"
        for _ in range(200):
            connection.send("x" * 1000)
        recorder.emit("talk", {"n": 1})
        messages = [msgspec.json.decode(connection.recv(timeout=5)) for _ in range(2)]
        assert {"n": 1} in [message["event"]["payload"] for message in messages if message["kind"] == "event"]


# -- server-sent events alone ------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["typo=1", "types=a&types=b", "types=", "types=a,,b", "agent=a&agent=b", "after=%00", "after=;" + "A" * 9000],
)
def test_parameters_that_are_refused(query: str, server: Running) -> None:
    answer = server.get(f"/v1/stream?{query}")
    assert (answer.status, answer.code) == (400, "bad_parameter")


def test_other_methods(server: Running) -> None:
    """HEAD opens nothing."""
    assert server.request("HEAD", "/v1/stream").status == 200
    assert server.post("/v1/stream", "").status == 405


def test_the_address_may_say_where_to_begin_and_the_header_where_to_go_on(server: Running) -> None:
    """A browser that connects again uses the same address, and adds Last-Event-ID."""
    with recording(server.root) as recorder:
        for n in range(3):
            recorder.emit("where", {"n": n})
    address = urlsplit(server.url)
    request = f"GET /v1/stream?types=where&after=start HTTP/1.1\r\nHost: {address.netloc}\r\n"
    request += f"Authorization: Bearer {server.key}\r\n"
    with watching(Sse, server, types=["where"], after="start") as client:
        last = events_of(client, 2)[-1].id
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=5) as connection:
        connection.sendall((request + f"Last-Event-ID: {last}\r\n\r\n").encode())
        data = b""
        while b'"n":2' not in data:
            data += connection.recv(65536)
        assert b'"n":1' not in data
