"""Sending messages to channels: plain webhooks by ourselves (eventlog.queries.alerts.webhooks), others through Apprise.

It may open no files, follow no redirects, and go to no host but the one in the URL.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.errors import MissingExtra
from eventlog.queries.alerts import channels, webhooks
from eventlog.queries.alerts.channels import redacted

if TYPE_CHECKING:
    from apprise import Apprise

ATTEMPTS_MAX = 8
BACKOFF_S, BACKOFF_S_MAX = 30.0, 3600.0
TIMEOUT_S = 10.0
_REASON_CHARS_MAX = 300
_SEVERITY = {"info": "info", "warning": "warning", "critical": "failure"}
_UNKNOWN = "Apprise knows no such URL"


class Message(msgspec.Struct, frozen=True):
    """A message for a channel: a title of one line, and a body of lines. `severity` is info, warning or critical."""

    title: str
    body: str
    severity: str


def test_message(name: str) -> Message:
    """Return a test message; `name` is what it tests, such as `the rule spend`."""
    line = f"eventlog: this is a test of {name}; nothing is wrong"
    return Message(f"[info] {line}", line, "info")


def backoff_s(attempt: int) -> float | None:
    """Return the seconds to wait after failed attempt 1, 2, …: 30, 60, … up to 3600; None after the last one (8)."""
    return None if attempt >= ATTEMPTS_MAX else min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_S_MAX)


def problem(channel: str, environ: Mapping[str, str]) -> str | None:
    """Return why nothing could be sent to a channel, such as an unset variable; None if nothing is wrong with it.

    Nothing is sent. Raises MissingExtra without Apprise, unless it is a plain webhook.
    """
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    refused = channels.refusal(url)
    if refused is None and webhooks.request_for(url, "", "", "") is None and _service(url) is None:
        refused = _UNKNOWN
    return None if refused is None else f"{channels.label(channel)}: {refused}"


def send(channel: str, message: Message, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> str | None:
    """Send a message; return None if the channel took it, else why not, without secrets.

    A channel that does not answer within `timeout_s` may have taken it all the same. Raises MissingExtra without
    Apprise, unless it is a plain webhook.
    """
    url, unset = _url(channel, environ)
    if url is None:
        return unset
    refused = channels.refusal(url)
    if refused is not None:
        return refused
    try:
        reason = _send(url, message, timeout_s)
    except MissingExtra:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin's; the other channels must be notified all the same
        reason = f"{type(error).__name__}: {error}"
    return None if reason is None else redacted(reason, url)[:_REASON_CHARS_MAX]


def _send(url: str, message: Message, timeout_s: float) -> str | None:
    plain = webhooks.request_for(url, message.title, message.body, _SEVERITY[message.severity])
    if plain is not None:
        return webhooks.post(plain, timeout_s=timeout_s)
    service = _service(url)
    if service is None:
        return _UNKNOWN
    result = service.notify(
        title=message.title, body=message.body, notify_type=_SEVERITY[message.severity], body_format="text",
        timeout=timeout_s,
    )  # fmt: skip
    if result:
        return None
    lines = list(dict.fromkeys(entry.message for target in result for entry in target.logs()))
    return " ".join(lines) or f"it was not taken ({result.status.name.lower()})"


def _url(channel: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    name = channels.variable(channel)
    if name is None:
        return channel, None
    url = channels.from_web_address(environ.get(name, "").strip())
    return (url, None) if url else (None, f"the environment has no {name}")


def _service(url: str) -> Apprise | None:
    try:
        import apprise  # noqa: PLC0415 - it loads a third of a second's worth of modules, and is optional
    except ModuleNotFoundError as error:
        raise MissingExtra(f"delivering alerts ({error.name} is missing)", "alerts") from None
    # Apprise logs errors, which are in its result too; they must not go to standard error.
    logger = logging.getLogger("apprise")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    asset = apprise.AppriseAsset(
        app_id="eventlog", app_desc="eventlog alerts", async_mode=False, http_redirects=False, allow_templates=False,
        image_path_mask=False, storage_mode="memory", result_log_disk_size=0,
    )  # fmt: skip
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None or not _goes_there(plugin, url):
        return None
    service = apprise.Apprise(asset=asset)
    return service if service.add(plugin) else None


def _goes_there(plugin: Any, url: str) -> bool:
    """Whether Apprise reads the same host from a webhook's URL as `channels.host`, by which it was allowed."""
    host = channels.host(url)
    if host is None:
        return True
    port = plugin.port or channels.WEBHOOKS[channels.scheme(url)]
    return bool((plugin.host or "").strip("[]").lower() == host.name.strip("[]") and port == host.port)
