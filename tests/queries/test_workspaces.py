"""A store of one workspace sees that workspace and nothing else, whatever it is asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.errors import IndexBusy, QueryFailed
from eventlog.format import ids
from eventlog.importers import sources
from eventlog.indexer.index import index_file
from eventlog.indexer.views import projections
from eventlog.queries.access import checked_versions, confinement, functions, workspace
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.cost import on_demand
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.queries.breakouts import ANSWERED, REFUSED

_OF_OTHERS = {
    "run_id": "xyzzy", "agent": "xyzzy", "session_id": "xyzzy", "request_id": "(xyzzy", "turn_number": -1,
    "cycle": 5_000_000, "payload": {"n": "xyzzy", "request_model": "xyzzy", "tool_name": "xyzzy", "name": "xyzzy"},
}  # fmt: skip
_OWN = {
    "run_id": "7", "agent": "ab", "session_id": "2026-01-01", "request_id": "a", "turn_number": 65, "cycle": 1,
    "workspace": "mine",
}  # fmt: skip


def schema_line(at: int, type_: str, /, **properties: str) -> bytes:
    described = {"type": "object", "properties": {field: {"type": kind} for field, kind in properties.items()}}
    return line(at, "event_schema", payload={"name": type_, "version": 1, "json_schema": described})


def make(root: Path) -> None:
    """Two events of `mine` among thousands of others, as `breakouts` describes them."""
    segment(
        root,
        schema_line(1, "note", n="string"),
        schema_line(2, "hidden_type", hidden_xyzzy="integer"),
        event_type="event_schema",
    )
    others = [line(100 + n, "note", **_OF_OTHERS, **({"workspace": "theirs"} if n % 2 else {})) for n in range(3000)]
    own = [line(n, "note", **_OWN, payload={"n": str(n - 10)}) for n in (11, 12)]
    segment(root, *others[:1500], *own, *others[1500:], event_type="note")
    for at, event_type in enumerate(["hidden_type", "llm_call", "tool_call", "step", "run_started", "run_finished"]):
        segment(root, line(5000 + at, event_type, **_OF_OTHERS, workspace="theirs"), event_type=event_type)
    segment(
        root,
        line(11, "note", **_OWN, payload={"n": "9"}),
        line(101, "note", **_OF_OTHERS, workspace="theirs", audit_level="export"),
        b"xyzzy is no event\n",
        event_type="note",
    )
    index(root)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root for all attempts: nothing of this file writes to it."""
    root = tmp_path_factory.mktemp("workspaces") / "root"
    make(root)
    return root


@pytest.fixture(scope="module")
def store(shared: Path) -> ReadStore:
    # That it may be ended saves a process for each query.
    return ReadStore(shared, workspace="mine", on_stuck=lambda _: None)


def ways(store: ReadStore, tmp_path: Path) -> dict[str, Callable[[str], object]]:
    """Each public method that takes SQL, and what it lets one see."""

    def copied(query: str) -> str:
        path = tmp_path / "answer.csv"
        store.copy(query, path, "csv")
        return path.read_text()

    def copied_as_json(query: str) -> str:
        path = tmp_path / "answer.json"
        store.copy(query, path, "json")
        return path.read_text()

    return {
        "sql": store.sql,
        "arrow": lambda query: store.arrow(query).to_pydict(),
        "pandas": lambda query: store.pandas(query).to_dict(),
        "csv": copied,
        "json": copied_as_json,
    }


# -- breaking out ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_no_business_of_a_workspace_is_refused(
    shared: Path, store: ReadStore, tmp_path: Path, how: str
) -> None:
    """And the refusal names nothing but what was asked. All ways have one door (the test below); two are tried each."""
    log = next((shared / "log/note").iterdir())
    query = REFUSED[how].format(index=index_file.index_path(shared), log=log) if "{" in REFUSED[how] else REFUSED[how]
    asked = ways(store, tmp_path)
    others = sorted(asked.keys() - {"sql"})
    for way in ("sql", others[list(REFUSED).index(how) % len(others)]):
        with pytest.raises(QueryFailed) as caught:
            asked[way](query)
        said = str(caught.value).replace(query, "")
        assert "xyzzy" not in said, way
        assert "Did you mean" not in said, way
        for name in ("hidden_type", "event_rows", "index_meta", "theirs"):
            assert name in query or name not in said, way
    assert not log.with_name(log.name + ".copy").exists()


def test_all_ways_have_one_door(store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs that was not looked at."""

    def confine(*arguments: object) -> None:
        raise QueryFailed("looked at")

    monkeypatch.setattr(confinement, "confine", confine)
    for ask in ways(store, tmp_path).values():
        with pytest.raises(QueryFailed, match="looked at"):
            ask("SELECT 1")


@pytest.mark.parametrize("how", ANSWERED)
def test_what_may_be_asked_is_answered_from_the_workspace_alone(store: ReadStore, tmp_path: Path, how: str) -> None:
    """No expression of a query is tried on a row of others: it would fail on those, and name them."""
    query, expected = ANSWERED[how]
    assert store.sql(query).rows == expected
    for ask in list(ways(store, tmp_path).values())[1:]:
        assert "xyzzy" not in str(ask(query))


@pytest.mark.parametrize("how", [how for how in ANSWERED if "cast" in how or "decoding" in how])
def test_the_attempts_would_tell_something_without_the_workspace(shared: Path, how: str) -> None:
    """Or they prove nothing."""
    query, expected = ANSWERED[how]
    with suppress(QueryFailed):
        assert ReadStore(shared).sql(query).rows != expected


def test_errors_name_no_place(shared: Path, store: ReadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the folder of the root, where DuckDB cannot write its temporary files, or the name of the index."""
    with pytest.raises(QueryFailed) as caught:
        store.sql(f"SELECT error('{shared}/index.duckdb.tmp')")
    assert str(shared) not in str(caught.value)
    monkeypatch.setattr(workspace, "unguessable", lambda: "index_xyzzy")
    monkeypatch.setattr("eventlog.queries.access.reader.unguessable", lambda: "index_xyzzy")
    with pytest.raises(QueryFailed) as caught:
        store.sql("SELECT error('index_xyzzy')")
    assert "index_xyzzy" not in str(caught.value)


def test_what_is_internal_has_no_name_that_a_query_could_hold(
    store: ReadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gets past the list of names, and no fields of others where the name is known."""
    monkeypatch.setattr(confinement, "confine", lambda *_: None)
    for name in ("event_rows", "rejected", "segments", "index_meta"):
        with pytest.raises(QueryFailed, match=r"does not exist|there is no table or view"):
            store.sql(f"FROM {name}")
    monkeypatch.setattr("eventlog.queries.access.reader.unguessable", lambda: "index_known")
    assert "xyzzy" not in str(store.sql("DESCRIBE event_rows_known").rows)
    assert store.sql("SELECT count(*) FROM event_rows_known").rows == [(2,)]


def test_errors_propose_no_names_of_others(store: ReadStore) -> None:
    """A column that is not there has neighbours only in the tables that were named."""
    for query in ("SELECT hidden_xyzz FROM events", "SELECT nosuch(run_id) FROM events", "SELECT 1::hidden_typ"):
        with pytest.raises(QueryFailed) as caught:
            store.sql(query)
        assert "hidden_xyzzy" not in str(caught.value)
        assert "hidden_type" not in str(caught.value)
        assert "Did you mean" not in str(caught.value)


@contextmanager
def many(configure: Callable[[duckdb.DuckDBPyConnection], None], *, fenced: bool) -> Iterator[Callable[[str], object]]:
    """Lend a way to ask a workspace of 20,000 events among 200,000: how DuckDB goes about it depends on how many."""
    with duckdb.connect() as connection:
        configure(connection)
        connection.execute("SET threads = 1; ATTACH ':memory:' AS idx; USE idx")
        projections.create(connection)
        connection.execute(
            "INSERT INTO event_rows (event_type, workspace, run_id, cycle) SELECT 'note', "
            "CASE WHEN i % 10 = 7 THEN 'mine' ELSE 'theirs' || i % 50 END, if(i % 10 = 7, '7', 'xyzzy'), "
            "if(i % 10 = 7, 1, 5_000_000) FROM range(200_000) r(i)"
        )
        workspace.Workspace(connection, "idx", "mine", fenced=fenced).make(["events"])

        def outcome(query: str) -> object:
            try:
                return connection.execute(query).fetchall()
            except duckdb.Error as error:
                return str(error).partition("\n")[0]

        yield outcome


def test_no_expression_is_tried_on_rows_of_others() -> None:
    """DuckDB tries the conditions that it believes cannot fail in the scan, in changing orders, to find the fastest.

    It has been wrong about that (`not_like_escape` in 2.0.0). The LIMIT is what keeps them apart.
    """
    query = "SELECT count(*) FROM events WHERE not_like_escape('a', 'b', run_id)"
    with many(workspace.configure, fenced=True) as outcome:
        assert [outcome(query) for _ in range(5)] == [[(20_000,)]] * 5
    explained = "EXPLAIN (FORMAT json) SELECT count(*) FROM events WHERE length(run_id) = 1"
    for fenced in (True, False):
        with many(workspace.configure, fenced=fenced) as outcome:
            ((_, plan),) = cast("list[tuple[str, str]]", outcome(explained))
            assert workspace._operators(json.loads(plan))[-3:].count("FILTER") == fenced


def test_the_range_of_what_others_have_changes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB knows the least and greatest value of a column in all rows. What it leaves out for that cannot fail, and
    tells so what the range is; with what `configure` sets it leaves nothing out."""

    def is_left_out(outcome: Callable[[str], object], more_than: int) -> bool:
        query = f"EXPLAIN SELECT count(*) FROM events WHERE run_id::DATE IS NULL AND cycle > {more_than}"
        return "Empty Result" in str(outcome(query))

    with many(workspace.configure, fenced=True) as outcome:
        assert [is_left_out(outcome, n) for n in (4_999_999, 5_000_001)] == [False, False]
    monkeypatch.setattr(workspace, "_validate_fence", lambda *_: None)
    with many(lambda connection: None, fenced=True) as outcome:
        assert [is_left_out(outcome, n) for n in (4_999_999, 5_000_001)] == [False, True]


def test_the_fence_is_looked_at_in_a_plan(store: ReadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DuckDB that moves conditions through it is not used."""
    monkeypatch.setattr(workspace, "_validated", set())
    assert store.sql("SELECT 1").rows == [(1,)]
    monkeypatch.setattr(workspace, "_validated", set())
    monkeypatch.setattr(workspace, "configure", lambda connection: None)
    monkeypatch.setattr("eventlog.queries.access.reader.configure", lambda connection: None)
    with pytest.raises(Exception, match="could show one workspace to another"):
        store.sql("SELECT 1")


@pytest.mark.parametrize(
    ("view", "event_type"),
    [("steps", "step"), ("llm_calls", "llm_call"), ("llm_calls", "claude_code"), ("tool_calls", "tool_call"),
     ("runs", "run_started"), ("runs", "run_finished"), ("note", "note"), ("alerts", "alert_fired"),
     ("alerts", "alert_resolved"), ("alert_rules", "alert_snoozed"), ("alerts", "alert_acknowledged"),
     ("quarantine", "import_rejected")],
)  # fmt: skip
def test_views_of_a_type_scan_that_type_only(store: ReadStore, view: str, event_type: str) -> None:
    """Below the fence: otherwise they would read the payloads of all types."""
    with duckdb.connect(str(index_file.index_path(store.root))) as connection:
        projections.read_sources(connection, sources.event_types())
    with IndexReader(store.root, workspace="mine").trusted(views=[view]) as connection:
        ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) FROM {view}").fetchall()
    assert re.search(
        rf"workspace = 'mine'[^}}]*event_type = '{event_type}'|event_type = '{event_type}'[^}}]*workspace", plan
    )


def test_each_function_was_decided_on() -> None:
    """What is listed is there; and what reads more than its arguments, the clock or chance is not listed."""
    with duckdb.connect() as connection:
        there = {
            row[0].lower() for row in connection.execute("SELECT function_name FROM duckdb_functions()").fetchall()
        }
        volatile = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE stability = 'VOLATILE'"
        ).fetchall()
    assert not (functions.FUNCTIONS | functions.TABLE_FUNCTIONS) - there
    assert functions.FUNCTIONS & {row[0] for row in volatile} <= {
        "error", "gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7",
    }  # fmt: skip


# -- versions of DuckDB ------------------------------------------------------------------------


def test_the_running_duckdb_was_checked() -> None:
    """Whoever raises the version in constraints.txt looks at the fence, and says so in checked_versions.py."""
    with duckdb.connect() as connection:
        assert checked_versions.CHECKED.get(duckdb.__version__) == checked_versions.fingerprint(connection)


@pytest.fixture
def unknown_duckdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the running DuckDB one that nobody has checked."""
    monkeypatch.setattr(checked_versions, "CHECKED", {"1.9.9": ""})
    monkeypatch.setattr(checked_versions, "_results", {})


@pytest.mark.usefixtures("unknown_duckdb")
@pytest.mark.parametrize("how", ANSWERED)
def test_another_duckdb_answers_from_a_copy(store: ReadStore, how: str) -> None:
    """With the same rows."""
    query, expected = ANSWERED[how]
    assert store.sql(query).rows == expected


@pytest.mark.usefixtures("unknown_duckdb")
def test_beside_the_copy_there_is_nothing(store: ReadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever gets past the list of names: the index is no longer attached, and no view tells of others."""
    monkeypatch.setattr(confinement, "confine", lambda *_: None)
    for query in ("FROM duckdb_databases()", "FROM duckdb_views()", "FROM duckdb_tables()", "FROM duckdb_columns()",
                  "FROM pragma_database_list", "SELECT stats(run_id) FROM events"):  # fmt: skip
        said = str(store.sql(query).rows)
        assert not re.search("index.duckdb|hidden_type|xyzzy|theirs", said), query


def test_a_function_that_is_no_longer_what_it_was_means_another_duckdb(
    store: ReadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build of the same version may differ from the one that was checked."""
    monkeypatch.setattr(checked_versions, "CHECKED", {duckdb.__version__: "another"})
    monkeypatch.setattr(checked_versions, "_results", {})
    assert store.sql("SELECT count(*) FROM events").rows == [(2,)]
    assert checked_versions._results == {duckdb.__version__: False}


# -- questions of our own ----------------------------------------------------------------------


def test_events_and_counts(shared: Path, store: ReadStore) -> None:
    """Whatever the filter; a cursor of somebody else is a position in one's own events."""
    assert [event.data()["n"] for event in store.events().events] == ["1", "2"]
    assert store.events(where={"workspace": "theirs"}).events == []
    assert store.events(["hidden_type", "event_schema"]).events == []
    assert store.events(where={"run_id": "xyzzy"}).events == []
    assert [(count.event_type, count.events) for count in store.counts()] == [("note", 2)]
    assert store.counts(["hidden_type"]) == []
    assert store.counts(where={"workspace": "theirs"}) == []
    everything = ReadStore(shared)
    cursor = everything.events(limit=2).next
    assert {event.workspace for event in store.events(after=cursor).events} <= {"mine"}
    foreign = everything.events(where={"workspace": "theirs"}, limit=1).events[0]
    cursor = f"2026-01-01T00:00:00.000000Z,{foreign.event_id}"
    assert {event.workspace for event in store.events(after=cursor).events} == {"mine"}


@pytest.mark.parametrize("where", [{"run_id": 7}, {"session_id": 7}, {"agent": 0}])
def test_a_filter_of_another_type_fails_on_no_row(store: ReadStore, where: dict[str, int]) -> None:
    """What is compared with is cast, and not the column."""
    assert len(store.events(where=where).events) == (2 if "run_id" in where else 0)
    assert sum(count.events for count in store.counts(where=where)) == (2 if "run_id" in where else 0)


def test_an_event_of_others_is_not_there(shared: Path, store: ReadStore) -> None:
    """Nor is one of nobody."""
    of_each = {(event.workspace, event.event_type): event for event in ReadStore(shared).events(limit=500).events}
    assert {workspace for workspace, _ in of_each} > {"mine", "theirs"}
    for event in of_each.values():
        found = store.event(event.event_id)
        assert (found is not None) == (event.workspace == "mine")
    own = store.events().events[0]
    found = store.event(own.event_id)
    assert found is not None
    assert found.line is not None
    assert json.loads(found.line)["workspace"] == "mine"


def test_a_line_that_has_taken_the_place_of_another_is_not_shown(root: Path) -> None:
    """The log was tampered with, or restored by hand: at that offset is now a line of others."""
    own, other = line(1, workspace="mine"), line(2, workspace="them")
    path = segment(root, own, other)
    index(root)
    path.write_bytes(other + own)
    event = ReadStore(root).events(where={"workspace": "mine"}).events[0]
    found = ReadStore(root, workspace="mine").event(event.event_id)
    assert found is not None
    assert found.line is None
    shown = ReadStore(root).event(event.event_id)
    assert shown is not None
    assert shown.line == other[:-1]


def test_what_is_of_the_whole_log_is_refused(store: ReadStore) -> None:
    """The state counts segments and rows of all; the hash is of all."""
    with pytest.raises(QueryFailed, match=r"state\(\) is of the whole log, and this store is of the workspace 'mine'"):
        store.state()
    with pytest.raises(QueryFailed, match=r"digest\(\) is of the whole log"):
        store.digest()


def test_tables_are_shown(store: ReadStore) -> None:
    """Those that this workspace has."""
    names = [row[0] for row in store.sql("SHOW TABLES").rows]
    assert names == sorted(names)
    assert {"events", "event_types", "note", "runs", "steps", "llm_calls", "tool_calls", "sessions"} <= set(names)
    assert not set(names) & {"hidden_type", "event_rows", "segments", "index_meta", "rejected", "llm_call"}
    for name in names:
        assert store.sql(f'DESCRIBE "{name}"').rows


@pytest.mark.parametrize(
    "name", ["", "nobody", "theirs' OR 'a' = 'a", "%", "MINE", "mine ", '"', "\\", "NULL", "mine\n"]
)
def test_a_workspace_is_a_name_and_nothing_else(shared: Path, name: str) -> None:
    """It is compared as it is; one that has no events is empty, and not everything."""
    store = ReadStore(shared, workspace=name)
    assert store.events().events == []
    assert store.sql("SELECT count(*) FROM events").rows == [(0,)]
    assert store.sql("FROM event_types").rows == []


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 7, b"mine"])
def test_what_cannot_be_a_workspace_is_refused(shared: Path, name: Any) -> None:
    """And is not taken for none."""
    with pytest.raises(QueryFailed, match="workspace"):
        ReadStore(shared, workspace=name).sql("FROM events")


@pytest.mark.parametrize("name", ["a'b", "Ünï", "x; DROP", 'it\'s "quoted"', " "])
def test_odd_names_work(root: Path, name: str) -> None:
    """Quotes and all."""
    segment(root, line(1, workspace=name), line(2, workspace="other"))
    index(root)
    assert ReadStore(root, workspace=name).sql("SELECT workspace FROM events").rows == [(name,)]
    assert len(ReadStore(root, workspace=name).events().events) == 1


def test_views_on_demand(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made where a query names them, from the views of the store that it is asked of."""
    made = []

    def make_view(connection: duckdb.DuckDBPyConnection) -> None:
        made.append(1)
        connection.execute("CREATE TEMP VIEW llm_costs AS SELECT event_id, run_id, model FROM llm_calls")

    monkeypatch.setattr(on_demand, "TABLES", {"llm_costs": make_view})
    for name, rows in ((None, 1), ("mine", 0), ("theirs", 1)):
        store = ReadStore(shared, workspace=name)
        assert store.sql("SELECT 1").rows == [(1,)]
        assert made == []
        assert store.sql("SELECT count(*) FROM (SELECT model FROM LLM_costs)").rows == [(rows,)]
        assert made.pop() == 1
    assert ("llm_costs",) in ReadStore(shared, workspace="mine").sql("SHOW TABLES").rows


def test_threads_with_different_workspaces(shared: Path) -> None:
    """And one that sees everything: none is in the other's way."""
    failures: list[BaseException] = []

    def work(name: str | None, rows: int) -> None:
        try:
            store = ReadStore(shared, workspace=name)
            for _ in range(5):
                assert store.sql("SELECT count(*) FROM note").rows == [(rows,)]
                assert sum(count.events for count in store.counts(["note"])) == rows
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=args) for args in (("mine", 2), ("theirs", 1500), (None, 3002))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_index_that_this_process_holds_otherwise_is_busy(root: Path) -> None:
    """A notebook that opened it by hand, to write; and afterwards the index is as it was."""
    segment(root, line(1, workspace="mine"))
    index(root)
    with duckdb.connect(str(index_file.index_path(root))), pytest.raises(IndexBusy):
        ReadStore(root, workspace="mine", wait_s=0.1).counts()
    assert ReadStore(root, workspace="mine").counts()


# -- the same as alone -------------------------------------------------------------------------

_SMALL = st.sampled_from(["a", "b", "c"])
_TYPES = [
    "alert_fired", "note", "run_started", "run_finished", "step", "llm_call", "tool_call", "error", "claude_code",
    "import_rejected", "alert_rule_set", "alert_rule_removed", "alert_resolved", "alert_delivered",
    "alert_delivery_failed",
]  # fmt: skip
#: Ids that events of a type may have: few, so that workspaces have the same.
_IDS = 4
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(_TYPES),
            "workspace": st.sampled_from(["one", "two", "three", None]),
            "run_id": _SMALL, "session_id": _SMALL, "agent": _SMALL,
            "payload": st.fixed_dictionaries(
                {"n": st.text(max_size=3)},
                optional={
                    "name": _SMALL, "output_tokens": st.integers(0, 9), "request_model": _SMALL, "tool_name": _SMALL,
                    "duration_ms": st.integers(0, 9), "error_type": _SMALL, "type": st.just("assistant"),
                    "message": st.just({"id": "m", "model": "x", "usage": {"output_tokens": 3}}), "reason": _SMALL,
                    "firing_id": st.sampled_from([ids.derived_id(n * 1000, str(n)) for n in range(10, 16)]),
                    "channel": _SMALL,
                    "channels": st.lists(_SMALL, max_size=2),
                },
            ),
            "again": st.booleans(),
        }
    ),
    max_size=25,
)  # fmt: skip


def write(root: Path, events: list[tuple[int, dict[str, Any]]]) -> None:
    by_type: dict[str, list[bytes]] = {"event_schema": [schema_line(1, "note", n="string", name="string")]}
    for n, event in events:
        fields = {key: value for key, value in event.items() if key != "again" and value is not None}
        by_type.setdefault(event["event_type"], []).append(line(n, **fields))
        if event["again"]:  # a conflict: the same id, and another content
            by_type[event["event_type"]].append(line(n, **fields | {"audit_level": "export"}))
    for event_type, lines in by_type.items():
        segment(root, *lines, event_type=event_type)
    index(root)


@given(events=_EVENTS)
@settings(max_examples=4)
def test_each_workspace_is_as_if_it_were_alone(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    """Every view of each store is what the index of a log with that workspace's events alone says."""
    numbered = [(10 + _IDS * _TYPES.index(each["event_type"]) + at % _IDS, each) for at, each in enumerate(events)]
    together = tmp_path_factory.mktemp("together")
    write(together, numbered)
    for name in ("one", "two", "three"):
        alone = tmp_path_factory.mktemp("alone")
        write(alone, [(n, event) for n, event in numbered if event["workspace"] == name])
        scoped, whole = ReadStore(together, workspace=name), ReadStore(alone)
        types = {event["event_type"] for event in events if event["workspace"] == name}
        views = ["events", "event_types", "conflicts", "quarantine", "runs", "steps", "llm_calls", "tool_calls"]
        views += ["sessions", "alert_rules", "alerts", "alert_deliveries", "alert_dead_letters"]
        for view in [*views, *({"note"} & types)]:
            columns = [row[:2] for row in whole.sql(f'DESCRIBE "{view}"').rows]
            assert [row[:2] for row in scoped.sql(f'DESCRIBE "{view}"').rows] == columns
            kept = ", ".join(f'"{each}"' for each, _ in columns if each not in ("segment", "line_offset"))
            condition = "WHERE event_type <> 'event_schema'" if view in ("events", "event_types") else ""
            query = f'SELECT {kept} FROM "{view}" {condition} ORDER BY ALL'
            assert scoped.sql(query).rows == whole.sql(query).rows, view
        assert [event.event_id for event in scoped.events().events] == [
            event.event_id for event in whole.events().events if event.event_type != "event_schema"
        ]


# -- commands ----------------------------------------------------------------------------------


def test_commands_take_a_workspace(root: Path, tmp_path: Path, run: Run) -> None:
    """`sql`, `export` and `tail` show it and nothing else."""
    recorder = Recorder(Config(root=str(root), strict=True))
    for n in range(6):
        recorder.emit("note" if n < 4 else "other", {"n": n}, workspace=("mine", "theirs", None)[n % 3])
    recorder.shutdown()
    index(root)
    done = run(
        "sql", "SELECT (payload ->> 'n')::INT AS n FROM events ORDER BY 1", "--format", "jsonl", "--workspace", "mine"
    )
    assert (done.stdout, done.stderr) == ('{"n":0}\n{"n":3}\n', "")
    done = run("sql", "FROM segments", "--workspace", "mine")
    assert (done.returncode, done.stderr) == (2, "error: there is no 'segments' in this workspace; try: SHOW TABLES\n")
    done = run("export", "note", "--format", "jsonl", "--workspace", "theirs")
    assert [json.loads(each)["payload"]["n"] for each in done.stdout.splitlines()] == [1]
    done = run("export", "other", "--format", "jsonl", "--workspace", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no events of type other" in done.stderr
    done = run("tail", "--workspace", "mine")
    assert [msgspec.json.decode(each)["payload"]["n"] for each in done.stdout.splitlines()] == [0, 3]
    done = run("tail", "-n", "1", "--workspace", "theirs")
    assert [msgspec.json.decode(each)["payload"]["n"] for each in done.stdout.splitlines()] == [4]
    done = run("tail", "hidden", "--workspace", "mine")
    assert "note" not in done.stderr
