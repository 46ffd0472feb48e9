"""What a watching indexer prints: a sum now and then, and nothing twice."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from eventlog.indexer.indexer import Counted
from eventlog.indexer.summary import EVERY_S, Summary


@given(batches=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3)), max_size=30))
def test_all_is_reported_once_and_seldom(batches: list[tuple[float, int]]) -> None:
    """Whatever comes when; the first batch at once."""
    now_s = 0.0
    reports: list[tuple[float, int]] = []
    summary = Summary(lambda done: reports.append((now_s, done.events)), clock=lambda: now_s)
    for wait_s, events in batches:
        now_s += wait_s
        summary.add(Counted(events=events, bytes=events * 10))
        assert not reports or all(count for _, count in reports)
    times = [at_s for at_s, _ in reports]
    assert all(later - earlier >= EVERY_S for earlier, later in itertools.pairwise(times))
    with_events = [events for _, events in batches if events]
    assert not with_events or reports[0][1] == with_events[0]
    summary.close()
    assert sum(count for _, count in reports) == sum(with_events)


def test_what_is_left_is_reported_without_new_lines() -> None:
    """The last events of a burst are not kept back until the next one."""
    now_s = 0.0
    reports: list[int] = []
    summary = Summary(lambda done: reports.append(done.events), clock=lambda: now_s)
    summary.add(Counted(events=1, bytes=10))
    summary.add(Counted(events=2, bytes=20))
    assert reports == [1]
    now_s = EVERY_S
    summary.add(Counted())
    assert reports == [1, 2]


def test_each_batch_is_reported_if_that_is_asked_for() -> None:
    """By `--every 0`."""
    reports: list[int] = []
    summary = Summary(lambda done: reports.append(done.events), clock=lambda: 0.0, every_s=0)
    for events in (1, 2, 3):
        summary.add(Counted(events=events, bytes=1))
    assert reports == [1, 2, 3]
