"""What tests of alerts share: a clock, events around it, rules, and a channel that writes down what it gets."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from eventlog.config import Config
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.control import Role
from eventlog.queries.alerts import allowed
from eventlog.queries.alerts.check import Checked, check
from eventlog.record.recorder import Recorder
from tests.indexer.support import index

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment, in seconds from NOW."""
    return NOW + timedelta(seconds=seconds)


def emit(root: Path, *events: tuple[float, msgspec.Struct, dict[str, Any]]) -> None:
    """Emit events at seconds from NOW."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for seconds, event, fields in events:
        recorder.emit(event, timestamp=at(seconds), **fields)
    recorder.shutdown()


def rule(name: str, kind: str, threshold: str | None = None, **fields: Any) -> AlertRuleSet:
    """A rule; its threshold as text."""
    return AlertRuleSet(name=name, kind=kind, threshold=None if threshold is None else Decimal(threshold), **fields)


def add(root: Path, *rules: AlertRuleSet, seconds: float = -7200, workspace: str | None = None) -> None:
    """Set rules, long before NOW: by their events alone, which is all that there is to it."""
    emit(root, *((seconds, each, {"workspace": workspace}) for each in rules))
    allowed.allow(root, [channel for each in rules for channel in each.channels])
    index(root)


def checked(root: Path, seconds: float = 0, **options: Any) -> Checked:
    """Check at a moment."""
    return check(root, now=at(seconds), **options)


def states(done: Checked) -> dict[str, str]:
    """How each rule is."""
    return {each.name: each.state for each in done.rules}


class Channel:
    """A webhook on this machine. `answers` are status codes to give in turn; then 200. `delay_s` is before each."""

    def __init__(self, port: int) -> None:
        self.url = f"json://127.0.0.1:{port}/hook"
        self.received: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.delay_s = 0.0
        #: Where to send whoever gets a 3xx.
        self.location: str | None = None

    def wait_for(self, count: int, timeout_s: float = 20) -> None:
        """Wait until so many messages have come."""
        deadline = time.monotonic() + timeout_s
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} came"
            time.sleep(0.02)

    def facts(self, number: int = 0) -> dict[str, str]:
        """The lines `name: value` of a message."""
        lines = self.received[number]["message"].splitlines()[2:]
        return dict(line.split(": ", 1) for line in lines)


@contextmanager
def listening() -> Iterator[Channel]:
    """Lend a channel."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            channel.received.append(json.loads(body))
            time.sleep(channel.delay_s)
            self.send_response(channel.answers.pop(0) if channel.answers else 200)
            if channel.location is not None:
                self.send_header("Location", channel.location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    channel = Channel(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield channel
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
