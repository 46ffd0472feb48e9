"""Several files under one name: a segment that comes back shorter, longer or different loses no row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.errors import IndexBusy
from eventlog.indexer import carry_over, replay, retention
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.maintenance import sealing
from tests.indexer.support import COUNT, index, line, name, rows, segment

OLD = [line(n) for n in range(21, 29)]
NEW = [line(n) for n in range(11, 19)]
ALARMS = "SELECT count(*) FROM events WHERE event_type = 'index_alarm'"

#: What stands under the name of the segment afterwards, instead of OLD.
FILES: dict[str, list[bytes]] = {
    "shorter": OLD[:3],
    "shorter, and continued": OLD[:3] + NEW[:2],
    "shorter, and continued beyond the old end": OLD[:3] + NEW,
    "continued to the very same length": OLD[:3] + NEW[:5],
    "empty": [],
    "another file": NEW,
    "another file, longer": [*NEW, line(30)],
    "lines in another order": OLD[::-1],
}
#: Same length and the same end: to be found by the ids alone.
MIDDLE = [line(1, pad=[0] * 3000), *OLD[1:7], line(8, pad=[0] * 3000)]
assert len(b"".join(OLD[:8])) == len(b"".join(NEW))
MIDDLE_CHANGED = [MIDDLE[0], *NEW[1:7], MIDDLE[7]]


def numbers(root: Path) -> set[int]:
    """Return the numbers of the events that are rows."""
    return {int(n) for (n,) in rows(root, "SELECT payload ->> 'n' FROM events WHERE event_type = 't'")}


def expected(*files: list[bytes]) -> set[int]:
    """Return the events of some files."""
    return {json.loads(each)["payload"]["n"] for lines in files for each in lines}


@pytest.mark.parametrize("always", [False, True])
def test_rows_that_are_put_aside_while_verify_replays_are_no_difference(
    root: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    """As beside a restore; where files are replaced each time, verify says that it cannot tell."""
    path = segment(root, *OLD)
    Indexer(root, say=lambda _: None).catch_up()
    files = iter([NEW, OLD[:3], NEW[:5], OLD[:2]] if always else [NEW])
    real = replay._build

    def build(*arguments: Any) -> tuple[int, dict[str, str]]:
        lines = next(files, None)
        if lines is not None:
            path.write_bytes(b"".join(lines))
            Indexer(root, say=lambda _: None).catch_up()
        return real(*arguments)

    monkeypatch.setattr(replay, "_build", build)
    if always:
        with pytest.raises(IndexBusy, match="try again when that is over"):
            replay.verify(root)
    else:
        assert replay.verify(root).equal


@pytest.mark.parametrize("how", FILES)
@pytest.mark.parametrize("first", ["index", "replay", "watching"])
def test_another_file_under_the_name_costs_no_row(root: Path, how: str, first: str) -> None:
    """Whoever notices it first; the rows of both files are there, once each, and stay through a replay."""
    path = segment(root, *OLD)
    watching = Indexer(root, say=lambda _: None)
    watching.catch_up()
    path.write_bytes(b"".join(FILES[how]))
    firsts: dict[str, Callable[[], object]] = {
        "index": lambda: index(root), "replay": lambda: replay.replay(root), "watching": watching.keep_up,
    }  # fmt: skip
    firsts[first]()
    for step in (lambda: None, lambda: index(root), lambda: replay.replay(root)):
        step()
        assert numbers(root) == expected(OLD, FILES[how])
        ((count, distinct),) = rows(root, COUNT)
        assert count == distinct
    assert rows(root, "SELECT count(DISTINCT (segment, line_offset)) = count(*) FROM events") == [(True,)]
    assert replay.verify(root).equal
    assert index(root) == []
    with path.open("ab") as file:  # life goes on
        file.write(line(99))
    assert index(root) == []
    assert numbers(root) == expected(OLD, FILES[how]) | {99}


@pytest.mark.parametrize("how", FILES)
def test_what_comes_back_after_it_was_released_is_read_before_it_is_deleted(root: Path, how: str) -> None:
    """Mode db_only, where an indexer deletes what it has indexed."""
    path = segment(root, *OLD)
    Indexer(root, release=True).catch_up()
    assert not path.exists()
    path.write_bytes(b"".join(FILES[how]))
    said: list[str] = []
    Indexer(root, release=True, say=said.append).catch_up()
    assert numbers(root) == expected(OLD, FILES[how])
    assert path.exists() is (how == "empty")
    replay.replay(root)
    assert numbers(root) == expected(OLD, FILES[how])


def test_a_file_with_the_same_length_and_end_costs_no_row(root: Path) -> None:
    """Nothing tells it from the one that was indexed but its lines, which a replay compares."""
    path = segment(root, *MIDDLE)
    index(root)
    path.write_bytes(b"".join(MIDDLE_CHANGED))
    assert replay.replay(root).carried.replaced == 6
    assert numbers(root) == expected(MIDDLE, MIDDLE_CHANGED)
    assert replay.replay(root).carried.events == 0
    assert replay.verify(root).equal


def test_one_that_was_released_and_has_other_lines_in_its_middle_is_not_deleted_unread(root: Path) -> None:
    """Its end is as it was indexed, and what stands before it is not."""
    path = segment(root, *MIDDLE)
    Indexer(root, release=True).catch_up()
    path.write_bytes(b"".join(MIDDLE_CHANGED))
    Indexer(root, release=True, say=lambda _: None).catch_up()
    assert numbers(root) == expected(MIDDLE, MIDDLE_CHANGED)


def test_files_that_are_exchanged_again_and_again_add_nothing(root: Path) -> None:
    """Each version has one name, whenever it comes back; each exchange is an alarm."""
    files = [OLD, OLD[:3] + NEW, OLD[:3], NEW]
    path = segment(root, *OLD)
    index(root)
    for turn in range(1, 9):
        path.write_bytes(b"".join(files[turn % 4]))
        os.utime(path, (turn, turn))
        assert len(index(root)) == 1
        assert numbers(root) == expected(*files[: turn + 1])
    assert rows(root, ALARMS) == [(8,)]
    assert rows(root, "SELECT count(*) <= 5 FROM segments WHERE event_type = 't'") == [(True,)]
    assert replay.verify(root).equal


def test_lines_in_quarantine_stay_once(root: Path) -> None:
    """Those that the new file has as well are read again, the others stay as evidence."""
    path = segment(root, line(1), b"bad\n", line(2), b"worse\n", b"torn")
    index(root)
    path.write_bytes(line(1) + b"bad\n" + line(3))
    index(root)
    assert rows(root, "SELECT raw FROM quarantine ORDER BY ALL") == [(b"bad",), (b"torn",), (b"worse",)]
    assert replay.verify(root).equal
    replay.replay(root)
    assert rows(root, "SELECT raw FROM quarantine ORDER BY ALL") == [(b"bad",), (b"torn",), (b"worse",)]


def test_another_content_of_an_event_is_a_conflict(root: Path) -> None:
    """The log's line counts, and what it said before is kept."""
    path = segment(root, line(1), line(2), name=name(1))
    index(root)
    path.write_bytes(line(1) + line(2, run_id="changed"))
    index(root)
    assert rows(root, "SELECT run_id FROM events WHERE payload ->> 'n' = '2'") == [("changed",)]
    assert rows(root, "SELECT count(*) FROM conflicts") == [(1,)]
    assert replay.verify(root).equal


def test_an_index_that_would_lose_events_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: the two are compared before the swap."""
    segment(root, *OLD)
    index(root)
    real = carry_over._carry_replaced
    with duckdb.connect(str(index_file.index_path(root))) as connection:  # rows that come from nowhere
        connection.execute("UPDATE event_rows SET event_id = uuid() WHERE line_offset = 0")

    def lazy(connection: duckdb.DuckDBPyConnection) -> int:
        return carry_over.find_lacking(connection)

    monkeypatch.setattr(carry_over, "_carry_replaced", lazy)
    done = replay.replay(root)
    assert done.lacking_events == 1
    assert [each for each in replay.remarks(done) if each.startswith("warning: the old index has 1 events")]
    with duckdb.connect(str(done.old_index), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(8,)]
    monkeypatch.setattr(carry_over, "_carry_replaced", real)


# -- torn tails that go on --------------------------------------------------------------------

PIECES: dict[str, Callable[[bytes], list[bytes]]] = {
    "at once": lambda rest: [rest],
    "byte by byte": lambda rest: [rest[n : n + 1] for n in range(len(rest))],
    "in pieces": lambda rest: [rest[:5], rest[5:20], rest[20:]],
    "with more lines": lambda rest: [rest[:7], rest[7:] + line(5) + line(6)[:9], line(6)[9:]],
}


@pytest.mark.parametrize("how", PIECES)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_torn_tail_that_goes_on_is_one_line(root: Path, how: str, restarted: bool) -> None:
    """A copy in progress, a network file system: once the newline is there, the event is a row."""
    path = segment(root, line(1), line(2)[:30])
    indexer = Indexer(root)
    indexer.catch_up()
    assert rows(root, "SELECT line_offset, length FROM quarantine") == [(len(line(1)), 30)]
    for piece in PIECES[how](line(2)[30:]):
        with path.open("ab") as file:
            file.write(piece)
        if restarted:
            indexer = Indexer(root)
        indexer.catch_up()
    assert numbers(root) == {1, 2, *([5, 6] if how == "with more lines" else [])}
    assert rows(root, "FROM quarantine") == []
    assert rows(root, "SELECT rejected, torn_bytes, lines = events FROM segments WHERE event_type = 't'") == [
        (0, 0, True)
    ]
    assert rows(root, ALARMS) == [(0,)]
    assert replay.verify(root).equal
    replay.replay(root)
    assert rows(root, "FROM quarantine") == []


@pytest.mark.parametrize(
    ("rest", "reasons"),
    [
        (b" garbage\n", ["not JSON"]),
        (b"\n" + line(3), ["not JSON"]),
        (b" and " + line(3) + b"torn again", ["not an envelope", "torn tail"]),
    ],
)
def test_a_torn_tail_that_turns_out_to_be_garbage_is_one_line_of_it(
    root: Path, rest: bytes, reasons: list[str]
) -> None:
    """As a replay would have it, which sees the line as a whole."""
    path = segment(root, line(1), line(2)[:30])
    index(root)
    with path.open("ab") as file:
        file.write(rest)
    index(root)
    found = rows(root, "SELECT line_offset, reason FROM quarantine ORDER BY 1")
    assert [reason[: len(begin)] for (_, reason), begin in zip(found, reasons, strict=True)] == reasons
    assert found[0][0] == len(line(1))
    assert replay.verify(root).equal


def test_a_torn_tail_that_is_cut_back_is_no_alarm(root: Path) -> None:
    """A writer cuts a short write back to the last whole line."""
    path = segment(root, line(1), line(2)[:30])
    index(root)
    os.truncate(path, len(line(1)))
    assert index(root) == []
    assert rows(root, "FROM quarantine") == []
    with path.open("ab") as file:
        file.write(line(3))
    assert index(root) == []
    assert numbers(root) == {1, 3}
    assert replay.verify(root).equal


def test_a_sealed_segment_that_is_another_file_is_noticed_and_not_pruned(root: Path) -> None:
    """Of the very same length, and sealed as it is now: the index has rows of the earlier one."""
    path = segment(root, *OLD, name=name(1))
    index(root)
    path.write_bytes(b"".join(FILES["continued to the very same length"]))
    sealing.seal(root)
    (kept,) = retention.prune(root, 0, ["t"]).retained
    assert kept.endswith("not the file that was indexed; try: eventlog index")
    assert len(index(root)) == 1
    assert [each.segment for each in retention.prune(root, 0, ["t"]).pruned] == [name(1)]
    assert numbers(root) == expected(OLD, NEW[:5])
    replay.replay(root)
    assert numbers(root) == expected(OLD, NEW[:5])


def test_a_segment_with_a_torn_tail_is_not_deleted_at_once(root: Path) -> None:
    """Mode db_only: the rest of the line may be on its way."""
    path = segment(root, line(1), line(2)[:30])
    indexer = Indexer(root, release=True)
    indexer.catch_up()
    assert path.exists()
    with path.open("ab") as file:
        file.write(line(2)[30:])
    indexer.catch_up()
    assert not path.exists()
    assert numbers(root) == {1, 2}
    torn = segment(root, line(3), line(4)[:30])
    os.utime(torn, (1, 1))
    indexer.catch_up()
    assert not torn.exists()
