"""The server side and the client side of what is measured over HTTP; each runs in a process of its own."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

_ANSWER_MAX_BYTES = 65_536


class _Log:
    """A file that threads append to, and sync together: the thread that comes first syncs for those that wait."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0

    def append(self, lines: bytes) -> None:
        """Append lines; return when they are on the disk."""
        with self._writing:
            os.write(self._fd, lines)
            self._written += 1
            own = self._written
        with self._syncing:
            if self._synced < own:
                covered = self._written
                os.fdatasync(self._fd)
                self._synced = covered


def serve_bare(folder: str, threads: int) -> None:
    """Serve the least that takes events over HTTP: decode the body, append it in a pool of threads, synced, answer."""
    import asyncio

    import uvicorn

    log = _Log(Path(folder) / "bare.jsonl")
    pool = ThreadPoolExecutor(threads)
    decode = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
    encode = msgspec.json.encode

    def append(body: bytes) -> bytes:
        events = decode(body)
        log.append(b"".join([encode(event) + b"\n" for event in events]))
        return encode({"accepted": len(events)})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = await asyncio.get_running_loop().run_in_executor(pool, append, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run([listener])


def post(url: str, key: str, body: str, requests: int, connections: int) -> dict[str, Any]:
    """Post a body many times over some connections that stay open; return the seconds, and how many were taken."""
    address = urlsplit(url)
    request = (
        f"POST /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()
    left, taken = requests - connections, 0
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = socket.create_connection((str(address.hostname), address.port or 0))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for ready, _ in selector.select(60):
                asked, answer = ready.fileobj, ready.data
                assert isinstance(asked, socket.socket)
                answer += asked.recv(_ANSWER_MAX_BYTES)
                head, end, rest = bytes(answer).partition(b"\r\n\r\n")
                if not end or len(rest) < _length(head):
                    if not answer:
                        raise ConnectionError("the server has closed the connection")
                    continue
                taken += head.startswith(b"HTTP/1.1 200")
                answer.clear()
                if left > 0:
                    left -= 1
                    asked.sendall(request)
                else:
                    selector.unregister(asked)
                    asked.close()
    return {"seconds": time.perf_counter() - started, "taken": taken}


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])


def emit_many(root: str, body: str, batches: int) -> float:
    """Emit the events of a body with the recorder alone, synced; return the seconds."""
    from eventlog.config import Config
    from eventlog.durability import Durability
    from eventlog.record.recorder import Recorder

    recorder = Recorder(Config(root=root, strict=True, durability=Durability.SYNCED))
    events = msgspec.json.decode(body)
    payloads = [event["payload"] for event in events]
    fields = {name: value for name, value in events[0].items() if name not in ("event_type", "payload")}
    recorder.emit_many(events[0]["event_type"], payloads, **fields)
    before = time.process_time()
    for _ in range(batches):
        recorder.emit_many(events[0]["event_type"], payloads, **fields)
    spent = time.process_time() - before
    recorder.shutdown()
    return spent
