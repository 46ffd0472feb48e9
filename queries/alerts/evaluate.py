"""What rules look at, read from the index: one statement for all rules of a kind and a workspace.

    rules ─→ distinct conditions (what, whose, since when) ──┐
                                                             ├─ one join ─→ a reading for each
    calls in the longest window, once per form of scope ─────┘

Rules of a workspace are measured over the views of that workspace, and so read what its reader reads: a run_id or an
imported message may be in two workspaces. A condition on top of the views of all would not do.

A condition names an agent, the beginning of a model's name, or leaves them open. Each form of
that (which of them are open) sees the calls once with the open ones blanked, so that the join is
by equality, however many rules there are. Windows are half-open: after `now - window`, up to `now`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import EventlogError, IndexFailed, QueryFailed
from eventlog.format import timestamps
from eventlog.format.alerts import AlertRuleSet
from eventlog.log.clock import AHEAD_S
from eventlog.queries.access import sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import rules
from eventlog.queries.alerts.machine import Reading
from eventlog.queries.alerts.rules import PERCENTILE, Rule
from eventlog.queries.cost import costs
from eventlog.queries.metrics.aggregates import outcome

#: What is said of a rule that was not reached.
USED_UP = "the time for checking was used up before it"
_UNREACHED = Reading(holds=None, error=USED_UP, passing=True)
_WAIT_S = 10.0
#: Where statements fail, so many are tried for rules of one kind and workspace: enough to find two among thousands.
_STATEMENTS_MAX = 50
_MS = Decimal("0.001")
_SHARE = Decimal("0.000001")

_Each = tuple[str | None, list[int]]
_Reader = Callable[[duckdb.DuckDBPyConnection, Sequence[Rule], datetime], list[Reading]]

_CONDITIONS = """
    SELECT number::INTEGER AS number, of, agent, model, since::TIMESTAMP AS since, agent IS NULL AS any_agent
    FROM (SELECT unnest(from_json($conditions::JSON,
        '[{"number": "INTEGER", "of": "VARCHAR", "agent": "VARCHAR", "model": "VARCHAR", "since": "VARCHAR"}]'),
        recursive := true))
"""


def _joined(samples: str, columns: str, measures: str) -> str:
    """Return what measures conditions over samples: of, agent, model, moment, and `columns`."""
    # A form that names an agent leaves out samples without one: so a blank is always one that was left open.
    return f"""
        WITH conditions AS ({_CONDITIONS}),
        forms AS (SELECT DISTINCT of, any_agent, model AS pattern FROM conditions),
        samples AS ({samples}),
        seen AS (
            SELECT f.*, CASE WHEN NOT any_agent THEN s.agent END AS agent, s.moment, {columns}
            FROM samples s JOIN forms f
              ON f.of = s.of AND (f.pattern IS NULL OR starts_with(s.model, f.pattern))
             AND (f.any_agent OR s.agent IS NOT NULL)
        )
        SELECT c.number, {measures}
        FROM conditions c LEFT JOIN seen s
          ON s.of = c.of AND s.pattern IS NOT DISTINCT FROM c.model
         AND s.agent IS NOT DISTINCT FROM c.agent AND s.moment > c.since
        GROUP BY c.number
    """


# What is no duration is left out, as in metrics: negative, longer than 30 years, or not a number.
_SOUND = "CASE WHEN {0} BETWEEN 0 AND 1e12 THEN {0} END AS took_ms"
_TIMES = "BETWEEN $since::TIMESTAMP AND $now::TIMESTAMP"

# A run that nothing came from any more counts from the moment at which that is long enough ago. As in metrics, one
# that was cancelled or is under way neither succeeded nor failed (ok NULL), and any word but ok is an error.
_CALLS = {
    "llm_calls": f"""
        SELECT 'llm_calls' AS of, agent, model, timestamp AS moment, ok, {_SOUND.format("latency_ms")}
        FROM llm_calls WHERE timestamp {_TIMES}""",
    "tool_calls": f"""
        SELECT 'tool_calls' AS of, agent, NULL::VARCHAR AS model, coalesce(finished, timestamp) AS moment,
               ok, {_SOUND.format("duration_ms")}
        FROM tool_calls WHERE coalesce(finished, timestamp) {_TIMES}""",
    "runs": f"""
        SELECT 'runs' AS of, agent, NULL::VARCHAR AS model, moment,
               CASE WHEN outcome NOT IN ('cancelled', 'running') THEN outcome = 'ok' END AS ok,
               {_SOUND.format("duration_ms")}
        FROM (SELECT *, {outcome("$now::TIMESTAMP")} AS outcome,
              coalesce(finished, abandoned_at) AS moment FROM runs)
        WHERE moment {_TIMES}""",
}

_HEARTBEATS = """
    SELECT '' AS of, agent, NULL::VARCHAR AS model, max(timestamp) AS moment
    FROM events WHERE event_type = 'heartbeat' AND timestamp <= $now::TIMESTAMP GROUP BY ALL
"""


_COSTS = f"""
    SELECT '' AS of, agent, model, timestamp AS moment, cost_usd
    FROM llm_costs WHERE timestamp {_TIMES}
"""


class Measured(msgspec.Struct, frozen=True):
    """The readings of rules, by their place in what was asked for, and how many statements that took."""

    readings: list[Reading]
    statements: int


def measure(
    root: str | Path, asked: Sequence[Rule], now: datetime, *, limit_s: float, wait_s: float = _WAIT_S
) -> Measured:
    """Read what rules of all kinds but `sql` look at, within a time. Raises nothing that is about rules or the index.

    What cannot be measured, or overruns the time, is an error of the rules that it concerns.
    """
    readings: dict[int, Reading] = {}
    deadline = time.monotonic() + limit_s
    statements = 0
    workspaces: dict[str | None, list[int]] = {}
    for place, rule in enumerate(asked):
        workspaces.setdefault(rule.workspace, []).append(place)
    for workspace, places in _rotated(list(workspaces.items()), now):
        left_s = max(deadline - time.monotonic(), 0.0)
        reader = IndexReader(root, workspace=workspace, wait_s=min(wait_s, left_s))
        try:
            with reader.trusted(views=_views(asked[place] for place in places), fenced=False) as connection:
                for kinds, read in _READERS.items():
                    found = [place for place in places if asked[place].definition.kind in kinds]
                    if found:
                        each, tries = _read(connection, read, [asked[place] for place in found], now, deadline)
                        readings |= zip(found, each, strict=True)
                        statements += tries
        except (IndexFailed, QueryFailed, duckdb.Error) as error:
            # It is busy, or gone since the rules were read: that passes.
            unread = Reading(holds=None, error=str(error), passing=True)
            readings |= {place: unread for place in places if place not in readings}
    return Measured([readings[place] for place in range(len(asked))], statements)


def _rotated(workspaces: list[_Each], now: datetime) -> list[_Each]:
    """Begin at another one each minute: where time is short, it is not always the last that go without."""
    start = int(now.timestamp()) // 60 % len(workspaces) if workspaces else 0
    return workspaces[start:] + workspaces[:start]


def _views(asked: Iterable[Rule]) -> set[str]:
    """Return the views that rules look at."""
    of_kinds = {"heartbeat": "events", "cost": "llm_calls", "budget": "llm_calls"}
    return {of_kinds.get(rule.definition.kind) or _of(rule.definition) for rule in asked}


def _read(
    connection: duckdb.DuckDBPyConnection, read: _Reader, asked: Sequence[Rule], now: datetime, deadline: float
) -> tuple[list[Reading], int]:
    """Return the readings of rules of a kind, and how many statements that took: one, if it does not fail.

    Where it does, each half of the rules is tried by itself, and so on: what one rule looks at, a sum that is too
    large, say, is no error of the others.
    """
    if deadline <= time.monotonic():
        return [_UNREACHED] * len(asked), 0
    readings: dict[int, Reading] = {}
    waiting = [list(range(len(asked)))]
    statements = 0
    try:
        if read is _spent:
            with sandbox.time_limit(connection, deadline - time.monotonic()):
                costs.provide(connection)
    except Exception as error:  # noqa: BLE001 - whatever a price may be: the other kinds go on
        return [_unmeasured(error, deadline)] * len(asked), 0
    while waiting:
        places = waiting.pop()
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            readings |= dict.fromkeys(places, _UNREACHED)
            continue
        statements += 1
        try:
            with sandbox.time_limit(connection, left_s):
                readings |= zip(places, read(connection, [asked[place] for place in places], now), strict=True)
        except Exception as error:  # noqa: BLE001 - one rule must never stop the others
            if len(places) > 1 and statements < _STATEMENTS_MAX and time.monotonic() < deadline:
                half = len(places) // 2
                waiting += [places[half:], places[:half]]
            else:
                readings |= dict.fromkeys(places, _unmeasured(error, deadline))
    return [readings[place] for place in range(len(asked))], statements


def _each(
    asked: Sequence[Rule], rows: Sequence[tuple[Any, ...]], one: Callable[[Rule, tuple[Any, ...]], Reading]
) -> list[Reading]:
    """Return what rows make of rules. A number that cannot be reckoned with is an error of that rule."""
    readings = []
    for rule, row in zip(asked, rows, strict=True):
        try:
            with localcontext(prec=rules.DIGITS):
                readings.append(one(rule, row))
        except (ArithmeticError, QueryFailed) as error:
            readings.append(_unmeasured(error))
    return readings


def _unmeasured(error: Exception, deadline: float = math.inf) -> Reading:
    if time.monotonic() >= deadline:
        # Always in the same words, so that it is written once.
        return Reading(holds=None, error="measuring it overran the time for checking; narrow its window")
    if isinstance(error, EventlogError):
        return Reading(holds=None, error=str(error))
    return Reading(holds=None, error=f"what it looks at cannot be measured: {type(error).__name__}: {error}")


def _run(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    asked: Sequence[Rule],
    now: datetime,
    of: Callable[[AlertRuleSet], str] = lambda _: "",
) -> list[tuple[Any, ...]]:
    """Return what was measured for each rule; rules that look at the same share a condition."""
    conditions: dict[tuple[Any, ...], int] = {}
    keys = []
    for rule in asked:
        what = rule.definition
        since = timestamps.to_text(now - timedelta(seconds=what.window_s)).rstrip("Z")
        keys.append((of(what), what.agent, what.model, since))
        conditions.setdefault(keys[-1], len(conditions))
    fields = ("number", "of", "agent", "model", "since")
    given = [dict(zip(fields, (number, *key), strict=True)) for key, number in conditions.items()]
    parameters = {
        "conditions": msgspec.json.encode(given).decode(),
        "since": min(key[-1] for key in keys),
        "now": timestamps.to_text(now).rstrip("Z"),
    }
    used = {name: value for name, value in parameters.items() if f"${name}" in statement}
    found = {row[0]: row[1:] for row in connection.execute(statement, used).fetchall()}
    return [found[conditions[key]] for key in keys]


def _spent(connection: duckdb.DuckDBPyConnection, asked: Sequence[Rule], now: datetime) -> list[Reading]:
    measures = "sum(cost_usd) AS cost, count(cost_usd) AS priced, count(s.moment) FILTER (cost_usd IS NULL) AS unpriced"
    statement = _joined(_COSTS, "s.cost_usd", measures)

    def one(rule: Rule, row: tuple[Any, ...]) -> Reading:
        cost, priced, unpriced = row
        what, threshold = rule.definition, _threshold(rule)
        detail = _unpriced(unpriced)
        if cost is None and unpriced:
            return Reading(holds=False, samples=0, detail=detail)
        value = cost if cost is not None else Decimal(0)
        if what.kind == "budget":
            holds = value * 100 >= threshold * (what.at_percent or Decimal(100))
            detail = "; ".join(filter(None, (f"{percent_of(value, threshold)} of the budget", detail)))
        else:
            holds = value > threshold
        return Reading(holds=holds, value=value, samples=priced, detail=detail)

    return _each(asked, _run(connection, statement, asked, now), one)


def _unpriced(calls: int) -> str | None:
    if not calls:
        return None
    return (
        f"{calls:,} calls have no price and are not counted" if calls > 1 else "1 call has no price and is not counted"
    )


def percent_of(value: Decimal, whole: Decimal) -> str:
    """Return what share of a whole a value is, in percent."""
    return rules.percent(value / whole)


def _calls(asked: Iterable[Rule]) -> str:
    return " UNION ALL ".join(_CALLS[of] for of in sorted({_of(rule.definition) for rule in asked}))


def _of(what: AlertRuleSet) -> str:
    return what.of or "llm_calls"


def _failed(connection: duckdb.DuckDBPyConnection, asked: Sequence[Rule], now: datetime) -> list[Reading]:
    statement = _joined(_calls(asked), "s.ok", "count(ok) AS calls, count(*) FILTER (NOT ok) AS failures")

    def one(rule: Rule, row: tuple[Any, ...]) -> Reading:
        calls, failures = row
        enough = calls >= max(rule.definition.min_samples, 1)
        return Reading(
            holds=enough and failures > _threshold(rule) * calls,
            value=(Decimal(failures) / calls).quantize(_SHARE) if calls else None,
            samples=calls,
            detail=f"{failures:,} of {calls:,} failed" if calls else None,
        )

    return _each(asked, _run(connection, statement, asked, now, _of), one)


def _slow(connection: duckdb.DuckDBPyConnection, asked: Sequence[Rule], now: datetime) -> list[Reading]:
    wanted = sorted({rule.definition.percentile or PERCENTILE for rule in asked})
    shares = ", ".join(f"{Decimal(str(each)) / 100:f}" for each in wanted)
    statement = _joined(
        _calls(asked), "s.took_ms", f"count(took_ms), quantile_disc(took_ms::DOUBLE, [{shares}]) AS found"
    )

    def one(rule: Rule, row: tuple[Any, ...]) -> Reading:
        calls, found = row
        value = Decimal(repr(found[wanted.index(rule.definition.percentile or PERCENTILE)])) if calls else None
        return Reading(
            holds=value is not None and calls >= max(rule.definition.min_samples, 1) and value > _threshold(rule),
            value=None if value is None else value.quantize(_MS),
            samples=calls,
            detail=f"of {calls:,}" if calls else None,
        )

    return _each(asked, _run(connection, statement, asked, now, _of), one)


def _silent(connection: duckdb.DuckDBPyConnection, asked: Sequence[Rule], now: datetime) -> list[Reading]:
    """Where no heartbeat ever came, the rule counts from the moment at which it was set."""
    statement = _joined(_HEARTBEATS, "s.moment AS heard", "max(heard)").replace("AND s.moment > c.since", "")

    def one(rule: Rule, row: tuple[Any, ...]) -> Reading:
        (heard,) = row
        set_at = rule.set_at
        if set_at > now + timedelta(seconds=AHEAD_S):  # by a clock that was wrong, and that is not waited for
            set_at = now - timedelta(seconds=rule.definition.window_s)
        last = set_at if heard is None else rules.utc(heard)
        silence = Decimal((now - last) // timedelta(microseconds=1)) / 1_000_000
        detail = "none ever came" if heard is None else f"the last came at {timestamps.to_text(rules.utc(heard))}"
        holds = last <= now - timedelta(seconds=rule.definition.window_s)
        return Reading(holds=holds, value=silence, samples=int(heard is not None), detail=detail)

    return _each(asked, _run(connection, statement, asked, now), one)


def _threshold(rule: Rule) -> Decimal:
    threshold = rule.definition.threshold
    assert threshold is not None, "rules.check"
    return threshold


_READERS: dict[tuple[str, ...], _Reader] = {
    ("cost", "budget"): _spent,
    ("error_rate",): _failed,
    ("latency",): _slow,
    ("heartbeat",): _silent,
}
