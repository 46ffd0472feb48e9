"""A clock that jumps while prices, policies and rules are set: the last recorded one counts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from eventlog.config import Config
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.builtin import LlmCall, PriceSet, RetentionSet
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.policies import Policies
from eventlog.queries.alerts.check import check
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults.campaign import Plan, fault

_DAY_S = 86_400.0
_SEVERITIES = ("info", "warning", "critical")
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@fault("A clock that was wrong", "prices, policies and rules set and corrected while it jumps by up to a year")
def trust_wrong_clocks(plan: Plan) -> str:
    changed = rounds = 0
    for _ in range(plan.times(12)):
        root = plan.root
        made = plan.rng.randint(2, 12)
        last = _change(plan, root, made)
        _judge(root, last)
        changed, rounds = changed + made, rounds + 1
    return f"{changed:,} changes in {rounds:,} logs, by clocks up to a year off: each time the one recorded last counts"


def _change(plan: Plan, root: Path, count: int) -> int:
    """Set things `count` times; return the last value: 1, 2 or 3."""
    recorder = Recorder(Config(root=str(root), strict=True, operator=True))
    chosen = 0
    for _ in range(count):
        chosen = plan.rng.randint(1, 3)
        off_s = plan.rng.choice([0.0, plan.rng.uniform(-365, 365) * _DAY_S])
        moment = datetime.fromtimestamp(time.time() + off_s, UTC)
        price = PriceSet(model="m", input_usd_per_mtok=Decimal(chosen), effective_from=_LONG_AGO)
        rule = AlertRuleSet(name="r", kind="sql", sql="SELECT 1", severity=_SEVERITIES[chosen - 1])
        for event in (RetentionSet(keep_days=float(chosen)), price, rule):
            recorder.emit(event, timestamp=moment)
    recorder.emit(LlmCall(request_model="m", uncached_input_tokens=10**6))
    recorder.shutdown()
    return chosen


def _judge(root: Path, last: int) -> None:
    Indexer(root).catch_up()
    store = ReadStore(root)
    Plan.check(store.costs(None).total.cost_usd == last, f"the price that counts is not the last one, {last}")
    Plan.check(
        Policies(root, None).keep_s(None) == last * _DAY_S, f"the policy that counts is not the last one, {last}"
    )
    (rule,) = store.alert_rules()
    Plan.check(rule.severity == _SEVERITIES[last - 1], f"the rule that counts is not the last one: {rule}")
    Plan.check(len(check(root).fired) == 1, "a rule that holds does not fire")
