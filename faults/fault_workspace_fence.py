"""The fence of a workspace: a limited store, compared with the same workspace in a log of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format import control
from eventlog.queries.access import checked_versions
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults import oracle, positions
from faults.campaign import Plan, fault

#: What is said of others, and of the place. Each is in the shared log, or in the index of it, and nowhere else.
_OF_OTHERS = re.compile("xyzzy|index_[0-9a-f]{32}|(event_rows|rejected)_[0-9a-f]{32}")
_OWN_NAMES = [
    "events", "event_types", "runs", "steps", "llm_calls", "llm_costs", "llm_rates", "tool_calls", "sessions",
    "conflicts", "quarantine", "price_events", "alerts", "alert_rules", "alert_deliveries", "range", "made_up",
]  # fmt: skip
#: Event types of its own; some have names that DuckDB uses, too.
_OWN_TYPES = ["note", "pg_tables", "tables", "duckdb_memory"]
_HIDDEN_NAMES = [
    "event_rows", "rejected", "segments", "index_meta", "event_schema", "secret_xyzzy", "llm_call", "index",
]  # fmt: skip


class Outcome(NamedTuple):
    """Rows in any order, or an error."""

    rows: list[str]
    error: str


def write(apart: Path, shared: Path) -> None:
    """Write a workspace to a log of its own, and the same segments with those of others to another log."""
    recorder = Recorder(Config(root=str(apart), strict=True), role=control.Role.MAINTENANCE)
    for name in _OWN_TYPES:
        _emit_schema(recorder, name, "n")
    recorder.emit("price_set", {"model": "m", "input_usd_per_mtok": "1"})
    for number in range(200):
        recorder.emit(_OWN_TYPES[number % 4], {"n": number}, workspace="mine", run_id=f"r{number % 5}")
    recorder.shutdown()
    shutil.copytree(apart / "log", shared / "log")
    for segment in shared.glob("log/*/*"):
        segment.chmod(0o400)  # nobody goes on with it, so that places in the log are the same in both
    recorder = Recorder(Config(root=str(shared), strict=True), role=control.Role.MAINTENANCE)
    _emit_schema(recorder, "secret_xyzzy", "price_xyzzy")
    for number in range(300):
        recorder.emit("note", {"n": "xyzzy"}, workspace="theirs_xyzzy", run_id="xyzzy", agent="xyzzy")
        recorder.emit("secret_xyzzy", {"price_xyzzy": number}, workspace="theirs_xyzzy", session_id="xyzzy")
        recorder.emit("llm_call", {"request_model": "xyzzy", "output_tokens": number}, run_id="xyzzy")
    recorder.shutdown()
    for root in (apart, shared):
        oracle.recover(root)


def _emit_schema(recorder: Recorder, name: str, field: str) -> None:
    schema = {"type": "object", "properties": {field: {"type": "integer"}}}
    recorder.emit("event_schema", {"name": name, "version": 1, "json_schema": schema})


def outcome(store: ReadStore, query: str) -> Outcome:
    """Run a query; return its outcome."""
    try:
        return Outcome(sorted(map(repr, store.sql(query, row_limit=2000).rows)), "")
    except QueryFailed as error:
        return Outcome([], str(error))


@fault("The fence of a workspace", "a name in every position of a query: catalogs, hidden tables, types of others")
def workspace_fence(plan: Plan) -> str:
    shared, apart = plan.folder / "shared_xyzzy", plan.folder / "apart"
    write(apart, shared)
    stores = [
        # That it may be ended saves a process for each query.
        ReadStore(root, workspace="mine", timeout_s=20, on_stuck=lambda _: None)
        for root in (shared, apart)
    ]
    names = [*positions.catalog(), *3 * [*_OWN_NAMES, *_OWN_TYPES, *_HIDDEN_NAMES]]
    asked = list(positions.queries(plan.rng, names, 6))
    asked = plan.rng.sample(asked, max(plan.times(600), 60))
    answered = sum(_same(stores, query) for query in asked)
    copied = plan.rng.sample(asked, len(asked) // 5)
    with mock.patch.object(checked_versions, "is_checked", return_value=False):  # as with a DuckDB to come
        for query in copied:
            _same(stores, query)
    Plan.check(answered > 0, "no query was answered: the generator is wrong")
    return (
        f"{len(asked):,} queries over {len(set(names))} names, {answered:,} answered, each as in a log of its own; "
        f"{len(copied):,} of them again from a copy"
    )


def _same(stores: list[ReadStore], query: str) -> bool:
    shared, apart = (outcome(store, query) for store in stores)
    Plan.check(shared == apart, f"{query!r}: {str(shared)[:700]} in a shared log, {str(apart)[:700]} in one of its own")
    told = _OF_OTHERS.search(str(shared).replace(query, ""))
    said = "" if told is None or told[0] in query else f"{query!r} tells {told[0]!r}: {str(shared)[:1000]}"
    Plan.check(not said, said)
    return not shared.error
