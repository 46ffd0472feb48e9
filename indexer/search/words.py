"""What a word is: one rule, in SQL, for the search index, for rows that it lacks, and for what somebody searches.

    {"tool": "exit_code 1", "n": [2.5]}  ──texts, no names──→  exit_code 1 2.5  ──words──→  exit · code · 1 · 2 · 5

A word is a run of letters, digits and accents in any script, in lower case. Everything else stands between words: also
`_`, `.`, `/` and `-`, so `code` finds `exit_code`. Scripts that put no spaces between words (Chinese, Japanese,
Thai, …) have a word for each character.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from eventlog.indexer.sql import literal

#: Longer words are cut: a line of base64 is not worth its space.
WORD_MAX_CHARS = 64
#: First and last code points of scripts without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, Chinese and Japanese.
_ALONE = (
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029),
    (0x3040, 0x30FF), (0x3100, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF),
)  # fmt: skip
_STARTS = [start for start, _ in _ALONE]
_ALONE_CLASS = "".join(rf"\x{{{start:x}}}-\x{{{end:x}}}" for start, end in _ALONE)
#: Characters between words (RE2): spaces, punctuation, symbols, control characters.
_BETWEEN = r"\pZ\pP\pS\pC"
_LETTER = f"[^{_BETWEEN}{_ALONE_CLASS}]"
_WORD = f"[{_ALONE_CLASS}]|{_LETTER}+"
_BREAK = f"(?:^|[{_BETWEEN}{_ALONE_CLASS}])"

#: SQL: all texts and numbers of a column `payload`, without the names of fields.
TEXTS = """
array_to_string(list_where(
    json_extract_string(payload, '$.**'),
    [kind NOT IN ('OBJECT', 'ARRAY', 'NULL', 'BOOLEAN') FOR kind IN json_type(payload, '$.**')]
), ' ')
"""
#: SQL: whether fields of a `payload` are kept apart (eventlog.log.blobs); such rows have no words here.
HAS_BLOBS = """contains(payload::VARCHAR, '"$blob"')"""


def folded(text: str) -> str:
    """Return SQL for a text in lower case, with σ for a final ς."""
    return f"replace(lower({text}), 'ς', 'σ')"


def words_of(text: str) -> str:
    """Return SQL for the list of the words of a text, in order, each time they occur."""
    return f"[word[1:{WORD_MAX_CHARS}] FOR word IN regexp_extract_all({folded(text)}, {literal(_WORD)})]"


def beginnings(text: str, word: str) -> str:
    """Return SQL for the list of the words in a folded text that begin with a word, without making all of its words."""
    if stands_alone(word[0]):
        return f"regexp_extract_all({text}, {literal(re.escape(word))})"
    pattern = f"{_BREAK}({re.escape(word)}{_LETTER}*)"
    return f"[word[1:{WORD_MAX_CHARS}] FOR word IN regexp_extract_all({text}, {literal(pattern)}, 1)]"


def stands_alone(char: str) -> bool:
    """Return whether a character is a word of its own: its script puts no spaces between words."""
    at = bisect_right(_STARTS, ord(char)) - 1
    return at >= 0 and ord(char) <= _ALONE[at][1]
