"""`alerts check --json` and `alerts list --json` say the same, where both tell of a rule, a firing or a delivery."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from eventlog.format import builtin
from eventlog.queries.store import ReadStore
from tests.queries.alerts.support import add, checked, emit, rule

CHANNEL = "env:NOT_SET_ANYWHERE"


def differences(one: msgspec.Struct, other: msgspec.Struct) -> dict[str, tuple[object, object]]:
    """Return the fields that both have, and that are not equal."""
    a, b = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    assert len(a.keys() & b.keys()) >= 4
    return {name: (a[name], b[name]) for name in a.keys() & b.keys() if a[name] != b[name]}


def test_a_check_and_a_list_say_the_same(root: Path) -> None:
    """A firing keeps the summary and the severity that it began with, also if it ends since its rule was set anew."""
    add(root, rule("spend", "cost", "5", severity="critical", channels=[CHANNEL]))
    emit(root, (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal(6)), {}))
    began = checked(root)
    store = ReadStore(root)
    (fired,), (outcome,), (attempt,) = began.fired, began.rules, began.deliveries
    assert differences(fired, store.alerts()[0]) == {}
    assert differences(outcome, store.alert_rules()[0]) == {}
    delivery = store.alert_deliveries()[0]
    assert differences(attempt, delivery) == {}
    assert (attempt.attempt, attempt.reason) == (delivery.failures, delivery.last_error)

    add(root, rule("spend", "cost", "500", severity="info"), seconds=30)
    (resolved,) = checked(root, 60).resolved
    assert (resolved.summary, resolved.severity, resolved.because) == (fired.summary, "critical", "changed")
    assert differences(resolved, store.alerts()[0]) == {}


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        ("6", "6"), ("0.0000000000005", "0.0000000000005"), ("1.000000000000000001", "1.000000000000000001"),
        ("999999999.123456789012345678", "999999999.123456789012345678"),
    ],
)  # fmt: skip
def test_a_value_keeps_all_its_decimals(root: Path, cost: str, shown: str) -> None:
    """As many as a cost has: what a check says is what the list says, and SQL."""
    add(root, rule("spend", "cost", "0"))
    emit(root, (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal(cost)), {}))
    (outcome,) = checked(root).rules
    store = ReadStore(root)
    (listed,) = store.alerts()
    assert (outcome.value, listed.value) == (shown, shown)
    assert store.sql("SELECT value FROM alerts").rows == [(Decimal(cost),)]


@pytest.mark.parametrize(
    ("failed", "calls", "share"),
    [(1, 2, "0.5"), (1, 3, "0.333333"), (2, 3, "0.666667"), (1, 64, "0.015625"), (1, 128, "0.007813")],
)
def test_halves_of_a_share_go_up(root: Path, failed: int, calls: int, share: str) -> None:
    """At the seventh decimal: 1 of 128 is 0.0078125."""
    emit(root, *((-60, builtin.LlmCall(request_model="m", error_type="E" if n < failed else None), {})
                 for n in range(calls)))  # fmt: skip
    add(root, rule("errors", "error_rate", "0"))
    (outcome,) = checked(root).rules
    assert outcome.value == share
