"""One contract: what is answered over HTTP is what the commands print with `--json`, byte for byte."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from eventlog.queries.cost.report import GROUPS
from eventlog.queries.store import ReadStore
from eventlog.server.answers import ANSWERS
from eventlog.server.endpoints import COST_GROUPS, ENDPOINTS
from tests import warm
from tests.server.running import Running, serving
from tests.server.support_reads import ask

_END = "2026-03-02T10:00Z"
_SETTINGS = "budget_usd_per_day = 2.5\nbudget_usd_per_month = 40\n"
#: What depends on the moment at which something is asked.
_CLOCK = re.compile(rb'"(elapsed_s|usd_per_hour|projected_usd|lag_s|remaining_s)":("[^"]*"|[0-9.e+-]+|null)')


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on the demo, and settings with budgets."""
    root = tmp_path_factory.mktemp("golden") / "root"
    made = warm.run(
        ("demo", "--root", str(root), "--end", _END, "--hours", "2"), environment=dict(os.environ), stdin=b"",
        timeout_s=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with serving(root, settings=_SETTINGS) as running:
        yield running


def printed(server: Running, *arguments: str, zone: str = "--utc") -> bytes:
    """What a command prints. Where the root is, the server does not tell to those who see one workspace of it."""
    environment = {**os.environ, "EVENTLOG_CONFIG": str(server.root.parent / "settings.toml")}
    more = (zone,) if zone and arguments[0] not in ("diff", "quarantine", "sql", "status") else ()
    arguments = (*arguments, *more, "--root", str(server.root))
    done = warm.run(arguments, environment=environment, stdin=b"", timeout_s=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(b'"path":"%s/' % bytes(server.root), b'"path":"')


_GOLDEN: list[tuple[str, dict[str, Any], list[str]]] = [
    ("/v1/runs", {}, ["runs"]),
    ("/v1/runs", {"agent": "scraper", "limit": 3}, ["runs", "--agent", "scraper", "--limit", "3"]),
    ("/v1/runs", {"status": "error"}, ["runs", "--status", "error"]),
    ("/v1/runs", {"since": "2026-03-02T09:30"}, ["runs", "--since", "2026-03-02T09:30"]),
    ("/v1/runs", {"words": ["check", "links"]}, ["runs", "check", "links"]),
    ("/v1/runs", {"workspace": "acme"}, ["runs", "--workspace", "acme"]),
    ("/v1/sessions", {}, ["sessions"]),
    ("/v1/sessions", {"limit": 1, "agent": "planner"}, ["sessions", "--limit", "1", "--agent", "planner"]),
    ("/v1/requests", {"since": "2026-01"}, ["requests", "--since", "2026-01"]),
    ("/v1/cost", {}, ["cost"]),
    ("/v1/cost", {"by": "agent"}, ["cost", "--by", "agent"]),
    ("/v1/cost", {"period": "week", "by": "model", "budget": "12.50"},
     ["cost", "weekly", "--by", "model", "--budget", "12.50"]),
    ("/v1/cost", {"period": "month", "until": "2026-03-02T09:00Z"},
     ["cost", "monthly", "--until", "2026-03-02T09:00Z"]),
    ("/v1/cost/blocks", {}, ["cost", "blocks"]),
    ("/v1/cost/blocks", {"active": 1}, ["cost", "blocks", "--active"]),
    ("/v1/cost/prices", {}, ["cost", "prices"]),
    ("/v1/cost/recompute", {"as_of": "2026-01-01", "by": "run"},
     ["cost", "recompute", "--as-of", "2026-01-01", "--by", "run"]),
    ("/v1/metrics", {}, ["metrics"]),
    ("/v1/metrics", {"every": "hourly", "by": ["agent", "model"]},
     ["metrics", "hourly", "--by", "agent", "--by", "model"]),
    ("/v1/health", {"at": _END}, ["health", "--at", _END]),
    ("/v1/health", {"at": _END, "agent": "scraper", "window": "1h"},
     ["health", "scraper", "--at", _END, "--window", "1h"]),
    ("/v1/alerts", {}, ["alerts", "list"]),
    ("/v1/alerts", {"all": 1}, ["alerts", "list", "--all"]),
    ("/v1/alerts", {"history": 1}, ["alerts", "list", "--history"]),
    ("/v1/alerts", {"dead": 1}, ["alerts", "list", "--dead"]),
    ("/v1/search", {"text": "retention raised"}, ["search", "retention", "raised"]),
    ("/v1/search", {"text": '"retention raised"', "type": "llm_call", "limit": 2},
     ["search", '"retention raised"', "--type", "llm_call", "--limit", "2"]),
    ("/v1/today", {"since": "2026-03-02", "until": _END}, ["today", "--since", "2026-03-02", "--until", _END]),
    ("/v1/quarantine", {}, ["quarantine", "list"]),
    ("/v1/status", {}, ["status"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "parameters", "command"), _GOLDEN, ids=lambda value: str(value)[:40])
def test_answers_are_what_commands_print(
    demo: Running, path: str, parameters: dict[str, Any], command: list[str]
) -> None:
    """Except for what the clock says."""
    answer = ask(demo, path, **parameters)
    assert answer.status == 200, answer.body
    expected = printed(demo, *command, "--json")
    assert _CLOCK.sub(b"", answer.body) == _CLOCK.sub(b"", expected)
    assert len(answer.body) > 2


def test_local_times_are_those_of_the_server(demo: Running) -> None:
    """Which are what commands use without an option."""
    answer = ask(demo, "/v1/metrics", zone="local", since="2026-03-02T09:00")
    assert answer.body == printed(demo, "metrics", "--since", "2026-03-02T09:00", "--json", zone="")
    there = ask(demo, "/v1/metrics", zone="Asia/Tokyo", since="2026-03-02T18:00")
    zoned = ("metrics", "--since", "2026-03-02T18:00", "--time-zone", "Asia/Tokyo", "--json")
    assert there.body == printed(demo, *zoned, zone="")


def test_one_of_a_kind_is_what_show_prints(demo: Running) -> None:
    """A run and a session as a tree and as a conversation, an event with its evidence; insights, and a difference."""
    store = ReadStore(demo.root)
    runs = [run.run_id for run in store.runs.list(agent="planner", limit=2)]
    session = store.sessions.list(limit=1)[0].session_id
    event = store.events.list(["tool_call"], limit=1).events[0].event_id
    for path, command in (
        (f"/v1/runs/{runs[0]}", ("show", runs[0], "--view", "tree")),
        (f"/v1/sessions/{session}", ("show", session, "--view", "tree")),
        (f"/v1/messages/{runs[0]}", ("show", runs[0], "--view", "conversation")),
        (f"/v1/messages/{session}", ("show", session, "--view", "conversation")),
        (f"/v1/events/{event}", ("show", event)),
        (f"/v1/insights/{runs[1][:13]}", ("insights", runs[1])),
        (f"/v1/diff?a={runs[0]}&b={runs[1]}", ("diff", *runs)),
    ):
        assert ask(demo, path).body == printed(demo, *command, "--json"), path
    raw = ask(demo, f"/v1/events/{event}", raw=1)
    assert raw.body == printed(demo, "show", event, "--raw")


def test_rows_are_what_sql_prints(demo: Running) -> None:
    """In each format."""
    query = "SELECT e.event_id, e.timestamp, payload, cost_usd FROM events e LEFT JOIN llm_costs USING (event_id)"
    query += " ORDER BY ALL"
    for name in ("json", "jsonl", "csv", "parquet"):
        answer = demo.post("/v1/sql", {"query": query, "format": name, "limit": 50})
        assert answer.body == printed(demo, "sql", query, "--format", name, "--limit", "50")
        assert (answer.headers["eventlog-rows"], answer.headers["eventlog-cut"]) == ("50", "1")


def test_events_and_counts_are_those_of_the_store(demo: Running) -> None:
    """No command prints them; a program that reads the root itself gets the same structs."""
    store = ReadStore(demo.root, catch_up_s=10)
    for path, parameters, expected in (
        ("/v1/counts", {"bucket": "hour", "type": ["run_started", "step"]},
         store.counts(["run_started", "step"], bucket="hour")),
        ("/v1/counts", {"agent": "scraper"}, store.counts(where={"agent": "scraper"})),
        ("/v1/events", {"type": "step", "limit": 5, "newest_first": 1},
         store.events.list("step", limit=5, newest_first=True)),
        ("/v1/events", {"since": _END}, store.events.list(since=_END)),
    ):  # fmt: skip
        assert ask(demo, path, **parameters).body == msgspec.json.encode(expected) + b"\n"


def test_every_endpoint_is_answered_and_has_the_choices_of_the_commands() -> None:
    """The server does not load what has them."""
    assert {endpoint.name for endpoint in ENDPOINTS} == set(ANSWERS)
    assert COST_GROUPS == GROUPS
    assert len({endpoint.path for endpoint in ENDPOINTS}) == len(ENDPOINTS)
