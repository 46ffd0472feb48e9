"""Questions over HTTP beside the same questions to a ReadStore, in one process and in turn."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

#: Endpoint → the question to a store.
QUESTIONS: dict[str, Callable[[Any], object]] = {
    "/v1/runs": lambda store: store.runs.list(),
    "/v1/events": lambda store: store.events.list(),
    "/v1/counts": lambda store: store.counts(),
    "/v1/metrics": lambda store: store.metrics(),
    "/v1/cost?by=model": lambda store: store.costs(None, by="model"),
}


def ask(url: str, key: str, root: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each question over HTTP (`http`), on a connection that stays open, and to a `store`."""
    from eventlog.queries.store import ReadStore

    store = ReadStore(root, catch_up_s=0.5)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)

    def get(path: str) -> None:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status} {body[:200]!r}")

    taken: dict[str, dict[str, list[float]]] = {path: {"http": [], "store": []} for path in QUESTIONS}
    for number in range(rounds + 2):
        for path, question in QUESTIONS.items():
            for way in ("http", "store") if number % 2 else ("store", "http"):
                started = time.perf_counter()
                if way == "http":
                    get(path)
                else:
                    question(store)
                if number >= 2:  # both readers of the server have begun, and all is warm
                    taken[path][way].append(time.perf_counter() - started)
    connection.close()
    return taken
