"""`eventlog sql`, `eventlog status`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from eventlog.cli.main import EXIT_FAILED, EXIT_USAGE, existing_root, root_option, say, tell, tell_json, with_root
from eventlog.cli.text import counted, printable_lines
from eventlog.errors import QueryFailed
from eventlog.format import timestamps
from eventlog.queries.access import sandbox
from eventlog.queries.access.selection import Format
from eventlog.queries.cli import options, render
from eventlog.queries.cli.options import Context
from eventlog.queries.status import Status
from eventlog.queries.status import status as look
from eventlog.queries.store import ReadStore
from eventlog.queries.text.units import size

_TABLE_ROWS = 1000
_FILE_ROWS = 10_000_000


@click.command()
@click.argument("query", metavar="QUERY")
@options.format_option("table", *get_args(Format), help="By default that of the output's name, else a table.")
@options.output_option
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Rows at most; {_TABLE_ROWS:,} in a table, {_FILE_ROWS:,} else."
)
@options.timeout_option
@options.reading(json=False)
def sql(
    context: Context, query: str, format_: str | None, output: Path | None, limit: int | None, timeout_s: float
) -> None:
    """Run one SELECT on the index.

    '-' reads it from standard input. It is read-only, without files and network. `eventlog docs schema`
    lists the tables.

    \b
    Example:
      eventlog sql "SELECT event_type, count(*) FROM events GROUP BY ALL"
      eventlog sql "FROM llm_calls" -o calls.parquet
    """
    if format_ == "table" and output is not None:
        raise click.UsageError("--output goes with --format json, jsonl, csv or parquet")
    if format_ is None:
        format_ = "table" if output is None else options.format_of(output)
    if query == "-":
        query = sys.stdin.read()
    store = context.store(timeout_s=timeout_s, on_stuck=_give_up)
    sandbox.bound_process()
    if format_ != "table":
        copy_rows(store, query, [], format_, output, limit or _FILE_ROWS)
        return
    result = store.sql(query, row_limit=limit or _TABLE_ROWS, exact=True)
    render.table(result)
    if result.cut:
        rows = counted(len(result.rows), "row")
        say(f"only the first {rows} {'is' if len(result.rows) == 1 else 'are'} shown; --limit shows more")


def _give_up(error: QueryFailed) -> None:
    """End the process, whatever DuckDB is doing: it only reads, and runs nothing else."""
    say(f"error: {error}")
    os._exit(EXIT_USAGE)


def copy_rows(
    store: ReadStore, query: str, params: Sequence[Any], format_: str, output: Path | None, limit: int | None
) -> None:
    """Write the rows of a query to a file or to standard output."""
    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("parquet is not for terminals; give --output FILE")
    with _target(output) as path:
        rows = store.copy(query, path, msgspec.convert(format_, Format), params, row_limit=limit)
    if limit is not None and rows == limit:
        say(f"{counted(rows, 'row')}, which is the limit; there may be more (--limit)")
    if output is not None:
        say(f"{counted(rows, 'row')} in {output}")


@contextmanager
def _target(output: Path | None) -> Iterator[Path]:
    """Yield the file to write to. For standard output it is a temporary file, copied when it is complete.

    So an error leaves no incomplete answer in a pipe.
    """
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="eventlog-") as folder:
        path = Path(folder) / "rows"
        yield path
        if sys.stdout.isatty():
            with path.open(encoding="utf-8", errors="replace", newline="") as lines:
                for line in lines:
                    click.echo(printable_lines(line), nl=False)
        else:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()


@click.command()
@click.option(
    "--max-lag",
    "max_lag",
    metavar="AGE",
    help="Exit with 1 if the index is further behind: 60s, 15m; also without one.",
)
@options.json_option
@root_option
def status(max_lag: str | None, as_json: bool, root: str | None) -> int:
    """Show the state of log and index.

    What the log holds, how far the index is, and who holds it.

    \b
    Example:
      eventlog status
      eventlog status --max-lag 60s
      eventlog status --json | jq .lag_bytes
    """
    max_lag_s = None if max_lag is None else timestamps.age_s(max_lag)
    if max_lag is not None and max_lag_s is None:
        raise QueryFailed(f"--max-lag {max_lag!r} is not a length of time; use one like 60s, 15m, 2h")
    state = look(existing_root(root))
    if as_json:
        tell_json(state)
    else:
        tell("\n".join(f"{name:12} {value}" for name, value in _lines(state)))
    return 0 if max_lag_s is None else _late(state, max_lag_s)


def _late(state: Status, max_lag_s: float) -> int:
    """Return the exit code for monitoring, and say why it is not 0."""
    if state.lag_s is None:
        say(f"the lag is not known: index {state.index}")
        return EXIT_FAILED
    if state.lag_s > max_lag_s:
        say(f"the index is {state.lag_s:,.1f} s behind, more than {max_lag_s:,g} s; try: eventlog index")
        return EXIT_FAILED
    return 0


def _lines(state: Status) -> list[tuple[str, str]]:
    def number(value: int | None) -> str:
        return "unknown" if value is None else f"{value:,}"

    index = {"none": with_root("none; try: eventlog index"), "busy": "busy; held by another process"}.get(
        state.index, state.index if state.index != "ok" else size(state.index_bytes)
    )
    lag = "unknown"
    if state.lag_bytes is not None:
        lag = "none" if not state.lag_bytes else f"{size(state.lag_bytes)}, {state.lag_s:,.1f} s"
    lines = [
        ("root", state.root),
        ("segments", f"{state.segments:,} ({size(state.log_bytes)})"),
        ("index", index),
        ("events", number(state.events) + ("" if state.events is None else " in the log")),
        ("rows", number(state.rows) + ("" if state.rows is None else f" in the index{_left_out(state)}")),
        ("quarantined", number(state.quarantined)),
        ("dropped", number(state.dropped)),
        ("alarms", number(state.alarms)),
        ("lag", lag),
        ("held by", ", ".join(state.held_by) or "nobody"),
    ]
    return lines + [("left alone", oddity) for oddity in state.oddities]


def _left_out(state: Status) -> str:
    """Return which events of the log are no rows: `: without 12 copies from other sessions`."""
    events, rows, copies, conflicts = (each or 0 for each in (state.events, state.rows, state.copies, state.conflicts))
    repeated = max(events - rows - copies - conflicts, 0)
    parts = [
        f"{copies:,} copied from other sessions" if copies else "",
        f"{repeated:,} that came again" if repeated else "",
        f"{conflicts:,} in conflict with earlier ones (in quarantine)" if conflicts else "",
    ]
    named = ", ".join(filter(None, parts))
    return f": without {named}" if named else ""
