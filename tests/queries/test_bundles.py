"""Bundles: everything of a run in one file that proves itself, and nothing of anybody else."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventlog.format import builtin
from eventlog.maintenance import sealing
from eventlog.queries.bundle import verify
from eventlog.queries.bundle.export import VERIFIER, Bundle
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, segment
from tests.queries.recordings import record

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "of-the-others"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def two_tenants(root: Path) -> None:
    """A run `r` in the workspaces a and b, line beside line in the same segments; that of `a` has a large field."""
    told: list[Any] = []
    for n in range(5):
        for workspace, text in (("a", "mine"), ("b", SECRET)):
            common = {"run_id": "r", "workspace": workspace, "session_id": "s", "request_id": "q"}
            told += [
                (at(n), builtin.ToolCall(tool_name=text, arguments={"n": n}, ok=n != 3), common.copy()),
                (at(n), builtin.LlmCall(request_model="m", output_tokens=n, cost_usd="0.5"), common.copy()),  # type: ignore[arg-type]  # as programs do
            ]
    large = "".join(chr(97 + n % 26) for n in range(200_000))
    told.append((at(9), "note", {"payload": {"text": large}, "run_id": "r", "workspace": "a"}))
    told.append((at(9), "note", {"payload": {"text": SECRET * 10_000}, "run_id": "r", "workspace": "b"}))
    record(root, *told)


def bundle(root: Path, path: Path, **options: Any) -> Bundle:
    return ReadStore(root, workspace="a").runs.bundle("r", path, **options)


def said(path: Path, head: str | None = None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = verify.verify(str(path), head)
    return found


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def heads(root: Path) -> list[str]:
    return [str(link.head) for link in sealing.read_chain(root)]


@pytest.fixture
def sealed(root: Path) -> Path:
    two_tenants(root)
    sealing.seal(root)
    return root


def test_a_bundle_has_all_lines_as_they_stand_in_the_log(sealed: Path, tmp_path: Path) -> None:
    """Byte for byte, with their places, and proven one by one."""
    made = bundle(sealed, tmp_path / "a.zip")
    assert (made.kind, made.id, made.workspace, made.lines, made.proven) == ("run", "r", "a", 11, 11)
    assert (made.unproven, made.left_out, made.blobs > 0) == ({}, {}, True)
    files = members(tmp_path / "a.zip")
    manifest = json.loads(files["manifest.json"])
    for each in manifest["segments"]:
        logged = (sealed / "log" / each["event_type"] / f"{each['name']}.jsonl").read_bytes()
        data = files[f"lines/{each['name']}.jsonl"]
        assert data == b"".join(logged[line["offset"] :][: line["length"]] for line in each["lines"])
    summary = json.loads(files["summary.json"])
    assert summary["events_by_type"] == {"llm_call": 5, "note": 1, "tool_call": 5}
    assert (summary["tools"], summary["failed_tools"], summary["models"]) == ({"mine": 5}, {"mine": 1}, {"m": 5})
    assert (summary["cost_usd"], summary["output_tokens"], summary["error_count"]) == ("2.500000000000000000", 10, 1)
    assert b"run r of the workspace a" in files["summary.txt"]
    assert said(tmp_path / "a.zip")["wrong"] == []
    assert "11 lines proven to be in sealed segments, by 3 seals" in said(tmp_path / "a.zip")["said"]


def test_a_bundle_is_the_same_bytes_each_time(sealed: Path, tmp_path: Path) -> None:
    """Whatever the clock says, and no unfinished file is left."""
    made = [bundle(sealed, tmp_path / f"{n}.zip").sha256 for n in range(2)]
    assert made[0] == made[1]
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("chain", [False, True])
def test_nothing_of_another_workspace_is_in_a_bundle(chain: bool, sealed: Path, tmp_path: Path) -> None:
    """Though its lines stand between ours; also not its chunks, which a forged line names."""
    theirs = [
        path.name
        for path in (sealed / "blobs").rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()[:500]
    ]
    reference = {"$blob": {"sha256": theirs[:1], "bytes": 32768, "rest": ""}}
    forged = {
        "event_id": "019b76da-a800-7000-8000-00000000000f", "event_type": "note", "run_id": "r", "workspace": "a",
        "timestamp": "2026-01-01T00:00:00.000000Z", "payload": {"text": reference},
    }  # fmt: skip
    segment(sealed, json.dumps(forged).encode() + b"\n", event_type="note")
    index(sealed)
    made = bundle(sealed, tmp_path / "a.zip", chain=chain)
    assert made.lines == 12
    assert made.left_out == {"part of a large field is missing or damaged in the root": 1}
    for name, data in members(tmp_path / "a.zip").items():
        assert SECRET.encode() not in data, name
        assert name.removeprefix("blobs/") not in theirs


@pytest.mark.parametrize(
    "name",
    [
        "lines/",
        "blobs/",
        "seals.jsonl",
        "manifest.json",
        "manifest.sha256",
        "summary.json",
        "summary.txt",
        "README.txt",
        "verify.py",
    ],
)
def test_each_changed_byte_is_found(name: str, sealed: Path, tmp_path: Path) -> None:
    """Of each file, at its beginning, in the middle and at its end; and each file that is gone or was added."""
    bundle(sealed, tmp_path / "a.zip")
    files = members(tmp_path / "a.zip")
    for member in [each for each in files if each.startswith(name)]:
        data = files[member]
        for place in (0, len(data) // 2, len(data) - 1):
            changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            assert said(rewritten(tmp_path / "b.zip", {**files, member: changed}))["wrong"], (member, place)
        without = {other: data for other, data in files.items() if other != member}
        assert said(rewritten(tmp_path / "b.zip", without))["wrong"], member
    assert said(rewritten(tmp_path / "b.zip", {**files, f"{name}x": b""}))["wrong"]


def test_bytes_of_the_file_that_change_change_no_answer_unseen(sealed: Path, tmp_path: Path) -> None:
    """Each 97th byte of the ZIP file: either it is found, or what is in it is the same."""
    bundle(sealed, tmp_path / "a.zip")
    whole, files = (tmp_path / "a.zip").read_bytes(), members(tmp_path / "a.zip")
    for place in range(0, len(whole), 97):
        (tmp_path / "b.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        if not said(tmp_path / "b.zip")["wrong"]:
            assert members(tmp_path / "b.zip") == files


def _edited(files: dict[str, bytes], change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> dict[str, bytes]:
    """Files after a change by somebody who renews the hashes of all files and of the manifest."""
    files = dict(files)
    manifest = json.loads(files["manifest.json"])
    change(manifest, files)
    for name in manifest["files"]:
        manifest["files"][name] = verify.sha256(files[name])
    files["manifest.json"] = json.dumps(manifest).encode()
    files["manifest.sha256"] = (verify.sha256(files["manifest.json"]) + "  manifest.json\n").encode()
    return files


def _line(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    """A line says something else, and the manifest has its hash."""
    each = next(each for each in manifest["segments"] if each["event_type"] == "tool_call")
    name = f"lines/{each['name']}.jsonl"
    files[name] = files[name].replace(b'"mine"', b'"MINE"', 1)
    each["lines"][0]["sha256"] = verify.sha256(files[name][: each["lines"][0]["length"]])


def _place(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["segments"][0]["lines"][0]["index"] += 1


def _seal(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    """A seal with another number, whose hash is renewed where it is named."""
    lines = files["seals.jsonl"].split(b"\n")
    lines[0] = lines[0].replace(b'"torn_bytes":0', b'"torn_bytes":1')
    old, new = manifest["seals"][0]["sha256"], verify.sha256(lines[0])
    files["seals.jsonl"] = b"\n".join(lines)
    manifest["seals"][0]["sha256"] = new
    for each in manifest["segments"]:
        each["seal"] = new if each.get("seal") == old else each["seal"]


def _dropped(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    """A line is left out everywhere but in the summary."""
    each = manifest["segments"][0]
    name, length = f"lines/{each['name']}.jsonl", each["lines"][0]["length"]
    files[name] = files[name][length:]
    del each["lines"][0]
    manifest["line_count"] -= 1


@pytest.mark.parametrize("change", [_line, _place, _seal, _dropped])
def test_who_renews_all_hashes_is_found_by_the_seals_and_the_head(
    change: Callable[[dict[str, Any], dict[str, bytes]], None], sealed: Path, tmp_path: Path
) -> None:
    """A line, a place, a seal: the head that was kept elsewhere says what is not as it was."""
    bundle(sealed, tmp_path / "a.zip")
    head = heads(sealed)[-1]
    assert "11 lines proven by the head " + head in said(tmp_path / "a.zip", head)["said"]
    files = _edited(members(tmp_path / "a.zip"), change)
    found = said(rewritten(tmp_path / "b.zip", files), head)
    assert found["wrong"] or "11 lines proven by the head " + head not in found["said"]


def test_a_later_head_proves_a_bundle_with_the_chain(sealed: Path, tmp_path: Path) -> None:
    """Without the chain, it is not among the seals, and that is said."""
    first = heads(sealed)[-1]
    record(sealed, (at(60), "later", {"workspace": "b"}))
    sealing.seal(sealed)
    newest = heads(sealed)[-1]
    bundle(sealed, tmp_path / "a.zip")
    bundle(sealed, tmp_path / "chain.zip", chain=True)
    assert "11 lines proven by the head " + first in said(tmp_path / "a.zip", first)["said"]
    assert "not among the seals" in said(tmp_path / "a.zip", newest)["wrong"][0]
    assert "11 lines proven by the head " + newest in said(tmp_path / "chain.zip", newest)["said"]
    assert b'"later"' not in members(tmp_path / "a.zip")["seals.jsonl"]
    assert said(tmp_path / "a.zip", f"1:{'0' * 64}")["wrong"]


def test_what_is_not_sealed_is_said(root: Path, tmp_path: Path) -> None:
    """And so is what was sealed without a tree, changed, or is gone."""
    two_tenants(root)
    made = bundle(root, tmp_path / "a.zip")
    assert (made.lines, made.proven) == (11, 0)
    assert list(made.unproven.values()) == [11]
    found = said(tmp_path / "a.zip")
    assert found["wrong"] == []
    assert "11 lines NOT proven: the segment is not sealed yet; run eventlog seal and export again" in found["said"]
    sealing.seal(root)
    (path,) = (root / "log/llm_call").glob("*.jsonl")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x\n")
    for notes in (root / "log/note").glob("*.jsonl"):
        notes.unlink()
    made = bundle(root, tmp_path / "a.zip")
    assert made.unproven == {"the segment is not as it was sealed; run eventlog verify": 5}
    assert list(made.left_out.values()) == [1]
    assert said(tmp_path / "a.zip")["wrong"] == []


def test_a_session_and_a_request_are_bundles_as_well(sealed: Path, tmp_path: Path, run: Run) -> None:
    """By the command; with a file name of its own where none is given."""
    for id_, kind in (("s", "session"), ("q", "request")):
        done = run("export", "bundle", id_, "--workspace", "a", "-o", str(tmp_path / f"{id_}.zip"))
        assert done.returncode == 0, done.stderr
        assert f"10 lines of the {kind} {id_}" in done.stdout
        checked = run("export", "verify", str(tmp_path / f"{id_}.zip"), "--head", heads(sealed)[-1])
        assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "nothing is wrong")
    files = members(tmp_path / "q.zip")
    files["summary.txt"] += b" "
    done = run("export", "verify", str(rewritten(tmp_path / "b.zip", files)))
    assert (done.returncode, "WRONG  summary.txt was changed" in done.stdout) == (1, True)
    files = _edited(members(tmp_path / "q.zip"), lambda _, files: files.update({"verify.py": b"print('fine')"}))
    done = run("export", "verify", str(rewritten(tmp_path / "b.zip", files)))
    assert (done.returncode, "verify.py in the bundle is not that of this eventlog" in done.stderr) == (0, True)
    assert run("export", "bundle", "nothing").returncode == 2


def test_the_verifier_needs_nothing_else(sealed: Path, tmp_path: Path) -> None:
    """An interpreter without packages, in the unpacked folder; and it is written for Python 3.8."""
    ast.parse(VERIFIER.read_text(), feature_version=(3, 8))
    bundle(sealed, tmp_path / "a.zip")
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "a")
    command = [sys.executable, "-I", "-S", str(tmp_path / "a/verify.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "nothing is wrong"
    (tmp_path / "a/README.txt").write_text("x")
    done = subprocess.run(
        [*command, "--head", heads(sealed)[-1]], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "WRONG  README.txt was changed" in done.stdout) == (1, True)
    assert subprocess.run([*command, "--what"], capture_output=True, check=False, timeout=60).returncode == 2
