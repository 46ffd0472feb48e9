"""Finding private keys: PEM, OpenSSH, PGP and PuTTY, whatever their lines begin with.

A key is followed line by line: as in its file, quoted in a mail, commented out, numbered by a tool, in a diff, in a
list of texts, or in code that joins texts. Each JSON text that has a part of the key gets its own mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from eventlog.record.redaction.lazy_patterns import lazily_compiled
from eventlog.record.redaction.view import View

Span = tuple[int, int, bytes]

_KIND = b"private_key"
_BEGIN = lazily_compiled(
    rb"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)? ?-{4,5}|(?:Private-Lines|private-lines): ?[0-9]{1,3}"
)
_END = lazily_compiled(rb"-{4,5} ?END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)? ?-{4,5}|Private-MAC: ?[0-9a-f]++")
#: A whole key on one line.
_ONE_LINE = lazily_compiled(rb"[ \t]{0,4}+[A-Za-z0-9+/=](?:[A-Za-z0-9+/=:, ]|-(?!---)){10,20000}+(?=-{4,5} ?END )")
#: A line of a key: what tools put before it (quotes, comments, diff signs, line numbers, file names), a header or a
#: part of the key, and what code puts behind it.
_BODY = lazily_compiled(
    rb"(?P<front>[\x01\s\"'`,+>|#*/;.(\[\\-]{0,60}+(?:(?:[A-Za-z0-9_./-]{1,80}+:)?[0-9]{1,7}+[ ]{0,2}+"
    rb"(?:\x01{0,5}+\x02|\xe2\x86\x92|\x01{0,5}+\t|[:|]|-(?!-))[ \t]{0,4}+|[A-Za-z0-9_./-]{1,80}+:(?=[A-Za-z0-9+/=-]{3}|\x01))?)"
    rb"(?P<body>(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID|Subject|X-[A-Za-z-]{1,20}+): [^\r\n\"\x01]{0,100}+|=?[A-Za-z0-9+/]{1,20000}+={0,3}+|)"
    rb"(?P<back>[ \t]{0,8}+(?:\x01{0,16}+[\"'`])?[ \t]{0,8}+[,+;)\]\\]{0,3}+[ \t]{0,8}+)(?=\x01*+[\r\n]|\x01*+[\"'`]|-{4,5} ?END|\x01*+\Z)"
)
_NEWLINE = lazily_compiled(rb"\x01*+(?:\r\x01*+)?\n")
#: `\n" +` and the like, in code that joins texts.
_IN_CODE = lazily_compiled(rb"\x01{0,16}+[\"'`]")
_LINES_MAX = 2000
#: A shorter text of a list is its next item, not a line of the key.
_LINE_MIN = 16
_NEXT_TEXT = lazily_compiled(rb"\"[ \t\r\n]{0,40}+,[ \t\r\n]{0,200}+\"")


def spans(view: View) -> Iterator[Span]:
    """Yield the spans of private keys: one for each JSON text that has a part of a key."""
    done = 0
    for begin in _BEGIN.finditer(view.text):
        if begin.start() < done:
            continue
        parts, has_body = _parts(view, begin)
        if has_body:
            yield from ((start, end, _KIND) for start, end in parts)
            done = parts[-1][1]


def _parts(view: View, begin: re.Match[bytes]) -> tuple[list[tuple[int, int]], bool]:
    """Return the spans of a key, one for each JSON text that has a part of it, and whether it has a body."""
    start, end = begin.span()
    parts: list[tuple[int, int]] = []
    has_body = False
    for _ in range(_LINES_MAX):
        limit = _end_of_json_text(view.payload, end)
        end, has_body_here, is_closed = _rest_of_text(view, end, limit, is_first=not parts)
        has_body = has_body or has_body_here
        if not is_closed or has_body_here:
            parts.append((start, end))
        following = _NEXT_TEXT.match(view.text, limit)
        if is_closed or following is None or not _is_blank(view.text, end, limit):
            return parts or [(start, end)], has_body
        start = end = following.end()
        if not _goes_on(view, start):
            break
    return parts, has_body


def _goes_on(view: View, start: int) -> bool:
    """Say whether the next text of a list is a line of the key."""
    limit = _end_of_json_text(view.payload, start)
    if _CLOSING.match(view.text, start, limit):
        return True
    if view.payload[limit + 1 : limit + 3].startswith((b":", b" :")):
        return False  # the name of the next field
    line = _BODY.match(view.text, start, limit)
    if line is None or not _is_blank(view.text, line.end(), limit):
        return False
    return len(line["body"]) >= _LINE_MIN or line["body"].endswith(b"=") or start == limit


def _rest_of_text(view: View, end: int, limit: int, *, is_first: bool) -> tuple[int, bool, bool]:
    """Return where the key ends in this text, whether this text has a part of its body, and whether it ends here."""
    text, has_body = view.text, False
    if (line := _ONE_LINE.match(text, end, limit)) is not None:
        end, has_body = line.end(), True
    at = end
    for number in range(_LINES_MAX):
        if (last := _CLOSING.match(text, at, limit)) is not None:
            return last.end(), has_body or not is_first, True
        line = _BODY.match(text, at, limit) if number or not is_first else None
        if line is None and (number or not is_first):
            break
        if line is not None and line["body"]:
            has_body = has_body or len(line["body"]) > 2
            end = _without_code(text, line.start("body"), line.end())
        newline = _NEWLINE.match(text, line.end() if line else at, limit) or _IN_CODE.match(
            text, line.end() if line else at, limit
        )
        if newline is None:
            break
        at = newline.end()
    return end, has_body, False


def _is_blank(text: bytes, start: int, end: int) -> bool:
    return not text[start:end].strip(b" \t\r\n\x01")


def _end_of_json_text(payload: bytes, start: int) -> int:
    """Return the offset of the quote that ends the payload's text around `start`."""
    position = start
    while (quote := payload.find(b'"', position)) >= 0:
        part = payload[max(start, quote - 200) : quote]
        if (len(part) - len(part.rstrip(b"\\"))) % 2 == 0:
            return quote
        position = quote + 1
    return len(payload)


_CLOSING = lazily_compiled(
    rb"(?:[\x01\s\"'`,+>|#*/;.(\[\\]|-(?!-)|-(?=-{4,5} ?END)){0,60}+(?:(?:[A-Za-z0-9_./-]{1,80}+:)?[0-9]{1,7}+[ ]{0,2}+"
    rb"(?:\x01{0,5}+\x02|\xe2\x86\x92|\x01{0,5}+\t|[:|]|-(?=-----E))[ \t]{0,4}+|[A-Za-z0-9_./-]{1,80}+:)?"
    + b"(?:"
    + _END.pattern
    + b")"
)


def _without_code(text: bytes, start: int, end: int) -> int:
    """Return the end of a line without the quote and comma that code puts behind it."""
    quote = re.compile(rb"[^\"'`\x01]*+").match(text, start, end)
    return len(text[start : quote.end()].rstrip(b" \t,+;)]")) + start if quote else end
