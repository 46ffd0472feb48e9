"""Sources: a toy that no file of the product names answers every question; and what is wrong is refused by name."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from eventlog.cli.main import run as command
from eventlog.errors import ImportFailed, IndexFailed, InvalidEvent, InvalidSource, QueryFailed
from eventlog.importers import foreign_types, sources
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.sources import Source
from eventlog.indexer import replay
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.views import projections
from eventlog.indexer.views import sources as reading
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.sources import COLUMNS, SourceViews
from eventlog.queries.doctor import diagnose
from eventlog.queries.doctor.finding import Level
from eventlog.queries.store import ReadStore
from tests import toy_source
from tests.conftest import PROJECT

HAIKU = "claude-haiku-4-5"  # 1 USD per million input tokens, and 5 per million output tokens
CHATS = {
    "sums.toy": [
        {"kind": "chat", "chat": "c1", "at": "2026-03-01T10:00:00Z", "title": "Sums", "folder": "/home/ada/sums"},
        {"kind": "ask", "chat": "c1", "at": "2026-03-01T10:00:01Z", "text": "What is two and two?"},
        {"kind": "tool", "chat": "c1", "at": "2026-03-01T10:00:02Z", "id": "t1", "tool": "abacus",
         "with": {"sum": "2+2"}, "gave": "4", "ms": 20},
        {"kind": "tool", "chat": "c1", "at": "2026-03-01T10:00:03Z", "id": "t2", "tool": "abacus",
         "with": {"sum": "2+2"}, "gave": "no beads left", "ms": 30, "error": "Overflow"},
        {"kind": "answer", "chat": "c1", "at": "2026-03-01T10:00:04Z", "id": "a1", "model": HAIKU, "read": 1000,
         "written": 50, "ms": 1200, "text": "Four, says the abacus."},
        {"kind": "answer", "chat": "c1", "at": "2026-03-01T10:00:05Z", "id": "a2", "model": HAIKU, "read": 3000,
         "written": 10, "ms": 800, "text": "Checked.", "helper": "h1"},
    ],
    "late.toy": [
        {"kind": "answer", "chat": "c2", "at": "2026-03-02T09:00:00Z", "id": "a3", "model": "unheard-of", "read": 5,
         "written": 1, "ms": 10, "error": "Timeout"},
        {"kind": "chat", "chat": "c2", "title": "Without a time"},
    ],
}  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Source:
    """The toy is a source of this process, until the test is over."""
    monkeypatch.setattr(sources, "_registered", [])
    return sources.register(toy_source.SOURCE)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    folder = tmp_path / "chats"
    folder.mkdir()
    for name, lines in CHATS.items():
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in lines))
    (folder / "notes.txt").write_text("no chat\n")
    return folder


def import_and_index(root: Path, *arguments: str | Path) -> None:
    assert command(["import", "toy", *map(str, arguments), "--root", str(root)]) == 0
    Indexer(root).catch_up()


# -- what is answered ----------------------------------------------------------------------

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def answers(store: ReadStore) -> dict[str, Any]:
    """What each kind of question says of the chats, without what differs between imports."""
    costs = store.costs("day", by="model", now=NOW)
    tree = store.tree("c1")
    found = store.search("abacus")
    insights = store.insights("c1")
    return {
        "sessions": [
            (each.session_id, each.project, each.summary, each.events, each.duration_s, each.llm_calls,
             each.tool_calls, each.tool_failures, each.models, each.uncached_input_tokens, each.output_tokens)
            for each in store.sessions()
        ],
        "show": [
            (each.event_type, each.name, each.kind, each.text, each.duration_ms, each.ok, each.error,
             each.input_tokens, each.output_tokens, each.cost_usd)
            for each in tree.nodes
        ],
        "total": (tree.input_tokens, tree.output_tokens, tree.cost_usd, tree.unpriced),
        "cost": [
            (each.start, each.group, each.calls, each.cost_usd, each.unpriced_calls) for each in costs.rows
        ],
        "search": sorted((each.field, each.snippet) for each in found.hits),
        "insights": (
            insights.llm_calls, insights.tool_calls,
            [(each.tool, each.arguments, each.times) for each in insights.repeated],
        ),
        "metrics": [
            (each.start.date().isoformat(), each.model, each.llm_calls, each.llm_errors, each.tool_calls,
             each.tool_errors, each.cost_usd)
            for each in store.metrics("day", ["model"], now=NOW)
        ],
        "health": [
            (each.agent, each.score, each.last_event, [judged.name for judged in each.penalties if judged.judged])
            for each in store.health(now=NOW, window=timedelta(days=2))
        ],
        "messages": store.sql(
            "SELECT role, text, model, subagent_id, session_id, source FROM messages ORDER BY timestamp, event_id"
        ).rows,
    }  # fmt: skip


EXPECTED: dict[str, Any] = {
    "sessions": [
        ("c2", None, "Without a time", 2, 0, 1, 0, 0, ["unheard-of"], 5, 1),
        ("c1", "/home/ada/sums", "Sums", 6, 5, 2, 2, 1, [HAIKU], 4000, 60),
    ],
    "show": [
        ("tool_call", "abacus", None, "2+2", 20.0, True, None, 0, 0, None),
        ("llm_call", HAIKU, None, None, 1200.0, True, None, 1000, 50, Decimal("0.00125")),
        ("tool_call", "abacus", None, "2+2", 30.0, False, "Overflow", 0, 0, None),
        ("llm_call", HAIKU, "subagent", None, 800.0, True, None, 3000, 10, Decimal("0.00305")),
    ],
    "total": (4000, 60, Decimal("0.0043"), 0),
    "cost": [
        (datetime(2026, 3, 1, tzinfo=UTC), HAIKU, 2, Decimal("0.0043"), 0),
        (datetime(2026, 3, 2, tzinfo=UTC), "unheard-of", 1, None, 1),
    ],
    "search": [("text", "Four, says the abacus."), ("tool", "abacus"), ("tool", "abacus")],
    "insights": (2, 2, [("abacus", '{"sum":"2+2"}', 2)]),
    "metrics": [
        ("2026-03-01", None, 0, {}, 2, {"Overflow": 1}, None),
        ("2026-03-01", HAIKU, 2, {}, 0, {}, Decimal("0.0043")),
        ("2026-03-02", "unheard-of", 1, {"Timeout": 1}, 0, {}, None),
    ],
    "health": [(None, None, datetime(2026, 3, 2, 9, tzinfo=UTC), [])],
    "messages": [
        ("user", "What is two and two?", None, None, "c1", "toy"),
        ("assistant", "Four, says the abacus.", HAIKU, None, "c1", "toy"),
        ("assistant", "Checked.", HAIKU, "h1", "c1", "toy"),
    ],
}


def test_a_source_answers_every_question(toy: Source, root: Path, chats: Path) -> None:
    """With these values, and the same from an index that was replayed or made anew."""
    import_and_index(root, chats)
    assert answers(ReadStore(root)) == EXPECTED
    assert replay.verify(root).equal
    replay.replay(root)
    assert answers(ReadStore(root)) == EXPECTED
    index_file.index_path(root).unlink()
    Indexer(root).catch_up()
    assert answers(ReadStore(root)) == EXPECTED


def test_a_store_of_one_workspace_answers_the_same(toy: Source, root: Path, chats: Path) -> None:
    """Beside another one with the same chats, whose rows only the whole store counts, too."""
    for workspace in ("acme", "globex"):
        import_and_index(root, chats, "--workspace", workspace)
    assert answers(ReadStore(root, workspace="acme")) == EXPECTED
    counts = (
        "SELECT (SELECT count(*) FROM llm_calls), (SELECT count(*) FROM tool_calls), (SELECT count(*) FROM messages)"
    )
    assert ReadStore(root, workspace="acme").sql(counts).rows == [(3, 2, 3)]
    assert ReadStore(root).sql(counts).rows == [(6, 4, 6)]
    assert ReadStore(root, workspace="initech").sql(counts).rows == [(0, 0, 0)]


def test_quotes_in_a_select_and_in_a_promoted_column_break_no_workspace(
    toy: Source, root: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JSON path looks like a promoted column, and a field may have any name, in any case."""
    select = toy_source.LLM_CALLS.replace(
        "payload ->> 'error' AS error_type", """coalesce(payload ->> '$."text/plain"', "TOY/a""b") AS error_type"""
    )
    promoted = (*toy_source.PROMOTED, PromotedColumn("toy", 'a"b', "VARCHAR"))
    monkeypatch.setattr(toy_source, "VIEWS", SourceViews(promoted=promoted, llm_calls=select))
    (chats / "sums.toy").write_text(json.dumps({"kind": "answer", "chat": "c", "id": "a", 'a"b': "odd"}) + "\n")
    import_and_index(root, chats, "--workspace", "acme")
    store = ReadStore(root, workspace="acme")
    assert store.sql("SELECT error_type FROM llm_calls ORDER BY ALL").rows == [("odd",), (None,)]
    assert [session.llm_calls for session in store.sessions()] == [1, 1]
    assert store.runs() == []


def test_words_of_a_select_mean_the_same_in_a_workspace(
    toy: Source, root: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of internal tables are replaced there, and texts that read like them are not."""
    select = toy_source.LLM_CALLS.replace("payload ->> 'error' AS error_type", "'rejected' AS error_type")
    monkeypatch.setattr(toy_source, "VIEWS", SourceViews(promoted=toy_source.PROMOTED, llm_calls=select))
    import_and_index(root, chats, "--workspace", "acme")
    for store in (ReadStore(root), ReadStore(root, workspace="acme")):
        assert store.sql("SELECT DISTINCT error_type FROM llm_calls").rows == [("rejected",)]


def test_a_view_that_cannot_be_made_in_a_workspace_is_a_failed_query(toy: Source, root: Path, chats: Path) -> None:
    """No error of DuckDB leaves the store."""
    import_and_index(root, chats, "--workspace", "acme")
    with index_file.writing(root) as connection:
        connection.execute(schema.view("llm_calls", "SELEC").replace("VIEW", "OR REPLACE VIEW", 1))
    with pytest.raises(QueryFailed, match="SELEC"):
        ReadStore(root, workspace="acme").sessions()


def test_the_calls_of_a_source_are_scored(toy: Source, root: Path, tmp_path: Path) -> None:
    """A quarter of them fails, for an agent that the import names."""
    lines = [
        {"kind": "answer", "chat": "c", "at": f"2026-03-01T10:00:{n:02}Z", "id": f"a{n}", "model": HAIKU, "read": 1,
         "written": 1, "ms": 5} | ({"error": "Timeout"} if n % 4 == 0 else {})
        for n in range(40)
    ]  # fmt: skip
    path = tmp_path / "c.toy"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    import_and_index(root, path, "--agent", "ada")
    (health,) = ReadStore(root).health(now=datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert (health.agent, health.score) == ("ada", 80)
    assert [(each.name, each.points) for each in health.penalties if each.points] == [("call_errors", 20)]


def test_whatever_stands_in_a_line_breaks_no_view(toy: Source, root: Path, tmp_path: Path) -> None:
    """Each odd value in each place, in calls, tools and titles."""
    names = ("at", "id", "model", "read", "written", "ms", "text", "error", "helper", "tool", "with", "gave", "title")
    odd: tuple[Any, ...] = (None, "", -1, 2**70, 1e300, True, [], {}, "é\u2028", {"$blob": "x"})
    lines = [
        {"kind": kind, "chat": "c", "n": n} | ({"at": "2026-03-01T10:00:00Z"} if name != "at" else {}) | {name: value}
        for n, (kind, name, value) in enumerate(itertools.product(("answer", "tool", "chat", "ask"), names, odd))
    ]
    path = tmp_path / "odd.toy"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    import_and_index(root, path)
    store = ReadStore(root)
    count = len(names) * len(odd)
    for view, expected in (("llm_calls", count), ("tool_calls", count), ("sessions", 1)):
        assert len(store.sql(f"FROM {view}", row_limit=10_000).rows) == expected
    assert store.sql("SELECT count(*) FROM messages").rows[0][0] > 0
    assert store.sessions()[0].events == 4 * count
    assert replay.verify(root).equal


def test_a_second_import_appends_nothing(
    toy: Source, root: Path, chats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what a chat has grown by is appended; other files of the folder are none."""
    import_and_index(root, chats)
    with (chats / "late.toy").open("a") as file:
        file.write(json.dumps({"kind": "ask", "chat": "c2", "text": "Still there?"}) + "\n")
    capsys.readouterr()
    import_and_index(root, chats)
    assert re.match(r"2 files: 1 new event, [\d,]+ bytes imported before\n", capsys.readouterr().out)


def test_the_command_of_a_source_is_listed(toy: Source, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside those that are there anyway; its messages call its files what it calls them."""
    assert command(["import", "--help"]) == 0
    listed = re.findall(r"^  ([a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert listed == ["agents", "claude-code", "codex", "jsonl", "toy"]
    Path("~/toy").expanduser().mkdir()
    assert command(["import", "toy"]) == 1
    assert f"no chats (*.toy) under {Path.home() / 'toy'}" in capsys.readouterr().err
    with pytest.raises(ImportFailed, match="does not exist; name a chat or a folder of them"):
        toy.find([Path("nowhere")])


def test_the_page_shows_the_toy() -> None:
    """docs/sources.md has its code, to the letter."""
    page = (PROJECT / "docs/sources.md").read_text()
    assert f"```python\n{Path(toy_source.__file__).read_text()}```" in page


# -- indexes that were made with other sources ---------------------------------------------


def test_an_index_that_lacks_a_source_is_rebuilt(
    root: Path, chats: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and so is one that was made with an earlier version of it."""
    monkeypatch.setattr(sources, "_registered", [])
    Indexer(root).catch_up()
    sources.register(toy_source.SOURCE)
    assert command(["import", "toy", str(chats), "--root", str(root)]) == 0
    said: list[str] = []
    for version in (1, 1, 2, 2):
        sources._registered[:] = [msgspec.structs.replace(toy_source.SOURCE, version=version)]
        Indexer(root, say=said.append).catch_up()
        assert answers(ReadStore(root)) == EXPECTED
    assert said == ["the index was made without the source toy; rebuilding it from the log"] * 2


def test_an_index_with_a_source_that_is_not_here_is_read_and_not_written(
    toy: Source, root: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its columns could not be filled. A replay makes an index without it."""
    import_and_index(root, chats)
    monkeypatch.setattr(sources, "_registered", [])
    with pytest.raises(IndexFailed, match=r"made with the source 'toy'.*not installed here.*run: eventlog replay"):
        Indexer(root).catch_up()
    assert ReadStore(root).sql("SELECT count(*) FROM llm_calls").rows == [(3,)]
    replay.replay(root)
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert store.sql("SELECT count(*) FROM llm_calls").rows == [(0,)]
    assert store.sql("SELECT count(*) FROM events WHERE event_type = 'toy'").rows == [(8,)]


# -- what is refused -----------------------------------------------------------------------


def another(*event_types: str, name: str = "two", command: str = "two") -> Source:
    return msgspec.structs.replace(toy_source.SOURCE, name=name, command=command, event_types=event_types or ("two",))


REFUSED = {
    "the same name": (another(name="toy"), "the name 'toy' is taken by the source 'toy'"),
    "the same command": (another(command="toy"), "the command 'toy' is taken by the source 'toy'"),
    "the same event type": (another("two", "toy"), "the event type 'toy' is taken by the source 'toy'"),
    "that of a built-in source": (
        another("claude_code"), "source 'two': the event type 'claude_code' is taken by the source 'claude_code'",
    ),
    "a control event": (another("price_set"), "the event type 'price_set' is eventlog's own"),
    "a recorded event": (another("llm_call"), "the event type 'llm_call' is eventlog's own"),
    "a view": (another("sessions"), "the event type 'sessions' is eventlog's own"),
    "what is no event type": (another("Toy 2"), "'Toy 2' is not a name"),
    "patterns as a text": (
        msgspec.structs.replace(another(), patterns="*.toy"), "source 'two': its patterns are to be a tuple of texts",
    ),
    "event types as a text": (
        msgspec.structs.replace(another(), event_types="two"), "its event_types are to be a tuple of texts",
    ),
    "a version below 1": (msgspec.structs.replace(another(), version=0), "'two': its version is to be 1 or more"),
    "the command for any file": (another(command="jsonl"), "its command cannot be called 'jsonl'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_taken_is_refused(toy: Source, case: str) -> None:
    """The error names both sources, and the registry stays as it was."""
    source, message = REFUSED[case]
    with pytest.raises(InvalidSource, match=re.escape(message)):
        sources.register(source)
    assert sources.all_sources()[-1] is toy


def test_no_foreign_file_claims_the_events_of_a_source(toy: Source) -> None:
    """Its lines would count as calls, and cost."""
    with pytest.raises(InvalidEvent, match=r"--type imported\.toy"):
        Jsonl(type_="toy")
    assert foreign_types.imported("toy") == "imported.toy"


def views(llm_calls: str | None = None, sessions: str | None = None) -> SourceViews:
    return SourceViews(promoted=toy_source.PROMOTED, llm_calls=llm_calls, sessions=sessions)


def reading_error(sql: str) -> SourceViews:
    return views(toy_source.LLM_CALLS.replace("payload ->> 'error' AS error_type", f"({sql}) AS error_type"))


BAD_VIEWS = {
    "a semicolon": (views(toy_source.LLM_CALLS + ";"), "its select for llm_calls is refused by DuckDB: Parser Error"),
    "a way out of the parentheses": (
        views(toy_source.LLM_CALLS + ") UNION ALL FROM (SELECT 1"),
        "its select for llm_calls is not one SELECT",
    ),
    "a file": (
        reading_error("SELECT content FROM read_text('/etc/hostname')"),
        "its select for llm_calls reads read_text()",
    ),
    "a file by its name": (reading_error("SELECT any_value(x) FROM 'x.csv'"), "its select for llm_calls reads x.csv"),
    "internal tables": (reading_error("SELECT any_value(key) FROM index_meta"), "for llm_calls reads index_meta"),
    "quoted tables": (reading_error('SELECT any_value(agent) FROM "event_rows"'), "for llm_calls reads event_rows"),
    "the catalog": (reading_error("SELECT max(table_name) FROM duckdb_tables()"), "reads duckdb_tables()"),
    "names made of texts": (reading_error("SELECT max(agent) FROM query('FROM event' || '_rows')"), "reads query()"),
    "a promoted column without its name": (
        views(toy_source.LLM_CALLS.replace('"toy/model" AS', "COLUMNS('toy/model') AS")),
        "its select for llm_calls is refused by DuckDB",
    ),
    "names that differ in case": (
        SourceViews(promoted=(*toy_source.PROMOTED, PromotedColumn("toy", "KIND", "VARCHAR"))),
        "source 'toy': its promoted column 'toy/KIND' is there twice",
    ),
    "an expression that reads a file": (
        SourceViews(
            promoted=(PromotedColumn("toy", "x", "VARCHAR", "(SELECT content FROM read_text('/etc/hostname'))"),)
        ),
        "source 'toy': its promoted column 'toy/x' is refused by DuckDB",
    ),
    "a column that is missing": (
        views(f"SELECT * EXCLUDE ok FROM ({toy_source.LLM_CALLS})"),
        "source 'toy': its select for llm_calls lacks the column 'ok' (BOOLEAN); NULL::BOOLEAN will do",
    ),
    "a column of another type": (
        views(f"SELECT * REPLACE ('x' AS ok) FROM ({toy_source.LLM_CALLS})"),
        "its select for llm_calls has the column 'ok' as VARCHAR, which is to be BOOLEAN",
    ),
    "a column too many": (
        views(sessions=f"SELECT *, 1 AS more FROM ({toy_source.SESSIONS})"),
        "source 'toy': its select for sessions has the unknown column 'more'; known: workspace, session_id, project,",
    ),
    "a column that nobody promoted": (
        SourceViews(messages=toy_source.MESSAGES),
        "its select for messages is refused by DuckDB",
    ),
    "events of others": (
        views(sessions="SELECT workspace, session_id, agent AS project, agent AS summary FROM events"),
        "its select for sessions reads events, not its own events; take rows from rows_of(event_type)",
    ),
    "a promoted column of no type": (
        SourceViews(promoted=(PromotedColumn("toy", "kind", "WORD"),)),
        "source 'toy': its promoted column 'toy/kind' is refused by DuckDB: Catalog Error: Type with name WORD",
    ),
    "an expression over what is not there": (
        SourceViews(promoted=(PromotedColumn("toy", "kind", "VARCHAR", "agent"),)),
        "source 'toy': its promoted column 'toy/kind' is refused by DuckDB: Binder Error",
    ),
    "a step by the name of another": (
        SourceViews(
            promoted=tuple(PromotedColumn("toy", x, "VARCHAR", '"toy/a/s"', (("toy/a/s", f"'{x}'"),)) for x in "ab")
        ),
        "source 'toy': its promoted column 'toy/b' has a step of another column, with other SQL",
    ),
    "a promoted column of others": (
        SourceViews(promoted=(PromotedColumn("llm_call", "mine", "VARCHAR"),)),
        "its promoted column 'llm_call/mine' is of a type that is not its own",
    ),
}


def test_a_comment_and_a_list_are_harmless_and_an_expression_that_fails_is_null(
    toy: Source, root: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One payload must not make the index unbuildable."""
    promoted: Any = [*toy_source.PROMOTED, PromotedColumn("toy", "bad", "BIGINT", "(payload ->> 'id')::BIGINT -- odd")]
    select = toy_source.LLM_CALLS.replace("payload ->> 'error' AS error_type", '"toy/bad"::VARCHAR AS error_type')
    monkeypatch.setattr(toy_source, "VIEWS", SourceViews(promoted=promoted, llm_calls=f"{select} -- the end"))
    with (chats / "late.toy").open("a") as file:
        file.write(json.dumps({"kind": "answer", "chat": "c2", "id": "7"}) + "\n")
    import_and_index(root, chats, "--workspace", "acme")
    for store in (ReadStore(root), ReadStore(root, workspace="acme")):
        rows = store.sql("SELECT message_id, error_type FROM llm_calls ORDER BY ALL").rows
        assert rows == [("7", "7"), ("a1", None), ("a2", None), ("a3", None)]


@pytest.mark.parametrize("case", BAD_VIEWS)
def test_selects_that_do_not_fit_are_refused(case: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, before anything is indexed."""
    views, message = BAD_VIEWS[case]
    monkeypatch.setattr(sources, "_registered", [toy_source.SOURCE])
    monkeypatch.setattr(toy_source, "VIEWS", views)
    with pytest.raises(InvalidSource, match=re.escape(message)):
        Indexer(root).catch_up()


@pytest.mark.parametrize("source", [each for each in sources.all_sources() if sources.is_built_in(each)])
def test_those_that_come_with_eventlog_would_not_be_refused(source: Source) -> None:
    """When an index is made this is taken for granted, which saves most of the time of a small one."""
    views = sources.load_views(source, SourceViews)
    assert views is not None
    reading.check_one(source, views)


def test_what_is_no_source_is_refused_by_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is not there, another object, and an error in the module."""
    for reference, message in (
        ("tests.nowhere:SOURCE", "tests.nowhere:SOURCE cannot be loaded: ModuleNotFoundError"),
        ("tests.toy_source:NOTHING", "tests.toy_source:NOTHING cannot be loaded: AttributeError"),
        ("tests.toy_source:VIEWS", "tests.toy_source:VIEWS is a SourceViews, not a Source"),
    ):
        with pytest.raises(InvalidSource, match=re.escape(message)):
            sources.load(reference, Source)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs a distribution `odd` with these values of entry points, and modules."""
    folder = tmp_path / "site"
    (folder / "odd-1.0.dist-info").mkdir(parents=True)
    (folder / "odd-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(folder)

    def install(*values: str, **modules: str) -> None:
        lines = [f"e{number} = {value}" for number, value in enumerate(values)]
        points = "\n".join([f"[{sources.ENTRY_POINTS}]", *lines])
        (folder / "odd-1.0.dist-info" / "entry_points.txt").write_text(points)
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        sources._installed.cache_clear()

    yield install
    sources._installed.cache_clear()


def test_other_distributions_bring_sources(installed: Callable[..., None]) -> None:
    """By an entry point, whose value may name extras."""
    installed("tests.toy_source:SOURCE [more]")
    assert [source.name for source in sources.all_sources()] == ["claude_code", "codex", "toy"]
    assert sources.left_out() == []


BROKEN = {
    "no module": ("odd_nowhere:SOURCE", "odd_nowhere:SOURCE cannot be loaded: ModuleNotFoundError"),
    "a module that raises": ("odd_raises:SOURCE", "odd_raises:SOURCE cannot be loaded: ConfigError: no"),
    "a module that exits": ("odd_exits:SOURCE", "odd_exits:SOURCE cannot be loaded: SystemExit: bye"),
    "no attribute": ("tests.toy_source:NOTHING", "tests.toy_source:NOTHING cannot be loaded: AttributeError"),
    "a module alone": ("tests.toy_source", "is left out"),
    "what is no reference": ("?:!", "?:! is not module:NAME"),
    "another object": ("tests.toy_source:VIEWS", "is a SourceViews, not a Source"),
    "a name that is taken": ("eventlog.importers.claude_code:SOURCE", "'claude_code' is taken by"),
    "views that are not there": ("odd_views:SOURCE", "its views odd_nowhere:VIEWS cannot be loaded"),
    "fields of other types": ("odd_types:SOURCE", "is left out"),
}
ODD_SOURCE = """
import msgspec
from tests import toy_source
SOURCE = msgspec.structs.replace(toy_source.SOURCE, name={name}, command="odd", event_types=("odd",), views={views})
"""


@pytest.mark.parametrize("case", BROKEN)
def test_an_entry_point_that_cannot_be_loaded_is_left_out(
    case: str, installed: Callable[..., None], root: Path, chats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other sources work; the commands that miss it say so, and so does the doctor."""
    value, message = BROKEN[case]
    installed(
        value,
        "tests.toy_source:SOURCE",
        odd_raises="from eventlog.errors import ConfigError\nraise ConfigError('no')",
        odd_exits="import sys\nsys.exit('bye')",
        odd_views=ODD_SOURCE.format(name="'odd'", views="'odd_nowhere:VIEWS'"),
        odd_types=ODD_SOURCE.format(name=7, views=None),
    )
    assert command(["import", "--help"]) == 0
    assert "  toy  " in capsys.readouterr().out
    commands = [["import", "toy", str(chats)], ["index"], ["replay"], ["replay", "--verify"]]
    for number, arguments in enumerate(commands):
        assert command([*arguments, "--root", str(root)]) == 0
        if number or case != "views that are not there":  # an import needs no views
            (warned,) = re.findall(r"^warning: .*$", capsys.readouterr().err, re.MULTILINE)
            assert warned.startswith(f"warning: the source that odd names as 'e0' ({value}) is left out: ")
            assert warned.endswith("; upgrade, reinstall or remove odd")
            assert message in warned
    assert answers(ReadStore(root)) == EXPECTED
    (finding,) = [
        finding for finding in diagnose(str(root)) if (finding.check, finding.level) == ("sources", Level.WARNING)
    ]
    assert message in finding.what


# -- the product ---------------------------------------------------------------------------


def test_the_columns_of_selects_are_those_of_the_views() -> None:
    """What recorded events give, and what a store shows."""
    connection = duckdb.connect()
    projections.create(connection)
    for view, columns in COLUMNS.items():
        if view != "sessions":  # which has counts besides
            found = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall()}
            assert list(found.items()) == list(columns.items())
    reading._checked.clear()
    reading.check()


def test_nothing_but_its_modules_names_a_source() -> None:
    """Questions ask the registry; only the two halves, the demo and what is written for people name Claude Code."""
    allowed = {"eventlog/importers", "indexer/views/claude_code", "queries/demo"}
    naming = {
        path.relative_to(PROJECT).as_posix()
        for folder in ("eventlog", "indexer", "queries")
        for path in (PROJECT / folder).rglob("*.py")
        if "claude_code" in path.read_text()
    }
    paths = {path for path in naming if not path.startswith(("eventlog/indexer/", "eventlog/queries/"))}
    assert {path for path in paths if path.rpartition("/")[0] not in allowed} == set()
    assert {path.rpartition("/")[0] for path in paths if path.startswith("indexer")} == {"indexer/views/claude_code"}
