"""Channels: which URLs are accepted, where each of them goes, and its label without secrets.

Rules are events, and so may have come from another log. URLs are therefore accepted by an allowlist: services that are
reached over the network, and of their options those that name no file, no program and no other host. Apprise offers
many more: services of this machine (dbus, syslog, windows, signals), and options that read a file (`template`,
`attach`, keys of PGP, a credentials file).

env:NAME, $NAME    the URL is in the environment variable NAME of whoever delivers, and never in the log
anything else      the URL itself
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from eventlog.errors import QueryFailed

CHARS_MAX = 2000
_VARIABLE = re.compile(r"(?:env:|\$)([A-Za-z_][A-Za-z0-9_]*)")

#: Webhooks and their default ports. Their messages go to the host in the URL; other services are shared by many.
WEBHOOKS = {"json": 80, "jsons": 443, "xml": 80, "xmls": 443, "form": 80, "forms": 443}
#: Options of all services.
_OPTIONS = frozenset({"format", "overflow", "rto", "cto", "verify", "emojis"})
_MAIL = frozenset({"from", "to", "cc", "bcc", "name", "smtp", "mode", "reply", "user", "pass"})
#: Scheme → the options of its own that are accepted.
SERVICES: dict[str, frozenset[str]] = {
    **{scheme: frozenset({"method"}) for scheme in WEBHOOKS},
    "slack": frozenset({"to", "token", "mode", "footer", "blocks"}),
    "discord": frozenset({"footer", "tts", "avatar", "botname", "thread", "ping"}),
    "tgram": frozenset({"to", "topic", "thread", "silent", "preview", "mdv", "content"}),
    "mailto": _MAIL,
    "mailtos": _MAIL,
    "ntfy": frozenset({"to", "priority", "tags", "click", "mode", "auth", "token"}),
    "ntfys": frozenset({"to", "priority", "tags", "click", "mode", "auth", "token"}),
    "gotify": frozenset({"priority"}),
    "gotifys": frozenset({"priority"}),
    "mmost": frozenset({"to", "channel", "channels", "team", "botname", "mode"}),
    "mmosts": frozenset({"to", "channel", "channels", "team", "botname", "mode"}),
    "rocket": frozenset({"to", "mode", "avatar", "webhook"}),
    "rockets": frozenset({"to", "mode", "avatar", "webhook"}),
    "matrix": frozenset({"to", "token", "mode", "msgtype", "version", "v"}),
    "matrixs": frozenset({"to", "token", "mode", "msgtype", "version", "v"}),
    "zulip": frozenset({"to", "token"}),
    "gchat": frozenset({"workspace", "key", "token", "thread", "threadkey"}),
    "workflow": frozenset({"id", "signature", "sig", "workflow", "route", "routeid", "ver"}),
    "workflows": frozenset({"id", "signature", "sig", "workflow", "route", "routeid", "ver"}),
    "pover": frozenset({"to", "priority", "sound", "expire", "interval", "key", "url", "url_title"}),
    "pagerduty": frozenset({"action", "class", "click", "component", "dedup", "group", "region", "severity", "source",
                            "apikey", "integrationkey"}),
    "opsgenie": frozenset({"action", "alias", "apikey", "entity", "priority", "region", "tags", "to"}),
}  # fmt: skip

#: Addresses that take messages of their own form, and the services that know it.
_WEB_ADDRESSES = {
    "hooks.slack.com/services/": "slack",
    "discord.com/api/webhooks/": "discord",
    "discordapp.com/api/webhooks/": "discord",
}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?:(?P<user>[^@/?#\\]*)@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
#: Prefixes of a webhook's headers, parameters and payload fields.
_MARKS = "+-:"


class Host(NamedTuple):
    """The host that a webhook goes to: a lower-case name or address, and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


def variable(channel: str) -> str | None:
    """Return the variable that a channel names: SLACK_URL for `env:SLACK_URL`; None for a URL."""
    match = _VARIABLE.fullmatch(channel)
    return match[1] if match else None


def from_web_address(url: str) -> str:
    """Return the Apprise URL of a webhook's web address, as people paste it; any other channel as it is.

    `https://host/path` becomes `jsons://host/path`, and gets JSON; an address of Slack or Discord becomes theirs.
    """
    kind, _, rest = url.partition("://")
    if kind.lower() not in ("http", "https"):
        return url
    address, _, query = rest.partition("?")
    for prefix, service in _WEB_ADDRESSES.items():
        if address.startswith(prefix):
            return f"{service}://{address.removeprefix(prefix).strip('/')}"
    fields = "&".join(f"-{field}" for field in query.split("&") if field)  # Apprise passes on what has this mark
    return f"json{'s' if kind.lower() == 'https' else ''}://{address}" + (f"?{fields}" if fields else "")


def normal(channel: str) -> str:
    """Return a channel as rules have it: `env:NAME` for `$NAME`, `jsons://…` for `https://…`.

    Raises QueryFailed if it is neither a variable nor a URL.
    """
    channel = from_web_address(channel)
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    if len(channel) > CHARS_MAX or "://" not in channel or not channel.isprintable():
        raise QueryFailed(
            f"{label(channel)} is not a channel; use a webhook such as https://host/path, "
            "an Apprise URL such as mailto://…, or env:NAME for one in the environment"
        )
    return channel


def refusal(url: str) -> str | None:
    """Return why no message is ever sent to a URL, such as an option that reads a file; None if it is accepted."""
    kind = scheme(url)
    if kind not in SERVICES:
        return f"{kind or '?'}:// is not a service that alerts can be delivered to; use one of {', '.join(SERVICES)}"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "it holds a space, a backslash, or a letter that is not ASCII; write it as %xx, a host as punycode"
    if kind in WEBHOOKS and host(url) is None:
        return "its host is ambiguous; use scheme://user:password@host:port/path, and %xx for special characters"
    for option in re.split(r"[?&;]", url.partition("?")[2]):
        name = option.partition("=")[0]
        is_field = kind in WEBHOOKS and name[:1] != "" and name[:1] in _MARKS
        accepted = is_field or not name or name.lower() in _OPTIONS | SERVICES[kind]
        if not accepted or not _NAME.fullmatch(name[1:] if is_field else name) or name.lower() == "+host":
            return "it has an option that is not allowed here, as it may open a file or go to another host"
    return None


def host(url: str) -> Host | None:
    """Return the host that a webhook goes to; None for other services, and for a URL that could be read two ways."""
    match = _webhook(url)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else WEBHOOKS[match["scheme"].lower()]
    return Host(match["host"].lower(), port) if 0 < port < 65536 else None


def _webhook(url: str) -> re.Match[str] | None:
    match = _URL.fullmatch(url)
    return match if match is not None and match["scheme"].lower() in WEBHOOKS else None


def permission(channel: str) -> str:
    """Return the entry of `alerts.toml` that allows a channel.

    That is `hooks.example.com:443` for a webhook, `env:SLACK_URL` for a variable, and `slack#9f86…`, with the hash of
    this very URL, for a service that many share.
    """
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    webhook_host = host(channel)
    if webhook_host is not None:
        return str(webhook_host)
    return f"{scheme(channel)}#{hashlib.blake2b(channel.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def scheme(url: str) -> str:
    """Return the scheme of a URL in lower case; "" if it cannot be one."""
    name = url.partition("://")[0].lower()
    return name if re.fullmatch(r"[a-z0-9+.-]{1,40}", name, re.ASCII) else ""


# -- without secrets -----------------------------------------------------------------------


def label(channel: str) -> str:
    """Return the name of a channel without its secrets: `env:SLACK_URL`, `json://example.com/…#6bfc37e5`.

    Equal channels have equal labels.
    """
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    kind = channel.partition("://")[0] if "://" in channel and scheme(channel) else "?"
    mark = hashlib.blake2b(channel.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{kind}://{_public_host(channel)}…#{mark}"


def _public_host(channel: str) -> str:
    """Return the host of a webhook, with the port if it names one; the host of another service may be a token."""
    match = _webhook(channel)
    if match is None:
        return ""
    return match["host"].lower() + (f":{match['port']}/" if match["port"] else "/")


def may_hold_secret(channel: str) -> bool:
    """Whether a channel that is written to the log as it is may show a password or token to readers of the log."""
    if variable(channel) is not None:
        return False
    match = _webhook(channel)
    if match is None:
        return True
    rest = match["rest"] or ""
    long_part = any(len(part) >= 16 for part in rest.partition("?")[0].split("/"))
    return "@" in channel.partition("://")[2].partition("/")[0] or "?" in rest or long_part


def redacted(text: str, url: str) -> str:
    """Return a text with the parts of a URL that may be secret replaced by `…`, however they are encoded in it.

    The host and port of a webhook, and the names of options stay, unless a part is the same word. A part of one or two
    characters is replaced only where it stands alone.
    """
    text = text.replace(url, label(url))
    spellings = {spelling for part in _parts(url) for spelling in _spellings(part)}
    for spelling in sorted(spellings, key=lambda spelling: (-len(spelling), spelling)):
        pattern = re.escape(spelling)
        if len(spelling) < 3:
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        text = re.sub(pattern, "…", text, flags=re.IGNORECASE)
    return text


def _parts(url: str) -> set[str]:
    """Return the parts of a URL between its delimiters, split finely and coarsely; without the names of options."""
    rest = url.partition("://")[2]
    match = _webhook(url)
    if match is not None:
        rest = f"{match['user'] or ''}/{match['rest'] or ''}"
    options = _OPTIONS | SERVICES.get(scheme(url), frozenset())
    rest = re.sub(rf"(?<=[?&;])(?:{'|'.join(sorted(options))})(?==)", "", rest, flags=re.IGNORECASE)
    return {
        part for signs in (r"[/?&=#;]+", r"[/:@?&=#,;]+", r"[/:@?&=#,;+]+") for part in re.split(signs, rest) if part
    }


def _spellings(part: str) -> set[str]:
    """Return the spellings of a part of a URL in a message: encoded, decoded once or twice, as HTML or JSON."""
    plain = {part, unquote(part), unquote_plus(part), unquote(unquote(part))}
    coded = {code(text, safe="") for text in plain for code in (quote, quote_plus)}
    quoted = {form for text in plain for form in (html.escape(text), json.dumps(text)[1:-1], repr(text)[1:-1])}
    return {spelling for spelling in plain | coded | quoted if spelling.strip()}
