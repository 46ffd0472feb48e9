"""`eventlog quarantine list`, `eventlog quarantine retry`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from eventlog import config
from eventlog.cli.main import EXIT_FAILED, existing_root, root_option, say, tell, tell_json
from eventlog.cli.main import Group as Commands
from eventlog.cli.text import counted, printable
from eventlog.errors import ConfigError
from eventlog.format.control import Role
from eventlog.importers import retry as rejected_records
from eventlog.importers.retry import Rejected, Retried
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
@click.option("--type", "type_", metavar="T", help="Of JSON lines: the event type of all lines.")
@click.option("--type-field", metavar="F", help="Of JSON lines: the field that holds the type.")
@click.option("--time-field", metavar="F", help="Of JSON lines: the field that holds the time.")
@click.option("--time-format", metavar="FORMAT", help="Of JSON lines: how the time is written.")
@click.option("--time-zone", metavar="ZONE", help="Of JSON lines: the zone of times that name none.")
@click.option("--id-field", metavar="F", help="Of JSON lines: the field that identifies an event.")
@click.option("--unwrap", metavar="F", help="Of JSON lines: the field that holds the event as a text.")
@click.option("--of", "source", metavar="SOURCE", help="Only what was rejected of this source, as `list` names it.")
@options.json_option
@root_option
def retry(
    type_: str | None,
    type_field: str | None,
    time_field: str | None,
    time_format: str | None,
    time_zone: str | None,
    id_field: str | None,
    unwrap: str | None,
    source: str | None,
    as_json: bool,
    root: str | None,
) -> int:
    """Read again what imports rejected.

    What can be read now is appended to the log: after an upgrade that can read it, or with other options than those of
    the import. The files are not needed: the log has the bytes. What still cannot be read stays in quarantine.

    \b
    Example:
      eventlog quarantine retry
      eventlog quarantine retry --of /srv/app/app.jsonl --time-field created_at
    """
    if type_ is not None and type_field is not None:
        raise click.UsageError("give either --type or --type-field")
    given = {
        "type_": type_, "type_field": type_field, "time_field": time_field, "id_field": id_field,
        "time_format": time_format, "time_zone": time_zone, "unwrap": unwrap,
    }  # fmt: skip
    others = {name: value for name, value in given.items() if value is not None}
    if type_ is not None or type_field is not None:
        others |= {"type_": type_, "type_field": type_field}  # type: ignore[dict-item]  # None is what they exclude

    def format_of(key: str, workspace: str | None, agent: str | None) -> Format | None:
        changed = rejected_records.jsonl_format(key, **others) if others else None
        return changed or rejected_records.known_format(key, workspace, agent)

    def wanted(record: Rejected) -> bool:
        return source in (None, record.source)

    settings = config.load(root=existing_root(root), strict=True)
    if settings.mode is config.Mode.OFF:
        raise ConfigError("eventlog is turned off (mode off, or an empty EVENTLOG_DIR); turn it on to import")
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
        f"{counted(done.records, 'rejected record')}: {done.recovered:,} recovered, "
        f"{counted(done.events, 'new event')} (eventlog index indexes them)"
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
