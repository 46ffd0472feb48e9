"""Blocks of five hours, as the plans of Claude and of Codex count usage.

A block begins with the hour (UTC) of its first call and lasts five hours; the first call after it begins the next one.
So a block is made of whole hours, and DuckDB sums these up. ccusage defines blocks in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import msgspec

from eventlog.format.timestamps import naive_utc, utc
from eventlog.queries.cost import costs
from eventlog.queries.cost.report import burned
from eventlog.queries.rows import plain, rows_as_dicts

LENGTH = timedelta(hours=5)
_TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
#: A rate over less time than this says nothing.
_ELAPSED_MIN_S = 60.0


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of five hours, from `start` to `end`, the first and the last of them at `first` and `last`; in UTC.

    `cost_usd` is the sum over the calls that have a price, None if none has; `unpriced_calls` are not in it. Of the
    block that is `active`, and of no other one, there are the rates since its first call, what is left of it, and what
    it will have cost at its end at the same rate.
    """

    start: datetime
    end: datetime
    first: datetime
    last: datetime
    active: bool
    models: list[str]
    calls: int
    unpriced_calls: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    remaining_s: float | None = None
    usd_per_hour: Decimal | None = None
    tokens_per_minute: float | None = None
    projected_usd: Decimal | None = None
    projected_tokens: int | None = None

    @property
    def tokens(self) -> int:
        """All tokens, of whatever kind."""
        return sum(getattr(self, name) for name in _TOKENS)


#: Times that Python has no datetime for are left out.
_HOURS = f"""
    SELECT date_trunc('hour', timestamp)::TIMESTAMP AS start, min(timestamp) AS first, max(timestamp) AS last,
           list(DISTINCT model) FILTER (model IS NOT NULL) AS models, count(*) AS calls,
           count(*) FILTER (cost_source = 'unpriced') AS unpriced_calls,
           {", ".join(f"sum({name})::HUGEINT AS {name}" for name in _TOKENS)}, sum(cost_usd) AS cost_usd
    FROM {{costs}}
    WHERE ($source::VARCHAR IS NULL OR source = $source)
      AND timestamp BETWEEN TIMESTAMP '0001-01-02' AND TIMESTAMP '9999-12-30'
    GROUP BY 1 ORDER BY 1
"""


def blocks(
    connection: duckdb.DuckDBPyConnection,
    *,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> list[Block]:
    """Return the blocks that reach into the time from `since` to `until`, in order: of one `source` of calls, or all.

    `now` is the time that the active block is known by.
    """
    calls, resolved = costs.copied(connection, ("source",))
    statement = _HOURS.format(costs=costs.subquery(connection, resolved, calls=calls))
    hours = rows_as_dicts(connection.execute(statement, {"source": source}))
    moment = utc(now or datetime.now(UTC))
    found = (_block(of_block, moment) for of_block in _grouped(hours))
    return [
        block
        for block in found
        if (since is None or naive_utc(block.end) > naive_utc(since))
        and (until is None or naive_utc(block.start) < naive_utc(until))
    ]


def _grouped(hours: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the hours of each block."""
    block: list[dict[str, Any]] = []
    for hour in hours:
        if block and hour["start"] >= block[0]["start"] + LENGTH:
            yield block
            block = []
        block.append(hour)
    if block:
        yield block


def _block(hours: Sequence[dict[str, Any]], now: datetime) -> Block:
    start = hours[0]["start"]
    known = [hour["cost_usd"] for hour in hours if hour["cost_usd"] is not None]
    with localcontext(prec=50):
        cost = plain(sum(known, Decimal(0))) if known else None
    block = Block(
        start=start,
        end=start + LENGTH,
        first=hours[0]["first"],
        last=hours[-1]["last"],
        active=start <= now < start + LENGTH,
        models=sorted({model for hour in hours for model in hour["models"] or ()}),
        cost_usd=cost,
        **{name: sum(hour[name] for hour in hours) for name in ("calls", "unpriced_calls", *_TOKENS)},
    )
    return _with_rates(block, now) if block.active else block


def _with_rates(block: Block, now: datetime) -> Block:
    elapsed_s = max((now - block.first).total_seconds(), _ELAPSED_MIN_S)
    whole_s = elapsed_s + (block.end - now).total_seconds()
    rates = None if block.cost_usd is None else burned(block.cost_usd, elapsed_s, whole_s)
    return msgspec.structs.replace(
        block,
        remaining_s=(block.end - now).total_seconds(),
        usd_per_hour=None if rates is None else rates[0],
        tokens_per_minute=round(block.tokens / elapsed_s * 60, 1),
        projected_usd=None if rates is None else rates[1],
        projected_tokens=round(block.tokens / elapsed_s * whole_s),
    )
