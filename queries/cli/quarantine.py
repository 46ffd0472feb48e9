"""`eventlog quarantine list`, `eventlog quarantine retry`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from eventlog.cli.importing import import_settings, jsonl_arguments, jsonl_options
from eventlog.cli.main import EXIT_FAILED, existing_root, root_option, say, tell, tell_json
from eventlog.cli.main import Group as Commands
from eventlog.cli.text import counted, printable
from eventlog.format.control import Role
from eventlog.importers import retry as rejected_records
from eventlog.importers.events import Rejected
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.retry import Retried
from eventlog.importers.sources import Format
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.quarantine import Group
from eventlog.queries.text import tables
from eventlog.queries.text.tables import Column
from eventlog.record.recorder import Recorder

_REASONS_SHOWN = 5


@click.group(cls=Commands)
def quarantine() -> None:
    """List lines that are no events, or read them again.

    \b
    Example:
      eventlog quarantine list
      eventlog quarantine retry --time-field created_at
    """


@quarantine.command(name="list")
@options.limit_option(50)
@options.reading()
def list_(context: Context, limit: int) -> None:
    """List why lines are in quarantine.

    How many of each source and reason, with the first and the last place. Numbers in reasons do not count:
    lines that are not UTF-8 at other bytes are one group.

    \b
    Example:
      eventlog quarantine list
      eventlog sql "SELECT decode(raw) FROM quarantine LIMIT 1"
    """
    found = context.store().quarantine(limit=limit)
    if not found and not context.as_json:
        say("no line is in quarantine")
        return
    context.show(found, lambda: _lines(found))
    if len(found) == limit and not context.as_json:
        say(f"only {counted(limit, 'group')} {'is' if limit == 1 else 'are'} shown; --limit shows more")


def _lines(found: list[Group]) -> list[str]:
    rows = [
        (
            f"{group.lines:,}", group.kind, group.source or "", group.reason,
            f"{group.first_segment}:{group.first_offset}",
            f"{group.last_segment}:{group.last_offset}" if group.lines > 1 else "",
        )
        for group in found
    ]  # fmt: skip
    return tables.listed(
        rows, Column("lines", number=True), Column("kind", rank=3), Column("source", rank=2, elastic=True),
        Column("reason", elastic=True), Column("first", rank=1), Column("last", rank=4),
    )  # fmt: skip


@quarantine.command()
@jsonl_options
@click.option("--of", "source", metavar="SOURCE", help="Only what was rejected of this source, as `list` names it.")
@options.json_option
@root_option
def retry(source: str | None, as_json: bool, root: str | None, **fields: str | None) -> int:
    """Read again what imports rejected.

    What can be read now is appended to the log: after an upgrade that can read it, or with other options than those of
    the import. The files are not needed: the log has the bytes. What still cannot be read stays in quarantine. Options
    such as --type are for JSON lines.

    \b
    Example:
      eventlog quarantine retry
      eventlog quarantine retry --of /srv/app/app.jsonl --time-field created_at
    """
    changed = jsonl_arguments(fields)
    if {"type_", "type_field"} & changed.keys():  # they exclude each other
        changed = {"type_": None, "type_field": None} | changed

    def format_of(key: str, workspace: str | None, agent: str | None) -> Format | None:
        other = Jsonl.of_key(key, **changed) if changed else None
        return other or rejected_records.known_format(key, workspace, agent)

    def wanted(record: Rejected) -> bool:
        return source in (None, record.source)

    settings = import_settings(existing_root(root))
    recorder = Recorder(settings, role=Role.MAINTENANCE)
    try:
        done = rejected_records.retry(recorder, format_of=format_of, wanted=wanted)
    finally:
        recorder.shutdown()
    if as_json:
        tell_json(done)
    else:
        tell("\n".join(map(printable, _report(done))))
    return EXIT_FAILED if done.records and not done.recovered else 0


def _report(done: Retried) -> Iterator[str]:
    if not done.records:
        yield "nothing that an import rejected is waiting"
        return
    yield (
        f"{counted(done.records, 'rejected record')}: {done.recovered:,} recovered, {counted(done.events, 'new event')}"
    )
    if done.failed:
        yield f"{done.failed:,} rejected again:"
    for reason, count in list(done.reasons.items())[:_REASONS_SHOWN]:
        yield f"  {count:,}: {reason}"
    if len(done.reasons) > _REASONS_SHOWN:
        yield f"  and {counted(len(done.reasons) - _REASONS_SHOWN, 'other reason')}; --json has them"
    if done.cut:
        yield f"{done.cut:,} too long: the log has only the beginning; import the file again"
    if done.unknown:
        names = ", ".join(sorted({name.partition(" ")[0] for name in done.unknown_importers}))
        yield f"{done.unknown:,} of an importer that is not here, or has other options now: {names}"
