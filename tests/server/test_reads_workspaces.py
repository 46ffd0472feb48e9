"""What a key of one workspace is told: whatever it asks about another one, it is what it is told about none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pytest

from eventlog.queries.store import ReadStore
from eventlog.server.endpoints import ENDPOINTS, Endpoint
from eventlog.server.parameters import AFTER, Parameter
from tests.server.running import Answered, Running, serving
from tests.server.support_reads import FOREIGN, NOBODY, OWN, ask, two_workspaces
from tests.server.test_reads import eventually

#: Values of each parameter that name something of a workspace, those that `{}` is filled with.
_NAMES: dict[str, list[str]] = {
    "agent": ["agent-{}", "agent-"],
    "run_id": ["run-{}"],
    "session_id": ["session-{}"],
    "request_id": ["request-{}"],
    "type": ["note_{}"],
    "words": ["{}", "nightly {}"],
    "text": ["zebra{}", '"the word is zebra{}"'],
    "model": ["model-{}"],
    "source": ["note_{}"],
    "a": ["run-{}", "session-{}"],
    "b": ["run-{}", "session-{}"],
    "workspace": ["{}"],
}
_IDS = ["run-{}", "session-{}", "request-{}", "agent-{}"]
#: What every question that needs a parameter is asked with.
_REQUIRED = {"a": f"run-{OWN}", "b": f"run-{OWN}", "text": "zebra", "as_of": "2026-03-03"}
#: Values of parameters that name nothing.
_OTHERS: dict[str, list[Any]] = {
    "since": ["2026-01-01", "9999d"], "until": ["2100-01-01"], "as_of": ["2026-01-01"], "at": ["2026-03-02T00:01Z"],
    "zone": ["Asia/Tokyo"], "window": ["7d"], "budget": ["1"], "limit": [1, 1000], "newest_first": [1],
    "raw": [1], "active": [1], "history": [1], "dead": [1], "all": [1], "text_chars": [5], "after": [],
    "inside": [1],
}  # fmt: skip


class Keys:
    def __init__(self, server: Running, ids: dict[str, list[str]]) -> None:
        self.server = server
        self.ids = ids
        self.own = server.make_key("read", workspace=OWN)
        self.nobody = server.make_key("read", workspace=NOBODY)
        eventually(lambda: ask(server, "/v1/counts", key=self.nobody).status == 200)

    def ask(self, endpoint: Endpoint, id_: str = "", *, key: str | None = None, **parameters: Any) -> Answered:
        path = endpoint.path.replace("{id}", id_)
        required = {each.name: _REQUIRED[each.name] for each in endpoint.parameters if each.required}
        return ask(self.server, path, key=key or self.own, **required | parameters)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    root = tmp_path_factory.mktemp("workspaces") / "root"
    ids = two_workspaces(root)
    with serving(root, settings="budget_usd_per_month = 77.5\n") as running:
        yield Keys(running, ids)


def told(answer: Answered, *names: str) -> tuple[Any, ...]:
    """All that an answer says, without the request's own id, and with names that were asked for as one."""
    body = answer.body.decode()
    for name in names:
        body = body.replace(name, "NAME")
    body = re.sub(
        r'"(request_id":"[0-9a-f]{16}|elapsed_s":[0-9.]+|until":"[^"]+|(usd_per_hour|projected_usd)":"[^"]*)"?',
        "",
        body,
    )
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "eventlog-request-id")}
    if names:  # the tag is of the bytes, which have the names
        headers.pop("etag", None)
    return answer.status, headers if "elapsed_s" not in answer.body.decode() else None, body


SCOPED = [endpoint for endpoint in ENDPOINTS if not endpoint.of_the_root]
WITH_PARAMETERS = [
    pytest.param(endpoint, parameter, id=f"{endpoint.name}-{parameter.name}")
    for endpoint in SCOPED
    if endpoint.name != "event"
    for parameter in endpoint.all_parameters
]
WITH_PAGES = [endpoint for endpoint in SCOPED if AFTER in endpoint.parameters]
WITH_IDS = [pytest.param(endpoint, id=endpoint.name) for endpoint in SCOPED if endpoint.of_path]


@pytest.mark.parametrize(("endpoint", "parameter"), WITH_PARAMETERS)
def test_no_parameter_reaches_another_workspace(keys: Keys, endpoint: Endpoint, parameter: Parameter) -> None:
    """A name of another workspace is as unknown as one of nobody's, and nothing of it is in any answer."""
    own_id = f"run-{OWN}" if endpoint.name not in ("session", "request") else f"{endpoint.name}-{OWN}"
    for pattern in _NAMES.get(parameter.name, ()):
        foreign = keys.ask(endpoint, own_id, **{parameter.name: pattern.format(FOREIGN)})
        nobody = keys.ask(endpoint, own_id, **{parameter.name: pattern.format(NOBODY)})
        assert told(foreign, FOREIGN) == told(nobody, NOBODY)
    values = [*parameter.choices, *_OTHERS.get(parameter.name, ())]
    if parameter.name not in _NAMES:
        assert values or parameter.name == "after"
    for value in values:
        answer = keys.ask(endpoint, own_id, **{parameter.name: value})
        assert answer.status in (200, 404), answer.body
        assert FOREIGN.encode() not in answer.body
        assert b"77.5" not in answer.body  # what the owner means to spend


@pytest.mark.parametrize("endpoint", WITH_IDS)
def test_no_id_reaches_another_workspace(keys: Keys, endpoint: Endpoint) -> None:
    """Nor does the beginning of one: where both workspaces have ids that begin so, there is one."""
    for pattern in _IDS:
        foreign = keys.ask(endpoint, pattern.format(FOREIGN))
        nobody = keys.ask(endpoint, pattern.format(NOBODY))
        assert foreign.status == 404
        assert told(foreign, FOREIGN) == told(nobody, NOBODY)
    if endpoint.name in ("run", "messages", "insights"):
        assert keys.ask(endpoint, "run-").status == 200
    for event_id in keys.ids[FOREIGN]:
        for raw in (0, 1):
            more: dict[str, Any] = {"raw": raw} if endpoint.name == "event" else {}
            unknown = event_id[:-4] + "0000"
            foreign = keys.ask(endpoint, event_id, **more)
            assert foreign.status == 404
            assert told(foreign, event_id) == told(keys.ask(endpoint, unknown, **more), unknown)
    if endpoint.name == "event":
        for event_id in keys.ids[OWN]:
            answer = keys.ask(endpoint, event_id)
            assert (
                answer.json["path"]
                == f"log/{answer.json['event']['event_type']}/{answer.json['event']['segment']}.jsonl"
            )
            assert keys.ask(endpoint, event_id, raw=1).body == answer.json["line"].encode() + b"\n"


@pytest.mark.parametrize("endpoint", WITH_PAGES, ids=lambda each: each.name)
def test_places_of_another_workspace_are_places_and_no_more(keys: Keys, endpoint: Endpoint) -> None:
    """A cursor is compared with the rows of the own workspace, whoever made it."""
    page = keys.ask(endpoint, key=keys.server.key, limit=1)
    after = re.search(r"after=([^>&]+)", str(page.headers["link"])) if endpoint.name != "events" else None
    cursor = page.json["next"] if after is None else unquote_plus(after[1])
    assert FOREIGN.encode() not in keys.ask(endpoint, after=cursor).body


@pytest.mark.parametrize("query", [
    "FROM events", "FROM runs", "FROM llm_costs", "SELECT * FROM duckdb_tables()", "SELECT count(*) FROM segments",
    f"SELECT * FROM events WHERE workspace = '{FOREIGN}'", "FROM event_rows", "SELECT getenv('HOME')", "SHOW TABLES",
])  # fmt: skip
def test_no_query_reaches_another_workspace(keys: Keys, query: str) -> None:
    """Rows or errors, they say the same as where there is no other workspace."""
    answer = keys.server.post("/v1/sql", {"query": query}, key=keys.own)
    assert answer.status in (200, 400)
    assert FOREIGN.encode() not in answer.body.replace(query.encode(), b"")
    refused = keys.server.post("/v1/sql", {"query": query, "workspace": FOREIGN}, key=keys.own)
    assert told(refused) == told(keys.server.post("/v1/sql", {"query": query, "workspace": NOBODY}, key=keys.own))
    assert refused.code == "foreign_workspace"


def test_the_own_workspace_is_all_there(keys: Keys) -> None:
    """As in a store of this workspace; a key of all sees it with `workspace`."""
    store = ReadStore(keys.server.root, workspace=OWN)
    assert [run["run_id"] for run in ask(keys.server, "/v1/runs", key=keys.own).json] == [f"run-{OWN}"]
    assert ask(keys.server, "/v1/search", key=keys.own, text=f"zebra{OWN}").json["matches"] == 2
    counts = {count.event_type: count.events for count in store.counts()}
    for answer in (
        ask(keys.server, "/v1/counts", key=keys.own),
        ask(keys.server, "/v1/counts", key=keys.own, workspace=OWN),
        ask(keys.server, "/v1/counts", workspace=OWN),
    ):
        assert {each["event_type"]: each["events"] for each in answer.json} == counts
    assert ask(keys.server, "/v1/cost").json["budgets"][0]["limit_usd"] == "77.5"


def test_tags_do_not_tell_when_others_write(keys: Keys) -> None:
    """They are of the bytes of the answer in a workspace."""
    before = ask(keys.server, "/v1/counts", key=keys.own).headers["etag"]
    sent = keys.server.post("/v1/events", {"event_type": f"note_{FOREIGN}", "workspace": FOREIGN, "payload": {}})
    assert sent.status == 200
    assert ask(keys.server, "/v1/counts", workspace=FOREIGN).status == 200
    ask(keys.server, "/v1/counts")  # and this indexes it
    assert ask(keys.server, "/v1/counts", key=keys.own).headers["etag"] == before
