"""Where a stream stands: the ids of frames, in a log that grows, is torn and copied, and written by wrong clocks."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import envelope, ids, timestamps
from eventlog.log import layout
from eventlog.server import positions
from eventlog.server.backlog import Backlog, Frame, Wanted
from eventlog.server.positions import Cursor, Files, Progress, parse, resume

_HOUR_NS = 3600 * 10**9
_NOW_NS = 1_770_000_000 * 10**9


class Log:
    """A log whose clock the test sets, and what one reader has seen of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_ns = _NOW_NS
        self.written = 0

    def append(self, event_type: str, *, segment: str | None = None, torn: bool = False) -> str:
        """Append a line to a segment, or to a new one; return its name."""
        name = segment or layout.new_segment_name(self.now_ns)
        path = layout.segment_path(self.root, event_type, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written += 1
        payload, moment = b'{"n":%d}' % self.written, timestamps.from_ns(self.now_ns)
        line = envelope.line(ids.new_id(self.now_ns), event_type, moment, b"", payload)
        with path.open("ab") as file:
            file.write(line[:-5] if torn else line)
        os.utime(path, ns=(self.now_ns, self.now_ns))
        return name

    def files(self) -> Files:
        """Read all of it, as a reader would."""
        return {
            file.name: Progress(file, _line_end(file.path), file.size) for file in layout.list_log(self.root).segments
        }

    def places(self) -> set[str]:
        """`segment:offset` of all complete lines."""
        return {frame.id.partition(";")[0] for frame in sent(Cursor(), self.files())}

    def after(self, text: str) -> set[str]:
        """`segment:offset` of what is sent after an id; each line once."""
        files = self.files()
        frames = [frame.id.partition(";")[0] for frame in sent(resume(parse(text), files, now_ns=self.now_ns), files)]
        assert len(frames) == len(set(frames))
        return set(frames)


def _line_end(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


def sent(cursor: Cursor, files: Files) -> list[Frame]:
    """Return what a stream sends from a position on."""
    backlog = Backlog(cursor, files, Cursor.at_end(files), Wanted())
    frames: list[Frame] = []
    while (part := backlog.next()) is not None:
        frames += part
    return frames


@pytest.fixture
def log(root: Path) -> Log:
    """An empty log."""
    return Log(root)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["new", "more", "more", "torn", "seal", "read"]), st.integers(0, 99)),
    min_size=15, max_size=60,
)  # fmt: skip


@settings(max_examples=60)
@given(steps=_STEPS, seed=st.integers(0, 2**32))
def test_each_line_comes_once_however_often_a_client_comes_back(
    steps: list[tuple[str, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It leaves after any frame; in between, segments begin, grow, are torn and sealed."""
    log = Log(tmp_path_factory.mktemp("log"))
    chance = random.Random(seed)
    open_segments: list[tuple[str, str]] = []
    frames: list[str] = []
    last = "start"
    for step, number in [*steps, ("read", 99), ("read", 99)]:
        log.now_ns += chance.randrange(10**9)
        if step == "new" or (step != "read" and not open_segments):
            event_type = f"t{number % 5}"
            open_segments.append((event_type, log.append(event_type)))
        elif step == "more":
            event_type, name = open_segments[number % len(open_segments)]
            log.append(event_type, segment=name)
        elif step == "torn":
            event_type, name = open_segments.pop(number % len(open_segments))
            log.append(event_type, segment=name, torn=True)
        elif step == "seal":
            event_type, name = open_segments.pop(number % len(open_segments))
            layout.segment_path(log.root, event_type, name).chmod(0o400)
        else:
            files = log.files()
            read = sent(resume(parse(last), files, now_ns=log.now_ns), files)
            taken = read if number == 99 else read[: number % (len(read) + 1)]
            frames += [frame.id.partition(";")[0] for frame in taken]
            last = taken[-1].id if taken else last
    assert len(frames) == len(set(frames))
    assert set(frames) == log.places()


def _segment_of_an_older_clock(log: Log) -> None:
    log.now_ns -= 300 * 24 * _HOUR_NS
    log.append("b")


def _segment_of_a_clock_that_was_never_set(log: Log) -> None:
    log.now_ns = 10**9
    log.append("b")


def _many_new_segments(log: Log) -> None:
    for _ in range(200):
        log.now_ns += 1000
        log.append("c")


def _a_copied_log(log: Log) -> None:
    name = layout.new_segment_name(_NOW_NS - 9 * _HOUR_NS)
    log.append("b", segment=name)
    path = layout.segment_path(log.root, "b", name)
    os.utime(path, ns=(_NOW_NS - 9 * _HOUR_NS,) * 2)


DISASTERS: list[Callable[[Log], None]] = [
    _segment_of_an_older_clock, _segment_of_a_clock_that_was_never_set, _many_new_segments, _a_copied_log,
]  # fmt: skip


@pytest.mark.parametrize("disaster", DISASTERS)
@pytest.mark.parametrize("is_plain", [False, True])
def test_nothing_is_missing_after(disaster: Callable[[Log], None], is_plain: bool, log: Log) -> None:
    """By the whole id, or by the line alone: what came after is sent, perhaps with what was sent before."""
    first = log.append("a")
    for _ in range(80):  # more than an id lists
        log.now_ns += 10**9
        log.append("a")
    log.append("a", segment=first)
    files = log.files()
    before, last = log.places(), sent(Cursor(), files)[-1].id
    disaster(log)
    log.append("a", segment=first)
    new = log.places() - before
    text = last.partition(";")[0] if is_plain else last
    if is_plain and disaster is _a_copied_log:
        return  # its files look as if they had been there all along
    assert new <= log.after(text)


@settings(max_examples=60)
@given(steps=_STEPS, seed=st.integers(0, 2**32))
def test_a_reader_that_goes_on_needs_no_list(
    steps: list[tuple[str, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Round after round without coming back, each line comes once, however few segments an id lists.

    And whoever comes back with an id on the way misses nothing.
    """
    log = Log(tmp_path_factory.mktemp("log"))
    chance = random.Random(seed)
    names: list[str] = []
    cursor, before = Cursor(), log.files()
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "_LISTED_MAX", 2)
        for step, number in [*steps, ("read", 0)]:
            log.now_ns += chance.randrange(10**9)
            if step == "new" or (step != "read" and not names):
                names.append(log.append("a"))
            elif step != "read":
                log.append("a", segment=names[number % len(names)])
            else:
                now = log.files()
                cursor.carry(before, now)
                before = now
                for frame in sent(cursor, now):
                    seen.append(frame.id.partition(";")[0])
                    if chance.random() < 0.1:
                        assert log.places() <= log.after(frame.id) | set(seen)
    assert len(seen) == len(set(seen))
    assert set(seen) == log.places()


def test_what_was_settled_is_listed_again_when_it_grows(log: Log) -> None:
    """As a reader does it line by line; at its end, the position is the one that the files have."""
    old = log.append("a")
    for _ in range(100):
        log.now_ns += 10**9
        log.append("b")
    before = log.files()
    cursor = Cursor.at_end(before)
    log.now_ns += 10**9
    log.append("a", segment=old)
    now = log.files()
    cursor.list_again(before[old])
    cursor.advance(now[old])
    total, latest_ns = cursor.total, cursor.latest_ns
    cursor.recount(now)
    assert (cursor.total, cursor.latest_ns) == (total, latest_ns)
    assert log.after(cursor.id()) == set()
    cursor.trim()
    assert len(cursor.listed) == 64
    assert old in cursor.listed
    assert log.after(cursor.id()) == set()


def test_a_segment_that_an_id_does_not_list_and_that_grows(log: Log) -> None:
    """It is sent again from its start: that is the price of ids that are not endless."""
    old = log.append("a")
    for _ in range(100):
        log.now_ns += 10**9
        log.append("b")
    last = Cursor.at_end(log.files()).id()
    assert log.after(last) == set()
    log.now_ns += 10**9
    log.append("a", segment=old)
    assert {place.partition(":")[0] for place in log.after(last)} == {old}


def test_a_torn_line_is_no_reason_to_send_everything_again(log: Log) -> None:
    """Nor are segments that were deleted."""
    for n in range(100):
        log.now_ns += 10**9
        log.append("a", torn=n % 3 == 0)
    last = Cursor.at_end(log.files()).id()
    last = resume(parse(last), log.files(), now_ns=log.now_ns).id()
    assert log.after(last) == set()
    for path in sorted((log.root / "log/a").iterdir())[:10]:
        path.unlink()
    assert log.after(last) == set()


def test_a_line_alone_leaves_out_what_is_an_hour_older(log: Log) -> None:
    log.append("a")
    log.now_ns += 2 * _HOUR_NS
    name = log.append("b")
    assert log.after(f"{name}:0") == set()
    log.append("b", segment=name)
    assert len(log.after(f"{name}:0")) == 1


def test_two_segments_of_one_key(log: Log) -> None:
    """An id calls a segment by 32 bits: where two have the same, both are sent again."""
    names = [f"2026010{day}T000000000000Z-0000000{day}00000000" for day in (1, 2)]
    for name in names:
        log.append("a", segment=name)
    last = Cursor.at_end(log.files()).id()
    assert log.after(last) == log.places()


def test_an_id_is_short(log: Log) -> None:
    """However many segments there are: at most 64 are listed."""
    for _ in range(300):
        log.now_ns += 10**9
        log.append("a")
    assert max(len(frame.id) for frame in sent(Cursor(), log.files())) < 1500
    assert len(Cursor.at_end(log.files()).id()) < 1000


@settings(max_examples=100)
@given(text=st.text(max_size=80) | st.from_regex(r"20260101T000000000000Z-[0-9a-f]{16}:[0-9]{1,25}(;[\w-]*)?"))
def test_what_is_no_id_is_refused(text: str) -> None:
    """With an error of ours, whatever it is."""
    with contextlib.suppress(QueryFailed):
        parse(text)


def test_ids_that_somebody_made_up(log: Log) -> None:
    """They name what is not there, or the middle of a line: then too much is sent, and nothing is raised."""
    name = log.append("a")
    log.append("a", segment=name)
    first, second = sorted(log.places(), key=lambda place: int(place.partition(":")[2]))
    assert log.after(f"{name}:999999999") == {first, second}
    assert log.after(f"{name}:3") == {second}
    assert log.after("20260101T000000000000Z-00000000000000ff:0") == {first, second}
    forged = Cursor()
    forged.listed[name] = Progress(log.files()[name].file, 3, 3)
    forged.horizon = "zzz"
    assert log.after(forged.id()) == {second}
    forged.listed[name] = Progress(log.files()[name].file, 2**62, 2**62)
    assert log.after(forged.id()) == {first, second}


def test_reading_a_long_backlog_is_linear(log: Log) -> None:
    """3,000 segments: each is looked at once."""
    name = log.append("a")
    data = layout.segment_path(log.root, "a", name).read_bytes()
    folder = log.root / "log/a"
    for n in range(3000):
        (folder / f"{layout.new_segment_name(_NOW_NS + n * 10**6)}.jsonl").write_bytes(data)
    started = time.process_time()
    assert len(log.after("start")) == 3001
    assert time.process_time() - started < 5
