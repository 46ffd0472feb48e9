"""Clients of both framings of a stream, with one interface: what one contract suite asks of each of them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.log import layout, reader
from eventlog.record.recorder import Recorder
from tests.server.running import Running

_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


class Frame(NamedTuple):
    """What a client was sent. `kind` is event, gap or ping."""

    kind: str
    id: str
    type: str | None = None
    line: bytes = b""
    missed: int = 0

    @property
    def event(self) -> Any:
        """The event of the line."""
        return msgspec.json.decode(self.line)

    @property
    def n(self) -> int:
        """`n` of the payload, by which the tests know their events."""
        return int(self.event["payload"]["n"])


class Refused(Exception):
    """There was no stream: the status and the code of the problem."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


class Ended(Exception):
    """The server has ended the stream; of a WebSocket, with the code of its close."""


def is_until_it_ends(client: Client, timeout_s: float) -> bool:
    """Read until the server ends a stream; return False where it does not."""
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            client.next(left_s)
        except Ended:
            return True
        except TimeoutError:
            return False
    return False


class Client(Protocol):
    """A client of one framing."""

    def next(self, timeout_s: float = 10.0) -> Frame:
        """Return the next frame. Raises Ended, TimeoutError."""

    def close(self) -> None:
        """Leave."""


class Sse:
    """`GET /v1/stream` over a plain socket, so that nothing is read ahead of the test."""

    def __init__(self, server: Running, *, key: str | None = None, receive_bytes: int | None = None, **asked: Any):
        address = urlsplit(server.url)
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(10)
        self.socket.connect((str(address.hostname), address.port))
        after = asked.pop("after", None)
        if "types" in asked:
            asked["types"] = ",".join(asked["types"])
        lines = [f"GET /v1/stream?{urlencode(asked, quote_via=quote)} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"Authorization: Bearer {server.key if key is None else key}"]
        lines += [f"Last-Event-ID: {after}"] if after is not None else []
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._raw = self._body = b""
        while b"\r\n\r\n" not in self._raw:
            self._raw += self.socket.recv(65536)
        head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 200:
            size = int(re.findall(rb"content-length: (\d+)", head)[0])
            while len(self._raw) < size:
                self._raw += self.socket.recv(65536)
            self.close()
            raise Refused(status, msgspec.json.decode(self._raw)["code"])
        assert b"content-type: text/event-stream" in head
        assert self._block(time.monotonic() + 10) == b"retry: 1000"

    def next(self, timeout_s: float = 10.0) -> Frame:
        fields: dict[str, str] = {}
        for line in self._block(time.monotonic() + timeout_s).decode().split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if fields.get("") == "ping":
            return Frame("ping", fields["id"])
        if fields["event"] == "gap" and "event_id" not in fields["data"]:
            return Frame("gap", fields["id"], missed=msgspec.json.decode(fields["data"])["missed"])
        return Frame("event", fields["id"], fields["event"], fields["data"].encode())

    def _block(self, deadline: float) -> bytes:
        while b"\n\n" not in self._body:
            chunk = _CHUNK.match(self._raw)
            if chunk is not None and len(self._raw) >= (end := chunk.end() + int(chunk[1], 16)) + 2:
                if int(chunk[1], 16) == 0:
                    raise Ended
                self._body += self._raw[chunk.end() : end]
                self._raw = self._raw[end + 2 :]
                continue
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            received = self.socket.recv(1 << 20)
            if not received:
                raise Ended
            self._raw += received
        block, _, self._body = self._body.partition(b"\n\n")
        return block

    def close(self) -> None:
        self.socket.close()


class Ws:
    """`/v1/ws` by the library websockets."""

    def __init__(self, server: Running, *, key: str | None = None, receive_bytes: int | None = None, **asked: Any):
        address = urlsplit(server.url)
        opened = socket.socket()
        if receive_bytes is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        opened.connect((str(address.hostname), address.port))
        headers = {"Authorization": f"Bearer {server.key if key is None else key}"}
        self._open = ExitStack()
        try:
            connecting = connect(
                f"ws://{address.netloc}/v1/ws", sock=opened, additional_headers=headers, max_size=None,
                max_queue=16 if receive_bytes is None else 1, compression=None, close_timeout=0.1,
            )  # fmt: skip
            self.connection: ClientConnection = self._open.enter_context(connecting)
        except InvalidStatus as refused:
            opened.close()
            body = msgspec.json.decode(bytes(refused.response.body or b"{}"))
            raise Refused(refused.response.status_code, body.get("code", "")) from None
        self.connection.send(msgspec.json.encode(asked).decode())
        self._first: list[Frame] = []
        try:
            self._first.append(self.next())
        except Refused:
            self.close()
            raise

    def next(self, timeout_s: float = 10.0) -> Frame:
        if self._first:
            return self._first.pop()
        try:
            message = msgspec.json.decode(self.connection.recv(timeout=timeout_s), type=dict[str, msgspec.Raw])
        except ConnectionClosed as closed:
            raise Ended(closed.rcvd.code if closed.rcvd else None) from None
        kind = msgspec.json.decode(message["kind"])
        if kind == "problem":
            problem = msgspec.json.decode(message["problem"])
            raise Refused(problem["status"], problem["code"])
        frame = Frame(kind, msgspec.json.decode(message["id"]))
        if kind == "gap":
            return frame._replace(missed=msgspec.json.decode(message["missed"]))
        if kind == "event":
            return frame._replace(type=msgspec.json.decode(message["type"]), line=bytes(message["event"]))
        return frame

    def close(self) -> None:
        self._open.close()


Framing = type[Sse | Ws]
CLIENTS: tuple[Framing, ...] = (Sse, Ws)


@contextmanager
def watching(client: type[Sse | Ws], server: Running, **asked: Any) -> Iterator[Sse | Ws]:
    """Open a stream, and wait until the server says where it begins."""
    opened = client(server, **asked)
    try:
        assert opened.next().kind == "ping"
        yield opened
    finally:
        opened.close()


def events_of(client: Client, count: int, timeout_s: float = 20.0) -> list[Frame]:
    """Return the next events, without pings."""
    frames: list[Frame] = []
    deadline = time.monotonic() + timeout_s
    while len(frames) < count:
        frame = client.next(max(0.01, deadline - time.monotonic()))
        if frame.kind != "ping":
            assert frame.kind == "event", frame
            frames.append(frame)
    return frames


@contextmanager
def recording(root: Path, **settings: Any) -> Iterator[Recorder]:
    """A recorder of another process than the server's: this one."""
    recorder = Recorder(Config(root=str(root), strict=True, **settings), role=Role.OPERATOR)
    try:
        yield recorder
    finally:
        recorder.shutdown()


def lines_by_place(root: Path, types: Sequence[str] | None = None) -> dict[str, bytes]:
    """Return all lines of a log by `segment:offset`."""
    return {f"{line.segment}:{line.offset}": line.data for line in reader.read_log(root, types)}


def place(frame: Frame) -> str:
    """Return the line that a frame is of."""
    return frame.id.partition(";")[0]


def last_segment(root: Path, event_type: str) -> layout.SegmentFile:
    """Return the newest segment of a type."""
    return layout.list_type(root, event_type)[-1]
