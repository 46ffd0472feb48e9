"""`eventlog serve` as a process, with keys, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from eventlog.format.keys import Scope
from eventlog.server import keys
from tests.server.support_up import WAIT_S, until


class Reply(NamedTuple):
    """An answer: its status, its headers, and its body as Python objects; None for none."""

    status: int
    headers: http.client.HTTPMessage
    body: Any

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        return self.body.get("code") if isinstance(self.body, dict) else None


class Served(NamedTuple):
    """A running server."""

    root: Path
    process: subprocess.Popen[str]
    url: str
    login: str

    def key(self, *scopes: Scope, workspace: str | None = None, **limits: Any) -> str:
        """A new key, which the server knows."""
        key, _ = keys.create(self.root, scopes=scopes or ("admin",), workspace=workspace, **limits)
        until(lambda: self.ask("GET", "/v1/session", key).status != 401, "the key")
        return key

    def ask(
        self, method: str, path: str, key: str | None = None, body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:  # fmt: skip
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=WAIT_S)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            text = answer.read()
            return Reply(answer.status, answer.headers, json.loads(text) if text else None)
        finally:
            connection.close()


@contextmanager
def serving(root: Path, *arguments: str, settings: str = "") -> Iterator[Served]:
    """Serve a root, with the content of a settings file."""
    file = root.parent / "settings.toml"
    file.write_text(settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "serve", "--port=0", f"--root={root}", *arguments],
        env={**os.environ, "EVENTLOG_CONFIG": str(file)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "it does not serve"
        login = process.stdout.readline().partition("#token=")[2].strip()
        yield Served(root, process, url, login)
        if process.poll() is None:  # a test may have ended it
            process.terminate()
            assert process.wait(WAIT_S) in (0, -15)
    finally:
        process.kill()
        process.communicate()
