"""`eventlog export`: rows of events, and bundles for an audit."""

from __future__ import annotations

from pathlib import Path

import click

from eventlog.errors import QueryFailed
from eventlog.format import envelope
from eventlog.format.envelope import AuditLevel
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.cli.sql import copy_rows


class TypesByDefault(click.Group):
    """A group whose default command is `types`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["types", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TypesByDefault)
def export() -> None:
    """Write events to a file: rows of some types, or all of a run as evidence.

    `eventlog export TYPE...` is `eventlog export types TYPE...`.

    \b
    Example:
      eventlog export llm_call tool_call --format parquet -o calls.parquet
      eventlog export bundle nightly-7 -o nightly-7.zip
    """


@export.command()
@click.argument("event_types", metavar="TYPE...", nargs=-1, required=True)
@options.format_option("parquet", "csv", "jsonl", required=True)
@options.audit_level_option
@options.output_option
@options.reading(json=False)
def types(
    context: Context, event_types: tuple[str, ...], format_: str, audit_level: AuditLevel | None, output: Path | None
) -> None:
    """Write all events of some types to a file or a pipe.

    They are rows of `events`, in order of time.

    \b
    Example:
      eventlog export llm_call tool_call --format parquet -o calls.parquet
      eventlog export deploy --format csv --audit-level session
    """
    for name in event_types:
        envelope.check_event_type(name)
    store = context.store(timeout_s=24 * 3600)
    unknown = set(event_types) - {count.event_type for count in store.counts(event_types)}
    if unknown:
        raise QueryFailed(f"no events of type {', '.join(sorted(unknown))}; try: eventlog sql 'FROM event_types'")
    levels = list(envelope.levels_from(audit_level or envelope.AUDIT_LEVELS[0]))
    copy_rows(store, _EVENTS, [list(event_types), levels], format_, output, None)


_EVENTS = """
    SELECT * FROM events
    WHERE event_type IN (SELECT unnest(?)) AND audit_level IN (SELECT unnest(?)) ORDER BY timestamp, event_id
"""
