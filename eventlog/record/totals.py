"""Light totals of a run or a step, in the process that records it.

They count only what this process has recorded, and cost a few additions per event. The index has the
complete numbers (`runs`, `llm_costs`). A call has the price that it has there, but for `price_set` events, which only
the index knows, and for a time of its own: here it has the prices of the moment at which it was recorded.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from eventlog.format import builtin
from eventlog.format.usage_dialects import TOKENS

#: The function that returns prices, by name: the write side must not depend on the read side.
_PRICES = ("eventlog.queries.cost.prices", "price_of_call")
#: At this many unpriced calls their prices are looked up, which bounds the memory of a long run.
_PENDING_MAX = 10_000
_MODELS_MAX = 1_000
#: Larger values are mistakes, and must not spoil the sums: 31 years; the number of digits that the index can store.
_LATENCY_MAX_MS = 1e12
_DIGITS_MAX = 20
#: A larger amount that was reported for one call is none (eventlog.queries.cost.costs).
_REPORTED_MAX_USD = 9_999_999_999
#: So many digits that no sum of costs is rounded.
_EXACT = Context(prec=60)

_logger = logging.getLogger("eventlog")


class RunStats(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a run so far. Encodes as JSON with msgspec; `msgspec.to_builtins` makes a dict of it.

    `models` are names. Token counts are split as in `llm_call`. `cost_usd` is the sum of the costs that
    providers reported and, where the price list is installed, of the other calls at list prices: tokens, web searches,
    place of inference and tier, as `eventlog cost` counts them. Prices that were set (`price_set`) are not known here.
    It does not include the `unpriced_calls`, and is None if no call has a price.
    """

    run_id: str
    name: str
    duration_ms: float
    models: list[str]
    steps: int
    step_failures: int
    llm_calls: int
    llm_failures: int
    tool_calls: int
    tool_failures: int
    errors: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    llm_latency_ms: float
    cost_usd: Decimal | None
    unpriced_calls: int


class StepStats(RunStats, frozen=True, kw_only=True):
    """Totals of a step so far: of what was recorded inside of it, steps in it included, itself not.

    `run_id` is empty outside of a run; `name` and `duration_ms` are the step's, `event_id` is the id of its event.
    """

    event_id: str


class _Call(msgspec.Struct, frozen=True):
    """The facts that a call's price depends on."""

    model: str | None
    provider: str | None
    at: datetime
    tokens: dict[str, int]
    service_tier: str | None
    inference_geo: str | None
    failed: bool


Price = Callable[..., Decimal | None]


class Totals:
    """Sums up the events of one run or step. Safe across threads and signal handlers."""

    def __init__(self) -> None:
        self.renew_locks()
        self._models: set[str] = set()
        self._steps = self._step_failures = 0
        self._llm_calls = self._llm_failures = 0
        self._tool_calls = self._tool_failures = 0
        self._errors = self._unpriced = self._priced = 0
        self._tokens = dict.fromkeys(TOKENS, 0)
        self._latency_ms = 0.0
        self._cost_usd = Decimal(0)
        self._pending: list[_Call] = []

    def renew_locks(self) -> None:
        """In a forked child: replace locks that a vanished thread may hold."""
        self._lock = threading.RLock()
        #: Held while calls are priced, which may load a library for seconds. `add` never waits for it.
        self._pricing = threading.RLock()

    def add(self, event: msgspec.Struct) -> None:
        """Count an event. Values that are no numbers are skipped. Never raises."""
        try:
            self._add(event)
        except Exception as error:  # noqa: BLE001 - a value's own code (bool, +), on the agent's path
            _logger.debug("a value was not counted in the totals of its run or step: %s", type(error).__name__)

    def _add(self, event: msgspec.Struct) -> None:
        with self._lock:
            if isinstance(event, builtin.Step):
                self._steps += 1
                self._step_failures += event.error_type is not None
            elif isinstance(event, builtin.LlmCall):
                self._add_llm_call(event)
            elif isinstance(event, builtin.ToolCall):
                self._tool_calls += 1
                self._tool_failures += event.error_type is not None or not event.ok
            elif isinstance(event, builtin.Error):
                self._errors += 1
            is_full = len(self._pending) >= _PENDING_MAX
        if is_full:
            self._price_pending()

    def _add_llm_call(self, event: builtin.LlmCall) -> None:
        self._llm_calls += 1
        self._llm_failures += event.error_type is not None
        names = (event.response_model, event.request_model)
        model = next((name for name in names if isinstance(name, str) and name), None)
        if model is not None and len(self._models) < _MODELS_MAX:
            self._models.add(model)
        tokens = {name: count for name in TOKENS if isinstance(count := getattr(event, name), int)}
        for name, count in tokens.items():
            self._tokens[name] += count
        if isinstance(event.latency_ms, int | float) and 0 <= event.latency_ms <= _LATENCY_MAX_MS:
            self._latency_ms += event.latency_ms
        cost = decimal(event.cost_usd)
        if cost is not None and 0 <= cost <= _REPORTED_MAX_USD:
            self._add_cost(cost)
        elif event.usage_problem is not None:
            self._unpriced += 1
        else:
            if isinstance(event.web_searches, int):
                tokens["web_searches"] = event.web_searches
            self._pending.append(
                _Call(
                    model, event.provider_name, datetime.now(UTC), tokens, event.service_tier, event.inference_geo,
                    event.error_type is not None,
                )
            )  # fmt: skip

    def _add_cost(self, cost: Decimal) -> None:
        self._cost_usd = _EXACT.add(self._cost_usd, cost)
        self._priced += 1

    def _price_pending(self) -> None:
        with self._pricing:
            with self._lock:
                pending, self._pending = self._pending, []
            price = _price_function() if pending else None
            costs = [_cost(price, call) for call in pending] if price else [None] * len(pending)
            priced = [cost for cost in costs if cost is not None]
            with self._lock:
                for cost in priced:
                    self._add_cost(cost)
                self._unpriced += len(costs) - len(priced)

    def stats(self, run_id: str, name: str, duration_ms: float) -> RunStats:
        """Return the current totals. The first call with something to price loads the price list."""
        self._price_pending()
        with self._lock:
            return RunStats(
                run_id=run_id,
                name=name,
                duration_ms=duration_ms,
                models=sorted(self._models),
                steps=self._steps,
                step_failures=self._step_failures,
                llm_calls=self._llm_calls,
                llm_failures=self._llm_failures,
                tool_calls=self._tool_calls,
                tool_failures=self._tool_failures,
                errors=self._errors,
                llm_latency_ms=round(self._latency_ms, 3),
                cost_usd=None if self._unpriced and not self._priced else self._cost_usd,
                unpriced_calls=self._unpriced,
                **self._tokens,
            )


def decimal(value: object) -> Decimal | None:
    """Return an amount exactly as it is written (0.1 is Decimal("0.1")); None if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        return None
    try:
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except (InvalidOperation, ValueError):  # a number of thousands of digits
        return None
    return amount if amount.is_finite() and amount.adjusted() < _DIGITS_MAX else None


def _price_function() -> Price | None:
    module, function = _PRICES
    try:
        price: Any = getattr(importlib.import_module(module), function, None)
    except Exception:  # noqa: BLE001 - not installed, or broken: the calls are unpriced, and the agent goes on
        return None
    return price if callable(price) else None


def _cost(price: Price, call: _Call) -> Decimal | None:
    try:
        return decimal(
            price(
                call.model, call.provider, call.at, call.tokens, service_tier=call.service_tier,
                inference_geo=call.inference_geo, failed=call.failed,
            )
        )  # fmt: skip
    except Exception:  # noqa: BLE001 - as above
        return None
