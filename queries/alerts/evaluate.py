"""Measuring rules over the index: one statement for all rules of a kind and a workspace.

    rules ─→ distinct conditions (of, agent, model, since) ──┐
                                                             ├─ one join ─→ a reading for each
    calls in the longest window, once per form of scope ─────┘

Rules of a workspace are measured over the views of that workspace, and so read what its reader reads: a run_id or an
imported message may be in two workspaces. A condition on top of the views of all would not do.

A condition names an agent, the prefix of a model's name, or leaves them open. Each form (which of them are open) sees
the calls once with the open ones blanked, so that the join is by equality, however many rules there are. Windows are
half-open: after `now - window`, up to `now`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import msgspec

from eventlog.errors import EventlogError, IndexFailed, QueryFailed
from eventlog.format import timestamps
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.timestamps import MS_MAX
from eventlog.indexer.views import definitions
from eventlog.indexer.views.definitions import FAILED, JUDGED, NOBODY_IS_GONE
from eventlog.log.clock import AHEAD_S
from eventlog.queries.access import sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts.machine import Reading
from eventlog.queries.alerts.rules import PERCENTILE, Rule
from eventlog.queries.cost import costs
from eventlog.queries.runs import owners
from eventlog.queries.text import units

#: The error of a rule that was not reached.
USED_UP = "the time for checking was used up before it"
_UNREACHED = Reading(holds=None, error=USED_UP, passing=True)
_WAIT_S = 10.0
#: Statements that are tried for the rules of one kind and workspace when some fail: enough to find two bad rules among
#: thousands.
_STATEMENTS_MAX = 50
#: A cost has 38 digits at most, and a share of a budget is a million times as much.
_DIGITS = 60
_MS = Decimal("0.001")
_SHARE = Decimal("0.000001")

T = TypeVar("T")
_Row = tuple[Any, ...]


class AsOf(NamedTuple):
    """The moment of a check, in UTC, and SQL for which processes are gone then (see `runs.owners`)."""

    now: datetime
    gone: str


_Measure = Callable[[duckdb.DuckDBPyConnection, Sequence[Rule], AsOf], list[Reading]]


# -- statements ----------------------------------------------------------------------------

_CONDITIONS = """
    SELECT number::INTEGER AS number, of, agent, model, since::TIMESTAMP AS since, agent IS NULL AS any_agent
    FROM (SELECT unnest(from_json($conditions::JSON,
        '[{"number": "INTEGER", "of": "VARCHAR", "agent": "VARCHAR", "model": "VARCHAR", "since": "VARCHAR"}]'),
        recursive := true))
"""


def _joined(samples: str, columns: str, measures: str, *, window: str = "AND s.moment > c.since") -> str:
    """Return the statement that measures conditions over samples: of, agent, model, moment, and `columns`."""
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
         AND s.agent IS NOT DISTINCT FROM c.agent {window}
        GROUP BY c.number
    """


_TIMES = "BETWEEN $since::TIMESTAMP AND $now::TIMESTAMP"

COST = _joined(
    f"SELECT '' AS of, agent, model, timestamp AS moment, cost_usd FROM llm_costs WHERE timestamp {_TIMES}",
    "s.cost_usd",
    "sum(cost_usd) AS cost, count(cost_usd) AS priced, count(s.moment) FILTER (cost_usd IS NULL) AS unpriced",
)
HEARTBEAT = _joined(
    """
    SELECT '' AS of, agent, NULL::VARCHAR AS model, max(timestamp) AS moment
    FROM events WHERE event_type = 'heartbeat' AND timestamp <= $now::TIMESTAMP GROUP BY ALL
    """,
    "s.moment AS heard",
    "max(heard)",
    window="",
)

# As in metrics, a duration that is negative, longer than 30 years, or not a number is left out.
_SOUND = f"CASE WHEN {{0}} BETWEEN 0 AND {MS_MAX:.0f} THEN {{0}} END AS took_ms"

# A share of failures is one of the `judged`. An abandoned run counts from the moment at which it became so.
_CALLS = {
    "llm_calls": f"""
        SELECT 'llm_calls' AS of, agent, model, timestamp AS moment, ok, true AS judged, {_SOUND.format("latency_ms")}
        FROM llm_calls WHERE timestamp {_TIMES}""",
    "tool_calls": f"""
        SELECT 'tool_calls' AS of, agent, NULL::VARCHAR AS model, coalesce(finished, timestamp) AS moment,
               ok, true AS judged, {_SOUND.format("duration_ms")}
        FROM tool_calls WHERE coalesce(finished, timestamp) {_TIMES}""",
    "runs": f"""
        SELECT 'runs' AS of, agent, NULL::VARCHAR AS model, moment, outcome = 'ok' AS ok, {JUDGED} AS judged,
               {_SOUND.format("duration_ms")}
        FROM (SELECT * REPLACE ({definitions.outcome("$now::TIMESTAMP", "{gone}")} AS outcome),
              {definitions.moment("$now::TIMESTAMP")} AS moment FROM runs)
        WHERE moment {_TIMES}""",
}


def error_rate(ofs: Collection[str], gone: str = NOBODY_IS_GONE) -> str:
    """Return the statement for error rates of `ofs`, some of rules.MEASURED: calls, and how many of them failed.

    `gone` is SQL for whether the process of an open run is gone (see `runs.owners`).
    """
    return _joined(
        _calls(ofs, gone), "s.ok, s.judged",
        f"count(*) FILTER (judged) AS calls, count(*) FILTER (judged AND {FAILED}) AS failures",
    )  # fmt: skip


def latency(ofs: Collection[str], percentiles: Iterable[float]) -> str:
    """Return the statement for latencies of `ofs`: calls, and the list of their percentiles (0 to 100) in ms."""
    # The shares stand in the statement as decimals: a share in binary could round to another rank.
    shares = ", ".join(f"{Decimal(str(percentile)) / 100:f}" for percentile in percentiles)
    samples = _calls(ofs, NOBODY_IS_GONE)
    return _joined(samples, "s.took_ms", f"count(took_ms), quantile_disc(took_ms::DOUBLE, [{shares}])")


def _calls(ofs: Collection[str], gone: str) -> str:
    return " UNION ALL ".join(_CALLS[of] for of in sorted(ofs)).replace("{gone}", gone)


# -- rules, by workspace and kind ----------------------------------------------------------


def measure(
    root: str | Path,
    rules: Sequence[Rule],
    now: datetime,
    *,
    limit_s: float,
    wait_s: float = _WAIT_S,
    is_present: bool = False,
) -> list[Reading]:
    """Measure rules of all kinds but `sql` at `now` (UTC), within `limit_s`; return their readings, in order.

    Where `now` is the present, a run whose process is gone is abandoned; otherwise that is not known.
    Raises nothing that is about the rules or the index: a rule that cannot be measured, or that is not reached, gets a
    reading with an error.
    """
    readings: dict[int, Reading] = {}
    deadline = time.monotonic() + limit_s
    workspaces: dict[str | None, list[int]] = {}
    for position, rule in enumerate(rules):
        workspaces.setdefault(rule.workspace, []).append(position)
    for workspace, positions in rotated(list(workspaces.items()), now):
        left_s = max(deadline - time.monotonic(), 0.0)
        reader = IndexReader(root, workspace=workspace, wait_s=min(wait_s, left_s))
        views = {"events"} | {_view(rules[position].definition) for position in positions}
        try:
            with reader.trusted(views=views, fenced=False) as connection:
                as_of = AsOf(now, owners.gone(connection) if is_present and "runs" in views else NOBODY_IS_GONE)
                for kinds in MEASURES:
                    chosen = [position for position in positions if rules[position].definition.kind in kinds]
                    if chosen:
                        of_kind = [rules[position] for position in chosen]
                        measured = _measure_kind(connection, kinds, of_kind, as_of, deadline)
                        readings |= zip(chosen, measured, strict=True)
        except (IndexFailed, QueryFailed, duckdb.Error) as error:
            # The index is busy, or gone since the rules were read: that is not the fault of the rules.
            unread = Reading(holds=None, error=str(error), passing=True)
            readings |= {position: unread for position in positions if position not in readings}
    return [readings[position] for position in range(len(rules))]


def rotated(items: list[T], now: datetime) -> list[T]:
    """Return the items, begun at another one each minute: where time is short, not always the same are left out."""
    start = int(now.timestamp()) // 60 % len(items) if items else 0
    return items[start:] + items[:start]


def _view(definition: AlertRuleSet) -> str:
    of_kinds = {"heartbeat": "events", "cost": "llm_calls", "budget": "llm_calls"}
    return of_kinds.get(definition.kind) or _of(definition)


def _of(definition: AlertRuleSet) -> str:
    return definition.of or "llm_calls"


def _measure_kind(
    connection: duckdb.DuckDBPyConnection,
    kinds: tuple[str, ...],
    rules: Sequence[Rule],
    as_of: AsOf,
    deadline: float,
) -> list[Reading]:
    """Measure rules of `kinds`, a key of MEASURES: by one statement, if it does not fail.

    If it does, each half of the rules is tried by itself, and so on: what fails for one rule, such as a sum that is too
    large, is no error of the others.
    """
    if deadline <= time.monotonic():
        return [_UNREACHED] * len(rules)
    readings: dict[int, Reading] = {}
    waiting = [list(range(len(rules)))]
    statements = 0
    try:
        if "cost" in kinds:
            with sandbox.time_limit(connection, deadline - time.monotonic()):
                costs.provide(connection)
    except Exception as error:  # noqa: BLE001 - whatever a price may be: the other kinds go on
        return [_failed_reading(error, deadline)] * len(rules)
    while waiting:
        positions = waiting.pop()
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            readings |= dict.fromkeys(positions, _UNREACHED)
            continue
        statements += 1
        try:
            with sandbox.time_limit(connection, left_s):
                measured = MEASURES[kinds](connection, [rules[position] for position in positions], as_of)
            readings |= zip(positions, measured, strict=True)
        except Exception as error:  # noqa: BLE001 - one rule must never stop the others
            if len(positions) > 1 and statements < _STATEMENTS_MAX and time.monotonic() < deadline:
                half = len(positions) // 2
                waiting += [positions[half:], positions[:half]]
            else:
                readings |= dict.fromkeys(positions, _failed_reading(error, deadline))
    return [readings[position] for position in range(len(rules))]


def _failed_reading(error: Exception, deadline: float = math.inf) -> Reading:
    if time.monotonic() >= deadline:
        # Always in the same words, so that `alert_rule_failed` is written once.
        return Reading(holds=None, error="measuring it overran the time for checking; narrow its window")
    if isinstance(error, EventlogError):
        return Reading(holds=None, error=str(error))
    return Reading(holds=None, error=f"what it looks at cannot be measured: {type(error).__name__}: {error}")


# -- one measure for each kind -------------------------------------------------------------


def _readings(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    rules: Sequence[Rule],
    now: datetime,
    reading_of: Callable[[Rule, _Row], Reading],
    of: Callable[[AlertRuleSet], str] = lambda _: "",
) -> list[Reading]:
    """Run a statement; return what `reading_of` makes of each rule and its row. Equal conditions share a row.

    A number that cannot be calculated with is an error of that rule.
    """
    conditions: dict[tuple[str, str | None, str | None, str], int] = {}
    numbers = []
    for rule in rules:
        definition = rule.definition
        since = timestamps.to_text(now - timedelta(seconds=definition.window_s)).rstrip("Z")
        condition = (of(definition), definition.agent, definition.model, since)
        numbers.append(conditions.setdefault(condition, len(conditions)))
    fields = ("number", "of", "agent", "model", "since")
    rows_of = [dict(zip(fields, (number, *condition), strict=True)) for condition, number in conditions.items()]
    parameters = {
        "conditions": msgspec.json.encode(rows_of).decode(),
        "since": min(since for *_, since in conditions),
        "now": timestamps.to_text(now).rstrip("Z"),
    }
    used = {name: value for name, value in parameters.items() if f"${name}" in statement}
    rows = {number: row for number, *row in connection.execute(statement, used).fetchall()}
    readings = []
    for rule, number in zip(rules, numbers, strict=True):
        try:
            with localcontext(prec=_DIGITS):
                readings.append(reading_of(rule, tuple(rows[number])))
        except (ArithmeticError, QueryFailed) as error:
            readings.append(_failed_reading(error))
    return readings


def _measure_cost(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], as_of: AsOf) -> list[Reading]:
    return _readings(connection, COST, rules, as_of.now, _cost_reading)


def _cost_reading(rule: Rule, row: _Row) -> Reading:
    cost, priced, unpriced = row
    definition, threshold = rule.definition, _threshold(rule)
    detail = _unpriced(unpriced)
    if cost is None and unpriced:
        return Reading(holds=False, samples=0, detail=detail)
    value = cost if cost is not None else Decimal(0)
    if definition.kind == "budget":
        holds = value * 100 >= threshold * (definition.at_percent or Decimal(100))
        detail = "; ".join(filter(None, (f"{units.percentage(value, threshold)} of the budget", detail)))
    else:
        holds = value > threshold
    return Reading(holds=holds, value=value, samples=priced, detail=detail)


def _unpriced(calls: int) -> str | None:
    if not calls:
        return None
    return (
        f"{calls:,} calls have no price and are not counted" if calls > 1 else "1 call has no price and is not counted"
    )


def _measure_errors(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], as_of: AsOf) -> list[Reading]:
    statement = error_rate({_of(rule.definition) for rule in rules}, as_of.gone)
    return _readings(connection, statement, rules, as_of.now, _error_reading, _of)


def _error_reading(rule: Rule, row: _Row) -> Reading:
    calls, failures = row
    enough = calls >= max(rule.definition.min_samples, 1)
    return Reading(
        holds=enough and failures > _threshold(rule) * calls,
        value=units.rounded(Decimal(failures) / calls, _SHARE) if calls else None,
        samples=calls,
        detail=f"{failures:,} of {calls:,} failed" if calls else None,
    )


def _measure_latency(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], as_of: AsOf) -> list[Reading]:
    percentiles = sorted({_percentile(rule) for rule in rules})
    statement = latency({_of(rule.definition) for rule in rules}, percentiles)

    def reading_of(rule: Rule, row: _Row) -> Reading:
        calls, latencies = row
        value = Decimal(repr(latencies[percentiles.index(_percentile(rule))])) if calls else None
        return Reading(
            holds=value is not None and calls >= max(rule.definition.min_samples, 1) and value > _threshold(rule),
            value=None if value is None else units.rounded(value, _MS),
            samples=calls,
            detail=f"of {calls:,}" if calls else None,
        )

    return _readings(connection, statement, rules, as_of.now, reading_of, _of)


def _percentile(rule: Rule) -> float:
    return rule.definition.percentile or PERCENTILE


def _measure_silence(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], as_of: AsOf) -> list[Reading]:
    now = as_of.now

    def reading_of(rule: Rule, row: _Row) -> Reading:
        heard = None if row[0] is None else timestamps.utc(row[0])
        window = timedelta(seconds=rule.definition.window_s)
        # Where no heartbeat ever came, from the moment at which the rule was set; unless a wrong clock set that ahead.
        set_at = rule.set_at if rule.set_at <= now + timedelta(seconds=AHEAD_S) else now - window
        last = heard or set_at
        detail = "none ever came" if heard is None else f"the last came at {timestamps.to_text(heard)}"
        silence = Decimal((now - last) // timedelta(microseconds=1)) / 1_000_000
        return Reading(holds=last <= now - window, value=silence, samples=int(heard is not None), detail=detail)

    return _readings(connection, HEARTBEAT, rules, now, reading_of)


def _threshold(rule: Rule) -> Decimal:
    threshold = rule.definition.threshold
    assert threshold is not None, "rules.check"
    return threshold


#: By kinds: what measures rules of these kinds over an open connection.
MEASURES: dict[tuple[str, ...], _Measure] = {
    ("cost", "budget"): _measure_cost,
    ("error_rate",): _measure_errors,
    ("latency",): _measure_latency,
    ("heartbeat",): _measure_silence,
}
