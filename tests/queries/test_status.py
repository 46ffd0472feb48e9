"""`eventlog status`: what each number counts."""

from __future__ import annotations

from pathlib import Path

from eventlog.queries.status import status
from tests.conftest import Run
from tests.indexer.support import index, line, segment


def test_rows_and_events_differ_by_what_is_said(root: Path, run: Run) -> None:
    """Lines that came again, and those in conflict; without an index nothing is known."""
    segment(root, *map(line, (1, 2, 2, 3)), line(1, agent="other"), line(2))
    shown = dict(each.split(maxsplit=1) for each in run("status").stdout.splitlines() if each[:4] in ("even", "rows"))
    assert shown == {"events": "unknown", "rows": "unknown"}
    index(root)
    found = status(root)
    assert (found.events, found.rows, found.copies, found.conflicts) == (6, 3, 0, 1)
    shown = dict(each.split(maxsplit=1) for each in run("status").stdout.splitlines() if each[:4] in ("even", "rows"))
    assert shown == {
        "events": "6 in the log",
        "rows": "3 in the index: without 2 that came again, 1 in conflict with earlier ones (in quarantine)",
    }
