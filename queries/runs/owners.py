"""Which processes that own open runs are gone; of processes of this machine, in this boot, that is known at once.

A run names its owner when it starts: machine (`host`), boot of the machine and process (`pid`). What is asked about the
present goes by this: `runs`, `show`, `diff`, metrics, health and alerts. Nobody knows when a process went, so an
answer about another moment goes by silence alone.
"""

from __future__ import annotations

import os

import duckdb

from eventlog.indexer.sql import literal
from eventlog.indexer.views import values
from eventlog.indexer.views.definitions import NOBODY_IS_GONE
from eventlog.process.boot import boot as this_boot

#: The processes of a machine and boot that started runs which did not end as often as they started. The CASE has
#: columns of both sides of the join, so that payloads are parsed behind it: only those of such runs.
_OWNERS = f"""
    SELECT DISTINCT {values.field("pid", "BIGINT")} AS pid
    FROM events JOIN (
        SELECT workspace, run_id, count(*) FILTER (event_type = 'run_started') AS starts
        FROM events WHERE event_type IN ('run_started', 'run_finished') AND run_id IS NOT NULL
        GROUP BY workspace, run_id HAVING 2 * starts > count(*)
    ) AS unended ON events.run_id = unended.run_id AND events.workspace IS NOT DISTINCT FROM unended.workspace
    WHERE event_type = 'run_started'
      AND CASE WHEN starts > 0 THEN payload ->> 'host' = $host AND payload ->> 'boot' = $boot END AND pid IS NOT NULL
    ORDER BY pid
"""


def is_of_here(host: str | None, boot: str | None) -> bool:
    """Say whether the owner of a run is, or was, a process of this machine in this boot: of others nothing is known."""
    return boot is not None and (host, boot) == (os.uname().nodename, this_boot())


def gone(connection: duckdb.DuckDBPyConnection) -> str:
    """Return SQL over the columns of `runs` for whether the process of an open run is gone, by what is known here.

    Such as `(host = 'sun' AND boot = '6e1f…' AND pid IN (4711))`, or `false`.
    """
    host, boot = os.uname().nodename, this_boot()
    if boot is None:
        return NOBODY_IS_GONE
    pids = connection.execute(_OWNERS, {"host": host, "boot": boot}).fetchall()
    dead = [str(pid) for (pid,) in pids if not _is_alive(pid)]
    if not dead:
        return NOBODY_IS_GONE
    return f"coalesce(host = {literal(host)} AND boot = {literal(boot)} AND pid IN ({', '.join(dead)}), false)"


def _is_alive(pid: int) -> bool:
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True
