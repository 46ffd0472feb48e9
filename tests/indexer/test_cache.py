"""The index cache: it never claims that the index lacks an id that it has."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import IndexFailed
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.load import cache
from eventlog.indexer.load.cache import IndexCache
from tests.indexer.support import COUNT, line, rows, segment


def _id(number: int) -> str:
    return str(uuid.UUID(int=number << 100))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 60), min_size=1, max_size=8), st.booleans()), max_size=12))
def test_an_id_that_the_index_has_is_never_called_new(batches: list[tuple[set[int], bool]]) -> None:
    """In whatever order they come, however few are remembered, and where some came another way."""
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_IDS_MAX", 6)
        connection.execute("CREATE TABLE event_rows (event_id UUID)")
        there: set[int] = set()
        known = IndexCache()
        for numbers, another_way in batches:
            ids = {_id(number) for number in numbers}
            assert not (known.lacks(connection, ids, min(ids)) and numbers & there)
            connection.executemany("INSERT INTO event_rows VALUES (?)", [[each] for each in ids])
            there |= numbers
            if another_way:
                known.forget_ids()
            else:
                known.add_ids(ids)


def test_what_is_new_is_called_new() -> None:
    """Without a question to the index: with it, a batch would cost more the larger the index is."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE event_rows AS SELECT ?::UUID AS event_id", [_id(5)])
        known = IndexCache()
        assert known.lacks(connection, {_id(6), _id(9)}, _id(6))
        known.add_ids({_id(6), _id(9)})
        connection.execute("DROP TABLE event_rows")
        assert known.lacks(connection, {_id(7)}, _id(7))  # between the ids of the batch before
        assert not known.lacks(connection, {_id(7), _id(9)}, _id(7))


def test_two_indexers_of_one_log_know_of_each_other(root: Path) -> None:
    """Each has written since the other looked last; an event that both meet is one row."""
    path = segment(root, line(0))
    first, second = Indexer(root), Indexer(root)
    for number in range(1, 12):
        with path.open("ab") as file:
            file.write(line(number))
        segment(root, line(number), line(number + 100))
        (first if number % 3 else second).catch_up()
    assert rows(root, COUNT) == [(23, 23)]
    assert replay.verify(root).equal


def test_an_index_that_was_replayed_meanwhile_is_another_one(root: Path) -> None:
    """Although all that was known of the old one is so of the new one, it is asked again."""
    path = segment(root, line(0))
    indexer = Indexer(root)
    indexer.catch_up()
    with path.open("ab") as file:
        file.write(line(1))
    replay.replay(root)
    with path.open("ab") as file:
        file.write(line(2))
    assert indexer.catch_up().events == 1
    assert rows(root, COUNT) == [(3, 3)]
    assert replay.verify(root).equal


def _copy_over(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _move_over(source: Path, target: Path) -> None:
    copy = source.with_name("copy")
    _copy_over(source, copy)
    copy.replace(target)


@pytest.mark.parametrize("put_back", [_copy_over, _move_over])
@pytest.mark.parametrize("before", [1, 2])
def test_a_copy_put_back_and_written_to_is_noticed(
    root: Path, tmp_path: Path, put_back: Callable[[Path, Path], None], before: int
) -> None:
    """Its headers may be the very same as those that this indexer left."""
    path, kept = index_file.index_path(root), tmp_path / "kept"
    with_first = segment(root, line(0))

    def append(number: int) -> None:
        with with_first.open("ab") as file:
            file.write(line(number))

    first = Indexer(root)
    for number in range(1, before + 1):
        append(number)
        first.catch_up()
    kept.write_bytes(path.read_bytes())
    append(10)
    first.catch_up()
    put_back(kept, path)
    append(11)
    Indexer(root).catch_up()
    append(12)
    first.catch_up()
    assert rows(root, COUNT) == [(before + 4, before + 4)]
    assert replay.verify(root).equal


def test_an_index_that_was_copied_as_it_is_goes_on(root: Path, tmp_path: Path) -> None:
    """The same bytes in another file. Behind a link it is refused, and nothing is lost by that."""
    path = segment(root, line(0))
    indexer = Indexer(root)
    indexer.catch_up()
    here, there = index_file.index_path(root), tmp_path / "elsewhere.duckdb"
    _copy_over(here, there)
    here.unlink()
    here.symlink_to(there)
    with path.open("ab") as file:
        file.write(line(1))
    with pytest.raises(IndexFailed, match="symbolic link"):
        indexer.keep_up()
    here.unlink()
    there.rename(here)
    assert indexer.keep_up().events == 1
    assert rows(root, COUNT) == [(2, 2)]


def test_the_types_of_a_batch_are_known_by_its_segments(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many checkpoints are remembered: there is an end to that, too."""
    monkeypatch.setattr(cache, "_CHECKPOINTS_MAX", 3)
    indexer = Indexer(root)
    paths = [segment(root, line(n, f"t{n}"), event_type=f"t{n}") for n in range(6)]
    for k in range(1, 4):
        indexer.catch_up()
        for n, path in enumerate(paths):
            with path.open("ab") as file:
                file.write(line(100 * k + n, f"t{n}"))
    indexer.catch_up()
    assert rows(root, COUNT) == [(24, 24)]
    assert replay.verify(root).equal
