"""Does a value look like a secret, or like code, a placeholder, a type, or a word of prose?"""

from __future__ import annotations

import binascii
import re

from eventlog.record.redaction.lazy_patterns import lazily_compiled

MARK = lazily_compiled(rb"\[redacted:[a-z_]+\]")
#: Words in schemas, examples and settings that stand in the place of a secret.
_WORDS = frozenset(
    b"true false null none nil undefined yes no on off required optional string str text bytes int integer number"
    b" bool boolean any object password passwd pass secret token key hidden redacted removed masked omitted empty"
    b" default unset disabled enabled basic bearer prompt ask env file stdin auto same-origin include omit granted"
    b" denied invalid missing value passphrase credentials username user varchar char secretstr optional[str] unknown"
    b" never self this input output login oauth oauth2 changed failed success incorrect expired required.".split()
)
#: Variables, templates, ellipses; and words that ask for a value.
_PLACEHOLDER = lazily_compiled(
    rb"\$[({]?[A-Za-z_].*|\$\(.*|%[A-Za-z_(][\w()]*%?|[{<].*[}>]|[*x.#_X\x02-]{3,}|:[a-z_]+|[?]|\.\.\..*"
    rb"|(?:<|\[)?(?:your|insert|enter|replace|put|paste)[-_ ].*|.*[-_ ](?:here|goes[-_ ]here)>?",
    re.IGNORECASE | re.DOTALL,
)
_STEM = lazily_compiled(rb"passw|passphrase|secret|token|credential|api[-_]?key|[-_]key|auth", re.IGNORECASE)
_LABEL = lazily_compiled(rb"[A-Za-z ,.:;!?'()*_/-]+")
_VARIABLE = lazily_compiled(rb"[A-Z][A-Z0-9_]*_[A-Z0-9_]*")
_NAME = lazily_compiled(rb"[A-Za-z_$][A-Za-z0-9_$]*")
_CHAIN = lazily_compiled(rb"&?\*?[A-Za-z_$@][A-Za-z0-9_]*[?!]?(?:(?:\.|->|::|\?\.)[A-Za-z_$][A-Za-z0-9_]*[?!]?)+")
#: Names of types and algorithms that end in digits.
_TYPE = lazily_compiled(
    rb"(?:[a-z_]{0,20}?(?:int|float|complex|base|sha|utf|bytes|char|md|python|ipv|oauth|http|pbkdf|bcrypt|argon)"
    rb"[_-]?[0-9]{1,3}(?:_t)?(?![A-Za-z0-9])).*",
    re.IGNORECASE | re.DOTALL,
)
_DIGIT = lazily_compiled(rb"[0-9]")
#: A change from a letter to a digit, or back.
_TURNS = lazily_compiled(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
_TOKEN = lazily_compiled(rb"(?=.{0,400}?[0-9])(?=.{0,400}?[A-Za-z])[A-Za-z0-9._~+/=:|%\x01,@!#$^*-]{8,}")
_LINK = lazily_compiled(rb"(?:https?|file|arn|vault|ssm|projects|op|env)(?::|/)[^\s]*", re.IGNORECASE)
_PATH = lazily_compiled(rb"(?:~|\.{0,2})/.*|[A-Za-z]:[\x01\\/].*")


def is_marked(value: bytes) -> bool:
    """Say whether a value contains a redaction mark."""
    return b"[redacted:" in value


def is_placeholder(value: bytes) -> bool:
    """Say whether a value is a placeholder for a secret: `${TOKEN}`, `<your key>`, `****`, `None`."""
    plain = value.replace(b"\x01", b"")
    return (
        not plain
        or plain.lower() in _WORDS
        or _PLACEHOLDER.fullmatch(plain) is not None
        or (len(plain) > 3 and len(set(plain)) == 1)
    )


def is_label(value: bytes) -> bool:
    """Say whether a text is a label of a form or a help page: words, with the name of a secret among them."""
    if _VARIABLE.fullmatch(value) and _STEM.search(value):
        return True  # the name of a variable
    return _LABEL.fullmatch(value) is not None and (_STEM.search(value) is not None or value.count(b" ") >= 3)


def is_help(value: bytes) -> bool:
    """Say whether a text is an instruction about a secret: "Enter your password"."""
    return b" " in value and len(value) < 200 and is_label(value) and _STEM.search(value) is not None


def is_code(value: bytes, after: bytes) -> bool:
    """Say whether an unquoted value behind `=` or `:` is an expression, a type, or a word. `after` follows it."""
    if after[:1] in (b"(", b"[") and _NAME.fullmatch(value.rpartition(b".")[2]):
        return True
    if _CHAIN.fullmatch(value):
        first = re.split(rb"\.|->|::|\?\.", value)[0].lstrip(b"&*")
        return not is_random(first) or _STEM.search(value) is not None
    return _TYPE.fullmatch(value) is not None or (
        _NAME.fullmatch(value) is not None and _STEM.search(value) is not None
    )


def is_slug(value: bytes) -> bool:
    """Say whether a value is words joined by hyphens: no part is long, or mixes letters and digits."""
    parts = re.split(rb"[._-]", value)
    return len(parts) > 2 and not any(is_random(part) for part in parts)


def is_random(part: bytes) -> bool:
    """Say whether a word looks random: at least 8 characters that mix letters and digits, or 16 of mixed case."""
    return len(part) >= 8 and (
        len(_TURNS.findall(part)) >= 2 or (len(part) >= 16 and not part.islower() and not part.isdigit())
    )


def has_digit(value: bytes) -> bool:
    """Say whether the first 1,000 bytes of a value have a digit."""
    return _DIGIT.search(value, 0, 1000) is not None


def is_token(value: bytes) -> bool:
    """Say whether a value looks like a token: letters and digits, at least 8, no spaces, no link, no date."""
    if len(value) > 20_000 or _LINK.fullmatch(value) or _PATH.fullmatch(value):
        return False
    return _TOKEN.fullmatch(value) is not None and not is_slug(value) and not _TYPE.fullmatch(value)


def is_path(value: bytes) -> bool:
    """Say whether a value is a path or a link."""
    return _PATH.fullmatch(value) is not None or _LINK.fullmatch(value) is not None


def is_basic(token: bytes) -> bool:
    """Say whether a value is the Base64 of `user:password`, as in HTTP, and not just a word behind "basic"."""
    try:
        return b":" in binascii.a2b_base64(token + b"=" * (-len(token) % 4), strict_mode=True)
    except binascii.Error:
        return False
