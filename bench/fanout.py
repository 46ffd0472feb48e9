"""Both ends of a stream, in processes of their own: clients that count, producers, and a fan-out that does no more.

`app` is the least that sends what somebody publishes to all who listen: bare ASGI, one queue for each client, frames
that are made already. It reads no log, knows no keys, filters nothing, and what is sent while a client is away is lost
to it.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

_SENT_NS = re.compile(rb'"sent_ns":(\d+)')
_TEXT = "The flight recorder of an agent. " * 12
_queues: set[asyncio.Queue[bytes]] = set()


_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Send the body of each POST to every open GET, as a server-sent event, and to every WebSocket."""
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await _send_all(lambda frame: send({"type": "websocket.send", "text": frame.decode()}))
    elif scope["method"] == "POST":
        frame = (await receive())["body"]
        for listening in _queues:
            listening.put_nowait(frame)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_all(lambda frame: send({"type": "http.response.body", "body": frame, "more_body": True}))


async def _send_all(deliver: Callable[[bytes], Awaitable[None]]) -> None:
    """Send what is published, for ever."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(1000)
    _queues.add(queue)
    frame = b": ping\n\n"
    while True:
        await deliver(frame)
        frame = await queue.get()


def payload(number: int) -> dict[str, object]:
    """Return the payload of an event, about 450 bytes."""
    return {"number": number, "sent_ns": time.monotonic_ns(), "text": _TEXT}


def publish(port: int, events: int, per_second: float) -> None:
    """Publish frames to `app`, at a steady rate."""
    import http.client

    import msgspec

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in _paced(events, per_second):
        line = msgspec.json.encode(
            {
                "event_id": "01a2316a-a312-7e3f-8c4c-600f5f75d521", "event_type": "sample",
                "timestamp": "2026-12-01T11:43:21.874890Z", "payload": payload(number),
            }
        )  # fmt: skip
        name = f"20261201T114321276122Z-bd6f18ae77437d59:{number}"
        connection.request("POST", "/", b"id: %b\nevent: sample\ndata: %b\n\n" % (name.encode(), line))
        connection.getresponse().read()
    connection.close()


def emit(root: str, events: int, per_second: float) -> None:
    """Emit events, at a steady rate."""
    import eventlog as obs

    obs.configure(root=root, strict=True)
    for number in _paced(events, per_second):
        obs.emit("sample", payload(number))


def _paced(events: int, per_second: float) -> Iterator[int]:
    started = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, started + number / per_second - time.monotonic()))
        yield number


_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_FIRST_MESSAGE = b'{"types":["sample"]}'


def _opened(port: int, header: str, framing: str) -> socket.socket:
    """Open a stream, and wait for its first ping."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=30)
    path, upgrade = ("/v1/ws", _UPGRADE) if framing == "ws" else ("/v1/stream?types=sample", "")
    opened.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}{header}\r\n".encode())
    head = b""
    if framing == "ws":
        while b"\r\n\r\n" not in head:
            head += opened.recv(65536)
        opened.sendall(bytes([0x81, 0x80 | len(_FIRST_MESSAGE), 0, 0, 0, 0]) + _FIRST_MESSAGE)
    while b"ping" not in head:
        head += opened.recv(65536)
    opened.setblocking(False)
    return opened


def listen(
    port: int, header: str, framing: str, clients: int, events: int, ready: str, limit_s: float
) -> dict[str, float]:
    """Open so many streams, create the file `ready`, and read `events` events on each. `framing` is sse or ws.

    Returns the number of deliveries, and the median and the 99th percentile of their ages in milliseconds.
    """
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        opened = _opened(port, header, framing)
        selector.register(opened, selectors.EVENT_READ, bytearray())
    Path(ready).touch()
    ages_ms: list[float] = []
    deadline = time.monotonic() + limit_s
    while len(ages_ms) < clients * events and time.monotonic() < deadline:
        for key, _ in selector.select(1.0):
            assert isinstance(key.fileobj, socket.socket)
            waiting: bytearray = key.data
            waiting += key.fileobj.recv(1 << 20)
            now_ns, end = time.monotonic_ns(), 0
            for match in _SENT_NS.finditer(waiting):
                ages_ms.append((now_ns - int(match[1])) / 1e6)
                end = match.end()
            del waiting[: max(end, len(waiting) - 100)]
    ages_ms.sort()
    return {
        "deliveries": len(ages_ms),
        "p50_ms": ages_ms[len(ages_ms) // 2],
        "p99_ms": ages_ms[int(len(ages_ms) * 0.99)],
    }
