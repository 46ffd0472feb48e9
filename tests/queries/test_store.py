"""ReadStore: the right events in the right order, and SQL that can do no harm."""

from __future__ import annotations

import json
import pydoc
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.config import Config
from eventlog.errors import IndexFailed, QueryFailed
from eventlog.format.control import Role
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.indexer import Indexer
from eventlog.log import blobs
from eventlog.queries.access import sandbox
from eventlog.queries.events.lookup import Bucket, Count
from eventlog.queries.status import status
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.indexer.support import digest_of, index, line, segment
from tests.queries.forty import START, forty_events


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 events of two types, one every ten minutes, two at each moment: made once, and copied."""
    root = tmp_path_factory.mktemp("forty") / "root"
    forty_events(root)
    return root


@pytest.fixture
def store(root: Path, forty: Path) -> ReadStore:
    """The forty events, in a root of this test's own."""
    shutil.copytree(forty, root)
    return ReadStore(root)


def ns(store: ReadStore, **options: Any) -> list[int]:
    return [event.data()["n"] for event in store.events(**options).events]


def test_events_come_in_order_of_time_with_all_their_fields(store: ReadStore) -> None:
    """And the last page says that it is the last."""
    page = store.events()
    assert page.next is None
    assert sorted(ns(store)) == list(range(40))
    moments = [event.timestamp for event in page.events]
    assert moments == sorted(moments)
    assert moments[0] == START
    first = page.events[0]
    assert (first.run_id, first.audit_level, first.workspace, first.schema_version) in [
        ("r0", "turn", None, 1),
        ("r1", "turn", None, 1),
    ]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 7, 39, 40, 41])
def test_pages_hold_every_event_once(store: ReadStore, limit: int, newest_first: bool) -> None:
    """Also where several share a moment."""
    found: list[int] = []
    after = None
    for _ in range(50):
        page = store.events(limit=limit, after=after, newest_first=newest_first)
        found += [event.data()["n"] for event in page.events]
        after = page.next
        if after is None:
            break
    assert found == (ns(store, newest_first=newest_first))
    assert sorted(found) == list(range(40))


def test_filters(store: ReadStore) -> None:
    """By type, time (from, and before) and envelope columns, together."""
    assert sorted(ns(store, event_types=["b"])) == list(range(0, 40, 4))
    assert ns(store, event_types=["none"]) == []
    assert sorted(ns(store, since=START + timedelta(hours=3))) == list(range(36, 40))
    assert sorted(ns(store, until="2026-03-01T22:50:00Z")) == [0, 1, 2, 3]
    assert sorted(ns(store, where={"run_id": "r1", "cycle": 4})) == [4, 19, 34]
    assert sorted(
        ns(
            store,
            event_types=["a"],
            since="2026-03-01T22:50:00+00:00",
            where={"run_id": "r2"},
            until=START + timedelta(hours=1),
        )
    ) == [5, 11]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"limit": 0}, "out of range"),
        ({"limit": 10**9}, "page on with `after`"),
        ({"since": "yesterday"}, "'yesterday' is not a time"),
        ({"where": {"payload": "x"}}, "cannot filter by 'payload'"),
        ({"where": {"1=1; --": "x"}}, "cannot filter by"),
        ({"where": {"event_id": "bad"}}, "is not an event id"),
        ({"after": "nonsense"}, "is not a time"),
        ({"after": "2026-01-01T00:00:00Z,nonsense"}, "is not an event id"),
    ],
)
def test_what_cannot_be_asked_is_said(store: ReadStore, options: dict[str, Any], reason: str) -> None:
    """In the words of the caller."""
    with pytest.raises(QueryFailed) as caught:
        store.events(**options)
    assert reason in str(caught.value)


def test_one_event_with_its_line(store: ReadStore, root: Path) -> None:
    """The bytes as they stand in the log; none where the log's copy is gone."""
    event = store.events(limit=1).events[0]
    found = store.event(event.event_id)
    assert found is not None
    assert found.event == event
    assert found.line is not None
    assert json.loads(found.line)["event_id"] == event.event_id
    assert len(found.line) + 1 == event.line_length
    Path(found.path).unlink()
    gone = store.event(event.event_id)
    assert gone is not None
    assert gone.line is None
    assert store.event("01a1fc0e-90e7-7614-b5c5-39cd6cbb2847") is None
    with pytest.raises(QueryFailed, match="is not an event id"):
        store.event("7")


COUNTS: dict[Bucket | None, list[tuple[str, str | None, int]]] = {
    None: [("a", None, 30), ("b", None, 10)],
    "day": [("a", "2026-03-01", 13), ("b", "2026-03-01", 5), ("a", "2026-03-02", 17), ("b", "2026-03-02", 5)],
    "month": [("a", "2026-03-01", 30), ("b", "2026-03-01", 10)],
}


@pytest.mark.parametrize("bucket", COUNTS)
def test_counts_per_type_and_bucket(store: ReadStore, bucket: Bucket | None) -> None:
    """Buckets are of UTC; midnight divides days."""
    expected = [
        Count(name, datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None, n)
        for name, day, n in COUNTS[bucket]
    ]
    assert store.counts(bucket=bucket) == expected


def test_segments_and_their_lag(store: ReadStore, root: Path) -> None:
    """What is new in the log is lag until it is indexed."""
    segment(root, line(1), event_type="new")
    found = {state.event_type: state for state in store.state().segments}
    assert (found["new"].lag_bytes, found["new"].events, found["new"].indexed_offset) == (len(line(1)), 0, 0)
    assert (found["a"].lag_bytes, found["a"].events, found["a"].rejected) == (0, 30, 0)
    assert (found["c"].lag_bytes, found["c"].events, found["c"].rejected) == (0, 0, 1)


def test_status_counts_what_there_is(store: ReadStore, root: Path) -> None:
    """Events and rows, quarantine, and for how long the oldest unindexed line has waited."""
    found = status(root)
    assert (found.segments, found.events, found.rows, found.quarantined) == (3, 40, 40, 1)
    assert (found.lag_bytes, found.lag_s, found.index, found.held_by) == (0, 0.0, "ok", [])
    Recorder(Config(root=str(root))).emit("late")
    time.sleep(0.05)
    behind = status(root)
    assert behind.lag_bytes
    assert behind.lag_s is not None
    assert 0.05 <= behind.lag_s < 60
    index_file.index_path(root).unlink()
    assert (status(root).index, status(root).rows, status(root).lag_bytes) == ("none", None, None)


def test_status_sums_up_losses_and_alarms(root: Path) -> None:
    """Whoever writes such events, and however oddly."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for payload in ({"count": 3}, {"count": 4}, {"count": "many"}, {}):
        recorder.emit("events_dropped", payload)
    recorder.emit("index_alarm", {})
    recorder.shutdown()
    Indexer(root).catch_up()
    found = status(root)
    assert (found.dropped, found.alarms) == (7, 1)


def test_status_while_the_index_is_held(store: ReadStore, root: Path) -> None:
    """It says by whom, and does not wait for long."""
    with index_file.writing(root):
        found = status(root, wait_s=0.1)
    assert found.index == "busy"
    assert len(found.held_by) == 1
    assert found.segments == 3


# -- SQL -------------------------------------------------------------------------------------


def test_sql_gives_rows_with_names_and_types(store: ReadStore) -> None:
    """With parameters by place or name; `cut` tells that there were more."""
    result = store.sql("SELECT event_type, count(*) AS n FROM events WHERE cycle = ? GROUP BY 1 ORDER BY 1", [1])
    assert result.dicts() == [{"event_type": "a", "n": 6}, {"event_type": "b", "n": 2}]
    assert (result.columns, result.types, result.cut) == (["event_type", "n"], ["VARCHAR", "BIGINT"], False)
    assert store.sql("SELECT $x + 1", {"x": 1}).rows == [(2,)]
    assert store.sql("FROM range(10)", row_limit=4).rows == [(0,), (1,), (2,), (3,)]
    assert store.sql("FROM range(10)", row_limit=4).cut
    assert store.sql("SELECT 1 -- comment\n;").rows == [(1,)]


def test_times_with_a_zone_come_in_utc(store: ReadStore) -> None:
    """`now()` is one; also inside a list, and twice under one name."""
    ((moment, again, nested),) = store.sql("SELECT now() AS a, now() AS a, [now()]").rows
    assert moment == again == nested[0]
    assert moment.utcoffset() == timedelta()
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)
    zoned = store.sql("SELECT '2026-01-01T12:00:00+02:00'::TIMESTAMPTZ").rows
    assert zoned == [(datetime(2026, 1, 1, 10, tzinfo=UTC),)]


@pytest.mark.parametrize(
    "query", ["SHOW TABLES", "DESCRIBE events", "SUMMARIZE events", "EXPLAIN SELECT 1", "VALUES (1)"]
)
def test_questions_about_the_schema_are_welcome(store: ReadStore, query: str) -> None:
    """They only read."""
    assert store.sql(query).rows


def test_arrow_and_pandas(store: ReadStore) -> None:
    """The same rows."""
    query = "SELECT event_type, count(*) AS n FROM events GROUP BY 1 ORDER BY 1"
    assert store.arrow(query).to_pylist() == [{"event_type": "a", "n": 30}, {"event_type": "b", "n": 10}]
    assert store.pandas(query)["n"].tolist() == [30, 10]


def attempts(outside: Path) -> dict[str, str]:
    """Ways out of the sandbox. `outside` is a file that must be neither read nor written."""
    return {
        "read a file": f"SELECT * FROM read_text('{outside}')",
        "read a file as CSV": f"SELECT * FROM read_csv('{outside}')",
        "read a file by name": f"SELECT * FROM '{outside}.csv'",
        "list files": "SELECT * FROM glob('/*')",
        "sniff": f"SELECT * FROM sniff_csv('{outside}')",
        "describe a file": f"DESCRIBE SELECT * FROM read_csv('{outside}')",
        "read in a subquery": f"SELECT (SELECT content FROM read_text('{outside}'))",
        "read in a macro": f"WITH x AS MATERIALIZED (SELECT * FROM read_blob('{outside}')) FROM x",
        "read the net": "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "attach": f"ATTACH '{outside}.db' AS other",
        "copy out": f"COPY events TO '{outside}'",
        "copy in": f"COPY events FROM '{outside}'",
        "export": f"EXPORT DATABASE '{outside}.d'",
        "install": "INSTALL httpfs",
        "load": "LOAD httpfs",
        "unlock": "SET enable_external_access = true",
        "pragma": "PRAGMA enable_external_access",
        "call": "CALL pragma_version()",
        "insert": "INSERT INTO events SELECT * FROM events",
        "delete": "DELETE FROM events",
        "update": "UPDATE events SET run_id = 'x'",
        "drop": "DROP TABLE events",
        "create": "CREATE TABLE x AS SELECT 1",
        "create temporary": "CREATE TEMP TABLE x AS SELECT 1",
        "two statements": "SELECT 1; DROP TABLE events",
        "hidden second statement": "SELECT 1 /* ; */; DELETE FROM events --",
        "transaction": "BEGIN",
        "checkpoint": "CHECKPOINT",
        "prepare": "PREPARE x AS DELETE FROM events",
        "explain analyze of a write": "EXPLAIN ANALYZE DELETE FROM events",
        "unknown to Python": "UPDATE EXTENSIONS",
        "operator by name": """SELECT "="({'a': 1}, 'x')""",
        "operator by name, explained": """EXPLAIN ANALYZE SELECT "<"({'a': 1}, [1])""",
        "operator by name, behind a comment": """/**/ EXPLAIN SELECT "!="({'a': 1}, [1])""",
        "operator by name, as a method": """SELECT list_transform([1], lambda x: x."IS DISTINCT FROM"({'a': 1}))""",
        "text as a query": "FROM query('SELECT 1')",
        "JSON as a query": "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "very deep": f"SELECT {'[' * 900}1{']' * 900}",
        "python variable": "SELECT * FROM secret_rows",
        "nothing": " ; ",
        "nonsense": "SELEC",
        "out of the COPY": f"SELECT 1) TO '{outside}' (FORMAT csv); --",
    }


@pytest.mark.parametrize("how", attempts(Path("x")))
@pytest.mark.parametrize("way", ["sql", "copy", "arrow"])
def test_sql_sees_the_index_and_nothing_else(store: ReadStore, root: Path, tmp_path: Path, how: str, way: str) -> None:
    """Each attempt is refused, and index and file are as before."""
    outside = tmp_path / "outside"
    outside.write_text("secret,1\n")
    (tmp_path / "outside.csv").write_text("secret,1\n")
    secret_rows = duckdb.values([42])
    before = digest_of(root)
    query = attempts(outside)[how]
    ways: dict[str, Callable[[str], object]] = {
        "sql": store.sql,
        "arrow": store.arrow,
        "copy": lambda query: store.copy(query, tmp_path / "answer.csv", "csv"),
    }
    with pytest.raises(QueryFailed):
        ways[way](query)
    assert secret_rows.fetchall() == [(42,)]
    assert digest_of(root) == before
    assert outside.read_text() == "secret,1\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "outside", "outside.csv", "root"]


def test_a_query_that_runs_for_ever_is_stopped(store: ReadStore) -> None:
    """And the index is let go of."""
    started = time.monotonic()
    with pytest.raises(QueryFailed, match=r"stopped after 0\.3 s"):
        store.sql("SELECT count(*) FROM range(10000000000) a, range(10000000000) b", timeout_s=0.3)
    assert time.monotonic() - started < 10
    assert store.sql("SELECT 1").rows == [(1,)]


def test_what_does_not_fit_into_memory_leaves_the_disk_to_the_log(store: ReadStore, root: Path) -> None:
    """At most a tenth of what is free is used to spill to."""
    ((value,),) = store.sql("SELECT value FROM duckdb_settings() WHERE name = 'max_temp_directory_size'").rows
    gib = float(value.removesuffix(" GiB")) if value.endswith("GiB") else 0.0
    assert gib <= shutil.disk_usage(root).free / 2**30 / 9


def test_a_question_is_put_to_the_hardened_duckdb_alone(store: ReadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the module would start another one, with all ways out open."""
    for name in ("extract_statements", "execute", "sql", "query"):
        monkeypatch.setattr(duckdb, name, None)
    parsed_under = []

    def check(connection: duckdb.DuckDBPyConnection, query: str) -> sandbox.Checked:
        settings = "SELECT current_setting('enable_external_access'), current_setting('lock_configuration')"
        parsed_under.append(connection.execute(settings).fetchone())
        return real(connection, query)

    real = sandbox.check
    monkeypatch.setattr(sandbox, "check", check)
    assert store.sql("SELECT 1").rows == [(1,)]
    assert parsed_under == [(False, True)]


def own_files(root: Path) -> dict[str, str]:
    """Ways to files that DuckDB itself may read: its temporary ones, and the index."""
    temporary = root / "index.duckdb.tmp"
    places = [temporary / "spilled.csv", temporary / "*", index_file.index_path(root), root / "index.duckdb.wal"]
    places += [Path("index.duckdb"), Path("index.duckdb.tmp/spilled.csv")]
    forms = [
        "FROM read_text('{}')", "FROM read_blob('{}')", "FROM read_csv('{}')", "FROM glob('{}')",
        "FROM sniff_csv('{}')", "FROM '{}'", 'SELECT * FROM "{}" AS x', "DESCRIBE '{}'", "SUMMARIZE '{}'",
        "FROM (SHOW '{}')", "EXPLAIN FROM '{}'",
        "FROM query_table('{}')", "FROM read_duckdb('{}', table_name := 'segments')", "PIVOT '{}' ON a IN (1)",
        'WITH RECURSIVE "{}" AS (FROM "{}" UNION ALL FROM "{}" WHERE false) FROM "{}"',
        "SELECT json_serialize_plan('FROM ''{}''')", "SELECT (SELECT count(*) FROM '{}')",
    ]  # fmt: skip
    return {f"{form} of {place}": form.replace("{}", str(place)) for form in forms for place in places}


def test_a_query_sees_no_files_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those either that DuckDB needs: others' queries may have spilled there what is in no answer."""
    segment(root, line(1, "a", workspace="mine"), event_type="a")
    index(root)
    temporary = root / "index.duckdb.tmp"
    temporary.mkdir(exist_ok=True)
    (temporary / "spilled.csv").write_text("a,SPILLED\n1,SPILLED\n")
    monkeypatch.chdir(root)
    for store in (ReadStore(root), ReadStore(root, workspace="mine")):
        for how, query in own_files(root).items():
            with pytest.raises(QueryFailed) as caught:
                store.sql(query)
            assert "SPILLED" not in str(caught.value), how
        with pytest.raises(QueryFailed, match=r"no table or view|without database"):
            store.sql("FROM index.duckdb")


def test_names_with_dots_are_those_of_tables(root: Path) -> None:
    """Event types may have them, schemas come before names, and what a recursive WITH has found has one."""
    kind = {"type": "object", "properties": {"n": {"type": "integer"}}}
    described = line(1, "event_schema", payload={"name": "a.csv", "version": 1, "json_schema": kind})
    segment(root, described, event_type="event_schema")
    segment(root, line(2, "a.csv", payload={"n": 7}), event_type="a.csv")
    index(root)
    store = ReadStore(root)
    assert store.sql('SELECT n FROM "a.csv"').rows == [(7,)]
    assert store.sql("SELECT count(*) FROM main.events").rows == [(2,)]
    assert store.sql("SELECT count(*) > 0 FROM information_schema.tables").rows == [(True,)]
    counted = (
        "WITH RECURSIVE r(k, n) USING KEY (k) AS "
        "(SELECT 1, 1 UNION SELECT k, n + 1 FROM recurring.r WHERE n < 5) SELECT n FROM r"
    )
    assert store.sql(counted).rows == [(5,)]


def test_home_is_nobody_elses_business(store: ReadStore) -> None:
    """Errors do not name folders outside of the root."""
    assert store.sql("FROM duckdb_secrets()").rows == []


def test_a_command_that_exhausts_memory_ends_with_an_error(store: ReadStore, run: Run) -> None:
    """What DuckDB's own limit does not count is bounded, too: the kernel kills nobody."""
    done = run("sql", "SELECT list_sum(range(3000000000 // 2))")
    assert done.returncode == 2, done.stderr
    assert "memory" in done.stderr.lower()


def test_a_billion_rows_are_cut_at_the_limit(store: ReadStore) -> None:
    """Without being made first."""
    result = store.sql("FROM range(1000000000)", row_limit=10, timeout_s=20)
    assert (len(result.rows), result.cut) == (10, True)


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv", "parquet"])
def test_copy_writes_whole_files_only(store: ReadStore, tmp_path: Path, format_: Any) -> None:
    """In each format the same rows; an error leaves what was there before."""
    path = tmp_path / f"rows.{format_}"
    query = "SELECT event_type, timestamp, payload FROM events WHERE cycle = ? ORDER BY timestamp, event_id"
    assert store.copy(query, path, format_, [0]) == 8
    reader = {"json": "read_json", "jsonl": "read_json", "csv": "read_csv", "parquet": "read_parquet"}[format_]
    found = duckdb.execute(
        f"SELECT event_type, timestamp::TIMESTAMP, (payload::JSON ->> 'n')::INT FROM {reader}('{path}')"
    ).fetchall()
    assert sorted(row[2] for row in found) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert found[0][1] == START.replace(tzinfo=None)
    before = path.read_bytes()
    with pytest.raises(QueryFailed):
        store.copy("SELECT 1/0, error('no')", path, format_)
    assert path.read_bytes() == before
    assert store.copy(query, path, format_, [0], row_limit=3) == 3
    with pytest.raises(QueryFailed, match="there is no folder"):
        store.copy(query, tmp_path / "nowhere" / "x", format_, [0])


# -- getting at the index --------------------------------------------------------------------


def test_without_an_index_the_error_says_what_to_do(root: Path) -> None:
    """Index first."""
    with pytest.raises(IndexFailed, match=r"there is no index at .*; try: eventlog index"):
        ReadStore(root).sql("SELECT 1")


def test_an_index_of_another_schema_is_not_read(store: ReadStore, root: Path) -> None:
    """Its columns may mean something else."""
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute("UPDATE index_meta SET value = '0' WHERE key = 'schema_version'")
    with pytest.raises(IndexFailed, match=rf"has schema 0, .* reads {schema.SCHEMA_VERSION}; try: eventlog index"):
        store.counts()


def test_copy_leaves_special_files_and_other_files_alone(store: ReadStore, tmp_path: Path) -> None:
    """A pipe is written to, a link is followed, and a file that is called .part is nobody's business."""
    real = tmp_path / "real.csv"
    real.write_text("old")
    (tmp_path / "link.csv").symlink_to(real)
    (tmp_path / "link.csv.part").write_text("mine")
    store.copy("SELECT 1 AS a", tmp_path / "link.csv", "csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert real.read_text() == "a\n1\n"
    assert (tmp_path / "link.csv.part").read_text() == "mine"
    store.copy("SELECT 1 AS a", "/dev/null", "csv")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_json_holds_no_numbers_that_json_does_not_know(store: ReadStore, tmp_path: Path, format_: Any) -> None:
    """NaN and infinities are null."""
    path = tmp_path / "x"
    store.copy("SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS \"b c\", 1.5::DOUBLE AS d, ? AS e", path, format_, [7])
    found = json.loads(path.read_text())
    assert (found[0] if format_ == "json" else found) == {"a": None, "b c": None, "d": 1.5, "e": 7}


def test_large_fields_come_back_as_they_were_emitted(root: Path) -> None:
    """From `event` and `events`; SQL and the raw line have the reference."""
    recorder = Recorder(Config(root=str(root), strict=True))
    prompt = "é\n" * 50_000
    event_id = recorder.emit("llm_call", {"input_messages": prompt, "n": 1.5})
    small = recorder.emit("llm_call", {"n": 2})
    recorder.shutdown()
    Indexer(root).catch_up()
    store = ReadStore(root)
    found = store.event(str(event_id))
    assert found is not None
    assert found.event.data() == {"input_messages": prompt, "n": 1.5}
    assert [event.data() for event in store.events(["llm_call"]).events] == [
        {"input_messages": prompt, "n": 1.5},
        {"n": 2},
    ]
    assert found.event.stored_payload is not None
    stored = json.loads(bytes(found.event.stored_payload))
    assert found.line is not None
    assert json.loads(found.line)["payload"] == stored
    assert len(found.line) < 40_000
    size = (
        """SELECT payload ->> '$.input_messages."$blob".bytes' FROM events WHERE event_type = 'llm_call' ORDER BY ALL"""
    )
    assert store.sql(size).rows == [(str(4 * 50_000 + 2),), (None,)]
    other = store.event(str(small))
    assert other is not None
    assert other.event.stored_payload is None


def test_a_large_field_that_is_lost_is_marked(root: Path) -> None:
    """The rest of the event, and the other events, are there."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": "x" * 100_000, "n": 1})
    recorder.emit("t", {"n": 2})
    recorder.shutdown()
    Indexer(root).catch_up()
    for blob in blobs.list_blobs(root):
        blob.path.unlink()
    first, second = (event.data() for event in ReadStore(root).events().events)
    assert (first["n"], second) == (1, {"n": 2})
    assert "is missing; bring it back with: eventlog restore" in str(blobs.error_of(first["p"]))


def test_a_subclass_may_answer_otherwise(root: Path) -> None:
    """As a program does that audits questions: its methods are asked, and the store's own are there behind them."""
    Recorder(Config(root=str(root))).emit("t")
    Indexer(root).catch_up()
    audited = []

    class Audited(ReadStore):
        def counts(self, *arguments: Any, **options: Any) -> Any:
            audited.append("counts")
            return super().counts(*arguments, **options)

        def sql(self, query: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # a topic until now
            audited.append(query)
            return super().sql(query, *arguments, **options)

    store = Audited(root)
    assert store.sql("SELECT 1").rows == [(1,)]
    assert [count.events for count in store.counts()] == [1]
    assert audited == ["SELECT 1", "counts"]
    assert {"runs", "sql", "costs", "event"} <= set(vars(ReadStore))  # where a test double and `help` look for them


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.events(limit=0),
        lambda store: store.events(where={"nope": 1}),
        lambda store: store.events(since="yesterday"),
        lambda store: store.events(after="zzz"),
        lambda store: store.event("zzz"),
        lambda store: store.counts(bucket="eon"),
    ],
)
def test_odd_arguments_are_refused_before_the_index_is_opened(root: Path, ask: Callable[[ReadStore], object]) -> None:
    """There is none here; where there is one, nobody waits for it only to be told of a mistake."""
    with pytest.raises(QueryFailed):
        ask(ReadStore(root))


def test_one_name_may_be_given_by_itself(root: Path) -> None:
    """A text is a name, not the names of its letters."""
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("alpha", {"text": "retention"})
    recorder.emit("beta", {"text": "retention"})
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert [event.event_type for event in store.events("alpha").events] == ["alpha"]
    assert store.counts("alpha") == store.counts(["alpha"]) != []
    assert store.search("retention", event_types="alpha").matches == 1
    assert store.metrics(by="agent") == store.metrics(by=["agent"])  # type: ignore[arg-type]  # a Collection of groups


def test_a_store_says_which_one_it_is(root: Path) -> None:
    """In a shell, and without an index: nothing is opened for it."""
    assert repr(ReadStore("runs")) == "ReadStore('runs')"
    store = ReadStore(Path("runs"), workspace="acme")
    assert repr(store) == "ReadStore('runs', workspace='acme')"
    assert repr(store.runs) == "RunAnswers('runs', workspace='acme')"
    assert repr(store.sql) == "Select('runs', workspace='acme')"
    assert repr(ReadStore(root)) == f"ReadStore({str(root)!r})"
    assert not root.exists()


@pytest.mark.parametrize("topic", ["events", "runs", "sessions", "alerts"])
def test_help_of_a_list_calls_it_list(tmp_path: Path, topic: str) -> None:
    """Of the method and of its class, with the docstring once; and what is called is the same method."""
    answers = getattr(ReadStore(tmp_path), topic)
    assert answers.__call__ == answers.list
    shown = pydoc.plain(pydoc.render_doc(answers.list)).splitlines()
    assert shown[0].startswith("Python Library Documentation: method list in ")
    assert shown[2].startswith("list(")
    of_class = pydoc.plain(pydoc.render_doc(type(answers)))
    assert " |  list(self, " in of_class
    assert of_class.count(answers.list.__doc__.splitlines()[0]) == 1
