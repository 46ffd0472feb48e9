"""What a search looks up in the search index: for each word or phrase of a query, the words of texts that it needs.

deploy        →  deploy…                       a word that begins so: it is a match
"exit code 1" →  exit + code + 1…              all of them: the text is looked at then
1e-7          →  1e + 7…  or  0 + 0000001…     in whatever way the number is written
🎉            →  nothing: not a word, so every text has to be looked at
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import duckdb

from eventlog.indexer.search.words import WORD_MAX_CHARS, words_of
from eventlog.queries.search import terms

#: Whole numbers of so many digits are written in one way.
_DIGITS_MAX = 15


class Term(NamedTuple):
    """A word of texts, or the beginning of some."""

    word: str
    is_beginning: bool


class Item(NamedTuple):
    """A word or phrase of a query: each way to have it is a list of terms. `is_exact` if to have them is to match."""

    word: str
    ways: list[list[Term]]
    is_exact: bool


def read_items(connection: duckdb.DuckDBPyConnection, words: Sequence[str]) -> list[Item]:
    """Take words and phrases apart, by the rule of the search index."""
    forms = [_forms(word) for word in words]
    texts = [form for each in forms for form in each]
    lists = iter(connection.execute(SELECT_WORDS, [texts]).fetchall())
    items = []
    for word, each in zip(words, forms, strict=True):
        ways = [next(lists)[0] for _ in each]
        is_exact = ways == [[word]] and len(word) < WORD_MAX_CHARS
        items.append(Item(word, [_terms(parts) for parts in ways] if all(ways) else [], is_exact))
    return items


def _forms(word: str) -> list[str]:
    """Return the ways to write a word: several for a number."""
    is_simple = terms.number(word) is None or (word.isdigit() and len(word) <= _DIGITS_MAX)
    return [word] if is_simple else sorted({word, *terms.spellings(word)})


def _terms(words: list[str]) -> list[Term]:
    return [Term(word, number == len(words) - 1) for number, word in enumerate(words)]


SELECT_WORDS = f"SELECT {words_of('form')} FROM (SELECT unnest(?::VARCHAR[]) AS form)"
