"""The DuckDB versions that the fence of a workspace was checked with.

The views of a workspace (see `workspace`) keep others out as long as DuckDB plans and binds a query the way it
does in these versions, and as long as the functions that a query may call (see `functions`) do what they do there.
With any other DuckDB a workspace is answered from a copy of its rows: slower, and nothing of others is there to find.

To add a version: run the tests of the workspaces with it, look at what changed in its list of functions, and
put here what `fingerprint` returns. `test_the_running_duckdb_was_checked` says so when it is missing.
"""

from __future__ import annotations

import hashlib

import duckdb

from eventlog.queries.access.functions import FUNCTIONS, TABLE_FUNCTIONS

#: Version, and what `fingerprint` returned when it was checked.
CHECKED = {
    "2.0.0": "c8ac7f56fd714d19",
    "2.0.1": "4c72232a1bad040a",
}
_results: dict[str, bool] = {}


def is_checked(connection: duckdb.DuckDBPyConnection) -> bool:
    """Say whether the running DuckDB is one of those in CHECKED. It is asked for its functions once in a process."""
    version = duckdb.__version__
    if version not in _results:
        _results[version] = version in CHECKED and CHECKED[version] == fingerprint(connection)
    return _results[version]


def fingerprint(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a hash of what the running DuckDB says about the functions that a query of a workspace may call.

    That is the kind of each one, whether it looks at more than its arguments (`stability`), and the text of a macro.
    """
    rows = connection.execute(
        "SELECT DISTINCT lower(function_name), function_type, coalesce(stability, ''), coalesce(macro_definition, '') "
        "FROM duckdb_functions() "
        "WHERE database_name = 'system' AND lower(function_name) IN (SELECT unnest(?::VARCHAR[]))",
        [sorted(FUNCTIONS | TABLE_FUNCTIONS)],
    ).fetchall()
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:16]
