"""The search index: answers are the same without it, with it, and whatever happens to its files."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.format import builtin
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.search import filler, parts, words
from eventlog.indexer.search.background import BackgroundFiller
from eventlog.queries.access import reader
from eventlog.queries.search.search import SearchResult
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, name, segment
from tests.queries.stories import Story

QUERIES = ("shelf", "lamp shelf", '"the shelf"', "sh", "exit_code", "1.5", "整理", "needle sofa", "café", "the")


def answer(root: Path, query: str, **filters: Any) -> SearchResult:
    """The answer, without how many events were read."""
    return msgspec.structs.replace(
        ReadStore(root, workspace=filters.pop("workspace", None)).search(query, **filters), read=0
    )


def read(root: Path, query: str = "shelf") -> int:
    """How many events had to be read."""
    return ReadStore(root).search(query).read


def texts(root: Path, *contents: Any, **context: Any) -> list[str]:
    """Messages, a second apart."""
    with Story(root, **context) as story:
        return [story.tell(second, builtin.Message(content=content)) for second, content in enumerate(contents)]


def several(root: Path, count: int = 30) -> None:
    """Messages in which words are there and not, often and seldom."""
    contents = ("the shelf", "the lamp", "shelves", "exit_code 1.5", "整理 shelf", "café", "the the lamp", "sofa")
    texts(root, *(f"{contents[n % 8]} {contents[n % 5]}" for n in range(count)))


# -- what a word is --------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [
    ("Exit_CODE foo.bar a/b-c", "exit code foo bar a b c"), ("Naïve CAFÉ cafe\u0301", "naïve café cafe\u0301"),
    ("1.5 404 v2 १२", "1 5 404 v2 १२"), ("整理abc整", "整 理 abc 整"), ("ไทย한국어", "ไ ท ย 한국어"),
    ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
    ("-- 🎉 …", ""), ("a\0b\u200bc\nd", "a b c d"), ("x" * 70, "x" * 64),
])  # fmt: skip
def test_words(text: str, expected: str) -> None:
    """Letters, digits and accents; scripts without spaces character by character; all in lower case."""
    with duckdb.connect() as connection:
        ((found,),) = connection.execute(f"SELECT {words.words_of('$text')}", {"text": text}).fetchall()
    assert found == expected.split()


@given(st.text(max_size=30), st.text(min_size=1, max_size=3))
@settings(max_examples=60)
def test_counted_one_way_or_the_other(text: str, query: str) -> None:
    """To look for the beginning of a word returns what making all words returns."""
    with duckdb.connect() as connection:
        statement = f"SELECT {words.words_of('$text')}"
        ((all_words,),) = connection.execute(statement, {"text": text + " " + query + query}).fetchall()
        ((wanted,),) = connection.execute(statement, {"text": query}).fetchall()
        for word in wanted:
            beginnings = words.beginnings(words.folded("$text"), word)
            ((found,),) = connection.execute(f"SELECT {beginnings}", {"text": text + " " + query + query}).fetchall()
            assert sorted(found) == sorted(each for each in all_words if each.startswith(word))


# -- the same answers ------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "shelf",
        "shelves",
        "Shelf",
        "exit_code",
        "exit",
        "code",
        "a.b",
        "整理",
        "理整abc",
        "naïve",
        "İx",
        "ς",
        "1e-7",
        "404",
        "-",
        "🎉",
    ]
)
_CONTENTS = st.lists(_WORDS, max_size=6).map(" ".join) | st.floats(allow_nan=False, allow_infinity=False) | st.just(404)
_EVENTS = st.lists(st.tuples(st.integers(0, 5), _CONTENTS, st.sampled_from([None, "w", "v"])), max_size=8)


@settings(max_examples=12)
@given(
    st.lists(st.tuples(_EVENTS, st.booleans(), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(_WORDS, min_size=1, max_size=3),
)
def test_answers_are_the_same(tmp_path_factory: pytest.TempPathFactory, history: list[Any], query: list[str]) -> None:
    """Over histories with late events, redeliveries and conflicts: parts made in between change no answer.

    Batches arrive in any order of their segments, each with ids that others have, too.
    """
    root, plain = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("plain")
    for number, (events, fills, position) in enumerate(history):
        lines = [line(n, payload={"x": content}, **({"workspace": w} if w else {})) for n, content, w in events]
        for each in (root, plain):
            segment(each, *lines, name=name(position * 10 + number))
            index(each)
        if fills:
            filler.fill(root, rows_min=1)
    for question in (" ".join(query), f'"{" ".join(query)}"'):
        for workspace in (None, "w"):
            for limit in (20, 1):
                expected = answer(plain, question, workspace=workspace, limit=limit)
                assert answer(root, question, workspace=workspace, limit=limit) == expected


def _replayed(root: Path) -> None:
    replay.replay(root)


def _exchanged(root: Path) -> None:
    path = root / "log" / "t" / f"{name(1)}.jsonl"
    path.write_bytes(b"".join(line(n, payload={"x": f"sofa {'shelf' if n == 3 else 'lamp'}"}) for n in range(8)))
    index(root)


def _deleted(root: Path) -> None:
    (root / "log" / "t" / f"{name(1)}.jsonl").unlink()
    replay.replay(root)


def _restored(root: Path) -> None:
    older = index_file.index_path(root).read_bytes()
    segment(root, line(20, payload={"x": "shelf"}), name=name(2))
    index(root)
    filler.fill(root, rows_min=1)
    index_file.index_path(root).write_bytes(older)
    (root / "log" / "t" / f"{name(2)}.jsonl").write_bytes(line(20, payload={"x": "sofas"}))


@pytest.mark.parametrize("change", [_replayed, _exchanged, _deleted, _restored])
def test_another_index(root: Path, change: Callable[[Path], None]) -> None:
    """After a replay, with another file under a segment's name, and with an older copy: nothing old is in an answer."""
    segment(root, *(line(n, payload={"x": "the shelf" if n % 2 else "the lamp"}) for n in range(8)), name=name(1))
    index(root)
    filler.fill(root, rows_min=1)
    assert read(root) == 0
    change(root)
    index(root)
    (root / "search").rename(root / "away")
    without = [answer(root, query) for query in QUERIES]
    (root / "away").rename(root / "search")
    assert [answer(root, query) for query in QUERIES] == without
    filler.fill(root, rows_min=1)
    assert [answer(root, query) for query in QUERIES] == without
    assert read(root) == 0


def test_a_torn_line_that_comes_after_all(root: Path) -> None:
    """Its row begins before the end of what was indexed."""
    whole = line(2, payload={"x": "shelf"})
    path = segment(root, line(1), whole[:20], name=name(1))
    index(root)
    filler.fill(root, rows_min=1)
    path.write_bytes(line(1) + whole)
    index(root)
    assert answer(root, "shelf").matches == 1
    filler.fill(root, rows_min=1)
    assert (answer(root, "shelf").matches, read(root)) == (1, 0)


# -- workspaces ------------------------------------------------------------------------------


def test_workspaces_see_only_theirs(root: Path, tmp_path: Path) -> None:
    """Hits, counts, scores and order are those of a log with its events alone."""
    alone = tmp_path / "alone"
    for where in (root, alone):
        with Story(where) as story:
            for n in range(20):
                story.tell(n, builtin.Message(content=f"shelf {'lamp ' * (n % 4)}{n}"), workspace="w")
                if where is root:
                    story.tell(n, builtin.Message(content="lamp lamp secret " * n), workspace="v")
                    story.tell(n, builtin.Message(content="shelf " * 9))
    filler.fill(root, rows_min=1)

    def seen(where: Path, query: str) -> list[Any]:
        result = answer(where, query, workspace="w")
        return [result.matches, result.cut, *((hit.score, hit.snippet, hit.timestamp) for hit in result.hits)]

    for query in ("shelf lamp", "lamp", "sh", '"shelf lamp"', "secret", "secret lamp"):
        assert seen(root, query) == seen(alone, query), query
    assert seen(root, "secret") == [0, False]
    assert ReadStore(root, workspace="w").search("shelf").read == 0


# -- its files -------------------------------------------------------------------------------


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _linked(part: Path) -> None:
    part.rename(part.parent.parent / "away")
    part.symlink_to(part.parent.parent / "away")


def _about(old: str, new: str) -> Callable[[Path], object]:
    """Change what a part says of itself."""

    def change(part: Path) -> None:
        about = (part / "part.json").read_text()
        assert old in about
        (part / "part.json").write_text(about.replace(old, new))

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "words cut": lambda part: os.truncate(part / "words.parquet", 200),
    "words empty": lambda part: os.truncate(part / "words.parquet", 0),
    "words of another kind": lambda part: (part / "docs.parquet").replace(part / "words.parquet"),
    "words garbled": lambda part: (part / "words.parquet").write_bytes(b"PAR1" + b"\xff" * 400 + b"PAR1"),
    "docs gone": lambda part: (part / "docs.parquet").unlink(),
    "words a FIFO": lambda part: _fifo(part / "words.parquet"),
    "about nothing": lambda part: (part / "part.json").write_bytes(b""),
    "about nonsense": lambda part: (part / "part.json").write_text('{"version": 1, "spans": [["s", 0]]}'),
    "of another version": _about('"version":1', '"version":0'),
    "of another index": _about('"identity":"', '"identity":"x'),
    "beyond the index": _about("]]", "9]]"),
    "unfinished": lambda part: part.rename(part.with_name(f"{part.name}.unfinished")),
    "a link": _linked,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_changes_no_answer(root: Path, damage: str) -> None:
    """And is repaired when the search index is filled again."""
    several(root)
    before = [answer(root, query) for query in QUERIES]
    filler.fill(root, rows_min=1)
    (part,) = [path for path in (root / "search").iterdir() if path.is_dir()]
    DAMAGES[damage](part)
    assert [answer(root, query) for query in QUERIES] == before
    filler.fill(root, rows_min=1)
    assert [answer(root, query) for query in QUERIES] == before
    assert read(root) == 0


@pytest.mark.parametrize("obstacle", ["a file", "a link", "read-only", "a lock that is a folder", "held"])
def test_where_it_cannot_be_written(root: Path, tmp_path: Path, obstacle: str) -> None:
    """Nothing is raised, and every event is read."""
    several(root)
    folder = root / "search"
    if obstacle == "a file":
        folder.touch()
    elif obstacle == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif obstacle == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.mkdir(mode=0o500)
    elif obstacle == "a lock that is a folder":
        (root / "search.lock").mkdir()
    if obstacle == "held":
        with parts.filling(root) as is_held:
            assert is_held
            assert not filler.fill(root, rows_min=1)
    else:
        assert not filler.fill(root, rows_min=1)
    assert read(root) == ReadStore(root).search("the").read == 30
    assert not any((tmp_path / "elsewhere").glob("*"))


def test_two_that_fill_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is in one part, whoever is first; searches meanwhile are right."""
    monkeypatch.setattr(filler, "_STEP_ROWS", 7)
    monkeypatch.setattr(filler, "_LARGE_ROWS", 20)
    monkeypatch.setattr(filler, "_MERGED_ROWS", 24)
    several(root, 60)
    expected = [answer(root, query) for query in QUERIES]
    threads = [threading.Thread(target=filler.fill, args=[root], kwargs={"rows_min": 1}) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert answer(root, "shelf") == expected[0]
    filler.fill(root, rows_min=1)
    assert [answer(root, query) for query in QUERIES] == expected
    about = [json.loads(path.read_bytes()) for path in (root / "search").glob("*/part.json")]
    assert sum(part["rows"] for part in about) == 61  # with the schema of the messages
    assert any(part["replaces"] for part in about)
    assert read(root) == 0


def test_parts_that_were_replaced_and_are_still_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row counts twice."""
    monkeypatch.setattr(filler, "_STEP_ROWS", 10)
    monkeypatch.setattr(filler, "_LARGE_ROWS", 20)
    monkeypatch.setattr(filler, "_MERGED_ROWS", 30)
    monkeypatch.setattr(parts, "remove", lambda path: None)
    several(root, 30)
    expected = [answer(root, query) for query in QUERIES]
    filler.fill(root, rows_min=1)
    assert len(list((root / "search").glob("*/part.json"))) == 5
    assert [answer(root, query) for query in QUERIES] == expected
    assert read(root) == 0


def test_few_rows_are_left_for_later(root: Path) -> None:
    """They are read one by one; other files of the folder are cleared away with the next part."""
    several(root)
    assert not filler.fill(root)
    assert list((root / "search").iterdir()) == []
    (root / "search" / "00000007.unfinished").mkdir()
    filler.fill(root, rows_min=1)
    assert [path.name for path in (root / "search").iterdir()] == ["00000001"]


def test_large_fields_are_read_each_time(root: Path) -> None:
    """Their words are in no part."""
    texts(root, "needle " + "x" * 4000, "shelf", blob_min_bytes=1024)
    filler.fill(root, rows_min=1)
    assert (answer(root, "needle").matches, read(root, "needle")) == (1, 1)
    assert (answer(root, "shelf").matches, answer(root, "needle shelf").any_word) == (1, True)


def test_a_search_that_needs_more_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is made again with as much as other questions have."""
    segment(root, *(line(n, payload={"x": f"shelf {n} " + "x" * 300_000}) for n in range(20)))
    index(root)
    expected = answer(root, "shelf")
    monkeypatch.setattr(reader, "_SEARCH_BYTES", 2 * 1024**2)
    tries: list[bool] = []
    hardened = reader.IndexReader._hardened

    def noted(self: reader.IndexReader, **options: bool) -> Any:
        tries.append(options.get("afresh", False))
        return hardened(self, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(reader.IndexReader, "_hardened", noted)
    assert answer(root, "shelf") == expected
    assert tries == [False, True]


# -- who fills it ----------------------------------------------------------------------------


def test_the_commands_fill_it(root: Path, run: Run) -> None:
    """`eventlog index` when it is told to; and nothing of it stands in the way of others."""
    several(root)
    assert run("index").returncode == 0
    assert read(root) == 30
    assert run("index", "--search").returncode == 0
    assert read(root) == 0
    assert json.loads(run("search", "elf", "--inside", "--json").stdout)["read"] == 30
    assert run("search", "elf").stderr == "nothing found for: elf; --inside also looks inside of words\n"


def test_a_search_that_read_much_fills_it(root: Path, run: Run) -> None:
    """After its answer, unless it is told to leave the index alone, or is of one workspace."""
    segment(root, *(line(n, payload={"x": f"shelf {n}"}) for n in range(filler.ROWS_MIN)))
    index(root)
    for options in (["--no-index"], ["--workspace", "w"]):
        assert run("search", "shelf", *options).returncode == 0
        assert read(root) == filler.ROWS_MIN
    assert run("search", "shelf").returncode == 0
    assert read(root) == 0


def test_in_the_background(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread fills it, at once and after enough was indexed, and ends."""
    monkeypatch.setattr(filler, "ROWS_MIN", 1)
    several(root)
    background = BackgroundFiller(root)
    background.add(10**6)
    background.stop()
    filler.fill(root, rows_min=1)
    assert read(root) == 0
    assert "eventlog-search-index" not in {thread.name for thread in threading.enumerate()}
