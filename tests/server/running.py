"""A real server in a process of its own, and requests to it."""

from __future__ import annotations

import http.client
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from eventlog.format.keys import SCOPES, Scope
from eventlog.server import keys

START_S = 30.0


class Answered(NamedTuple):
    """What a request was answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem; None where it is none."""
        return self.json["code"] if self.headers["content-type"] == "application/problem+json" else None


class Running(NamedTuple):
    """A server that listens, and a key of all scopes for all workspaces."""

    process: subprocess.Popen[bytes]
    url: str
    login: str
    root: Path
    key: str

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | Sequence[object] | Mapping[str, object] | None = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Make one request; with the server's key, another one, or (None) without. Objects are sent as JSON."""
        sent = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        data = body.encode() if isinstance(body, str) else body
        if data is not None and not isinstance(data, bytes):
            data = msgspec.json.encode(data)
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.request(method, path, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Answered(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, *, key: str | None = "", headers: Mapping[str, str] | None = None) -> Answered:
        """Make a GET request."""
        return self.request("GET", path, key=key, headers=headers)

    def post(
        self,
        path: str,
        body: bytes | str | Sequence[object] | Mapping[str, object],
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Make a POST request."""
        return self.request("POST", path, body, key=key, headers=headers)

    def make_key(self, *scopes: Scope, workspace: str | None = None, **options: Any) -> str:
        """Make a key; the running server knows it within keys.REFRESH_S."""
        return keys.create(self.root, scopes=scopes or ("ingest", "read"), workspace=workspace, **options)[0]

    def known_key(self, *scopes: Scope, workspace: str | None = None, **options: Any) -> str:
        """Make a key, and wait until the server knows it."""
        key = self.make_key(*scopes, workspace=workspace, **options)
        deadline = time.monotonic() + START_S
        while self.get("/v1/session", key=key).status == 401:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return key


@contextmanager
def serving(root: Path, *arguments: str, settings: str = "", port: int = 0, **environment: str) -> Iterator[Running]:
    """Start `eventlog serve` on a root; end it with SIGTERM. `settings` is the content of a settings file."""
    root.mkdir(parents=True, exist_ok=True)
    key, _ = keys.create(root, scopes=SCOPES, workspace=None)
    file = root.parent / "settings.toml"
    file.write_text(settings)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EVENTLOG_")},
        "EVENTLOG_CONFIG": str(file),
        **environment,
    }
    command = [sys.executable, "-m", "eventlog", "serve", "--port", str(port), "--root", str(root), *arguments]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        lines = _first_lines(process, 2)
        yield Running(process, lines[0], lines[1].removeprefix("log in: "), root, key)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def _first_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    assert process.stderr is not None
    data = b""
    while data.count(b"\n") < count:
        readable, _, _ = select.select([process.stdout], [], [], START_S)
        block = os.read(process.stdout.fileno(), 4096) if readable else b""
        if not block:
            process.kill()
            raise AssertionError(f"the server did not start: {process.stderr.read().decode()}")
        data += block
    return data.decode().splitlines()
