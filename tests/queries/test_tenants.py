"""What workspaces share is one log and one index: neither ids nor chunks of one are of use to another."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.config import Config
from eventlog.errors import BlobUnreadable, QueryFailed
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.log import blobs
from eventlog.maintenance.verification import verify
from eventlog.queries.health import evidence
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of
from tests.indexer.support import index, line, segment

_ID = "01900000-0000-7000-8000-000000000001"
_SECRET = "xyzzy " + "plain " * 20_000
_SPELLINGS = ["$blob", r"\u0024blob", r"\u0024\u0062\u006c\u006F\u0062", r"$bl\u006fb"]

# -- chunks ----------------------------------------------------------------------------------


def emitted(root: Path, payload: object, workspace: str | None = None) -> None:
    recorder = Recorder(Config(root=str(root), strict=True, blob_min_bytes=65_536))
    recorder.emit("note", payload, workspace=workspace)
    recorder.shutdown()


def reference_of(root: Path, workspace: str | None) -> dict[str, Any]:
    """Have a workspace keep a secret in a chunk; return what stands for it in the event."""
    emitted(root, {"kept": _SECRET}, workspace)
    found: dict[str, Any] = json.loads(lines_of(root, "note")[-1])["payload"]["kept"]
    return found


@pytest.mark.parametrize("owner", ["b", None, "a"])
@pytest.mark.parametrize("reader", ["a", ""])
def test_a_forged_line_gets_no_chunk_of_another_workspace(root: Path, owner: str | None, reader: str) -> None:
    """And is told what it would be told if there were none."""
    reference = reference_of(root, owner)
    nowhere = {"$blob": reference["$blob"] | {"sha256": ["0" * 64] * len(reference["$blob"]["sha256"])}}
    segment(
        root,
        *(line(at, "note", payload={"p": each}, workspace=reader) for at, each in enumerate((reference, nowhere))),
        line(2, "note", payload={"p": reference}),
        event_type="note",
    )
    index(root)
    store = ReadStore(root, workspace=reader)
    if reader == owner:
        assert next(event.data()["p"] for event in store.events().events if "p" in event.data()) == _SECRET
        return
    forged, empty = (event.data()["p"]["$blob"] for event in store.events().events)
    sha256, there = reference["$blob"]["sha256"][0], blobs.path_of(root, reference["$blob"]["sha256"][0])
    assert forged["error"] == f"{there} is missing; bring it back with: eventlog restore"
    assert empty["error"] == forged["error"].replace(sha256, "0" * 64).replace(sha256[:2], "00", 1)
    assert store.search("xyzzy").hits == []
    (without,) = (event for event in ReadStore(root).events().events if event.workspace is None and "p" in event.data())
    assert (without.data()["p"] == _SECRET) is (owner is None)


def test_a_chunk_is_of_one_workspace(root: Path) -> None:
    """The same text in three is there three times, each under its own hash, and each reads its own."""
    references = [reference_of(root, each) for each in (None, "a", "b", "a")]
    assert references[1] == references[3]
    assert len({json.dumps(each) for each in references}) == 3
    payload = msgspec.json.encode({"p": references[1]})
    assert json.loads(blobs.resolve(root, payload, "a")) == {"p": _SECRET}
    for other in (None, "", "b"):
        with pytest.raises(BlobUnreadable, match="missing"):
            blobs.resolve(root, payload, other)
    assert verify(root).findings == []
    index(root)
    assert len(ReadStore(root).search("xyzzy").hits) == 4
    assert len(ReadStore(root, workspace="a").search("xyzzy").hits) == 2


@pytest.mark.parametrize("spelling", _SPELLINGS)
@pytest.mark.parametrize("way", ["emit", "import"])
def test_a_field_that_looks_like_a_reference_is_none(root: Path, tmp_path: Path, spelling: str, way: str) -> None:
    """However it is spelled in JSON, whose escapes the index resolves, reading gives back what was given."""
    inner = msgspec.json.encode(reference_of(root, "a")["$blob"]).decode()
    raw = f'{{"p":{{"{spelling}":{inner}}},"q":{{"{spelling}":{{"value":1}}}}}}'
    if way == "emit":
        emitted(root, msgspec.Raw(raw.encode()), "a")
    else:
        (tmp_path / "f.jsonl").write_text(raw + "\n")
        with importing(Config(root=str(root), strict=True), Jsonl(type_="note", workspace="a")) as importer:
            importer.run(tmp_path / "f.jsonl")
    index(root)
    (event,) = (each for each in ReadStore(root, workspace="a").events().events if "q" in each.data())
    assert event.data() == json.loads(raw)


# -- ids -------------------------------------------------------------------------------------


def twins(root: Path, *workspaces: str | None) -> None:
    """One event of each workspace, all with one id and one time."""
    for at, workspace in enumerate(workspaces):
        own = {} if workspace is None else {"workspace": workspace}
        segment(root, line(1, event_id=_ID, run_id="r", payload={"n": at, "message": f"word {at}"}, **own))
    index(root)


def test_pages_have_each_event_of_one_id(root: Path) -> None:
    """A page may end between two of them, in either direction."""
    workspaces = [None, "", "a,b", "b"]
    twins(root, *workspaces)
    store = ReadStore(root)
    for newest_first in (False, True):
        found, after = [], None
        while True:
            page = store.events(limit=1, after=after, newest_first=newest_first)
            found += [event.workspace for event in page.events]
            after = page.next
            if after is None:
                break
        assert found == (workspaces[::-1] if newest_first else workspaces)


def test_an_id_that_several_workspaces_have(root: Path, run: Run) -> None:
    """A store of all of them means the event without a workspace, or asks; one of a workspace means its own."""
    twins(root, "a", "b")
    with pytest.raises(QueryFailed, match=f"several workspaces have an event {_ID}: 'a', 'b'; choose one"):
        ReadStore(root).event(_ID)
    done = run("show", _ID)
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(run("show", _ID, "--json", "--workspace", "b").stdout)["event"]["workspace"] == "b"
    assert ReadStore(root, workspace="c").event(_ID) is None
    twins(root, None)
    for workspace, n in ((None, 0), ("a", 0), ("b", 1)):
        found = ReadStore(root, workspace=workspace).event(_ID)
        assert found is not None
        assert (found.event.workspace, found.event.data()["n"]) == (workspace, n)


def test_payloads_and_hits_are_those_of_each_event(root: Path) -> None:
    """Of one id, each has its own text."""
    twins(root, None, "a", "b")
    store = ReadStore(root)
    assert store.payloads([_ID])[_ID]["n"] == 0
    assert [store.payloads([_ID], workspace=each)[_ID]["n"] for each in ("a", "b")] == [1, 2]
    for at, workspace in enumerate((None, "a", "b")):
        assert [(hit.workspace, hit.snippet) for hit in store.search(f'"word {at}"').hits] == [
            (workspace, f"word {at}")
        ]
    assert [hit.workspace for hit in store.search("word").hits] == [None, "a", "b"]


def test_losses_of_one_id_are_two_losses(root: Path) -> None:
    """Each is charged to its own workspace, whatever the other is charged to."""
    told = {"count": 3, "pid": 7, "cause": "full"}
    lost = (line(1, "events_dropped", event_id=_ID, payload=told, workspace=each) for each in ("a", "b"))
    segment(root, *lost, event_type="events_dropped")
    begun = line(0, "run_started", run_id="r", agent="x", workspace="a", payload={"pid": 7})
    segment(root, begun, event_type="run_started")
    index(root)
    window = evidence.Window(datetime(2026, 1, 2), timedelta(days=1))
    found = ReadStore(root).sql(evidence.of_window(evidence.DROPS, window)).dicts()
    assert sorted((row["workspace"], row["agent"], row["dropped"]) for row in found) == [("a", "x", 3), ("b", None, 3)]


def test_runs_of_one_id_are_not_mixed(root: Path, run: Run) -> None:
    """Nothing of one workspace's run is shown, counted or compared as another's; nor of sessions."""
    recorder = Recorder(Config(root=str(root), strict=True))
    for workspace, calls in (("a", 1), ("b", 3)):
        for kind, payload in (("run_started", {"name": workspace}), *[("llm_call", {"cost_usd": "1"})] * calls):
            recorder.emit(kind, payload, run_id="r", session_id="s", workspace=workspace)
        recorder.emit(
            "run_started", {"name": "c", "parent_run_id": "r"}, run_id=f"child of {workspace}", workspace=workspace
        )
    recorder.shutdown()
    index(root)
    for command in (["show", "r"], ["show", "s"], ["insights", "r"], ["insights", "s"], ["diff", "r", "r"]):
        done = run(*command)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert "several workspaces have a " in done.stderr
    for workspace, calls in (("a", 1), ("b", 3)):
        scoped = ReadStore(root, workspace=workspace)
        for tree in (scoped.run("r"), scoped.session("s")):
            assert len(tree.nodes) - (tree.run is not None) == calls == tree.cost_usd
        assert [each.run_id for each in scoped.run("r").children] == [f"child of {workspace}"]
    sessions = {each.workspace: each.llm_calls for each in ReadStore(root).sessions()}
    assert sessions == {"a": 1, "b": 3}
