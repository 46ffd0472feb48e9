"""The line decoder against hostile bytes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format.envelope import MAX_DEPTH, too_deep

ESCAPES = b'\\"' * 500_000


@pytest.mark.parametrize("end", [b"", b'"'], ids=["unterminated", "terminated"])
def test_the_depth_of_a_long_line_is_found_in_linear_time(end: bytes) -> None:
    """A megabyte of escaped quotes behind many brackets once took hours."""
    started = time.monotonic()
    assert too_deep(b"[" * (MAX_DEPTH + 1) + b'"' + ESCAPES + end)
    assert not too_deep(b"[" * MAX_DEPTH + b'"' + b"[" + ESCAPES + end)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("quotes", [b"", b'"\\\\","\\"]",'], ids=["plain", "escapes"])
def test_many_brackets_beside_each_other_are_not_deep(quotes: bytes) -> None:
    """As in a long conversation; and they hide nothing that is deep behind them."""
    flat = b'{"role":"user","content":[{"text":"hello"}]},' * MAX_DEPTH
    deep = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert not too_deep(b"[" + quotes + flat + deep + b"]")
    assert too_deep(b"[" + quotes + flat + b"[" + deep + b"]]")


_JSON = st.recursive(
    st.text('\\"[]{}/n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('\\"{['), inner),
)


@given(value=_JSON, around=st.integers(MAX_DEPTH - 3, MAX_DEPTH + 1))
def test_depth_is_counted_outside_of_strings(value: object, around: int) -> None:
    """Whatever brackets, quotes and backslashes stand in strings and keys."""

    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    line = b"[" * around + json.dumps(value).encode() + b"]" * around
    assert too_deep(line) == (around + depth(value) > MAX_DEPTH)
