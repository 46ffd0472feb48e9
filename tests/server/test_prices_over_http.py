"""Prices over HTTP: those of a workspace apply to it alone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.server.running import Running, serving

MODEL = "made-up-model"
PRICE = {"model": MODEL, "input_usd_per_mtok": "2", "output_usd_per_mtok": 4, "effective_from": "2020-01-01T00:00:00Z"}
CALL = {
    "event_type": "llm_call",
    "payload": {"request_model": MODEL, "uncached_input_tokens": 1_000_000, "output_tokens": 500_000},
    "timestamp": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def served(root: Path) -> Iterator[Running]:
    with serving(root) as started:
        yield started


def costs(root: Path) -> dict[str | None, Decimal | None]:
    """What the calls of each workspace cost."""
    Indexer(root).catch_up()
    return dict(ReadStore(root).sql("SELECT workspace, sum(cost_usd) FROM llm_costs GROUP BY ALL").rows)


def test_prices_of_a_workspace_apply_to_it_alone(served: Running) -> None:
    """And what a key of the whole root sets applies to all, or to the workspace that it names."""
    team = served.known_key("admin", workspace="team")
    for workspace in ("team", "other"):
        assert served.request("POST", "/v1/events", CALL | {"workspace": workspace}).status == 200
    set_by_team = served.request("POST", "/v1/prices", PRICE, key=team)
    assert (set_by_team.status, set_by_team.json["workspace"]) == (201, "team")
    assert costs(served.root) == {"team": Decimal(4), "other": None}
    assert served.request("POST", "/v1/prices?workspace=other", PRICE | {"input_usd_per_mtok": "0.5"}).status == 201
    assert costs(served.root) == {"team": Decimal(4), "other": Decimal("2.5")}
    for_all = served.request("POST", "/v1/prices", PRICE | {"output_usd_per_mtok": "100"})
    assert for_all.json["workspace"] is None
    assert costs(served.root) == {"team": Decimal(4), "other": Decimal("2.5")}


def test_prices_are_listed_newest_first(served: Running) -> None:
    """A key of a workspace sees its own and those for all, and the scope read is enough."""
    team = served.known_key("read", workspace="team")
    for query in ("", "?workspace=team", "?workspace=other"):
        served.request("POST", f"/v1/prices{query}", PRICE)
    listed = served.request("GET", "/v1/prices").json
    assert [each["workspace"] for each in listed["prices"]] == ["other", "team", None]
    assert listed["prices"][0]["price"]["input_usd_per_mtok"] == "2"
    assert listed["prices"][0]["problem"] is None
    assert [each["workspace"] for each in served.request("GET", "/v1/prices", key=team).json["prices"]] == [
        "team",
        None,
    ]
    assert served.request("GET", "/v1/prices?workspace=other", key=team).code == "foreign_workspace"


def test_a_price_in_the_log_that_makes_no_sense_says_so(served: Running) -> None:
    """One that was emitted by other means."""
    served.request("POST", "/v1/events", {"event_type": "price_set", "payload": {"model": MODEL}})
    (price,) = served.request("GET", "/v1/prices").json["prices"]
    assert price["problem"] == "it names no price; give input_usd_per_mtok and output_usd_per_mtok"


REFUSED: list[dict[str, object]] = [
    {"model": MODEL},
    {"model": ""} | {"input_usd_per_mtok": 1},
    PRICE | {"input_usd_per_mtok": "-1"},
    PRICE | {"input_usd_per_mtok": "1e30"},
    PRICE | {"input_usd_per_mtok": "NaN"},
    PRICE | {"input_usd_per_mtok": "0.1234567890123"},
    PRICE | {"colour": "blue"},
    PRICE | {"effective_from": "2020-01-01T00:00:00"},
    PRICE | {"note": "x" * 1001},
]


def test_a_price_that_makes_no_sense_is_refused(served: Running) -> None:
    """And not recorded."""
    for body in REFUSED:
        refused = served.request("POST", "/v1/prices", body)
        assert (refused.status, refused.code) == (422, "invalid_body"), body
    assert not (served.root / "log/price_set").exists()


def test_only_admins_set_prices(served: Running) -> None:
    """Of another workspace, nobody who has one."""
    assert served.request("POST", "/v1/prices", PRICE, key=served.known_key("ingest", "read")).code == "missing_scope"
    team = served.known_key("admin", workspace="team")
    assert served.request("POST", "/v1/prices?workspace=other", PRICE, key=team).code == "foreign_workspace"
    assert served.request("POST", "/v1/prices", PRICE, key=None).status == 401
