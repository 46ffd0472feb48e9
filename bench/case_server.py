"""What the server adds to an append, and to a question."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from bench import http_load, http_reads
from bench.case import Bench, Claim, Measurement, Side, Skipped, case
from bench.case_live import processor_s
from bench.figures import median
from bench.measure import Child, Command, call, call_command, eventlog, run

_CONNECTIONS, _THREADS, _BATCH = 8, 4, 100
_ASKED, _ROUNDS_MIN = 150_000, 15
_EVENT = {
    "event_type": "llm_call",
    "run_id": "run-7",
    "agent": "planner",
    "payload": {
        "provider_name": "anthropic", "request_model": "claude-sonnet-4", "uncached_input_tokens": 1200,
        "output_tokens": 345, "latency_ms": 1834.5, "finish_reasons": ["end_turn"],
        "output_messages": [{"role": "assistant", "content": "The harbour was full of boats that morning. " * 4}],
    },
}  # fmt: skip


class _Listening(NamedTuple):
    url: str
    pid: int


@case(
    Claim(name="one", what="POST one event, synced", against="bare ASGI, same append", limit=1.5),
    Claim(name="many", what="POST 100 events, synced", against="emit_many of them", limit=1.3),
)
def post(bench: Bench) -> Iterator[Measurement]:
    """Processor time of the server for a request, over 8 connections that stay open. The bare server decodes the
    body, appends it in 4 threads that share their syncs, and answers; it checks nothing."""
    if not sys.platform.startswith("linux"):
        raise Skipped("needs /proc")
    requests, batches = bench.times(4000, at_least=200), bench.times(400, at_least=40)
    one, many = (msgspec.json.encode([_EVENT] * count).decode() for count in (1, _BATCH))
    root = bench.fresh("root")
    made = run(eventlog("keys", "create", "--scopes", "ingest", "--events-per-s", "1e9", "--root", root), bench.home)
    key = made.said.decode().strip()
    taken: dict[str, list[float]] = {"ours": [], "bare": [], "many": [], "recorder": []}
    bare = call_command(http_load.serve_bare, folder=str(bench.folder), threads=_THREADS)
    with (
        _listening(bench, eventlog("serve", "--port", "0", "--root", root)) as ours,
        _listening(bench, bare) as peer,
    ):
        for number in range(bench.rounds + 1):
            figures = {
                "ours": _cpu_per_request(bench, ours, key, one, requests),
                "bare": _cpu_per_request(bench, peer, key, one, requests),
                "many": _cpu_per_request(bench, ours, key, many, batches),
                "recorder": call(
                    http_load.emit_many, bench.home, root=str(bench.fresh("alone")), body=many, batches=batches
                ).value() / batches,
            }  # fmt: skip
            if number:
                for name, figure in figures.items():
                    taken[name].append(figure)
    sides = {name: Side(value=median(samples), unit="s", samples=samples) for name, samples in taken.items()}
    yield Measurement("one", sides["ours"].value / sides["bare"].value, sides["ours"], sides["bare"])
    yield Measurement("many", sides["many"].value / sides["recorder"].value, sides["many"], sides["recorder"])


def _cpu_per_request(bench: Bench, server: _Listening, key: str, body: str, requests: int) -> float:
    before = processor_s(server.pid)
    sent = call(
        http_load.post, bench.home, url=server.url, key=key, body=body, requests=requests, connections=_CONNECTIONS
    ).value()
    if sent["taken"] != requests:
        raise AssertionError(f"{requests - sent['taken']} of {requests} requests were refused")
    return (processor_s(server.pid) - before) / requests


@case(Claim(name="added", what="GET a question, 150k events", against="the ReadStore call", limit=1.2))
def reads(bench: Bench) -> Iterator[Measurement]:
    """From the request to the last byte of the answer, against the call in a process that has all loaded, which returns
    objects and no JSON. Both look for new events first. Five questions, each in turn; the ratio of the sums of their
    medians. A client of HTTP waits for the server's process and for a reader's; so on two busy processors it waits."""
    events = bench.times(_ASKED, at_least=1000)
    root = bench.data.root(bench.folder / "root", events)
    run(eventlog("replay", "--root", root), bench.home)
    made = run(eventlog("keys", "create", "--scopes", "read", "--root", root), bench.home)
    key = made.said.decode().strip()
    rounds = max(bench.rounds, _ROUNDS_MIN)
    with _listening(bench, eventlog("serve", "--port", "0", "--root", root)) as ours:
        sample = call(http_reads.ask, bench.home, url=ours.url, key=key, root=root, rounds=rounds)
    medians = [{way: median(seconds) for way, seconds in ways.items()} for ways in sample.value().values()]
    sums = {way: sum(each[way] for each in medians) for way in ("http", "store")}
    sides = {way: Side(value=value, unit="s") for way, value in sums.items()}
    yield Measurement("added", sums["http"] / sums["store"], sides["http"], sides["store"], bench.sized(events, _ASKED))


@contextmanager
def _listening(bench: Bench, command: Command) -> Iterator[_Listening]:
    """Start a server that prints its address first; end it."""
    child = Child(command, bench.home)
    try:
        yield _Listening(child.first_line(), child.pid)
    finally:
        child.kill()
