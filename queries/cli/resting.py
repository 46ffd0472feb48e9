"""What the answers of reading commands rest on, for `eventlog.cli.keeping`: settings, log, prices, zone, agents.

Each is told before it is read.
"""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from eventlog.cli import keeping
from eventlog.config import files, trust
from eventlog.log import layout
from eventlog.queries import zones
from eventlog.queries.cost import prices

#: Where this machine keeps its own zone.
_LOCAL_ZONE = ("/etc/localtime", "/etc/timezone")


def settings() -> None:
    """The files that settings come from, and the zone of this machine."""
    named = os.environ.get("EVENTLOG_CONFIG")
    paths = [files.project_file(), files.user_file(os.environ), trust.path(os.environ), Path(named) if named else None]
    keeping.rests_on(*filter(None, paths), *_LOCAL_ZONE)


def zone(of: tzinfo | None) -> None:
    """The rules of a time zone; None is that of this machine. With the day in either, the answer ends at the latest."""
    names = {getattr(of, "key", None), os.environ.get("TZ", "").removeprefix(":")}
    keeping.rests_on(*(Path(folder, name) for folder in zoneinfo.TZPATH for name in names if name))
    now = datetime.fromtimestamp(keeping.began(), UTC)
    for each in (of, None):
        keeping.ends(zones.day_of(now, each)[1])


def agents() -> None:
    """All that coding agents wrote on this machine."""
    from eventlog.importers import sources  # loads importlib.metadata, which takes longer than to walk the folders

    for source in sources.all_sources():
        for folder in source.default_folders():
            keeping.rests_on(*_below(folder))


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    for inside, folders, names in os.walk(folder):
        yield from (Path(inside, name) for name in (*folders, *names))
        if not keeping.is_on():
            return
        if any(Path(inside, name).is_symlink() for name in folders):  # what is behind it is not walked
            keeping.is_not_kept()


def log(root: str) -> None:
    """The folders of the log, and the segments that may grow. Those that are sealed are passed over by their names."""
    folder = layout.log_folder(root)
    keeping.rests_on(folder)
    try:
        for event_type in list(os.scandir(folder)) if keeping.is_on() else ():
            keeping.rests_on(event_type.path)
            if event_type.is_dir(follow_symlinks=False):
                entries = os.scandir(event_type.path)
                keeping.rests_on(*(entry.path for entry in entries if _may_grow(entry)))
    except FileNotFoundError:
        keeping.rests_on(folder)
    except OSError:
        keeping.is_not_kept()


def _may_grow(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or bool(entry.stat(follow_symlinks=False).st_mode & 0o222)


def price_list() -> None:
    """The price library. The cache of rates says nothing that the library does not."""
    keeping.rests_on(*prices.sources())
