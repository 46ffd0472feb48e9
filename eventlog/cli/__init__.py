"""The console command. All but `--version` needs click, which a program that only emits does not."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from eventlog.version import __version__

_HINT = "error: the eventlog command needs click; try: pip install 'agent-eventlog[cli]' (or 'agent-eventlog[all]')"


def main() -> NoReturn:
    """Run the console command; the exit code says how it went (see eventlog.cli.main)."""
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
    """End the process at once, with what was printed and what was left for the end done.

    Python would take apart all that was loaded, DuckDB too, piece by piece, which takes
    longer than a query; the kernel lets go of it as a whole. Commands close what they open.
    """
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # a daemon may have none
                stream.flush()
    except (OSError, ValueError):  # Python has words for it
        raise SystemExit(code) from None
    os._exit(code)
