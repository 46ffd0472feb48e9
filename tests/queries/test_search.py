"""Search: which events have the words, in which order, and what is shown of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.indexer.search import filler
from eventlog.queries.search import hits, search, terms
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.queries.stories import Story, at, nightly
from tests.terminals import in_terminal


def texts_of(root: Path, *texts: Any) -> list[str]:
    """Emit messages a second apart; return their ids."""
    with Story(root) as story:
        return [story.tell(second, builtin.Message(content=text)) for second, text in enumerate(texts)]


def found(root: Path, query: str, **filters: Any) -> list[str]:
    """The ids of the hits; the whole answer is the same without a search index and with one."""
    without = ReadStore(root).search(query, **filters)
    filler.fill(root, rows_min=1)
    result = ReadStore(root).search(query, **filters)
    assert msgspec.structs.replace(result, read=without.read) == without
    return [hit.event_id for hit in result.hits]


# -- what is found ---------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "number"), [
    ("SHELF", 0), ("shelf tidy", 0), ('"the shelf"', 0), ("shel", 0),
    ('say "hi', 1), ('"line\nbreak"', 1), ("back\\slash", 1), ("a/b", 1), ("tab\there", 1),
    ("café", 2), ("CAFÉ", 2), ("ΣΊΣΥΦΟΣ", 2), ("整理", 2), ("🎉", 2), ("naïve café", 2),
    ("404", 3), ("1.5", 3), ("deep", 3),
])  # fmt: skip
def test_words_and_phrases_are_found_as_they_read(root: Path, query: str, number: int) -> None:
    """In any case, in any order, whatever JSON makes of them."""
    ids = texts_of(
        root, "Tidy the shelf", 'They say "hi\nline\nbreak back\\slash a/b tab\there', "Naïve CAFÉ σίσυφος 整理 🎉",
        {"status": 404, "ratio": 1.5, "list": [{"x": "deep"}]},
    )  # fmt: skip
    query = query.replace('say "hi', "say hi") if query == 'say "hi' else query
    assert found(root, query) == [ids[number]]


@pytest.mark.parametrize(
    "query", ["tidier floor", '"shelf the"', "helf", "content", "role", "null", "true", "shelves", "%", "."]
)
def test_what_is_not_found(root: Path, query: str) -> None:
    """All words must be there, phrases as they stand; names of fields are no text."""
    texts_of(root, "Tidy the shelf", {"role": None, "good": True})
    result = ReadStore(root).search(query)
    assert (result.hits, result.matches, result.cut) == ([], 0, False)


def test_some_of_the_words_where_no_event_has_all(root: Path, run: Run) -> None:
    """The event with more of them, and with the rarer ones, first; and it is said."""
    ids = texts_of(root, "tidy the shelf", "tidy the floor", "tidy tidy", "nothing")
    result = ReadStore(root).search("shelf lamp tidy")
    assert (result.hits[0].event_id, result.matches, result.any_word) == (ids[0], 3, True)
    assert ids[3] not in [hit.event_id for hit in result.hits]
    assert all(hit.snippet[start:end] in ("tidy", "shelf") for hit in result.hits for start, end in hit.marks)
    assert len(ReadStore(root).search("shelf lamp tidy", limit=1).hits) == 1
    whole = ReadStore(root).search("tidy shelf")
    assert (whole.matches, whole.any_word) == (1, False)
    done = run("search", "shelf", "lamp", "tidy")
    assert done.stderr == "no event has all of: shelf, lamp, tidy; these have some of them, the best first\n"
    assert done.stdout.splitlines()[1] == "  content: tidy the shelf"
    none = run("search", "lamp", "sofa")
    assert (none.stdout, none.stderr) == ("", "nothing found for: lamp, sofa; --inside also looks inside of words\n")
    assert json.loads(run("search", "shelf", "lamp", "--json").stdout)["any_word"] is True


def test_words_without_a_time_are_counted(root: Path) -> None:
    """Also where only some of the words are there."""
    with Story(root) as story:
        story.tell(0, builtin.Message(content="tidy the shelf"))
    segment(root, line(7, timestamp="1970-01-01T00:00:00.000000Z", payload={"text": "tidy"}))
    index(root)
    result = ReadStore(root).search("tidy lamp", since=at(-1))
    assert (len(result.hits), result.undated, result.any_word) == (1, 1, True)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_what_other_programs_escape_is_found(root: Path, in_doubt: bool) -> None:
    """As \\u, upper or lower case, with surrogates, and slashes with a backslash."""
    payloads = [r'{"a":"caf\u00C9 \u003cb\u003e a\/b \ud83c\udf89"}', r'{"a":"caf\u00e9"}', '{"a":"café"}']
    lines = [line(n, payload=msgspec.Raw(payload.encode())) for n, payload in enumerate(payloads)]
    segment(root, *lines, *([b"nonsense\n"] if in_doubt else []))
    index(root)
    numbers = {json.loads(each)["event_id"]: number for number, each in enumerate(lines)}

    def numbered(query: str) -> set[int]:
        return {numbers[each] for each in found(root, query)}

    assert numbered("café") == numbered("CAFÉ") == {0, 1, 2}
    assert numbered("<b>") == numbered("a/b") == numbered("🎉") == {0}


_TEXT = st.text(st.sampled_from('ab"\\/\n\té☃<É🎉 '), max_size=8)


@settings(max_examples=15)
@given(_TEXT, _TEXT, _TEXT.filter(lambda text: text.strip() and '"' not in text), st.booleans())
def test_any_text_is_found_by_any_part_of_it(tmp_path_factory: Any, a: str, b: str, part: str, ascii_: bool) -> None:
    """However it was encoded."""
    root = tmp_path_factory.mktemp("root")
    payload = msgspec.Raw(json.dumps({"x": [a + part + b]}, ensure_ascii=ascii_).encode())
    segment(root, line(1, payload=payload))
    index(root)
    assert len(found(root, f'"{part}"', inside=True)) == 1
    assert len(found(root, f'"{part.upper()}"', inside=True)) == 1
    found(root, f'"{part}"')


def test_searches_may_be_narrowed(root: Path) -> None:
    """To types, agents, times; eventlog's own book-keeping is not searched."""
    with Story(root, agent="a") as story:
        ids = [
            story.tell(0, builtin.Message(content="shelf")),
            story.tell(1, builtin.ToolCall(result="shelf")),
            story.tell(2, builtin.ToolCall(result="shelf"), agent="b"),
            story.tell(3, "event_schema", {"text": "shelf"}),
        ]
    assert found(root, "shelf") == [ids[0], ids[2], ids[1]]  # the shortest line first
    assert found(root, "shelf", event_types=["tool_call"]) == [ids[2], ids[1]]
    assert found(root, "shelf", event_types=["event_schema", "message"]) == [ids[0], ids[3]]
    assert found(root, "shelf", agent="b") == [ids[2]]
    assert found(root, "shelf", since=at(1)) == found(root, "shelf", since=at(1).replace(tzinfo=None)) == ids[2:0:-1]
    assert found(root, "shelf", limit=1) == [ids[0]]
    assert ReadStore(root).search("shelf", limit=1).matches == 3


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("ascii_", [False, True])
def test_letters_with_odd_lower_cases_are_found(root: Path, ascii_: bool, apart: bool) -> None:
    """A sigma at the end of a word, a dotted capital I, a sharp s; the snippet has them as they were written."""
    texts = ["Η ΟΔΟΣ μου", "η οδος μου", "İstanbul", "Die Straße", "DIE STRAẞE", "STRASSE"]
    padding = "x" * 4000 if apart else ""
    with Story(root, blob_min_bytes=1024) as story:
        ids = [
            story.tell(n, "t", msgspec.Raw(json.dumps({"a": text + padding}, ensure_ascii=ascii_).encode()))
            for n, text in enumerate(texts)
        ]
    for query in ("ΟΔΟΣ", "οδος", "οδοσ"):
        assert set(found(root, query)) == {ids[0], ids[1]}, query
    assert set(found(root, "straße")) == {ids[3], ids[4]}
    if not (ascii_ and apart):  # there only its escape is looked at
        assert found(root, "İstanbul") == found(root, "istanbul") == [ids[2]]
        (hit,) = ReadStore(root).search("istanbul").hits
        assert hit.snippet.startswith("İstanbul")
        assert hit.marks == [(0, 8)]


# -- in which order --------------------------------------------------------------------------


def test_the_best_come_first(root: Path) -> None:
    """More of a word, a rarer word, a shorter text, a whole word; what is equal, newest first."""
    padding = "lorem ipsum " * 40
    ids = texts_of(
        root, f"apple {padding}", "apple", "apple apple apple", "pineapple", "apple", f"pear apple {padding}",
        f"pear pear apple {padding}", *["filler"] * 5,
    )  # fmt: skip
    assert ids[3] not in found(root, "apple")
    order = found(root, "apple", inside=True)
    assert order[0] == ids[2]
    assert order[1:4] == [ids[4], ids[1], ids[3]]
    assert set(order[4:]) == {ids[0], ids[5], ids[6]}
    assert found(root, "apple pear") == [ids[6], ids[5]]


def test_the_score_is_bm25(root: Path) -> None:
    """The value, by the formula."""
    ids = texts_of(root, "apple", "pear", "plum")
    (hit,) = ReadStore(root).search("apple").hits
    # 1 of 3 events has it, once; all lines have about the same length: ln(1 + 2.5 / 1.5) × 2.2 / (1 + 1.2 × length)
    assert hit.event_id == ids[0]
    assert hit.score == pytest.approx(0.9808 * 2.2 / 2.2, abs=0.01)


def test_of_very_many_only_the_newest_are_ranked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that have to be read; and the answer says so."""
    monkeypatch.setattr(search, "CANDIDATES_MAX", 2)
    ids = texts_of(root, "red apple", "red apple", "red apple")
    for question in ({"query": '"red apple"'}, {"query": "apple", "inside": True}):
        result = ReadStore(root).search(**question)
        assert [hit.event_id for hit in result.hits] == [ids[2], ids[1]]
        assert (result.matches, result.cut) == (3, True)
    assert (len(found(root, "red apple")), ReadStore(root).search("red apple").cut) == (3, False)


# -- what is shown ---------------------------------------------------------------------------


def test_a_hit_says_where_and_shows_the_words(root: Path) -> None:
    """On one line, with what stands around."""
    ids = nightly(root)
    (hit,) = ReadStore(root).search("shelf full").hits
    assert hit == hits.Hit(
        event_id=ids["error"], event_type="error", timestamp=at(18), run_id="nightly-7", session_id="s1",
        workspace="w", agent="planner", score=hit.score, field="error_message", snippet="the shelf is full",
        marks=[(4, 9), (13, 17)],
    )  # fmt: skip


def test_a_snippet_is_a_piece_around_the_first_word() -> None:
    """With ellipses, and marks that count characters of the piece."""
    text = "x" * 100 + " one\n\n  two " + "y" * 200
    snippet, marks = hits.excerpt(text, text.lower(), ["two", "one"], inside=False)
    assert snippet.startswith("…" + "x" * 49 + " one two yyy")
    assert snippet.endswith("y…")
    assert [snippet[start:end] for start, end in marks] == ["one", "two"]
    assert hits.excerpt("İabc", "İabc".lower(), ["abc"], inside=True)[0] == "i̇abc"


# -- what may be asked -----------------------------------------------------------------------


def test_queries_are_words_and_phrases() -> None:
    """Each once, in lower case."""
    assert terms.parse('One "two  Three" one TWO "" "a') == ["one", "two  three", "two", '"a']


@pytest.mark.parametrize(("query", "message"), [
    ("", "nothing to search for"), ('" "', "nothing to search for"), ("x" * 1001, "the search has 1,001 characters"),
    (" ".join(map(str, range(17))), "the search has 17 words; 16 at most"),
])  # fmt: skip
def test_queries_that_are_refused(root: Path, query: str, message: str) -> None:
    """With the reason."""
    texts_of(root, "a")
    with pytest.raises(QueryFailed, match=f"^{message}"):
        ReadStore(root).search(query)


def test_occurrences_inside_words_count_half() -> None:
    """Whole ones count one; what begins in the middle of a word counts only where it is asked for."""
    assert terms.occurrences("deploy", "deploy redeployed deploy-now", inside=True) == 2.5
    assert terms.occurrences("deploy", "deploy redeployed deploy-now", inside=False) == 2
    assert terms.occurrences("deploy", "deployed", inside=False) == 0.5
    assert terms.occurrences("/a", "x/a /a/", inside=False) == terms.occurrences("/a", "x/a /a/", inside=True) == 2
    assert terms.occurrences("aa", "xaaa aa", inside=False) == 1


# -- the command -----------------------------------------------------------------------------


def test_the_command(root: Path, run: Run) -> None:
    """For people, for programs, and when nothing is found."""
    ids = nightly(root)
    done = run("search", "shelf", "full", "--utc")
    assert done.stdout == (
        f"2026-03-02 00:00:08Z  {ids['error']}  error  planner  run nightly-7\n  error_message: the shelf is full\n"
    )
    assert run("search", "shelf", "--limit", "1").stderr == "6 events match; --limit shows more\n"
    whole = msgspec.json.decode(run("search", "shelf", "--json", "--type", "tool_call").stdout)
    assert ({hit["event_type"] for hit in whole["hits"]}, whole["matches"]) == ({"tool_call"}, 3)
    nothing = run("search", "nothing", "such")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "nothing found for: nothing, such; --inside also looks inside of words\n"


def test_what_has_no_time_is_not_of_1970(root: Path, run: Run) -> None:
    """It is shown without one, and where a time is asked for, the answer says that it is left out."""
    unknown = "1970-01-01T00:00:00.000000Z"
    segment(root, line(1, payload={"title": "shelf"}, timestamp=unknown), line(2, payload={"title": "shelf"}))
    index(root)
    hits = ReadStore(root).search("shelf").hits
    assert sorted(hit.timestamp is None for hit in hits) == [False, True]
    result = ReadStore(root).search("shelf", since=at(-(10**7)))
    assert (len(result.hits), result.matches, result.undated) == (1, 1, 1)
    assert "no time" in run("search", "shelf").stdout
    done = run("search", "shelf", "--since", "2020-01-01")
    assert done.stderr == "1 more event may match and has no time; without --since they are shown\n"


def test_control_characters_do_no_harm(root: Path, run: Run) -> None:
    """In a snippet, and in the name of a field."""
    with Story(root) as story:
        story.tell(0, "t", {"\x1b[31m": "red \x1b[2J shelf"})
    done = run("search", "shelf")
    assert "\x1b" not in done.stdout
    assert "red �[2J shelf" in done.stdout


# -- large fields, which are kept apart ------------------------------------------------------


def large(root: Path, *texts: str) -> list[str]:
    """Emit messages that are kept in chunks of 1 KiB."""
    with Story(root, blob_min_bytes=1024) as story:
        return [story.tell(n, builtin.Message(role="r", content=text)) for n, text in enumerate(texts)]


@pytest.mark.parametrize("place", [0, 5, 500, 1015, 1018, 1020, 1022, 1023, 2040, 2047, 2900, 3066, 3068, 3070, 3990])
@pytest.mark.parametrize("word", ["needle", "née\\dle"])
def test_words_are_found_in_large_fields(root: Path, place: int, word: str) -> None:
    """In a chunk, where two meet, and in the rest that stays in the event; escaped or not."""
    ids = large(root, "x" * place + word.upper() + "y" * (4000 - place), "z" * 4000)
    assert list((root / "blobs").iterdir())
    (hit,) = ReadStore(root).search(word, inside=True).hits
    assert (hit.event_id, hit.field) == (ids[0], "content")


def test_escapes_in_large_fields(root: Path) -> None:
    """They are kept as they were emitted."""
    with Story(root, blob_min_bytes=1024) as story:
        text = r"caf\u00C9 \u003cb\u003e a\/b \ud83c\udf89 "
        for payload in (f'{{"a":"{text}{"x" * 4000}"}}', f'{{"a":"{"x" * 4000} {text}"}}'):
            story.tell(0, "t", msgspec.Raw(payload.encode()))
    for query in ("café", "<b>", "a/b", "🎉"):
        assert len(found(root, query)) == 2


def test_all_words_of_which_one_is_apart(root: Path) -> None:
    """One stands in a chunk, the other beside it; a chunk that is gone holds nothing."""
    ids = large(root, "needle " + "x" * 4000, "x" * 4000)
    assert found(root, "needle r") == [ids[0]]
    assert ReadStore(root).search("needle such").any_word
    for path in (root / "blobs").glob("??/*"):
        path.unlink()
    assert found(root, "needle") == []


# -- numbers ---------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[str, list[str]]] = {
    "large": ("1e22", ["1e22", "1E+22", "1.0e22", "10000000000000000000000", "10000000000000000000000.0"]),
    "small": ("1e-07", ["1e-7", "1E-07", "0.0000001", "1.0e-7"]),
    "negative": ("-2.5e300", ["-2.5e300", "-2.5E+300", "-25e299"]),
    "with zeros": ("1.50", ["1.5", "1.50", "1.500", "15e-1"]),
    "plain": ("1250", ["1250", "1250.0", "1.25e3"]),
    "of many digits": ("12345678901234567890", ["12345678901234567890", "1234567890123456789"]),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("is_large_field", [False, True])
def test_a_number_is_found_however_it_is_written(root: Path, name: str, is_large_field: bool) -> None:
    """In the log and in the search, in payloads and in large fields; another number is not."""
    written, searched = NUMBERS[name]
    value = f'{{"list":[{written},7.25],"text":"{"x" * 5000}"}}' if is_large_field else written
    with Story(root, blob_min_bytes=4096) as story:
        story.tell(0, "note", msgspec.Raw(f'{{"v":{value}}}'.encode()), agent="it")
        story.tell(1, "note", {"v": 77777, "w": 3e-5}, agent="other")
    store = ReadStore(root)
    for query in searched:
        assert [hit.agent for hit in store.search(query).hits] == ["it"], query
    for query in ("1e21", "1e-8", "2.5e300", "9e99", "1.51"):
        assert store.search(query).hits == [], query


def test_a_number_that_is_found_is_shown(root: Path) -> None:
    """As eventlog writes it, and marked."""
    with Story(root) as story:
        story.tell(0, "note", {"a": "text", "rate": 1e-7, "b": "more"})
    (hit,) = ReadStore(root).search("0.0000001").hits
    assert (hit.field, hit.snippet, hit.marks) == ("rate", "1e-07", [(0, 5)])


@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_each_spelling_is_one_of_the_number(value: float) -> None:
    """And that of Python is among them, where a number has several."""
    text = repr(value).lower()
    spellings = terms.spellings(text)
    assert {terms.number(each) for each in spellings} <= {terms.number(text)}
    assert all(terms.spellings(each) for each in spellings)
    assert not spellings or any(text in (each, f"{each}.0") for each in spellings) or "e" not in text


# -- in a terminal ---------------------------------------------------------------------------


def test_ids_in_a_terminal_can_be_copied(root: Path) -> None:
    """Those of events are whole, those of sessions are prefixes that `show` takes; the found word is on the line."""
    session, words = "4ddad80c-1111-4222-8333-444455556666", "some words before that take a lot of space, "
    with Story(root) as story:
        event_id = story.tell(1, builtin.Message(content=words * 3 + "the shelf"), session_id=session)
    for columns in ("80", "50"):
        shown = in_terminal("search", "shelf", "--root", str(root), COLUMNS=columns)
        assert all(
            len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= int(columns) for line in shown.splitlines()
        )
        assert event_id in shown
        assert "session 4ddad80c\n" in shown
        assert "\x1b[1mshelf\x1b[0m" in shown
        assert "eventlog show ID" in shown
    assert "the shelf" in in_terminal("show", "4ddad80c", "--root", str(root))
