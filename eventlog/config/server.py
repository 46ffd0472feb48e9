"""The settings of the server (eventlog.server), in one place: the table `[server]` of a settings file.

[server]
body_max_bytes = 4194304
events_per_s = 500
backup_to = "s3://bucket/laptop"
"""

from __future__ import annotations

from typing import Annotated

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in bytes, times in seconds, rates per second. A key may have rates of its own."""

    #: Of a body with events, as it was sent and after decompression.
    body_max_bytes: _Count = 16 * 1024 * 1024
    #: Of any other body.
    control_max_bytes: _Count = 1024 * 1024
    events_max: _Count = 10_000
    header_timeout_s: _Seconds = 10.0
    body_timeout_s: _Seconds = 30.0
    connections_max: _Count = 1000
    streams_max: _Count = 400
    streams_per_key_max: _Count = 250
    #: Events that wait for one client; with more of them it is sent a gap.
    stream_queue_max: _Count = 1000
    ping_s: _Seconds = 15.0
    #: How long a client may read nothing of what it is sent.
    write_timeout_s: _Seconds = 60.0
    #: Bodies that wait for an ingest thread, all together.
    queue_max_bytes: _Count = 64 * 1024 * 1024
    ingest_threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    #: Of one key, on the average, with a burst of ten seconds' worth.
    events_per_s: Annotated[float, msgspec.Meta(gt=0)] = 20_000.0
    bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] = 64 * 1024 * 1024.0
    #: Of one question, and of those that are answered at the same time.
    answer_timeout_s: _Seconds = 30.0
    reader_processes: Annotated[int, msgspec.Meta(ge=1, le=32)] = 2
    questions_max: _Count = 64
    answer_max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**31)] = 32 * 1024 * 1024
    session_s: _Seconds = 12 * 3600.0
    shutdown_s: _Seconds = 2.0
    #: Of one job.
    job_timeout_s: _Seconds = 6 * 3600.0
    #: Where `POST /v1/backup` copies to, as `eventlog backup` takes it: a folder, a file, or s3://bucket/prefix.
    backup_to: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)] | None = None
