"""The console command. Needs click, which a program that only emits does not."""

from __future__ import annotations

import sys

_HINT = "error: the eventlog command needs click; try: pip install 'eventlog[cli]' (or 'eventlog[all]')"


def main() -> None:
    """Run the console command; the exit code says how it went (see eventlog.cli.main)."""
    try:
        import click  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError:
        sys.stderr.write(_HINT + "\n")
        raise SystemExit(2) from None
    from eventlog.cli.main import run

    raise SystemExit(run(sys.argv[1:]))
