"""What alert rules read: docs/alerts.md, from the lines of the log to value, samples and whether the rule holds."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from tests.recount.calls import MS_MAX, llm_calls, tool_calls
from tests.recount.costs import cost
from tests.recount.log import Event
from tests.recount.runs import runs


class Reading(NamedTuple):
    """What a rule reads; `value` is None where there is nothing."""

    holds: bool
    value: Decimal | None
    samples: int


class _Sample(NamedTuple):
    moment: datetime
    agent: str | None
    model: str | None
    failed: bool
    took_ms: float | None
    judged: bool = True


def reading(events: list[Event], rule: dict[str, Any], set_at: datetime, now: datetime, present: datetime) -> Reading:
    """What a rule reads at a moment. `events` are without copies, and of the rule's workspace; times are UTC."""
    since = now - timedelta(seconds=rule.get("window_s", 3600))
    if rule["kind"] in ("cost", "budget"):
        return _money(events, rule, since, now)
    if rule["kind"] == "heartbeat":
        beats = [each for each in events if each.event_type == "heartbeat" and _is_of(rule, each.agent)]
        heard = [each.timestamp for each in beats if each.timestamp <= now]
        last = max(heard, default=set_at)
        return Reading(last <= since, Decimal((now - last) // timedelta(microseconds=1)) / 1_000_000, int(bool(heard)))
    samples = [
        each
        for each in _samples(events, rule.get("of", "llm_calls"), now, present)
        if since < each.moment <= now and _is_of(rule, each.agent, each.model)
    ]
    return _share(rule, samples) if rule["kind"] == "error_rate" else _latency(rule, samples)


def _is_of(rule: dict[str, Any], agent: str | None, model: str | None = None) -> bool:
    prefix = rule.get("model")
    return rule.get("agent") in (None, agent) and (prefix is None or (model or "").startswith(prefix))


def _money(events: list[Event], rule: dict[str, Any], since: datetime, now: datetime) -> Reading:
    prices = [event for event in events if event.event_type == "price_set"]
    costs = [
        cost(call, prices)
        for call in llm_calls(events)
        if since < call.timestamp <= now and _is_of(rule, call.agent, call.model)
    ]
    priced = [each for each in costs if each is not None]
    total = sum(priced, Decimal(0))
    if costs and not priced:
        return Reading(False, None, 0)
    threshold = Decimal(rule["threshold"])
    part = Decimal(rule.get("at_percent", 100)) / 100
    holds = total > threshold if rule["kind"] == "cost" else total >= threshold * part
    return Reading(holds, total, len(priced))


def _samples(events: list[Event], of: str, now: datetime, present: datetime) -> list[_Sample]:
    if of == "llm_calls":
        return [_Sample(each.timestamp, each.agent, each.model, not each.ok, each.latency_ms)
                for each in llm_calls(events)]  # fmt: skip
    if of == "tool_calls":
        return [_Sample(each.finished or each.timestamp, each.agent, None, each.ok is False, each.duration_ms)
                for each in tool_calls(events)]  # fmt: skip
    found = []
    for run in runs(events, now, present).values():
        moment = run["finished"] or run["abandoned_at"]
        if moment is None:  # only clocks that ran ahead tell of it
            continue
        moment = moment if run["finished"] else min(moment, now)
        judged = run["outcome"] in ("ok", "error", "abandoned")
        found.append(_Sample(moment, run["agent"], None, run["outcome"] != "ok", run["duration_ms"], judged))
    return found


def _share(rule: dict[str, Any], samples: list[_Sample]) -> Reading:
    judged = [each for each in samples if each.judged]
    failed = sum(each.failed for each in judged)
    share = Fraction(failed, len(judged)) if judged else None
    enough = len(judged) >= rule.get("min_samples", 1) and share is not None
    return Reading(
        enough and share is not None and share > Fraction(rule["threshold"]),
        None if share is None else _rounded(share, 6),
        len(judged),
    )


def _latency(rule: dict[str, Any], samples: list[_Sample]) -> Reading:
    took = sorted(each.took_ms for each in samples if each.took_ms is not None and 0 <= each.took_ms <= MS_MAX)
    if not took:
        return Reading(False, None, 0)
    percent = Fraction(str(rule.get("percentile", 95)))
    value = Fraction(took[-int(-percent * len(took) // 100) - 1])
    holds = len(took) >= rule.get("min_samples", 1) and value > Fraction(rule["threshold"])
    return Reading(holds, _rounded(value, 3), len(took))


def _rounded(value: Fraction, decimals: int) -> Decimal:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
