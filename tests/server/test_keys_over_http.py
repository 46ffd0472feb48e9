"""API keys over HTTP: no key makes one that may do more than itself, or sees those of others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventlog.server import keys
from tests.server.running import Running, serving


@pytest.fixture
def served(root: Path) -> Iterator[Running]:
    with serving(root) as started:
        yield started


def test_a_key_is_made_listed_and_revoked(served: Running) -> None:
    """It opens this server at once, is in no list, and its end is at once, too."""
    made = served.request("POST", "/v1/keys", {"scopes": ["read", "ingest"], "workspace": "team", "note": "CI"})
    assert made.status == 201
    assert (made.json["workspace"], made.json["scopes"]) == ("team", ["ingest", "read"])
    key = made.json["key"]
    assert served.request("GET", "/v1/session", key=key).json["workspace"] == "team"
    listed = served.request("GET", "/v1/keys")
    assert key not in str(listed.json)
    (state,) = [each for each in listed.json["keys"] if each["key_id"] == made.json["key_id"]]
    assert (state["state"], state["workspace"], state["note"]) == ("active", "team", "CI")
    assert served.request("DELETE", f"/v1/keys/{made.json['key_id']}").status == 204
    assert served.request("GET", "/v1/session", key=key).status == 401
    assert served.request("DELETE", f"/v1/keys/{made.json['key_id']}").status == 204
    assert keys.find(served.root, made.json["key_id"]).state == "revoked"


def test_a_key_of_a_workspace_makes_and_sees_those_of_that_workspace(served: Running) -> None:
    """Others do not exist for it."""
    team = served.known_key("admin", workspace="team")
    other = served.request("POST", "/v1/keys", {"scopes": ["read"], "workspace": "other"}).json["key_id"]
    of_all = served.request("POST", "/v1/keys", {"scopes": ["read"]}).json
    assert of_all["workspace"] is None
    assert served.request("POST", "/v1/keys", {"scopes": ["admin"]}, key=team).json["workspace"] == "team"
    refused = served.request("POST", "/v1/keys", {"scopes": ["read"], "workspace": "other"}, key=team)
    assert (refused.status, refused.code) == (403, "foreign_workspace")
    assert {each["workspace"] for each in served.request("GET", "/v1/keys", key=team).json["keys"]} == {"team"}
    for key_id in (other, of_all["key_id"], "00000000"):
        assert served.request("DELETE", f"/v1/keys/{key_id}", key=team).status == 404
    assert keys.find(served.root, other).state == "active"


def test_a_key_makes_none_that_lasts_longer_or_may_send_more(served: Running) -> None:
    """Its own limits hold for those that it makes."""
    until = datetime.now(UTC) + timedelta(hours=1)
    admin = served.known_key("admin", expires=until, events_per_s=10.0)
    later = (until + timedelta(days=1)).isoformat()
    for body in ({"scopes": ["read"]}, {"scopes": ["read"], "expires": later, "events_per_s": 500.0}):
        made = served.request("POST", "/v1/keys", body, key=admin)
        state = keys.find(served.root, made.json["key_id"])
        assert state.expires is not None
        assert abs(state.expires - until) < timedelta(seconds=1)
        assert (state.events_per_s, state.bytes_per_s) == (10.0, None)
    sooner = datetime.now(UTC) + timedelta(minutes=1)
    body = {"scopes": ["read"], "expires": sooner.isoformat(), "events_per_s": 1.0}
    made = served.request("POST", "/v1/keys", body, key=admin)
    assert keys.find(served.root, made.json["key_id"]).events_per_s == 1.0


REFUSED: list[tuple[bytes | dict[str, object], int, str]] = [
    ({"scopes": []}, 422, "invalid_body"),
    ({"scopes": ["root"]}, 422, "invalid_body"),
    ({}, 422, "invalid_body"),
    ({"scopes": ["read"], "key_id": "mine"}, 422, "invalid_body"),
    ({"scopes": ["read"], "expires": "2020-01-01T00:00:00Z"}, 422, "invalid_body"),
    ({"scopes": ["read"], "expires": "2999-01-01T00:00:00"}, 422, "invalid_body"),
    ({"scopes": ["read"], "events_per_s": 0}, 422, "invalid_body"),
    (b"{", 400, "not_json"),
    (b"\xff", 400, "not_json"),
    (b" " * (1024 * 1024 + 1), 413, "too_large"),
]


def test_a_key_that_makes_no_sense_is_refused(served: Running) -> None:
    """And none is made."""
    for body, status, code in REFUSED:
        refused = served.request("POST", "/v1/keys", body)
        assert (refused.status, refused.code) == (status, code), body
    assert len(keys.list_keys(served.root)) == 1


def test_only_admins_manage_keys(served: Running) -> None:
    """Nobody without a key, and no key without the scope."""
    for key, status in ((served.known_key("ingest", "read"), 403), (None, 401)):
        assert served.request("GET", "/v1/keys", key=key).status == status
        assert served.request("POST", "/v1/keys", {"scopes": ["read"]}, key=key).status == status
        assert served.request("DELETE", "/v1/keys/00000000", key=key).status == status
