"""Every error that eventlog raises on purpose.

    EventlogError
    ├── ConfigError            a setting is unknown or has a bad value
    │   └── InvalidSource      a source of agent data is declared wrongly, or twice
    ├── InvalidEvent           the event was refused at emit; nothing was written
    │   └── EventTypeConflict  two structs want the same event type
    ├── WriteFailed            the operating system refused the bytes
    │   └── WritingSuspended   it kept refusing them, and is only probed now and then
    ├── SegmentUnreadable      a segment exists, and cannot be read
    ├── BlobUnreadable         a large field, stored beside the log, cannot be read
    ├── MaintenanceBusy        another seal, archive, prune or restore runs on the root
    ├── AlertsBusy             another process checks alerts or changes rules
    ├── SendFailed             a server has not taken the events in time
    ├── AlreadyUp              another `eventlog up` runs on the root
    ├── ImportFailed           a source file cannot be read in its format
    ├── IndexFailed            the index cannot do what was asked
    │   └── IndexBusy          another process held the index for longer than the bound
    ├── QueryFailed            the query is wrong, was refused, or ran past its limit
    │   └── NoSuchRule         there is no alert rule of that name
    ├── BackupFailed           the destination of a backup, or its content, cannot be used
    │   └── ObjectUnreadable   one object cannot be read; others may be readable
    │       └── ObjectMissing  the destination has no object with that key
    ├── MissingExtra           a feature needs `pip install 'agent-eventlog[extra]'`
    └── BrokenInstallation     files of eventlog are missing, or another package has overwritten them

Messages say what happened, where, and what to try next.
"""

from __future__ import annotations

__all__ = [
    "AlertsBusy",
    "AlreadyUp",
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
    "NoSuchRule",
    "ObjectMissing",
    "ObjectUnreadable",
    "QueryFailed",
    "SegmentUnreadable",
    "SendFailed",
    "WriteFailed",
    "WritingSuspended",
]


class EventlogError(Exception):
    """The base of all errors: `except EventlogError` catches everything that eventlog raises on purpose."""


class ConfigError(EventlogError):
    """A setting is unknown or has a value that cannot be used."""


class InvalidSource(ConfigError):
    """A source of agent data is declared wrongly, is there twice, or cannot be loaded."""


class InvalidEvent(EventlogError):
    """The event was refused at emit. Nothing was written."""


class EventTypeConflict(InvalidEvent):
    """Two structs were registered under one event type."""


class WriteFailed(EventlogError):
    """The operating system refused to write the bytes of an event.

    `bytes_written` and `lines_written` count the part of a batch that was written before.
    """

    bytes_written = 0
    lines_written = 0


class WritingSuspended(WriteFailed):
    """Writes kept failing, so this one was not tried."""


class SegmentUnreadable(EventlogError):
    """A segment exists and cannot be read: permissions, a bad disk, a damaged archive."""


class BlobUnreadable(EventlogError):
    """A large field of an event, stored under `blobs/`, is missing or damaged."""


class MaintenanceBusy(EventlogError):
    """Another seal, archive, prune or restore runs on the root."""


class AlertsBusy(EventlogError):
    """Another process checks alerts on the root, or changes rules."""


class SendFailed(EventlogError):
    """A server has not taken events within the time for it. They are nowhere but with the caller."""


class AlreadyUp(EventlogError):
    """Another `eventlog up` runs on the root, or has not ended yet."""


class ImportFailed(EventlogError):
    """A source cannot be imported at all. A bad line never raises this."""


class IndexFailed(EventlogError):
    """The index cannot do what was asked."""


class IndexBusy(IndexFailed):
    """Another process held the index for longer than the timeout."""


class QueryFailed(EventlogError):
    """The query is wrong, was refused, or ran past its limit."""


class NoSuchRule(QueryFailed):
    """There is no alert rule of that name in the workspace."""


class BackupFailed(EventlogError):
    """The destination of a backup cannot be used, or an object does not read back as it was stored."""


class ObjectUnreadable(BackupFailed):
    """One object of a backup cannot be read; others may be readable."""


class ObjectMissing(ObjectUnreadable):
    """A backup has no object with this key."""


class MissingExtra(EventlogError, ImportError):
    """An optional dependency is not installed. `extra` installs it: `pip install 'agent-eventlog[extra]'`.

    It is an ImportError too, so that `try: from eventlog import ReadStore` works as with any optional import.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency; try: pip install 'agent-eventlog[{extra}]'")


class BrokenInstallation(EventlogError):
    """Files of eventlog are missing, or another package has overwritten them."""
