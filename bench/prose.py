"""Text that looks and compresses like what people and models write, at 100 MB a second.

Words come from a vocabulary by Zipf's law, as in any language: a few common ones and a long tail. A table of 65,536
entries, in which each word has its share, maps two random bytes to a word.
"""

from __future__ import annotations

import random
from array import array

_PLACES = 65_536
_VOCABULARY = 9_000
_REFILL_WORDS = 100_000
#: After so many words, on average, comes a comma, and the end of a sentence or of a paragraph.
_COMMA, _STOP, _PARAGRAPH = 0.07, 0.055, 0.006

_COMMON = """the of to and a in is that for it as with be on this by are from or not an at we can if will
which but has file all one when have return more their error other what test so they first time been call also
use code then into value only should after data there each function its result line may these new set list no
would does run read check than any request type add server name where some response out same how model
between path write user while before state change number output because input find both event key next
through was were fails still system need using two case without here since now message start end index class
make step open look current tool must just default update back already text table process query now page found
contains missing however works see string show please handle old already cannot given pass such kind instead
count limit parse config build loads known every token below above most few large small right wrong field made
object seems last another row thread much might order less again until being called expected returned""".split()
_CODE = r"""`None` `True` 0 1 2 3 10 42 100 200 404 500 1.5 0.95 50% == != -> => self.client async await lambda
def import try/except O(n) HTTP/2 JSON SQL UTF-8 README.md src/app/main.py src/net/retry.py:118 tests/test_api.py
config.toml /usr/lib pip install git diff --stat git commit -m \"fix\" \"ok\" \"id\": \"status\": {\"a\": 1}
[1, 2] print(value) len(rows) for row in rows: return result # TODO - [ ] - [x] ``` ```python café naïve façade
déjà → … — “quoted” 数据 ✓""".split()
_SYLLABLES = """ab al an ar ba be bo ca ce con co de di do el en er fa fi for ga ge gra ha hi im in is ja ka ke la
le li lo ma me mi mo na ne ni no of or pa pe pi po pre pro qua ra re ri ro sa se si so sta ta te ter ti to tra
tri un ur va ve vi vo wa we wi za""".split()
_ENDINGS = ["", "", "s", "ed", "ing", "er", "ly", "tion", "ment", "able", "ness", "al", "ic", "ive"]


def _vocabulary(rng: random.Random) -> list[str]:
    words = dict.fromkeys(_COMMON)
    while len(words) < _VOCABULARY:
        words["".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3)))) + rng.choice(_ENDINGS)] = None
        if len(words) % 90 == 0:
            words[rng.choice(_CODE)] = None
    return list(words)


def _table() -> list[bytes]:
    """Return one word per entry, some with a punctuation mark; the same in each run of the program."""
    rng = random.Random("words")
    words = _vocabulary(rng)
    shares = [1 / (rank + 3) for rank in range(len(words))]
    scale = (_PLACES - len(words)) / sum(shares)
    places: list[bytes] = []
    for word, share in zip(words, shares, strict=True):
        for _ in range(1 + int(share * scale)):
            chance = rng.random()
            mark = (
                r".\n\n" if chance < _PARAGRAPH
                else "." if chance < _PARAGRAPH + _STOP
                else "," if chance < _PARAGRAPH + _STOP + _COMMA
                else ""
            )  # fmt: skip
            places.append(f"{word}{mark}".encode())
    return places + [b"the"] * (_PLACES - len(places))


class Prose:
    """An endless text, already escaped for JSON, taken piece by piece; no piece is taken twice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._table = _table()
        self._text = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next words, together at least `size` bytes long."""
        end = self._text.find(b" ", self._at + size)
        while end < 0:
            self._refill()
            end = self._text.find(b" ", self._at + size)
        piece = self._text[self._at : end]
        self._at = end + 1
        return piece

    def _refill(self) -> None:
        places = array("H", self._rng.randbytes(2 * _REFILL_WORDS))
        more = b" ".join(map(self._table.__getitem__, places))
        self._text = self._text[self._at :] + more + b" "
        self._at = 0
