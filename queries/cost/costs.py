"""`llm_costs`: each model call with its cost, computed by a query.

    llm_calls ── distinct keys ──→ rates, resolved once per key ──→ llm_rates ──→ one join ──→ llm_costs

Both are temporary objects on the reader's connection, made when a query needs them: prices come from a library and
from events, while the index must depend on the bytes of the log alone. Rates and costs are decimals with 18 places:
tokens × rate is exact, and so is any sum.

A call looks cut short where its output tokens are far fewer than the characters that it produced. The costs of these
calls stay what their tokens say; what the missing tokens would cost stands beside, as an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import duckdb
import msgspec

from eventlog.errors import MissingExtra
from eventlog.importers import sources
from eventlog.indexer.sql import ident, literal, literals
from eventlog.queries.cost import price_sets, prices, rates
from eventlog.queries.cost.price_sets import PriceEvent, SetPrice
from eventlog.queries.cost.rates import Key, Rate
from eventlog.queries.cost.servers import CALLS_WITH_SERVERS
from eventlog.queries.rows import rows_as

CALLS, COSTS, RATES = "llm_calls", "llm_costs", "llm_rates"
#: The most frequent kinds of calls are priced. (A deployment or a fine-tune per customer makes thousands.)
KEYS_MAX = 100_000

USD = "DECIMAL(38,18)"
_RATE = "DECIMAL(18,18)"
_FEE = "DECIMAL(18,12)"
_COUNT = "DECIMAL(12,0)"
#: Output characters per token, at most, of a call whose counts can be true: without a stop reason the counts may be
#: those of a line in mid-stream. Of 1,017 calls of public Claude Code transcripts 706 have more than the first (69 %);
#: of the 64 with a stop reason none has more than the second.
_CUT_SHORT_CHARS, _CUT_SHORT_CHARS_STOPPED = 8, 16
#: The 38 longer answers (more than 500 characters) in these transcripts that have a stop reason have 2.8 output
#: characters per token (median), and 80 % of them 2.4 to 3.3. Rounded up, so that the estimate is rather too low.
CHARS_PER_TOKEN = 3
_TOKENS = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
#: The columns of `llm_calls` that a cost depends on.
NEEDED = (
    "workspace", "provider", "model", "service_tier", "inference_geo", *_TOKENS, "output_tokens", "reasoning_tokens",
    "web_searches", "usage_problem", "output_chars", "stop_reason", "ok", "reported_cost_usd", "timestamp",
)  # fmt: skip
#: The same, where only the amounts matter and not what was cut short: a stop reason of a recorded call stands in its
#: payload, which takes a hundred times longer to read than all the rest.
NEEDED_FOR_AMOUNTS = (
    *(name for name in NEEDED if name not in ("output_chars", "stop_reason")),
    "NULL::BIGINT AS output_chars", "NULL::VARCHAR AS stop_reason",
)  # fmt: skip
#: Reasons of calls without a price that a `price_set` can mend.
NO_PRICE = "no price is known"
NO_SEARCH_PRICE = "the price of its web searches is not known"
NO_RATE = "the price names not all its kinds of tokens"
MENDED_BY_A_PRICE = (NO_PRICE, NO_SEARCH_PRICE, NO_RATE)
_PRICED = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")


class ResolvedRates(msgspec.Struct, frozen=True):
    """The rates of each kind of call, the workspaces with own prices, and warnings about prices.

    `are_all` is false where there are more than KEYS_MAX kinds: the others have no rates, whatever their prices.
    """

    rates: dict[Key, list[Rate]]
    workspaces: list[str]
    notes: list[str]
    are_all: bool = True


def provide(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `llm_costs` and `llm_rates` on this connection, over the `llm_calls` and `price_events` that it sees."""
    install(connection, resolve(connection))


def install(
    connection: duckdb.DuckDBPyConnection, resolved: ResolvedRates, *, calls: str = CALLS, as_of: datetime | None = None
) -> None:
    """Make `llm_costs` and `llm_rates` from resolved rates, over a table with the columns NEEDED of `llm_calls`.

    With `as_of` (UTC without a zone), each call has the prices in force then, at its own hour of the day, instead of
    the prices of its own time.
    """
    rates_by_key = resolved.rates
    if as_of is not None:
        rates_by_key = {key: _as_if_always(key_rates, as_of) for key, key_rates in rates_by_key.items()}
    _store(connection, rates_by_key)
    connection.execute(_CREATE_COSTS.format(query=_costs(calls, resolved)))


def subquery(connection: duckdb.DuckDBPyConnection, resolved: ResolvedRates, *, calls: str = CALLS) -> str:
    """Make `llm_rates`, and return `llm_costs` as a subquery in parentheses.

    For a single statement that is faster than `install`, since DuckDB plans a view also when it is created.
    """
    _store(connection, resolved.rates)
    return f"({_costs(calls, resolved)})"


def resolve(
    connection: duckdb.DuckDBPyConnection, price_events: Iterable[PriceEvent] | None = None, *, calls: str = CALLS
) -> ResolvedRates:
    """Return the rates of each kind of call in the table `calls`.

    `price_events` are the events that set prices; None reads those that the connection sees.
    """
    events = price_sets.read(connection) if price_events is None else price_events
    own, notes = price_sets.parse(events)
    workspaces = sorted({price.workspace for price in own if price.workspace is not None})
    own_of = _by_prefix(own)
    statement = _KEYS.format(workspace=_workspace(workspaces), geo=GEO, calls=calls)
    keys = rows_as(Key, connection.execute(statement, {"limit": KEYS_MAX + 1}))
    are_all = len(keys) <= KEYS_MAX
    if not are_all:
        keys.pop()
        notes.append(f"there are more than {KEYS_MAX:,} kinds of calls; only the most frequent are priced")
    try:
        if any(key.model is not None for key in keys):
            prices.require_library()
        rates_by_key = {key: prices.rates_for(key, own_of(key), prices.library_rates) for key in keys}
    except MissingExtra as missing:
        notes.append(str(missing))
        rates_by_key = {key: prices.rates_for(key, own_of(key), _no_rates) for key in keys}
    prices.save_cache()
    return ResolvedRates(rates_by_key, workspaces, notes, are_all)


_IMPORTED = "SELECT 1 FROM events WHERE event_type IN (SELECT unnest(?::VARCHAR[])) LIMIT 1"
_SELECT_CALLS = "SELECT {selected} FROM {calls}"
_NUMBERED = "SELECT row_number() OVER () AS call_number, * FROM ({query})"
_COPY_CALLS = "CREATE OR REPLACE TEMP TABLE cost_calls AS {query}"


def copied(
    connection: duckdb.DuckDBPyConnection, columns: Iterable[str], *, numbered: bool = False, servers: bool = False
) -> tuple[str, ResolvedRates]:
    """Return the table of calls that `llm_costs` is to be made from, and the rates of these calls.

    It has the `columns` of `llm_calls` besides NEEDED, with `numbered` a `call_number`, with `servers` the `server` of
    each. The calls are read more than once. Those of imported sessions are copied first, since parsing them out of the
    lines takes longest; recorded calls are faster in place, unless they need more columns.
    """
    if not numbered and not servers and not connection.execute(_IMPORTED, [sources.event_types()]).fetchall():
        return CALLS, resolve(connection)
    selected = ", ".join(dict.fromkeys([*NEEDED, *columns]))
    query = (CALLS_WITH_SERVERS if servers else _SELECT_CALLS).format(selected=selected, calls=CALLS)
    connection.execute(_COPY_CALLS.format(query=_NUMBERED.format(query=query) if numbered else query))
    return "cost_calls", resolve(connection, calls="cost_calls")


def _by_prefix(own: Iterable[SetPrice]) -> Callable[[Key], list[SetPrice]]:
    """Return a function for the prices whose prefix a model has: comparing thousands with thousands takes too long."""
    prices_of: dict[str, list[SetPrice]] = {}
    for price in own:
        prices_of.setdefault(price.model, []).append(price)
    lengths = sorted({len(prefix) for prefix in prices_of})

    def own_of(key: Key) -> list[SetPrice]:
        name = (key.model or "").casefold()
        return [price for length in lengths if length <= len(name) for price in prices_of.get(name[:length], ())]

    return own_of


def _no_rates(_: Key) -> list[Rate]:
    return []


def _as_if_always(key_rates: Iterable[Rate], moment: datetime) -> list[Rate]:
    """Return the rates in force at a moment, valid at any time."""
    return [
        msgspec.structs.replace(rate, valid_from=None, valid_until=None) for rate in key_rates if rate.holds_at(moment)
    ]


# -- rates -----------------------------------------------------------------------------------

_KEYS = """
    SELECT {workspace} AS workspace, provider, model, service_tier, {geo} AS inference_geo
    FROM {calls} GROUP BY ALL ORDER BY count(*) DESC, model, provider, service_tier, 5, 1 LIMIT $limit
"""
#: SQL for the place of inference of a call as far as its price depends on it.
GEO = f"CASE WHEN trim(lower(inference_geo)) NOT IN ({literals(sorted(rates.GLOBAL_GEOS))}) THEN inference_geo END"
_RATE_COLUMNS = {
    "workspace": "VARCHAR", "provider": "VARCHAR", "model": "VARCHAR", "service_tier": "VARCHAR",
    "inference_geo": "VARCHAR", "valid_from": "TIMESTAMP", "valid_until": "TIMESTAMP", "hour_from_us": "BIGINT",
    "hour_until_us": "BIGINT", "input_from": "BIGINT", "input_until": "BIGINT",
} | {f"{kind}_usd_per_token": _RATE for kind in _PRICED} | {
    "request_usd": USD, "web_search_usd": _FEE, "price_key": "VARCHAR", "price_version": "VARCHAR",
    "price_band": "VARCHAR",
}  # fmt: skip
#: Rows are passed as JSON: a list of objects with these columns, all of them texts or null.
_JSON_TYPE = literal(msgspec.json.encode([dict.fromkeys(_RATE_COLUMNS, "VARCHAR")]).decode())
_CREATE_RATES = f"""
    CREATE OR REPLACE TEMP TABLE {RATES} AS
    SELECT {", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in _RATE_COLUMNS.items())}
    FROM (SELECT unnest(from_json(?::JSON, {_JSON_TYPE}), recursive := true))
"""


def _workspace(workspaces: Sequence[str]) -> str:
    """Return SQL for the workspace of a call as far as its price depends on it: NULL if it has no own prices."""
    if not workspaces:
        return "NULL::VARCHAR"
    return f"CASE WHEN workspace IN ({literals(workspaces)}) THEN workspace END"


def _store(connection: duckdb.DuckDBPyConnection, rates_by_key: dict[Key, list[Rate]]) -> None:
    rows = [_row(key, rate) for key, key_rates in rates_by_key.items() for rate in key_rates]
    objects = [dict(zip(_RATE_COLUMNS, row, strict=True)) for row in rows]
    connection.execute(_CREATE_RATES, [msgspec.json.encode(objects).decode()])


def _row(key: Key, rate: Rate) -> list[str | None]:
    def per_token(amount: Decimal | None) -> str | None:
        return None if amount is None else format(amount.scaleb(-6), "f")

    return [
        *msgspec.structs.astuple(key),
        "-infinity" if rate.valid_from is None else str(rate.valid_from),
        "infinity" if rate.valid_until is None else str(rate.valid_until),
        *map(str, (rate.hour_from_us, rate.hour_until_us, rate.input_from, rate.input_until)),
        *(per_token(getattr(rate, kind)) for kind in _PRICED),
        format(rate.request, "f"), None if rate.web_search is None else format(rate.web_search, "f"),
        rate.matched, rate.version, rate.band,
    ]  # fmt: skip


# -- costs -----------------------------------------------------------------------------------


def _amount(tokens: str, rate: str) -> str:
    """Return SQL for tokens × rate; NULL if there are tokens and no rate."""
    return f"CASE WHEN {tokens} = 0 THEN 0 ELSE TRY_CAST({tokens} AS {_COUNT}) * ({rate}) END::{USD}"


def _rate(kind: str) -> str:
    return f"{kind}_usd_per_token"


_COUNTABLE = " AND ".join(
    f"{name} BETWEEN 0 AND {rates.TOKENS_END - 1}" for name in (*_TOKENS, "output_tokens", "searches")
)
_SAVED = " + ".join(
    _amount(f"{kind}_tokens", f"{_rate('input')} - {_rate(kind)}")
    for kind in ("cache_read", "cache_write_5m", "cache_write_1h")
)
#: Columns that the query needs on its way, and `llm_costs` does not have.
_HELPERS = [
    "key_workspace", "key_geo", "input_total", "hour_us", "searches", "countable", "has_counts", "reasoning",
    "output_only", "reported", "is_short", "computed", "is_computed", *map(_rate, _PRICED), "request_usd",
    "web_search_usd", "input_usd", "cache_read_usd", "cache_write_usd", "output_usd", "searches_usd", "saved_usd",
    "matched", "version", "band",
]  # fmt: skip
#: What there is of a computed cost, and not of one that was reported as one amount.
_PARTS = {
    "input_cost_usd": "input_usd",
    "cache_read_cost_usd": "cache_read_usd",
    "cache_write_cost_usd": "cache_write_usd",
    "output_cost_usd": "output_usd",
    "request_cost_usd": "request_usd",
    "web_search_cost_usd": "searches_usd",
}
_ORIGINS = {"price_key": "matched", "price_version": "version", "price_band": "band"}


def _of_computed(columns: dict[str, str]) -> str:
    return ", ".join(f"CASE WHEN is_computed THEN {value} END AS {name}" for name, value in columns.items())


_LLM_COSTS = f"""
WITH calls AS (
    SELECT *, {{workspace}} AS key_workspace, {GEO} AS key_geo,
           coalesce(web_searches, 0) AS searches,
           {_COUNTABLE} AS countable,
           CASE WHEN countable THEN {" + ".join(_TOKENS)} END AS input_total,
           epoch_us(timestamp - date_trunc('day', timestamp)) AS hour_us,
           input_total + output_tokens > 0 OR ok IS NOT DISTINCT FROM false AS has_counts,
           greatest(least(coalesce(reasoning_tokens, 0), output_tokens), 0) AS reasoning,
           output_tokens - reasoning AS output_only,
           CASE WHEN reported_cost_usd BETWEEN 0 AND 9999999999 THEN reported_cost_usd::{USD} END AS reported,
           -- first what recorded calls never have: else their stop reasons are read from their payloads
           coalesce(output_chars IS NOT NULL AND countable AND output_tokens::HUGEINT
               * CASE WHEN stop_reason IS NULL THEN {_CUT_SHORT_CHARS} ELSE {_CUT_SHORT_CHARS_STOPPED} END
               < output_chars, false) AS is_short
    FROM {{calls}}
), rated AS (
    SELECT calls.*, {", ".join(f"r.{_rate(kind)}" for kind in _PRICED)}, r.request_usd, r.web_search_usd,
           r.price_key AS matched, r.price_version AS version, r.price_band AS band
    FROM calls LEFT JOIN {RATES} r
      ON calls.key_workspace IS NOT DISTINCT FROM r.workspace AND calls.provider IS NOT DISTINCT FROM r.provider
     AND calls.model IS NOT DISTINCT FROM r.model AND calls.service_tier IS NOT DISTINCT FROM r.service_tier
     AND calls.key_geo IS NOT DISTINCT FROM r.inference_geo
     AND calls.timestamp >= r.valid_from AND calls.timestamp < r.valid_until
     AND calls.hour_us >= r.hour_from_us AND calls.hour_us < r.hour_until_us
     AND calls.input_total >= r.input_from AND calls.input_total < r.input_until
), amounts AS (
    SELECT *, {_amount("uncached_input_tokens", _rate("input"))} AS input_usd,
           {_amount("cache_read_tokens", _rate("cache_read"))} AS cache_read_usd,
           {_amount("cache_write_5m_tokens", _rate("cache_write_5m"))}
               + {_amount("cache_write_1h_tokens", _rate("cache_write_1h"))} AS cache_write_usd,
           {_amount("output_only", _rate("output"))} + {_amount("reasoning", _rate("reasoning"))} AS output_usd,
           {_amount("searches", "web_search_usd")} AS searches_usd,
           {_SAVED} AS saved_usd,
           CASE WHEN has_counts AND usage_problem IS NULL
                THEN coalesce(
                    input_usd + cache_read_usd + cache_write_usd + output_usd + request_usd + searches_usd,
                    -- a call that failed before anything was counted, or a model answered, costs nothing
                    CASE WHEN model IS NULL AND input_total + output_tokens + searches = 0 THEN 0 END::{USD})
                END AS computed,
           reported IS NULL AND computed IS NOT NULL AS is_computed
    FROM rated
)
SELECT * EXCLUDE ({", ".join(map(ident, _HELPERS))}),
       coalesce(reported, computed) AS cost_usd,
       {_of_computed(_PARTS)},
       CASE WHEN computed IS NOT NULL THEN saved_usd END AS cache_savings_usd,
       CASE WHEN reported IS NOT NULL THEN 'reported' WHEN computed IS NOT NULL THEN 'computed' ELSE 'unpriced' END
           AS cost_source,
       {_of_computed(_ORIGINS)},
       CASE WHEN reported IS NOT NULL OR computed IS NOT NULL THEN NULL
            WHEN usage_problem IS NOT NULL THEN usage_problem
            WHEN model IS NULL THEN 'no model is named'
            WHEN NOT countable THEN 'its token counts are no counts'
            WHEN NOT has_counts THEN 'no tokens are counted'
            WHEN version IS NULL THEN {{no_price}}
            WHEN searches_usd IS NULL THEN {literal(NO_SEARCH_PRICE)}
            ELSE {literal(NO_RATE)} END AS unpriced_because,
       is_short AS cut_short,
       CASE WHEN is_short AND is_computed
            THEN {_amount(f"(output_chars // {CHARS_PER_TOKEN} - output_tokens)", _rate("output"))}
            END AS cut_short_cost_usd
FROM amounts
"""
_CREATE_COSTS = f"CREATE OR REPLACE TEMP VIEW {COSTS} AS {{query}}"


def _costs(calls: str, resolved: ResolvedRates) -> str:
    no_price = NO_PRICE if resolved.are_all else f"{NO_PRICE}, or was not looked up: over {KEYS_MAX:,} kinds of calls"
    return _LLM_COSTS.format(workspace=_workspace(resolved.workspaces), calls=calls, no_price=literal(no_price))
