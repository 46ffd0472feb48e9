"""`llm_costs`: every call with its cost, computed by query.

    llm_calls ── its distinct keys ──→ rates, resolved once per key ──→ llm_rates ──→ one join

Made on the reader's own connection as temporary objects, when a question needs them: prices come
from a library and from events, and neither belongs into an index that depends on the log's bytes alone.
Rates are decimals per token with 18 places, and so are costs: tokens × rate is exact, and so is any sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import duckdb
import msgspec

from eventlog.errors import MissingExtra
from eventlog.indexer.sql import ident, literal, literals
from eventlog.queries.cost import price_sets, prices, rates
from eventlog.queries.cost.price_sets import PriceEvent
from eventlog.queries.cost.rates import Key, Rate

CALLS, COSTS, RATES = "llm_calls", "llm_costs", "llm_rates"
#: Kinds of calls that are priced: the most frequent ones. More than any program has that names models.
KEYS_MAX = 5_000

USD = "DECIMAL(38,18)"
_RATE = "DECIMAL(18,18)"
_COUNT = "DECIMAL(12,0)"
_TOKENS = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
#: What of `llm_calls` a cost depends on.
NEEDED = (
    "workspace", "provider", "model", "service_tier", *_TOKENS, "output_tokens", "reasoning_tokens", "ok",
    "reported_cost_usd", "timestamp",
)  # fmt: skip
_PRICED = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")


class Resolved(msgspec.Struct, frozen=True):
    """The rates of each kind of call, which workspaces have prices of their own, and what is wrong with prices."""

    rates: dict[Key, list[Rate]]
    workspaces: list[str]
    notes: list[str]


def provide(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `llm_costs` and `llm_rates` on this connection, over the `llm_calls` and `price_events` that it sees."""
    install(connection, resolve(connection))


def install(
    connection: duckdb.DuckDBPyConnection, resolved: Resolved, *, calls: str = CALLS, as_of: datetime | None = None
) -> None:
    """Make `llm_costs` and `llm_rates` from what was resolved, over a table that has what they need of `llm_calls`.

    With `as_of` (UTC without a zone), every call has the prices in force then, at its own hour of the day, not
    those of its time.
    """
    known = resolved.rates if as_of is None else {key: _at(each, as_of) for key, each in resolved.rates.items()}
    _store(connection, known)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {COSTS} AS {_priced(calls, resolved.workspaces)}")


def priced(connection: duckdb.DuckDBPyConnection, resolved: Resolved, *, calls: str = CALLS) -> str:
    """Make `llm_rates`, and return what `llm_costs` is, for one statement: a view is planned when it is made, too."""
    _store(connection, resolved.rates)
    return f"({_priced(calls, resolved.workspaces)})"


def resolve(
    connection: duckdb.DuckDBPyConnection, price_events: Iterable[PriceEvent] | None = None, *, calls: str = CALLS
) -> Resolved:
    """Return the rates of every kind of call that there is.

    `price_events` are the events that set prices; None reads those that the connection sees.
    """
    events = price_sets.read(connection) if price_events is None else price_events
    own, notes = price_sets.understood(events)
    workspaces = sorted({price.workspace for price in own if price.workspace is not None})
    keys = [Key(*row) for row in connection.execute(_keys(calls, workspaces)).fetchall()]
    if len(keys) > KEYS_MAX:
        keys.pop()
        notes.append(f"there are more than {KEYS_MAX:,} kinds of calls; only the most frequent are priced")
    try:
        if any(key.model is not None for key in keys):
            prices.need()
        found = {key: prices.rates_for(key, own, prices.listed) for key in keys}
    except MissingExtra as missing:
        notes.append(str(missing))
        found = {key: prices.rates_for(key, own, _nothing) for key in keys}
    prices.remember()
    return Resolved(found, workspaces, notes)


def _nothing(_: Key) -> list[Rate]:
    return []


def _at(known: Iterable[Rate], moment: datetime) -> list[Rate]:
    """Return the rates in force at a moment, as if they always had been."""
    return [msgspec.structs.replace(rate, valid_from=None, valid_until=None) for rate in known if rate.holds_at(moment)]


# -- SQL -----------------------------------------------------------------------------------


def _workspace(workspaces: Sequence[str]) -> str:
    """Return what a call's workspace is for its price: its name, where that has prices of its own."""
    if not workspaces:
        return "NULL::VARCHAR"
    return f"CASE WHEN workspace IN ({literals(workspaces)}) THEN workspace END"


def _keys(calls: str, workspaces: Sequence[str]) -> str:
    return f"""
        SELECT {_workspace(workspaces)}, provider, model, service_tier
        FROM {calls} GROUP BY ALL ORDER BY count(*) DESC, 3, 2, 4, 1 LIMIT {KEYS_MAX + 1}
    """


def _store(connection: duckdb.DuckDBPyConnection, known: dict[Key, list[Rate]]) -> None:
    rows = [_row(key, rate) for key, each in known.items() for rate in each]
    columns = {
        "workspace": "VARCHAR", "provider": "VARCHAR", "model": "VARCHAR", "service_tier": "VARCHAR",
        "valid_from": "TIMESTAMP", "valid_until": "TIMESTAMP", "hour_from_us": "BIGINT", "hour_until_us": "BIGINT",
        "input_from": "BIGINT", "input_until": "BIGINT",
    } | {f"{kind}_usd_per_token": _RATE for kind in _PRICED} | {
        "request_usd": USD, "price_key": "VARCHAR", "price_version": "VARCHAR", "price_band": "VARCHAR",
    }  # fmt: skip
    texts = literal(msgspec.json.encode([dict.fromkeys(columns, "VARCHAR")]).decode())
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {RATES} AS
        SELECT {", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())}
        FROM (SELECT unnest(from_json(?::JSON, {texts}), recursive := true))
        """,
        [msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in rows]).decode()],
    )


def _row(key: Key, rate: Rate) -> list[str | None]:
    def per_token(amount: Decimal | None) -> str | None:
        return None if amount is None else format(amount.scaleb(-6), "f")

    return [
        *msgspec.structs.astuple(key),
        "-infinity" if rate.valid_from is None else str(rate.valid_from),
        "infinity" if rate.valid_until is None else str(rate.valid_until),
        *map(str, (rate.hour_from_us, rate.hour_until_us, rate.input_from, rate.input_until)),
        *(per_token(getattr(rate, kind)) for kind in _PRICED),
        format(rate.request, "f"), rate.matched, rate.version, rate.band,
    ]  # fmt: skip


def _priced(calls: str, workspaces: Sequence[str]) -> str:
    """Return the definition of `llm_costs`."""
    counts = [*_TOKENS, "output_tokens"]
    countable = " AND ".join(f"{name} BETWEEN 0 AND {rates.TOKENS_END - 1}" for name in counts)

    def amount(tokens: str, rate: str) -> str:
        return f"CASE WHEN {tokens} = 0 THEN 0 ELSE TRY_CAST({tokens} AS {_COUNT}) * ({rate}) END::{USD}"

    def rate(kind: str) -> str:
        return f"{kind}_usd_per_token"

    saved = " + ".join(
        amount(f"{kind}_tokens", f"{rate('input')} - {rate(kind)}")
        for kind in ("cache_read", "cache_write_5m", "cache_write_1h")
    )
    helpers = [
        "key_workspace", "input_total", "hour_us", "countable", "told", "reasoning", "output_only",
        "reported", "computed", *(rate(kind) for kind in _PRICED), "request_usd", "input_usd", "cache_read_usd",
        "cache_write_usd", "output_usd", "saved_usd", "matched", "version", "band",
    ]  # fmt: skip
    return f"""
WITH calls AS (
    SELECT *, {_workspace(workspaces)} AS key_workspace,
           {countable} AS countable,
           CASE WHEN countable THEN {" + ".join(_TOKENS)} END AS input_total,
           epoch_us(timestamp - date_trunc('day', timestamp)) AS hour_us,
           input_total + output_tokens > 0 OR NOT ok AS told,
           greatest(least(coalesce(reasoning_tokens, 0), output_tokens), 0) AS reasoning,
           output_tokens - reasoning AS output_only,
           CASE WHEN reported_cost_usd BETWEEN 0 AND 9999999999 THEN reported_cost_usd::{USD} END AS reported
    FROM {calls}
), rated AS (
    SELECT calls.*, {", ".join(f"r.{rate(kind)}" for kind in _PRICED)}, r.request_usd,
           r.price_key AS matched, r.price_version AS version, r.price_band AS band
    FROM calls LEFT JOIN {RATES} r
      ON calls.key_workspace IS NOT DISTINCT FROM r.workspace AND calls.provider IS NOT DISTINCT FROM r.provider
     AND calls.model IS NOT DISTINCT FROM r.model AND calls.service_tier IS NOT DISTINCT FROM r.service_tier
     AND calls.timestamp >= r.valid_from AND calls.timestamp < r.valid_until
     AND calls.hour_us >= r.hour_from_us AND calls.hour_us < r.hour_until_us
     AND calls.input_total >= r.input_from AND calls.input_total < r.input_until
), amounts AS (
    SELECT *, {amount("uncached_input_tokens", rate("input"))} AS input_usd,
           {amount("cache_read_tokens", rate("cache_read"))} AS cache_read_usd,
           {amount("cache_write_5m_tokens", rate("cache_write_5m"))}
               + {amount("cache_write_1h_tokens", rate("cache_write_1h"))} AS cache_write_usd,
           {amount("output_only", rate("output"))} + {amount("reasoning", rate("reasoning"))} AS output_usd,
           {saved} AS saved_usd,
           CASE WHEN told
                THEN input_usd + cache_read_usd + cache_write_usd + output_usd + request_usd END AS computed
    FROM rated
)
SELECT * EXCLUDE ({", ".join(map(ident, helpers))}),
       coalesce(reported, computed) AS cost_usd,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN input_usd END AS input_cost_usd,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN cache_read_usd END AS cache_read_cost_usd,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN cache_write_usd END AS cache_write_cost_usd,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN output_usd END AS output_cost_usd,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN request_usd END AS request_cost_usd,
       CASE WHEN computed IS NOT NULL THEN saved_usd END AS cache_savings_usd,
       CASE WHEN reported IS NOT NULL THEN 'reported' WHEN computed IS NOT NULL THEN 'computed' ELSE 'unpriced' END
           AS cost_source,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN matched END AS price_key,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN version END AS price_version,
       CASE WHEN reported IS NULL AND computed IS NOT NULL THEN band END AS price_band,
       CASE WHEN reported IS NOT NULL OR computed IS NOT NULL THEN NULL
            WHEN model IS NULL THEN 'no model is named'
            WHEN NOT countable THEN 'its token counts are no counts'
            WHEN NOT told THEN 'no tokens are counted'
            WHEN version IS NULL THEN 'no price is known'
            ELSE 'the price names not all its kinds of tokens' END AS unpriced_because
FROM amounts
"""
