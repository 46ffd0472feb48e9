"""SQL that tries to escape the sandbox, to break something, or to run forever."""

# ruff: noqa: E501 - lists to leaf through

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import duckdb


def refused(secret: Path, root: Path) -> list[str]:
    """Return attempts at files, the network, settings and writes. `secret` is a file that nobody may read."""
    path, index = str(secret), str(root / "index.duckdb")
    readers = [
        "read_csv", "read_csv_auto", "read_text", "read_blob", "read_json", "read_json_auto", "read_ndjson",
        "read_json_objects", "read_ndjson_objects", "read_parquet", "parquet_scan", "parquet_metadata",
        "parquet_schema", "parquet_file_metadata", "parquet_full_metadata", "parquet_kv_metadata", "sniff_csv",
        "read_duckdb", "glob",
    ]  # fmt: skip
    places = [path, "/etc/passwd", "/proc/self/environ", "/dev/stdin", f"file://{path}", "http://127.0.0.1:9/x",
              index, f"{index}.wal", f"{index}.tmp/spilled.csv", f"{index}.tmp/*", "s3://b/x", "hf://datasets/x", "*", f"{path}*", f"{root}/log/*/*", ".", "", "/proc/self/fd/0"]  # fmt: skip
    queries = [f"FROM {reader}('{place}')" for reader in readers for place in places]
    queries += [f"FROM {reader}(['{path}', '{path}'])" for reader in readers if reader != "sniff_csv"]
    queries += [f"FROM '{place}'" for place in places if place]
    reads = f"SELECT content FROM read_text('{path}')"
    queries += [
        f"SELECT ({reads})", f"WITH a AS MATERIALIZED ({reads}) FROM a", f"SELECT * FROM events, LATERAL ({reads})",
        f"SELECT error(content) FROM ({reads})", f"SELECT content::INT FROM ({reads})", f"DESCRIBE {reads}",
        f"SUMMARIZE {reads}", f"EXPLAIN ANALYZE {reads}", f"EXPLAIN {reads}", f"FROM query('{reads.replace(chr(39), chr(39) * 2)}')",
        f"FROM query_table('{path}')", f"FROM query_table(['{path}'])", f"PIVOT ({reads}) ON content",
        f"SELECT list_transform([1], lambda x: ({reads}))", f"VALUES (({reads}))", f"{reads} UNION ALL {reads}",
        f"SELECT * FROM events WHERE payload::VARCHAR = ({reads})", f"SELECT 1 ORDER BY ({reads})",
        f"SELECT 1 LIMIT (SELECT length(content) FROM ({reads}))", f"FROM json_execute_serialized_sql(json_serialize_sql('{reads.replace(chr(39), chr(39) * 2)}'))",
        f"FROM read_\u0074ext('{path}\u0000')", f"FROM/**/read_text/**/('{path}') --", f'FROM "read_text"(\'{path}\')',
        f"FROM system.main.read_text('{path}')", f"FROM read_text($${path}$$)", f"FROM read_text(E'{path}')",
        f"FROM READ_TEXT(\n'{path}'\n)", f"FROM read_text('{path[:3]}' || '{path[3:]}')", f"FROM\u00a0read_text('{path}')",
        f"ATTACH '{index}' AS a", f"ATTACH '{path}' AS a (TYPE sqlite)", "ATTACH ':memory:' AS a", "DETACH index", "USE system",
        "INSTALL httpfs", "LOAD httpfs", f"LOAD '{path}'", "FORCE INSTALL json", "UPDATE EXTENSIONS",
        f"COPY events TO '{path}'", f"COPY (FROM events) TO '{path}' (FORMAT json)", f"COPY events FROM '{path}'",
        "COPY FROM DATABASE index TO a", f"EXPORT DATABASE '{path}'", f"IMPORT DATABASE '{path}'",
        "SET enable_external_access = true", "SET GLOBAL memory_limit = '1TB'", "RESET ALL", "RESET memory_limit",
        "SET lock_configuration = false", "SET VARIABLE x = 1", "SET SESSION threads = 1000", "SET temp_directory = '/tmp'",
        "SET allowed_directories = ['/']", "SET search_path = 'x'", "PRAGMA database_list", "PRAGMA enable_profiling",
        "PRAGMA threads=1000", f"PRAGMA log_query_path='{path}'", "PRAGMA show_tables", "CALL pragma_version()",
        "CALL enable_logging()", "CALL checkpoint()", "CALL dbgen(sf = 1)", "CHECKPOINT", "FORCE CHECKPOINT", "VACUUM",
        "ANALYZE", "BEGIN", "COMMIT", "ROLLBACK", "PREPARE x AS SELECT 1", "EXECUTE x", "DEALLOCATE x",
        "CREATE TABLE x (a INT)", "CREATE TEMP TABLE x AS SELECT 1", "CREATE VIEW x AS SELECT 1", "CREATE SEQUENCE x",
        "CREATE MACRO x() AS 1", "CREATE TEMP MACRO x() AS TABLE FROM events", "CREATE SCHEMA x", "CREATE TYPE x AS INT",
        "CREATE SECRET (TYPE s3)", "CREATE INDEX x ON events (event_id)", "CREATE OR REPLACE TABLE events (a INT)",
        "DROP TABLE events", "DROP VIEW quarantine", "ALTER TABLE events ADD COLUMN x INT", "TRUNCATE events",
        "COMMENT ON TABLE events IS 'x'", "INSERT INTO events FROM events", "DELETE FROM events", "UPDATE events SET run_id = 1",
        "MERGE INTO events USING events e ON true WHEN MATCHED THEN DELETE", "INSERT OR REPLACE INTO events FROM events",
        "WITH a AS (DELETE FROM events RETURNING *) FROM a", "FROM (DELETE FROM events RETURNING *)",
        "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE events", "; ; DELETE FROM events", "SELECT 1 /* ; */; DELETE FROM events --",
        "SELECT 1;\u00a0DELETE FROM events", "SELECT '\u0000'; DELETE FROM events", "EXPLAIN ANALYZE DELETE FROM events",
        "EXPLAIN ANALYZE CREATE TABLE x (a INT)", "SELECT 1) TO '/tmp/x' (FORMAT csv); --", "SELEC", "", ";", "--", "/*", "\u0000",
        "SELECT getenv('HOME')", "SELECT * FROM secret_rows", "FROM enable_logging()", "FROM pandas_scan()", "FROM arrow_scan()",
        "FROM python_map_function()", "FROM force_checkpoint()", "FROM seq_scan()",
        "FROM register_external_resource_type('x')", "FROM create_external_resource('x')", "FROM copy_database('a', 'b')",
        "FROM import_database('x')", "SELECT nextval('x')", "SELECT setval('x', 1)", "SELECT currval('x')",
    ]  # fmt: skip
    writes = [
        *(f"COPY (SELECT 'x') TO '{place}' (FORMAT csv{more})" for place in (index, f"{index}.wal", path, f"{root}/new")
          for more in ("", ", USE_TMP_FILE false")),
        f"COPY event_rows TO '{index}' (FORMAT parquet)", "INSERT INTO segments FROM segments RETURNING *",
        "DELETE FROM segments RETURNING *", "UPDATE segments SET released = true RETURNING *",
    ]  # fmt: skip
    for write in writes:
        queries += [
            f"WITH a AS ({write}) FROM a", f"SELECT (WITH a AS ({write}) SELECT count(*) FROM a)",
            f"WITH b AS (WITH a AS MATERIALIZED ({write}) FROM a) FROM b", f"EXPLAIN ANALYZE WITH a AS ({write}) FROM a",
            f"FROM ({write})", f"DESCRIBE WITH a AS ({write}) FROM a",
        ]  # fmt: skip
    for operator in ("=", "!=", "<", "<=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "<>", "+", "||", "[]"):
        queries += [f"""SELECT "{operator}"({{'a': 1}}, {other})""" for other in ("'x'", "[1]", "MAP {'a': 1}", "1")]
    return queries


#: They must end by themselves or be stopped, and must not take the process or the machine with them.
ENDLESS = [
    "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r",
    "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i FROM r, range(10)) SELECT count(*) FROM r",
    "SELECT count(*) FROM range(1000000000000) a, range(1000000000000) b",
    "SELECT count(*) FROM events a, events b, events c, events d, events e, events f, events g",
    "SELECT * FROM range(1000000000000) ORDER BY hash(range)",
    "SELECT DISTINCT range FROM range(1000000000000)",
    "SELECT list(range) FROM range(100000000000)",
    "SELECT string_agg(range::VARCHAR, '') FROM range(100000000000)",
    "SELECT histogram(range) FROM range(100000000000)",
    "SELECT sleep_ms(1000000000)",
    "SELECT pg_sleep(1000000000)",
    "SELECT regexp_matches(repeat('a', 30000000), '(a*)*b')",
    "SELECT regexp_replace(repeat('a', 30000000), '(.*?,){10}', '', 'g')",
    "SELECT regexp_matches('x', '((a{1,100}){1,100}){1,100}')",
    "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))",
    "SELECT sum(sin(a.range) * cos(b.range)) FROM range(10000000) a, range(10000000) b",
    "SELECT count(*) FROM generate_series(TIMESTAMP '0001-01-01', TIMESTAMP '9999-01-01', INTERVAL 1 microsecond)",
    "SELECT * FROM range(1000000000)",
    "SELECT * FROM events, range(1000000000)",
]
#: One call each that DuckDB does not interrupt, or whose values its memory limit does not count.
GREEDY = [
    "SELECT list_sum(range(1500000000))",
    "SELECT length(repeat('x', 10000000000))",
    "SELECT length(lpad('x', 2000000000, 'y'))",
    "SELECT repeat('x', 4000000000) FROM range(3)",
    "SELECT repeat('x', 500000000) FROM range(100)",
    "SELECT list_sort(list_reverse(range(800000000)))",
    "SELECT length(string_agg(repeat('x', 100000000), '')) FROM range(100)",
    "SELECT len(list(repeat('x', 100000000))) FROM range(100)",
    "SELECT list_transform(range(1000000000), lambda x: x::VARCHAR)",
    "SELECT " + " UNION ALL SELECT ".join(["1"] * 6000),
    "SELECT *, * FROM (" * 20 + "SELECT 1" + ")" * 20,
    "SELECT json_structure('[' || repeat('{\"a\":1},', 30000000) || '1]')",
    "SELECT unnest(string_split(repeat('x,', 300000000), ','))",
]


def calls(rng: random.Random, each: int) -> Iterator[str]:
    """Return calls of every function of DuckDB, with odd arguments of about the right types."""
    found = duckdb.execute(
        "SELECT DISTINCT function_name, function_type, parameter_types, varargs FROM duckdb_functions() ORDER BY ALL"
    ).fetchall()
    for name, kind, types, varargs in found:
        # There is one of these per language, all alike.
        if "collate_" in name and "collate_de" not in name:
            continue
        for _ in range(each):
            arguments = [rng.choice(_arguments(type_ or "ANY")) for type_ in types or ()]
            if varargs:
                arguments += [rng.choice(_arguments(varargs)) for _ in range(rng.randint(0, 3))]
            if rng.random() < 0.25:
                arguments = [
                    rng.choice(_arguments(rng.choice(["ANY", "VARCHAR", "BIGINT"]))) for _ in range(rng.randint(0, 4))
                ]
            call = f'"{name.replace(chr(34), chr(34) * 2)}"({", ".join(arguments)})'
            if kind in ("table", "table_macro", "pragma"):
                yield f"FROM {call}"
            else:
                yield f"SELECT {call} FROM (SELECT *, 1 AS x FROM events)" if rng.random() < 0.3 else f"SELECT {call}"


def _arguments(type_: str) -> list[str]:
    if "[]" in type_:
        return ["[]", "[NULL]", "['a', 'b']", "[1, -9223372036854775808]", "NULL"]
    if any(part in type_ for part in ("CHAR", "LITERAL", "JSON")):
        return ["''", "'/etc/passwd'", "'a' || chr(0)", "repeat('[', 100000)", "'{\"a\":1}'", "NULL::VARCHAR"]
    if "BLOB" in type_ or "GEOMETRY" in type_:
        return ["'\\x00\\xff'::BLOB", "''::BLOB", "repeat('a', 70000)::BLOB"]
    if "INT" in type_:
        return ["0", "-1", "9223372036854775807", "-9223372036854775808", "NULL"]
    if any(part in type_ for part in ("DOUBLE", "FLOAT", "DECIMAL")):
        return ["'nan'::DOUBLE", "'inf'::DOUBLE", "1e308", "-0.0"]
    if "DATE" in type_ or "TIME" in type_:
        return ["'infinity'::TIMESTAMP", "'290000-01-01'::TIMESTAMP", "'epoch'::DATE", "NULL"]
    if "INTERVAL" in type_:
        return ["INTERVAL 2147483647 months", "INTERVAL '-9223372036854775807 microseconds'"]
    return ["NULL", "[1, 2]", "{'a': 1}", "'x'", "MAP {'a': 1}", "'\\xff'::BLOB", "1e308", "DATE '2026-01-01'", "-1"]
