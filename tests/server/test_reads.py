"""Questions over HTTP: who may ask, what is refused, pages, tags, lines, rows, and a root with nothing in it."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.log import layout
from eventlog.record.recorder import Recorder
from eventlog.server.endpoints import ENDPOINTS
from tests.conftest import lines_of
from tests.server.running import Answered, Running, serving
from tests.server.support_reads import OWN, ask, two_workspaces


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on two workspaces; answers are small, so that one can be too large."""
    root = tmp_path_factory.mktemp("reads") / "root"
    two_workspaces(root)
    with serving(root, settings="[server]\nanswer_max_bytes = 60000\nanswer_timeout_s = 10") as running:
        yield running


def eventually(condition: Any, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- who may ask -----------------------------------------------------------------------------


def test_only_those_who_may_read_are_answered(reads: Running) -> None:
    """Nobody without a key, nor with one for sending; the probes say nothing of the log."""
    sending, scoped = reads.make_key("ingest"), reads.make_key("read", workspace=OWN)
    eventually(lambda: ask(reads, "/v1/counts", key=scoped).status == 200)
    paths = [endpoint.path.replace("{id}", "x") for endpoint in ENDPOINTS]
    for path in (*paths, "/v1/openapi.json", "/metrics"):
        assert ask(reads, path, key=None).code == "unauthorized"
        assert ask(reads, path, key=sending).code == "missing_scope"
    assert reads.post("/v1/sql", {"query": "SELECT 1"}, key=sending).code == "missing_scope"
    for path in ("/v1/status", "/metrics"):
        refused = ask(reads, path, key=scoped)
        assert (refused.status, refused.code) == (403, "whole_root")
    assert ask(reads, "/v1/runs", key=scoped, workspace="omega").code == "foreign_workspace"


# -- what is refused -------------------------------------------------------------------------

REFUSED = [
    ("/v1/runs", {"agnt": "x"}, 400, "bad_parameter", "did you mean agent?"),
    ("/v1/events", {"audit-level": "turn"}, 400, "bad_parameter", "did you mean audit_level?"),
    ("/v1/status", {"limit": 1}, 400, "bad_parameter", "there are: none"),
    ("/v1/status", {"workspace": OWN}, 400, "bad_parameter", "there are: none"),
    ("/v1/runs", {"limit": [1, 2]}, 400, "bad_parameter", "limit: it may be given once"),
    ("/v1/runs", {"limit": 0}, 400, "bad_parameter", "from 1 to 1,000"),
    ("/v1/events", {"limit": 10_001}, 400, "bad_parameter", "from 1 to 10,000"),
    ("/v1/runs", {"limit": "ten"}, 400, "bad_parameter", "'ten' is no number"),
    ("/v1/runs", {"since": "soon"}, 400, "bad_parameter", "'soon' is not a time"),
    ("/v1/counts", {"since": "1d", "until": "2d"}, 400, "bad_parameter", "since: it is not before"),
    ("/v1/runs", {"zone": "Mars/Base"}, 400, "bad_parameter", "unknown time zone 'Mars/Base'"),
    ("/v1/runs", {"status": "odd"}, 400, "bad_parameter", "'odd' is none of ok, error"),
    ("/v1/runs", {"words": ["w"] * 51}, 400, "bad_parameter", "at most 50 times"),
    ("/v1/runs", {"words": "w" * 201}, 400, "bad_parameter", "longer than 200 characters"),
    ("/v1/search", {"text": "w" * 2001}, 400, "bad_parameter", "longer than 2,000 characters"),
    ("/v1/cost", {"budget": "-1"}, 400, "bad_parameter", "not an amount of USD"),
    ("/v1/health", {"window": "long"}, 400, "bad_parameter", "not a length of time"),
    ("/v1/health", {"window": "1s"}, 400, "bad_query", "window"),
    ("/v1/events", {"newest_first": "maybe"}, 400, "bad_parameter", "use 1 or 0"),
    ("/v1/search", {}, 400, "bad_parameter", "text: it is missing"),
    ("/v1/diff", {"a": "x"}, 400, "bad_parameter", "b: it is missing"),
    ("/v1/search", {"text": " "}, 400, "bad_query", "nothing to search for"),
    ("/v1/runs", {"after": "x"}, 400, "bad_query", "no place in this list"),
    ("/v1/events", {"after": "x"}, 400, "bad_query", "not a time"),
    ("/v1/alerts", {"history": 1, "dead": 1}, 400, "bad_query", "exclude each other"),
    ("/v1/cost/blocks", {"source": "nobody"}, 400, "bad_query", "unknown source"),
    ("/v1/runs/run-", {}, 400, "bad_query", "several runs begin with"),
    ("/v1/messages/request-alpha", {}, 400, "bad_query", "is a request"),
    ("/v1/runs/none", {}, 404, "not_found", "there is no run 'none'"),
    ("/v1/sessions/none", {}, 404, "not_found", "there is no session"),
    ("/v1/requests/none", {}, 404, "not_found", "there is no request"),
    ("/v1/messages/none", {}, 404, "not_found", "there is no run, session or request"),
    ("/v1/insights/none", {}, 404, "not_found", "there is no run, session or request"),
    ("/v1/diff", {"a": "run-alpha", "b": "none"}, 404, "not_found", "there is no run 'none'"),
    ("/v1/events/none", {}, 404, "not_found", "there is no event"),
    ("/v1/events/01900000-0000-7000-8000-000000000001", {}, 404, "not_found", "there is no event"),
    ("/v1/health", {"agent": "none"}, 404, "not_found", "no event names the agent"),
]


@pytest.mark.parametrize(("path", "parameters", "status", "code", "words"), REFUSED)
def test_what_is_refused(
    reads: Running, path: str, parameters: dict[str, Any], status: int, code: str, words: str
) -> None:
    """With a code, and words that help; never with a path of this machine."""
    answer = ask(reads, path, **parameters)
    assert (answer.status, answer.code) == (status, code)
    assert words in answer.json["detail"]
    assert str(reads.root) not in answer.json["detail"]


# -- pages, tags, lines ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/events", "/v1/runs", "/v1/sessions", "/v1/requests"])
def test_links_lead_through_all_pages(reads: Running, path: str) -> None:
    """Of whatever size; parameters stay."""
    whole = ask(reads, path, agent="agent-alpha").json
    rows = whole["events"] if path == "/v1/events" else whole
    url, parts = f"{path}?limit=1&agent=agent-alpha", []
    for _ in range(len(rows) + 1):
        page = reads.get(url)
        parts += page.json["events"] if path == "/v1/events" else page.json
        if "link" not in page.headers:
            break
        url, _, relation = page.headers["link"].partition(">")
        assert relation == '; rel="next"'
        url = url.removeprefix("<")
    assert parts == rows
    assert rows


def test_what_has_not_changed_is_not_sent_again(reads: Running) -> None:
    """Not even asked, where it depends on the index alone; a tag is of one question and one state."""
    tags = {}
    for path in ("/v1/counts", "/v1/events", "/v1/sessions", "/v1/runs", "/v1/cost/prices", "/v1/quarantine"):
        first = ask(reads, path)
        tags[path] = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        again = ask(reads, path, tags=f'"x", W/{tags[path]}')
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tags[path])
        assert ask(reads, path, tags='"x"').status == 200
    assert len({*tags.values(), ask(reads, "/v1/events", limit=1).headers["etag"]}) == len(tags) + 1
    assert ask(reads, "/v1/counts", since="7d").headers["etag"] != ask(reads, "/v1/counts", since="7d").headers["etag"]
    reads.post("/v1/events", {"event_type": "later", "payload": {}})
    changed = ask(reads, "/v1/counts", tags=tags["/v1/counts"])
    assert changed.status == 200
    assert changed.headers["etag"] != tags["/v1/counts"]
    assert "later" in {each["event_type"] for each in changed.json}
    assert ask(reads, "/v1/runs", tags=tags["/v1/runs"]).status == 304  # the same bytes


def test_a_tag_of_what_is_not_in_the_index_is_of_the_bytes(tmp_path: Path) -> None:
    """A large field is read from a file, which can go while the index stays as it is."""
    with serving(tmp_path / "root") as server:
        server.post("/v1/events", {"event_type": "large", "payload": {"text": "x" * 200_000}})
        first = ask(server, "/v1/events", type="large")
        assert first.json["events"][0]["payload"] == {"text": "x" * 200_000}
        tag = str(first.headers["etag"])
        assert ask(server, "/v1/events", type="large", tags=tag).status == 304
        shutil.rmtree(server.root / "blobs")
        after = ask(server, "/v1/events", type="large", tags=tag)
        assert after.status == 200
        assert "error" in after.json["events"][0]["payload"]["text"]["$blob"]


def test_a_line_is_sent_as_it_stands_in_the_log(reads: Running) -> None:
    """With its place and its hash, which are those of the file."""
    text = {"text": "\u202eзебра \U0001f993", "n": 1.50}
    event_id = reads.post("/v1/events", {"event_type": "odd", "payload": text}).json["ids"][0]
    answer = ask(reads, f"/v1/events/{event_id}", raw="true")
    path = layout.segment_path(reads.root, "odd", str(answer.headers["eventlog-segment"]))
    offset = int(answer.headers["eventlog-offset"])
    assert path.read_bytes()[offset:][: len(answer.body)] == answer.body == lines_of(reads.root, "odd")[0] + b"\n"
    assert answer.headers["eventlog-sha256"] == hashlib.sha256(answer.body).hexdigest()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert ask(reads, f"/v1/events/{event_id}", raw=1, tags=str(answer.headers["etag"])).status == 304


def test_what_was_sent_is_in_the_next_answer(reads: Running) -> None:
    """Without an indexer beside it."""
    for n in range(5):
        reads.post("/v1/events", {"event_type": "own", "payload": {"n": n}})
        (count,) = ask(reads, "/v1/counts", type="own").json
        assert count["events"] == n + 1


def test_workspaces_catch_up_afterwards(reads: Running) -> None:
    """A question about one workspace indexes nothing: it says that something is missing, and the next one has it."""
    key = reads.make_key("read", workspace=OWN)
    recorder = Recorder(Config(root=str(reads.root), strict=True))
    recorder.emit("beside", {"n": 1}, workspace=OWN)
    recorder.shutdown()
    eventually(lambda: ask(reads, "/v1/counts", key=key).status == 200)
    answers: list[Answered] = []

    def is_there() -> bool:
        answers.append(ask(reads, "/v1/counts", key=key, type="beside"))
        return bool(answers[-1].json)

    eventually(is_there)
    assert answers[-1].json[0]["events"] == 1
    assert "eventlog-behind" not in ask(reads, "/v1/counts", key=key).headers
    assert {each.headers["eventlog-behind"] for each in answers[:-1]} <= {"unknown"}


# -- SQL ---------------------------------------------------------------------------------------

BAD_SQL = [
    ({}, 400, "invalid_question", "query"),
    ({"query": "SELECT 1", "row_limit": 5}, 400, "invalid_question", "row_limit"),
    ({"query": "SELECT 1", "limit": 0}, 400, "bad_parameter", "limit"),
    ({"query": "SELECT 1", "limit": 10**6}, 400, "bad_parameter", "limit"),
    ({"query": "SELECT 1", "timeout_s": 11}, 400, "bad_parameter", "timeout_s"),
    ({"query": "SELECT 1", "format": "xml"}, 400, "invalid_question", "xml"),
    ({"query": "SELECT 1 --" + "x" * 100_000}, 400, "bad_parameter", "query"),
    ({"query": "DROP TABLE events"}, 400, "bad_query", "read-only"),
    ({"query": "FROM read_csv('/etc/passwd')"}, 400, "bad_query", "refused"),
    ({"query": "FROM '/etc/passwd'"}, 400, "bad_query", ""),
    ({"query": "SELECT ?", "params": []}, 400, "bad_query", ""),
    ({"query": "SELECT count(*) FROM range(10000000) a, range(10000000) b", "timeout_s": 0.3}, 504, "timed_out", "0.3"),
    ({"query": "SELECT repeat('x', 1000) FROM range(1000)"}, 422, "answer_too_large", "60,000 bytes"),
    ({"query": "SELECT list_sum(range(3000000000))", "timeout_s": 0.5}, None, None, ""),
]


@pytest.mark.parametrize(("body", "status", "code", "words"), BAD_SQL)
def test_sql_that_is_refused(
    reads: Running, body: dict[str, Any], status: int | None, code: str | None, words: str
) -> None:
    """As the command refuses it. What DuckDB cannot stop costs a process, or its memory, and nothing else."""
    answer = reads.post("/v1/sql", body)
    if status is None:
        assert answer.code in ("timed_out", "bad_query", "answer_too_large")
    else:
        assert (answer.status, answer.code) == (status, code)
    assert words in answer.json["detail"]
    assert str(reads.root) not in answer.json["detail"]
    assert reads.post("/v1/sql", {"query": "SELECT $a AS a", "params": {"a": 7}}).json == [{"a": 7}]


def test_an_answer_has_a_size(reads: Running) -> None:
    """Beyond it, there is none."""
    for n in range(3):
        reads.post("/v1/events", {"event_type": "large", "payload": {"text": "x" * 30_000, "n": n}})
    assert ask(reads, "/v1/events", type="large").code == "answer_too_large"
    assert ask(reads, "/v1/events", type="large", limit=1).status == 200


# -- Prometheus ----------------------------------------------------------------------------------


def test_metrics_are_numbers_and_nothing_else(reads: Running) -> None:
    """In the text format; counts move."""

    def metrics() -> dict[str, float]:
        answer = ask(reads, "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.body.decode().splitlines()
        named = [line.split(" ")[2:] for line in lines if line.startswith("# TYPE ")]
        assert all(kind in ("counter", "gauge") for _, kind in named)
        values = {name: float(value) for name, value in (line.split(" ") for line in lines if line[0] != "#")}
        assert list(values) == [name for name, _ in named]
        return values

    before = metrics()
    reads.post("/v1/events", [{"event_type": "counted", "payload": {}}, {"event_type": "no such name", "payload": {}}])
    ask(reads, "/v1/counts")
    after = metrics()
    assert after["eventlog_streams_open"] == after["eventlog_streams_gaps_total"] == 0
    assert after["eventlog_intake_events_total"] == before["eventlog_intake_events_total"] + 1
    assert after["eventlog_intake_events_rejected_total"] == before["eventlog_intake_events_rejected_total"] + 1
    assert after["eventlog_questions_total"] == before["eventlog_questions_total"] + 2
    assert after["eventlog_index_events"] == before["eventlog_index_events"] + 1
    assert after["eventlog_index_lag_bytes"] == 0


# -- nothing yet -----------------------------------------------------------------------------------


def test_a_root_with_nothing_in_it_has_empty_answers(tmp_path: Path) -> None:
    """From the first question on; of a workspace, too."""
    with serving(tmp_path / "root") as fresh:
        key = fresh.make_key("read", workspace="w")
        for path in ("/v1/runs", "/v1/sessions", "/v1/requests", "/v1/metrics", "/v1/quarantine", "/v1/alerts"):
            assert (ask(fresh, path).status, ask(fresh, path).json) == (200, [])
        assert ask(fresh, "/v1/cost").json["rows"] == []
        assert ask(fresh, "/v1/status").json["index"] == "ok"
        eventually(lambda: ask(fresh, "/v1/runs", key=key).status == 200)
        assert ask(fresh, "/v1/events", key=key).json == {"events": [], "next": None}
