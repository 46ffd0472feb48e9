"""The console command: first the short way, for commands that have one; then `eventlog.cli.main`, which needs click."""

from __future__ import annotations

import sys

import eventlog
from eventlog.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_HINT = (
    "error: the eventlog command needs click; try: pip install 'agent-eventlog[index]' "
    "(or 'agent-eventlog[cli]', for commands that need no index)"
)
_HELP = """Usage: eventlog COMMAND [ARGS]...

  The flight recorder for AI agents and edge programs.

  This installation records events from Python (import eventlog). For the
  command line, install one of these:

    pip install 'agent-eventlog[index]'  record, import, index, ask; with prices
    pip install 'agent-eventlog[cli]'    what needs no index: emit, tail, import,
                                         seal, verify, archive, backup

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.
"""


def main() -> NoReturn:
    """Run the console command. Raises SystemExit with an exit code of eventlog.cli.main."""
    if getattr(eventlog, "is_short", False):  # where it is missing, another package has overwritten ours
        _take_the_short_way(sys.argv[1], sys.argv[2:])
    try:
        import click  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError:
        _answer_without_click(sys.argv[1:])
    from eventlog.cli import keeping
    from eventlog.cli.main import run

    keeping.begin(sys.argv[1:])
    code = run(sys.argv[1:])
    keeping.end(code)
    _end(code)


def _take_the_short_way(command: str, arguments: list[str]) -> None:
    """Do a command the short way, and end the process; return, ready for the full way, where that has to do it."""
    if command == "emit":
        from eventlog.short import emit

        emit.run(arguments)
    elif command == "statusline":
        from eventlog.short import statusline

        statusline.run(arguments)
    elif command == "hook":
        from eventlog.short import hook

        hook.run(arguments)
    else:
        from eventlog.short import answers

        if command in answers.COMMANDS:
            answers.run(sys.argv[1:])
        return  # a question: the full way records nothing
    if "site" not in sys.modules:  # the full way needs installed packages
        import os

        os.execv(sys.executable, [sys.executable, "-P", "-m", "eventlog", *sys.argv[1:]])  # noqa: S606 - with site
    eventlog.load()


def _answer_without_click(arguments: list[str]) -> NoReturn:
    """Answer what needs no command line; say how to get one."""
    answers = {"--version": f"eventlog, version {__version__}\n", "--help": _HELP, "-h": _HELP}
    if len(arguments) == 1 and arguments[0] in answers:
        sys.stdout.write(answers[arguments[0]])
        raise SystemExit(0)
    sys.stderr.write(_HINT + "\n")
    raise SystemExit(2)


def _end(code: int) -> NoReturn:
    """Run the exit handlers, flush the output, and end the process without tearing down its modules.

    Python would tear down every loaded module, DuckDB too, which takes longer than a query. Commands close what they
    open. The private function has no public substitute: a handler that calls os._exit, registered before all
    others, would skip those that were registered earlier still (a coverage tool's, say).
    """
    import atexit
    import os

    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # a daemon may have none
                stream.flush()
    except (OSError, ValueError):  # the output cannot be written: Python reports that when it exits
        raise SystemExit(code) from None
    os._exit(code)
