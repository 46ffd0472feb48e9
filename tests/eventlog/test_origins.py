"""Chains of seals of several roots: what happens when roots are copied, and logs are laid into one folder."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.errors import WriteFailed
from eventlog.indexer.retention import prune
from eventlog.log import layout, origin
from eventlog.log.chains import Chains, Head
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance import sealing, verification
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.sealing import read_chain, seal
from eventlog.record.recorder import Recorder
from tests.eventlog.test_sealing import forced

Copy = Callable[[Path, Path], object]


def emit(root: Path, count: int = 3, event_type: str = "t") -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    for n in range(count):
        recorder.emit(event_type, {"n": n, "root": root.name})
    recorder.shutdown()


def emit_and_seal(root: Path, times: int = 1) -> None:
    for _ in range(times):
        emit(root)
        seal(root)


def merge(source: Path, target: Path) -> None:
    """As `cp -r source/log/* target/log/`, by somebody who may write over anything."""
    (target / "log").mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-rf", f"{source}/log/.", f"{target}/log"], check=False, stderr=subprocess.DEVNULL)


def whats(root: Path, head: Head | None = None) -> list[str]:
    return [each.detail for each in verification.verify(root, head=head).findings]


def origins(root: Path) -> list[str | None]:
    return [link.seal.origin for link in Chains(read_chain(root)).links]


def head_of(root: Path) -> Head:
    head = sealing.head_of(root, read_chain(root))
    assert head is not None
    return head


# -- the origin of a root --------------------------------------------------------------


def test_a_root_has_one_origin_for_good(root: Path) -> None:
    """It is made with the first seal, for its owner alone, and is in every seal."""
    emit(root)
    assert origin.read(root) is None
    emit_and_seal(root, 2)
    (only,) = set(origins(root))
    assert only == origin.read(root)
    assert stat.S_IMODE((root / origin.NAME).stat().st_mode) == 0o600


def test_a_root_that_is_renamed_keeps_its_origin(root: Path) -> None:
    """It is the same folder under another name."""
    emit_and_seal(root)
    moved = root.rename(root.with_name("moved"))
    emit_and_seal(moved)
    assert len(set(origins(moved))) == 1


def by_tar(source: Path, target: Path) -> None:
    target.mkdir()
    packed = subprocess.run(["tar", "-C", str(source), "-cf", "-", "."], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], input=packed, check=True)


def by_name_exchange(source: Path, target: Path) -> None:
    """The copy takes the place of the original, which lives on under the name of the copy."""
    aside = source.with_name("aside")
    shutil.copytree(source, aside)
    source.rename(target)
    aside.rename(source)


COPIES: dict[str, Copy] = {
    "cp -r": lambda source, target: subprocess.run(["cp", "-r", str(source), str(target)], check=True),
    "cp -a": lambda source, target: subprocess.run(["cp", "-a", str(source), str(target)], check=True),
    "cp -al": lambda source, target: subprocess.run(["cp", "-al", str(source), str(target)], check=True),
    "copytree": shutil.copytree,
    "tar": by_tar,
    "names exchanged": by_name_exchange,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_root_gets_an_origin_of_its_own_at_its_first_seal(root: Path, tmp_path: Path, how: str) -> None:
    """And goes on from the seal that both have; neither of them, nor both together, is a finding or a fork."""
    emit_and_seal(root, 2)
    shared = head_of(root)
    copy = tmp_path / "copy"
    COPIES[how](root, copy)
    for each in (root, copy, root, copy):
        emit_and_seal(each)
    assert origin.read(root) != origin.read(copy)
    for each in (root, copy):
        assert whats(each, shared) == []
        assert whats(each, head_of(each)) == []
    heads = {str(head_of(root)), str(head_of(copy))}
    merge(copy, root)
    merged = verification.verify(root, head=shared)
    assert (merged.findings, merged.forks) == ([], [])
    assert {each.head for each in merged.chains} == heads
    emit_and_seal(root, 2)
    assert whats(root, shared) == []


def marks_of(changed: dict[str, object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        marks = json.loads(path.read_bytes())
        path.write_bytes(json.dumps(marks | changed).encode())

    return change


def as_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def with_two_names(path: Path) -> None:
    path.with_name("elsewhere").hardlink_to(path)


def as_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "of another boot or machine": marks_of({"machine": "0" * 64}),
    "of another disk": marks_of({"device": -1}),
    "of another file": marks_of({"inode": 1}),
    "of another time, in an inode used again": marks_of({"made_ns": 1}),
    "a link": as_a_link,
    "with two names": with_two_names,
    "a pipe": as_a_pipe,
    "empty": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_bytes(b"\xff" * 10_000),
    "nested too deep": lambda path: path.write_bytes(b"[" * 100_000),
    "no id": marks_of({"origin": "../../etc"}),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_an_origin_that_is_not_this_roots_is_replaced(root: Path, what: str) -> None:
    """Whatever stands there; nothing is followed, and the chain goes on as one."""
    emit_and_seal(root)
    before, kept = origin.read(root), head_of(root)
    FOREIGN[what](root / origin.NAME)
    elsewhere = root / "elsewhere"
    content = elsewhere.read_bytes() if elsewhere.exists() else b""
    assert origin.read(root) is None
    emit_and_seal(root)
    assert origin.read(root) not in (None, before)
    assert not (root / origin.NAME).is_symlink()
    assert not content or elsewhere.read_bytes() == content
    verified = verification.verify(root, head=kept)
    assert (verified.findings, verified.forks, len(verified.chains)) == ([], [], 1)


def test_a_folder_in_the_origins_place_is_an_error_that_says_so(root: Path) -> None:
    """Nothing is sealed, and nothing is left read-only."""
    emit(root)
    (root / origin.NAME).mkdir(parents=True)
    with pytest.raises(WriteFailed, match="origin: cannot be written: Is a directory; move away what is there"):
        seal(root)
    assert whats(root) == []


# -- logs laid into one folder ---------------------------------------------------------


def test_logs_of_three_roots_verify_as_three_chains(tmp_path: Path) -> None:
    """Copied together in either direction, sealed again, and copied together once more."""
    roots = [tmp_path / name for name in "abc"]
    for number, each in enumerate(roots, 1):
        emit_and_seal(each, number)
    kept = [head_of(each) for each in roots]
    for _ in range(2):
        for source in roots:
            for target in roots:
                if source is not target:
                    merge(source, target)
        for each in roots:
            verified = verification.verify(each)
            assert (verified.findings, verified.forks) == ([], [])
            assert len(verified.chains) == 3
            assert verified.head == str(head_of(each))
            for head in kept:
                assert whats(each, head) == []
            emit_and_seal(each)
            assert whats(each) == []


def test_a_log_copied_into_an_empty_root_is_gone_on_from(tmp_path: Path) -> None:
    """The chain is one, of two origins."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit_and_seal(a, 2)
    merge(a, b)
    emit_and_seal(b)
    verified = verification.verify(b, head=head_of(a))
    assert (verified.findings, len(verified.chains)) == ([], 1)
    assert len(set(origins(b))) == 2


def test_a_seal_missing_in_one_chain_is_found_beside_the_others(tmp_path: Path) -> None:
    """What another root has sealed says nothing of it."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit_and_seal(a, 3)
    emit_and_seal(b, 3)
    merge(b, a)
    number, place = next(
        (each.seal.number, each.seal_segment)
        for each in read_chain(a)
        if each.seal.origin == origin.read(b) and each.seal.number == 3
    )
    (a / "log" / SEAL_EVENT / f"{place}.jsonl").unlink()
    found = whats(a)
    assert any(f"the seal before this one is missing (number {number}" in what for what in found)
    assert all("re-made" not in what for what in found)


@pytest.mark.parametrize("copied", [False, True], ids=["two roots", "two copies"])
def test_a_changed_byte_is_found_in_whatever_chain(tmp_path: Path, copied: bool) -> None:
    """In the last segment of seals of another root as well: the seal that tells of it hangs on what was changed."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit_and_seal(a)
    if copied:
        shutil.copytree(a, b)
    emit_and_seal(b)
    merge(b, a)
    (a / origin.NAME).unlink()
    for file in [each for each in layout.list_log(a).segments if each.sealed]:
        before = file.path.read_bytes()
        for place in range(0, len(before), 41):
            forced(file.path, before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            assert (file.name, place) in {(each.segment, each.offset) for each in verification.verify(a).findings}
        forced(file.path, before)
    assert whats(a) == []


def test_a_plain_segment_beside_its_archive_is_compared_as_well(tmp_path: Path) -> None:
    """Logs of which one was archived leave both, where they meet: the one that is read is not the only one."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit_and_seal(a)
    shutil.copytree(a, b)
    archive_sealed(b, ["t"])
    merge(b, a)
    (path,) = (a / "log/t").glob("*.jsonl")
    assert whats(a) == []
    for place in (0, 8, 200):
        before = path.read_bytes()
        forced(path, before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        (finding,) = verification.verify(a).findings
        assert (finding.segment, finding.offset) == (path.stem, place)
        forced(path, before)


def test_a_head_says_nothing_of_what_other_roots_have_pruned(tmp_path: Path) -> None:
    """Their own heads do."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit_and_seal(a)
    emit_and_seal(b)
    kept, other = head_of(a), head_of(b)
    backup(b, open_destination(str(tmp_path / "backup")), say=print)
    seal(b)
    prune(b, 0, ["t"])
    seal(b)
    merge(b, a)
    assert whats(a, kept) == []
    assert any("pruned since the head was kept" in what for what in whats(a, other))


def test_seals_without_an_origin_are_gone_on_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were made before there were origins; a head that was kept of them still proves them."""
    emit(root)
    with monkeypatch.context() as patch:
        patch.setattr(origin, "read_or_make", lambda _: None)
        seal(root)
        assert set(origins(root)) == {None}
    kept = head_of(root)
    emit_and_seal(root)
    verified = verification.verify(root, head=kept)
    assert (verified.findings, verified.forks, len(verified.chains)) == ([], [], 1)
    assert origins(root)[0] is None
    assert origins(root)[-1] == origin.read(root)


# -- forks -----------------------------------------------------------------------------


def forked(root: Path, copy: Path) -> None:
    """Have two copies seal under one origin, as machines that run on from one snapshot do."""
    emit_and_seal(root)
    shutil.copytree(root, copy)
    mine = origin.read(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origin, "read", lambda _: mine)
        for each in (root, copy):
            emit_and_seal(each, 2)


def test_two_chains_of_one_origin_are_a_fork_and_no_finding(
    root: Path, tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Each part is compared, and proved by its own head."""
    copy = tmp_path / "copy"
    forked(root, copy)
    heads = [head_of(root), head_of(copy)]
    merge(copy, root)
    verified = verification.verify(root)
    assert verified.findings == []
    (fork,) = verified.forks
    assert (fork.origin, fork.after) == (origin.read(root), 2)
    assert sorted(fork.heads) == sorted(map(str, heads))
    for head in heads:
        done = run("verify", "--head", str(head))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"fork: the seals of origin {fork.origin} part behind seal 2" in done.stdout
    emit_and_seal(root)
    assert whats(root) == []


def test_in_a_fork_bytes_that_differ_are_the_findings(root: Path, tmp_path: Path) -> None:
    """A changed byte of either part is found at its place."""
    copy = tmp_path / "copy"
    forked(root, copy)
    only_there = {path.name for path in (copy / "log/t").iterdir()} - {path.name for path in (root / "log/t").iterdir()}
    merge(copy, root)
    path = root / "log/t" / min(only_there)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    forced(path, bytes(data))
    (finding,) = verification.verify(root).findings
    assert (finding.segment, finding.offset) == (path.stem, 100)


# -- one segment, sealed by two roots --------------------------------------------------


def grown_apart(tmp_path: Path, lines_a: int, lines_b: int) -> tuple[Path, Path, Path]:
    """Two copies of a root continue one segment, each in its way; returns both, and the segment's path in the first."""
    a, b = tmp_path / "a", tmp_path / "b"
    emit(a)
    shutil.copytree(a, b)
    for each, lines in ((a, lines_a), (b, lines_b)):
        if lines:
            emit(each, lines)
        seal(each)
    (path,) = (a / "log/t").iterdir()
    return a, b, path


def test_a_segment_that_one_copy_has_continued_is_as_both_have_sealed_it(tmp_path: Path) -> None:
    """The longer one holds all that either has sealed."""
    a, b, _ = grown_apart(tmp_path, 0, 2)
    merge(b, a)
    assert whats(a) == []


def test_the_shorter_of_two_copies_lacks_what_the_other_has_sealed(tmp_path: Path) -> None:
    """One finding, where the bytes end."""
    a, b, path = grown_apart(tmp_path, 2, 0)
    length = (b / "log/t" / path.name).stat().st_size
    merge(b, a)
    (finding,) = verification.verify(a).findings
    assert (finding.segment, finding.offset) == (path.stem, length)
    assert "cut off" in finding.detail


def test_two_continuations_of_one_segment_are_one_finding(tmp_path: Path) -> None:
    """Where the bytes of one differ from what the other root has sealed."""
    a, b, path = grown_apart(tmp_path, 2, 2)
    ours = path.read_bytes()
    merge(b, a)
    theirs = path.read_bytes()
    same = next(n for n in range(len(ours)) if ours[n] != theirs[n])
    (finding,) = verification.verify(a).findings
    assert finding.segment == path.stem
    assert ours.rfind(b"\n", 0, same) + 1 <= finding.offset <= same


def test_what_is_added_behind_the_sealed_end_is_found_all_the_same(tmp_path: Path) -> None:
    """Only what another chain has sealed may stand there."""
    a, b, path = grown_apart(tmp_path, 0, 2)
    merge(b, a)
    forced(path, path.read_bytes() + b'{"n":1}\n')
    assert len(whats(a)) == 2
