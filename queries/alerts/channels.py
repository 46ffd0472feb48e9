"""Channels: which URLs are taken, where each of them goes, and how one is shown without its secrets.

Rules are events, and so may have come from another log. A URL is therefore taken by a list of what is allowed, and
not of what is refused: services that are reached over the network, and of their options those that name no
file, no program and no other place. Apprise offers many more: services of this machine (dbus, syslog, windows,
signals), and options that read a file (`template`, `attach`, keys of PGP, a credentials file).

env:NAME, $NAME    the URL stands in the variable NAME of whoever delivers, and the log never sees it
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

#: Webhooks: the host in the URL is the host that is told. The others go to a service that many share.
WEBHOOKS = {"json": 80, "jsons": 443, "xml": 80, "xmls": 443, "form": 80, "forms": 443}
#: Options of all services.
_OPTIONS = frozenset({"format", "overflow", "rto", "cto", "verify", "emojis"})
_MAIL = frozenset({"from", "to", "cc", "bcc", "name", "smtp", "mode", "reply", "user", "pass"})
#: Scheme → its own options that may be given.
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

_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?:(?P<user>[^@/?#\\]*)@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
#: Headers, parameters and payload fields of a webhook begin with one of these.
_MARKS = "+-:"


class Host(NamedTuple):
    """Where a webhook goes. The name is in small letters."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


def variable(channel: str) -> str | None:
    """Return the variable that a channel names, if it does."""
    found = _VARIABLE.fullmatch(channel)
    return found[1] if found else None


def normal(channel: str) -> str:
    """Return a channel as rules have it: `$NAME` is `env:NAME`. Raises QueryFailed for what is none."""
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    if len(channel) > CHARS_MAX or "://" not in channel or not channel.isprintable():
        raise QueryFailed(
            f"{label(channel)} is no channel; use an Apprise URL such as mailto://… or json://host/path, "
            "or env:NAME for one in the environment"
        )
    return channel


def refusal(url: str) -> str | None:
    """Return why no message is sent to a URL, wherever it is configured; None where one may be."""
    kind = scheme(url)
    if kind not in SERVICES:
        return f"{kind or '?'}:// is not among the services that alerts are delivered to: {', '.join(SERVICES)}"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "it holds a space, a backslash, or a letter that is not ASCII; write it as %xx, a host as punycode"
    if kind in WEBHOOKS and host(url) is None:
        return "its host cannot be told for sure; use scheme://user:password@host:port/path, and %xx for signs"
    for option in re.split(r"[?&;]", url.partition("?")[2]):
        name = option.partition("=")[0]
        is_field = kind in WEBHOOKS and name[:1] != "" and name[:1] in _MARKS
        known = is_field or not name or name.lower() in _OPTIONS | SERVICES[kind]
        if not known or not _NAME.fullmatch(name[1:] if is_field else name) or name.lower() == "+host":
            return "it has an option that is not allowed here, as it may open a file or go to another place"
    return None


def host(url: str) -> Host | None:
    """Return where a webhook goes; None for other services, and where that is not certain."""
    found = _URL.fullmatch(url)
    if found is None or found["scheme"].lower() not in WEBHOOKS:
        return None
    port = int(found["port"]) if found["port"] else WEBHOOKS[found["scheme"].lower()]
    return Host(found["host"].lower(), port) if 0 < port < 65536 else None


def permission(channel: str) -> str:
    """Return what has to be allowed for a channel: a host, a variable, or, of a shared service, this very URL."""
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    to = host(channel)
    if to is not None:
        return str(to)
    return f"{scheme(channel)}#{hashlib.blake2b(channel.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def scheme(url: str) -> str:
    """Return the scheme of a URL in small letters; "" for what can be none."""
    name = url.partition("://")[0].lower()
    return name if re.fullmatch(r"[a-z0-9+.-]{1,40}", name, re.ASCII) else ""


# -- without secrets -----------------------------------------------------------------------


def label(channel: str) -> str:
    """Return what a channel is called where its secrets must not be: the same for the same channel."""
    name = variable(channel)
    if name is not None:
        return f"env:{name}"
    kind = channel.partition("://")[0] if "://" in channel and scheme(channel) else "?"
    mark = hashlib.blake2b(channel.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{kind}://{_public_host(channel)}…#{mark}"


def _public_host(channel: str) -> str:
    """Return the host of a webhook with its port, where it names one; that of other services may be a token."""
    found = _URL.fullmatch(channel)
    if found is None or found["scheme"].lower() not in WEBHOOKS:
        return ""
    return found["host"].lower() + (f":{found['port']}/" if found["port"] else "/")


def may_hold_secret(channel: str) -> bool:
    """Whether a channel, written into the log as it is, may show a secret to whoever reads the log."""
    if variable(channel) is not None:
        return False
    found = _URL.fullmatch(channel)
    if found is None or found["scheme"].lower() not in WEBHOOKS:
        return True
    rest = found["rest"] or ""
    long_part = any(len(part) >= 16 for part in rest.partition("?")[0].split("/"))
    return "@" in channel.partition("://")[2].partition("/")[0] or "?" in rest or long_part


def redacted(text: str, url: str) -> str:
    """Return a text without the parts of a URL that may be secret, however they are spelled in it.

    What stays is the scheme, the host and port of a webhook, and the names of options. A part of one or two
    characters is taken out where it stands alone.
    """
    text = text.replace(url, label(url))
    public = {scheme(url), *_OPTIONS, *SERVICES.get(scheme(url), ())}
    spelled = {each for part in _parts(url) for each in _spellings(part)}
    for each in sorted(spelled, key=lambda each: (-len(each), each)):
        if each.lower() not in public:
            pattern = re.escape(each)
            if len(each) < 3:
                pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
            text = re.sub(pattern, "…", text, flags=re.IGNORECASE)
    return text


def _parts(url: str) -> set[str]:
    """Return the parts of a URL between the signs that part it: finer and coarser ones."""
    rest = url.partition("://")[2]
    found = _URL.fullmatch(url)
    if found is not None and found["scheme"].lower() in WEBHOOKS:
        rest = f"{found['user'] or ''}/{found['rest'] or ''}"
    return {
        part for signs in (r"[/?&=#;]+", r"[/:@?&=#,;]+", r"[/:@?&=#,;+]+") for part in re.split(signs, rest) if part
    }


def _spellings(part: str) -> set[str]:
    """Return how a part of a URL may stand in a message: encoded, decoded, once or twice, as HTML or JSON."""
    plain = {part, unquote(part), unquote_plus(part), unquote(unquote(part))}
    coded = {code(each, safe="") for each in plain for code in (quote, quote_plus)}
    written = {form for each in plain for form in (html.escape(each), json.dumps(each)[1:-1], repr(each)[1:-1])}
    return {each for each in plain | coded | written if each.strip()}
