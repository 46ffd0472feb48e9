"""A log as busy agents would write it, from a seed: the same seed gives the same bytes.

    python -m bench.generator ROOT --events 1_000_000 --seed 7

Events are made in shards of `SHARD_EVENTS`. A shard is what one producer wrote in six hours, with several runs at a
time; the next shard follows it in time. A shard depends only on the seed and its number. So shards are made in
parallel, and the first million events of all logs are the same. Lines have about 800 bytes; a few have 200 KB.

Increase `VERSION` with any change of the output: kept data are found by it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.prose import Prose
from eventlog.format import builtin as events
from eventlog.format import envelope, schemas, timestamps
from eventlog.log import layout

VERSION = 2
SHARD_EVENTS = 250_000
SEGMENT_MAX_BYTES = 64 * 1024 * 1024
#: For a look at the free space; measured, rounded up.
LINE_BYTES = 900

_SHARD_US = 6 * 3600 * 1_000_000
_START_US = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000
_RUNS_AT_A_TIME = 12
_TEXT_MAX = 200_000
_FLUSH_BYTES = 4 * 1024 * 1024

#: What its agents emit.
EVENTS = (
    events.RunStarted, events.RunFinished, events.Step, events.LlmCall, events.ToolCall, events.DecisionTrace,
)  # fmt: skip

_AGENTS = (b"planner", b"coder", b"reviewer", b"researcher", b"operator", b"support")
_WORKSPACES = (b"atlas", b"borealis", b"cinder")
_MODELS = (
    (b"claude-opus-4-5", b"anthropic", 38.0),
    (b"claude-sonnet-4-5", b"anthropic", 62.0),
    (b"claude-haiku-4-5", b"anthropic", 140.0),
    (b"gpt-5.1", b"openai", 70.0),
    (b"gpt-5.1-mini", b"openai", 150.0),
    (b"gemini-3-pro", b"google", 90.0),
    (b"qwen3-coder-30b", b"local", 55.0),
)
_TOOLS = (b"bash", b"read_file", b"edit_file", b"web_search", b"sql", b"grep", b"browser_click", b"http_get")
_KINDS = (b"thought", b"plan", b"action", b"observation")
_ERRORS = (b"timeout after 30 s", b"exit code 1", b"permission denied", b"no such file", b"HTTP 503")


class Made(NamedTuple):
    """The size of a log that was written."""

    events: int
    bytes: int
    elapsed_s: float


def generate(root: Path, events: int, seed: int, *, processes: int | None = None) -> Made:
    """Write a log of a number of events (and their schemas) below `root`. Raises OSError if the disk is too full."""
    started = time.monotonic()
    need = events * LINE_BYTES
    root.mkdir(parents=True, exist_ok=True)
    check_room(root, need)
    shards = list(shards_of(events))
    workers = min(processes or os.cpu_count() or 1, len(shards))
    if workers <= 1:
        sizes = [write_shard(root, seed, number, count) for number, count in shards]
    else:
        with ProcessPoolExecutor(workers) as pool:
            waiting = [pool.submit(write_shard, root, seed, number, count) for number, count in shards]
            sizes = [shard.result() for shard in waiting]
    return Made(events, sum(sizes), time.monotonic() - started)


def check_room(folder: Path, need_bytes: int) -> None:
    """Raise OSError unless the bytes fit on the disk, with a tenth of it, or 4 GiB, to spare."""
    usage = shutil.disk_usage(folder)
    spare = min(usage.total // 10, 4 * 1024**3)
    if usage.free - spare < need_bytes:
        raise OSError(
            f"{need_bytes / 1e9:.1f} GB are needed and {usage.free / 1e9:.1f} GB are free; "
            "give a smaller --scale, or a TMPDIR with more room"
        )


def shards_of(events: int) -> Iterator[tuple[int, int]]:
    """Yield the shards of a log, each with its number and its count of events."""
    for number, first in enumerate(range(0, events, SHARD_EVENTS)):
        yield number, min(SHARD_EVENTS, events - first)


def write_shard(root: Path, seed: int, number: int, events: int) -> int:
    """Write one shard; return its bytes."""
    rng = random.Random(f"{VERSION}/{seed}/{number}")
    start_us = _START_US + number * _SHARD_US
    segments = _Segments(root, rng, start_us)
    for line in schema_lines():
        segments.write(b"event_schema", line)
    for event_type, line in _lines(rng, start_us, events):
        segments.write(event_type, line)
    return segments.finish()


def schema_lines() -> list[bytes]:
    """Return the events with which a producer declares the schemas of its payloads."""
    return [envelope.encode(schemas.schema_envelope(schemas.of_struct(event))) for event in EVENTS]


def _lines(rng: random.Random, start_us: int, events: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (event type, line) in order of time."""
    prose = Prose(rng)
    runs = [_Run(rng, prose) for _ in range(_RUNS_AT_A_TIME)]
    pause_us = 2 * _SHARD_US // SHARD_EVENTS
    now_us = start_us
    for _ in range(events):
        now_us += int(rng.random() * pause_us)
        place = int(rng.random() * _RUNS_AT_A_TIME)
        run = runs[place]
        event_type, payload = next(run.payloads)
        yield event_type, run.line(now_us, event_type, payload)
        if event_type == b"run_finished":
            runs[place] = _Run(rng, prose)


class _Run:
    """One run of an agent: its payloads in order, and the context of their envelopes."""

    def __init__(self, rng: random.Random, prose: Prose) -> None:
        self._rng = rng
        self._prose = prose
        self.agent = rng.choice(_AGENTS)
        workspace = rng.choice(_WORKSPACES)
        self._context = b'"run_id":"run-%012x","session_id":"session-%08x",' % (
            rng.getrandbits(48),
            rng.getrandbits(32),
        )
        self._who = b'"workspace":"%b","agent":"%b",' % (workspace, self.agent)
        self._turn = 0
        self._parent = b""
        self.payloads = self._payloads()

    def line(self, now_us: int, event_type: bytes, payload: bytes) -> bytes:
        """Return the line of one event of this run; its parent is the step before it."""
        ms, us = divmod(now_us, 1000)
        bits = self._rng.getrandbits(62)
        event_id = b"%08x-%04x-7%03x-%x%03x-%012x" % (
            ms >> 16, ms & 0xFFFF, us * 4096 // 1000, 8 + (bits >> 60), bits >> 48 & 0xFFF, bits & 0xFFFF_FFFF_FFFF,
        )  # fmt: skip
        moment = timestamps.from_ns(now_us * 1000).encode()
        parent = b'"parent_event_id":"%b",' % self._parent if self._parent and event_type != b"step" else b""
        if event_type == b"step":
            self._parent = event_id
        return b'{"event_id":"%b","event_type":"%b","timestamp":"%b",%b%b"turn_number":%d,%b"payload":%b}\n' % (
            event_id, event_type, moment, self._context, parent, self._turn, self._who, payload,
        )  # fmt: skip

    def _payloads(self) -> Iterator[tuple[bytes, bytes]]:
        rng = self._rng
        steps = 3 + int(rng.expovariate(1 / 16))
        yield b"run_started", self._run_started()
        for number in range(1, steps + 1):
            self._turn = number
            yield b"step", self._step()
            if rng.random() < 0.62:
                yield b"llm_call", self._llm_call()
            if rng.random() < 0.7:
                yield b"decision_trace", self._decision()
            for _ in range(1 + (rng.random() < 0.2)):
                yield b"tool_call", self._tool_call()
        yield b"run_finished", self._run_finished(steps)

    def _size(self, median: float, sigma: float) -> int:
        """Return the length of a text: most are short, a few are huge."""
        return min(int(self._rng.lognormvariate(0, sigma) * median), _TEXT_MAX)

    def _run_started(self) -> bytes:
        return b'{"name":"%b","task":"%b","host":"host-%d","attributes":{"budget_usd":%.2f}}' % (
            self.agent, self._prose.take(self._size(120, 0.6)), self._rng.random() * 8, 1 + self._rng.random() * 9,
        )  # fmt: skip

    def _run_finished(self, steps: int) -> bytes:
        rng = self._rng
        status = b"ok" if rng.random() < 0.93 else b"error"
        return b'{"status":"%b","duration_ms":%d,"output":"%b"}' % (
            status, steps * (2000 + rng.random() * 9000), self._prose.take(self._size(200, 0.6)),
        )  # fmt: skip

    def _step(self) -> bytes:
        rng = self._rng
        return b'{"name":"%b","kind":"%b","duration_ms":%d}' % (
            self._prose.take(12), rng.choice(_KINDS), 20 + rng.expovariate(1 / 4000),
        )  # fmt: skip

    def _llm_call(self) -> bytes:
        rng = self._rng
        model, provider, tokens_per_s = rng.choice(_MODELS)
        prompt = self._prose.take(self._size(450, 1.4))
        completion = self._prose.take(self._size(200, 0.9))
        output_tokens = len(completion) // 4
        ttft_ms = 120 + rng.expovariate(1 / 400)
        return (
            b'{"provider_name":"%b","request_model":"%b","request_temperature":%.1f,"input_messages":"%b",'
            b'"output_messages":"%b","finish_reasons":["%b"],"uncached_input_tokens":%d,"cache_read_tokens":%d,'
            b'"output_tokens":%d,"latency_ms":%d,"time_to_first_token_ms":%d}'
        ) % (
            provider, model, rng.random(), prompt, completion, b"tool_use" if rng.random() < 0.6 else b"end_turn",
            len(prompt) // 4, rng.random() * 20_000, output_tokens,
            ttft_ms + output_tokens * 1000 / tokens_per_s, ttft_ms,
        )  # fmt: skip

    def _tool_call(self) -> bytes:
        rng = self._rng
        ok = rng.random() < 0.94
        error = b"" if ok else b',"error_type":"%b"' % rng.choice(_ERRORS)
        return (
            b'{"tool_name":"%b","ok":%b,"duration_ms":%d,'
            b'"arguments":{"query":"%b","limit":%d,"path":"src/%06x.py"},"result":"%b"%b}'
        ) % (
            rng.choice(_TOOLS), b"true" if ok else b"false", 1 + rng.expovariate(1 / 800),
            self._prose.take(30), rng.random() * 100, rng.getrandbits(24),
            self._prose.take(self._size(150, 1.3)), error,
        )  # fmt: skip

    def _decision(self) -> bytes:
        prose = self._prose
        chosen, other = prose.take(14), prose.take(14)
        return b'{"question":"%b","chosen":"%b","options":["%b","%b"],"reason":"%b","confidence":%.3f}' % (
            prose.take(50), chosen, chosen, other, prose.take(self._size(90, 0.7)), self._rng.random(),
        )  # fmt: skip


class _Segments:
    """The segments of one producer: one open segment per type, which is closed at its full size."""

    def __init__(self, root: Path, rng: random.Random, start_us: int) -> None:
        self._folder = layout.log_folder(root)
        # Of its own, so that the number of segments has no say in what the events are.
        self._rng = random.Random(rng.getrandbits(64))
        self._start_us = start_us
        self._waiting: dict[bytes, list[bytes]] = {}
        self._waiting_bytes: dict[bytes, int] = {}
        self._open: dict[bytes, tuple[int, int]] = {}
        self._names = 0
        self._bytes = 0

    def write(self, event_type: bytes, line: bytes) -> None:
        """Append one line."""
        lines = self._waiting.setdefault(event_type, [])
        size = self._waiting_bytes.get(event_type, 0) + len(line)
        if size > _FLUSH_BYTES:
            self._flush(event_type)
            lines, size = self._waiting[event_type], len(line)
        lines.append(line)
        self._waiting_bytes[event_type] = size

    def finish(self) -> int:
        """Write what is buffered; return the number of bytes."""
        for event_type in list(self._waiting):
            self._flush(event_type)
        for fd, _ in self._open.values():
            os.close(fd)
        return self._bytes

    def _flush(self, event_type: bytes) -> None:
        data = b"".join(self._waiting[event_type])
        fd, size = self._open.get(event_type, (-1, 0))
        if fd < 0 or size + len(data) > SEGMENT_MAX_BYTES:
            if fd >= 0:
                os.close(fd)
            fd, size = self._create(event_type.decode()), 0
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self._open[event_type] = (fd, size + len(data))
        self._waiting[event_type] = []
        self._waiting_bytes[event_type] = 0
        self._bytes += len(data)

    def _create(self, event_type: str) -> int:
        created = datetime.fromtimestamp(self._start_us / 1_000_000, UTC).replace(microsecond=self._names)
        self._names += 1
        name = f"{created.strftime('%Y%m%dT%H%M%S%fZ')}-{self._rng.getrandbits(64):016x}"
        folder = self._folder / event_type
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / (name + layout.SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def main(arguments: list[str]) -> int:
    """Write a log, unless there is one already."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=main.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args(arguments)
    if layout.log_folder(chosen.root).exists():
        parser.error(f"{chosen.root} has a log already")
    try:
        made = generate(chosen.root, chosen.events, chosen.seed)
    except OSError as error:
        parser.error(str(error))
    average = made.bytes / made.events
    print(f"{made.events:,} events, {made.bytes:,} bytes ({average:.0f} a line) in {made.elapsed_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
