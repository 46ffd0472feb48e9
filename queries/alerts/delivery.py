"""Telling channels: Apprise URLs, in the rule or, better, in the environment of whoever delivers.

env:NAME, $NAME    the URL stands in the variable NAME, and the log never sees it
anything else      the URL itself; shown, and logged of deliveries, without what may be secret
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from eventlog.errors import MissingExtra, QueryFailed

if TYPE_CHECKING:
    from apprise import Apprise

ATTEMPTS_MAX = 8
BACKOFF_S, BACKOFF_S_MAX = 30.0, 3600.0
TIMEOUT_S = 10.0
CHANNEL_CHARS_MAX = 2000
_REASON_CHARS_MAX = 300
_VARIABLE = re.compile(r"(?:env:|\$)([A-Za-z_][A-Za-z0-9_]*)")
#: Their host is a host; that of others may be a token.
_HOST_IS_PUBLIC = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_SEVERITY = {"info": "info", "warning": "warning", "critical": "failure"}
_SECRET_CHARS_MIN = 4


class Message(msgspec.Struct, frozen=True):
    """What a channel is told: a title of one line, and lines of `name: value`."""

    title: str
    body: str
    severity: str


def test_message(name: str) -> Message:
    """Return what a test says."""
    line = f"eventlog: this is a test of {name}; nothing is wrong"
    return Message(f"[info] {line}", line, "info")


def normal(channel: str) -> str:
    """Return a channel as rules have it: `$NAME` is `env:NAME`. Raises QueryFailed for what is none."""
    found = _VARIABLE.fullmatch(channel)
    if found:
        return f"env:{found[1]}"
    if len(channel) > CHANNEL_CHARS_MAX or "://" not in channel or not channel.isprintable():
        raise QueryFailed(
            f"{label(channel)} is no channel; use an Apprise URL such as mailto://… or json://host/path, "
            "or env:NAME for one in the environment"
        )
    return channel


def label(channel: str) -> str:
    """Return what a channel is called where its secrets must not be: the same for the same channel."""
    if _VARIABLE.fullmatch(channel):
        return "env:" + channel.removeprefix("env:").removeprefix("$")
    scheme, separator, _ = channel.partition("://")
    if not separator:
        scheme = "?"
    mark = hashlib.blake2b(channel.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{scheme}://{_public_host(channel) if scheme in _HOST_IS_PUBLIC else ''}…#{mark}"


def _public_host(channel: str) -> str:
    try:
        parts = urlsplit(channel)
        return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}/"
    except ValueError:
        return ""


def may_hold_secret(channel: str) -> bool:
    """Whether a channel, written into the log as it is, may show a secret to whoever reads the log."""
    if _VARIABLE.fullmatch(channel):
        return False
    try:
        parts = urlsplit(channel)
    except ValueError:
        return True
    long_part = any(len(part) >= 16 for part in parts.path.split("/"))
    return parts.scheme not in _HOST_IS_PUBLIC or parts.username is not None or bool(parts.query) or long_part


def backoff_s(attempt: int) -> float | None:
    """Return how long to wait after a failed attempt, the first being 1; None where it was the last."""
    return None if attempt >= ATTEMPTS_MAX else min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_S_MAX)


def problem(channel: str, environ: Mapping[str, str]) -> str | None:
    """Return what keeps a channel from being told at all, as far as can be seen from here. Raises MissingExtra."""
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    return None if _service(url) is not None else f"{label(channel)}: Apprise knows no such URL"


def send(channel: str, message: Message, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> str | None:
    """Tell a channel; return None where it took the message, else why not, without secrets. Raises MissingExtra.

    One that did not answer in time may have taken it all the same.
    """
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    service = _service(url)
    if service is None:
        return "Apprise knows no such URL"
    done = service.notify(
        title=message.title, body=message.body, notify_type=_SEVERITY[message.severity], body_format="text",
        timeout=timeout_s,
    )  # fmt: skip
    if done:
        return None
    said = list(dict.fromkeys(entry.message for each in done for entry in each.logs()))
    words = " ".join(said) or f"it was not taken ({done.status.name.lower()})"
    return redacted(words, url)[:_REASON_CHARS_MAX]


def redacted(text: str, url: str) -> str:
    """Return a text without the parts of a URL that may be secret: all but its scheme and a host that is one."""
    scheme, _, rest = url.partition("://")
    public = {scheme} | ({urlsplit(url).hostname or ""} if scheme in _HOST_IS_PUBLIC else set())
    text = text.replace(url, label(url))
    for part in sorted(set(re.split(r"[/:@?&=#,]+", rest)), key=len, reverse=True):
        if len(part) >= _SECRET_CHARS_MIN and part not in public:
            text = text.replace(part, "…")
    return text


def _url(channel: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    found = _VARIABLE.fullmatch(channel)
    if not found:
        return channel, None
    url = environ.get(found[1], "").strip()
    return (url, None) if url else (None, f"the environment has no {found[1]}")


def _service(url: str) -> Apprise | None:
    try:
        import apprise  # noqa: PLC0415 - it loads a third of a second's worth of modules, and is optional
    except ModuleNotFoundError as error:
        raise MissingExtra(f"delivering alerts ({error.name} is missing)", "alerts") from None
    # It logs what goes wrong. That is in the result too, and must not go to standard error instead.
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    service = apprise.Apprise(
        asset=apprise.AppriseAsset(app_id="eventlog", app_desc="eventlog alerts", async_mode=False)
    )
    return service if service.add(url) else None
