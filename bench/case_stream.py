"""The stream of the server: what one delivery costs, and how soon it is there."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from bench import fanout
from bench.case import Bench, Claim, Measurement, Side, Skipped, case
from bench.case_live import processor_s
from bench.figures import median
from bench.measure import Child, Command, call_command, eventlog, run

_CLIENTS, _EVENTS, _PER_SECOND = 200, 200, 20.0
_ROUNDS = 3
_PATIENCE_S = 60.0


class _Round(NamedTuple):
    """Processor time of the server for one delivery, and ages of deliveries."""

    delivery_us: float
    p50_ms: float
    p99_ms: float


@case(
    Claim(name="sse", what="an event to 200 clients, SSE", against="of a bare ASGI fan-out", limit=1.5),
    Claim(name="ws", what="an event to 200 clients, WebSocket", against="of a bare ASGI fan-out", limit=1.5),
    Claim(name="p50", what="emit → client, p50, 200 clients", against="", limit=250, unit="ms"),
    Claim(name="p99", what="emit → client, p99, 200 clients", against="", limit=1000, unit="ms"),
)
def stream(bench: Bench) -> Iterator[Measurement]:
    """Another process emits 20 events of 600 bytes a second, and 200 clients read them from /v1/stream or /v1/ws; the
    same events are published to an ASGI application that has a queue for each client and does nothing else, on the same
    uvicorn. Processor time of the server's process by /proc, for each delivery; three rounds of both in turn. Ours
    also watches and reads the log, checks each line, and gives each frame an id that resumes."""
    if not sys.platform.startswith("linux"):
        raise Skipped("needs /proc")
    clients, events = bench.times(_CLIENTS, at_least=10), bench.times(_EVENTS, at_least=10)
    note = bench.sized(clients * events, _CLIENTS * _EVENTS)
    ours: list[_Round] = []
    for framing in ("sse", "ws"):
        sides: dict[str, list[_Round]] = {"bare": [], "ours": []}
        for number in range(min(_ROUNDS, bench.rounds)):
            for name, start in (("bare", _bare), ("ours", _ours)):
                sides[name].append(start(bench, framing, clients, events, f"{name}-{framing}-{number}"))
        mine, theirs = _side(sides["ours"]), _side(sides["bare"])
        yield Measurement(framing, mine.value / theirs.value, mine, theirs, note)
        ours += sides["ours"]
    p50_ms, p99_ms = median([each.p50_ms for each in ours]), median([each.p99_ms for each in ours])
    yield Measurement("p50", p50_ms, Side(value=p50_ms / 1000, unit="s"), note=note)
    yield Measurement("p99", p99_ms, Side(value=p99_ms / 1000, unit="s"), note=note)


def _side(rounds: list[_Round]) -> Side:
    samples = [each.delivery_us / 1e6 for each in rounds]
    return Side(value=median(samples), unit="s", samples=samples)


def _bare(bench: Bench, framing: str, clients: int, events: int, name: str) -> _Round:
    port = _free_port()
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--http", "httptools"]
    options += ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
    server = Child([sys.executable, "-m", "uvicorn", *options, "bench.fanout:app"], bench.home)
    publishing = call_command(fanout.publish, port=port, events=events, per_second=_PER_SECOND)
    return _round(bench, server, port, "", framing, publishing, clients, events, name)


def _ours(bench: Bench, framing: str, clients: int, events: int, name: str) -> _Round:
    root, port = bench.folder / name, _free_port()
    made = run(eventlog("keys", "create", "--scopes", "read", "--root", root), bench.home).said.decode().split()
    server = Child(eventlog("serve", "--port", str(port), "--root", root), bench.home)
    emitting = call_command(fanout.emit, root=root, events=events, per_second=_PER_SECOND)
    header = f"Authorization: Bearer {made[-1]}\r\n"
    return _round(bench, server, port, header, framing, emitting, clients, events, name)


def _round(
    bench: Bench,
    server: Child,
    port: int,
    header: str,
    framing: str,
    sending: Command,
    clients: int,
    events: int,
    name: str,
) -> _Round:
    ready, limit_s = bench.folder / f"{name}.ready", events / _PER_SECOND + _PATIENCE_S
    children = [server]
    try:
        _wait_for(lambda: _is_open(port))
        reading = call_command(
            fanout.listen, port=port, header=header, framing=framing, clients=clients, events=events, ready=ready,
            limit_s=limit_s,
        )  # fmt: skip
        listening = Child(reading, bench.home)
        children.append(listening)
        _wait_for(ready.exists)
        time.sleep(0.5)
        before_s = processor_s(server.pid)
        children.append(Child(sending, bench.home))
        children[-1].finish()
        seen = msgspec.json.decode(listening.finish())
        used_s = processor_s(server.pid) - before_s
    finally:
        for child in children:
            child.kill()
    if seen["deliveries"] < clients * events:
        raise RuntimeError(f"{seen['deliveries']} of {clients * events} deliveries arrived")
    return _Round(used_s / seen["deliveries"] * 1e6, seen["p50_ms"], seen["p99_ms"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the server or its clients do not start")
        time.sleep(0.05)
