"""Finding secrets by the name before them: in JSON, code, settings, headers, forms, and command lines.

A name is matched first (`names.NAMES`); then what stands behind it says how its value is written (`_OPENINGS`, in this
order); then the value is looked at (`eventlog.record.redaction.values`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from eventlog.record.redaction import values
from eventlog.record.redaction.lazy_patterns import lazily_compiled
from eventlog.record.redaction.names import INNOCENT_ENDS, INNOCENT_TOKENS, NAMES, Name
from eventlog.record.redaction.view import View, escape_before

Span = tuple[int, int, bytes]

_LASTS = sorted({last for name in NAMES for last in name.last.split("|")}, key=len, reverse=True)
_LAST = lazily_compiled(
    rb"(?:%b)(?:[-_.]?(?:[0-9]{1,3}|base|value|plain|prod|dev|test|staging|live|main|primary|secondary|old|new"
    rb"|confirm(?:ation)?|again))?(?=[\x01\"'`\]>:=, \t?|(\x02])" % "|".join(_LASTS).encode()
)
_WORD_OF_LAST = lazily_compiled("|".join(_LASTS).encode())
_FRONT_MAX = 24
_IDENTIFIER = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$"
_BEFORE_MAX = 80

_F, _W = rb"\x01{0,64}+", rb"[ \t\r\n\x01]{0,60}+"
_Q = rb"(?P<quote>%b[\"'`])" % _F
_CLOSE = rb"%b(?P<close>[\"'`])\]?" % _F
_PREFIX = rb"(?:[bruflBRUFL@$]{1,2}(?=%b[\"']))?" % _F
_ASSIGN = rb"(?:=>|:=|\?=|[:=])"
_VALUE_NAME = rb"(?:string_?value|plain_?text|value|val|content|default|secret|text|data|v|s)"

#: `"name": "`, `'name' => '`, `["name"] = "`
_QUOTED = lazily_compiled(rb"%b%b%b%b%b%b" % (_CLOSE, _W, _ASSIGN, _W, _PREFIX, _Q))
#: `"name": ["`
_LISTED = lazily_compiled(rb"(?:%b)?%b%b%b[\[(]%b%b" % (_CLOSE, _W, _ASSIGN, _W, _W, _Q))
#: `"name": {"value": "`
_INSIDE = lazily_compiled(
    rb"%b%b%b%b\{%b%b[\"']?%b%b[\"']?%b%b%b%b" % (_CLOSE, _W, _ASSIGN, _W, _W, _F, _VALUE_NAME, _F, _W, _ASSIGN, _W, _Q)
)
#: `"name", "`
_PAIR = lazily_compiled(rb"%b%b,%b%b%b" % (_CLOSE, _W, _W, _PREFIX, _Q))
#: `"name": "<name>", "value": "`, `name: <name>\n  value: `, `name="<name>" value="`, `variable "<name>" { default = "`
_NAMED = lazily_compiled(
    rb"(?:%b)?(?:[ \t\r\n\x01,]{1,60}+(?:%b[\"']?(?!value)[a-z_]{2,20}+%b[\"']?%b[:=]%b(?:%b[\"'][^\"'\x01]{0,80}+%b[\"']|[a-z0-9.]{1,20}+)"
    rb"[ \t\r\n\x01,]{1,60}+){0,3}?|%b\{[^{}]{0,300}?[\s\x01])%b[\"']?%b%b[\"']?%b[:=]%b(?P<quote>%b[\"'])?"
    % (_CLOSE, _F, _F, _W, _W, _F, _F, _W, _F, _VALUE_NAME, _F, _W, _W, _F)
)
#: `"value": "x", "name": "<name>"`
_VALUE_FIRST = lazily_compiled(
    rb"[vV]alue%b[\"']%b:%b%b[\"'](?P<value>[^\"'\x01]{4,400}+)%b[\"']%b,%b%b[\"'](?:[nN]ame|[kK]ey)%b[\"']%b:%b%b[\"']"
    rb"[A-Za-z0-9_.-]{0,60}?(?=(?P<last>(?i:%b))%b[\"'])"
    % (_F, _W, _W, _F, _F, _W, _W, _F, _F, _W, _W, _F, "|".join(_LASTS).encode(), _F)
)
#: `name="<name>"`, an empty line, and the value: a form
_PART = lazily_compiled(rb"%b(?:(?:\x01{0,16}+\r)?\x01{0,16}+\n){2}" % _CLOSE)
#: `name = "`, `name: str = "`
_ASSIGNED = lazily_compiled(
    rb"(?:[ \t]{0,40}+(?:={1,3}|=>|:=|\?=|:)|: ?(?:&(?:'static )?)?[a-z_][a-z0-9_.\[\]|<>?]{0,40}+ ?=)[ \t]{0,40}+%b%b"
    % (_PREFIX, _Q)
)
#: `set_name("`
_CALLED = lazily_compiled(rb"\(%b%b" % (_W, _Q))
#: `PASSWORD 'x'`, as in SQL
_SPOKEN = lazily_compiled(rb"[ \t]{1,4}+(?P<quote>%b')" % _F)
#: `<name>`
_ELEMENT = lazily_compiled(rb"%b>" % _F)
#: `name: |` and the value on a line of its own
_BLOCK = lazily_compiled(rb":[ \t]{0,4}+[|>][+-]?[ \t]{0,4}+\x01*+\r?\x01*+\n[ \t]{1,40}+")
_TIGHT = lazily_compiled(rb"%b=(?![= ])" % _F)
_LOOSE = lazily_compiled(
    rb"(?:[ \t\x01]{0,40}+(?:=>|:=|\?=|=(?![=~])|:(?![:/]))[ \t\x01]{0,40}+)(?:(?:token|api[-_]?key|key) {1,4}+)?+"
)
_SPACE = lazily_compiled(rb"(?:[ \t\x01]{1,20}+|%b[\"'],%b(?=%b[\"']))(?P<quote>%b[\"'])?" % (_F, _W, _F, _F))
_IS = lazily_compiled(rb" (?:is|was|are)(?: now)?:? (?P<quote>%b[\"'`])?" % _F)

#: What a value without quotes is made of; fillers only inside.
_BARE = lazily_compiled(rb"(?:[^\s\"'&;,(){}<>\[\]`\x01|]|\x01++(?=[^\s\"'&;,(){}<>\[\]`\x01|\\]))*+")
_LINE = lazily_compiled(rb"(?:[^\r\n\"'`\x01]|\x01++(?=[^\s\"'`\x01]))*+")
_WORD = lazily_compiled(rb"(?:[^\s\"'`\x01]|\x01++(?=[^\s\"'`\x01]))*+")
_ELEMENT_TEXT = lazily_compiled(rb"[^<>\x01\"]*+(?=\x01{0,8}<\x01{0,8}/)")
_QUOTED_BY_ONE = lazily_compiled(rb"(?:[^'\"\\]++|\\++[^\"\\])*+")
_BARE_MAX = 1000
_LONG = 2000
_COMPLETE_DEPTHS = frozenset((0, 1, 3, 7, 15, 31, 63))
_NEXT_TEXT = lazily_compiled(rb"%b,%b%b" % (_W, _W, _Q))
_LISTED_MAX = 1000


_INLINE1 = lazily_compiled(rb"[^`\"\\]*+")
_INLINE2 = lazily_compiled(rb"\x01{0,64}+[\"'`]")
_INLINE3 = lazily_compiled(rb"\x01*[\"']?\s*(?:\x01*[\r\n\"'\\]|-|\||;|&|$)")
_INLINE4 = lazily_compiled(rb"[ \t]*+\x01*+(?:[\r\n\"']|$)")


class NameMatch(NamedTuple):
    """A name of a secret in a view: its row, and its start and end; its value may begin behind it."""

    name: Name
    #: The whole identifier, as written.
    identifier: bytes
    start: int
    end: int


def spans(view: View) -> Iterator[Span]:
    """Yield the spans of the values of secret names."""
    done = 0
    for match in _VALUE_FIRST.finditer(view.text):
        last = _LAST.match(view.lower, match.start("last"))
        named = last and _name_match(view, last)
        if named and _is_secret(view, named, *match.span("value"), field=False):
            yield _span(view, named, *match.span("value"))
    for match in _LAST.finditer(view.lower):
        if match.end() < done:  # inside of a value that is redacted already
            continue
        named = _name_match(view, match)
        if named is None:
            continue
        for span in _values(view, named):
            done = max(done, span[1])
            yield span


def _name_match(view: View, match: re.Match[bytes]) -> NameMatch | None:
    start, end = match.span()
    name = _name(match, view.lower[max(0, start - _FRONT_MAX) : start])
    if name is None:
        return None
    before = view.text[max(0, start - _BEFORE_MAX) : start]
    front = before[len(before.rstrip(_IDENTIFIER)) :]
    identifier = front + view.text[start:end]
    if name.alone and front and not _is_word_end(front, view.text[start : start + 1]):
        return None
    if name.kind == b"token" and _is_innocent(identifier):
        return None
    return NameMatch(name, identifier, start - len(front), end)


def _name(match: re.Match[bytes], before: bytes) -> Name | None:
    word = _WORD_OF_LAST.match(match[0])
    for name, front in _rows(word[0] if word else b""):
        if front is None or front.search(before):
            return name
    return None


@functools.cache
def _rows(word: bytes) -> list[tuple[Name, re.Pattern[bytes] | None]]:
    """Return the rows with this last word, those with words in front first, each with an expression for these."""
    rows = [name for name in NAMES if re.fullmatch(name.last, word.decode())]
    return [
        (name, re.compile(rf"(?:{name.front})[-_. ]?\Z".encode()) if name.front else None)
        for name in sorted(rows, key=lambda name: not name.front)
    ]


def _is_word_end(front: bytes, first: bytes) -> bool:
    """Say whether a new word begins behind `front`, with the byte `first`."""
    return not front[-1:].isalpha() or (first.isupper() and front[-1:].islower())


def _is_innocent(identifier: bytes) -> bool:
    words = re.split(rb"[-_.$]", re.sub(rb"(?<=[a-z0-9])(?=[A-Z])", b"_", identifier).lower())
    return identifier.lower().endswith(INNOCENT_ENDS) or (len(words) > 1 and words[-2] in INNOCENT_TOKENS)


def _values(view: View, named: NameMatch) -> Iterator[Span]:
    for expression, read in _OPENINGS[view.text[named.end]]:
        opening = expression.match(view.lower, named.end)
        if opening is not None:
            spans = list(read(view, named, opening))
            if spans:
                yield from spans
                return


# -- how a value is written ------------------------------------------------------------------


def _end_of_quoted(view: View, start: int) -> int:
    """Return the end of the text whose opening quote ends at `start`; `start` if no closing quote matches."""
    payload = view.payload
    spelling = payload[escape_before(view, start) : start]
    if spelling.endswith(b'"'):
        depth = len(spelling) - 1
        return _end_of_text(payload, start, depth) if depth in _COMPLETE_DEPTHS else start
    if spelling.endswith(b"'"):
        match = _QUOTED_BY_ONE.match(payload, start)
        return match.end() if match else start
    if spelling.endswith(b"`"):
        ends = _INLINE1.match(payload, start)
        return ends.end() if ends else start
    ends = re.compile(rb"(?:(?!%b)[^\"\\\s])*+" % re.escape(spelling)).match(payload, start)
    return ends.end() if ends else start


def _end_of_text(payload: bytes, start: int, depth: int) -> int:
    """Return the end of a text whose quotes have `depth` backslashes before them.

    In a JSON text inside of another one, quotes are escaped by 1 backslash, and a quote inside of its
    texts by 3; a backslash there is 4. In general, the number of backslashes before the closing quote is `depth`
    plus a multiple of 2 · (depth + 1).
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


def _quoted(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """A quoted name and a quoted value: JSON, or a Python dict."""
    start = opening.end()
    if view.text[opening.end("close") - 1 : opening.end("close")] == b'"' == view.text[start - 1 : start]:
        closing = view.payload[escape_before(view, opening.end("close")) : opening.end("close")]
        if closing != view.payload[escape_before(view, start) : start]:
            return  # the first quote ends an outer text, or begins the next one
    end = _end_of_quoted(view, start)
    strict = view.text[start - 1 : start] == b'"' and not named.name.looks
    if view.payload[start - 2 : start - 1] == b"\\" and values.is_help(view.text[start:end]):
        return
    if _is_secret(view, named, start, end, field=strict):
        yield _span(view, named, start, end)


def _listed(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    start = opening.end()
    if named.name.looks and named.name.kind == b"token":
        return
    for _ in range(_LISTED_MAX):
        end = _end_of_quoted(view, start)
        if _is_secret(view, named, start, end, field=False):
            yield _span(view, named, start, end)
        closing = _INLINE2.match(view.text, end)
        following = closing and _NEXT_TEXT.match(view.text, closing.end())
        if not following:
            return
        start = following.end()


def _inside(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """`"password": {"value": "x"}`"""
    end = _end_of_quoted(view, opening.end())
    if _is_secret(view, named, opening.end(), end, field=False):
        yield _span(view, named, opening.end(), end)


def _assigned(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """A name without quotes and a quoted value: code, settings."""
    start = opening.end()
    if (
        view.payload[start - 2 : start - 1] != b"\\"
        and view.text[start - 1 : start] == b'"' == view.payload[start - 1 : start]
    ):
        return  # the quote that ends the text of the payload
    if _quote_before(view, named.start) == view.payload[escape_before(view, start) : start]:
        return  # the quote that ends a text in code: `"Password: "`
    end = _end_of_quoted(view, start)
    if view.text[start : start + 1] in (b" ", b",", b")", b";", b"}") and opening.end() - named.end <= 3:
        return  # this quote ends a text that began before
    if _is_secret(view, named, start, end, field=False):
        yield _span(view, named, start, end)


#: Names of columns and variables: snake_case or camelCase.
_COLUMN = lazily_compiled(rb"[a-z]+(?:_[a-z0-9]+)+|[a-z]+(?:[A-Z][a-z]+)+[0-9]?")


def _quote_before(view: View, start: int) -> bytes:
    return view.payload[escape_before(view, start) : start]


def _pair(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """Two texts of a list: `["authorization", "x"]`, `["--password", "x"]`."""
    start = opening.end()
    end = _end_of_quoted(view, start)
    value = view.text[start:end]
    option = named.identifier.startswith(b"-")
    if option:
        good = not value.startswith(b"-") and len(value) >= 4 and not values.is_label(value)
        good = good and _is_secret(view, named, start, end, field=False)
    else:
        good = (values.is_token(value) and not _COLUMN.fullmatch(value)) or _has_scheme(value)
        good = (
            (good or named.name.kind == b"cookie")
            and not values.is_code(value, b"")
            and _is_secret(view, named, start, end, field=False)
        )
    if good:
        yield _span(view, named, start, end)


def _named(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    start = opening.end()
    if opening["quote"] is not None:
        end = _end_of_quoted(view, start)
        good = _is_secret(view, named, start, end, field=False)
    else:
        end = _end_of(_WORD, view, start)
        good = _is_alone(view, end) and _is_secret(view, named, start, end, field=False)
    if good:
        yield _span(view, named, start, end)


def _part(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    end = _end_of(_LINE, view, opening.end())
    if _is_secret(view, named, opening.end(), end, field=False):
        yield _span(view, named, opening.end(), end)


def _called(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    front = view.text[max(0, named.start - 1) : named.start]
    lower = named.identifier.lower().rpartition(b".")[2]
    if front in (b".", b">", b"&") or lower.startswith((b"set", b"with", b"put")) or b"." in named.identifier:
        if lower.startswith((b"get", b"prompt", b"read", b"has", b"is", b"find")):
            return
        yield from _assigned(view, named, opening)


def _spoken(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    start = opening.end()
    end = _end_of_quoted(view, start)
    value = view.text[start:end]
    if named.identifier == b"PASSWORD" and len(value) >= 4 and b" " not in value:
        yield from _assigned(view, named, opening)


def _element(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    before = view.text[max(0, named.start - 24) : named.start]
    if not re.search(rb"<\x01*(?:[A-Za-z]{1,20}:)?$", before):
        return
    end = _end_of(_ELEMENT_TEXT, view, opening.end())
    if _is_secret(view, named, opening.end(), end, field=False):
        yield _span(view, named, opening.end(), end)


def _block(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    end = _end_of(_WORD, view, opening.end())
    if _is_alone(view, end) and _is_secret(view, named, opening.end(), end, field=False):
        yield _span(view, named, opening.end(), end)


def _bare(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """A value without quotes: `NAME=x`, `name: x`, `?name=x`."""
    start = opening.end()
    tight = view.text[start - 1 : start] in (b":", b"=")
    end = _end_of(_BARE, view, start)
    if tight and _is_setting(view, named):
        end = max(end, _end_of(_WORD, view, start)) if view.text[end : end + 1] not in (b"(", b"[") else end
    value = view.text[start:end]
    if end - start > _BARE_MAX:
        yield _span(view, named, start, end)
        return
    value, end = _without_punctuation(value, end)
    after = view.text[end : end + 8]
    if values.is_code(value, after) or values.is_placeholder(value) or values.is_marked(view.payload[start:end]):
        return
    if values.is_path(value) or after.startswith(b"[redacted:"):
        return
    if named.name.looks:
        good = values.is_token(value) and (not value.startswith(b"=") and view.text[start - 1 : start] != b"~")
    else:
        good = len(value) >= 6 and (values.has_digit(value) or _is_value_alone(view, named, value, start, end, tight))
        good = good or (len(value) >= 4 and tight and _is_setting(view, named) and values.has_digit(value))
    if good and not (named.name.kind == b"otp" and not value.isdigit()):
        yield _span(view, named, start, end)


def _option(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """`--password x`, `-Password x`."""
    if not named.identifier.startswith(b"-") or named.identifier.startswith(b"---"):
        yield from _after_login(view, named, opening)
        return
    start = opening.end()
    end = _end_of_quoted(view, start) if opening["quote"] is not None else _end_of(_WORD, view, start)
    value, end = _without_punctuation(view.text[start:end], end)
    if (
        value.startswith((b"-", b"|", b">", b"[", b"("))
        or len(value) < 4
        or values.is_code(value, view.text[end : end + 2])
    ):
        return
    if (
        values.is_placeholder(value)
        or values.is_label(value)
        or values.is_path(value)
        or (value.isupper() and value.isalpha())
    ):
        return
    last = _INLINE3.match(view.text, end)
    if values.has_digit(value) or opening["quote"] is not None or (last and not named.name.looks):
        yield _span(view, named, start, end)


def _after_login(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """`machine x login y password z`."""
    before = view.lower[max(0, named.start - 120) : named.start]
    if opening["quote"] is None and re.search(rb"(?:login|user)[ \t]+\S+[\s\x01]+$", before):
        start = opening.end()
        end = _end_of(_WORD, view, start)
        if end - start >= 4 and re.search(rb"machine|default|login", before):
            yield _span(view, named, start, end)


def _is(view: View, named: NameMatch, opening: re.Match[bytes]) -> Iterator[Span]:
    """ "The password is x", if x has letters and digits."""
    start = opening.end()
    end = _end_of_quoted(view, start) if opening["quote"] is not None else _end_of(_BARE, view, start)
    value, end = _without_punctuation(view.text[start:end], end)
    mixed = values.has_digit(value) and not value.isdigit() and len(value) >= 6 and b" " not in value
    if (
        mixed
        and (not named.name.looks or values.is_token(value))
        and not values.is_code(value, view.text[end : end + 1])
    ) and (
        not values.is_placeholder(value)
        and not values.is_path(value)
        and not value[:1].isdigit() | values.is_slug(value)
    ):
        yield _span(view, named, start, end)


Reader = Callable[[View, NameMatch, re.Match[bytes]], Iterator[Span]]


def _openings() -> dict[int, list[tuple[re.Pattern[bytes], Reader]]]:
    """Return the notations of values in the order in which they are tried, by the byte behind the name."""
    by_byte: dict[int, list[tuple[re.Pattern[bytes], Reader]]] = {}
    for first, expression, read in (
        (b"\x01\"'`]", _QUOTED, _quoted),
        (b"\x01\"'`]:= \t", _LISTED, _listed),
        (b"\x01\"'`]", _INSIDE, _inside),
        (b"\x01\"'`]", _PAIR, _pair),
        (b"\x01\"'`] \t", _NAMED, _named),
        (b"\x01\"'`]", _PART, _part),
        (b":= \t?", _ASSIGNED, _assigned),
        (b"(", _CALLED, _called),
        (b"\x01>", _ELEMENT, _element),
        (b":", _BLOCK, _block),
        (b"\x01=", _TIGHT, _bare),
        (b"\x01:= \t?", _LOOSE, _bare),
        (b"\x01 \t", _SPOKEN, _spoken),
        (b" ", _IS, _is),
        (b"\x01\"' \t", _SPACE, _option),
    ):
        for byte in first:
            by_byte.setdefault(byte, []).append((expression, read))
    return {byte: by_byte.get(byte, []) for byte in range(256)}


_OPENINGS = _openings()


# -- is it one? ------------------------------------------------------------------------------


def _is_secret(view: View, named: NameMatch, start: int, end: int, *, field: bool) -> bool:
    """Say whether a quoted value is a secret. With `field` (a JSON field), the name alone decides."""
    if end <= start or values.MARK.fullmatch(view.payload, start, end):
        return False
    if end - start > _LONG:
        return not named.name.looks
    value = view.text[start:end]
    name = named.name
    if name.kind == b"authorization" and not name.looks and value.isalpha() and value.isascii():
        return False
    if name.kind == b"authorization" and not field and (values.is_marked(value) or not _is_credential(value)):
        return False
    if name.kind == b"cookie":
        return b"=" in value and len(value) >= 8 and not values.is_placeholder(value) and not values.is_marked(value)
    if name.kind == b"otp":
        return value.isdigit() and 4 <= len(value) <= 10
    if name.looks:
        return values.is_token(value) and not values.is_marked(value) and not values.is_label(value)
    if field:
        return True
    return len(value) > 1 and not (
        values.is_placeholder(value) or values.is_label(value) or values.is_marked(value) or values.is_path(value)
    )


_SCHEME = lazily_compiled(
    rb"(?:bearer|basic|token|api-?key|digest|negotiate|ntlm|hawk|oauth|hmac|signature|key|bot|splunk|aws4-hmac-sha256"
    rb"|sharedaccesssignature|sharedkey|sso-key|genie-?key)[ \t\x01]",
    re.IGNORECASE,
)


def _has_scheme(value: bytes) -> bool:
    return _SCHEME.match(value) is not None


def _is_credential(value: bytes) -> bool:
    if b"{" in value or b"<" in value:  # a template of code
        return False
    return values.has_digit(value) or len(value) >= 32 or b"=" in value


def _is_setting(view: View, named: NameMatch) -> bool:
    """Say whether a name is a variable at the beginning of a line, or of a command: `export NAME=`."""
    if not named.identifier.isupper():
        return False
    before = view.text[max(0, named.start - 12) : named.start]
    return before.endswith(
        (b"\n", b'"', b"'", b"export ", b"-e ", b"set ", b"env ", b"ENV ", b"ARG ", b"- ", b"--env ", b"\t", b"  ")
    )


_CONNECTION = lazily_compiled(rb"[A-Za-z_]+=[^\s;&]{1,100}[;& ]$")


def _is_value_alone(view: View, named: NameMatch, value: bytes, start: int, end: int, tight: bool) -> bool:
    """Say whether a word of letters is a value: it is in a setting, and nothing follows it in its line."""
    if (
        values.is_label(value)
        or value.isdigit()
        or named.name.looks
        or named.name.kind in (b"authorization", b"cookie", b"otp")
    ):
        return False
    after = view.text[end : end + 1]
    before = view.text[max(0, named.start - 120) : named.start]
    if tight and before[-1:] in (b"&", b"?"):
        return True
    if tight and after in (b";", b"&", b" ") and _CONNECTION.search(before):
        return True
    if tight and (
        _is_setting(view, named) or (named.identifier.startswith(b"--") and (after == b" " or _is_alone(view, end)))
    ):
        return True
    if tight and before[-1:] in (b"", b"\n", b'"') and _is_alone(view, end):  # an ini file; code indents its arguments
        return value.islower() and len(value) >= 8
    if value.endswith(b"=") and len(value) % 4 == 0 and _is_alone(view, end):
        return True
    return (
        view.text[start - 1 : start] != b"="
        and before[-1:] in (b"", b"\n", b'"', b" ", b"\t")
        and _is_first(before)
        and _is_alone(view, end)
        and value.islower()
        and len(value) >= 8
    )


def _is_first(before: bytes) -> bool:
    """Say whether a line has only spaces, dashes and quotes before a name."""
    return not re.split(rb"[\n\"]", before)[-1].strip(b" \t\x01-'")


def _is_alone(view: View, end: int) -> bool:
    """Say whether a line, or the text, ends here."""
    return _INLINE4.match(view.text, end) is not None


def _without_punctuation(value: bytes, end: int) -> tuple[bytes, int]:
    """Return a value without the punctuation of the sentence around it, and its end."""
    shorter = value.rstrip(b".,:!?")
    return (shorter, end - (len(value) - len(shorter))) if len(shorter) >= len(value) - 1 else (value, end)


def _end_of(expression: re.Pattern[bytes], view: View, start: int) -> int:
    match = expression.match(view.text, start)
    return match.end() if match else start


_AFTER_SCHEME = lazily_compiled(_SCHEME.pattern + rb"[ \t\x01]*+", re.IGNORECASE)


def _span(view: View, named: NameMatch, start: int, end: int) -> Span:
    """Return the span to redact. In the value of a header, the authorization scheme stays."""
    kind = named.name.kind
    quoted_field = view.text[start - 1 : start] == b'"'
    if kind == b"authorization" and not quoted_field and (scheme := _AFTER_SCHEME.match(view.text, start, end)):
        start = scheme.end()
    return start, end, kind
