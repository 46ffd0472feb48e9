"""The words and "phrases" of a search, and how they match texts and JSON.

An event must have all of them, in any order and in any case. A word matches at the beginning of a word of the text
(eventlog.indexer.search.words says what that is); where the text's word is longer (`deploy` in `deployed`), it counts
half. A search for what is inside of words also finds `redeployed`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from typing import Any

import msgspec

from eventlog.errors import QueryFailed
from eventlog.indexer.search.words import stands_alone

WORDS_MAX = 16
QUERY_MAX_CHARS = 1000
_PART = 0.5
_ITEM = re.compile(r'"([^"]*)"|(\S+)')
#: Letters that `fold` treats as the same letter, besides its capital.
_ALSO = {"σ": "ς", "ß": "ẞ"}
_PLAIN = re.compile(r"[a-z0-9 ]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,4})?")
_NUMBER_CHARS_MAX = 100
_EXPONENT_MAX, _PLAIN_EXPONENT_MAX = 999, 25
#: Numbers with these powers of ten are written without an exponent, by every program.
_WRITTEN_PLAIN = range(-4, 15)
#: So many digits that no number of a search is rounded.
_EXACT = Context(prec=2 * _NUMBER_CHARS_MAX)


def parse(query: str) -> list[str]:
    """Return the words and phrases of a query in lower case, without duplicates: `["timeout", "exit code 1"]`.

    Raises QueryFailed for a query that is too long, has no words or more than WORDS_MAX, or is not UTF-8.
    """
    if len(query) > QUERY_MAX_CHARS:
        raise QueryFailed(f"the search has {len(query):,} characters; {QUERY_MAX_CHARS:,} at most")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise QueryFailed("the search is not UTF-8; no text of the log has such bytes") from None
    words = list(dict.fromkeys(fold(phrase or word) for phrase, word in _ITEM.findall(query)))
    words = [word for word in words if word.strip()]
    if not words:
        raise QueryFailed("nothing to search for; try: eventlog search timeout, or: eventlog search '\"exit code 1\"'")
    if len(words) > WORDS_MAX:
        raise QueryFailed(f"the search has {len(words)} words; {WORDS_MAX} at most")
    return words


def fold(text: str) -> str:
    """Return a text in lower case, with σ for a final ς and i for İ.

    It has the same length as the text, so that offsets in it are offsets in the text.
    """
    return text.replace("İ", "i").lower().replace("ς", "σ")


def folded_in_sql(text: str, words: Iterable[str]) -> str:
    """Return SQL that does what `fold` does to the SQL expression `text`, as far as these words need it."""
    lowered = f"lower({text})"
    return f"replace({lowered}, 'ς', 'σ')" if any("σ" in word for word in words) else lowered


def in_json(word: str) -> tuple[list[str], str | None]:
    """Return how a word may be written in JSON, in lower case: as literal texts, and as a pattern (RE2) for escapes.

    A number may be written in several ways. The pattern is None if no program escapes any character of the word.
    Programs may escape any other character, as `\\u00e9`, and some write `\\/`. (In the index, DuckDB has rewritten the
    JSON with few escapes; blobs hold it as it was emitted.)
    """
    literal = msgspec.json.encode(word).decode()[1:-1].lower()
    forms = [literal]
    if "/" in word:
        forms.append(literal.replace("/", r"\/"))
    forms += sorted(spelling for spelling in spellings(word) if literal not in spelling)
    if _PLAIN.fullmatch(word):
        return forms, None
    return forms, "".join(map(_escaped, word))


def _escaped(char: str) -> str:
    """Return a pattern (RE2) for the ways to write a character in JSON, in lower case."""
    if _PLAIN.fullmatch(char):
        return char
    forms = (char, char.upper(), *_ALSO.get(char, ""))
    ways = {msgspec.json.encode(char).decode()[1:-1], *(json.dumps(form)[1:-1] for form in forms)}
    ways |= {f"\\u{ord(form):04x}" for form in forms if len(form) == 1 and ord(form) < 0x10000}
    return f"(?:{'|'.join(sorted(re.escape(way.lower()) for way in ways))})"


def number(text: str) -> Decimal | None:
    """Return the number that a text is, however it is written: `1e22`, `1E+22`; None for any other text."""
    return Decimal(text) if len(text) <= _NUMBER_CHARS_MAX and _NUMBER.fullmatch(text) else None


def spellings(word: str) -> set[str]:
    """Return how programs write the number that a word is, in lower case; an empty set for any other word.

    Python writes 1e+22 and 1e-07 where DuckDB writes 1e22 and 1e-7, and others write all digits.
    """
    value = number(word)
    if value is None or not value or abs(value.adjusted()) > _EXPONENT_MAX:
        return set()
    sign, digits, _ = value.normalize(_EXACT).as_tuple()
    first, rest, power = digits[0], "".join(map(str, digits[1:])), value.adjusted()
    found = set()
    if "e" in word or power not in _WRITTEN_PLAIN:
        mantissas = [f"{first}.{rest}"] if rest else [f"{first}", f"{first}.0"]
        signs = ("-",) if power < 0 else ("", "+")
        powers = [f"e{each}{abs(power):{width}}" for each in signs for width in ("", "02")]
        found = {mantissa + written for mantissa in mantissas for written in powers}
    if abs(power) <= _PLAIN_EXPONENT_MAX:
        plain = format(value.normalize(_EXACT), "f")
        found |= {plain.lstrip("-"), plain.lstrip("-") + ("" if "." in plain else ".0")}
    return {f"-{each}" for each in found} if sign else found


class PayloadText(msgspec.Struct, frozen=True):
    """A text of a payload, with its path, such as `output_messages.0.content`; `is_number` if it is a number there."""

    path: str
    text: str
    is_number: bool = False

    def has_number(self, word: str) -> bool:
        """Whether it is the number that a word is, in whatever way each is written."""
        value = number(word) if self.is_number else None
        return value is not None and number(self.text.lower()) == value


def texts(payload: Any) -> Iterator[PayloadText]:
    """Yield each text and number of a payload in order, but no keys."""
    waiting: list[tuple[str, Any]] = [("", payload)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield PayloadText(path, value)
        elif isinstance(value, dict):
            waiting += [(f"{path}.{key}" if path else str(key), item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{path}.{index}", item) for index, item in reversed(list(enumerate(value)))]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield PayloadText(path, str(value), is_number=True)


def occurrences(word: str, lowered: str, *, inside: bool) -> float:
    """Count a word in a text, both in lower case, where a word of the text begins, or also `inside` of words.

    Where it is only a part of a word, it counts half.
    """
    return sum(_PART if is_part else 1 for _, is_part in places(word, lowered, inside=inside))


def places(word: str, lowered: str, *, inside: bool) -> Iterator[tuple[int, bool]]:
    """Yield where a word stands in a text, both in lower case, and whether it is only a part of a word there."""
    at = lowered.find(word)
    while at >= 0:
        end = at + len(word)
        begins = not _joined(lowered[at - 1 : at], word[0])
        if begins or inside:
            yield at, not begins or _joined(word[-1], lowered[end : end + 1])
        at = lowered.find(word, end if begins or inside else at + 1)


def _joined(char: str, after: str) -> bool:
    """Return whether two characters, one after the other, are of one word; "" is none."""
    return _is_letter(char) and _is_letter(after)


def _is_letter(char: str) -> bool:
    """Return whether a character is one of a word of several characters: a letter, a digit or an accent."""
    return char.isascii() and char.isalnum() if char < "\x80" else _is_letter_of_any_script(char)


def _is_letter_of_any_script(char: str) -> bool:
    category = unicodedata.category(char)
    return (category[0] in "LMN" or category == "Cn") and not stands_alone(char)
