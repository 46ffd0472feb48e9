"""`eventlog import`: foreign logs as events."""

from __future__ import annotations

import contextlib
import glob
import inspect
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from eventlog import config
from eventlog.cli.main import Group, configured, draws_bars, root_option, say, tell, tell_json
from eventlog.cli.text import counted, printable
from eventlog.errors import ConfigError, ImportFailed
from eventlog.importers import discovery, foreign_types, pipe, sources
from eventlog.importers.engine import Imported, Importer, follow, importing
from eventlog.importers.jsonl import ENVELOPE_FIELDS, Jsonl, guess_time_field
from eventlog.importers.recognition import Recognition, hint
from eventlog.importers.records import open_source, read_lines, split_records
from eventlog.importers.sources import Format, Source

F = TypeVar("F", bound=Callable[..., Any])

_FOLLOW_S = 0.5
#: Between two looks at the folders of all coding agents, which may hold thousands of files.
_FOLLOW_AGENTS_S = 2.0
_SHOWN_MAX = 20
_AS_JSON = "eventlog.import_as_json"
#: The files of a folder that `import jsonl` reads, rotated and compressed ones as well.
_LINES = ("*.jsonl", "*.jsonl.*", "*.ndjson", "*.ndjson.*", "*.json", "*.json.*", "*.log", "*.log.*", "*.log-*")


def _remember_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_AS_JSON] = value


_json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_remember_json,
    help="Print JSON; with --follow, a line for each round.",
)


class ImportGroup(Group):
    """`jsonl`, and a command for each source."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *(source.command for source in sources.all_sources())])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for source in sources.all_sources():
            if source.command == cmd_name:
                return _command(source)
        command = super().get_command(ctx, cmd_name)
        if command is None:
            _warn_of_sources()
        return command


@click.group(name="import", cls=ImportGroup)
def import_() -> None:
    """Append other programs' logs, each event once.

    However often it is run.

    Commands that read find what was imported at once, or say that `eventlog index` is needed
    first. A line that cannot be read is kept as it is and shows up in quarantine.

    \b
    Example:
      eventlog import claude-code
      eventlog import jsonl app.log.gz --type app_log --time-field ts
    """


def jsonl_options(command: F) -> F:
    """Add the options that say how a JSON line is read; the command gets them for `jsonl_arguments`."""
    for name, metavar, help_ in reversed(_JSONL_OPTIONS):
        command = click.option(name, metavar=metavar, help=help_)(command)
    return command


_JSONL_OPTIONS = (
    ("--type", "T", "The event type of all lines."),
    ("--type-field", "F", "The field that holds the type; PushEvent becomes push_event."),
    ("--time-field", "F", "The field that holds the time: ISO 8601, or a number of one reading."),
    ("--time-format", "F", "How it is written: s, ms, us, ns, iso, dotnet, filetime, webkit, or as %d/%m/%Y."),
    ("--time-zone", "Z", "The zone of times without an offset, such as Europe/Berlin; UTC, if not given."),
    ("--id-field", "F", "The field that identifies an event."),
    ("--unwrap", "F", "The field whose text is the event as JSON: log, in the logs of containers."),
    ("--records", "F", "The field whose list holds the events: Records, in CloudTrail's files."),
    *((f"--{name}-field", "F", f"The field that holds the {field}.") for name, field in ENVELOPE_FIELDS.items()),
)


def jsonl_arguments(options: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the arguments of Jsonl for the options that were given. Raises click.UsageError."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    fields = {field: given.pop(f"{name}_field", None) for name, field in ENVELOPE_FIELDS.items()}
    if fields := {field: name for field, name in fields.items() if name is not None}:
        given["fields"] = fields
    if "type" in given and "type_field" in given:
        raise click.UsageError("give either --type T or --type-field F")
    return {"type_" if name == "type" else name: value for name, value in given.items()}


@import_.command(name="jsonl")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@jsonl_options
@click.option("--source", metavar="NAME", help="What identifies the file; its full path, if not given.")
@click.option("--workspace", help="Import into this workspace.")
@click.option("--agent", help="Attribute to this agent.")
@click.option("--follow", "following", is_flag=True, help="Go on as the files grow.")
@_json_option
@root_option
def jsonl(
    files: tuple[str, ...],
    following: bool,
    root: str | None,
    source: str | None,
    workspace: str | None,
    agent: str | None,
    **options: str | None,
) -> None:
    """Import JSON lines or arrays of objects.

    Each object becomes a payload as it stands. Files may be compressed. FILE may be a folder, a
    pattern in quotes, whose new files are found while following, or - for standard input.

    Fields may be dotted paths. Without an id field, an event is its bytes, its file and how
    often the same bytes came before. A type that is a name of eventlog's own, such as price_set,
    becomes imported.price_set.

    \b
    Example:
      eventlog import jsonl events.jsonl --type-field type --time-field created_at --id-field id
    """
    given = jsonl_arguments(options)
    if not {"type_", "type_field"} & given.keys():
        raise click.UsageError("give either --type T or --type-field F")
    if "time_field" not in given and {"time_format", "time_zone"} & given.keys():
        raise click.UsageError("--time-format and --time-zone are for a --time-field F")
    format_ = Jsonl(source=source, workspace=workspace, agent=agent, **given)
    if pipe.NAME in files:
        if following or len(files) > 1:
            raise click.UsageError("- is standard input: it is read to its end, and alone")
        with importing(import_settings(root), format_) as importer:
            _finish(importer.run_pipe(sys.stdin.buffer))  # type: ignore[arg-type]  # typeshed: BinaryIO
        return
    named = _Named(files)
    if not following:
        named.check()
    if "time_field" not in given:
        _hint_time_field(named.find())
    _import(root, format_, named.find, following, named.unreadable)


@import_.command(name="agents")
@click.option("--follow", "following", is_flag=True, help="Go on while sessions are being written.")
@_json_option
@root_option
def agents(following: bool, root: str | None) -> None:
    """Import what all coding agents of this machine wrote.

    From the folders where they keep it; with --follow, also of agents that come later.

    \b
    Example:
      eventlog import agents --follow
    """
    settings = import_settings(root)
    with contextlib.ExitStack() as stack:
        imports = []
        for source in sources.all_sources():
            importer = stack.enter_context(importing(settings, source.format(workspace=None, agent=None)))
            imports.append((importer, _Files(source, (), following=True)))
        if following:
            _follow([(importer, files.find) for importer, files in imports], every_s=_FOLLOW_AGENTS_S)
            return
        total = Imported()
        for importer, files in imports:
            for path in files.find():
                total.add(importer.run(path))
            total.failures += files.unreadable
        _finish(total)


class _Named:
    """Files that are named by paths, folders, and patterns in quotes, which are matched again and again."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        #: Messages about folders that could not be read when the files were looked for last.
        self.unreadable: list[str] = []

    def check(self) -> None:
        """Raise ImportFailed where a name stands for no file."""
        for name in self._names:
            if not self._of(name):
                what = f"no {', '.join(_LINES)} in" if Path(name).is_dir() else "there is no file"
                raise ImportFailed(f"{what} {name}; nothing was imported")

    def find(self) -> list[Path]:
        """Return the files that there are, each once, in the order of their names."""
        self.unreadable.clear()
        return list(dict.fromkeys(path for name in self._names for path in self._of(name)))

    def _of(self, name: str) -> list[Path]:
        path = Path(name)
        if path.is_dir():
            return sorted(discovery.files_below(path, _LINES, self.unreadable))
        if path.exists() or not glob.has_magic(name):
            return [path] if path.is_file() else []
        return sorted(found for each in glob.iglob(name, recursive=True) if (found := Path(each)).is_file())


def _warn_of_sources() -> None:
    """Name the sources that have no command."""
    for entry_point in sources.left_out():
        say(printable(f"warning: {entry_point}"))


def _command(source: Source) -> click.Command:
    help_ = inspect.cleandoc(source.help)
    first_clause = re.split(r"[;\n]", help_, maxsplit=1)[0].rstrip(".") + "."

    @click.command(name=source.command, help=help_, short_help=first_clause)
    @click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
    @click.option("--workspace", help="Import into this workspace.")
    @click.option("--agent", help="Attribute to this agent.")
    @click.option("--follow", "following", is_flag=True, help="Go on while sessions are being written.")
    @_json_option
    @root_option
    def command(
        paths: tuple[Path, ...], following: bool, root: str | None, workspace: str | None, agent: str | None
    ) -> None:
        files = _Files(source, paths, following=following)
        files.check()
        _import(root, source.format(workspace=workspace, agent=agent), files.find, following, files.unreadable)

    return command


class _Files:
    """The files of a source under some paths, by default under the folders of its program.

    Files of another source are passed over, and named once.
    """

    def __init__(self, source: Source, paths: Sequence[Path], *, following: bool) -> None:
        self._source = source
        self._paths = list(paths) or list(source.default_folders())
        self._by_default = not paths
        self._following = following
        self._recognition = Recognition(source)
        self._passed_over: set[Path] = set()
        #: Messages about folders that could not be read when the files were looked for last.
        self.unreadable: list[str] = []

    def check(self) -> None:
        """Raise ImportFailed where nothing can be imported: there are no files, or only those of another source."""
        files = self._all()
        if not files and not self._following:
            if self.unreadable:
                raise ImportFailed(self.unreadable[0])
            where = ", ".join(map(str, self._paths))
            raise ImportFailed(f"no {self._source.noun}s ({self._source.patterns[0]}) under {where}")
        others = [(path, other) for path in files if (other := self._recognition.other(path)) is not None]
        if others and len(others) == len(files):
            path, other = others[0]
            raise ImportFailed(f"nothing was imported; {path}: {hint(other, self._paths)}")

    def find(self) -> list[Path]:
        """Return the files to import now, sorted. Raises ImportFailed."""
        own: list[Path] = []
        passed_over: list[Path] = []
        for path in self._all():
            (own if self._recognition.other(path) is None else passed_over).append(path)
        new = [path for path in passed_over if path not in self._passed_over]
        self._passed_over.update(new)
        if new and (other := self._recognition.other(new[0])) is not None:
            say(
                printable(
                    f"{counted(len(new), 'file')} of another program passed over; {new[0]}: {hint(other, new[:1])}"
                )
            )
        return own

    def _all(self) -> list[Path]:
        self.unreadable.clear()
        there = [path for path in self._paths if path.exists()]
        if self._by_default and not there and not self._following:
            places = " or ".join(map(str, self._paths))
            raise ImportFailed(f"there is no {places}; name a {self._source.noun} or a folder of them")
        return self._source.find(there if self._following or self._by_default else self._paths, self.unreadable)


def _import(
    root: str | None,
    format_: Format,
    find: Callable[[], list[Path]],
    following: bool,
    unreadable: Sequence[str] = (),
) -> None:
    """Import what `find` finds; `unreadable` has messages about folders, after it was called."""
    with importing(import_settings(root), format_) as importer:
        if following:
            _follow([(importer, find)], every_s=_FOLLOW_S)
        else:
            _import_once(importer, find(), unreadable)


def import_settings(root: str | None) -> config.Config:
    """Return the settings to import with. Raises ConfigError where eventlog is turned off."""
    _warn_of_sources()
    settings = configured(root, strict=True)
    if settings.mode is config.Mode.OFF:
        raise ConfigError("eventlog is turned off (mode off, or an empty EVENTLOG_DIR); turn it on to import")
    return settings


def _import_once(importer: Importer, paths: list[Path], unreadable: Sequence[str]) -> None:
    total = Imported(failures=list(unreadable))
    with click.progressbar(paths, file=sys.stderr, label="importing", hidden=not draws_bars()) as bar:
        for path in bar:
            total.add(importer.run(path))
    _finish(total)


def _finish(total: Imported) -> None:
    """Report what was imported. Raises ImportFailed where some of it was not."""
    _report(total)
    failures = total.failures
    if total.rejected and total.rejected == total.events:
        raise ImportFailed("not one line could be imported; check the options, and that it is the right file")
    if failures:
        for failure in failures[:_SHOWN_MAX]:
            say(printable(failure))
        failed = counted(len(failures), "file or folder", "files or folders")
        more = f", of which {_SHOWN_MAX} are named" if len(failures) > _SHOWN_MAX else ""
        raise ImportFailed(f"{failed} failed{more}; the rest is done")


def _follow(imports: Sequence[tuple[Importer, Callable[[], list[Path]]]], *, every_s: float) -> None:
    """Import what is new every `every_s`, importer after importer, until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say("following; stop with Ctrl-C")
    with contextlib.ExitStack() as stack:
        rounds = [
            stack.enter_context(contextlib.closing(follow(importer, find, lambda: True, say)))
            for importer, find in imports
        ]
        while not stop.is_set():
            for round_ in map(next, rounds):
                if round_.events:
                    _report(round_)
            stop.wait(every_s)


def _report(done: Imported) -> None:
    if click.get_current_context().meta[_AS_JSON]:
        tell_json(done)
        return
    skipped = f", {done.skipped_bytes:,} bytes imported before" if done.skipped_bytes else ""
    rejected = f", {counted(done.rejected, 'line')} in quarantine (the first: {done.reason})" if done.rejected else ""
    later = f", {counted(done.unfinished, 'unfinished last line')} left for the next import" if done.unfinished else ""
    new = counted(done.events - done.rejected, "new event")
    tell(f"{counted(done.sources, 'file')}: {new}{rejected}{skipped}{later}")
    for foreign, count in sorted(done.renamed.items()):
        named = foreign_types.imported(foreign)
        tell(f"{counted(count, 'line')} of type {foreign}: that is a name of eventlog's own, now {named}")


def _hint_time_field(files: list[Path]) -> None:
    for path in files[:1]:
        name = _first_time_field(path) if path.is_file() else None
        if name is not None:
            say(f"no --time-field: the events carry no time (1970); {path.name} seems to have one in {name!r}")


def _first_time_field(path: Path) -> str | None:
    """Return the name of a field of the first record that looks like its time. What is damaged, the import says."""
    with contextlib.suppress(ImportFailed), open_source(path) as file:
        for line in read_lines(path, file, 0):
            for record in split_records(line):
                return guess_time_field(record.data)
    return None
