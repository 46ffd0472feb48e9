"""What the commands that read have in common: which root, whose workspace, in what form, and since when.

    @click.command()
    @options.since_option
    @options.reading(times=True)
    def runs(context: Context, since: datetime | None) -> None:
        found = context.store().runs(since=since)

Errors become exit codes in `eventlog.cli.main`.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

import click
import msgspec

from eventlog.cli import keeping
from eventlog.cli.main import (
    draws_bars,
    existing_root,
    is_watched,
    pages,
    progress_bar,
    resolved,
    root_option,
    say,
    tell_json,
)
from eventlog.cli.text import counted
from eventlog.cli.times import moment, zone_of, zone_options
from eventlog.cli.times import since_option as since_option  # noqa: PLC0414 - the options of all commands that read
from eventlog.cli.times import until_option as until_option  # noqa: PLC0414
from eventlog.config import Resolved
from eventlog.errors import QueryFailed
from eventlog.format import spoken, timestamps
from eventlog.format.envelope import AUDIT_LEVELS
from eventlog.indexer.index import index_file
from eventlog.queries.access.selection import Format
from eventlog.queries.store import ReadStore
from eventlog.queries.text import tables, units

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say that all reading commands share: `root` as it was given, if it was; `wait_s` in seconds.

    Times are shown and read in `zone`; None is the zone of this machine. With `agents`, the question is one about the
    coding agents of this machine, too.
    """

    root: str | None
    workspace: str | None
    wait_s: float
    no_index: bool
    as_json: bool
    zone: tzinfo | None
    agents: bool

    def store(self, **limits: Any) -> ReadStore:
        """Return the store that these options name, with further limits of a ReadStore, such as `timeout_s`.

        First, what coding agents wrote is imported if that is wanted, and what is new in the log is indexed if that is
        quick; it is said what the answers lack otherwise.

        The store is kept: to take a DuckDB apart, with what a question has left in it, takes longer than many
        questions, and when the process ends the kernel does it. The index itself is closed after each question. Raises
        ConfigError where there is no such root, and IndexFailed where there is no index and none is made.
        """
        global _last
        if keeping.is_on():
            from eventlog.queries.cli import resting  # for the few commands whose answers are kept

            resting.settings()
        settings = resolved(self.root)
        before = keeping.written_bytes()
        if keeping.is_on():
            self._tell_what_it_rests_on(settings)
        has_imported = not self.no_index and self._bring_in_agents(settings)
        _last = ReadStore(existing_root(self.root), workspace=self.workspace, wait_s=self.wait_s, **limits)
        if not self.no_index:
            within_s = _AFTER_IMPORT_S if has_imported else settings.config.catch_up_s
            _catch_up(_last, within_s, shown=has_imported and draws_bars())
        if (
            keeping.written_bytes() != before
        ):  # what was imported or indexed, or why not: the next answer does not say that
            keeping.is_not_kept()
        index = index_file.index_path(settings.config.root)
        keeping.rests_on(*index_file.wal_paths(index))
        keeping.rests_on_index(index)
        return _last

    def _tell_what_it_rests_on(self, settings: Resolved) -> None:
        from eventlog.queries.cli import resting

        if not settings.config.keep_answers:
            keeping.is_not_kept()
        resting.settings()
        resting.zone(self.zone)
        resting.price_list()
        resting.log(settings.config.root)
        if self._wants_agents(settings):
            resting.agents()

    def keep(self, until: datetime | None = None, *, of_runs: bool = False) -> None:
        """Let the answer be kept, until a moment or the end of the day, if it depends on no clock until then.

        It may depend on nothing but what `store` tells, options, and the terminal. `of_runs`: it tells of runs that may
        become abandoned.
        """
        if until is not None:
            keeping.ends(until)
        if keeping.is_on() and _last is not None:
            now = datetime.fromtimestamp(keeping.began(), UTC)
            if _last.is_settled(now, of_runs=of_runs):
                keeping.is_kept()

    def _wants_agents(self, settings: Resolved) -> bool:
        return self.agents and self.workspace is None and settings.wants_agents(is_watched=is_watched())

    def _bring_in_agents(self, settings: Resolved) -> bool:
        if not self._wants_agents(settings):
            return False
        from eventlog.cli import agents  # loads what imports need, which takes longer than many questions
        from eventlog.indexer.beside import indexing

        return agents.bring_in(settings.config, beside=indexing)

    def time(self, moment: datetime | None) -> str:
        """Return a time for a column, in the zone that was asked for; "" for None. `heading` names the zone."""
        return "" if moment is None else timestamps.shown(moment, self.zone)

    def minute(self, moment: datetime | None) -> str:
        """Return a time for a column to the minute; "" for None."""
        return "" if moment is None else timestamps.shown(moment, self.zone, timespec="minutes")

    def stamp(self, moment: datetime | None) -> str:
        """Return a time that stands alone, with its offset, in the zone that was asked for; "" for None."""
        return "" if moment is None else timestamps.stamped(moment, self.zone)

    def heading(self, name: str, moments: Iterable[datetime | None], *, dates: bool = False) -> str:
        """Return the heading of a column of times with their offset: `began (+02:00)`.

        In UTC each time has a Z, which `dates` have not: `day (UTC)`.
        """
        if self.zone is UTC:
            return f"{name} (UTC)" if dates else name
        offsets = {timestamps.offset(each, self.zone) for each in moments if each is not None}
        return f"{name} ({', '.join(sorted(offsets))})" if offsets else name

    def age(self, moment: datetime | None) -> str:
        """Return how long ago a time was, as `--since` takes it: `3h`; "" for None, and in a pipe, with its times."""
        if moment is None or tables.width_limit() is None:
            return ""
        now = datetime.now(UTC)
        age_s = (now - timestamps.utc(moment)).total_seconds()
        keeping.ends(now + timedelta(seconds=units.same_age_s(age_s)))
        return units.age(age_s)

    def show(self, answer: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print an answer as JSON if that was asked for, else its lines, page by page in a terminal."""
        if self.as_json:
            tell_json(answer)
        else:
            page("\n".join(lines()))

    def show_list(
        self, items: Sequence[object], lines: Callable[[], Iterable[str]], *, noun: str, limit: int, if_none: str
    ) -> None:
        """Print a list as `show` does; say where the limit cut it, or, for people, why there is nothing.

        `noun` is what the items are, as `runs`; `if_none` says what to try: `record one with obs.run(…)`.
        """
        if not items and not self.as_json:
            say(f"no such {noun}; {if_none}")
            return
        self.show(items, lines)
        if len(items) == limit and not self.as_json:
            shown_ = counted(limit, noun.removesuffix("s"))
            say(f"only {shown_} {'is' if limit == 1 else 'are'} shown; --limit shows more")


_last: ReadStore | None = None
#: For what was just imported; the user has seen that it is much, and sees how it goes.
_AFTER_IMPORT_S = 300.0


def _catch_up(store: ReadStore, within_s: float, *, shown: bool) -> None:
    with progress_bar("indexing") as progress:
        behind = store.catch_up(within_s, say=say, progress=progress if shown else None)
    if behind is not None:
        say(f"note: {behind}")


#: The endings of files of each format.
_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
}  # fmt: skip

# -- options ---------------------------------------------------------------------------------


def when(text: str | None, zone: tzinfo | None = None) -> datetime | None:
    """Return the moment that a text names, such as `yesterday` (eventlog.format.spoken), in UTC. Raises QueryFailed.

    One that names no zone is of `zone`, by default that of this machine.
    """
    parsed = moment(text, zone)
    return None if parsed is None else datetime.fromisoformat(parsed)


#: Parameters that `reading` turns from texts into moments, in the zone in which the command shows times.
_MOMENTS = ("since", "until", "as_of", "at")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
agent_option = click.option("--agent", metavar="A", help="Of this agent.")
audit_level_option = click.option(
    "--audit-level", type=click.Choice(AUDIT_LEVELS), help="Only events of this level, or of a higher one."
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to a file instead of standard output.",
)
_workspace_option = click.option("--workspace", metavar="W", help="See this workspace and nothing else.")
_wait_option = click.option(
    "--wait",
    "wait_s",
    default=30.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for the indexer to release the index.",
)
_no_index_option = click.option(
    "--no-index", is_flag=True, help="Answer from the index as it stands; do not index first what is new in the log."
)
timeout_option = click.option(
    "--timeout", "timeout_s", default=60.0, show_default=True, type=click.FloatRange(min=0.01), help="Seconds."
)


def format_option(*formats: str, **settings: Any) -> Callable[[F], F]:
    """Add --format, one of some formats; `settings` are those of a click option, such as `default`."""
    return click.option("--format", "format_", type=click.Choice(formats), **settings)


file_format_option = format_option(*get_args(Format), help="By default that of the output's name.")


def format_of(output: Path | None) -> Format:
    """Return the format that the name of a file asks for. Raises click.UsageError where it asks for none."""
    found = None if output is None else _ENDINGS.get(output.suffix.lower())
    if found is None:
        name = "standard output" if output is None else output.name
        raise click.UsageError(f"the format of {name} is not known; use --format {', '.join(get_args(Format))}")
    return found


#: For lists that can be searched by the words of a title: `eventlog sessions login bug`.
words_argument = click.argument("words", metavar="[WORDS]...", nargs=-1)


def limit_option(default: int) -> Callable[[F], F]:
    """Add --limit, 1 to 1,000."""
    return click.option(
        "--limit", default=default, show_default=True, type=click.IntRange(min=1, max=1000), help="How many at most."
    )


def reading(
    *, json: bool = True, times: bool = False, agents: bool = False
) -> Callable[[Callable[Concatenate[Context, P], R]], Callable[P, R]]:
    """Add the options that all reading commands share; the command gets them as a Context, its first argument.

    They are --workspace, --wait, --no-index and --root; --json unless `json` is False; and with `times`, --utc and
    --time-zone. Times that options name become datetimes. `agents` is that of the Context.
    """

    def decorate(command: Callable[Concatenate[Context, P], R]) -> Callable[P, R]:
        @functools.wraps(command)
        def run(*arguments: P.args, **parameters: P.kwargs) -> R:
            given: dict[str, Any] = dict(parameters)
            zone = zone_of(given.pop("utc", False), given.pop("time_zone", None))
            shared: dict[str, Any] = {"as_json": False, "zone": zone, "agents": agents}
            shared |= {name: given.pop(name) for name in Context.__struct_fields__ if name in given}
            if any(given.get(name) and spoken.moves(given[name]) for name in _MOMENTS):
                keeping.is_not_kept()
            given |= {name: when(given[name], zone) for name in _MOMENTS if name in given}
            since, until = given.get("since"), given.get("until")
            if since is not None and until is not None and since >= until:
                raise QueryFailed("--since is not before --until, so nothing is between them; exchange the two")
            return command(Context(**shared), *arguments, **given)

        decorated: Callable[..., R] = _workspace_option(_wait_option(_no_index_option(root_option(run))))
        decorated = json_option(decorated) if json else decorated
        return zone_options(decorated) if times else decorated

    return decorate


# -- output ----------------------------------------------------------------------------------


def page(text: str) -> None:
    """Print text: in a terminal, page by page where it is longer than the screen; in a pipe as it is."""
    if pages() and text.count("\n") + 2 > shutil.get_terminal_size().lines:
        keeping.is_not_kept()
        click.echo_via_pager(text + "\n")
    else:
        click.echo(text)
