"""The programs beside a live indexer: producers, a reader, and batches indexed one by one. In child processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_PAUSE_S = 0.002


def produce(root: str, name: str, events: int, per_second: float) -> list[int]:
    """Emit steps at a steady pace; return the time of return of each emit (monotonic ns)."""
    import eventlog as obs
    from eventlog.format.builtin import Step

    obs.configure(root=root, agent=name, strict=True)
    returned = []
    started = time.monotonic()
    for number in range(events):
        pause_s = started + number / per_second - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        obs.emit(Step(name="look at the next file", kind="thought", duration_ms=number))
        returned.append(time.monotonic_ns())
    obs.shutdown()
    return returned


def read_rows(root: str, producers: int, events: int, limit_s: float) -> list[tuple[int, dict[str, int]]]:
    """Read again and again until all rows are there; return (monotonic ns, rows by producer) of each read.

    A producer has one segment, which is indexed in order: n rows are its first n events.
    """
    from eventlog.queries.store import ReadStore

    store = ReadStore(root)
    query = "SELECT agent, count(*) FROM events WHERE event_type = 'step' AND agent LIKE 'producer%' GROUP BY agent"
    seen: list[tuple[int, dict[str, int]]] = []
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        rows = {str(agent): int(count) for agent, count in store.sql(query).rows}
        seen.append((time.monotonic_ns(), rows))
        if sum(rows.values()) >= producers * events:
            return seen
        time.sleep(_PAUSE_S)
    raise TimeoutError(f"of {producers * events} rows, {sum(seen[-1][1].values())} were there after {limit_s:g} s")


def index_in_turn(small: str, large: str, lines: str, batches: int, batch_events: int) -> dict[str, list[float]]:
    """Append batches of events to two logs and index each; return the seconds of each batch.

    Both are indexed in one process, in turn, by two indexers that stay open, as in `eventlog index --watch`. The first
    tenth of the batches is not counted.
    """
    from eventlog.indexer.indexer import Indexer

    roots = {"small": Path(small), "large": Path(large)}
    indexers = {name: Indexer(root) for name, root in roots.items()}
    appenders = {name: _Appender(root) for name, root in roots.items()}
    for indexer in indexers.values():
        indexer.catch_up()
    taken: dict[str, list[float]] = {name: [] for name in roots}
    for number, batch in enumerate(islice(_batches(Path(lines), batch_events), batches)):
        for name in roots if number % 2 else reversed(list(roots)):
            appenders[name].append(batch)
            started = time.perf_counter()
            counted = indexers[name].keep_up()
            elapsed_s = time.perf_counter() - started
            if counted.events != sum(map(len, batch.values())):
                raise RuntimeError(f"a batch of {sum(map(len, batch.values()))} events gave {counted.events} rows")
            if number >= batches // 10:
                taken[name].append(elapsed_s)
    return taken


class _Appender:
    """One open segment per type at the end of a log, as a producer has them."""

    def __init__(self, root: Path) -> None:
        from eventlog.log import layout

        self._root = root
        self._log = layout
        self._open: dict[str, int] = {}

    def append(self, batch: dict[str, list[bytes]]) -> None:
        for event_type, lines in batch.items():
            if event_type not in self._open:
                path = self._log.segment_path(self._root, event_type, self._log.new_segment_name(time.time_ns()))
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open[event_type] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(self._open[event_type], b"".join(lines))


def _batches(folder: Path, batch_events: int) -> Iterator[dict[str, list[bytes]]]:
    """Cut a log into batches, each with its share of every type."""
    lines = {
        path.name: [line for file in sorted(path.iterdir()) for line in file.read_bytes().splitlines(keepends=True)]
        for path in sorted(folder.iterdir())
        if path.name != "event_schema"
    }
    total = sum(map(len, lines.values()))
    number = 0
    while number * batch_events < total:
        shares = {name: len(of_type) * batch_events / total for name, of_type in lines.items()}
        yield {
            name: of_type[round(number * shares[name]) : round((number + 1) * shares[name])]
            for name, of_type in lines.items()
        }
        number += 1
