"""The parts that `bench.floors` measures, each alone, in child processes. They keep none of eventlog's promises."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from bench import emitters, engines
from bench.emitters import BATCH, CONTEXT, THREADS, Timings


def emit_least(folder: str, events: int, seed: int) -> Timings:
    """Write an event as a line to a file, by the shortest way with msgspec."""
    import time

    import msgspec

    from eventlog.format import ids, timestamps
    from eventlog.format.builtin import LlmCall

    shared = json.dumps(CONTEXT, separators=(",", ":"))[1:-1].encode()
    encode, write, now = msgspec.json.Encoder().encode, os.write, time.time_ns
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(fields: dict[str, Any]) -> None:
        moment = now()
        head = (
            f'{{"event_id":"{ids.new_id(moment)}","event_type":"llm_call","timestamp":"{timestamps.from_ns(moment)}",'
        )
        write(fd, b'%b%b,"payload":%b}\n' % (head.encode(), shared, encode(LlmCall(**fields))))

    return emitters.time_each(record, emitters.samples(seed), events)


def emit_promised(folder: str, events: int, seed: int) -> Timings:
    """Like `emit_least`, with what eventlog promises of each event, by eventlog's own parts.

    Its type is checked, values without a JSON form are refused, secrets are searched for, limits hold, and threads take
    turns.
    """
    import threading
    import time

    from eventlog.format import envelope, ids, schemas, timestamps
    from eventlog.format.builtin import LlmCall
    from eventlog.record import redaction

    shared = b"," + json.dumps(CONTEXT, separators=(",", ":"))[1:-1].encode()
    registered, lock = schemas.of_struct(LlmCall), threading.Lock()
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(fields: dict[str, Any]) -> None:
        data = envelope.struct_json(LlmCall(**fields))
        schemas.check(registered, data)
        data = redaction.redact(data)
        moment = time.time_ns()
        event_id, timestamp = ids.new_id(moment), timestamps.from_ns(moment)
        line = envelope.line(event_id, "llm_call", timestamp, shared, data)
        with lock:
            os.write(fd, line)

    return emitters.time_each(record, emitters.samples(seed), events)


def batch_least(folder: str, batches: int, seed: int) -> Timings:
    """Write a hundred payloads as lines to a file."""
    import msgspec

    from eventlog.format.builtin import LlmCall

    encode = msgspec.json.Encoder().encode
    fields = emitters.samples(seed)
    inputs = [fields[at : at + BATCH] for at in range(0, len(fields), BATCH)]
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return emitters.time_each(
        lambda batch: os.write(fd, b"\n".join([encode(LlmCall(**fields)) for fields in batch])), inputs, batches
    )


def sync_least(folder: str, events: int, seed: int) -> Timings:
    """Group commit if every sync served all threads and nothing else took time."""
    lines = emitters.lines_of_eventlog(folder, seed)
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(line: bytes) -> None:
        os.write(fd, line * THREADS)
        os.fdatasync(fd)

    timings = emitters.time_each(record, lines, events // THREADS)
    return {name: value / THREADS for name, value in timings.items()}


def load_compressed(log: str, path: str) -> int:
    """Like `engines.load_with_duckdb`, with zstd for the payload column and the row groups of eventlog."""
    import duckdb

    made = ", ".join(
        f"{name} {kind}{' USING COMPRESSION zstd' if name == 'payload' else ''}"
        for name, kind in engines.COLUMNS.items()
    )
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")  # which would have one thread compress them
        connection.execute(f"ATTACH '{path}' AS x (ROW_GROUP_SIZE 49152)")
        connection.execute(f"CREATE TABLE x.events ({made})")
        connection.execute(f"INSERT INTO x.events {engines.lines_of(log)}")
        row = connection.execute("SELECT count(*) FROM x.events").fetchone()
        connection.execute("DETACH x")
    return int(row[0]) if row else 0


def write_sessions(sessions: str, path: str) -> int:
    """Read every line of sessions, parse it, hash it for an id, and write it again; return the number of lines."""
    import hashlib

    import msgspec

    lines = 0
    with open(path, "wb") as file:
        for session in sorted(Path(sessions).rglob("*.jsonl")):
            for line in session.read_bytes().splitlines(keepends=True):
                with contextlib.suppress(msgspec.DecodeError):  # some are cut, as real ones are
                    msgspec.json.decode(line)
                file.write(b'{"event_id":"%b","payload":%b}' % (hashlib.sha256(line).hexdigest().encode(), line))
                lines += 1
    return lines


def check_lines(log: str) -> int:
    """Read and validate every line of a log; return the number of lines."""
    from eventlog.indexer.load.validation import validate_block
    from eventlog.log.reader import read_blocks

    lines = 0
    for path in sorted(Path(log).glob("*/*.jsonl")):
        for block in read_blocks(path):
            valid = validate_block(block, path.parent.name)
            lines += len(valid.lengths) if valid else 0
    return lines
