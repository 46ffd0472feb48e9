"""The demo's day: the same for the same seed, and each agent as it is said to be."""

from __future__ import annotations

import re
import shlex
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.indexer.indexer import Indexer
from eventlog.queries.alerts.check import check
from eventlog.queries.demo.scenario import Scenario, write
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT, Run
from tests.indexer.support import rows

END = "2026-03-02T06:00:00Z"
COOKBOOK = (PROJECT / "docs/cookbook.md").read_text()
QUESTIONS = re.findall(r"^\*\*(\d+)\. (.*?)\*\*\n\n```sql\n(.*?)```", COOKBOOK, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day that ended at END."""
    folder = tmp_path_factory.mktemp("demo")
    recorder = Recorder(Config(root=str(folder), strict=True), role=Role.MAINTENANCE)
    assert write(recorder, Scenario(1, datetime.fromisoformat(END)).events()) == 5419
    recorder.shutdown()
    Indexer(folder).catch_up()
    return folder


def test_the_same_seed_tells_the_same_day(demo: Path, run: Run, tmp_path: Path) -> None:
    """Event by event, ids included; another seed tells another one."""
    again, other = tmp_path / "again", tmp_path / "other"
    done = run("demo", "--root", str(again), "--end", END)
    assert (done.returncode, done.stderr) == (0, f"5,419 events of 24 hours in {again}; try:\n")
    assert run("demo", "--root", str(other), "--end", END, "--seed", "2").returncode == 0
    query = "SELECT event_id, event_type, timestamp, payload FROM events ORDER BY ALL"
    assert rows(demo, query) == rows(again, query) != rows(other, query)


def test_the_commands_that_it_suggests_work(run: Run, tmp_path: Path) -> None:
    """Line by line."""
    done = run("demo", "--root", str(tmp_path / "day"), "--hours", "2")
    suggested = [shlex.split(line) for line in done.stdout.splitlines()]
    assert len(suggested) == 9
    for command in suggested:
        answer = run(*command[1:])
        assert answer.returncode == ("check" in command), answer.stderr  # alerts are firing
        assert len(answer.stdout.splitlines()) > 3


def test_each_agent_is_what_it_is_said_to_be(demo: Path) -> None:
    """One works well, one is flaky, one loops, one is expensive, one falls silent."""
    agents = {
        row[0]: row[1:]
        for row in rows(
            demo,
            "SELECT agent, count(*), count(*) FILTER (status = 'error'), count(*) FILTER (status = 'abandoned'), "
            "sum(tool_failures) / sum(tool_calls), sum(uncached_input_tokens) / sum(llm_calls) "
            "FROM runs GROUP BY agent",
        )
    }
    assert agents.keys() == {"planner", "scraper", "researcher", "writer", "sentinel"}
    assert agents["planner"][:3] == (48, 0, 0)
    assert agents["planner"][3] < 0.05
    assert agents["scraper"][1] >= 10
    assert agents["scraper"][3] > 0.2
    assert agents["writer"][4] > 3 * agents["planner"][4]
    assert agents["sentinel"][:3] == (1, 0, 1)
    (loop,) = rows(
        demo,
        "SELECT any_value(agent), count(*) AS times FROM tool_calls GROUP BY run_id, tool, input HAVING times > 10",
    )
    assert loop == ("researcher", 14)
    ((silent,),) = rows(demo, "SELECT max(timestamp) FROM events WHERE agent = 'sentinel'")
    assert silent.isoformat() == "2026-03-02T03:00:00"


def test_all_its_alerts_fire(demo: Path, tmp_path: Path) -> None:
    """At the end of the day."""
    day = tmp_path / "day"
    shutil.copytree(demo, day)
    check(day, now=datetime.fromisoformat(END))
    assert sorted((each.name, each.severity) for each in ReadStore(day).alerts()) == [
        ("loops", "info"), ("scraper tools", "warning"), ("sentinel alive", "critical"), ("writer budget", "warning"),
    ]  # fmt: skip


def test_every_event_is_within_the_day_and_the_tree_holds(demo: Path) -> None:
    """Nothing after the end; each parent is a step of the same run."""
    ((first, last),) = rows(
        demo, "SELECT min(timestamp), max(timestamp) FROM events WHERE event_type <> 'event_schema'"
    )
    assert first.isoformat() >= "2026-03-01T06:00:00"
    assert last.isoformat() <= "2026-03-02T06:00:00"
    orphans = (
        "SELECT count(*) FROM events AS child ANTI JOIN steps ON steps.event_id::VARCHAR = child.parent_event_id "
        "AND steps.run_id = child.run_id WHERE child.parent_event_id IS NOT NULL"
    )
    assert rows(demo, orphans) == [(0,)]


def test_it_never_writes_into_a_folder_that_is_in_use(run: Run, root: Path, tmp_path: Path) -> None:
    """Nor to the log that the settings name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    done = run("demo", "--root", str(tmp_path / "mine"))
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / 'mine'} is there already; name a new folder with --root, or delete it\n",
    )
    assert not root.exists()


def test_the_cookbook_has_twenty_questions() -> None:
    """Numbered."""
    assert [number for number, _, _ in QUESTIONS] == [str(number) for number in range(1, 21)]


#: Of the demo's day, ended long ago: the last day holds nothing, and nothing was lost or not understood.
NO_ROWS = {"1"}


@pytest.mark.parametrize(("number", "question", "query"), QUESTIONS, ids=[each[0] for each in QUESTIONS])
def test_the_cookbook_answers(demo: Path, number: str, question: str, query: str) -> None:
    """Each query runs, and has something to say of the demo."""
    found = ReadStore(demo).sql(query)
    assert bool(found.rows) == (number not in NO_ROWS)
    assert ReadStore(demo).sql(query).rows == found.rows, "the order is part of the answer"
