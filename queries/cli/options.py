"""What the commands that read have in common: which root, whose workspace, since when, in what form."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from eventlog.cli.main import existing_root, moment, root_option, tell_json
from eventlog.queries.store import ReadStore

F = TypeVar("F", bound=Callable[..., Any])

utc_option = click.option("--utc", is_flag=True, help="Times in UTC instead of the local zone.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
since_option = click.option("--since", metavar="T", help="From T on: ISO 8601, or an age like 90s, 15m, 2h, 7d.")
until_option = click.option("--until", metavar="T", help="Before T.")
workspace_option = click.option("--workspace", metavar="W", help="See this workspace and nothing else.")
limit_option = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1, max=1000), help="How many at most."
)
wait_option = click.option(
    "--wait",
    "wait_s",
    default=30.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for the indexer to let go of the index.",
)


def reading(command: F) -> F:
    """Add --workspace, --wait and --root: the parameters `workspace`, `wait_s` and `root`."""
    return workspace_option(wait_option(root_option(command)))


def store(root: str | None, workspace: str | None, wait_s: float, **limits: Any) -> ReadStore:
    """Return the store that these options name, with further limits of a ReadStore.

    It is kept: to take a DuckDB apart, with what a question has left in it, takes longer than many questions, and when
    the process ends the kernel does it. The index itself is let go of after each question.
    """
    global _last
    _last = ReadStore(existing_root(root), workspace=workspace, wait_s=wait_s, **limits)
    return _last


_last: ReadStore | None = None


def when(text: str | None) -> datetime | None:
    """Return the moment that --since or --until names, in UTC. Raises QueryFailed."""
    found = moment(text)
    return None if found is None else datetime.fromisoformat(found)


def shown(time: datetime | None, *, utc: bool) -> str:
    """Return a time for people, to the second: in the local zone, or in UTC with a Z."""
    if time is None:
        return ""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return f"{aware.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if utc else f"{aware.astimezone():%Y-%m-%d %H:%M:%S}"


def echo_json(answer: object) -> None:
    """Print an answer as JSON: structs as objects, times in UTC, decimals as text."""
    tell_json(answer)


def page(text: str) -> None:
    """Print text: in a terminal, page by page where it is longer than the screen; in a pipe as it is."""
    if sys.stdout.isatty() and text.count("\n") + 2 > shutil.get_terminal_size().lines:
        click.echo_via_pager(text + "\n")
    else:
        click.echo(text)
