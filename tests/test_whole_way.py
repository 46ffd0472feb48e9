"""The whole way, once: record → index → metrics → cost → alert → health → replay, with values."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog.indexer.index.index_file import index_path
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.conftest import Run


class Endpoint(ThreadingHTTPServer):
    """A local server that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def work(*, fails: bool) -> None:
    """One run: a step with a call of a model and one of a tool."""
    with obs.run("nightly", agent="planner", workspace="acme") as run, run.step("look up"):
        run.llm_call(
            provider_name="acme", request_model="acme-7b", latency_ms=1000.0, time_to_first_token_ms=100.0,
            usage={"input_tokens": 200_000, "output_tokens": 100_000, "cache_read_input_tokens": 800_000},
            input_messages=[{"role": "user", "content": "Where did the flamingo go?"}],
        )  # fmt: skip
        run.tool_call("search", arguments={"q": "flamingo"}, ok=not fails, duration_ms=50.0)
        if fails:
            raise LookupError("no flamingo")


def answers(root: Path, now: datetime) -> dict[str, Any]:
    """Everything that is asked, as it is now."""
    store = ReadStore(root)
    scoped = ReadStore(root, workspace="acme")
    (failed,) = store.runs(status="error", limit=1)
    return {
        "runs": store.runs(),
        "tree": store.run(failed.run_id),
        "metrics": store.metrics("hour", ("workspace", "agent", "model"), now=now),
        "costs": store.costs("day", by="model", now=now),
        "health": store.health(now=now),
        "alerts": store.alerts(),
        "rules": store.alert_rules(),
        "deliveries": store.alert_deliveries(),
        "search": store.search("flamingo"),
        "insights": store.insights(failed.run_id),
        "sql": store.sql("SELECT run_id, sum(cost_usd) FROM llm_costs GROUP BY run_id ORDER BY run_id"),
        "scoped": scoped.sql("SELECT count(*), sum(cost_usd) FROM llm_costs"),
        "digest": store.digest(),
    }


def test_from_a_call_to_an_answer_and_back(root: Path, run: Run, endpoint: Endpoint) -> None:
    """Values at every station; and all of them again from the log alone."""
    obs.configure(operator=True, root=root, strict=True)
    obs.emit(
        obs.events.PriceSet(
            model="acme-", effective_from=datetime(2020, 1, 1, tzinfo=UTC), input_usd_per_mtok=Decimal(1),
            cache_read_usd_per_mtok=Decimal("0.1"), output_usd_per_mtok=Decimal(2),
        )
    )  # fmt: skip
    for _ in range(9):
        work(fails=False)
    obs.flush()
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert [(each.status, each.agent, each.steps, each.llm_calls, each.tool_calls) for each in store.runs()] == [
        ("ok", "planner", 1, 1, 1)
    ] * 9

    # one call: 0.2 M at 1 USD, 0.8 M from the cache at 0.10, 0.1 M out at 2
    each = Decimal("0.48")
    assert store.costs(None).total.cost_usd == 9 * each
    assert store.costs(None).total.cache_savings_usd == 9 * Decimal("0.72")
    now = datetime.now(UTC) + timedelta(seconds=1)
    (before,) = store.health("planner", now=now)
    assert (before.score, before.grade) == (100, "A")

    # an alert: quiet, then it fires once, and is told once
    url = f"json://127.0.0.1:{endpoint.server_address[1]}/hook"
    added = run("alerts", "add", "spend", "--kind", "cost", "--threshold", "4.5", "--window", "1h", "--to", url)
    assert added.returncode == 0, added.stderr
    assert run("alerts", "check").returncode == 0
    assert endpoint.received == []
    with pytest.raises(LookupError):
        work(fails=True)
    obs.flush()
    first, *more = (run("alerts", "check") for _ in range(3))
    assert "spend" in first.stdout
    assert [(each.returncode, each.stdout) for each in more] == [(1, "1 rule: 1 firing\n")] * 2
    (message,) = endpoint.received
    assert "spend" in message["title"]
    assert "4.8" in message["message"]
    (firing,) = store.alerts()
    assert (firing.name, firing.value, firing.threshold) == ("spend", "4.8", "4.5")
    (delivery,) = store.alert_deliveries()
    assert delivery.state == "delivered"

    # metrics and health know what happened
    days = store.metrics("day", now=now)  # two of them around midnight
    assert len(days) <= 2

    def total(name: str) -> Any:
        return sum(getattr(day, name) for day in days)

    assert (total("runs"), total("runs_ok"), total("runs_error")) == (10, 9, 1)
    assert days[-1].run_errors == {"LookupError": 1}
    assert (total("llm_calls"), total("tool_calls"), total("tool_failures")) == (10, 10, 1)
    assert total("uncached_input_tokens") == 2_000_000
    assert total("cache_read_tokens") == 8_000_000
    assert total("output_tokens") == 1_000_000
    assert total("cost_usd") == 10 * each
    assert days[-1].latency_ms is not None
    assert (days[-1].latency_ms.p50, days[-1].latency_ms.p99) == (1000.0, 1000.0)
    now = datetime.now(UTC) + timedelta(seconds=1)
    (after,) = store.health("planner", now=now)
    assert after.score == 88  # a tenth of the runs failed, of the half that takes 60 points
    (why,) = [each for each in after.penalties if each.points]
    assert (why.name, why.points) == ("run_errors", 12)
    assert store.sql(why.query).rows

    # and all of it comes back from the log alone
    Indexer(root).catch_up()
    known = answers(root, now)
    index_path(root).unlink()
    replayed = run("replay")
    assert replayed.returncode == 0, replayed.stderr
    assert answers(root, now) == known
    assert run("alerts", "check").returncode in (0, 1)
    assert len(endpoint.received) == 1, "a replay tells nobody again"
