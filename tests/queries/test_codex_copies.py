"""Lines that a Codex fork has from its parent are copies: in no list and no search twice, in whatever order."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.indexer.replay import verify
from eventlog.queries.store import ReadStore
from tests.codex_lines import (
    CHILD,
    OWN_TURN,
    PARENT,
    SIBLING,
    Line,
    count,
    event,
    import_files,
    meta,
    said,
    store_of,
    turn,
    usage,
    write,
)  # fmt: skip
from tests.conftest import Run

TALK = [turn(), said("10:00:02", "user", "first word"), count("10:00:03", usage(100, 10))]
PARENTS = [meta(), *TALK]
#: The session that goes on elsewhere: of these lines three are copies of TALK, and one is of its first line.
FORK = [
    meta(CHILD, "10:10:00", forked_from_id=PARENT),
    *(each | {"timestamp": "2026-06-17T10:10:00.000Z"} for each in PARENTS),
    turn("10:10:02", OWN_TURN),
    said("10:10:03", "user", "second word"),
    count("10:10:04", usage(150, 15), usage(50, 5)),
]
#: And once more, from the fork.
FORK_OF_FORK = [
    meta(SIBLING, "10:11:00", forked_from_id=CHILD),
    *(each | {"timestamp": "2026-06-17T10:11:00.000Z"} for each in FORK),
    turn("10:20:02", "01900000-0014-7000-8000-000000000009"),
    said("10:20:03", "user", "third word"),
]
ROLLOUTS = {"parent": PARENTS, "fork": FORK, "fork of fork": FORK_OF_FORK}
COPIES = "SELECT session_id, count(*) FROM copies GROUP BY 1"
EVENTS = "SELECT session_id, count(*) FROM events WHERE event_type = 'codex' GROUP BY 1"


def counted(store: ReadStore, query: str) -> dict[str, int]:
    return dict(store.sql(query).rows)


@pytest.mark.parametrize("order", list(permutations(ROLLOUTS)))
@pytest.mark.parametrize("at_once", [True, False])
def test_copies_are_apart_in_any_order(root: Path, tmp_path: Path, order: tuple[str, ...], at_once: bool) -> None:
    """Indexed at once or one by one, and after a replay; the first line of each rollout is its own."""
    for name in order:
        import_files(root, write(tmp_path / f"{name}.jsonl", ROLLOUTS[name]))
        if not at_once:
            Indexer(root).catch_up()
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert counted(store, COPIES) == {CHILD: 4, SIBLING: 8}
    assert counted(store, EVENTS) == {PARENT: 4, CHILD: 4, SIBLING: 3}
    assert {each.session_id: each.events for each in store.sessions()} == counted(store, EVENTS)
    found = {word: [hit.session_id for hit in store.search(f"{word} word").hits] for word in ("first", "second")}
    assert found == {"first": [PARENT], "second": [CHILD]}
    assert store.sql("SELECT sum(output_tokens) FROM llm_calls").rows == [(15,)]
    assert verify(root).equal


def test_without_the_parent_nothing_is_a_copy(root: Path, tmp_path: Path) -> None:
    """Nothing else has the text; its calls are the parent's all the same."""
    store = store_of(root, tmp_path, FORK)
    assert counted(store, EVENTS) == {CHILD: len(FORK)}
    assert [hit.session_id for hit in store.search("first word").hits] == [CHILD]


def test_a_parent_in_another_workspace_is_none(root: Path, tmp_path: Path) -> None:
    """And each workspace sees its own copies."""
    parent, fork = write(tmp_path / "p.jsonl", PARENTS), write(tmp_path / "f.jsonl", FORK)
    import_files(root, parent, workspace="a")
    import_files(root, fork, workspace="b")
    Indexer(root).catch_up()
    assert counted(ReadStore(root), COPIES) == {}
    import_files(root, fork, workspace="a")
    Indexer(root).catch_up()
    assert counted(ReadStore(root, workspace="a"), COPIES) == {CHILD: 4}
    assert counted(ReadStore(root, workspace="b"), COPIES) == {}
    assert counted(ReadStore(root, workspace="b"), EVENTS) == {CHILD: len(FORK)}


def test_a_fork_that_grows_line_by_line(root: Path, tmp_path: Path) -> None:
    """What is a copy may turn out later; the end is the same."""
    import_files(root, write(tmp_path / "p.jsonl", PARENTS))
    path = tmp_path / "f.jsonl"
    path.write_text("")
    for line in FORK:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        import_files(root, path)
        Indexer(root).catch_up()
    assert counted(ReadStore(root), COPIES) == {CHILD: 4}
    assert verify(root).equal


def test_an_archived_rollout_is_there_once(root: Path, run: Run, tmp_path: Path) -> None:
    """The log has its lines twice when it was imported from both places; rows and searches have them once."""
    lines: list[Line] = [*PARENTS, event("10:00:09", "agent_message", message="Done with the shelf.")]
    name = f"rollout-2026-06-17T10-00-00-{PARENT}.jsonl"
    home = {"CODEX_HOME": str(tmp_path / "codex")}
    in_use = write(tmp_path / "codex" / "sessions" / "2026" / "06" / "17" / name, lines)
    assert run("import", "codex", **home).returncode == 0
    archived = tmp_path / "codex" / "archived_sessions" / name
    archived.parent.mkdir()
    in_use.rename(archived)
    assert run("import", "codex", **home).returncode == 0
    run("index")
    store = ReadStore(root)
    rows = store.sql("SELECT payload::VARCHAR FROM events WHERE event_type = 'codex'").rows
    assert Counter(row[0] for row in rows) == Counter({row[0]: 1 for row in rows})
    assert len(rows) == len(lines)
    assert counted(store, COPIES) == {}
    assert [hit.session_id for hit in store.search("shelf").hits] == [PARENT]
    assert store.sql("SELECT count(*) FROM quarantine").rows == [(0,)]
