"""Seals: what they say, how they chain, and what verification finds of every kind of tampering."""

from __future__ import annotations

import hashlib
import json
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.config import Config
from eventlog.errors import MaintenanceBusy, SegmentUnreadable
from eventlog.format import envelope
from eventlog.format.control import Role
from eventlog.log import fingerprint, layout, reader
from eventlog.log.chains import Head, Link, Seal
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance import sealing, verification
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.lock import maintenance
from eventlog.maintenance.sealing import Finished, read_chain, seal
from eventlog.record.recorder import Recorder
from tests.indexer.support import line, segment


def sealed_root(root: Path) -> dict[str, Path]:
    """Three sealed segments of 20 lines, in two runs; returns them by their letter."""
    paths = {letter: segment(root, *(line(100 * k + n) for n in range(20))) for k, letter in enumerate("abc")}
    recorder = Recorder(Config(root=str(root), strict=True))
    seal(root, ["t"])
    recorder.emit("u", {"n": 1})
    recorder.shutdown()
    seal(root)
    return paths


def forced(path: Path, data: bytes) -> None:
    """Write what must not be written, and leave no trace in the mode."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def found(root: Path, head: Head | None = None) -> list[tuple[str, int, str]]:
    return [(each.segment, each.offset, each.detail) for each in verification.verify(root, head=head).findings]


def seal_segments(root: Path) -> list[Path]:
    return sorted((root / "log" / SEAL_EVENT).iterdir())


# -- sealing ---------------------------------------------------------------------------


def test_a_seal_says_what_is_in_the_segment(root: Path) -> None:
    """Computed here once more, by other means."""
    lines = [line(n) for n in range(7)]
    path = segment(root, *lines, b'{"torn')
    (made, _) = seal(root)
    data = path.read_bytes()
    assert made.number == 1
    assert made.previous is None
    assert (made.segment, made.segment_type) == (path.stem, "t")
    assert (made.size_bytes, made.lines, made.torn_bytes) == (len(data), 7, 6)
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    assert (made.first_event_id, made.last_event_id) == tuple(
        json.loads(each)["event_id"] for each in (lines[0], lines[6])
    )


def test_a_sealed_segment_is_read_only_and_never_adopted(root: Path) -> None:
    """And it is not opened to anybody who could not read it before."""
    path = segment(root, line(1))
    path.chmod(0o600)
    seal(root)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t")
    recorder.shutdown()
    assert path.read_bytes() == line(1)
    assert layout.refreshed(layout.list_type(root, "t")[0]) == layout.list_type(root, "t")[0]


def test_each_seal_names_the_line_of_the_one_before(root: Path) -> None:
    """Over both runs, and over the segments that hold seals."""
    sealed_root(root)
    lines = [each for path in seal_segments(root) for each in path.read_bytes().splitlines()]
    lines.sort(key=lambda each: json.loads(each)["payload"]["number"])
    payloads = [json.loads(each)["payload"] for each in lines]
    assert [payload["number"] for payload in payloads] == list(range(1, len(lines) + 1))
    assert [payload["previous"] for payload in payloads] == [None] + [
        hashlib.sha256(each).hexdigest() for each in lines[:-1]
    ]
    of_seals = "segment_sealed"
    assert [payload["segment_type"] for payload in payloads] == ["t", "t", "t", of_seals, "u", of_seals, of_seals]
    assert len({payload["origin"] for payload in payloads}) == 1


def test_a_long_chain_takes_little_memory(root: Path) -> None:
    """A seal has 4 bytes for each line of its segment: in a large log, all of them together are too much to hold."""
    for n in range(3):
        segment(root, *(b'{"n":%d}\n' % n for _ in range(20_000)))
    made = seal(root)
    chain = read_chain(root)
    assert sum(len(link.seal.checks) for link in chain) == 0
    assert sealing.whole_seal(root, chain[0]) == made[0]
    assert len(made[0].checks) == 80_000


def test_sealing_again_does_nothing(root: Path) -> None:
    """Not even one more seal of seals."""
    sealed_root(root)
    before = {path: path.read_bytes() for path in seal_segments(root)}
    assert seal(root) == []
    assert {path: path.read_bytes() for path in seal_segments(root)} == before


def test_a_segment_that_one_root_seals_twice_has_one_id(root: Path, tmp_path: Path) -> None:
    """That of another root is another event, or the index of both their logs would hold a conflict."""
    path = segment(root, line(1), line(2))
    twin = segment(tmp_path / "twin", line(1), line(2), name=path.stem)

    def id_of_seal(folder: Path) -> str:
        seal(folder)
        return envelope.decode(next(reader.read_log(folder, [SEAL_EVENT])).data).envelope.event_id

    first = id_of_seal(root)
    for each in seal_segments(root):
        each.unlink()
    assert id_of_seal(root) == first
    assert id_of_seal(twin.parents[2]) != first


def test_a_sealed_segment_that_can_be_written_again_is_protected_by_the_next_run(root: Path) -> None:
    """Its mode was lost on the way, in a copy or a power cut."""
    path = sealed_root(root)["a"]
    path.chmod(0o600)
    assert seal(root) == []
    assert not path.stat().st_mode & 0o222


def test_what_is_being_written_is_not_sealed(root: Path) -> None:
    """Nor is what is empty."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t")
    segment(root, event_type="empty")
    assert seal(root) == []
    recorder.shutdown()
    assert [each.segment_type for each in seal(root)] == ["t", "segment_sealed"]


def test_only_what_is_finished_is_sealed_by_the_indexer(root: Path) -> None:
    """Full, old, or torn: no writer would adopt it. Anything else may still be continued."""
    young = layout.new_segment_name(time.time_ns())
    segment(root, line(1), name=young)
    old = segment(root, line(2))
    torn = segment(root, line(3), b"{", name=layout.new_segment_name(time.time_ns()))
    full = segment(root, *(line(n) for n in range(10, 40)), name=layout.new_segment_name(time.time_ns()))
    only = Finished(max_bytes=full.stat().st_size, max_age_s=3600)
    assert {each.segment for each in seal(root, only=only)} == {old.stem, torn.stem, full.stem}
    assert seal(root, only=only) == []


def test_a_run_that_was_killed_is_completed_by_the_next(root: Path) -> None:
    """Read-only, but no seal yet: so a crash between the two leaves it."""
    path = segment(root, line(1))
    path.chmod(0o400)
    assert [each.detail for each in verification.verify(root).findings] == [
        "read-only, but no seal names it: its seal was removed, or never made"
    ]
    seal(root)
    assert found(root) == []


@pytest.mark.parametrize("only", [None, Finished()])
def test_a_run_that_was_killed_while_it_sealed_seals_is_completed_too(root: Path, only: Finished | None) -> None:
    """Also when there is nothing else to seal by then, and whatever counts as finished."""
    sealed_root(root)
    (unsealed,) = [path for path in seal_segments(root) if path.stat().st_mode & 0o222]
    unsealed.chmod(0o444)
    assert [what for _, _, what in found(root)] == [
        "read-only, but no seal names it: its seal was removed, or never made"
    ]
    seal(root, only=only)
    assert found(root) == []


def test_an_archive_in_the_making_that_was_left_is_made_anew(root: Path) -> None:
    """Whatever it is: a read-only file cannot be opened for writing."""
    part = Path(f"{sealed_root(root)['a']}.zst.part")
    part.symlink_to("nowhere")
    archive_sealed(root)
    assert not part.is_symlink()
    assert found(root) == []


def test_one_maintenance_command_at_a_time(root: Path) -> None:
    """The chain has one end."""
    segment(root, line(1))
    with maintenance(root), pytest.raises(MaintenanceBusy, match="another seal, archive or prune runs"):
        seal(root)
    assert len(seal(root)) == 2


def test_sealers_in_several_processes_make_one_chain(root: Path) -> None:
    """Those that come at the same time are told so; nothing is sealed twice."""
    for n in range(30):
        segment(root, line(n))
    program = "import sys; from eventlog.cli import main; sys.exit(main())"
    for _ in range(3):
        alive = [
            subprocess.Popen([sys.executable, "-c", program, "seal", "--root", str(root)], stderr=subprocess.DEVNULL)
            for _ in range(3)
        ]
        codes = {process.wait() for process in alive}
        assert 0 in codes
        assert codes <= {0, 3}
    assert found(root) == []
    assert len({link.seal.segment for link in read_chain(root)}) == len(read_chain(root)) == 31


# -- tampering -------------------------------------------------------------------------

A_LINE = len(line(0))


def change_a_byte(paths: dict[str, Path]) -> tuple[str, int]:
    data = bytearray(paths["b"].read_bytes())
    data[777] ^= 0x10
    forced(paths["b"], bytes(data))
    return paths["b"].stem, 777


def remove_a_line(paths: dict[str, Path]) -> tuple[str, int]:
    lines = paths["b"].read_bytes().splitlines(keepends=True)
    forced(paths["b"], b"".join(lines[:5] + lines[6:]))
    return paths["b"].stem, len(b"".join(lines[:5]))


def add_a_line(paths: dict[str, Path]) -> tuple[str, int]:
    lines = paths["b"].read_bytes().splitlines(keepends=True)
    forced(paths["b"], b"".join([*lines[:5], line(999), *lines[5:]]))
    return paths["b"].stem, len(b"".join(lines[:5]))


def swap_two_lines(paths: dict[str, Path]) -> tuple[str, int]:
    data = paths["b"].read_bytes()
    lines = data.splitlines(keepends=True)
    lines[3], lines[9] = lines[9], lines[3]
    after = b"".join(lines)
    forced(paths["b"], after)
    return paths["b"].stem, next(i for i, (a, b) in enumerate(zip(data, after, strict=True)) if a != b)


def cut_the_tail(paths: dict[str, Path]) -> tuple[str, int]:
    data = paths["b"].read_bytes()
    forced(paths["b"], data[:-50])
    return paths["b"].stem, len(data) - 50


def cut_whole_lines(paths: dict[str, Path]) -> tuple[str, int]:
    lines = paths["b"].read_bytes().splitlines(keepends=True)
    forced(paths["b"], b"".join(lines[:-2]))
    return paths["b"].stem, len(b"".join(lines[:-2]))


def append_a_line(paths: dict[str, Path]) -> tuple[str, int]:
    data = paths["b"].read_bytes()
    forced(paths["b"], data + line(999))
    return paths["b"].stem, len(data)


def lose_a_newline(paths: dict[str, Path]) -> tuple[str, int]:
    data = paths["b"].read_bytes()
    place = data.index(b"\n", 500)
    forced(paths["b"], data[:place] + b" " + data[place + 1 :])
    return paths["b"].stem, place


def gain_a_newline(paths: dict[str, Path]) -> tuple[str, int]:
    data = paths["b"].read_bytes()
    assert data[500:501] != b"\n"
    forced(paths["b"], data[:500] + b"\n" + data[501:])
    return paths["b"].stem, 500


def empty_the_file(paths: dict[str, Path]) -> tuple[str, int]:
    forced(paths["b"], b"")
    return paths["b"].stem, 0


def remove_a_segment(paths: dict[str, Path]) -> tuple[str, int]:
    paths["b"].unlink()
    return paths["b"].stem, 0


def replace_by_another(paths: dict[str, Path]) -> tuple[str, int]:
    before, after = paths["b"].read_bytes(), paths["c"].read_bytes()
    forced(paths["b"], after)
    same = next(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    return paths["b"].stem, same - same % A_LINE  # known to the line


TAMPERINGS: list[Callable[[dict[str, Path]], tuple[str, int]]] = [
    change_a_byte,
    remove_a_line,
    add_a_line,
    swap_two_lines,
    cut_the_tail,
    cut_whole_lines,
    append_a_line,
    lose_a_newline,
    gain_a_newline,
    empty_the_file,
    remove_a_segment,
    replace_by_another,
]


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_tampering_with_a_segment_is_found_at_its_first_byte(
    root: Path, tamper: Callable[[dict[str, Path]], tuple[str, int]]
) -> None:
    """The segment, and the very byte where it begins to differ."""
    paths = sealed_root(root)
    assert found(root) == []
    expected = tamper(paths)
    assert [each[:2] for each in found(root)] == [expected]


def test_one_changed_byte_is_told_with_what_it_was(root: Path) -> None:
    """Which the seal's hash proves."""
    paths = sealed_root(root)
    before = paths["a"].read_bytes()
    change = bytearray(before)
    change[200] = (change[200] + 7) % 256
    forced(paths["a"], bytes(change))
    assert found(root) == [(paths["a"].stem, 200, f"this byte is 0x{change[200]:02x}, and was 0x{before[200]:02x}")]


def test_any_changed_byte_anywhere_is_found_exactly(root: Path) -> None:
    """Bit flips at random places, one at a time."""
    paths = sealed_root(root)
    before = paths["c"].read_bytes()
    rng = random.Random(4)
    for _ in range(150):
        place, bit = rng.randrange(len(before)), rng.randrange(8)
        change = bytearray(before)
        change[place] ^= 1 << bit
        forced(paths["c"], bytes(change))
        (finding,) = found(root)
        assert finding[:2] == (paths["c"].stem, place)


def edit_seal(root: Path, number: int, edit: Callable[[list[bytes], int], None]) -> tuple[str, int]:
    """Edit the segment that holds a seal; return that segment and the offset of the seal's line."""
    link = next(link for link in read_chain(root) if link.seal.number == number)
    path = root / "log" / SEAL_EVENT / f"{link.seal_segment}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    edit(lines, next(i for i, each in enumerate(lines) if json.loads(each)["payload"]["number"] == number))
    forced(path, b"".join(lines))
    return link.seal_segment, link.offset


def test_a_removed_seal_is_found(root: Path) -> None:
    """In the segment that held it, and by the gap in the chain, and by its segment that has none."""
    paths = sealed_root(root)
    place, offset = edit_seal(root, 2, lambda lines, i: lines.__delitem__(i))
    findings = found(root)
    assert any(each[:2] == (place, offset) and "removed" in each[2] for each in findings)
    assert any("(number 2)" in each[2] for each in findings)
    assert (paths["b"].stem, 0, "read-only, but no seal names it: its seal was removed, or never made") in findings


def remade(root: Path, path: Path, number: int) -> Callable[[list[bytes], int], None]:
    """A seal that fits what its segment has become."""
    old = next(link.seal for link in read_chain(root) if link.seal.number == number)
    now = msgspec.structs.replace(old, **msgspec.structs.asdict(fingerprint.fingerprint(path)))

    def edit(lines: list[bytes], i: int) -> None:
        event = envelope.decode(lines[i][:-1]).envelope
        lines[i] = envelope.encode(msgspec.structs.replace(event, payload=envelope.encode_payload(now)))

    return edit


def test_a_remade_seal_is_found(root: Path) -> None:
    """A line is changed, and the seal made to fit: the seal after it does not."""
    paths = sealed_root(root)
    change_a_byte(paths)
    place, offset = edit_seal(root, 2, remade(root, paths["b"], 2))
    findings = found(root)
    assert all(each[0] != paths["b"].stem for each in findings)
    assert any(each[0] == place and each[1] >= offset for each in findings)
    assert any("seal 2 is not the one that seal 3 was made after" in each[2] for each in findings)


def test_a_remade_seal_of_the_newest_data_is_found_as_well(root: Path) -> None:
    """Since the segment of the seals is sealed last."""
    sealed_root(root)
    newest = next(link for link in reversed(read_chain(root)) if link.seal.segment_type == "u")
    path = root / "log/u" / f"{newest.seal.segment}.jsonl"
    forced(path, path.read_bytes().replace(b'"n":1', b'"n":2'))
    edit_seal(root, newest.seal.number, remade(root, path, newest.seal.number))
    assert found(root) != []


def test_a_chain_that_was_remade_as_a_whole_is_found_by_a_kept_head(root: Path) -> None:
    """And by nothing else: that is what the head is for."""
    paths = sealed_root(root)
    head = sealing.head_of(root, read_chain(root))
    assert head is not None
    assert found(root, head) == []
    change_a_byte(paths)
    for path in seal_segments(root):
        path.chmod(0o600)
        path.unlink()
    seal(root)
    seal(root)
    assert found(root) == []
    (finding,) = found(root, head)
    assert "whose hash was kept" in finding[2]


def test_the_end_of_the_chain_cut_off_is_found_by_a_kept_head(root: Path) -> None:
    """With its seals goes the protection of what they sealed."""
    sealed_root(root)
    head = sealing.head_of(root, read_chain(root))
    last = seal_segments(root)[-1]
    last.unlink()
    assert any("the chain ends before seal 7" in each[2] for each in found(root, head))


def test_a_segment_sealed_a_second_time_is_found(root: Path) -> None:
    """A new seal cannot make good what the first one says."""
    paths = sealed_root(root)
    change_a_byte(paths)
    links = read_chain(root)
    again = msgspec.structs.replace(
        links[1].seal,
        number=len(links) + 1,
        previous=links[-1].sha256,
        **msgspec.structs.asdict(fingerprint.fingerprint(paths["b"])),
    )
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    recorder.emit(SEAL_EVENT, again)
    recorder.shutdown()
    findings = found(root)
    assert any(each[:2] == (paths["b"].stem, 777) for each in findings)
    assert any("was sealed before, by seal 2" in each[2] for each in findings)


def test_archived_segments_are_verified_the_same(root: Path) -> None:
    """By the uncompressed bytes; a damaged archive is said to be one."""
    paths = sealed_root(root)
    archive_sealed(root)
    assert found(root) == []
    stored = paths["b"].with_name(paths["b"].name + ".zst")
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 0xFF
    forced(stored, bytes(data))
    (finding,) = found(root)
    assert finding[0] == paths["b"].stem


def test_a_damaged_archive_of_seals_is_a_finding_and_the_rest_is_compared(root: Path) -> None:
    """Verify is for damaged logs: it does not fall over one. Sealing does, rather than begin a second chain."""
    paths = sealed_root(root)
    change_a_byte(paths)
    archive_sealed(root, [SEAL_EVENT])
    damaged = next(path for path in seal_segments(root) if path.suffix == ".zst")
    data = bytearray(damaged.read_bytes())
    data[18:] = b"\xff" * len(data[18:])  # behind the header that says the size
    forced(damaged, bytes(data))
    whats = {name: what for name, _, what in found(root)}
    assert "cannot be read: [Errno 5] damaged archive" in whats[damaged.name.removesuffix(".jsonl.zst")]
    with pytest.raises(SegmentUnreadable, match="damaged archive"):
        seal(root)


def test_what_is_sealed_while_it_verifies_is_no_finding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watching indexer seals at any moment: after the chain was read, and while one was in the making."""
    segment(root, line(1), line(2))
    real = sealing.read_chain

    def chain(*arguments: Any, **options: Any) -> list[Link]:
        links = real(*arguments, **options)
        seal(root)
        return links

    with monkeypatch.context() as patch:
        patch.setattr(verification, "read_chain", chain)
        assert verification.verify(root).findings == []
    being_sealed = segment(root, line(3))
    with sealing._taken(being_sealed):
        being_sealed.chmod(0o400)
        assert verification.verify(root).findings == []
    assert [each[0] for each in found(root)] == [being_sealed.stem]


def test_segments_of_very_many_lines_have_bounded_seals(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are grouped; one changed byte is still found exactly."""
    monkeypatch.setattr(fingerprint, "_CHECKS_MAX", 16)
    path = segment(root, *(b'{"n":%d}\n' % n for n in range(1000)))
    (made, _) = seal(root)
    assert isinstance(made, Seal)
    assert made.check_lines == 63
    assert len(made.checks) <= 16 * 4
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    forced(path, bytes(data))
    assert [each[:2] for each in found(root)] == [(path.stem, 5000)]


def test_verify_shows_what_it_found_also_where_there_is_no_index_to_compare(
    root: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A log that was tampered with matters more than an index that is missing."""
    forced(sealed_root(root)["a"], b"changed\n")
    done = run("verify", "--index")
    assert "changed within the line that starts here" in done.stdout
    assert ", 1 finding; " in done.stdout
    assert (done.returncode, done.stderr[:22]) == (1, "error: there is no ind")


def test_maintenance_that_has_to_wait_says_so_by_its_exit_code(
    root: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A watching indexer seals now and then: whoever runs these regularly tells that from a failure."""
    sealed_root(root)
    with maintenance(root):
        assert [run(*command).returncode for command in (["seal"], ["archive"])] == [3, 3]
    for head in ("²:" + "a" * 64, "1:abc", "abc"):
        assert run("verify", "--head", head).returncode == 2


def test_the_command_seals_and_verifies(root: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """What it prints, and its exit codes."""
    paths = {letter: segment(root, *(line(100 * k + n) for n in range(20))) for k, letter in enumerate("abc")}
    done = run("seal")
    assert done.stdout.startswith(
        f"sealed 3 segments, {sum(p.stat().st_size for p in paths.values()):,} bytes\nhead 4:"
    )
    head = done.stdout.split()[-1]
    done = run("verify", "--head", head)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all as sealed" in done.stdout
    change_a_byte(paths)
    done = run("verify")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith(f"t/{paths['b'].stem}: byte 777: this byte is 0x")
    (finding,) = json.loads(run("verify", "--json").stdout)["findings"]
    assert (finding["segment"], finding["offset"], finding["exact"]) == (paths["b"].stem, 777, True)
    assert run("verify", "--head", "nonsense").returncode == 2
