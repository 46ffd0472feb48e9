"""`eventlog export`: rows of events, conversations to share, and bundles for an audit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import click

from eventlog.cli.main import EXIT_FAILED, Group, say, tell
from eventlog.cli.text import counted, printable
from eventlog.errors import QueryFailed
from eventlog.format import envelope
from eventlog.format.envelope import AuditLevel
from eventlog.indexer.sql import ident
from eventlog.queries.access.selection import Format
from eventlog.queries.bundle import verify as verifier
from eventlog.queries.bundle.export import VERIFIER, Bundle
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.cli.sql import copy_rows
from eventlog.queries.conversation import pages
from eventlog.queries.conversation.pages import PageFormat
from eventlog.queries.snapshot import Snapshot, is_snapshot
from eventlog.queries.store import ReadStore
from eventlog.queries.text.units import size


class TypesByDefault(Group):
    """A group whose default command is `types`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["types", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TypesByDefault)
def export() -> None:
    """Write events to a file.

    The rows of some types or of a view, the whole index for other tools, a conversation as a page, or all lines of a
    run as evidence. `eventlog export NAME...` is `eventlog export types NAME...`, which also takes names of commands.

    \b
    Example:
      eventlog export llm_call tool_call -o calls.parquet
      eventlog export llm_costs -o costs.csv
      eventlog export index log.duckdb
      eventlog export conversation nightly-7 -o nightly-7.html
      eventlog export bundle nightly-7 -o nightly-7.zip
    """


@export.command()
@click.argument("names", metavar="TYPE...|VIEW", nargs=-1, required=True)
@options.file_format_option
@options.audit_level_option
@options.output_option
@options.reading(json=False)
def types(
    context: Context,
    names: tuple[str, ...],
    format_: Format | None,
    audit_level: AuditLevel | None,
    output: Path | None,
) -> None:
    """Write events of some types, or the rows of a view.

    Events are rows of `events`, in order of time. A view is one such as runs, sessions, llm_calls or llm_costs, which
    has what each call cost.

    \b
    Example:
      eventlog export llm_call tool_call -o calls.parquet
      eventlog export llm_costs -o costs.csv
      eventlog export deploy --format jsonl --audit-level session
    """
    format_ = format_ or options.format_of(output)
    store = context.store(timeout_s=24 * 3600)
    if len(names) == 1 and names[0] in store.sql.tables() and not store.counts(names):
        if audit_level is not None:
            raise QueryFailed(f"--audit-level is for events, and {names[0]} is a view")
        copy_rows(store, f"FROM {ident(names[0])}", [], format_, output, None)
        return
    for name in names:
        envelope.check_event_type(name)
    unknown = set(names) - {count.event_type for count in store.counts(names)}
    if unknown:
        raise QueryFailed(_not_there(sorted(unknown), store))
    levels = list(envelope.levels_from(audit_level or envelope.AUDIT_LEVELS[0]))
    copy_rows(store, _EVENTS, [list(names), levels], format_, output, None)


def _not_there(unknown: list[str], store: ReadStore) -> str:
    views = sorted(set(unknown) & set(store.sql.tables()))
    if views:
        return f"{views[0]} is a view; export it alone"
    return (
        f"no events of type {', '.join(unknown)}, and no view of that name; "
        "try: eventlog sql 'FROM event_types', or eventlog sql 'SHOW TABLES'"
    )


_force_option = click.option("--force", is_flag=True, help="Replace the file, whatever it is.")


def _check_replaced(path: Path, is_ours: Callable[[Path], bool], kind: str, *, force: bool) -> None:
    """Raise QueryFailed if a file would be replaced that is no earlier one of the kind. An empty file may be."""
    if force or not path.is_file() or path.stat().st_size == 0 or is_ours(path):
        return
    raise QueryFailed(f"{path} is there, and is no {kind} of eventlog; name another file, or add --force to replace it")


@export.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@_force_option
@options.reading()
def index(context: Context, path: Path, force: bool) -> None:
    """Write the whole index to a DuckDB file for other tools.

    It has a table for each view, llm_costs included, and DuckDB 1.2 and later read it: the shell, Metabase, a notebook.
    What it is, and the price list behind its costs, stands in its table eventlog.about.

    \b
    Example:
      eventlog export index log.duckdb
      duckdb log.duckdb "SELECT model, sum(cost_usd) FROM llm_costs GROUP BY ALL"
    """
    _check_replaced(path, is_snapshot, "snapshot", force=force)
    made = context.store(timeout_s=24 * 3600).snapshot(path)
    context.show(made, lambda: _snapshot_lines(made))


def _snapshot_lines(made: Snapshot) -> list[str]:
    filled = sum(1 for rows in made.tables.values() if rows)
    prices = made.prices or "no price list: what has no price of its own is unpriced"
    return [
        printable(f"{size(made.bytes)} in {made.path}: {made.tables['events']:,} events"),
        f"{counted(len(made.tables), 'table')}, {filled} with rows; costs by {prices}",
    ]


@export.command()
@click.argument("id_", metavar="RUN|SESSION")
@options.format_option("markdown", "html", help="By default that of the name of the file, else markdown.")
@options.output_option
@options.reading(json=False, times=True)
def conversation(context: Context, id_: str, format_: PageFormat | None, output: Path | None) -> None:
    """Write a conversation as one page to share.

    What was said and done in a run or a session, whole: prompts, answers, thinking, calls of tools. Secrets of known
    shapes are removed, of imported text too. The page needs no network, and has the hashes of its lines in the log.

    \b
    Example:
      eventlog export conversation 4ddad80c -o chat.html
      eventlog export conversation nightly-7 --format markdown | less
    """
    chosen = format_ or _page_format_of(output)
    store = context.store()
    answer, lines = store.runs.conversation(id_), store.runs.lines(id_)
    if answer is None or lines is None:
        raise QueryFailed(f"{id_!r} is a request; its runs have the conversation: eventlog show {id_} names them")
    text = pages.page(answer, lines.hashes(), chosen, context.time)
    if output is None:
        tell(text.removesuffix("\n"))
        return
    with open(output, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    say(f"{counted(len(answer.turns), 'turn')} of the {answer.kind} {answer.id} in {output}")


def _page_format_of(output: Path | None) -> PageFormat:
    """Return the format that the name of a file says; Markdown without a file. Raises click.UsageError."""
    if output is None:
        return "markdown"
    by_suffix: dict[str, PageFormat] = {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html"}
    if output.suffix.lower() not in by_suffix:
        raise click.UsageError(f"the name {output} says no format; add --format markdown or --format html")
    return by_suffix[output.suffix.lower()]


@export.command()
@click.argument("id_", metavar="RUN|SESSION|REQUEST")
@click.option("--chain", is_flag=True, help="All seals up to the newest: any later head proves the bundle.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; by default named after the id."
)
@_force_option
@options.reading()
def bundle(context: Context, id_: str, chain: bool, output: Path | None, force: bool) -> None:
    """Write all lines of a run, session or request as evidence.

    It is one ZIP file: the lines as they stand in the log, the seals that prove them, a summary, and a program that
    verifies all of it and needs nothing else. Nothing is redacted.

    \b
    Example:
      eventlog export bundle nightly-7
      eventlog export bundle chat-12 --workspace acme --chain -o chat-12.zip
    """
    path = output or Path(_UNSAFE.sub("_", id_)[:_NAME_MAX_CHARS] + ".zip")
    _check_replaced(path, _is_bundle, "bundle", force=force)
    made = context.store(timeout_s=24 * 3600).runs.bundle(id_, path, chain=chain)
    context.show(made, lambda: _bundle_lines(made))


def _is_bundle(path: Path) -> bool:
    try:
        with ZipFile(path) as file:
            return "manifest.sha256" in file.namelist()
    except (BadZipFile, OSError):
        return False


def _bundle_lines(made: Bundle) -> list[str]:
    lines = [
        f"{counted(made.lines, 'line')} of the {made.kind} {made.id} in {made.path}, {made.proven:,} proven by seals",
        *(f"{count:,} not proven: {why}" for why, count in made.unproven.items()),
        *(f"{count:,} left out: {why}" for why, count in made.left_out.items()),
        f"manifest {made.sha256}",
    ]
    return [printable(line) for line in lines]


@export.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option("--head", metavar="N:HASH", help="A head printed by `eventlog seal`, and stored elsewhere.")
def verify(path: Path, head: str | None) -> int:
    """Verify a bundle, packed or unpacked; no root is needed.

    It says which lines are proven to be in sealed segments, and what is not proven. The exit code is 1 if something was
    changed, or if the head is not among the seals.

    \b
    Example:
      eventlog export verify nightly-7.zip --head 12:9f86d0…
    """
    found = verifier.verify(str(path), None if head is None else head.lower())
    tell("\n".join(printable(line) for line in verifier.report(found)))
    if not verifier.has_program(str(path), VERIFIER.read_bytes()):
        say("verify.py in the bundle is not that of this eventlog; this one was used")
    return EXIT_FAILED if found["wrong"] else 0


_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_NAME_MAX_CHARS = 100
_EVENTS = """
    SELECT * FROM events
    WHERE event_type IN (SELECT unnest(?)) AND audit_level IN (SELECT unnest(?)) ORDER BY timestamp, event_id
"""
