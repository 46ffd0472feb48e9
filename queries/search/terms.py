"""What is looked for: words and "phrases", and where they stand in a text.

All of them must be there, in any order and in any case. A word is found inside longer ones, too
(`deploy` in `redeployed`), which counts half of a whole one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from eventlog.errors import QueryFailed

WORDS_MAX = 16
QUERY_MAX_CHARS = 1000
_PART = 0.5
_ITEM = re.compile(r'"([^"]*)"|(\S+)')
#: What `fold` makes one letter of, beside its capital as Python has it.
_ALSO = {"σ": "ς", "ß": "ẞ"}
_PLAIN = re.compile(r"[a-z0-9 ]*")


def parse(query: str) -> list[str]:
    """Return the words and phrases of a query, in lower case, each once. Raises QueryFailed."""
    if len(query) > QUERY_MAX_CHARS:
        raise QueryFailed(f"the search has {len(query):,} characters; {QUERY_MAX_CHARS:,} at most")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise QueryFailed("the search is not UTF-8; no text of the log has such bytes") from None
    found = list(dict.fromkeys(fold(phrase or word) for phrase, word in _ITEM.findall(query)))
    found = [each for each in found if each.strip()]
    if not found:
        raise QueryFailed("nothing to search for; try: eventlog search timeout, or: eventlog search '\"exit code 1\"'")
    if len(found) > WORDS_MAX:
        raise QueryFailed(f"the search has {len(found)} words; {WORDS_MAX} at most")
    return found


def fold(text: str) -> str:
    """Return a text in lower case, in which a sigma is one at the end of a word, too, and İ is i.

    It is as long as the text, so that places in it are places in the text.
    """
    return text.replace("İ", "i").lower().replace("ς", "σ")


def folded_in_sql(text: str, looked_for: Iterable[str]) -> str:
    """Return SQL for a text, given as SQL, as `fold` makes it, as far as these words ask for it."""
    lowered = f"lower({text})"
    return f"replace({lowered}, 'ς', 'σ')" if any("σ" in word for word in looked_for) else lowered


def in_json(word: str) -> tuple[list[str], str | None]:
    """Return how a word may stand in JSON, in lower case: literally, and as a pattern for what is escaped.

    The pattern is None where nothing of the word needs to be escaped by anybody. Programs escape what they
    like as `\\u00e9`, and some write `\\/`. (In the index, DuckDB has written JSON anew, with few escapes; what is
    kept in blobs is as it was emitted.)
    """
    literal = msgspec.json.encode(word).decode()[1:-1].lower()
    forms = [literal]
    if "/" in word:
        forms.append(literal.replace("/", r"\/"))
    if _PLAIN.fullmatch(word):
        return forms, None
    return forms, "".join(map(_escaped, word))


def _escaped(char: str) -> str:
    """Return a pattern (RE2) for a character as JSON may have it, in text that was made lower case."""
    if _PLAIN.fullmatch(char):
        return char
    forms = (char, char.upper(), *_ALSO.get(char, ""))
    ways = {msgspec.json.encode(char).decode()[1:-1], *(json.dumps(each)[1:-1] for each in forms)}
    ways |= {f"\\u{ord(each):04x}" for each in forms if len(each) == 1 and ord(each) < 0x10000}
    return f"(?:{'|'.join(sorted(re.escape(way.lower()) for way in ways))})"


class Place(msgspec.Struct, frozen=True):
    """A text of a payload: the path to it, such as `output_messages.0.content`, and the text."""

    path: str
    text: str


def texts(payload: Any) -> Iterator[Place]:
    """Yield every text and number in a payload, keys left out, in their order."""
    waiting: list[tuple[str, Any]] = [("", payload)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield Place(path, value)
        elif isinstance(value, dict):
            waiting += [(f"{path}.{key}" if path else str(key), each) for key, each in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{path}.{place}", each) for place, each in reversed(list(enumerate(value)))]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield Place(path, str(value))


def occurrences(word: str, lowered: str) -> float:
    """Return how often a word is in a text, both in lower case; inside of another word it counts half."""
    count = 0.0
    at = lowered.find(word)
    while at >= 0:
        end = at + len(word)
        inside = (lowered[at - 1 : at].isalnum() and word[0].isalnum()) or (
            lowered[end : end + 1].isalnum() and word[-1].isalnum()
        )
        count += _PART if inside else 1
        at = lowered.find(word, end)
    return count
