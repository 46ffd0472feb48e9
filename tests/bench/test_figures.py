"""From samples to figures and words."""

from __future__ import annotations

import pytest

from bench.case import Claim, Measurement, compare
from bench.figures import digits, in_words, median, percentile
from bench.measure import Sample


def test_percentiles_are_values_that_were_measured() -> None:
    """By nearest rank."""
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert median([3.0, 1.0, 2.0]) == 2


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0000034, "s", "3.4 µs"),
        (0.25, "s", "250 ms"),
        (61.234, "s", "61.2 s"),
        (0.0, "s", "0 s"),
        (1536 * 1024, "B", "1.5 MiB"),
        (12, "B", "12 B"),
        (0.4567, "% of a core", "0.457% of a core"),
    ],
)
def test_figures_in_words(value: float, unit: str, words: str) -> None:
    """Three digits, and a unit that fits."""
    assert in_words(value, unit) == words


def test_digits_have_no_exponent() -> None:
    """However large or small."""
    assert [digits(each) for each in (0, 1234567.8, 0.04567, 19.96)] == ["0", "1,234,568", "0.0457", "20"]


def test_a_comparison_is_that_of_medians() -> None:
    """One outlier on either side says nothing; memory is the largest seen."""
    ours = [Sample(elapsed_s, 100, b"") for elapsed_s in (1.0, 1.0, 90.0)]
    peer = [Sample(elapsed_s, peak, b"") for elapsed_s, peak in ((2.0, 5), (2.0, 7), (0.1, 6))]
    found = compare("time", ours, peer, per=10)
    assert found.value == 0.5
    assert found.ours is not None
    assert found.peer is not None
    assert (found.ours.value, found.ours.peak_bytes, found.peer.peak_bytes) == (0.1, 100, 7)
    assert found.note == "3 rounds"  # fewer than five are said
    assert compare("time", ours * 2, peer * 2).note == ""


def test_targets_have_two_directions() -> None:
    """At most, and at least; the limit itself is met."""
    at_most = Claim(name="a", what="", against="", limit=0.5)
    at_least = Claim(name="b", what="", against="", limit=20, at_least=True)
    assert [at_most.is_met(value) for value in (0.4, 0.5, 0.6)] == [True, True, False]
    assert [at_least.is_met(value) for value in (19, 20, 21)] == [False, True, True]
    assert Measurement("a").value is None
