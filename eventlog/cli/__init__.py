"""The console command. All but `--version` needs click, which a program that only emits does not."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from eventlog.version import __version__

_HINT = "error: the eventlog command needs click; try: pip install 'agent-eventlog[cli]' (or 'agent-eventlog[all]')"


def main() -> NoReturn:
    """Run the console command. Raises SystemExit with an exit code of eventlog.cli.main."""
    try:
        import click  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError:
        if sys.argv[1:] == ["--version"]:
            sys.stdout.write(f"eventlog, version {__version__}\n")
            raise SystemExit(0) from None
        sys.stderr.write(_HINT + "\n")
        raise SystemExit(2) from None
    from eventlog.cli.main import run

    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """Run the exit handlers, flush the output, and end the process without tearing down its modules.

    Python would tear down every loaded module, DuckDB too, which takes longer than a query. Commands close what they
    open. The private function has no public substitute: a handler that calls os._exit, registered before all
    others, would skip those that were registered earlier still (a coverage tool's, say).
    """
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # a daemon may have none
                stream.flush()
    except (OSError, ValueError):  # the output cannot be written: Python reports that when it exits
        raise SystemExit(code) from None
    os._exit(code)
