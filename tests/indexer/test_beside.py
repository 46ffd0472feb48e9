"""An index that is made beside an import, by a thread."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from eventlog.cli import agents
from eventlog.errors import IndexFailed
from eventlog.indexer import beside
from eventlog.indexer.index.index_file import index_path
from eventlog.indexer.replay import replay
from tests import warm
from tests.conftest import PROJECT
from tests.indexer.support import digest_of, index, line, rows, segment, wait_for

COUNT = "SELECT count(*) FROM events"


def test_what_is_appended_is_indexed_meanwhile(root: Path) -> None:
    """Again and again, to the end of the block."""
    segment(root, line(1))
    with beside.indexing(str(root)):
        wait_for(root, COUNT, [(1,)])
        segment(root, line(2), line(3))
        wait_for(root, COUNT, [(3,)])
        segment(root, line(4))
    assert rows(root, COUNT) == [(4,)]


def test_what_goes_wrong_is_left_to_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not said twice."""
    segment(root, line(1))
    index_path(root).mkdir()
    with beside.indexing(str(root)):
        segment(root, line(2))
    with pytest.raises(IndexFailed):
        index(root)
    index_path(root).rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_more_threads)
        with beside.indexing(str(root)):
            pass
    assert not index_path(root).exists()
    index(root)
    assert rows(root, COUNT) == [(2,)]


def _no_more_threads(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_first_answer_over_many_sessions_is_that_of_a_second_one() -> None:
    """Enough of them that the index is made beside the import."""
    text = (PROJECT / "fixtures/claude-code/main.jsonl").read_text()
    folder = Path.home() / ".claude/projects/p"
    folder.mkdir(parents=True)
    copies = agents._SHOWN_BYTES // len(text) + 1
    for number in range(copies):
        own = text.replace('"id":"msg_', f'"id":"msg_{number}_').replace('"uuid":"', f'"uuid":"{number}-')
        (folder / f"{number}.jsonl").write_text(own.replace('"sessionId":"', f'"sessionId":"{number}-'))
    answers = [
        warm.run(
            ["cost", "--json"],
            environment={**os.environ, "EVENTLOG_IMPORT_AGENTS": imports},
            stdin=b"",
            timeout_s=60,
        )
        for imports in ("true", "false")
    ]
    first, second = (json.loads(answer.stdout)["total"] for answer in answers)
    assert first == second
    assert first["calls"] >= copies
    root = Path.home() / ".local/state/eventlog"
    assert digest_of(root) == replay(root).digest
