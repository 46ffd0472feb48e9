"""Running the server: its sockets, its limits on connections, and its end.

uvicorn waits for open streams for as long as they last, and has no limit on how slowly a request may come; both are
mended here. `SIGTERM` ends the streams first, then the requests, then the process.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from eventlog.errors import ConfigError
from eventlog.server.parts import Parts
from eventlog.server.routes.streaming import ABORT

_logger = logging.getLogger("eventlog.server")
_HEADERS_MAX_BYTES = 64 * 1024
_BACKLOG = 256
#: Of one WebSocket message of a client's: a filter.
_MESSAGE_MAX_BYTES = 64 * 1024
_KEEP_ALIVE_S = 65


class _BoundedWrites:
    """A connection that is closed when its client reads nothing for a while. Stands before a protocol of uvicorn."""

    write_timeout_s = 60.0
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stuck: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        self._stuck = self._stuck or self.loop.call_later(self.write_timeout_s, self.transport.abort)
        super().pause_writing()  # type: ignore[misc]  # of the protocol

    def resume_writing(self) -> None:
        self._forget_stuck()
        super().resume_writing()  # type: ignore[misc]

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_stuck()
        super().connection_lost(exc)  # type: ignore[misc]

    def _forget_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class _BoundedWebSocket(_BoundedWrites, WebSocketsSansIOProtocol):
    """A WebSocket whose client reads."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        # uvicorn 0.54 forgets to, where a WebSocket is refused by an HTTP answer, and then logs a fault of ours.
        self.handshake_complete = self.handshake_complete or self.close_sent

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = {**(self.scope.get("extensions") or {}), ABORT: self.transport.abort}
        self.scope["extensions"] = extensions
        await super().run_asgi()


class _BoundedHttp(_BoundedWrites, HttpToolsProtocol):
    """HTTP whose headers have to come within a time and a size, and whose client reads."""

    header_timeout_s = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # it is a Transport, as there
        self._in_headers = True
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.header_timeout_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        if not self._in_headers and self.cycle.response_complete:  # the next request
            self._in_headers, self._header_bytes = True, 0
            self._timer = self.loop.call_later(self.header_timeout_s, self._give_up)
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > _HEADERS_MAX_BYTES:
                self._give_up()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_timer()
        extensions: dict[str, Any] = {ABORT: self.transport.abort}
        self.scope["extensions"] = extensions
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._stop_timer()
        if self._in_headers and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """A uvicorn that says when it listens, and ends streams when it is told to end."""

    def __init__(self, config: uvicorn.Config, parts: Parts, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._parts = parts
        self._on_listening = on_listening
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # uvicorn would send itself the signal again now, and the process would end without cleaning up.
        self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._parts.stopping.set)
        super().handle_exit(sig, frame)


def run(
    app: ASGIApp,
    parts: Parts,
    sockets: list[socket.socket],
    *,
    on_listening: Callable[[], None],
    tls: tuple[Path, Path] | None = None,
    behind_proxy: bool = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C. `tls` are the files of certificate and key. Raises ConfigError, OSError."""
    limits = parts.limits
    bounds = {"header_timeout_s": limits.header_timeout_s, "write_timeout_s": limits.write_timeout_s}
    http, ws = type("Http", (_BoundedHttp,), bounds), type("WebSocket", (_BoundedWebSocket,), bounds)
    config = uvicorn.Config(
        app, http=http, ws=ws, ws_max_size=_MESSAGE_MAX_BYTES, ws_per_message_deflate=False,
        lifespan="on", log_config=None, access_log=False, server_header=False, proxy_headers=behind_proxy,
        limit_concurrency=limits.connections_max, backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(limits.shutdown_s)), **_tls_options(tls),
    )  # fmt: skip
    _Server(config, parts, on_listening).run(sockets)


def _tls_options(tls: tuple[Path, Path] | None) -> dict[str, Any]:
    if tls is None:
        return {}
    for path in tls:
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; TLS needs a certificate and its key, in PEM")
    return {"ssl_certfile": str(tls[0]), "ssl_keyfile": str(tls[1])}


def listen(host: str, port: int) -> list[socket.socket]:
    """Open the sockets of an address; of localhost, IPv4 and IPv6. Port 0 is a free one. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror or error}") from None
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = sockets[0].getsockname()[1] if sockets and port == 0 else port
            opened.bind((address[0], taken, *address[2:]))
            opened.listen(_BACKLOG)
        except OSError as error:
            opened.close()
            if sockets:  # one family is enough
                continue
            raise ConfigError(
                f"{host}:{port} cannot be listened on: {error.strerror}; is a server running? Try another --port, "
                "or --port 0 for a free one"
            ) from None
        sockets.append(opened)
    return sockets


def listen_locally(path: Path) -> socket.socket:
    """Open a unix socket that only its owner may connect to. One that nobody listens on is replaced.

    Raises ConfigError.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            if _is_listened_on(path):
                raise ConfigError(f"{path}: another server listens there")
            path.unlink()
        before = os.umask(0o177)
        try:
            opened.bind(str(path))
        finally:
            os.umask(before)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise ConfigError(f"--uds {path}: {error.strerror or error}") from None
    except ConfigError:
        opened.close()
        raise
    return opened


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def is_public(sockets: Sequence[socket.socket]) -> bool:
    """Say whether other machines can connect to any of these sockets."""
    return any(
        opened.family != socket.AF_UNIX and not ipaddress.ip_address(opened.getsockname()[0]).is_loopback
        for opened in sockets
    )


def url_of(sockets: Sequence[socket.socket], *, tls: bool) -> str | None:
    """Return the address of the first socket with a port: `http://127.0.0.1:4318`; None if there is none."""
    for opened in sockets:
        if opened.family != socket.AF_UNIX:
            host, port = opened.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            return f"{'https' if tls else 'http'}://{shown}:{port}"
    return None
