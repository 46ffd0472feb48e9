"""Percentages as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.cli.text import percent


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 5, "0.0%"), (5, 5, "100.0%"), (19, 60, "31.7%"), (1, 16, "6.3%"),  # 6.25
        (1_999, 2_000, "99.9%"), (1_999_999, 2_000_000, "99.9%"), (1_998, 2_000, "99.9%"), (2_001, 2_000, "100.1%"),
        (1, 1_000, "0.1%"), (1, 2_000, "0.05%"), (1, 5_000, "0.02%"), (1, 3_000_000, "0.00003%"), (96, 100_000, "0.1%"),
        (10**8, 1, "10,000,000,000.0%"),
    ],
)  # fmt: skip
def test_a_percentage_has_one_decimal_and_halves_go_up(part: int, whole: int, shown: str) -> None:
    """Worked out by hand; below 0.1% there is one digit that is not zero."""
    assert percent(part, whole) == shown


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_percentage_is_0_or_100_only_where_it_is_that(part: int, whole: int) -> None:
    """1,999 of 2,000 runs are not all runs, and one of 5,000 failures is a failure."""
    value = float(percent(part, whole).rstrip("%").replace(",", ""))
    assert (value == 0) == (part == 0)
    assert (value == 100) == (part == whole)
