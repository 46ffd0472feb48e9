"""Finding secrets by their shape: tokens with a vendor's prefix, HTTP authorization schemes, URLs, and others.

Each row of `SHAPES` has a text that must match (`example`) and one that must not (`innocent`); a test runs all rows.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from eventlog.record.redaction import values
from eventlog.record.redaction.lazy_patterns import lazily_compiled
from eventlog.record.redaction.tokens import CHARACTERS, TOKENS, Token
from eventlog.record.redaction.view import FILLER, View

Span = tuple[int, int, bytes]


class Shape(NamedTuple):
    """A row of the table: an expression for a kind of secret."""

    #: Every match contains this. It is searched for first, since that is fast.
    needs: bytes
    kind: bytes
    #: Group 1 is redacted, or the whole match if there is no group.
    pattern: bytes
    example: str
    innocent: str
    #: The pattern is for the text in lower case.
    lower: bool = False
    #: Says whether a match is a secret.
    check: Callable[[bytes], bool] = bool


def _mixed(value: bytes) -> bool:
    return values.has_digit(value) and not value.isdigit()


def _is_bearer(value: bytes) -> bool:
    if len(value) >= 32 and not values.has_digit(value):
        return True
    return values.has_digit(value) and not (values.is_slug(value) or values.is_placeholder(value))


def _is_url_password(value: bytes) -> bool:
    return not values.is_placeholder(value) and value not in (b"pass", b"pw", b"PASSWORD", b"PASS")


def _is_private_in_base64(value: bytes) -> bool:
    try:
        return b"PRIVATE KEY" in base64.b64decode(value[:80])
    except binascii.Error:
        return False


_IN_COOKIE = lazily_compiled(
    rb"(?:sess|auth|token|sid|jwt|csrf|xsrf|login|remember|secret|key|id)[a-z0-9_.-]{0,20}=[^;\s]{6,}|=[^;\s]{16,}"
)


def _is_cookie(value: bytes) -> bool:
    return _IN_COOKIE.search(value) is not None and not values.is_marked(value) and b"<" not in value[:200]


_B = rb"(?<![A-Za-z0-9])"
_SLASH = rb"\x01*+/"
SHAPES = (
    Shape(
        b"eyJ",
        b"jwt",
        _B + rb"eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]++){0,2}+",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "eyJ and others",
    ),
    # The last `@` before a slash or, for a password with a slash, the first `@` behind it. A port is no password.
    Shape(
        b"@",
        b"url_password",
        rb":%b%b[^\s/:@\"'<>\[\]\x01?#]{0,200}+\x01*+:(?![0-9]{1,5}+(?:/|\x01))"
        rb"((?:[^\s/@\"'<>\[\]\x01?#]|@(?=[^\s/\"'<>\x01?#]{0,200}?@)){1,400}+)\x01*+@" % (_SLASH, _SLASH),
        "postgres://bob:p@ss1word@db.example.com/x",
        "http://localhost:3000/@vite/client",
        check=_is_url_password,
    ),
    Shape(
        b"@",
        b"url_password",
        rb":%b%b[^\s/:@\"'<>\[\]\x01?#]{0,200}+\x01*+:(?![0-9]{1,5}+(?:/|\x01))((?:[^\s@\"'<>\[\]\x01]|\x01++/){1,200}+)\x01*+@(?=[A-Za-z0-9.-]{1,200}+(?:[:/]|\x01|[\s\"']|$))"
        % (_SLASH, _SLASH),
        "postgres://bob:pa/ss1word@db.example.com/x",
        "http://localhost:3000/a@b",
        check=lambda value: b"/" in value and values.has_digit(value) and _is_url_password(value),
    ),
    Shape(
        b"@",
        b"url_password",
        rb":%b%b([A-Za-z0-9_-]{20,200}+)@" % (_SLASH, _SLASH),
        "https://8f14e45fceea167a5a36dedd4bea2543@git.example.com/a",
        "https://a-user-with-a-long-name@example.com/a",
        check=lambda value: values.has_digit(value) and not values.is_slug(value),
    ),
    Shape(
        b"hooks.",
        b"webhook_url",
        rb"hooks\.slack\.com%b(?:services|workflows|triggers)%b([A-Za-z0-9_/\x01-]{6,}+)" % (_SLASH, _SLASH),
        "https://hooks.slack.com/triggers/T00000000/123/aB3dE5fG7hI9",
        "https://hooks.slack.com/docs",
    ),
    Shape(
        b"discord",
        b"webhook_url",
        rb"discord(?:app)?\.com%bapi%b(?:v[0-9]{1,2}%b)?webhooks%b[0-9]{5,25}%b([A-Za-z0-9_-]{20,}+)" % ((_SLASH,) * 5),
        "https://discord.com/api/webhooks/123456789012345678/aB3dE5fG7hI9jK1lM3nO5pQ7",
        "https://discord.com/api/webhooks/123456789012345678",
    ),
    Shape(
        b"office",
        b"webhook_url",
        rb"(?:webhook\.office\.com|outlook\.office(?:365)?\.com)%bwebhook(?:b2)?%b([^\s\"'<>]{20,400}+)"
        % (_SLASH, _SLASH),
        "https://a.webhook.office.com/webhookb2/8f14e45f-ceea-467a-9a36-dedd4bea2543@8f14e45f/IncomingWebhook/8f14/5a",
        "https://outlook.office.com/webhooks",
    ),
    Shape(
        b"zapier",
        b"webhook_url",
        rb"hooks\.zapier\.com%bhooks%bcatch%b([0-9]{4,}+[A-Za-z0-9/\x01]{6,80}+)" % ((_SLASH,) * 3),
        "https://hooks.zapier.com/hooks/catch/1234567/abc123d/",
        "https://hooks.zapier.com/hooks/catch/",
    ),
    Shape(
        b":AA",
        b"access_token",
        rb"(?<![0-9])[0-9]{6,12}+:(AA[A-Za-z0-9_-]{28,60}+)",
        "https://api.telegram.org/bot123456789:AAEhBP0av28fK8aB3dE5fG7hI9jK1lM3nO5/getMe",
        "12:AA, 123456:AAB",
    ),
    Shape(
        b".",
        b"access_token",
        _B + rb"([MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40})(?![A-Za-z0-9_-])",
        "MTA1NjQ3ODkyMzQ1Njc4OTAx.GaB3dE.fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z7A9bC1",
        "Module.of_the.library",
        check=_mixed,
    ),
    Shape(
        b"atlasv1",
        b"access_token",
        _B + rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}+",
        "aB3dE5fG7hI9jK.atlasv1." + "aB3dE5fG7hI9" * 5,
        "name.atlasv1.name",
    ),
    Shape(
        b"Q~",
        b"access_token",
        rb"(?<![A-Za-z0-9_~.])[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~-])",
        "abc8Q~aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3x",
        "abc8Q~name",
    ),
    Shape(b"SK", b"api_key", _B + rb"SK[0-9a-f]{32}(?![A-Za-z0-9])", "SK8f14e45fceea167a5a36dedd4bea2543", "SKETCH"),
    Shape(
        b"pat",
        b"access_token",
        _B + rb"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}(?![A-Za-z0-9])",
        "pataB3dE5fG7hI9jK." + "8f14e45fceea167a5a36dedd4bea2543" * 2,
        "patterns.of.the.house",
    ),
    Shape(
        b"LS0tLS1CRUdJTi",
        b"private_key",
        rb"LS0tLS1CRUdJTi[A-Za-z0-9+/]{16,}+={0,2}+",
        base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA").decode(),
        base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEAMIIEowIBAAKC").decode(),
        check=_is_private_in_base64,
    ),
    Shape(
        b"$",
        b"password_hash",
        rb"(?<![A-Za-z0-9])\$(?:2[abxy]?\$[0-9]{2}\$[./A-Za-z0-9]{50,60}+|(?:1|5|6|y|7|apr1)\$[^\s\"'\\:$\x01]{1,60}+\$[./A-Za-z0-9$]{20,}+"
        rb"|argon2i?d?\$[A-Za-z0-9$=,+/]{30,}+)",
        "root:$6$aB3dE5fG$" + "aB3dE5fG7hI9" * 7 + ":1:0",
        "$1$ and $2",
    ),
    Shape(
        b"sig",
        b"secret",
        rb"[?&;](?:x-(?:amz|goog|ms|oss)-)?sig(?:nature)?=((?:[A-Za-z0-9_.~+/-]|%[0-9a-f]{2}|\x01|=){16,}+)",
        "https://a.blob.core.windows.net/c?sv=2020&sig=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA%3D%3D",
        "f(?signature=name)",
        lower=True,
        check=lambda value: values.has_digit(value) and not values.is_marked(value),
    ),
    Shape(
        b"=",
        b"secret",
        rb"[?&;](?:code|ticket|assertion|samlresponse|oobcode)=([a-z0-9_./~+%-]{16,}+)",
        "https://a.example.com/cb?code=4aB3dE5fG7hI9jK1lM3nO&state=x",
        "https://a.example.com/?code=E1234",
        lower=True,
        check=lambda value: _mixed(value) and not values.is_slug(value),
    ),
    Shape(
        b"bearer",
        b"bearer",
        _B + rb"bearer(?:[ \t\x01]{1,8}+|=)([a-z0-9._~+/=|:-]{8,}+)",
        "Bearer hunter2abcdef0123",
        "Bearer authentication-required-2024-abc",
        lower=True,
        check=_is_bearer,
    ),
    Shape(
        b"authorization",
        b"bearer",
        rb"authorization[\"']?[:=][ \t]{0,4}+\x01{0,16}+[\"']?bearer[ \t]{1,4}+([a-z0-9._~+/=|:-]{8,}+)(?=[\s\x01\"']|$)",
        "Authorization: Bearer correcthorsebattery",
        "authorization: bearer of news",
        lower=True,
        check=lambda value: not (values.is_slug(value) or values.is_placeholder(value) or values.is_label(value)),
    ),
    Shape(
        b" ",
        b"basic",
        _B + rb"[Bb](?:asic|ASIC)[ \t\x01]{1,8}+([A-Za-z0-9+/]{6,}+={0,2}+)",
        "Basic dXNlcjpwYXNz",
        "Basic TypeScriptCompiler",
        check=values.is_basic,
    ),
    Shape(
        b"aws4-",
        b"authorization",
        rb"aws4-hmac-sha256[\s\x01]{1,4}+credential=[^\s,]{1,200}+,[\s\x01]{0,4}+signedheaders=[^\s,]{1,200}+,[\s\x01]{0,4}+signature=([0-9a-f]{32,}+)",
        "AWS4-HMAC-SHA256 Credential=x/20260101/eu/s3/aws4_request, SignedHeaders=host, Signature="
        + "8f14e45fceea167a" * 4,
        "AWS4-HMAC-SHA256 is a scheme",
        lower=True,
    ),
    Shape(
        b"",
        b"password",
        rb"(?:identified[\s\x01]{1,4}+by|securestring(?:[ ]{1,2}+-string)?|password[ ]hash)[ \t]{1,4}+\x01{0,16}+[\"']([^\"'\\\x01]{4,200}+)",
        "CREATE USER a IDENTIFIED BY 'correcthorse'",
        "identified by 'x'",
        lower=True,
        check=lambda value: not values.is_placeholder(value) and not values.is_marked(value),
    ),
    Shape(
        b"|",
        b"password",
        rb"(?:echo|printf)[ ]\x01{0,16}+[\"']?([^\s\"'|\x01$]{4,200}+)(?:\x01{0,16}+[\"'])?[ ]?\|[ ]?(?:sudo[ ]-[a-z]{0,3}s|[a-z0-9 ._/-]{0,120}?--password-stdin)",
        "echo hunter2abc | docker login -u a --password-stdin",
        "echo $PASSWORD | docker login --password-stdin",
        lower=True,
        check=lambda value: not values.is_placeholder(value) and not values.is_marked(value),
    ),
    Shape(
        b"kty",
        b"private_key",
        rb"[\"']d\x01{0,16}+[\"'][ ]?:[ ]?\x01{0,16}+[\"']([A-Za-z0-9_-]{40,}+)\x01{0,16}+[\"']",
        '{"kty":"EC","d":"aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z7A9bC1"}',
        '{"d": "aB3dE5fG7hI9"}',
        check=_mixed,
    ),
    Shape(
        b"cookie:",
        b"cookie",
        _B + rb"(?:set-)?cookie:[ \t]{0,4}+([^\r\n\"'\x01]{8,4000}+)",
        "Set-Cookie: sid=hunter2abcdef; Path=/",
        "Cookie: see the documentation",
        lower=True,
        check=_is_cookie,
    ),
    Shape(
        b"authorization:",
        b"authorization",
        _B
        + rb"authorization:[ \t]{0,4}+(?:digest|oauth|hawk|hmac[a-z0-9-]{0,12})[ \t]{1,4}+((?:[^\r\n\"\x01]|\x01++[^\r\n\x01]){16,4000}+)",
        'Authorization: Digest username=\\"bob\\", response=\\"8f14e45fceea167a\\"',
        "Authorization: digest is a scheme",
        lower=True,
        check=lambda value: b"=" in value and not values.is_marked(value),
    ),
    Shape(
        b"authorization:",
        b"authorization",
        _B
        + rb"authorization:[ \t]{0,4}+(?!bearer|basic)[a-z][a-z-]{1,20}+[ \t]{1,4}+([^\s\"'<>\[\]{}$\x01]{8,4000}+)(?=[\s\"'\x01]|$)",
        "Authorization: ApiKey hunter2abcdef",
        "authorization: see chapter 2",
        lower=True,
        check=lambda value: values.has_digit(value) and not values.is_slug(value),
    ),
)

_ROWS = {token.prefix.encode(): token for token in TOKENS}


@functools.cache
def _made(pattern: bytes) -> re.Pattern[bytes]:
    """Return a compiled expression. They are compiled one by one, when a payload needs them: all take long."""
    return re.compile(pattern)


@functools.cache
def _prefixes() -> re.Pattern[bytes]:
    """Return an expression for the prefixes of all tokens, grouped by their first character, longest first."""
    by_first: dict[str, list[str]] = {}
    for token in TOKENS:
        by_first.setdefault(token.prefix[0], []).append(token.prefix[1:])
    branches = [
        re.escape(first) + "(?:" + "|".join(re.escape(rest) for rest in sorted(rests, key=len, reverse=True)) + ")"
        for first, rests in sorted(by_first.items())
    ]
    return re.compile(f"(?<![A-Za-z0-9])(?:{'|'.join(branches)})".encode())


def spans(view: View) -> Iterator[Span]:
    """Yield the spans of secrets that have one of the shapes."""
    yield from _tokens(view)
    for shape in SHAPES:
        if shape.needs not in (view.lower if shape.lower else view.text):
            continue
        for match in _made(shape.pattern).finditer(view.lower if shape.lower else view.text):
            start, end = match.span(match.re.groups)
            while view.text.endswith(FILLER, start, end):  # fillers of the next escape
                end -= 1
            if end > start and shape.check(view.text[start:end]):
                yield start, end, shape.kind


def _tokens(view: View) -> Iterator[Span]:
    done = 0
    for match in _prefixes().finditer(view.text):
        if match.start() < done:
            continue
        token = _ROWS[match[0]]
        beginning, rest = _body(token)
        body = beginning.match(view.text, match.end())
        if body is not None and _is_token(token, body[0]):
            whole = rest.match(view.text, body.end())
            done = whole.end() if whole else body.end()
            yield match.start(), done, token.kind.encode()


#: This much of a token is checked: a text may contain a prefix many times.
_CHECKED_MAX = 100


@functools.cache
def _body(token: Token) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return expressions for the part of a token that is checked, behind its prefix, and for the rest."""
    characters = CHARACTERS[token.characters]
    if token.exact:
        return re.compile(characters + rb"{%d}(?![A-Za-z0-9_-])" % token.least), re.compile(b"")
    end = rb"(?:\x01*+=){0,2}+" if token.characters == "base64" else b""
    return (
        re.compile(characters + rb"{%d,%d}+" % (token.least, max(_CHECKED_MAX, token.least))),
        re.compile(characters + rb"*+" + end),
    )


def _is_token(token: Token, body: bytes) -> bool:
    """Say whether the text behind a prefix is a token: not joined words, not few characters, not only letters."""
    if len(set(body)) < 4:
        return False
    if not values.has_digit(body):
        return len(body) >= 30 and not body.islower() and b"_" not in body and b"-" not in body
    return token.characters in ("hex", "upper") or not _is_words(body)


def _is_words(body: bytes) -> bool:
    parts = re.split(rb"[._-]", body)
    return len(parts) > 2 and not any(values.is_random(part) for part in parts)
