"""Retention policies: how long the log keeps the events of each workspace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format.builtin import RetentionSet
from eventlog.indexer import replay
from eventlog.indexer.retention import prune
from eventlog.log import layout
from eventlog.maintenance.sealing import seal
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.indexer.test_retention import aged

_DAY_S = 86_400.0


def policies(root: Path, *given: tuple[str | None, Any]) -> None:
    """Record policies, one after the other; a float is `keep_days`, anything else a payload."""
    recorder = Recorder(Config(root=str(root), strict=True, operator=True))
    for workspace, keep in given:
        if isinstance(keep, float):
            recorder.emit(RetentionSet(keep_days=keep), workspace=workspace)
        else:
            recorder.emit("retention_set", keep, workspace=workspace)
    recorder.shutdown()


def made(root: Path, **segments: tuple[float, list[str | None]]) -> None:
    """Make a sealed, indexed segment per type, with its age in days and the workspaces of its events."""
    for at, (event_type, (days, workspaces)) in enumerate(segments.items()):
        lines = [
            line(100 * at + n, event_type, **({} if workspace is None else {"workspace": workspace}))
            for n, workspace in enumerate(workspaces)
        ]
        aged(segment(root, *lines, event_type=event_type), days)
    seal(root)
    index(root)


def left(root: Path) -> set[str]:
    types = {each.event_type for each in layout.list_log(root).segments}
    return types - {"segment_sealed", "segment_pruned", "retention_set", "event_schema"}


def test_a_segment_goes_when_each_workspace_in_it_lets_it_go(root: Path) -> None:
    """Those of a workspace that nothing is said about are kept for ever."""
    policies(root, ("a", 10.0), ("b", 40.0))
    made(
        root,
        young=(5, ["a"]),
        old=(20, ["a", "a"]),
        mixed=(20, ["a", "b"]),
        old_mixed=(50, ["b", "a"]),
        others=(500, ["c"]),
        partly=(500, ["a", "c"]),
        nobody=(500, [None]),
    )
    done = prune(root)
    assert left(root) == {"young", "mixed", "others", "partly", "nobody"}
    assert sorted(each.segment_type for each in done.pruned) == ["old", "old_mixed"]
    reasons = {each.partition("/")[0]: each.partition(": ")[2] for each in done.retained}
    assert reasons == {
        "mixed": "holds events of workspace 'b', which are kept 40 days",
        "others": "holds events of workspace 'c', which are kept for ever",
        "partly": "holds events of workspace 'c', which are kept for ever",
        "nobody": "holds events of no workspace, which are kept for ever",
    }


def test_rows_of_what_went_stay_in_the_index(root: Path) -> None:
    """In each workspace's store as before, also after a replay."""
    policies(root, ("a", 1.0))
    made(root, old=(20, ["a", "a"]))
    prune(root)
    assert left(root) == set()
    replay.replay(root)
    found = ReadStore(root, workspace="a").events(["old"]).events
    assert len(found) == 2
    shown = ReadStore(root, workspace="a").event(found[0].event_id)
    assert shown is not None
    assert shown.line is None


def test_a_policy_without_a_workspace_is_for_all_that_have_none_of_their_own(root: Path) -> None:
    """And for events, and lines, of no workspace; one's own may be longer, shorter, or for ever."""
    policies(root, (None, 30.0), ("long", 100.0), ("short", 1.0), ("ever", {}))
    made(
        root,
        long=(50, ["long"]),
        short=(2, ["short"]),
        ever=(999, ["ever"]),
        other=(50, ["x"]),
        nobody=(50, [None]),
        young=(20, ["x"]),
    )
    segment_of_no_events = aged(segment(root, b"no event\n", event_type="bad"), 50)
    seal(root)
    index(root)
    prune(root)
    assert left(root) == {"long", "ever", "young"}
    assert not segment_of_no_events.exists()


def test_the_policy_that_was_recorded_last_counts(root: Path) -> None:
    """Whatever times they name, and however the log is sorted."""
    moment = datetime.now(UTC)
    recorder = Recorder(Config(root=str(root), strict=True, operator=True))
    for days, minutes in ((1.0, -3), (1.0, -1), (5.0, -2)):
        recorder.emit(RetentionSet(keep_days=days), workspace="a", timestamp=moment + timedelta(minutes=minutes))
    recorder.shutdown()
    made(root, old=(3, ["a"]))
    assert prune(root).pruned == []
    policies(root, ("a", 2.0))
    assert len(prune(root).pruned) == 1


@pytest.mark.parametrize("payload", [{"keep_days": "many"}, {"keep_days": -1}, {"keep_days": None}, {}])
def test_what_is_not_understood_deletes_nothing(root: Path, payload: Any) -> None:
    """Also where an earlier policy would have let it go."""
    segment(
        root,
        line(1, "retention_set", workspace="a", payload={"keep_days": 1}),
        line(2, "retention_set", workspace="a", payload=payload),
        event_type="retention_set",
    )
    made(root, old=(20, ["a"]))
    assert prune(root).pruned == []
    assert prune(root, _DAY_S).pruned == []


def test_an_event_is_as_old_as_it_was_written(root: Path) -> None:
    """What was imported yesterday is young, and so is an event that is dated later than it was written."""
    policies(root, ("a", 10.0), ("z", 0.0))
    long_ago = line(1, "imported", workspace="a", timestamp="1999-01-01T00:00:00.000000Z")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    aged(segment(root, long_ago, event_type="imported"), 1)
    dated = (line(2, "dated", workspace="a"), line(3, "dated", workspace="a", timestamp=tomorrow))
    aged(segment(root, *dated, event_type="dated"), 60)
    seal(root)
    index(root)
    done = prune(root)
    assert done.pruned == []
    reason = "holds events of workspace 'a', which are kept 10 days"
    assert [each.partition(": ")[2] for each in done.retained] == [reason, reason]
    assert left(root) == {"imported", "dated"}


def test_an_age_deletes_no_more_than_policies_allow(root: Path) -> None:
    """And what nothing is said about goes by the age alone."""
    policies(root, ("long", 90.0), ("short", 1.0))
    made(
        root, long=(50, ["long"]), short=(20, ["short"]), shorter=(40, ["short"]), other=(50, ["x"]), young=(20, ["x"])
    )
    prune(root, 30 * _DAY_S)
    assert left(root) == {"long", "short", "young"}


def test_policies_are_never_pruned_and_work_through_archives(root: Path, run: Run) -> None:
    """The command says what it did; without age and policy it says what to give."""
    made(root, old=(50, ["a"]))
    done = run("prune")
    assert done.returncode == 2
    assert "there is neither age nor policy: give an age (--older-than 30d), or record a policy" in done.stderr
    with pytest.raises(QueryFailed, match="there is neither age nor policy"):
        prune(root)
    assert run("emit", "retention_set", '{"keep_days": 30}', "--workspace", "a").returncode == 0
    assert run("archive").returncode == 0
    done = run("prune", "--dry-run")
    assert done.stdout.splitlines()[-1].startswith("would delete 1 segment")
    done = run("prune")
    assert done.stdout.splitlines()[-1].startswith("deleted 1 segment")
    assert left(root) == set()
    policies(root, (None, 0.0))
    for path in (root / "log/retention_set").iterdir():
        aged(path)
    seal(root)
    index(root)
    prune(root)
    assert "retention_set" in {each.event_type for each in layout.list_log(root).segments}
