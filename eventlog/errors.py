"""Every error that eventlog raises on purpose.

    EventlogError
    ├── ConfigError            a setting is unknown or has a bad value
    │   └── InvalidSource      a source of agent data is declared wrongly, or twice
    ├── InvalidEvent           the event was refused at emit; nothing was written
    │   └── EventTypeConflict  two structs want the same event type
    ├── WriteFailed            the operating system refused the bytes
    │   └── WritingSuspended   it kept refusing them, and is only probed now and then
    ├── SegmentUnreadable      a segment is there, and cannot be read
    ├── BlobUnreadable         a large field is kept beside the log, and cannot be read
    ├── MaintenanceBusy        another seal, archive, prune or restore runs on the root
    ├── AlertsBusy             another process checks alerts or changes rules
    ├── ImportFailed           a source file cannot be read as what it was said to be
    ├── IndexFailed            the index cannot do what was asked
    │   └── IndexBusy          another process held the index for longer than the bound
    ├── QueryFailed            the query is wrong, was refused, or ran past its limit
    ├── BackupFailed           the place of a backup, or what is in it, cannot be used
    │   └── ObjectUnreadable   one object cannot be read; others may
    │       └── ObjectMissing  the place has no object of that name
    ├── MissingExtra           a feature needs `pip install 'agent-eventlog[extra]'`
    └── BrokenInstallation     files of eventlog are missing, or another package has overwritten them

Messages say what happened, where, and what to try next.
"""

from __future__ import annotations

__all__ = [
    "AlertsBusy",
    "BackupFailed",
    "BlobUnreadable",
    "BrokenInstallation",
    "ConfigError",
    "EventTypeConflict",
    "EventlogError",
    "ImportFailed",
    "IndexBusy",
    "IndexFailed",
    "InvalidEvent",
    "InvalidSource",
    "MaintenanceBusy",
    "MissingExtra",
    "ObjectMissing",
    "ObjectUnreadable",
    "QueryFailed",
    "SegmentUnreadable",
    "WriteFailed",
    "WritingSuspended",
]


class EventlogError(Exception):
    """The root of the tree: `except EventlogError` catches all that eventlog raises."""


class ConfigError(EventlogError):
    """A setting is unknown or has a value that cannot be used."""


class InvalidSource(ConfigError):
    """A source of agent data is declared wrongly, is there twice, or cannot be loaded."""


class InvalidEvent(EventlogError):
    """The event was refused at emit. Nothing was written."""


class EventTypeConflict(InvalidEvent):
    """Two structs were registered under one event type."""


class WriteFailed(EventlogError):
    """The operating system refused to take the bytes of an event.

    `bytes_written` and `lines_written` count what was safely written of a batch before.
    """

    bytes_written = 0
    lines_written = 0


class WritingSuspended(WriteFailed):
    """Writes kept failing: this one was not even tried."""


class SegmentUnreadable(EventlogError):
    """A segment is there and cannot be read: permissions, a bad disk, a damaged archive."""


class BlobUnreadable(EventlogError):
    """A large field of an event is kept under `blobs/`, and is missing or damaged there."""


class MaintenanceBusy(EventlogError):
    """Another maintenance command runs on the root."""


class AlertsBusy(EventlogError):
    """Another process checks alerts on the root, or changes rules."""


class ImportFailed(EventlogError):
    """A source cannot be imported at all (a bad line alone never raises this)."""


class IndexFailed(EventlogError):
    """The index cannot do what was asked of it."""


class IndexBusy(IndexFailed):
    """Another process held the index for longer than this one may wait."""


class QueryFailed(EventlogError):
    """The query is wrong, was refused, or ran past its limit."""


class BackupFailed(EventlogError):
    """The place of a backup cannot be used, or what it gives back is not what was stored."""


class ObjectUnreadable(BackupFailed):
    """One object of a backup cannot be read; others may."""


class ObjectMissing(ObjectUnreadable):
    """The place of a backup has no object of that name."""


class MissingExtra(EventlogError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency; try: pip install 'agent-eventlog[{extra}]'")


class BrokenInstallation(EventlogError):
    """Files of eventlog are missing, or another package has overwritten them."""
