"""Events over HTTP: one verdict for each, and an id only for what is in the log."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.format import control
from eventlog.format.control import Role
from eventlog.log import reader
from eventlog.record.recorder import Recorder
from eventlog.server import ingest
from eventlog.server.ingest import Sender
from tests.conftest import lines_of
from tests.indexer.support import index, rows
from tests.server.running import Running, serving


def _events(server: Running, event_type: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines_of(server.root, event_type)]


BODIES: dict[str, tuple[bytes, int]] = {
    "one object": (b'{"event_type":"TYPE","payload":{"n":1}}', 1),
    "one object over several lines": (b'{\n "event_type": "TYPE",\n "payload": {"n":\n 1}\n}\n', 1),
    "no payload": (b'{"event_type":"TYPE"}', 1),
    "an array": (b'[{"event_type":"TYPE"},{"event_type":"TYPE"}]', 2),
    "JSON lines": (b'{"event_type":"TYPE"}\n{"event_type":"TYPE"}\n', 2),
    "JSON lines, empty ones between them": (b'\n{"event_type":"TYPE"}\r\n\n{"event_type":"TYPE"}', 2),
    "fields that are null": (b'{"event_type":"TYPE","run_id":null,"payload":{}}', 1),
}


@pytest.mark.parametrize("case", BODIES)
def test_forms_of_bodies(case: str, server: Running) -> None:
    body, count = BODIES[case]
    event_type = "form." + case.replace(" ", "_").replace(",", "").lower()
    answer = server.post("/v1/events", body.replace(b"TYPE", event_type.encode()))
    assert answer.status == 200
    assert answer.json["accepted"] == count
    assert answer.json["rejected"] == []
    assert [event["event_id"] for event in _events(server, event_type)] == answer.json["ids"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
def test_compressed_bodies(encoding: str, server: Running) -> None:
    body = msgspec.json.encode([{"event_type": f"packed.{encoding}", "payload": {"n": n}} for n in range(50)])
    packed = {"gzip": gzip.compress(body), "zstd": zstandard.compress(body), "identity": body}[encoding]
    answer = server.post("/v1/events", packed, headers={"Content-Encoding": encoding})
    assert answer.json["accepted"] == 50
    assert [event["payload"]["n"] for event in _events(server, f"packed.{encoding}")] == list(range(50))


def test_all_fields_of_the_envelope_are_taken(server: Running) -> None:
    fields = {
        "event_id": "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847", "timestamp": "2026-01-02T03:04:05+01:00", "run_id": "r",
        "request_id": "q", "session_id": "s", "parent_event_id": "p", "cycle": 1, "turn_number": 2,
        "audit_level": "session", "workspace": "w", "agent": "a", "schema_version": 3,
    }  # fmt: skip
    answer = server.post("/v1/events", {"event_type": "whole", "payload": {"é": [1.0, None]}, **fields})
    assert answer.json["ids"] == [fields["event_id"]]
    (event,) = _events(server, "whole")
    stored = {**fields, "event_type": "whole", "timestamp": "2026-01-02T02:04:05.000000Z"}
    assert event == {**stored, "payload": {"é": [1.0, None]}}


REFUSED: dict[str, tuple[dict[str, object] | str, str]] = {
    "an unknown field": ({"event_type": "t", "run": "r"}, "invalid_event"),
    "no type": ({"payload": {}}, "invalid_event"),
    "a type that is none": ({"event_type": "../x"}, "invalid_event"),
    "a payload that is no object": ({"event_type": "t", "payload": [1]}, "invalid_event"),
    "a time that is none": ({"event_type": "t", "timestamp": "yesterday"}, "invalid_event"),
    "an id that is none": ({"event_type": "t", "event_id": "1"}, "invalid_event"),
    "a level that is none": ({"event_type": "t", "audit_level": "loud"}, "invalid_event"),
    "a count beyond 64 bits": ({"event_type": "t", "cycle": 2**70}, "invalid_event"),
    "a built-in type with a wrong field": (
        {"event_type": "llm_call", "payload": {"output_tokens": "5"}},
        "invalid_event",
    ),
    "a nesting that is too deep": ('{"event_type":"t","payload":{"a":' + "[" * 300 + "]" * 300 + "}}", "invalid_event"),
    "a nesting that no parser takes": ('{"event_type":"t","payload":' + '{"a":' * 9000 + "1" + "}" * 9001, "not_json"),
    "no JSON": ('{"event_type":"t"', "not_json"),
    "a number that is none": ('{"event_type":"t","payload":{"n":NaN}}', "not_json"),
    "an event of maintenance": ({"event_type": "segment_sealed"}, "control_event"),
    "an API key": ({"event_type": "api_key_created", "payload": {"key_id": "a"}}, "control_event"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_does_not_keep_the_others_out(case: str, server: Running) -> None:
    """A good event before and behind it is taken; alone, it is answered with 422, or 400 where it is no JSON."""
    event, code = REFUSED[case]
    bad = event.encode() if isinstance(event, str) else msgspec.json.encode(event)
    good = b'{"event_type":"beside.refused"}'
    answer = server.post("/v1/events", b"\n".join([good, bad, good]))
    assert answer.status == 200
    assert answer.json["accepted"] == 2
    assert [(each["index"], each["code"]) for each in answer.json["rejected"]] == [(1, code)]
    alone = server.post("/v1/events", bad)
    assert alone.status in (400, 422)
    assert not alone.json.get("accepted")


def test_bytes_that_are_no_utf8_are_refused(server: Running) -> None:
    answer = server.post("/v1/events", b'{"event_type":"t","payload":{"a":"\xff"}}\n{"event_type":"beside.refused"}')
    assert answer.json["accepted"] == 1


@pytest.mark.parametrize("body", [b"", b"\n\n", b"[]"])
def test_a_body_without_events(body: bytes, server: Running) -> None:
    assert server.post("/v1/events", body).code in ("no_events", "not_json")


def test_secrets_are_redacted_as_anywhere(server: Running) -> None:
    key = "sk-ant-api03-" + "a1B2" * 20
    server.post("/v1/events", {"event_type": "secret", "payload": {"text": f"key {key}"}})
    (event,) = _events(server, "secret")
    assert key not in event["payload"]["text"]


# -- workspaces and roles --------------------------------------------------------------------


def test_the_workspace_of_the_key_is_stamped(server: Running) -> None:
    key = server.make_key("ingest", workspace="ours")
    time.sleep(1)
    events = [{"event_type": "stamped"}, {"event_type": "stamped", "workspace": "ours"}]
    answer = server.post("/v1/events", [*events, {"event_type": "stamped", "workspace": "theirs"}], key=key)
    assert [(each["index"], each["code"]) for each in answer.json["rejected"]] == [(2, "foreign_workspace")]
    assert {event["workspace"] for event in _events(server, "stamped")} == {"ours"}


@pytest.mark.parametrize("event_type", sorted(control.WRITERS))
def test_control_events_need_the_scope_admin(event_type: str, server: Running) -> None:
    """And those of maintenance nobody writes over HTTP, whatever the scope."""
    ordinary = Sender("w", Role.AGENT)
    recorder = Recorder(Config(root=str(server.root), strict=True), role=Role.OPERATOR)
    event = msgspec.json.encode({"event_type": event_type, "payload": {}})
    assert [each.code for each in ingest.append(recorder, [event], ordinary).rejected] == ["control_event"]
    if control.WRITERS[event_type] is Role.MAINTENANCE:
        answer = server.post("/v1/events", event)  # a key with all scopes
        assert [each["code"] for each in answer.json["rejected"]] == ["control_event"]
    recorder.shutdown()


def test_an_ordinary_key_writes_no_price(server: Running) -> None:
    key = server.make_key("ingest", workspace="ours")
    time.sleep(1)
    event = {"event_type": "price_set", "payload": {"model": "m", "input_usd_per_mtok": "1"}}
    assert server.post("/v1/events", event, key=key).json["rejected"][0]["code"] == "control_event"


# -- once ------------------------------------------------------------------------------------


def test_a_request_that_is_made_again_adds_nothing(tmp_path: Path) -> None:
    """Two seconds later, after a restart, in another order of keys, and without an index in between."""
    root = tmp_path / "root"
    events = [{"event_type": "order", "payload": {"n": n}} for n in range(3)]
    once = {"Idempotency-Key": "request-7"}
    with serving(root) as first:
        ids = first.post("/v1/events", events, headers=once).json["ids"]
        time.sleep(2)
        assert first.post("/v1/events", events, headers=once).json["ids"] == ids
        other = first.make_key("ingest", workspace="other")
        time.sleep(1)
        foreign = first.post("/v1/events", events, headers=once, key=other).json["ids"]
    with serving(root) as second:
        assert second.post("/v1/events", events, headers=once).json["ids"] == ids
        assert second.post("/v1/events", {"event_type": "order", "dedupe_key": "d"}).json["accepted"] == 1
        assert second.post("/v1/events", {"event_type": "order", "dedupe_key": "d"}).json["accepted"] == 1
    assert not set(foreign) & set(ids)
    index(root)
    assert rows(
        root, "SELECT count(*), count(*) FILTER (workspace = 'other') FROM events WHERE event_type = 'order'"
    ) == [(7, 3)]
    assert rows(root, "SELECT count(*) FROM conflicts") == [(0,)]


def test_an_idempotency_key_has_a_limit(server: Running) -> None:
    answer = server.post("/v1/events", {"event_type": "t"}, headers={"Idempotency-Key": "k" * 1001})
    assert answer.code == "bad_idempotency_key"


# -- other ways in ---------------------------------------------------------------------------


def test_a_heartbeat(server: Running) -> None:
    answer = server.post("/v1/heartbeat", {"agent": "planner", "status": "busy", "interval_s": 30, "run_id": "r"})
    assert answer.status == 202
    (event,) = _events(server, "heartbeat")
    assert event["event_id"] == answer.json["id"]
    assert (event["agent"], event["run_id"]) == ("planner", "r")
    assert event["payload"] == {"status": "busy", "interval_s": 30.0}


@pytest.mark.parametrize("body", ["{}", '{"agent": 1}', '{"agent": "a", "x": 1}', "no JSON"])
def test_a_heartbeat_that_is_none(body: str, server: Running) -> None:
    assert server.post("/v1/heartbeat", body).code == "invalid_heartbeat"


def test_a_hook_of_claude_code_is_recorded_as_by_the_command(server: Running) -> None:
    told = {"hook_event_name": "PreToolUse", "session_id": "s-1", "tool_name": "Bash", "tool_input": {"command": "ls"}}
    answer = server.post("/v1/hooks/claude-code", told)
    assert (answer.status, answer.body) == (200, b"{}")
    (event,) = _events(server, "agent_hook")
    assert (event["session_id"], event["payload"]) == ("s-1", told)


@pytest.mark.parametrize("key", [None, "evk_00000000_nobody"])
@pytest.mark.parametrize("body", ["no JSON", "[]", '{"session_id": 1}'])
def test_no_hook_stops_an_agent(body: str, key: str | None, server: Running) -> None:
    answer = server.post("/v1/hooks/claude-code", body, key=key)
    assert (answer.status, answer.body) == (200, b"{}")


# -- the invariant ---------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_SENT = st.fixed_dictionaries(
    {"event_type": st.sampled_from(["a", "b.c", "NO", "run_started", "segment_sealed", ""]), "payload": _VALUES},
    optional={
        "run_id": st.text() | st.integers(), "workspace": st.sampled_from(["w", "v"]), "dedupe_key": st.text(),
        "event_id": st.text() | st.uuids().map(str), "timestamp": st.text() | st.datetimes().map(str),
        "unknown": st.none(),
    },
)  # fmt: skip


@settings(max_examples=60)
@given(events=st.lists(_SENT, min_size=1, max_size=8))
def test_each_event_has_one_verdict_and_each_id_a_line(
    events: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Accepted and rejected are all of the body; ids are in order, and exactly what the log has."""
    root = tmp_path_factory.mktemp("verdicts")
    recorder = Recorder(Config(root=str(root), strict=True, durability=Durability.WRITTEN), role=Role.OPERATOR)
    split = [msgspec.json.encode(event) for event in events]
    verdicts = ingest.append(recorder, split, Sender("w", Role.AGENT))
    recorder.shutdown()
    assert verdicts.accepted == len(verdicts.ids)
    assert verdicts.accepted + len(verdicts.rejected) == len(events)
    assert len({each.index for each in verdicts.rejected}) == len(verdicts.rejected)
    types = {str(event["event_type"]) for event in events} - {"NO", ""}
    logged = [msgspec.json.decode(line.data) for line in reader.read_log(root, types)]
    assert sorted(event["event_id"] for event in logged) == sorted(verdicts.ids)
    assert {event.get("workspace") for event in logged} <= {"w"}
