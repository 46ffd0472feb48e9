"""Plain JSON webhooks, by the standard library alone: one POST to the host in the URL, and to no other.

    jsons://host/path?-key=value  →  POST https://host/path?key=value
    {"version": "1.0", "title": …, "message": …, "attachments": [], "type": "warning"}

The form is Apprise's, which delivers to all other channels: a receiver that knows one knows the other. A proxy of the
environment (`HTTPS_PROXY`) is used. A redirect is an answer like any other that is not 2xx: it is not followed.
"""

from __future__ import annotations

import base64
import threading
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec

from eventlog.process import threads
from eventlog.queries.alerts import channels
from eventlog.version import __version__

_SCHEMES = {"json": "http", "jsons": "https"}


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def request_for(url: str, title: str, body: str, kind: str) -> Request | None:
    """Return the request for a channel's URL; None where it is no plain webhook: another service, or with options."""
    scheme, host = channels.scheme(url), channels.host(url)
    parts = urlsplit(url)
    fields = parts.query.split("&") if parts.query else []
    if scheme not in _SCHEMES or host is None or parts.fragment or not all(field[:1] == "-" for field in fields):
        return None
    place = parts.netloc.rpartition("@")[2]
    query = "&".join(field[1:] for field in fields)
    address = urlunsplit((_SCHEMES[scheme], place, parts.path or "/", query, ""))
    headers = {"Content-Type": "application/json", "User-Agent": f"eventlog/{__version__}"}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    content = {"version": "1.0", "title": title, "message": body, "attachments": [], "type": kind}
    return Request(address, msgspec.json.encode(content), headers, method="POST")  # noqa: S310 - http or https, see above


def post(request: Request, *, timeout_s: float) -> str | None:
    """Send a request; return None where the answer is 2xx, else why not.

    In a thread, which is left alone after `timeout_s`: a time limit on a socket is one for each wait, and an answer may
    come byte by byte.
    """
    answers: list[str | None] = []
    thread = threading.Thread(
        target=lambda: answers.append(_post(request, timeout_s)), name="eventlog-webhook", daemon=True
    )
    if threads.start(thread):
        thread.join(timeout_s)
    return answers[0] if answers else f"it did not finish within {timeout_s:g} s"


def _post(request: Request, timeout_s: float) -> str | None:
    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout_s):
            return None
    except HTTPError as error:
        with error:
            return f"it answered {error.code} {error.reason}"
    except TimeoutError:
        return f"it did not finish within {timeout_s:g} s"
    except (OSError, HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {getattr(error, 'reason', None) or error}"
