"""Secrets are taken out of a payload before it is written.

    payload → may there be one? → where? → `[redacted:<kind>]` in its place

This works on the JSON bytes of a payload, since that is what goes to disk. Nearly all payloads hold
nothing, which a few searches for single bytes, and a look at what stands beside them, settle. What is
replaced is always a part of a text: JSON stays JSON of the same shape, a text stays a text, and doing
it again changes nothing.

Known by their looks are keys and tokens of Anthropic, OpenAI, GitHub, AWS, Slack, Google, Stripe and
others (`_SHAPES`), JSON Web Tokens, private keys in PEM, `Bearer …`, `Basic …`, and the password in a
URL. Known by the name of their field are the texts in `_NAMES`, in either case, also with something in
front (`db_password`): in JSON, in JSON inside of a text (whose quotes are escaped, however often), in
Python's spelling, behind `=`, and behind `: `. Numbers, lists and objects in such a field stay.

No input makes these expressions try the same bytes over and over: what repeats is possessive, or
bounded, or can only begin where nothing else does.
"""

from __future__ import annotations

import binascii
import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from eventlog import envelope

#: A shape begins where no token goes on, or behind an escape: in JSON, `\nsk-…` has an n before it.
_START = rb"(?:(?<![{not_behind}]{literal})|(?<=\\[bfnrt]{literal})|(?<=\\u[0-9A-Fa-f]{{4}}{literal}))"
_ESCAPES = b"bfnrtu"
_ROUNDS_MAX = 8
_MARK = re.compile(rb"\[redacted:[a-z_]+\]")

#: A user's own function: takes the event type and the payload, and returns the payload to be recorded.
Redactor = Callable[[str, dict[str, Any]], dict[str, Any]]
#: A redactor may emit, and a signal may come while it runs; but it may not go on like that for ever.
_NESTED_MAX = 3

Span = tuple[int, int, bytes]


class _Shape(NamedTuple):
    kind: bytes
    pattern: bytes
    #: The part that goes; what is around it stays.
    group: int = 0
    #: What only looks like it may be words joined by hyphens.
    slugs: bool = False


def _shape(kind: str, literal: str, rest: str, *, group: int = 0, slugs: bool = False) -> _Shape:
    """Return a pattern that begins with a literal, which makes looking for it fast."""
    # Or a match could begin inside of an escape, and leave half of it.
    backslash = r"\\" if literal[0].encode() in _ESCAPES else ""
    literal = re.escape(literal)
    start = _START.decode().format(not_behind=rf"A-Za-z0-9_{backslash}-", literal=literal)
    return _Shape(kind.encode(), (literal + start + rest).encode(), group, slugs)


@functools.cache
def _made(pattern: bytes) -> re.Pattern[bytes]:
    """Return an expression that only a payload with something in it needs: to make them all takes long."""
    return re.compile(pattern)


_URL = rb"://[^\s/:@\"'\\<>\[\]]*+:([^\s/@\"\\]++)@"
#: As tools number the lines of a file: `     2→`, `2:`, `2|`; of grep the lines around, `2-`; or `path:`, `path:2:`.
_LINE_NUMBER = (
    rb"(?: {0,8}+[0-9]{1,7}+ {0,2}+(?:\xe2\x86\x92|\\++u2192|\\++t|[:|]|-(?=[^-]|-----E)) {0,2}+"
    rb"|[A-Za-z0-9_./-]{1,80}+:(?:[0-9]{1,7}+:)?+(?=[A-Za-z0-9+/=-]{3}|\\))"
)
_SHAPES = (
    _shape("api_key", "sk-", r"(?=[A-Za-z_-]{0,100}+[0-9])[A-Za-z0-9_-]{20,}+", slugs=True),
    _shape("api_key", "gsk_", r"(?=[A-Za-z]{0,100}+[0-9])[A-Za-z0-9]{20,}+"),
    _shape("api_key", "xai-", r"(?=[A-Za-z]{0,100}+[0-9])[A-Za-z0-9]{20,}+"),
    _shape("api_key", "SG.", r"[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+"),
    _shape("github_token", "github_pat_", r"[A-Za-z0-9_-]{20,}+"),
    *(_shape("github_token", f"gh{kind}_", r"[A-Za-z0-9_-]{20,}+") for kind in "pousr"),
    _shape("aws_key_id", "AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9_-])"),
    _shape("aws_key_id", "ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9_-])"),
    _shape("slack_token", "xox", r"[a-z]-[A-Za-z0-9_-]{10,}+"),
    _shape("google_key", "AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    *(_shape("stripe_key", f"{kind}k_{mode}_", r"[A-Za-z0-9_-]{10,}+") for kind in "sr" for mode in ("live", "test")),
    _shape("webhook_secret", "whsec_", r"[A-Za-z0-9+/_-]{20,}+={0,2}+"),
    _shape("webhook_url", "hooks.slack.com", r"/services/([A-Za-z0-9_-]++(?:/[A-Za-z0-9_-]++){1,3}+)", group=1),
    _shape("huggingface_token", "hf_", r"(?:(?=[A-Za-z]{0,100}+[0-9])[A-Za-z0-9]{20,}+|[A-Za-z]{30,}+)"),
    _shape("gitlab_token", "glpat-", r"[A-Za-z0-9_-]{20,}+"),
    _shape("npm_token", "npm_", r"(?=[A-Za-z]{0,100}+[0-9])[A-Za-z0-9]{20,}+"),
    _shape("pypi_token", "pypi-", r"(?=[A-Za-z_-]{0,100}+[0-9])[A-Za-z0-9_-]{20,}+", slugs=True),
    _shape("google_token", "ya29.", r"[A-Za-z0-9_-]{20,}+"),
    _shape("jwt", "eyJ", r"[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]*+"),
    _Shape(
        b"private_key",
        (
            rb"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----"
            # Not possessive where something inside may backtrack: Pythons before 3.11.5 lose their place there. Nothing
            # that follows can fail, so there is nothing to come back for.
            rb"(?:\\++[nr]%b?[A-Za-z-]{4,20}: [^\"\\]{0,80}+(?=\\)){0,4}"  # Proc-Type: 4,ENCRYPTED
            rb"(?:[A-Za-z0-9+/=\s]++|\\++[nr]%b|\\++[nrt])*"
            rb"(?:-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----)?" % (_LINE_NUMBER, _LINE_NUMBER)
        ),
    ),
    _Shape(b"url_password", _URL, 1),
)
#: These are looked for in lower case.
_SCHEMES = (
    _shape(
        "bearer",
        "bearer",
        r"[ ]{1,4}+((?=[a-z._~+/=-]{0,100}+[0-9])[a-z0-9._~+/=-]{8,}+|[a-z._~+/=-]{32,}+)",
        group=1,
    ),
    _shape("basic", "basic", r"[ ]{1,4}+([a-z0-9+/]{6,}+={0,2}+)", group=1),
)

#: What the names of fields with secrets end with, in lower case, and the kind of each.
_NAMES = (
    (b"password", rb"passw(?:or)?d"),
    (b"password", rb"passphrase"),
    (b"secret", rb"secret(?:[-_]?access)?(?:[-_]?key)?"),
    (b"api_key", rb"api[-_]?key"),
    (b"access_token", rb"access[-_]?token"),
    (b"refresh_token", rb"refresh[-_]?token"),
    (b"auth_token", rb"auth[-_]?token"),
    (b"session_token", rb"session[-_]?token"),
    (b"token", rb"token"),  # of two kinds for the same text, the first by alphabet is taken: none is behind this
    (b"private_key", rb"private[-_]?key"),
    (b"authorization", rb"authorization"),
)
#: `"name": "`, `\"name\": \"` and so on; `name = "`; `'name': '`; `name=`; `name = ` and `name: `.
_DEPTHS = rb"\\{63}|\\{31}|\\{15}|\\{7}|\\{3}|\\"  # of other numbers, some escape each other
_OPENING = (
    rb"(?:((?:%b)?+)\"\s{0,4}+:\s{0,4}+\1\"|\s?=\s?(%b)\"|('\s?:\s?b?'|\s?=\s?')|(=(?! ))"
    rb"|( {0,20}+=(?!=) {0,4}+|: {1,20}+))" % (_DEPTHS, _DEPTHS)
)
_FIELDS = tuple((kind, name + _OPENING) for kind, name in _NAMES)
#: Backslashes are taken along with what they escape, and never those of the quote that ends a text.
_QUOTED_BY_ONE = re.compile(rb"(?:[^'\"\\]++|\\++[^\"\\])*+")
#: Behind a bare `=` stands code as often as a secret: a secret has a digit, and none of these, and is no call.
_BARE_BYTE = rb"[^\s\"'\\&;,(){}<>\[\]%b]"
_BARE_TEXT = rb"(?=%b{0,100}+[0-9])%b{6,}+" % (_BARE_BYTE % b"0-9", _BARE_BYTE % b"")
_BARE = re.compile(rb"(?![A-Za-z_][A-Za-z0-9_.]*+\()%b" % _BARE_TEXT)
#: With spaces it is code or prose more often still: nor is it a call, a type, a variable, or a link.
_SPACED = re.compile(
    rb"(?:(?i:token|api-?key|key) {1,4}+)?+(?:(?:%b)\"|')?+"
    rb"(?![=:]|\$[A-Za-z_]|https?:|(?:self|this|os|args|config|settings)\."
    rb"|(?i:[a-z_]{0,20}?(?:int|float|complex|base|sha|utf|bytes|char))[_-]?[0-9]{1,3}+(?:_t)?(?![A-Za-z0-9_-]))"
    rb"(?![A-Za-z_][A-Za-z0-9_.]*+[(\[])(?P<value>%b)" % (_DEPTHS, _BARE_TEXT)
)
#: Where letters become digits, or digits letters.
_TURNS = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
#: "token" is a word of many meanings: what it stands for has to look like one.
_TOKEN = re.compile(
    rb"(?!https?:)(?=[A-Za-z%b]{0,100}+[0-9])(?=[0-9%b]{0,100}+[A-Za-z])[A-Za-z0-9%b]{8,}+" % ((rb"._~+/=:|%-",) * 3)
)

#: What is longer without a space goes unread, so that no byte is read for too many names before it.
_BARE_TOKEN_MAX = 1000

# What a payload must have to be looked at closely. Each begins with a single byte, which the expressions'
# engine looks for in a tight loop, while a set of bytes takes it far longer; for rare ones `in` is asked
# first, which is faster still for a number. What comes next rules out names of fields, which have most of
# the `_` and stand in front of most of the `:`, and then numbers.
# All of one length, as looking behind needs it.
_NAME_ENDS = rb"(?i:ssword|passwd|phrase|secret|apikey|atekey|retkey|esskey|(?:pi|te|et|ss)[_-]key|(?s:.)token|zation)"
# The same, letter by letter, which rules out most names at once.
_NAME_LETTERS = rb"[wscriteoWSCRITEO_-][osrakiOSRAKI][rwseoRWSEO][dtyenDTYEN]"


def _named(behind: bytes) -> bytes:
    """Return what looks back, over so many bytes, at a name that a secret could have."""
    return rb"(?<=%b%b)(?<=%b%b)" % (_NAME_LETTERS, behind, _NAME_ENDS, behind)


#: What stands behind `: ` or ` = ` and is a secret has a digit.
_WITH_DIGIT = rb"(?= {0,20}+(?:(?i:token|api-?key|key) {1,4}+)?+(?:\\{0,7}+[\"'])?+%b{0,100}+[0-9])" % (
    _BARE_BYTE % b"0-9"
)
_colon = re.compile(
    rb":(?: (?:%b%b|(?i:bearer|basic) )|\"[Bb]earer |//hooks\.slack"
    # as most write JSON; and with spaces in front, as others do, whatever the name; but no number, list and so on
    rb"|[^0-9\[{tfn-](?<=[dtyenDTYEN\\\"' ][\"' ]:.)(?:(?<=[\"' ] :.)|(?<=[rwseoRWSEOdtynDTYN\\].[\"']:.)(?:%b"
    # in a text within a text, and so on; beyond the second it is worth a look, whatever the name
    rb"|(?<=\\...)(?:(?<=%b....)|(?<=%b\\\\\\...)|(?<=\\{7}...)))))"
    % (_named(b": "), _WITH_DIGIT, _named(b"..."), _NAME_ENDS, _NAME_ENDS),
    re.DOTALL,
).search
_underscore = re.compile(
    rb"_(?<=[pousrkmbcf]_)(?:(?<=[gn][hsp]._)(?:(?<=gh[pousr]_)|(?<=gsk_)|(?<=npm_))"
    rb"|(?<=hub_)pat_|(?<=[sr]k_)(?:live|test)_|(?<=whsec_)|(?<=hf_))"
).search
_hyphen = re.compile(
    rb"-(?<=[sapx-][a-z-]-)(?:(?<=sk-)|(?<=xox[a-z]-)|(?<=xai-)|(?<=glpat-)|(?<=pypi-)|(?<=-----)BEGIN )"
).search
_equals = re.compile(
    rb"=(?<=[dtyenDTYEN ']=)(?:%b|(?<= =)(?:%b|%b|%b|(?<=    =))|(?<='=)%b)(?:(?= ?\\*[\"'])|%b)"
    % (_named(b"="), _named(b" ="), _named(b"  ="), _named(b"   ="), _named(b"'="), _WITH_DIGIT)
).search
_of_amazon_or_google = re.compile(rb"I(?:(?<=AKI)A|(?<=ASI)A|(?<=AI)za)").search
_jwt = re.compile(rb"J(?<=eyJ)").search
_scheme = re.compile(rb"B(?i:earer|asic) ").search
_sendgrid = re.compile(rb"G(?<=SG)\.").search
_url = re.compile(_URL).search
_AT, _EQUALS, _UNDERSCORE, _HYPHEN, _A, _B, _G, _I, _J, _S, _9 = b"@=_-ABGIJS9"


def redact(payload: bytes) -> bytes:
    """Return a JSON payload with each known secret replaced by `[redacted:<kind>]`."""
    if not (
        _colon(payload)
        or (_UNDERSCORE in payload and _underscore(payload))
        or (_HYPHEN in payload and _hyphen(payload))
        or (_I in payload and _A in payload and _of_amazon_or_google(payload))
        or (_J in payload and _jwt(payload))
        or (_B in payload and _scheme(payload))
        or (_EQUALS in payload and _equals(payload))
        or (_AT in payload and _url(payload))
        or (_G in payload and _S in payload and _sendgrid(payload))
        or (_9 in payload and payload.rfind(b"ya29.") >= 0)
    ):
        return payload
    for _ in range(_ROUNDS_MAX):
        before, payload = payload, _redacted(payload)
        if payload == before:  # nearly always the second time: a mark may set free what stood right behind a secret
            break
    return payload


def _redacted(payload: bytes) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start, end, kind in sorted(_spans(payload)):
        if start >= done:
            parts += payload[done:start], b"[redacted:%b]" % kind
        done = max(done, end)  # of two that overlap, one mark stands for both
    return b"".join([*parts, payload[done:]])


def _spans(payload: bytes) -> Iterator[Span]:
    """Yield start, end and kind of each secret. None of them ends inside of an escape."""
    lower = payload.lower()
    for kind, pattern in _FIELDS:
        done = 0
        for match in _made(pattern).finditer(lower):
            if match.end() < done:  # in a value that goes; reading on from each takes the square of its length
                continue
            for span in _value(payload, match, kind):
                done = span[1]
                yield span
    for shape in _SHAPES:
        for match in _made(shape.pattern).finditer(payload):
            if not shape.slugs or not _is_slug(match[0]):
                yield *match.span(shape.group), shape.kind
    for shape in _SCHEMES:
        for match in _made(shape.pattern).finditer(lower):
            start, end = match.span(shape.group)
            if shape.kind != b"basic" or _is_basic(payload[start:end]):
                yield start, end, shape.kind


def _value(payload: bytes, opening: re.Match[bytes], kind: bytes) -> Iterator[Span]:
    """Yield the value of a field, from behind what opens it."""
    start = opening.end()
    match: re.Match[bytes] | None = None
    if opening[5] is not None:
        if match := _SPACED.match(payload, start):
            start = match.start("value")
        end = match.end() if match else start
    elif opening[4] is not None:
        match = _BARE.match(payload, start)
        end = match.end() if match else start
    elif opening[3] is not None:
        match = _QUOTED_BY_ONE.match(payload, start)
        end = match.end() if match else start
    else:
        end = _end_of_text(payload, start, len(opening[1] if opening[1] is not None else opening[2]))
    if end <= start or _MARK.fullmatch(payload, start, end):
        return
    bare = opening[4] is not None or opening[5] is not None
    if kind != b"token" or (bare and end - start > _BARE_TOKEN_MAX) or _TOKEN.fullmatch(payload, start, end):
        yield start, end, kind


def _is_slug(token: bytes) -> bool:
    """Say whether this is words joined by hyphens: of its parts, none is long or mixes letters and digits."""
    parts = re.split(rb"[_-]", token)
    return len(parts) > 3 and not any(
        len(part) >= 8
        and (len(_TURNS.findall(part)) >= 2 or (len(part) >= 16 and not part.islower() and not part.isdigit()))
        for part in parts
    )


def _end_of_text(payload: bytes, start: int, depth: int) -> int:
    """Return where a text ends whose quotes have `depth` backslashes before them.

    In a JSON text inside of another one, quotes are escaped by 1 backslash, and a quote in its own
    texts by 3; a backslash of theirs is 4. In general: those that end the text have as many more
    backslashes before them as pairs of its own make up.
    """
    position = start
    while (quote := payload.find(b'"', position)) >= 0:
        part = payload[position:quote]
        backslashes = len(part) - len(part.rstrip(b"\\"))
        if backslashes < depth:  # a text around this one ends: this one was cut off
            return quote - backslashes
        if (backslashes - depth) % (2 * (depth + 1)) == 0:
            return quote - depth
        position = quote + 1
    return start


def _is_basic(token: bytes) -> bool:
    """Say whether this is what HTTP sends for `user:password`, and not a word behind "basic"."""
    try:
        return b":" in binascii.a2b_base64(token + b"=" * (-len(token) % 4), strict_mode=True)
    except binascii.Error:
        return False


# -- a function of the user's ----------------------------------------------------------------


class _Depth(threading.local):
    value = 0


_depth = _Depth()


def redact_with(redactor: Redactor, event_type: str, payload: bytes) -> bytes:
    """Return what a user's redactor makes of a payload.

    Where it fails, or returns what is no payload, all of the content is withheld, and the payload
    says so: content that was to be redacted must not be recorded, and the event must not be lost.
    """
    if _depth.value >= _NESTED_MAX:
        return withheld("redactor emits events that it is asked to redact")
    _depth.value += 1
    try:
        answer = redactor(event_type, msgspec.json.decode(payload, type=dict[str, Any]))
        if not isinstance(answer, dict):
            return withheld(f"redactor returned {type(answer).__name__}, not dict")
        data = envelope.payload_json(answer)
        envelope.check_json(data)
        return data
    except Exception as error:  # noqa: BLE001 - it is not known what it may raise; the text may hold what was to be hidden
        return withheld(f"redactor failed: {type(error).__name__}")
    finally:
        _depth.value -= 1


def is_withheld(payload: bytes) -> bool:
    """Say whether a payload is one of `withheld`."""
    return payload.startswith(b'{"redacted":"')


def withheld(reason: str) -> bytes:
    """Return the payload of an event whose content is not recorded."""
    return msgspec.json.encode({"redacted": reason})
