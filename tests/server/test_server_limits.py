"""Every limit of the server, and what it says where one is reached."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.config.server import Limits
from eventlog.server.buckets import BURST_S, Buckets
from eventlog.server.intake import Intake
from eventlog.server.problems import Problem
from tests.conftest import PROJECT, lines_of
from tests.server.running import Running, serving

SETTINGS = """
[server]
body_max_bytes = 100000
control_max_bytes = 1000
events_max = 50
header_timeout_s = 0.5
body_timeout_s = 0.5
connections_max = 40
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with small limits."""
    with serving(tmp_path_factory.mktemp("limits") / "root", settings=SETTINGS) as running:
        yield running


def _socket(server: Running) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((str(address.hostname), address.port or 0), timeout=10)


def _head(server: Running, *headers: str, path: str = "/v1/events") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {server.key}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _all(connection: socket.socket) -> bytes:
    data = b""
    while block := connection.recv(65536):
        data += block
    return data


def test_a_body_that_says_that_it_is_too_large(small: Running) -> None:
    answer = small.post("/v1/events", b" " * 100_001)
    assert (answer.status, answer.code) == (413, "too_large")


def test_a_body_that_says_nothing_of_its_size(small: Running) -> None:
    """In chunks, without a length: counted as it comes."""
    with _socket(small) as connection:
        connection.sendall(_head(small, "Transfer-Encoding: chunked", "Connection: close"))
        for _ in range(30):
            try:
                connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
            except OSError:
                break
        assert connection.recv(200).startswith(b"HTTP/1.1 413")


def test_chunks_within_the_limit_are_taken(small: Running) -> None:
    with _socket(small) as connection:
        connection.sendall(_head(small, "Transfer-Encoding: chunked", "Connection: close"))
        for piece in (b'{"event_type":', b'"chunked"}'):
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert _all(connection).startswith(b"HTTP/1.1 200")
    assert len(lines_of(small.root, "chunked")) == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_small_body_that_unpacks_to_a_large_one(encoding: str, small: Running) -> None:
    """1,029 bytes of zeros are one of gzip; nothing beyond the limit is unpacked."""
    import zstandard

    bomb = (gzip.compress if encoding == "gzip" else zstandard.compress)(b" " * 90_000_000)
    assert len(bomb) < 100_000
    before = _memory(small)
    answer = small.post("/v1/events", bomb, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (413, "too_large")
    assert _memory(small) - before < 30_000_000


def _memory(server: Running) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_packed_body_that_was_cut_short(encoding: str, cut: int, small: Running) -> None:
    """Not one event of it is taken: which would be missing?"""
    import zstandard

    events = b'{"event_type":"cut_short"}\n' * 40
    packed = (gzip.compress if encoding == "gzip" else zstandard.compress)(events)[:cut]
    answer = small.post("/v1/events", packed, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (400, "damaged_body")
    assert not lines_of(small.root, "cut_short")


def test_an_encoding_that_nobody_knows(small: Running) -> None:
    answer = small.post("/v1/events", b"x", headers={"Content-Encoding": "br"})
    assert (answer.status, answer.code) == (415, "unknown_encoding")
    assert answer.headers["accept-encoding"] == "gzip, zstd"


def test_too_many_events(small: Running) -> None:
    answer = small.post("/v1/events", b'{"event_type":"many"}\n' * 51)
    assert (answer.status, answer.code) == (413, "too_many_events")
    assert not lines_of(small.root, "many")


def test_a_small_request_has_a_small_limit(small: Running) -> None:
    assert small.post("/v1/heartbeat", b" " * 1001).status == 413
    assert small.post("/login", b" " * 5000, key=None).status == 413


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except OSError:
        return True


def test_headers_that_never_end(small: Running) -> None:
    """Slow loris: a byte now and then keeps no connection."""
    with _socket(small) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.1)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            try:
                connection.sendall(b"X-A: b\r\n")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 3


def test_a_connection_that_says_nothing(small: Running) -> None:
    with _socket(small) as connection:
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 3


def test_headers_that_are_too_large(small: Running) -> None:
    with _socket(small) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"b" * 4000)
        assert _is_closed(connection)


def test_a_body_that_does_not_come(small: Running) -> None:
    with _socket(small) as connection:
        connection.sendall(_head(small, "Content-Length: 100", "Connection: close"))
        connection.sendall(b'{"event')
        began = time.monotonic()
        assert _all(connection).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 3


def test_too_many_connections(small: Running) -> None:
    """Those beyond the limit are answered with 503; afterwards all is as before."""
    held = [_socket(small) for _ in range(39)]
    try:
        for connection in held:
            connection.sendall(_head(small, "Content-Length: 100"))
        with _socket(small) as another, _socket(small) as one_more:
            for connection in (another, one_more):
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one_more.recv(20).startswith(b"HTTP/1.1 503")
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 5
    while small.get("/livez", key=None).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_goes_away_in_the_middle(small: Running) -> None:
    """Nothing of its body is taken, and its room is free again."""
    for _ in range(20):
        with _socket(small) as connection:
            connection.sendall(_head(small, "Content-Length: 90000") + b'{"event_type":"gone"}\n' * 100)
    time.sleep(0.3)
    assert not lines_of(small.root, "gone")
    assert small.get("/readyz", key=None).json["reasons"] == []


# -- rates -----------------------------------------------------------------------------------


def test_a_key_has_a_rate_of_its_own(server: Running) -> None:
    """A burst of ten seconds' worth, then 429 with how long to wait."""
    key = server.make_key("ingest", events_per_s=1.0)
    time.sleep(1)
    body = b'{"event_type":"rated"}\n' * 10
    assert server.post("/v1/events", body, key=key).status == 200
    answer = server.post("/v1/events", body, key=key)
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert 9 <= int(answer.headers["retry-after"]) <= 10
    assert answer.headers["ratelimit"].startswith('"events";r=0;t=')
    assert answer.headers["ratelimit-policy"] == '"events";q=10;w=10'
    assert len(lines_of(server.root, "rated")) == 10
    assert server.post("/v1/events", body).status == 200  # another key


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=50))
def test_no_more_is_taken_than_a_burst_and_the_rate(steps: list[tuple[float, int]]) -> None:
    """But for one request that is larger than a burst, which is paid for afterwards."""
    now, taken, rate = 0.0, 0.0, 2.0
    buckets = Buckets(lambda: now)
    largest = max((amount for _, amount in steps), default=0)
    for wait, amount in steps:
        now += wait
        got = buckets.take("k", amount, rate)
        if got.wait_s == 0:
            taken += amount
        else:
            now += got.wait_s + 1e-6
            assert buckets.take("k", amount, rate).wait_s == 0
            taken += amount
    assert taken <= rate * (BURST_S + now) + max(0.0, largest - rate * BURST_S) + 1e-3


def test_the_queue_is_bounded_in_bytes() -> None:
    """Also of bodies that are still coming in; one request has room, however large it is."""
    intake = Intake(threads=1, queue_max_bytes=100)
    with intake.room() as first:
        first.take(1000)
        with intake.room() as second, pytest.raises(Problem) as refused:
            second.take(1)
        assert (refused.value.status, refused.value.code) == (503, "queue_full")
        assert refused.value.headers["Retry-After"] == "1"
        assert intake.is_full
    with intake.room() as third:
        third.take(100)
    assert (intake.held_bytes, intake.refused) == (0, 1)
    intake.close()


def test_a_full_queue_is_told(tmp_path: Path) -> None:
    """Slow senders hold the room; others are told to come back, and nothing is lost."""
    settings = "[server]\nqueue_max_bytes = 50000\nbody_timeout_s = 2\n"
    with serving(tmp_path / "root", settings=settings) as running:
        with _socket(running) as slow:
            slow.sendall(_head(running, "Content-Length: 60000") + b" " * 49_000)
            time.sleep(0.3)
            answer = running.post("/v1/events", b'{"event_type":"t"}' + b" " * 2000)
            assert (answer.status, answer.code) == (503, "queue_full")
            assert answer.headers["retry-after"] == "1"
            assert "intake_full" in running.get("/readyz", key=None).json["reasons"]
        time.sleep(0.3)
        assert running.post("/v1/events", {"event_type": "t"}).status == 200


def test_every_limit_is_documented() -> None:
    page = (PROJECT / "docs/server.md").read_text()
    for field in msgspec.structs.fields(Limits):
        assert f"`{field.name}`" in page


def test_appends_of_many_clients_at_once(server: Running) -> None:
    """Each id is one line."""
    ids: list[str] = []

    def send() -> None:
        for _ in range(10):
            ids.extend(server.post("/v1/events", [{"event_type": "crowd"}] * 5).json["ids"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = [msgspec.json.decode(line)["event_id"] for line in lines_of(server.root, "crowd")]
    assert sorted(logged) == sorted(ids)
    assert len(set(ids)) == 400
