"""The DuckDB versions that the fence of a workspace was checked with.

The views of a workspace (see `workspace`) hide other workspaces as long as DuckDB plans and binds queries as it does in
these versions, and the functions that a query may call (see `functions`) do what they do there. With any other DuckDB,
a workspace is answered from a copy of its rows: slower, but there is nothing else to find.

To add a version: run the tests of the workspaces with it, review the changes in its list of functions, and add what
`fingerprint` returns. `test_the_running_duckdb_was_checked` fails when it is missing.
"""

from __future__ import annotations

import hashlib

import duckdb

from eventlog.queries.access.functions import FUNCTIONS, TABLE_FUNCTIONS

#: DuckDB version → the result of `fingerprint` when it was checked.
CHECKED = {
    "2.0.0": "c8ac7f56fd714d19",
    "2.0.1": "4c72232a1bad040a",
}
_results: dict[str, bool] = {}
_FUNCTIONS = """
    SELECT DISTINCT lower(function_name), function_type, coalesce(stability, ''), coalesce(macro_definition, '')
    FROM duckdb_functions()
    WHERE database_name = 'system' AND lower(function_name) IN (SELECT unnest(?::VARCHAR[]))
"""


def is_checked(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the running DuckDB is one of those in CHECKED. Cached in the process."""
    version = duckdb.__version__
    if version not in _results:
        _results[version] = version in CHECKED and CHECKED[version] == fingerprint(connection)
    return _results[version]


def fingerprint(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a hash of the kind, stability and macro text of the functions that a query of a workspace may call."""
    rows = connection.execute(_FUNCTIONS, [sorted(FUNCTIONS | TABLE_FUNCTIONS)]).fetchall()
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:16]
