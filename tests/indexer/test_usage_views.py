"""One reading of usage: what a program records, and what a transcript says, give the same call."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.format.usage import read
from eventlog.format.usage_dialects import ADDED, ADVISOR, ANTHROPIC, DIALECTS, LISTS, SUMMED, TOKENS, Dialect
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.views import usage
from eventlog.queries.store import ReadStore
from eventlog.record.calls import emit_llm_call
from eventlog.record.recorder import Recorder
from tests.eventlog.test_usage import CASES, PROBLEMS

#: All that a usage object decides.
COLUMNS = (
    "model", *TOKENS, "service_tier", "web_searches", "inference_geo", "usage_problem", "cost_usd", "unpriced_because",
)  # fmt: skip
MODEL = "claude-opus-4-5"
PROVIDER = {"provider_name": "anthropic"}


def calls_of(root: Path, objects: list[Any]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Record and import each object once; return the rows by way and message id."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for number, of_call in enumerate(objects):
        name = f"m{number}"
        emit_llm_call(recorder.emit, of_call, {"response_id": name, "response_model": MODEL, **PROVIDER})
        message = {"id": name, "model": MODEL, "usage": of_call}
        line = {"type": "assistant", "requestId": name, "message": message}
        if number % 3 == 2:
            inner = {"type": "assistant", "requestId": name, "message": message}
            line = {"type": "progress", "data": {"type": "agent_progress", "agentId": "a", "message": inner}}
        recorder.emit("claude_code", line)
    recorder.shutdown()
    Indexer(root).catch_up()
    rows = ReadStore(root).sql(f"SELECT source, message_id, {', '.join(COLUMNS)} FROM llm_costs", row_limit=10**6).rows
    ways: dict[str, dict[str, tuple[Any, ...]]] = {"llm_call": {}, "claude_code": {}}
    for source, message_id, *values in rows:
        ways[source][message_id] = tuple(values)
    return ways


@pytest.fixture(scope="module")
def known() -> Iterator[dict[str, dict[str, tuple[Any, ...]]]]:
    """The calls of the objects that providers document."""
    with tempfile.TemporaryDirectory() as folder:
        yield calls_of(Path(folder), [raw for raw, _ in CASES.values()])


@pytest.mark.parametrize("case", CASES)
def test_an_imported_object_has_the_counts_that_a_recorded_one_has(
    known: dict[str, dict[str, tuple[Any, ...]]], case: str
) -> None:
    """Absent counts are 0 in the view, but for reasoning, which is NULL."""
    number = list(CASES).index(case)
    *counts, reasoning = CASES[case][1]
    wanted = (*(count or 0 for count in counts), reasoning)
    for way in known.values():
        assert way[f"m{number}"][1:7] == wanted


# -- any object ------------------------------------------------------------------------------

_ODD: list[Any] = [
    -4, -1, 1.5, 12.0, -0.0, 0.00001, 1e16, 1e22, 1e300, 2**53 - 1, 2**53, 2**53 + 1, 2**63, 2**64, 10**30, True, False,
    "12", "", "é\u2028\n\"'", "\x7f", [], [3], {}, {"a": 1}, [{"ttl": "5m", "inputTokens": 3}],
]  # fmt: skip
_TEXTS = ["standard", "batch", "fast", "us", "global", "not_available", "", None]
_KINDS = [*SUMMED, ADDED, ADVISOR, ADVISOR, "planner", None]


class Maker:
    """Makes usage objects, plausible and hostile ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._hostile = 0.0

    def _often(self, chance: float) -> bool:
        return self._random.random() < chance

    def _value(self, usual: list[Any] | range = range(50)) -> Any:
        if self._often(self._hostile):
            return self._random.choice(_ODD)
        return None if self._often(0.1) else self._random.choice(usual)

    def _of_dialect(self, dialect: Dialect) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for path in dialect.paths():
            if path[0] in LISTS or self._often(0.4):
                continue
            if len(path) == 1:
                made[path[0]] = self._value()
            elif isinstance(made.setdefault(path[0], {}), dict):
                made[path[0]][path[1]] = self._value()
        if self._often(self._hostile):
            made[self._random.choice(dialect.marks)] = self._value()
        if dialect.input_includes_cache and self._often(0.7):
            made |= {path[0]: self._random.randint(100, 999) for path in dialect.input if len(path) == 1}
        return made

    def _entry(self) -> Any:
        if self._often(self._hostile):
            return self._random.choice(_ODD)
        entry = {"type": self._random.choice(_KINDS), **self._of_dialect(ANTHROPIC)}
        entry["model"] = self._value(["claude-haiku-4-5", "claude-opus-4-8"])
        return entry | ({"speed": self._value(_TEXTS)} if self._often(0.3) else {})

    def usage(self) -> dict[str, Any]:
        """Return an object of one dialect, of several, or of none; with what any may have."""
        self._hostile = self._random.choice([0.0, 0.02, 0.3])
        made: dict[str, Any] = {}
        for _ in range(self._random.choice([0, 1, 1, 1, 1, 2])):
            made |= self._of_dialect(self._random.choice([ANTHROPIC, *DIALECTS]))
        for name in ("service_tier", "speed", "inference_geo"):
            made |= {name: self._value(_TEXTS)} if self._often(0.3) else {}
        if self._often(0.3):
            made["server_tool_use"] = self._random.choice([{"web_search_requests": self._value()}, self._value([{}])])
        if self._often(0.1):
            made["webSearchRequests"] = self._value()
        if self._often(0.2):
            made["cacheDetails"] = [
                {"ttl": self._value(["5m", "1h"]), "inputTokens": self._value()} if self._often(0.9) else self._value()
                for _ in range(self._random.randint(0, 3))
            ]
        if self._often(0.4):
            entries = [self._entry() for _ in range(self._random.randint(0, 4))]
            made["iterations"] = self._value([entries])
        if self._often(0.2):
            made[self._random.choice(["credits", "cost", "ä\"'"])] = self._value()
        return made


def objects(seed: int, size: int) -> list[dict[str, Any]]:
    maker = Maker(seed)
    return [maker.usage() for _ in range(size)]


_MANY = {"input_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": 1}] * 64}


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 2**32))
def test_python_and_sql_read_any_object_alike(seed: int) -> None:
    """Counts, tier, searches, place, problem, and what advisors used."""
    given_ = [*objects(seed, 300), _MANY, *(raw for raw, _ in CASES.values()), *(raw for raw, _ in PROBLEMS.values())]
    column = usage.promoted("t", "usage", "payload")
    rows = "(SELECT unnest(?::VARCHAR[])::JSON AS payload)"
    columns = ", ".join(f"{value} AS {name}" for name, value in usage.columns("r").items())
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT payload, {columns} FROM (SELECT payload, {column.value('NULL')}::JSON::VARCHAR[] AS r "
            f"FROM {column.stepped(rows)})",
            [[json.dumps(raw) for raw in given_]],
        ).fetchall()
    assert len(found) == len(given_)
    for text, *values, advice in found:
        reading = read(json.loads(text))
        counts = [reading.counts.get(name) for name in TOKENS]
        assert values == [
            *counts, reading.service_tier, reading.web_searches, reading.inference_geo, reading.problem
        ], text  # fmt: skip
        assert [(one["model"], one["usage_problem"], one["output_tokens"]) for one in json.loads(advice or "[]")] == [
            (one.model, one.problem, one.counts.get("output_tokens")) for one in reading.advice
        ], text


def test_objects_of_the_test_above_are_read_and_are_refused() -> None:
    """Of both enough, so that it tests something."""
    readings = [read(raw) for raw in objects(7, 1000)]
    assert 300 < sum(reading.problem is None and bool(reading.counts) for reading in readings) < 800
    assert sum(bool(reading.advice) for reading in readings) > 50
    assert {name for reading in readings for name in reading.counts if reading.problem is None} == set(TOKENS)


def test_any_object_gives_the_same_call_recorded_and_imported(root: Path) -> None:
    """The whole way: emitted and imported, indexed, and asked for with cost and reason."""
    given_ = objects(11, 150)
    ways = calls_of(root, given_)
    recorded, imported = ways["llm_call"], ways["claude_code"]
    assert any("#advisor_message/" in name for name in recorded)
    for name in recorded.keys() | imported.keys():
        number = int(name.partition("#")[0][1:])
        found = [dict(zip(COLUMNS, way.get(name, ()), strict=False)) for way in (recorded, imported)]
        assert found[0] == found[1], given_[number]


def test_an_advisor_has_an_id_and_a_cost_of_its_own(root: Path) -> None:
    """By the event's id, where the call has none; what is said that a call cost is the cost of all of it."""
    of_call = {"input_tokens": 1, "iterations": [{"type": "advisor_message", "model": "a", "input_tokens": 7}] * 2}
    recorder = Recorder(Config(root=str(root), strict=True))
    event_id = emit_llm_call(recorder.emit, of_call, {"request_model": "m", "cost_usd": "0.5", **PROVIDER})
    recorder.shutdown()
    Indexer(root).catch_up()
    columns = "message_id, model, provider, uncached_input_tokens, reported_cost_usd::VARCHAR"
    rows = ReadStore(root).sql(f"SELECT {columns} FROM llm_calls ORDER BY 1").rows
    zero = "0.000000000000000000"
    assert rows == [
        (event_id, "m", "anthropic", 1, "0.500000000000000000"),
        (f"{event_id}#advisor_message/1", "a", "anthropic", 7, zero),
        (f"{event_id}#advisor_message/2", "a", "anthropic", 7, zero),
    ]
