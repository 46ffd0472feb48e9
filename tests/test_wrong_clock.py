"""A clock that ran ahead, or behind, for a while: what it wrote down neither delays nor beats what comes after.

The times are relative to the wall clock of the test, so that "in the future" means what it says.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.format import envelope, ids, timestamps
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.builtin import Heartbeat, LlmCall, PriceSet, RetentionSet, RunStarted
from eventlog.format.control import Role
from eventlog.indexer.retention import prune
from eventlog.log import clock, layout
from eventlog.log.reader import Event, Located
from eventlog.log.segment import Segment
from eventlog.maintenance import sealing
from eventlog.maintenance.sealing import seal
from eventlog.queries.alerts import changes
from eventlog.queries.alerts.check import Checked, check
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.indexer.test_retention import aged
from tests.queries.alerts.support import Channel, listening

MONTH_S = 30 * 86_400.0
HOUR_S = 3600.0


def at(seconds: float) -> datetime:
    """A moment, in seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def record(root: Path, *given: tuple[float, msgspec.Struct], workspace: str | None = None, **fields: Any) -> None:
    """Record events one after the other, under times in seconds from now: by a clock that was so far off."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for seconds, event in given:
        recorder.emit(event, timestamp=at(seconds), workspace=workspace, **fields)
    recorder.shutdown()


# -- the order -----------------------------------------------------------------------------

NOW_US = 10**15


def event(segment_: str, offset: int, seconds: float) -> Event:
    moment = timestamps.from_ns(int((NOW_US + seconds * 1e6) * 1000))
    made = envelope.Envelope(event_id=ids.new_id(offset), event_type="t", timestamp=moment, payload=msgspec.Raw(b"{}"))
    return Event(Located("t", segment_, offset, b""), made)


def order(*events: Event) -> list[tuple[str, int]]:
    found = clock.recorded(events, now_us=NOW_US)
    return [(each.event.located.segment, each.event.located.offset) for each in found]


@given(st.lists(st.floats(-1e7, 1e7), max_size=8))
def test_within_a_segment_the_place_is_the_order(seconds: list[float]) -> None:
    """Whatever times the lines name."""
    events = [event("a", place, each) for place, each in enumerate(seconds)]
    assert order(*reversed(events)) == [("a", place) for place in range(len(seconds))]


@given(st.lists(st.floats(301, 1e7), max_size=4), st.lists(st.floats(-1e7, 0), min_size=1, max_size=4))
def test_what_is_recorded_after_a_jump_comes_last(ahead: list[float], after: list[float]) -> None:
    """In another segment, too, whatever its name."""
    for first, second in (("a", "b"), ("b", "a")):
        events = [event(first, place, each) for place, each in enumerate(ahead)]
        events += [event(second, place, each) for place, each in enumerate(sorted(after))]
        assert order(*events)[-1] == (second, len(after) - 1)


def test_a_line_from_the_future_is_as_old_as_the_one_before_it() -> None:
    """So a change that was made while the clock was wrong holds, and what came before stays before."""
    found = order(event("a", 0, -100), event("b", 0, -60), event("b", 1, MONTH_S), event("c", 0, -30))
    assert found == [("a", 0), ("b", 0), ("b", 1), ("c", 0)]


def test_small_differences_of_clocks_are_believed() -> None:
    """Between machines there are always some."""
    assert order(event("a", 0, 200), event("b", 0, 100)) == [("b", 0), ("a", 0)]


# -- policies and prices -------------------------------------------------------------------


def old(root: Path) -> None:
    aged(segment(root, line(1)), 60)
    seal(root, ["t"])
    index(root)


@pytest.mark.parametrize("jump_s", [MONTH_S, 400 * MONTH_S, -MONTH_S])
@pytest.mark.parametrize("apart", [False, True])
def test_a_later_policy_counts_whatever_the_clock_said_before(root: Path, jump_s: float, apart: bool) -> None:
    """In the same segment, and in another one where it was ahead."""
    if apart and jump_s < 0:
        pytest.skip("across segments a clock that was behind cannot be told from one that was right")
    record(root, (jump_s, RetentionSet(keep_days=1.0)))
    if apart:
        seal(root, ["retention_set"])
    record(root, (0, RetentionSet()))
    old(root)
    assert prune(root).pruned == []
    record(root, (-5, RetentionSet(keep_days=2.0)))  # the clock is set back a little
    assert len(prune(root).pruned) == 1


def costs(root: Path) -> Decimal | None:
    index(root)
    return ReadStore(root).costs(None).total.cost_usd


def price(usd: str, **more: Any) -> PriceSet:
    return PriceSet(model="made-up", input_usd_per_mtok=Decimal(usd), output_usd_per_mtok=Decimal(usd), **more)


def test_a_price_from_the_future_does_not_beat_its_correction(root: Path) -> None:
    """Not now, and not once its time has come."""
    record(root, (MONTH_S, price("100")))
    record(root, (-60, price("1")))
    record(root, (-30, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    assert costs(root) == Decimal(1)
    record(root, (2 * MONTH_S, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    assert costs(root) == Decimal(2)


def test_a_price_that_is_dated_back_takes_nothing_from_a_later_one(root: Path) -> None:
    """Each holds from its own time on, in whatever order they were recorded."""
    record(root, (-HOUR_S, price("2")), (-MONTH_S, price("1")))
    for seconds in (-60, -2 * HOUR_S):
        record(root, (seconds, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    assert costs(root) == Decimal(3)


def test_of_two_prices_from_one_moment_on_the_one_recorded_last_counts(root: Path) -> None:
    """Also where the first was recorded by a clock that ran ahead."""
    since = at(-HOUR_S)
    record(root, (MONTH_S, price("100", effective_from=since)), (0, price("1", effective_from=since)))
    record(root, (-30, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    assert costs(root) == Decimal(1)


def test_a_price_that_is_announced_holds_from_then_on(root: Path) -> None:
    """`effective_from` may lie in the future: that is no clock's mistake."""
    record(root, (0, price("1", effective_from=at(-HOUR_S))), (0, price("2", effective_from=at(MONTH_S))))
    record(root, (-30, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    record(root, (2 * MONTH_S, LlmCall(request_model="made-up", uncached_input_tokens=10**6)))
    assert costs(root) == Decimal(3)


# -- alerts --------------------------------------------------------------------------------

SPEND = AlertRuleSet(name="spend", kind="cost", threshold=Decimal(5), cooldown_s=HOUR_S)


def checked(root: Path, seconds: float) -> Checked:
    return check(root, now=at(seconds))


def spend(root: Path, seconds: float) -> None:
    record(root, (seconds - 1, LlmCall(request_model="m", cost_usd=Decimal(7))))


@pytest.mark.parametrize("resolved", [False, True])
def test_a_rule_does_not_cool_down_for_a_month(root: Path, resolved: bool) -> None:
    """It fired, and was over, by a clock that was ahead; now it is right."""
    changes.add(root, SPEND, now=at(-HOUR_S))
    spend(root, MONTH_S)
    assert len(checked(root, MONTH_S).fired) == 1
    assert len(checked(root, MONTH_S + 2 * HOUR_S if resolved else 0).resolved) == 1
    spend(root, 0)
    assert len(checked(root, 0).fired) == (1 if resolved else 0)  # else it was resolved just now, by a right clock
    spend(root, HOUR_S + 60)
    assert len(checked(root, HOUR_S + 60).fired) == (0 if resolved else 1)


def test_a_cooldown_by_a_right_clock_holds(root: Path) -> None:
    """Also over a small step back."""
    changes.add(root, SPEND, now=at(-3 * HOUR_S))
    spend(root, -HOUR_S * 2)
    assert len(checked(root, -2 * HOUR_S).fired) == 1
    assert len(checked(root, -HOUR_S / 2).resolved) == 1
    spend(root, -HOUR_S / 2 - 60)
    assert checked(root, -HOUR_S / 2 - 60).fired == []


def test_a_delivery_is_not_put_off_for_a_month(root: Path) -> None:
    """It is tried at once, backs off again, and is given up after the usual number of attempts."""
    with listening() as channel:
        _deliver(root, channel)


def _deliver(root: Path, channel: Channel) -> None:
    channel.answers = [500] * 20
    changes.add(root, msgspec.structs.replace(SPEND, channels=[channel.url]), now=at(-HOUR_S))
    spend(root, MONTH_S)
    assert [each.attempt for each in checked(root, MONTH_S).deliveries] == [1]
    spend(root, -60)
    moment = -10_000.0
    attempts: list[int] = []
    while True:
        told = checked(root, moment).deliveries
        assert len(told) == 1, (moment, attempts)
        attempts.append(told[0].attempt)
        if told[0].retry_at is None:
            break
        assert checked(root, moment + 1).deliveries == []
        moment = (told[0].retry_at - datetime.now(UTC)).total_seconds() + 1
    assert attempts == list(range(2, 9))
    assert changes.retry(root) == 1
    channel.answers = []
    told = checked(root, 0).deliveries
    assert {(each.attempt, each.ok) for each in told} == {(1, True)}


def test_a_snooze_from_the_future_is_over(root: Path) -> None:
    """And one that ends it, recorded by the right clock, counts."""
    changes.add(root, SPEND, now=at(-HOUR_S))
    changes.snooze(root, "spend", at(MONTH_S + HOUR_S), now=at(MONTH_S))
    spend(root, 0)
    assert len(checked(root, 0).fired) == 1


def test_a_snooze_after_the_jump_counts_and_so_does_its_end(root: Path) -> None:
    """Each change counts after the one that was recorded before it."""
    changes.add(root, SPEND, now=at(-HOUR_S))
    changes.snooze(root, "spend", at(MONTH_S + HOUR_S), now=at(MONTH_S))
    changes.snooze(root, "spend", at(HOUR_S), now=at(-50))
    spend(root, 0)
    assert checked(root, 0).fired == []
    changes.snooze(root, "spend", at(-40), now=at(-40))
    assert len(checked(root, 1).fired) == 1


def test_a_rule_that_was_set_in_the_future_can_be_corrected(root: Path) -> None:
    """By the clock that is right. The change is dated behind what it changes, so it holds then, too."""
    changes.add(root, SPEND, now=at(MONTH_S))
    changes.add(root, msgspec.structs.replace(SPEND, threshold=Decimal(50)), now=at(-60))
    spend(root, 0)
    assert checked(root, 0).fired == []
    changes.remove(root, "spend", now=at(-30))
    assert [each.state for each in ReadStore(root).alert_rules()] == ["removed"]


def test_a_heartbeat_from_the_future_is_no_sign_of_life(root: Path) -> None:
    """Nor does a rule from the future wait for its time."""
    changes.add(root, AlertRuleSet(name="alive", kind="heartbeat", window_s=HOUR_S), now=at(MONTH_S))
    record(root, (MONTH_S, Heartbeat(interval_s=60)))
    assert len(checked(root, 0).fired) == 1


def test_a_run_whose_last_word_is_from_the_future_is_abandoned(root: Path) -> None:
    """It was started an hour ago, and a month from now; both ended without a word."""
    record(root, (-2 * HOUR_S, RunStarted(name="a")), (MONTH_S, Heartbeat()), run_id="a")
    record(root, (MONTH_S, RunStarted(name="b")), run_id="b")
    record(root, (-60, RunStarted(name="c")), (MONTH_S, Heartbeat()), run_id="c")
    index(root)
    found = dict(ReadStore(root).sql("SELECT run_id, status FROM runs").rows)
    assert found == {"a": "abandoned", "b": "abandoned", "c": "running"}


# -- segments ------------------------------------------------------------------------------


def test_a_segment_from_the_future_is_finished_and_sealed(root: Path) -> None:
    """By its name, its last write, or both: nobody owns it, and its age is not known."""
    ahead = layout.new_segment_name(int((time.time() + MONTH_S) * 1e9))
    path = segment(root, line(1), name=ahead)
    os.utime(path, (time.time() + MONTH_S,) * 2)
    only = sealing.Finished(max_age_s=HOUR_S)
    assert sealing.has_finished(root, only)
    assert [each.segment for each in seal(root, only=only)] == [ahead]
    young = segment(root, line(2), name=layout.new_segment_name(time.time_ns()))
    os.utime(young, (time.time() + MONTH_S,) * 2)
    assert seal(root, only=only) == []


def test_a_writer_leaves_a_segment_from_the_future_by_its_age(root: Path) -> None:
    """Counted from when it was opened."""
    ahead = layout.new_segment_name(int((time.time() + MONTH_S) * 1e9))
    path = segment(root, line(1), name=ahead)
    opened = Segment.adopt(path)
    assert opened is not None
    assert opened.created_s <= time.time()
    opened.drop()


# -- warnings ------------------------------------------------------------------------------


def test_commands_warn_of_control_events_from_the_future(root: Path, run: Run) -> None:
    """They say which."""
    record(root, (MONTH_S, RetentionSet(keep_days=1.0)))
    record(root, (MONTH_S, price("1")))
    record(root, (MONTH_S, SPEND))
    old(root)
    for event_type, *command in (
        ("retention_set", "prune"), ("price_set", "cost"), ("alert_rule_set", "alerts", "check"),
        ("retention_set", "doctor"), ("price_set", "doctor"), ("alert_rule_set", "doctor"),
    ):  # fmt: skip
        done = run(*command)
        assert f"{event_type} " in done.stdout + done.stderr
        assert "in the future: a clock was wrong" in done.stdout + done.stderr, command


def test_a_workspace_is_not_told_of_others(root: Path, run: Run) -> None:
    """Their prices are theirs."""
    record(root, (MONTH_S, price("1")), workspace="theirs")
    index(root)
    assert "in the future" not in run("cost", "--workspace", "mine").stderr
    assert "in the future" in run("cost", "--workspace", "theirs").stderr
