"""Lines that a program copied count once, with the session that wrote them, in whatever order the log is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.replay import replay, verify
from eventlog.queries.store import ReadStore

Line = dict[str, Any]
LINES = "FROM events WHERE event_type = 'claude_code'"


def session_id(number: int) -> str:
    return f"00000000-aaaa-4aaa-8aaa-{number:012}"


def line(session: int, number: int, **more: Any) -> Line:
    """The line that session wrote as its n-th; its time is the number of the line in all."""
    uuid = str(UUID(int=number + 1))
    moment = f"2026-01-05T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
    message = {"role": "user", "content": f"word{number}x"}
    return {
        "type": "user",
        "uuid": uuid,
        "sessionId": session_id(session),
        "timestamp": moment,
        "message": message,
    } | more


class Log(NamedTuple):
    """A root, and the folder of the transcripts that are imported into it."""

    root: Path
    folder: Path

    def add(self, name: str, lines: list[Line]) -> Path:
        path = self.folder / f"{name}.jsonl"
        self.folder.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))
        return path

    def take(self, path: Path, workspace: str | None = None) -> None:
        with importing(Config(root=str(self.root), strict=True), ClaudeCode(workspace=workspace)) as importer:
            importer.run(path)

    def catch_up(self) -> None:
        Indexer(self.root).catch_up()

    def owners(self) -> dict[str, str]:
        """The session of each line, by its uuid; fails where a line is there twice."""
        rows = ReadStore(self.root).sql(f"SELECT payload ->> 'uuid', session_id {LINES}").rows
        assert len(rows) == len({row[0] for row in rows})
        return {str(row[0]): str(row[1]) for row in rows}

    def count_copies(self) -> int:
        return int(ReadStore(self.root).sql("SELECT count(*) FROM copies").rows[0][0])


@pytest.fixture
def log(root: Path, tmp_path: Path) -> Log:
    return Log(root, tmp_path / "projects")


def owners_of(lines: dict[int, list[int]]) -> dict[str, str]:
    """The expected owners: session → the numbers of its own lines."""
    return {str(UUID(int=number + 1)): session_id(session) for session, numbers in lines.items() for number in numbers}


MARKED = {"forkedFrom": {"sessionId": session_id(1), "messageUuid": "u"}}
#: How a fork (session 2) copies the first two lines of session 1.
WAYS: dict[str, dict[str, Any]] = {
    "byte for byte": {},
    "with a new session id": {"sessionId": session_id(2)},
    "with a new session id, and marked": {"sessionId": session_id(2)} | MARKED,
    "in the background": {"sessionId": session_id(2), "sessionKind": "bg"},
}


@pytest.mark.parametrize("first", ["original", "fork"])
@pytest.mark.parametrize("way", WAYS)
def test_a_fork_leaves_lines_with_the_original(log: Log, way: str, first: str) -> None:
    """However it copies them, and whichever file is imported first, one by one or at once."""
    original = log.add(session_id(1), [line(1, number) for number in range(2)])
    fork = log.add(session_id(2), [line(1, number) | WAYS[way] for number in range(2)] + [line(2, 5)])
    for path in (original, fork) if first == "original" else (fork, original):
        log.take(path)
        log.catch_up()
    assert log.owners() == owners_of({1: [0, 1], 2: [5]})
    assert log.count_copies() == (0 if way == "byte for byte" else 2)
    replay(log.root)
    assert log.owners() == owners_of({1: [0, 1], 2: [5]})


def test_an_original_that_goes_on_after_the_fork_keeps_its_lines_by_the_mark(log: Log) -> None:
    """Its own first line is younger than that of the fork."""
    log.take(
        log.add(
            session_id(2),
            [line(1, number) | WAYS["with a new session id, and marked"] for number in (0, 1)] + [line(2, 5)],
        )
    )
    log.catch_up()
    assert log.owners() == owners_of({2: [0, 1, 5]})  # as far as is known
    log.take(log.add(session_id(1), [line(1, number) for number in (0, 1, 9)]))
    log.catch_up()
    assert log.owners() == owners_of({1: [0, 1, 9], 2: [5]})


def test_the_older_of_two_forks_has_the_lines_of_an_original_that_is_gone(log: Log) -> None:
    """Both say that they are copies."""
    for session, own in ((2, 8), (3, 5)):
        copied = [line(1, number) | MARKED | {"sessionId": session_id(session)} for number in range(2)]
        log.take(log.add(session_id(session), [*copied, line(session, own)]))
    log.catch_up()
    assert log.owners() == owners_of({3: [0, 1, 5], 2: [8]})


def test_a_line_that_comes_later_decides_who_is_older(log: Log) -> None:
    """In a batch without a single copied line."""
    log.take(log.add(session_id(1), [line(1, 0), line(1, 1)]))
    log.take(log.add(session_id(2), [line(2, 0), line(2, 1)]))
    log.catch_up()
    assert log.owners() == owners_of({1: [0, 1]})  # the first in the log
    log.take(log.add(session_id(1), [line(1, 0), line(1, 1), line(1, 9)]))
    log.catch_up()
    assert log.owners() == owners_of({1: [9], 2: [0, 1]})  # session 2 has not gone on
    log.take(log.add(session_id(2), [line(2, 0), line(2, 1), line(2, 12)]))
    log.catch_up()
    assert log.owners() == owners_of({1: [0, 1, 9], 2: [12]})


def test_workspaces_share_no_lines(log: Log) -> None:
    """One transcript, imported for two customers."""
    path = log.add(session_id(1), [line(1, 0), line(1, 1)])
    for workspace in ("a", "b"):
        log.take(path, workspace)
    log.catch_up()
    rows = ReadStore(log.root).sql(f"SELECT workspace, count(*) {LINES} GROUP BY 1 ORDER BY 1").rows
    assert rows == [("a", 2), ("b", 2)]
    assert len(ReadStore(log.root, workspace="a").sql(f"SELECT event_id {LINES}").rows) == 2
    assert log.count_copies() == 0


def test_a_store_of_one_workspace_does_not_see_copies_either(log: Log) -> None:
    """Its views are made over its own rows."""
    log.take(log.add(session_id(1), [line(1, 0)]), "a")
    log.take(log.add(session_id(2), [line(1, 0) | MARKED | {"sessionId": session_id(2)}, line(2, 5)]), "a")
    log.catch_up()
    store = ReadStore(log.root, workspace="a")
    assert store.sql("SELECT session_id, events FROM sessions ORDER BY 1").rows == [
        (session_id(1), 1),
        (session_id(2), 1),
    ]
    assert store.sql("SELECT count(*) FROM copies").rows == [(1,)]


def test_a_search_finds_a_line_once(log: Log) -> None:
    """With the session that wrote it."""
    log.take(log.add(session_id(1), [line(1, 0)]))
    log.take(log.add(session_id(2), [line(1, 0) | {"sessionId": session_id(2)}, line(2, 5)]))
    log.catch_up()
    (hit,) = ReadStore(log.root).search("word0x").hits
    assert hit.session_id == session_id(1)


# -- any history ---------------------------------------------------------------------------


class History(NamedTuple):
    """Files by name, the order in which they are imported, and the owner of each line."""

    files: dict[str, list[Line]]
    order: list[str]
    owners: dict[str, str]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Sessions, and forks of them; an original goes on after a fork only where the fork is marked."""
    owners: dict[int, list[int]] = {}
    files: dict[int, list[Line]] = {}
    closed: set[int] = set()
    clock = iter(range(10_000))
    for _ in range(draw(st.integers(2, 7))):
        known = sorted(files)
        goes_on = sorted(set(known) - closed)
        action = draw(st.sampled_from(["new", "fork", "go on"] if known else ["new"]))
        if action == "go on" and goes_on:
            session = draw(st.sampled_from(goes_on))
        else:
            session = len(files) + 1
            files[session], owners[session] = [], []
            if action == "fork":
                parent = draw(st.sampled_from(known))
                way = dict(WAYS[draw(st.sampled_from(sorted(WAYS)))])
                count = draw(st.integers(1, len(files[parent])))
                if "forkedFrom" not in way and "sessionKind" not in way:
                    closed.add(parent)
                if "sessionId" in way:
                    way["sessionId"] = session_id(session)
                files[session] = [each | way for each in files[parent][:count]]
        for _ in range(draw(st.integers(1, 3))):
            number = next(clock)
            files[session].append(line(session, number))
            owners[session].append(number)
    names = [session_id(session) for session in files]
    by_name = dict(zip(names, files.values(), strict=True))
    return History(by_name, draw(st.permutations(names)), owners_of(owners))


@settings(max_examples=15, deadline=None)
@given(history=histories(), indexed=st.lists(st.booleans(), min_size=7, max_size=7))
def test_any_history_gives_each_line_to_who_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, history: History, indexed: list[bool]
) -> None:
    """In any order, indexed at once or bit by bit, and after a replay."""
    folder = tmp_path_factory.mktemp("history")
    log = Log(folder / "root", folder / "projects")
    for name, index in zip(history.order, indexed, strict=False):
        log.take(log.add(name, history.files[name]))
        if index:
            log.catch_up()
    log.catch_up()
    assert log.owners() == history.owners
    assert verify(log.root).equal
