"""Parameters: texts become arguments, or a problem that names the parameter; never anything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.server import parameters
from eventlog.server.endpoints import BY_NAME, ENDPOINTS, Endpoint
from eventlog.server.problems import Problem

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)  # a Wednesday


def read(name: str, **texts: str | list[str]) -> dict[str, Any]:
    endpoint = BY_NAME[name]
    pairs = [(each, text) for each, own in texts.items() for text in ([own] if isinstance(own, str) else own)]
    every = (*endpoint.of_path, *endpoint.all_parameters)
    return parameters.read(every, parameters.collect(every, pairs), NOW)


MEANINGS = [
    ("runs", {}, {"limit": 50, "agent": None, "words": (), "since": None, "zone": UTC}),
    ("runs", {"since": "7d"}, {"since": NOW - timedelta(days=7)}),
    ("runs", {"since": "yesterday"}, {"since": datetime(2026, 3, 3, tzinfo=UTC)}),
    ("runs", {"since": "monday", "zone": "Europe/Berlin"}, {"since": datetime(2026, 3, 1, 23, tzinfo=UTC)}),
    ("runs", {"since": "2026-03-01 10:00", "zone": "Asia/Tokyo"}, {"since": datetime(2026, 3, 1, 1, tzinfo=UTC)}),
    ("runs", {"since": "2026-03-01T10:00+02:00", "zone": "Asia/Tokyo"}, {"since": datetime(2026, 3, 1, 8, tzinfo=UTC)}),
    ("runs", {"zone": "local"}, {"zone": None}),
    ("metrics", {"zone": "Europe/Berlin", "by": ["agent", "model"]},
     {"zone": ZoneInfo("Europe/Berlin"), "by": ("agent", "model"), "every": "daily"}),
    ("events", {"newest_first": "", "type": "a"}, {"newest_first": True, "type": ("a",)}),
    ("events", {"newest_first": "No"}, {"newest_first": False}),
    ("events", {"agent": ""}, {"agent": ""}),
    ("health", {}, {"window": 86_400.0, "at": None}),
    ("today", {}, {"since": datetime(2026, 3, 4, tzinfo=UTC)}),
    ("today", {"zone": "Asia/Tokyo"}, {"since": datetime(2026, 3, 3, 15, tzinfo=UTC)}),
    ("cost", {"budget": "12.50"}, {"budget": Decimal("12.50"), "period": None}),
    ("run", {"id": "a/b"}, {"id": "a/b"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "texts", "expected"), MEANINGS)
def test_what_texts_mean(name: str, texts: dict[str, Any], expected: dict[str, Any]) -> None:
    """As the options of the commands, except that times are in UTC unless a zone is named."""
    arguments = read(name, **texts)
    assert {each: arguments[each] for each in expected} == expected


_NAMES = sorted({each.name for endpoint in ENDPOINTS for each in endpoint.all_parameters})
_TEXTS = st.text(max_size=30) | st.sampled_from(["1", "7d", "today", "UTC", "model", "daily", "2026-01-01", "9" * 20])


@given(
    endpoint=st.sampled_from(ENDPOINTS),
    pairs=st.lists(st.tuples(st.sampled_from([*_NAMES, "x"]), _TEXTS), max_size=5),
)
def test_any_texts_are_arguments_or_a_problem(endpoint: Endpoint, pairs: list[tuple[str, str]]) -> None:
    """A problem names the parameter; without one, there is an argument for each parameter, within its bounds."""
    arguments, problem = _read(endpoint, pairs)
    if problem is not None:
        names = [name for name, _ in pairs] + [each.name for each in endpoint.all_parameters if each.required]
        assert (problem.status, problem.code) == (400, "bad_parameter")
        assert problem.detail.partition(":")[0] in names
        return
    assert arguments.keys() == {each.name for each in endpoint.all_parameters} | {"zone"}
    for each in endpoint.all_parameters:
        value = arguments[each.name]
        if each.kind == "number" and value is not None:
            assert each.least <= value <= each.most
        if each.choices and value is not None:
            assert set(value if each.many else [value]) <= set(each.choices)
        if each.kind == "time" and value is not None:
            assert value.tzinfo is UTC


def _read(endpoint: Endpoint, pairs: list[tuple[str, str]]) -> tuple[dict[str, Any], Problem | None]:
    try:
        texts = parameters.collect(endpoint.all_parameters, pairs)
        return parameters.read(endpoint.all_parameters, texts, NOW), None
    except Problem as problem:
        return {}, problem


def test_every_parameter_is_described() -> None:
    """For people in a sentence, for programs in a schema that has its default."""
    for endpoint in ENDPOINTS:
        names = [each.name for each in (*endpoint.of_path, *endpoint.all_parameters)]
        assert len(names) == len(set(names))
        assert endpoint.meaning.endswith(".")
        for each in endpoint.all_parameters:
            assert each.meaning.endswith(".")
            schema = each.schema()
            assert schema["type"] in ("string", "boolean", "integer", "array")
            assert each.default is None or schema["default"] == each.default
            assert each.default is None or each.kind != "number" or each.least <= each.default <= each.most
