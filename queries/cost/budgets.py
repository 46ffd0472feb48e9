"""Budgets: how much of the money of a day or a month is spent, and what it comes to at this rate."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from eventlog.queries.cost.report import Budget, Burn, CostReport

Per = Literal["day", "month"]


def with_budgets(report: CostReport, limits: dict[Per, Decimal | None]) -> CostReport:
    """Return a report with the state of each budget that has a limit."""
    burns: dict[Per, Burn] = {"day": report.today, "month": report.month}
    budgets = [_budget(per, limit, burns[per]) for per, limit in limits.items() if limit is not None]
    return msgspec.structs.replace(report, budgets=budgets)


def _budget(per: Per, limit: Decimal, burn: Burn) -> Budget:
    return Budget(
        per=per, limit_usd=limit, spent_usd=burn.cost_usd, projected_usd=burn.projected_usd,
        unpriced_calls=burn.unpriced_calls,
    )  # fmt: skip
