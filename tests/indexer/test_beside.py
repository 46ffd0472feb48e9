"""An index that is made beside an import, by a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from eventlog.cli import agents
from eventlog.indexer import beside
from eventlog.indexer.replay import replay
from tests import warm
from tests.conftest import PROJECT
from tests.indexer.support import digest_of, index, line, rows, segment, wait_for

COUNT = "SELECT count(*) FROM events"


def test_what_is_appended_is_indexed_meanwhile(root: Path) -> None:
    """Again and again, and not once the block is left."""
    segment(root, line(1))
    with beside.indexing(str(root)):
        wait_for(root, COUNT, [(1,)])
        segment(root, line(2), line(3))
        wait_for(root, COUNT, [(3,)])
    segment(root, line(4))
    assert index(root) == []
    assert rows(root, COUNT) == [(4,)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_does_no_harm(
    number: signal.Signals, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next to catch up does what it left."""
    started: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]  # as they came
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    segment(root, *map(line, range(1000)))
    with beside.indexing(str(root)):
        (child,) = started
        child.send_signal(number)
        child.wait(10)
        segment(root, line(1000))
    index(root)
    assert rows(root, COUNT) == [(1001,)]
    assert digest_of(root) == replay(root).digest


def test_it_ends_with_its_parent(root: Path) -> None:
    """However that ends."""
    segment(root, line(1))
    reader, writer = os.pipe()
    if (parent := os.fork()) == 0:
        os.dup2(writer, 2)
        with beside.indexing(str(root)):
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    os.waitpid(parent, 0)
    os.close(reader)
    index(root)  # it has let go of the index
    assert rows(root, COUNT) == [(1,)]


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
