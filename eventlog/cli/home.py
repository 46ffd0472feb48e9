"""`eventlog` without a command: what is recorded, and what to do next."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from eventlog.cli import agents
from eventlog.cli.main import existing_root, resolved, tell
from eventlog.cli.text import counted, printable
from eventlog.config import Mode, Resolved
from eventlog.errors import EventlogError
from eventlog.importers.recognition import title
from eventlog.log import layout

#: Counts what is recorded; it needs DuckDB, and is left out where that is missing.
_COUNTS = "eventlog.queries.cli.counts"
_BEGIN = """\
Nothing is recorded yet (in {root}). What next?

  coding agents    {command:<20} what {agents} did and cost
  your own agent   import eventlog as obs; with obs.run("nightly"): …
  made-up agents   eventlog demo        a day of them, to try every command on
  SQL              eventlog sql "FROM events", once something is recorded
  operating        eventlog doctor      whether all is well

All commands: eventlog --help"""
_GO_ON = """\

  eventlog runs             what agents did, newest first; then: eventlog show RUN
  eventlog sessions         conversations, those of coding agents as well
  eventlog cost             what it cost, per day
  eventlog search WORDS     find prompts, answers and errors
  eventlog sql "FROM runs"  ask anything else
  eventlog doctor           whether all is well

All commands: eventlog --help"""


def home() -> None:
    """Print what is recorded in the root of the settings, and which commands show it; or how to begin.

    Raises ConfigError where the root is no folder.
    """
    settings = resolved(None)
    root = settings.config.root
    if settings.config.mode is Mode.OFF:
        tell(f"eventlog is turned off ({_off(settings)}): nothing is recorded.\n\nAll commands: eventlog --help")
        return
    if os.path.exists(root) and not os.path.isdir(root):
        existing_root(None)  # says so
    try:
        segments = layout.list_log(root).segments
    except OSError as error:
        tell(printable(f"The log cannot be read: {error.filename}: {error.strerror}; try: eventlog doctor"))
        return
    recorded = sum(segment.size for segment in segments)
    if not recorded:
        command = "eventlog cost" if settings.wants_agents(is_watched=True) else "eventlog import -h"
        tell(_BEGIN.format(root=printable(_short(root)), command=command, agents=_agents_here()))
        return
    tell(printable(f"{_counts(settings) or _types(segments)} in {_short(root)}."))
    tell(_GO_ON)


def _off(settings: Resolved) -> str:
    return f"mode off, {settings.origins['mode']}" if settings.config.root else "EVENTLOG_DIR is empty"


def _agents_here() -> str:
    try:
        names = [title(agent.source) for agent in agents.agents_here()]
    except (EventlogError, OSError):
        names = []
    return " and ".join(names) or "they"


def _counts(settings: Resolved) -> str:
    """Return what is recorded as counts; "" where they cannot be had now."""
    try:
        counts = importlib.import_module(_COUNTS)
    except ModuleNotFoundError:
        return ""
    text: str = counts.counts(settings.config.root, settings.config.catch_up_s)
    return text


def _types(segments: list[layout.SegmentFile]) -> str:
    types = {segment.event_type for segment in segments}
    return f"Events of {counted(len(types), 'type')}, {sum(segment.size for segment in segments):,} bytes,"


def _short(path: str) -> str:
    """Return a path below the user's home with ~."""
    home_ = os.path.expanduser("~")
    return f"~/{Path(path).relative_to(home_)}" if Path(path).is_relative_to(home_) else path
