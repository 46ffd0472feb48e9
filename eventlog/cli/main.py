"""The `eventlog` command group, and what its commands share: the root option, output, errors, exit codes.

    0    done
    1    a failure, or a comparison that found a difference
    2    the command line, the event or the query is wrong
    3    another process holds the index, does maintenance on the root, checks alerts, or is `eventlog up`; try again
    130  interrupted

Subcommands are imported by name when they are called: `eventlog emit` does not wait for
DuckDB to load, and this package imports nothing from the packages above it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
import shlex
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

import eventlog
from eventlog import config
from eventlog.cli.text import harmless_json, printable_lines
from eventlog.config import Config, Resolved
from eventlog.errors import (
    AlertsBusy,
    AlreadyUp,
    BrokenInstallation,
    ConfigError,
    EventlogError,
    IndexBusy,
    InvalidEvent,
    MaintenanceBusy,
    MissingExtra,
    QueryFailed,
)
from eventlog.format import envelope
from eventlog.log import layout
from eventlog.version import __version__

F = TypeVar("F", bound=Callable[..., Any])

#: command → (module, attribute, extra that it needs)
COMMANDS = {
    "emit": ("eventlog.cli.emit", "emit", "cli"),
    "tail": ("eventlog.cli.tail", "tail", "cli"),
    "import": ("eventlog.cli.importing", "import_", "cli"),
    "hooks": ("eventlog.cli.hooks", "hooks", "cli"),
    "statusline": ("eventlog.cli.statusline", "statusline", "cli"),
    "quarantine": ("eventlog.queries.cli.quarantine", "quarantine", "index"),
    "index": ("eventlog.indexer.cli", "index", "index"),
    "replay": ("eventlog.indexer.cli", "replay", "index"),
    "status": ("eventlog.queries.cli.sql", "status", "index"),
    "doctor": ("eventlog.queries.cli.doctor", "doctor", "cli"),
    "trust": ("eventlog.cli.trust", "trust", "cli"),
    "runs": ("eventlog.queries.cli.runs", "runs", "index"),
    "show": ("eventlog.queries.cli.show", "show", "index"),
    "sessions": ("eventlog.queries.cli.runs", "sessions", "index"),
    "requests": ("eventlog.queries.cli.requests", "requests", "index"),
    "search": ("eventlog.queries.cli.search", "search", "index"),
    "diff": ("eventlog.queries.cli.runs", "diff", "index"),
    "insights": ("eventlog.queries.cli.insights", "insights", "index"),
    "today": ("eventlog.queries.cli.today", "today", "index"),
    "cost": ("eventlog.queries.cli.cost", "cost", "index"),
    "metrics": ("eventlog.queries.cli.metrics", "metrics", "index"),
    "health": ("eventlog.queries.cli.health", "health", "index"),
    "alerts": ("eventlog.queries.cli.alerts", "alerts", "index"),
    "sql": ("eventlog.queries.cli.sql", "sql", "index"),
    "export": ("eventlog.queries.cli.export", "export", "index"),
    "up": ("eventlog.server.cli.up", "up", "server"),
    "service": ("eventlog.server.cli.up", "service", "server"),
    "serve": ("eventlog.server.cli.serve", "serve", "server"),
    "keys": ("eventlog.server.cli.keys", "keys", "server"),
    "seal": ("eventlog.cli.sealing", "seal", "cli"),
    "verify": ("eventlog.cli.sealing", "verify", "cli"),
    "archive": ("eventlog.cli.sealing", "archive", "cli"),
    "prune": ("eventlog.indexer.cli", "prune", "index"),
    "backup": ("eventlog.cli.backup", "backup", "cli"),
    "restore": ("eventlog.cli.backup", "restore", "cli"),
    "demo": ("eventlog.queries.cli.demo", "demo", "index"),
    "docs": ("eventlog.cli.docs", "docs", "cli"),
    "completion": ("eventlog.cli.completion", "completion", "cli"),
}

#: What `eventlog` without a command prints.
_HOME = "eventlog.cli.home"
EXIT_FAILED, EXIT_USAGE, EXIT_BUSY, EXIT_INTERRUPTED = 1, 2, 3, 130
#: Asks for completion, as click has it: `bash_source` prints the script, and that sets `bash_complete`.
COMPLETION_VARIABLE = "_EVENTLOG_COMPLETE"
#: Options of every command, which may stand before it or behind it, with the number of their values.
_GLOBAL_OPTIONS = {"--debug": 0, "--no-pager": 0, "--color": 1}
_NO_PAGER = "eventlog.no_pager"
#: Set where nobody sees what a command prints, although it is a terminal.
_AUTOMATIC = ("CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
#: More characters than any first sentence has.
_UNCUT = 1000
_WITHOUT_ROOT = ("trust", "demo", "docs", "completion")
#: A command in a message that says what to try: `try: eventlog index`.
_HINT = re.compile(
    r"((?:^|: |, | or | and |\b(?:run|try) )eventlog "
    r"(?:(?:alerts|cost|export|import|keys|quarantine|service) )?([a-z-]+))"
    r"(?![a-z-]| --root)"
)


class Group(click.Group):
    """A group that lists its commands with the whole first sentence of their help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        rows = [(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=_UNCUT) if command else ""


class LazyGroup(Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None for an unknown name. Raises MissingExtra if its dependencies are not installed."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, extra = COMMANDS[cmd_name]
        try:
            loaded = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] == "eventlog":
                raise _broken(f"{error.name} is missing") from None
            raise MissingExtra(f"eventlog {cmd_name} ({error.name} is missing)", extra) from None
        assert isinstance(loaded, click.Command)
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the command and its arguments. Raises click.UsageError with the nearest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(error.message + hint, ctx) from None

    def _short_help(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of a command; where its dependencies are missing, the extra that it needs."""
        try:
            return super()._short_help(ctx, name)
        except MissingExtra:
            return f"(needs agent-eventlog[{COMMANDS[name][2]}])"
        except BrokenInstallation:
            return "(some of its files are missing)"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a name without importing the commands: a shell waits for the answer."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eventlog")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="auto: in a terminal, unless NO_COLOR is set or TERM is dumb.",
)
@click.option("--no-pager", is_flag=True, help="Never show an answer page by page.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show where an error came from.")
@click.pass_context
def root(context: click.Context, color: str, no_pager: bool) -> None:
    """The flight recorder for AI agents and edge programs.

    Events are lines of JSON in a folder; the index over them is a DuckDB file that can be
    deleted at any time (except in mode db_only). Both live under --root, else $EVENTLOG_DIR, else
    the root of your settings file, else ~/.local/state/eventlog.

    Without a command, it says what is recorded, and what to do next.

    \b
    Example:
      eventlog emit greeting '{"text": "hello"}'
      eventlog sql "SELECT * FROM event_types"

    --color, --no-pager and --debug may stand behind the command as well.
    """
    context.color = _wants_color(color)
    context.meta[_NO_PAGER] = no_pager
    if context.invoked_subcommand != "doctor" and not hasattr(eventlog, "load"):  # doctor says more about it
        raise _broken(f"another package has removed or overwritten {Path(__file__).parents[1] / '__init__.py'}")
    if context.invoked_subcommand is None:
        importlib.import_module(_HOME).home()


def _wants_color(choice: str) -> bool | None:
    """Return whether to colour; None: in a terminal. https://no-color.org: NO_COLOR counts unless it is empty."""
    if choice != "auto":
        return choice == "always"
    return False if os.environ.get("NO_COLOR") or is_dumb() else None


def is_dumb() -> bool:
    """Say whether the terminal understands no escape sequences."""
    return os.environ.get("TERM") == "dumb"


def pages() -> bool:
    """Say whether a long answer is shown page by page."""
    context = click.get_current_context(silent=True)
    return sys.stdout.isatty() and not (context and context.meta.get(_NO_PAGER))


def _broken(fact: str) -> BrokenInstallation:
    """Return the error that says a fact, such as `eventlog.indexer is missing`, and how to repair it."""
    from eventlog import installation  # loads importlib.metadata, which takes longer than most commands

    return BrokenInstallation(f"{fact}; try: {installation.repair()}")


def root_option(command: F) -> F:
    """Add --root to a command, as its parameter `root`."""
    return click.option(
        "--root", "root", metavar="DIR", callback=_remember_root, help="Where log and index live (see eventlog --help)."
    )(command)


def _remember_root(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    global _root_of_hints
    _root_of_hints = value
    return value


#: The root of the command line. Commands that messages advise to run get it as well.
_root_of_hints: str | None = None


def with_root(message: str) -> str:
    """Return a message with the given --root in the commands that it advises to run."""
    if _root_of_hints is None:
        return message
    option = f" --root {shlex.quote(_root_of_hints)}"
    return _HINT.sub(lambda match: match[1] + (option if match[2] not in _WITHOUT_ROOT else ""), message)


def resolved(root_option: str | None, **code: Any) -> Resolved:
    """Return the settings of a command, and where they come from; say what of the project's file does not count.

    Raises ConfigError.
    """
    found = config.resolve(code=code if root_option is None else {"root": root_option, **code})
    for message in found.left_out:
        _say_once(message)
    found.checked()
    return found


def configured(root_option: str | None, **code: Any) -> Config:
    """Return the settings of a command. Raises ConfigError."""
    return resolved(root_option, **code).config


def resolve_root(root_option: str | None) -> str:
    """Return the root that a command works on: --root, else as configured. Raises ConfigError if eventlog is off."""
    folder = configured(root_option).root
    if not folder:
        raise ConfigError(
            "EVENTLOG_DIR is empty, which turns eventlog off; give --root DIR to look at a log all the same"
        )
    return folder


def existing_root(root_option: str | None) -> str:
    """Like `resolve_root`, for commands that read. Raises ConfigError where there is no such folder to look into."""
    folder = resolve_root(root_option)
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        advice = "give --root DIR or set EVENTLOG_DIR, or emit an event first"
        if root_option is None:
            advice = "nothing is recorded there yet; `eventlog` says how to begin"
        raise ConfigError(f"there is no folder {folder}; {advice}") from None
    except PermissionError:
        raise ConfigError(f"{folder}: {_no_permission('a folder above it')}") from None
    if not is_folder:
        raise ConfigError(f"{folder} is not a folder; give --root DIR or set EVENTLOG_DIR")
    if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
        raise ConfigError(f"{folder}: {_no_permission('it')}")
    return folder


def awaited_root(root_option: str | None) -> str:
    """Like `resolve_root`, for commands that wait for events; says where there is no such folder yet."""
    folder = resolve_root(root_option)
    if not os.path.lexists(folder):
        say(f"warning: there is no folder {folder} yet; is the name right? Waiting for its first event")
        return folder
    return existing_root(root_option)


def _no_permission(what: str) -> str:
    return f"permission denied: uid {os.geteuid()} may not read {what}; run it as the owner, or give another --root"


def existing_types(root: str, event_types: Sequence[str]) -> tuple[str, ...] | None:
    """Return the event types of an option, None if it was not given. Raises QueryFailed for one that the log lacks."""
    for name in event_types:
        if not layout.log_folder(root).joinpath(envelope.check_event_type(name)).is_dir():
            there = sorted({file.event_type for file in layout.list_log(root).segments})
            raise QueryFailed(f"the log has no events of type {name}; there are: {', '.join(there) or 'none'}")
    return tuple(event_types) or None


def is_watched() -> bool:
    """Say whether somebody sees what a command prints: it is a terminal, and neither that of a test nor of CI."""
    return sys.stdout is not None and sys.stdout.isatty() and not any(map(os.environ.get, _AUTOMATIC))


def draws_bars() -> bool:
    """Say whether standard error is a terminal that progress can be drawn on."""
    return sys.stderr.isatty() and not is_dumb()


_progress: Callable[[int, int], None] | None = None


def report_progress_to(step: Callable[[int, int], None]) -> None:
    """Have commands of this process call `step` with (bytes done, bytes in all), instead of drawing a bar."""
    global _progress
    _progress = step


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (bytes done, bytes in all), which draws a progress bar if standard error is a terminal."""
    if _progress is not None:
        yield _progress
        return
    bars: list[Any] = []

    def step(done: int, total: int) -> None:
        if not draws_bars():
            return
        if not bars:
            bars.append(click.progressbar(length=total, label=label, file=sys.stderr, show_pos=False).__enter__())
        bars[0].update(done - bars[0].pos)

    try:
        yield step
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)


def say(message: str) -> None:
    """Print a message that is not the command's output, to standard error."""
    click.echo(printable_lines(with_root(message)), err=True)


@functools.cache
def _say_once(message: str) -> None:
    say(f"note: {message}")


def tell(text: str) -> None:
    """Print a command's output without colours. Text from events in it cannot control the terminal."""
    click.echo(printable_lines(text))


def tell_json(answer: object) -> None:
    """Print an answer as JSON. Characters that could control a terminal are escaped."""
    click.echo(harmless_json(msgspec.json.encode(answer)))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code. No traceback reaches the user."""
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        return _complete(instruction)
    try:
        # Not `root.main`, which handles broken pipes and exit codes in its own way.
        with root.make_context("eventlog", _globals_first(arguments)) as context:
            code = root.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:  # --help, --version
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        say(f"error: {_usage_error(error)}")
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except EventlogError as error:
        return _failed(error, str(error), arguments)
    except OSError as error:
        _drop_output()
        path = f"{error.filename}: " if error.filename else ""
        return _failed(error, f"{path}{error.strerror or error}", arguments)
    except Exception as error:  # noqa: BLE001 - no traceback reaches the user; --debug shows it
        return _failed(error, f"unexpected {type(error).__name__}: {error} (--debug shows where)", arguments)


def _complete(instruction: str) -> int:
    """Print a completion script, or what completes the line that a shell has; nothing where that is impossible."""
    from click import shell_completion

    try:
        return shell_completion.shell_complete(root, {}, "eventlog", COMPLETION_VARIABLE, instruction)
    except Exception:  # noqa: BLE001 - such as a missing extra: a shell has no use for a message in the middle of a line
        return EXIT_FAILED


def _globals_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the options of every command in front; what follows `--` is left alone."""
    first: list[str] = []
    rest = list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    at = 0
    while at < end:
        values = _GLOBAL_OPTIONS.get(rest[at].partition("=")[0])
        if values is None:
            at += 1
            continue
        taken = 1 if "=" in rest[at] else 1 + values
        first += rest[at : at + taken]
        del rest[at : at + taken]
        end -= taken
    return first + rest


def _usage_error(error: click.ClickException) -> str:
    """Return a message of click's in our style: `no such option: --frm; try: eventlog runs --help`."""
    message = error.format_message()
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if context is None or message.endswith("?"):
        return message
    return f"{message.rstrip('.')}; try: {context.command_path} --help"


def _reader_gone() -> int:
    """Handle the end of the program that reads our output (head, less), which is no error."""
    _drop_output()
    return 0


def _drop_output() -> None:
    """Discard output that cannot be written: else Python reports it again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(error: Exception, message: str, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    say(f"error: {message}")
    if isinstance(error, IndexBusy | MaintenanceBusy | AlertsBusy | AlreadyUp):
        return EXIT_BUSY
    if isinstance(error, ConfigError | InvalidEvent | QueryFailed | MissingExtra | BrokenInstallation):
        return EXIT_USAGE
    return EXIT_FAILED
