"""Telling channels through Apprise, and what it may do for that: no files, no redirects, no other host."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.errors import MissingExtra
from eventlog.queries.alerts import channels
from eventlog.queries.alerts.channels import label, may_hold_secret, normal, redacted

if TYPE_CHECKING:
    from apprise import Apprise

__all__ = ["label", "may_hold_secret", "normal", "redacted"]

ATTEMPTS_MAX = 8
BACKOFF_S, BACKOFF_S_MAX = 30.0, 3600.0
TIMEOUT_S = 10.0
_REASON_CHARS_MAX = 300
_SEVERITY = {"info": "info", "warning": "warning", "critical": "failure"}
_UNKNOWN = "Apprise knows no such URL"


class Message(msgspec.Struct, frozen=True):
    """What a channel is told: a title of one line, and lines of `name: value`."""

    title: str
    body: str
    severity: str


def test_message(name: str) -> Message:
    """Return what a test says."""
    line = f"eventlog: this is a test of {name}; nothing is wrong"
    return Message(f"[info] {line}", line, "info")


def backoff_s(attempt: int) -> float | None:
    """Return how long to wait after a failed attempt, the first being 1; None where it was the last."""
    return None if attempt >= ATTEMPTS_MAX else min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_S_MAX)


def problem(channel: str, environ: Mapping[str, str]) -> str | None:
    """Return what keeps a channel from being told at all, as far as can be seen from here. Raises MissingExtra."""
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    refused = channels.refusal(url)
    if refused is None and _service(url) is None:
        refused = _UNKNOWN
    return None if refused is None else f"{label(channel)}: {refused}"


def send(channel: str, message: Message, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> str | None:
    """Tell a channel; return None where it took the message, else why not, without secrets. Raises MissingExtra.

    One that did not answer in time may have taken it all the same.
    """
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    refused = channels.refusal(url)
    if refused is not None:
        return refused
    try:
        words = _send(url, message, timeout_s)
    except MissingExtra:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin's; one channel must not keep others from being told
        words = f"{type(error).__name__}: {error}"
    return None if words is None else redacted(words, url)[:_REASON_CHARS_MAX]


def _send(url: str, message: Message, timeout_s: float) -> str | None:
    service = _service(url)
    if service is None:
        return _UNKNOWN
    done = service.notify(
        title=message.title, body=message.body, notify_type=_SEVERITY[message.severity], body_format="text",
        timeout=timeout_s,
    )  # fmt: skip
    if done:
        return None
    said = list(dict.fromkeys(entry.message for each in done for entry in each.logs()))
    return " ".join(said) or f"it was not taken ({done.status.name.lower()})"


def _url(channel: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    name = channels.variable(channel)
    if name is None:
        return channel, None
    url = environ.get(name, "").strip()
    return (url, None) if url else (None, f"the environment has no {name}")


def _service(url: str) -> Apprise | None:
    try:
        import apprise  # noqa: PLC0415 - it loads a third of a second's worth of modules, and is optional
    except ModuleNotFoundError as error:
        raise MissingExtra(f"delivering alerts ({error.name} is missing)", "alerts") from None
    # It logs what goes wrong. That is in the result too, and must not go to standard error instead.
    logger = logging.getLogger("apprise")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    asset = apprise.AppriseAsset(
        app_id="eventlog", app_desc="eventlog alerts", async_mode=False, http_redirects=False, allow_templates=False,
        image_path_mask=False, storage_mode="memory", result_log_disk_size=0,
    )  # fmt: skip
    found = apprise.Apprise.instantiate(url, asset=asset)
    if found is None or not _goes_there(found, url):
        return None
    service = apprise.Apprise(asset=asset)
    return service if service.add(found) else None


def _goes_there(service: Any, url: str) -> bool:
    """Whether Apprise reads the same host from a webhook's URL as we do."""
    to = channels.host(url)
    if to is None:
        return True
    port = service.port or channels.WEBHOOKS[channels.scheme(url)]
    return bool((service.host or "").strip("[]").lower() == to.name.strip("[]") and port == to.port)
