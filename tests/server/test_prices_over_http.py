"""Prices over HTTP: those of a workspace apply to it alone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.server.support_serving import Served, serving

MODEL = "made-up-model"
PRICE = {"model": MODEL, "input_usd_per_mtok": "2", "output_usd_per_mtok": 4, "effective_from": "2020-01-01T00:00:00Z"}
CALL = {
    "event_type": "llm_call",
    "payload": {"request_model": MODEL, "uncached_input_tokens": 1_000_000, "output_tokens": 500_000},
    "timestamp": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def served(root: Path) -> Iterator[Served]:
    with serving(root) as started:
        yield started


def costs(root: Path) -> dict[str | None, Decimal | None]:
    """What the calls of each workspace cost."""
    Indexer(root).catch_up()
    return dict(ReadStore(root).sql("SELECT workspace, sum(cost_usd) FROM llm_costs GROUP BY ALL").rows)


def test_prices_of_a_workspace_apply_to_it_alone(served: Served) -> None:
    """And what a key of the whole root sets applies to all, or to the workspace that it names."""
    admin, team = served.key("admin"), served.key("admin", workspace="team")
    for workspace in ("team", "other"):
        assert served.ask("POST", "/v1/events", admin, CALL | {"workspace": workspace}).status == 200
    set_by_team = served.ask("POST", "/v1/prices", team, PRICE)
    assert (set_by_team.status, set_by_team.body["workspace"]) == (201, "team")
    assert costs(served.root) == {"team": Decimal(4), "other": None}
    assert served.ask("POST", "/v1/prices?workspace=other", admin, PRICE | {"input_usd_per_mtok": "0.5"}).status == 201
    assert costs(served.root) == {"team": Decimal(4), "other": Decimal("2.5")}
    for_all = served.ask("POST", "/v1/prices", admin, PRICE | {"output_usd_per_mtok": "100"})
    assert for_all.body["workspace"] is None
    assert costs(served.root) == {"team": Decimal(4), "other": Decimal("2.5")}


def test_prices_are_listed_newest_first(served: Served) -> None:
    """A key of a workspace sees its own and those for all, and the scope read is enough."""
    admin, team = served.key("admin"), served.key("read", workspace="team")
    for query in ("", "?workspace=team", "?workspace=other"):
        served.ask("POST", f"/v1/prices{query}", admin, PRICE)
    listed = served.ask("GET", "/v1/prices", admin).body
    assert [each["workspace"] for each in listed["prices"]] == ["other", "team", None]
    assert listed["prices"][0]["price"]["input_usd_per_mtok"] == "2"
    assert listed["prices"][0]["problem"] is None
    assert [each["workspace"] for each in served.ask("GET", "/v1/prices", team).body["prices"]] == ["team", None]
    assert served.ask("GET", "/v1/prices?workspace=other", team).code == "foreign_workspace"


def test_a_price_in_the_log_that_makes_no_sense_says_so(served: Served) -> None:
    """One that was emitted by other means."""
    admin = served.key("admin")
    served.ask("POST", "/v1/events", admin, {"event_type": "price_set", "payload": {"model": MODEL}})
    (price,) = served.ask("GET", "/v1/prices", admin).body["prices"]
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


def test_a_price_that_makes_no_sense_is_refused(served: Served) -> None:
    """And not recorded."""
    admin = served.key("admin")
    for body in REFUSED:
        refused = served.ask("POST", "/v1/prices", admin, body)
        assert (refused.status, refused.code) == (422, "invalid_body"), body
    assert not (served.root / "log/price_set").exists()


def test_only_admins_set_prices(served: Served) -> None:
    """Of another workspace, nobody who has one."""
    assert served.ask("POST", "/v1/prices", served.key("ingest", "read"), PRICE).code == "missing_scope"
    team = served.key("admin", workspace="team")
    assert served.ask("POST", "/v1/prices?workspace=other", team, PRICE).code == "foreign_workspace"
    assert served.ask("POST", "/v1/prices", None, PRICE).status == 401
