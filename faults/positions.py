"""Queries with a name in every position where a name may stand, for names that a workspace may and may not see.

In a form, {n} is where the name is read, and {d} where it is defined, such as in a WITH.
"""

# ruff: noqa: E501 - lists to leaf through

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

import duckdb

#: Where a table is read.
_READ = [
    "FROM {n}", "TABLE {n}", "SELECT count(*) FROM {n}", "SELECT x FROM {n} AS x", "SELECT x.* FROM {n} x", "SELECT {n} FROM {n}",
    "SELECT {n}.* FROM {n}", "SELECT COLUMNS(*) FROM {n}", "SELECT COLUMNS('.*name.*') FROM {n}", "SELECT to_json(x) FROM {n} x",
    "SELECT x::VARCHAR FROM {n} x", "DESCRIBE {n}", "DESCRIBE FROM {n}", "SUMMARIZE {n}", "SUMMARIZE FROM {n}", "SHOW {n}",
    "FROM (DESCRIBE {n})", "FROM (SHOW {n})", "FROM (SUMMARIZE {n})", "FROM (DESCRIBE FROM {n})", "DESCRIBE (DESCRIBE {n})",
    "EXPLAIN FROM {n}", "EXPLAIN ANALYZE FROM {n}", "EXPLAIN (FORMAT json) FROM {n}", "FROM (EXPLAIN FROM {n})",
    "FROM {n} LIMIT 0", "FROM {n} AT (VERSION => 1)", "FROM {n} TABLESAMPLE 100%", "FROM {n} USING SAMPLE 1000000 ROWS",
    "SELECT * EXCLUDE (nosuch) FROM {n}", "SELECT nosuch FROM {n}", "SELECT nosuch(x) FROM {n} x", "SELECT x.nosuch FROM {n} x",
    "SELECT rowid FROM {n}", "FROM {n} ORDER BY ALL", "SELECT DISTINCT * FROM {n}", "SELECT error(x::VARCHAR) FROM {n} x",
    "SELECT x::VARCHAR::INT FROM {n} x", "FROM {n} WHERE 1 / 0 = 1", "SELECT NULL::{n}", "SELECT 'a' COLLATE {n}",
    # joins
    "FROM {n} a, {n} b", "FROM {n} a POSITIONAL JOIN {n} b", "FROM events POSITIONAL JOIN {n}", "FROM events SEMI JOIN {n} ON true",
    "FROM events ANTI JOIN {n} ON true", "FROM events NATURAL JOIN {n}", "FROM events e ASOF JOIN {n} x ON e.timestamp >= x.timestamp",
    "SELECT count(*) FROM events LEFT JOIN {n} ON true", "FROM range(1) r, LATERAL (FROM {n})", "FROM range(1) r, {n}",
    "FROM range(1) {n}, LATERAL (FROM {n})", "FROM events {d}, LATERAL (SELECT count(*) FROM {n})",
    "FROM (SELECT 1 AS one) {d}, LATERAL (FROM {n})", "FROM (VALUES (1)) {d}(one) JOIN {n} ON true", "FROM events {d} JOIN {n} ON true",
    "SELECT (SELECT count(*) FROM {n}) FROM events {d}", "SELECT {n}.event_id FROM events AS {d}", "FROM events AS {d}",
    # subqueries
    "SELECT (SELECT count(*) FROM {n})", "SELECT ARRAY(SELECT x::VARCHAR FROM {n} x)", "SELECT EXISTS (FROM {n})",
    "SELECT 1 WHERE EXISTS (FROM {n})", "SELECT 1 IN (SELECT count(*) FROM {n})", "SELECT 1 = ANY (SELECT count(*) FROM {n})",
    "SELECT 1 WHERE 1 < (SELECT count(*) FROM {n})", "SELECT 1 ORDER BY (SELECT count(*) FROM {n})", "SELECT 1 GROUP BY (SELECT count(*) FROM {n})",
    "SELECT 1 HAVING (SELECT count(*) > 0 FROM {n})", "SELECT 1 LIMIT (SELECT count(*) FROM {n})", "SELECT 1 FROM range(9) OFFSET (SELECT count(*) FROM {n})",
    "SELECT 1 FROM events QUALIFY row_number() OVER () < (SELECT count(*) FROM {n})", "SELECT CASE WHEN true THEN (SELECT count(*) FROM {n}) END",
    "SELECT max((SELECT count(*) FROM {n}))", "SELECT count(*) FILTER ((SELECT count(*) > 0 FROM {n})) FROM events",
    "SELECT max(1) OVER (ORDER BY (SELECT count(*) FROM {n}))", "SELECT list_transform([1], lambda x: x + (SELECT count(*) FROM {n}))",
    "SELECT [(SELECT count(*) FROM {n}) FOR x IN [1]]", "SELECT {{'a': (SELECT count(*) FROM {n})}}", "SELECT [(SELECT count(*) FROM {n})]",
    "SELECT coalesce(NULL, (SELECT count(*) FROM {n}))", "SELECT (SELECT x::VARCHAR FROM {n} x LIMIT 1).length()", "VALUES ((SELECT count(*) FROM {n}))",
    "FROM range((SELECT count(*) FROM {n}))", "FROM unnest((SELECT list(x::VARCHAR) FROM {n} x))", "SELECT unnest((SELECT list(x) FROM {n} x))",
    "SELECT e.event_id, (SELECT count(*) FROM {n} x WHERE x::VARCHAR <> e.event_id::VARCHAR) FROM events e ORDER BY 1",
    "SELECT * REPLACE ((SELECT count(*) FROM {n}) AS cycle) FROM events ORDER BY event_id", "FROM (FROM (FROM {n}))", "SELECT 1 BETWEEN 0 AND (SELECT count(*) FROM {n})",
    # sets, pivots
    "SELECT 1 UNION ALL SELECT count(*) FROM {n}", "(FROM {n}) UNION ALL BY NAME (FROM {n})", "SELECT event_id FROM events EXCEPT SELECT 1 FROM {n}",
    "SELECT 1 INTERSECT SELECT count(*) FROM {n}", "FROM (SELECT count(*) AS c FROM {n}) PIVOT (count(*) FOR c IN (0, 1, 2))", "PIVOT (SELECT count(*) AS c FROM {n}) ON c IN (0, 2)",
    "PIVOT {n} ON workspace", "UNPIVOT (SELECT count(*) AS c FROM {n}) ON c", "FROM {n} UNPIVOT (a FOR b IN (COLUMNS(*)::VARCHAR))", "UNPIVOT {n} ON COLUMNS(*)",
    # by text
    "FROM query('FROM {n}')", "FROM query_table('{n}')", "FROM query_table(['{n}', 'events'])", "FROM '{n}'", "FROM seq_scan('{n}')",
    "SELECT json_serialize_plan('FROM {n}')", "FROM json_execute_serialized_sql(json_serialize_sql('FROM {n}'))", "FROM pragma_table_info('{n}')",
    "FROM pragma_storage_info('{n}')", "FROM duckdb_table_sample('{n}')", "FROM summary((FROM {n}))", "SELECT getvariable('{n}')", "SELECT current_setting('{n}')",
]  # fmt: skip

#: What a WITH may be for a name. The last part of each says what is then asked.
_WITHS = [
    "WITH {d} AS (FROM {n})", "WITH {d} AS MATERIALIZED (FROM {n})", "WITH {d} AS NOT MATERIALIZED (FROM {n})", "WITH RECURSIVE {d} AS (FROM {n})",
    "WITH {d} AS (SELECT 1 AS one)", "WITH RECURSIVE {d} AS (SELECT 1 AS one)", "WITH {d}(one) AS (VALUES (1))", "WITH {d} AS (SELECT count(*) AS c FROM {n})",
    "WITH RECURSIVE {d} AS (SELECT * FROM {n} UNION ALL SELECT * FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (SELECT * FROM {n} UNION SELECT * FROM {n})",
    "WITH RECURSIVE {d} AS (SELECT 1 AS one UNION ALL SELECT one + 1 FROM {n} WHERE one < 3)", "WITH RECURSIVE {d} AS (SELECT count(*) AS c FROM {n} UNION ALL SELECT c FROM {n} WHERE false)",
    "WITH RECURSIVE {d}(c) USING KEY (c) AS (SELECT count(*) FROM {n} UNION SELECT c FROM recurring.{n} WHERE false)",
    "WITH RECURSIVE {d} AS ((SELECT x::VARCHAR AS c FROM {n} x) UNION ALL (SELECT c FROM {n} WHERE false))",
    "WITH RECURSIVE {d} AS (DESCRIBE {n} UNION ALL FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (FROM (DESCRIBE {n}) UNION ALL FROM {n} WHERE false)",
    "WITH RECURSIVE {d} AS (FROM (SUMMARIZE {n}) UNION ALL FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (FROM (SHOW {n}) UNION ALL FROM {n} WHERE false)",
    "WITH RECURSIVE {d} AS (WITH inner_ AS (FROM {n}) FROM inner_ UNION ALL FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (SELECT 1 AS one UNION ALL (WITH inner_ AS (FROM {n}) SELECT one + 1 FROM inner_ WHERE one < 3))",
    "WITH RECURSIVE {d} AS (SELECT 1 AS one UNION ALL (WITH {d} AS (FROM {n}) SELECT one + 1 FROM {n} WHERE one < 3))", "WITH RECURSIVE {d} AS (WITH {d} AS (FROM {n}) FROM {n} UNION ALL FROM {n} WHERE false)",
    "WITH RECURSIVE {d} AS (SELECT (SELECT count(*) FROM {n}) AS c UNION ALL SELECT c FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (FROM range(1) r, LATERAL (FROM {n}) UNION ALL FROM {n} WHERE false)",
    "WITH RECURSIVE other AS (SELECT 1 AS one UNION ALL SELECT one + 1 FROM other, {n} WHERE one < 2), {d} AS (SELECT 1 AS one)", "WITH other AS (FROM {n}), {d} AS (SELECT 1 AS one)",
    "WITH {d} AS (SELECT 1 AS one), other AS (FROM {n})", "WITH RECURSIVE {d} AS (SELECT 1 AS one UNION ALL SELECT one FROM {n} WHERE false), {d}_ AS (FROM {n})",
    "WITH RECURSIVE {d} AS ((FROM {n} UNION ALL FROM {n}) UNION ALL FROM {n} WHERE false)", "WITH RECURSIVE {d} AS ((WITH RECURSIVE {d} AS (FROM {n} UNION ALL FROM {n} WHERE false) FROM {n}) UNION ALL FROM {n} WHERE false)",
    "WITH RECURSIVE {d} AS (PIVOT (SELECT count(*) AS c FROM {n}) ON c IN (0) UNION ALL FROM {n} WHERE false)", "WITH RECURSIVE {d} AS (SELECT 1 AS one FROM {n} POSITIONAL JOIN events UNION ALL FROM {n} WHERE false)",
]  # fmt: skip
_ASKED = ["FROM {n}", "SELECT count(*) FROM {n}", "SELECT (SELECT count(*) FROM {n})", "FROM (DESCRIBE {n})", "FROM (SUMMARIZE {n})", "FROM (SHOW {n})", "SELECT x FROM {n} x",
          "(FROM {n}) UNION ALL (WITH {d} AS (SELECT 1) FROM {n})", "FROM runs, {n}", "SELECT count(*) FROM events", "FROM other", "SELECT (WITH {d} AS (FROM {n}) SELECT count(*) FROM {n})"]  # fmt: skip

FORMS = [*_READ, *(f"{with_} {asked}" for with_, asked in itertools.product(_WITHS, _ASKED))]

#: How a name may be written where it is read.
_SPELLED = [
    "{0}", "{0}", "{0}", '"{0}"', "{1}", '"{1}"', "{0}()", "main.{0}", "memory.{0}", "memory.main.{0}", "system.main.{0}", "pg_catalog.{0}",
    "information_schema.{0}", "temp.{0}", "recurring.{0}", '"index".{0}', "/**/{0}", "{0}\n",
]  # fmt: skip


def catalog() -> list[str]:
    """Return the names of DuckDB's own tables and table functions."""
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE internal UNION "
            "SELECT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro') ORDER BY ALL"
        ).fetchall()
    return [row[0] for row in found]


def queries(rng: random.Random, names: Iterable[str], each: int) -> Iterator[str]:
    """Yield `each` queries for every name, in forms and spellings drawn at random."""
    for name in names:
        for form in rng.sample(FORMS, min(each, len(FORMS))):
            read = name if rng.random() < 0.75 else rng.choice(_SPELLED).format(name, name.upper())
            given = rng.choice([name, name, f'"{name}"', name.upper()])
            yield form.format(n=read, d=given)
