"""Times on the command line: in which zone they are shown and read, and what says when.

One zone counts for all times of a command: that of this machine, of --time-zone, or UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar

import click

from eventlog.errors import QueryFailed
from eventlog.format import spoken, timestamps

F = TypeVar("F", bound=Callable[..., Any])

since_option = click.option(
    "--since", metavar="T", help="From T on: a time, an age (2h, 7d), or today, yesterday, monday, 'last week'."
)
until_option = click.option("--until", metavar="T", help="Before T, which is written like that of --since.")


def zone_options(command: F) -> F:
    """Add --utc and --time-zone to a command, as its parameters `utc` and `time_zone`; see `zone_of`."""
    named = click.option(
        "--time-zone", metavar="ZONE", help="Times in this zone, such as Europe/Berlin, instead of the local one."
    )
    return click.option("--utc", is_flag=True, help="Times in UTC instead of the local zone.")(named(command))


def zone_of(utc: bool, name: str | None) -> tzinfo | None:
    """Return the zone that was asked for; None is that of this machine. Raises QueryFailed for an unknown one."""
    if utc and name is not None:
        raise click.UsageError("use either --utc or --time-zone")
    return UTC if utc else None if name is None else timestamps.zone_named(name)


def moment(text: str | None, zone: tzinfo | None = None) -> str | None:
    """Return the time that a text names, in the format of events' timestamps; None for None. Raises QueryFailed.

    A time that names no zone is of `zone`, by default that of this machine, in which commands show times.
    """
    if text is None:
        return None
    try:
        return timestamps.to_text(spoken.read(text, zone, datetime.fromtimestamp(time.time(), UTC)))
    except ValueError:
        raise QueryFailed(f"{text!r} is not a time; use {spoken.UNDERSTOOD}") from None
