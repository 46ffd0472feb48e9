"""Sending events to a server (`eventlog serve`) over HTTP, for programs that write no local log.

    with Client("http://127.0.0.1:4318", key="evk_…") as client:
        client.emit("deploy", {"version": 7}, run_id="r1")

It keeps one connection open, and tries again for `patience_s` seconds while the server is away, busy or full. Each
request has a key of its own, so a request that is made again adds nothing twice. Nothing is kept if it fails in the
end: `configure(mode="remote")` is for agents, which writes a local log first.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from eventlog.errors import ConfigError, InvalidEvent, SendFailed

#: Seconds between attempts: doubled each time, and of that a random part, so that clients do not come back together.
_DELAY_MIN_S, _DELAY_MAX_S = 0.25, 30.0
#: The server may take it later; 500 is a fault of its own, which may be one of the moment.
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_ANSWER_MAX_BYTES = 16 * 1024 * 1024


class Sent(NamedTuple):
    """What became of events: the ids of those that are in the server's log, and those that it refused.

    A refused one is `{"index": 1, "code": "invalid_event", "detail": "…"}`; `index` counts from 0.
    """

    ids: list[str]
    rejected: list[dict[str, Any]]


class Response(NamedTuple):
    """An answer of the server. `retry_after_s` is how long it asks to wait; 0 if it does not."""

    status: int
    body: Any
    retry_after_s: float

    @property
    def is_taken(self) -> bool:
        """Whether the body has a verdict on each event."""
        return self.status in (200, 422) and isinstance(self.body, dict) and "accepted" in self.body

    @property
    def is_cut_short(self) -> bool:
        """Whether the server could write only a part of what it would have taken."""
        return self.is_taken and any(each.get("code") == "not_written" for each in self.body["rejected"])

    @property
    def may_succeed_later(self) -> bool:
        """Whether the same request may succeed after a while."""
        return self.status in _LATER or self.is_cut_short

    def __str__(self) -> str:
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        return f"{self.status} {detail}" if detail else str(self.status)


class Client:
    """A connection to one server. Threads may share it, and wait for each other.

    `url` is that of the server (`https://log.example`), `key` one with the scope ingest, `timeout_s` the longest wait
    for one answer. Raises ConfigError for a URL that is none.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 10.0, patience_s: float = 60.0) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.username is not None:
            raise ConfigError(f"{url!r} is no address of a server; use one such as https://log.example:4318")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError("the key has characters that no key has; is it cut, or quoted twice?")
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._path = parts.path.rstrip("/")
        self._is_https = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def emit(self, event_type: str, payload: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Send one event; return its id. `fields` are those of the envelope, such as `run_id="r1"`.

        Raises InvalidEvent where the server refuses it, and SendFailed where it is not taken in time.
        """
        sent = self.send([{"event_type": event_type, "payload": payload or {}, **fields}])
        if sent.rejected:
            raise InvalidEvent(f"{sent.rejected[0]['code']}: {sent.rejected[0]['detail']}")
        return sent.ids[0]

    def send(self, events: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> Sent:
        """Send events, each as `{"event_type": "deploy", "payload": {…}, "run_id": "r1"}`; return what became of them.

        With an `idempotency_key` of yours, events that are sent again by another process are the same rows, too.
        Raises InvalidEvent for what is no JSON, and SendFailed where they are not taken within `patience_s`.
        """
        try:
            lines = [json.dumps(event, allow_nan=False, ensure_ascii=False).encode() for event in events]
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
            raise InvalidEvent(f"an event cannot be written as JSON: {error}") from None
        if not lines:
            return Sent([], [])
        return self.send_lines(lines, idempotency_key=idempotency_key or uuid.uuid4().hex)

    def send_lines(self, lines: Iterable[bytes], *, idempotency_key: str | None = None) -> Sent:
        """Like `send`, for events that are JSON already, each without a newline."""
        body = b"\n".join(lines)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        deadline = time.monotonic() + self.patience_s
        delay_s = _DELAY_MIN_S
        while True:
            try:
                response = self.request("POST", "/v1/events", body, headers)
                if response.is_taken and not response.is_cut_short:
                    return Sent(response.body["ids"], response.body["rejected"])
                reason, may_succeed = str(response), response.may_succeed_later
                wait_s = max(response.retry_after_s, delay_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            except OSError as error:
                reason, may_succeed = str(error), True
                wait_s = delay_s * random.uniform(0.5, 1)  # noqa: S311 - no secret
            left_s = deadline - time.monotonic()
            if not may_succeed or wait_s > left_s:
                raise SendFailed(f"{self.url} has not taken the events: {reason}")
            time.sleep(wait_s)
            delay_s = min(delay_s * 2, _DELAY_MAX_S)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Make one request, once. Raises OSError where there is no answer within `timeout_s`."""
        with self._lock:
            try:
                return self._request(method, path, body, {**self._headers, **(headers or {})})
            except http.client.HTTPException as error:
                raise ConnectionError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection. A later request opens another one."""
        with self._lock:
            self._drop()

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        is_old = self._connection is not None
        try:
            return self._asked(method, path, body, headers)
        except (ConnectionError, http.client.BadStatusLine):
            self._drop()
            if not is_old:
                raise
        except BaseException:
            self._drop()  # an answer that comes later would be taken for that of the next request
            raise
        return self._asked(method, path, body, headers)  # the server has closed a connection that was idle

    def _asked(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        connection = self._connection
        if connection is None:
            kind = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
            connection = self._connection = kind(self._host, self._port, timeout=self.timeout_s)
        connection.request(method, self._path + path, body, dict(headers))
        answer = connection.getresponse()
        data = answer.read(_ANSWER_MAX_BYTES)
        if answer.will_close or not answer.isclosed():
            self._drop()
        try:
            decoded = json.loads(data) if data else None
        except (ValueError, RecursionError):
            decoded = None
        return Response(answer.status, decoded, _seconds(answer.headers.get("Retry-After")))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _seconds(text: str | None) -> float:
    """Return a Retry-After in seconds; 0 for none, and for a date."""
    return float(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 6 else 0.0
