"""The layout of a root on disk, and listing its segments.

    <root>/log/<event_type>/<segment>.jsonl
    <root>/log/<event_type>/<segment>.jsonl.zst    the same, sealed and archived
    <root>/index.duckdb

Listing never follows a symbolic link and never trusts a name: an entry that is no segment
is listed as skipped, and left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import EventlogError
from eventlog.format.envelope import EVENT_TYPE, MAX_LINE_BYTES, decode
from eventlog.log import zst

SUFFIX = ".jsonl"
ARCHIVE_SUFFIX = SUFFIX + zst.SUFFIX
#: Ends the name of a file that is being written beside its final path. A crash may leave one.
PART_SUFFIX = ".part"
_NAME = re.compile(r"([0-9]{8}T[0-9]{12}Z)-[0-9a-f]{16}")
_EPOCH_ORDINAL = 719_163  # datetime(1970, 1, 1).toordinal()
_STAMP_PARTS = ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15), (15, 21))


class SegmentFile(NamedTuple):
    """A segment as its folder lists it. `name` (`20260102T030405000000Z-0123456789abcdef`) is its identity.

    `size` counts uncompressed bytes; `sealed`: it has no write permission, or is archived.
    """

    name: str
    event_type: str
    path: Path
    size: int
    mtime_ns: int
    sealed: bool
    archived: bool = False


class SkippedEntry(NamedTuple):
    """An entry of the log that eventlog does not read, and why: `the name is not that of a segment`."""

    path: Path
    reason: str


class Listing(NamedTuple):
    """All segments sorted by (event_type, name), and the entries that are none."""

    segments: list[SegmentFile]
    skipped: list[SkippedEntry]


def log_folder(root: str | Path) -> Path:
    """Return the folder that holds one folder per event type: `<root>/log`."""
    return Path(root) / "log"


def segment_path(root: str | Path, event_type: str, name: str) -> Path:
    """Return the path of a plain segment: `<root>/log/<event_type>/<name>.jsonl`."""
    return log_folder(root) / event_type / (name + SUFFIX)


def exists(root: str | Path, event_type: str, name: str) -> bool:
    """Say whether the log has a segment, plain or archived."""
    path = segment_path(root, event_type, name)
    return os.path.lexists(path) or os.path.lexists(archive_of(path))


def new_segment_name(created_ns: int) -> str:
    """Return `<created, UTC>-<64 random bits in hex>`: unique without coordination, and sorted by creation."""
    # By hand, because strftime imports modules: this also runs while the interpreter ends, when imports fail.
    year, month, day, hour, minute, second, *_ = time.gmtime(created_ns // 1_000_000_000)
    stamp = f"{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{created_ns // 1000 % 1_000_000:06}Z"
    return f"{stamp}-{os.urandom(8).hex()}"


def created_s(name: str) -> float | None:
    """Return when a segment was created, in seconds since the epoch; None if that is no segment's name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    # By hand, because strptime imports and locks: this also runs inside signal handlers. And without the
    # arithmetic of datetime, in which Python 3.13.0 crashes while the interpreter ends.
    digits = match[1]
    year, month, day, hour, minute, second, microsecond = (int(digits[start:end]) for start, end in _STAMP_PARTS)
    try:
        days = datetime(year, month, day, hour, minute, second, tzinfo=UTC).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    return days * 86_400 + hour * 3600 + minute * 60 + second + microsecond / 1e6


def list_log(
    root: str | Path, event_types: Iterable[str] | None = None, *, skip: Container[str] = frozenset()
) -> Listing:
    """List the log, or only some types of it. A root without a log gives an empty listing.

    Segments whose names are in `skip` are left out, which saves a stat(2) of each. Raises OSError.
    """
    wanted = None if event_types is None else frozenset(event_types)
    listing = Listing([], [])
    for folder in _entries(log_folder(root)):
        if wanted is not None and folder.name not in wanted:
            continue
        if folder.is_symlink():
            listing.skipped.append(SkippedEntry(Path(folder.path), "a symbolic link, not followed"))
        elif not folder.is_dir(follow_symlinks=False):
            listing.skipped.append(SkippedEntry(Path(folder.path), "not a folder"))
        elif not EVENT_TYPE.fullmatch(folder.name):
            listing.skipped.append(SkippedEntry(Path(folder.path), "the name is not an event type"))
        else:
            _list_folder(folder, listing, skip)
    return _without_namesakes(listing)


def _without_namesakes(listing: Listing) -> Listing:
    """Keep one segment of each name: a name is an identity, so a copy in another folder is no second segment.

    The one whose first line is of its folder's type wins, or a stray copy would keep it from being read.
    """
    if len({segment.name for segment in listing.segments}) == len(listing.segments):
        return listing
    by_name: dict[str, list[SegmentFile]] = {}
    for segment in listing.segments:
        by_name.setdefault(segment.name, []).append(segment)
    chosen = {name: next(filter(_is_at_home, same), same[0]) for name, same in by_name.items() if len(same) > 1}
    for segment in listing.segments:
        holder = chosen.get(segment.name, segment)
        # A plain file beside its archive: archiving was interrupted before it deleted it.
        if holder is not segment and holder.event_type != segment.event_type:
            listing.skipped.append(SkippedEntry(segment.path, f"{holder.path} has the same name"))
    unique = [segment for segment in listing.segments if chosen.get(segment.name, segment) is segment]
    return Listing(unique, listing.skipped)


def _is_at_home(segment: SegmentFile) -> bool:
    """Say whether a segment begins with a line of the type of its folder."""
    try:
        with zst.open_segment(segment.path) as file:
            line = file.pread(MAX_LINE_BYTES + 1, 0).partition(b"\n")[0]
        return decode(line).envelope.event_type == segment.event_type
    except (OSError, EventlogError):
        return False


def refreshed(segment: SegmentFile) -> SegmentFile | None:
    """Return a listed segment as it is now; None where it was deleted. Raises OSError."""
    return _refreshed(segment.event_type, segment.name, segment.path)


def _refreshed(event_type: str, name: str, listed: Path) -> SegmentFile | None:
    """Describe a segment that may have been archived, or deleted, since it was listed."""
    try:
        return _described(event_type, name, listed, listed.lstat())
    except FileNotFoundError:
        path = archive_of(listed)
    try:
        return _described(event_type, name, path, path.lstat())
    except FileNotFoundError:
        return None


def archive_of(path: Path) -> Path:
    """Return the path of a segment's archive, from its plain or its archived path."""
    return path if path.name.endswith(ARCHIVE_SUFFIX) else zst.archived_path(path)


def _described(event_type: str, name: str, path: Path, stat: os.stat_result) -> SegmentFile | None:
    """Describe a segment's file; None for an archive that is no zstd file."""
    if not path.name.endswith(ARCHIVE_SUFFIX):
        return SegmentFile(name, event_type, path, stat.st_size, stat.st_mtime_ns, not stat.st_mode & 0o222)
    size = zst.content_size(path)
    return None if size is None else SegmentFile(name, event_type, path, size, stat.st_mtime_ns, True, True)


def list_type(root: str | Path, event_type: str) -> list[SegmentFile]:
    """List the segments of one type, oldest first. Raises OSError."""
    return list_log(root, [event_type]).segments


def _list_folder(folder: os.DirEntry[str], listing: Listing, skip: Container[str]) -> None:
    for entry in _entries(Path(folder.path)):
        if entry.name.endswith(PART_SUFFIX):
            continue
        name = entry.name.removesuffix(zst.SUFFIX).removesuffix(SUFFIX)
        if name in skip:
            continue
        if entry.is_symlink():
            listing.skipped.append(SkippedEntry(Path(entry.path), "a symbolic link, not followed"))
        elif entry.name not in (name + SUFFIX, name + ARCHIVE_SUFFIX) or created_s(name) is None:
            listing.skipped.append(SkippedEntry(Path(entry.path), "the name is not that of a segment"))
        elif not entry.is_file(follow_symlinks=False):
            listing.skipped.append(SkippedEntry(Path(entry.path), "not a regular file"))
        else:
            try:
                segment = _described(folder.name, name, Path(entry.path), entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # deleted or archived since the folder was listed
                segment = _refreshed(folder.name, name, Path(entry.path))
                if segment is None:
                    continue
            if segment is None:
                listing.skipped.append(SkippedEntry(Path(entry.path), "not a zstd file that says its content size"))
            else:
                listing.segments.append(segment)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
