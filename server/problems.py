"""What a request is told where it fails: `application/problem+json` (RFC 9457) with a `code` that never changes.

    {"type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found", "detail": "…", "request_id": "…"}

The codes are in docs/server.md. A detail says what to do; it never holds a key, a payload, or a path of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

PROBLEM_TYPE = "application/problem+json"


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer that is an error."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class Problem(Exception):
    """A request that cannot be answered as it was asked; raised by whatever finds that out."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> ProblemBody:
        """Return what the answer says."""
        return ProblemBody(
            title=HTTPStatus(self.status).phrase, status=self.status, code=self.code, detail=self.detail,
            request_id=request_id,
        )  # fmt: skip

    def response(self, request_id: str) -> Response:
        """Return the answer."""
        body = msgspec.json.encode(self.body(request_id))
        return Response(body, self.status, self.headers, media_type=PROBLEM_TYPE)


def not_found(detail: str = "there is nothing at this address; see: eventlog docs server") -> Problem:
    """Return the answer for an unknown address, and for what another workspace has."""
    return Problem(404, "not_found", detail)


def bad_parameter(name: str, detail: str) -> Problem:
    """Return the answer for a parameter that cannot be used."""
    return Problem(400, "bad_parameter", f"{name}: {detail}")


def too_busy(code: str, detail: str, *, after_s: int = 1) -> Problem:
    """Return the answer for what would succeed later."""
    return Problem(503, code, detail, headers={"Retry-After": str(after_s)})


class Answer(Response):
    """A struct as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode a struct; bytes are JSON already."""
        return content if isinstance(content, bytes) else msgspec.json.encode(content)
