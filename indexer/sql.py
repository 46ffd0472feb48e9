"""Names and texts as SQL: the one module that puts quotes around them.

Wherever DuckDB takes a parameter, bind one. These functions are for what it takes none for: names, ATTACH, COPY, SET,
definitions of views, and queries that are shown to people.
"""

from __future__ import annotations

from collections.abc import Iterable


def ident(name: str) -> str:
    """Return a name as a quoted identifier: `reading/size "` becomes `"reading/size \"\"\"`.

    DuckDB refuses an empty name and one with lone surrogates (duckdb.Error).
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    r"""Return a text as a string literal: `it's` becomes `'it''s'`.

    A NUL becomes `chr(0)`, so that the statement can be printed, copied and passed to a command: `a\0b` becomes
    `('a' || chr(0) || 'b')`. DuckDB refuses a text with lone surrogates (duckdb.Error).
    """
    quoted = "'" + text.replace("'", "''") + "'"
    return quoted if "\0" not in text else "(" + quoted.replace("\0", "' || chr(0) || '") + ")"


def literals(texts: Iterable[str]) -> str:
    """Return texts as literals with commas between, for `IN (…)` and `[…]`: `'a', 'b'`."""
    return ", ".join(map(literal, texts))


def unquote(body: str) -> str:
    """Return the text of a literal from what stands between its outer quotes: `it''s` becomes `it's`."""
    return body.replace("''", "'")
