"""What today cost, in a small file below the root: a status line has no time to ask DuckDB.

`eventlog cost` writes it whenever it has the figure, and `eventlog.short.statusline` reads it. It holds one day of the
local zone, of all workspaces, and is nothing but a copy: it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, tzinfo
from pathlib import Path

import msgspec

from eventlog.process import root_files
from eventlog.queries.cost.report import Burn
from eventlog.short.statusline import TODAY_FILE


def keep(
    root: str | Path,
    today: Burn,
    *,
    workspace: str | None,
    since: datetime | None,
    until: datetime | None,
    zone: tzinfo | None,
) -> None:
    """Write the cost of today, if it is that of all calls; the rest says what a report was limited to.

    Raises nothing: the report is right, whether or not the file can be written.
    """
    if workspace is not None or zone is not None or until is not None or (since is not None and since > today.day):
        return
    content = {
        "day": f"{today.day:%Y-%m-%d}",
        "cost_usd": f"{today.cost_usd:f}",
        "calls": today.calls,
        "unpriced_calls": today.unpriced_calls,
    }
    with contextlib.suppress(OSError):
        root_files.replace_file(Path(root, TODAY_FILE), msgspec.json.encode(content) + b"\n")
