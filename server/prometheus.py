"""`/metrics`: counts and lags in the text format of Prometheus. No name, id or payload of an event is in it."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from eventlog.server.parts import Parts

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Status(msgspec.Struct):
    """Those fields of `eventlog status --json` that are numbers; None is "not known", and is left out."""

    segments: int
    log_bytes: int
    index_bytes: int
    events: int | None = None
    rows: int | None = None
    quarantined: int | None = None
    dropped: int | None = None
    alarms: int | None = None
    lag_bytes: int | None = None
    lag_s: float | None = None


class _Metric(NamedTuple):
    name: str
    kind: str
    meaning: str
    value: float | None


def text(parts: Parts, status: bytes | None) -> str:
    """Return the metrics of a server; `status` is the JSON of `eventlog status`, None where nobody can tell."""
    metrics = [*_of_server(parts), *(() if status is None else _of_root(msgspec.json.decode(status, type=_Status)))]
    lines = []
    for metric in metrics:
        if metric.value is not None:
            name = f"eventlog_{metric.name}"
            lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}", f"{name} {metric.value!r}"]
    return "\n".join(lines) + "\n"


def _of_server(parts: Parts) -> list[_Metric]:
    intake, readers, streams = parts.intake, parts.readers, parts.streams
    return [
        _Metric("up_seconds", "gauge", "Seconds since the server began.", round(time.time() - parts.started, 3)),
        _Metric("keys", "gauge", "Valid API keys.", len(parts.keys)),
        _Metric("intake_events_total", "counter", "Events that were appended.", parts.accepted),
        _Metric("intake_events_rejected_total", "counter", "Events that were refused.", parts.rejected),
        _Metric("intake_held_bytes", "gauge", "Bytes of bodies that wait to be appended.", intake.held_bytes),
        _Metric("intake_full_total", "counter", "Bodies for which there was no room.", intake.refused),
        _Metric("intake_hooks_refused_total", "counter", "Hooks that were not recorded.", parts.hooks_refused),
        _Metric(
            "intake_suspended", "gauge", "1 while the log cannot be written.", int(bool(parts.recorder.suspended_by))
        ),
        _Metric("questions_total", "counter", "Questions that were asked.", readers.asked),
        _Metric("questions_shared_total", "counter", "Those that got the answer of an equal one.", readers.shared),
        _Metric("questions_refused_total", "counter", "Those for which there was no place.", readers.refused),
        _Metric("questions_timed_out_total", "counter", "Those that took too long.", readers.timed_out),
        _Metric("questions_waiting", "gauge", "Questions that wait for a reader process.", readers.waiting),
        _Metric("questions_running", "gauge", "Questions that are being answered.", readers.running),
        _Metric("questions_seconds_total", "counter", "Seconds spent on answers.", round(readers.answering_s, 6)),
        _Metric("readers_ended_total", "counter", "Reader processes that died.", readers.ended),
        _Metric("streams_open", "gauge", "Streams that are open.", streams.open_count),
        _Metric("streams_gaps_total", "counter", "Streams that ended because their client was too slow.", streams.gaps),
    ]


def _of_root(status: _Status) -> list[_Metric]:
    return [
        _Metric("log_segments", "gauge", "Segments of the log.", status.segments),
        _Metric("log_bytes", "gauge", "Bytes of the log.", status.log_bytes),
        _Metric("index_bytes", "gauge", "Bytes of the index.", status.index_bytes),
        _Metric("index_lines", "gauge", "Lines of events that are indexed.", status.events),
        _Metric("index_events", "gauge", "Events of the index.", status.rows),
        _Metric("index_quarantined", "gauge", "Lines in quarantine.", status.quarantined),
        _Metric("index_dropped", "gauge", "Events that producers could not write.", status.dropped),
        _Metric("index_alarms", "gauge", "Segments that were not as the indexer left them.", status.alarms),
        _Metric("index_lag_bytes", "gauge", "Bytes of the log that are not indexed.", status.lag_bytes),
        _Metric("index_lag_seconds", "gauge", "How long the oldest of them has waited.", status.lag_s),
    ]
