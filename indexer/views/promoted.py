"""Promoted columns: fields of payloads that are stored in columns of their own, too (docs/decisions/0014)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from eventlog.indexer.sql import ident

#: SQL for JSON that is not there.
NOTHING = "NULL"


class PromotedColumn(NamedTuple):
    """A column of `event_rows` that is filled from the payloads of one event type.

    It holds the payload's top-level field `field`, or the value of `expression`, SQL over the column `payload` alone.
    `kind` is the column's DuckDB type. The column `llm_call/latency_ms` has the field `latency_ms` of `llm_call`.
    `steps` are what the expression needs more than once: names and SQL, which may use the steps before it. A name is
    the column's own with more behind a slash (`codex/usage/values`); SQL quotes it. Columns of one event type may share
    a step, which is computed once: each has it, with the same name and the same SQL.
    `absent` is what counts where the payload lacks the field: SQL over `schema_version` for JSON, such as `'0'`.
    """

    event_type: str
    field: str
    kind: str
    expression: str | None = None
    steps: tuple[tuple[str, str], ...] = ()
    absent: str = NOTHING

    @property
    def column(self) -> str:
        """The name of the column, as `llm_call/latency_ms`; not quoted."""
        return f"{self.event_type}/{self.field}"

    def value(self, of_field: str) -> str:
        """Return the SQL of the column's value: NULL where the expression fails; `of_field` where there is none."""
        return f"TRY((\n{self.expression or of_field}\n)::{self.kind})"

    def stepped(self, rows: str, condition: str = "true", *, there: Collection[str] = ()) -> str:
        """Return the rows of a FROM clause with the steps of this column, computed where the condition holds.

        Those whose names are `there` are in the rows already.
        """
        for name, expression in self.steps:
            if name not in there:
                rows = f"(SELECT *, CASE WHEN {condition} THEN TRY({expression}) END AS {ident(name)} FROM {rows})"
        return rows
