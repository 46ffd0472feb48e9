"""An event is identified by its workspace and its id, in whatever order and way its lines arrive."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.format import ids
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.indexer.support import digest_of, index, line, name, rows, segment

_A_ROW = "SELECT workspace, payload ->> 'n' FROM events WHERE event_type = 't' ORDER BY 1 NULLS FIRST, 2"
_ID = "01900000-0000-7000-8000-000000000001"


def test_one_id_in_two_workspaces_is_two_events(root: Path) -> None:
    """Whoever knows or guesses an id takes nothing away from its owner; no workspace is one of its own."""
    for at, workspace in enumerate([None, "", "a", "b"]):
        own = {} if workspace is None else {"workspace": workspace}
        segment(root, line(1, event_id=_ID, payload={"n": at}, **own), name=name(at))
        if at == 1:
            index(root)
    index(root)
    assert rows(root, _A_ROW) == [(None, "0"), ("", "1"), ("a", "2"), ("b", "3")]
    assert rows(root, "SELECT count(*) FROM conflicts") == [(0,)]
    live = digest_of(root)
    replay.replay(root)
    assert digest_of(root) == live


def test_within_a_workspace_the_first_place_wins(root: Path) -> None:
    """And the other is a conflict of that workspace, which the others do not see."""
    segment(root, line(1, event_id=_ID, workspace="a", payload={"n": 1}), name=name(2))
    segment(root, line(1, event_id=_ID, workspace="b", payload={"n": 2}), name=name(3))
    index(root)
    segment(root, line(1, event_id=_ID, workspace="a", payload={"n": 3}), name=name(1))
    segment(root, line(1, event_id=_ID, workspace="b", payload={"n": 4}), name=name(4))
    segment(root, line(1, event_id=_ID, workspace="c", payload={"n": 5}), name=name(5))
    index(root)
    assert rows(root, _A_ROW) == [("a", "3"), ("b", "2"), ("c", "5")]
    assert rows(root, "SELECT workspace, payload ->> 'n' FROM conflicts ORDER BY ALL") == [("a", "1"), ("b", "4")]
    for workspace, found in (("a", [(1,)]), ("b", [(1,)]), ("c", [(0,)])):
        assert ReadStore(root, workspace=workspace).sql("SELECT count(*) FROM quarantine").rows == found


def test_an_event_without_a_time_is_one_whenever_it_is_written(root: Path) -> None:
    """Its timestamp, that of its first place, says when it was written; another content is a conflict all the same."""
    made = ids.derived_id(0, "t", "k")

    def at(second: int, **fields: Any) -> bytes:
        return line(1, event_id=made, timestamp=f"2026-01-01T00:00:0{second}.000000Z", **fields)

    for place, text in ((3, at(3)), (5, at(5) + at(6)), (1, at(1)), (7, at(7, payload={"n": "other"}))):
        segment(root, text, name=name(place))
        index(root)
    assert rows(root, "SELECT timestamp::VARCHAR, segment FROM events") == [("2026-01-01 00:00:01", name(1))]
    assert rows(root, "SELECT payload ->> 'n', timestamp::VARCHAR FROM conflicts") == [("other", "2026-01-01 00:00:07")]
    live = digest_of(root)
    replay.replay(root)
    assert digest_of(root) == live


def test_an_event_with_a_time_is_another_content_at_another_time(root: Path) -> None:
    """So is every event whose id was not derived without a time: the time is a part of what it says."""
    for each in (_ID, "00000000-0000-4000-8000-000000000001", "00000000-0000-9000-8000-000000000001"):
        segment(root, line(1, event_id=each), line(1, event_id=each, timestamp="2026-01-01T00:00:09.000000Z"))
    index(root)
    assert rows(root, "SELECT count(*) FROM events") == rows(root, "SELECT count(*) FROM conflicts") == [(3,)]


class _Line(NamedTuple):
    workspace: str | None
    which: int
    content: int
    second: int

    def text(self) -> bytes:
        own = {} if self.workspace is None else {"workspace": self.workspace}
        # The first of three ids belongs to an event without a time.
        event_id = ids.derived_id(1_700_000_000_000_000 * bool(self.which), str(self.which))
        timestamp = f"2026-01-01T00:00:0{self.second}.000000Z"
        return line(1, event_id=event_id, timestamp=timestamp, payload={"n": self.content}, **own)


_WORKSPACES = [None, "", "a"]
_LINES = st.builds(
    _Line, st.sampled_from(_WORKSPACES), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)
)  # fmt: skip
_CONTENT = "event_id, timestamp, workspace, payload, segment"


@given(
    lines=st.lists(st.tuples(st.integers(0, 3), _LINES), min_size=1, max_size=14),
    steps=st.sets(st.integers(0, 13)),
    order=st.permutations(range(4)),
    replayed=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_each_workspace_has_what_it_would_have_alone(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[int, _Line]],
    steps: set[int],
    order: list[int],
    replayed: bool,
) -> None:
    """Rows, conflicts and counts: of any lines, in any split of batches, live or replayed."""
    together = tmp_path_factory.mktemp("together")
    _write(together, lines, order, steps)
    if replayed:
        replay.replay(together)
    for workspace in _WORKSPACES:
        alone = tmp_path_factory.mktemp("alone")
        _write(alone, [each for each in lines if each[1].workspace == workspace], order, set())
        for table in ("events", "conflicts"):
            of_table = f"SELECT {_CONTENT} FROM {table}"
            expected = rows(alone, f"{of_table} ORDER BY ALL")
            own = f"{of_table} WHERE workspace IS NOT DISTINCT FROM {'NULL' if workspace is None else repr(workspace)}"
            assert rows(together, f"{own} ORDER BY ALL") == expected, (workspace, table)
        if workspace is not None:
            one, other = ReadStore(together, workspace=workspace), ReadStore(alone)
            assert one.counts() == other.counts()
            count = "SELECT count(*), count(DISTINCT event_id) FROM events"
            assert one.sql(count).rows == other.sql(count).rows
    assert replay.verify(together).equal


def _write(root: Path, lines: list[tuple[int, _Line]], order: list[int], steps: set[int]) -> None:
    """Write lines into four segments, not in the order of their names; index after each step."""
    texts: dict[int, bytes] = defaultdict(bytes)
    for at, (place, each) in enumerate(lines):
        texts[place] += each.text()
        if at in steps:
            _put(root, texts, order)
            Indexer(root).catch_up()
    _put(root, texts, order)
    Indexer(root).catch_up()


def _put(root: Path, texts: dict[int, bytes], order: list[int]) -> None:
    for place, text in texts.items():
        segment(root, text, name=name(order[place]))
