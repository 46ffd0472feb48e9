"""Archived segments: written with proof, and read as if they were plain."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import SegmentUnreadable
from eventlog.log import layout, reader, zst
from eventlog.log.reader import Follower
from eventlog.maintenance import archiving
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.sealing import seal
from tests.eventlog.test_sealing import forced
from tests.indexer.support import line, segment


def archived(root: Path, *lines: bytes, level: int = 3) -> Path:
    """A sealed and archived segment; returns where its plain file was."""
    path = segment(root, *lines)
    seal(root)
    archive_sealed(root, ["t"], level=level)
    assert not path.exists()
    return path


def lines_read(path: Path, **bounds: int) -> list[tuple[int, bytes]]:
    return [(each.offset, each.data) for each in reader.read_lines(path, **bounds)]


@given(
    lines=st.lists(st.binary(max_size=300).map(lambda each: each.replace(b"\n", b"")), min_size=1, max_size=40),
    torn=st.binary(max_size=50).map(lambda each: each.replace(b"\n", b"")),
    data=st.data(),
)
def test_an_archive_reads_like_its_plain_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], torn: bytes, data: st.DataObject
) -> None:
    """From any line on, up to any end, in blocks of any size."""
    folder = tmp_path_factory.mktemp("archive")
    plain, stored = folder / "a.jsonl", folder / "a.jsonl.zst"
    plain.write_bytes(b"".join(each + b"\n" for each in lines) + torn)
    zst.compress(plain, stored, level=3)
    assert zst.content_size(stored) == plain.stat().st_size
    offsets = [offset for offset, _ in lines_read(plain)]
    start = data.draw(st.sampled_from(offsets))
    bounds = {"offset": start} | data.draw(
        st.sampled_from([{}, {"end": plain.stat().st_size // 2}, {"max_bytes": 100}])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_BLOCK_BYTES", data.draw(st.sampled_from([7, 64, 4096])))
        patch.setattr(zst, "BLOCK_BYTES", data.draw(st.sampled_from([5, 100])))
        assert lines_read(stored, **bounds) == lines_read(plain, **bounds)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 65_791, 65_792, 70_000, 2**20])
def test_the_size_stands_in_the_header(tmp_path: Path, size: int) -> None:
    """In each of the widths that the format has."""
    plain, stored = tmp_path / "a", tmp_path / "a.zst"
    plain.write_bytes(os.urandom(size))
    zst.compress(plain, stored, level=1)
    assert zst.content_size(stored) == size


def test_sizes_of_four_and_eight_bytes_are_read() -> None:
    """Headers put together from the format's definition."""
    assert zst.frame_content_size(b"\x28\xb5\x2f\xfd\xa0" + (3 * 10**9).to_bytes(4, "little") + b"x" * 9) == 3 * 10**9
    assert zst.frame_content_size(b"\x28\xb5\x2f\xfd\xc0\x00" + (10**12).to_bytes(8, "little")) == 10**12
    assert zst.frame_content_size(b"\x28\xb5\x2f\xfd\x00\x00" + b"x" * 12) is None
    assert zst.frame_content_size(b"{}") is None


def test_the_log_lists_an_archive_as_the_same_segment(root: Path) -> None:
    """Same name, same size, same time; sealed."""
    path = segment(root, line(1), line(2))
    os.utime(path, ns=(10**18, 10**18))
    seal(root)
    (before,) = layout.list_type(root, "t")
    archive_sealed(root)
    (after,) = layout.list_type(root, "t")
    assert after.archived
    assert after._replace(path=before.path, archived=False) == before
    assert layout.list_log(root).skipped == []
    assert layout.refreshed(before) == after


def test_beside_its_archive_a_plain_file_is_read_once(root: Path) -> None:
    """A crash between the archive and the deletion leaves both; the next run ends it."""
    path = segment(root, line(1), line(2))
    seal(root)
    data = path.read_bytes()
    archive_sealed(root)
    path.write_bytes(data)
    path.chmod(0o400)
    assert [each.path for each in layout.list_type(root, "t")] == [path]
    assert layout.list_log(root).skipped == []
    assert len(list(reader.read_log(root, ["t"]))) == 2
    archive_sealed(root)
    assert not path.exists()
    assert len(list(reader.read_log(root, ["t"]))) == 2


def test_a_segment_that_is_archived_while_it_is_listed_is_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading the names in a folder and looking at each, or a replay would leave it out."""
    path = segment(root, line(1))
    seal(root)
    real, moments = layout._entries, iter([archive_sealed])

    def entries(folder: Path) -> list[os.DirEntry[str]]:
        found = real(folder)
        if folder.name == "t":
            for archive_now in moments:
                archive_now(root)
        return found

    monkeypatch.setattr(layout, "_entries", entries)
    assert [(each.name, each.archived) for each in layout.list_type(root, "t")] == [(path.stem, True)]


def test_what_is_not_as_sealed_is_not_archived(root: Path) -> None:
    """The plain file is evidence."""
    path = segment(root, line(1), line(2))
    seal(root)
    forced(path, line(1) + line(3))
    done = archive_sealed(root, ["t"])
    assert done.segments == 0
    assert "not what was sealed" in done.refused[0]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_only_sealed_segments_are_archived(root: Path) -> None:
    """A read-only file that no seal names is not."""
    segment(root, line(1)).chmod(0o400)
    segment(root, line(2))
    assert archive_sealed(root).segments == 0


def test_a_failure_leaves_the_plain_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no part of an archive."""
    path = segment(root, line(1))
    seal(root)

    def full(*arguments: object, **options: object) -> None:
        arguments[1].write_bytes(b"half")  # type: ignore[attr-defined]  # a Path
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zst, "compress", full)
    with pytest.raises(OSError, match="No space left"):
        archive_sealed(root)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_reader_that_is_in_the_middle_goes_on(root: Path) -> None:
    """Over the moment at which the segment is archived."""
    lines = [line(n, payload={"pad": "x" * 5000}) for n in range(2000)]
    path = segment(root, *lines)
    seal(root)
    reading = reader.read_lines(path)
    read = [next(reading).data]
    archive_sealed(root, ["t"])
    read += [each.data for each in reading]
    assert read == [each[:-1] for each in lines]


def test_a_follower_reads_on_across_archiving(root: Path) -> None:
    """Nothing twice."""
    path = segment(root, line(1))
    follower = Follower(root, ["t"], from_start=True)
    assert len(list(follower.poll())) == 1
    with path.open("ab") as file:
        file.write(line(2))
    seal(root)
    archive_sealed(root)
    assert len(list(follower.poll())) == 1
    assert list(follower.poll()) == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "bits flipped": lambda data: data[:60] + bytes(each ^ 0xFF for each in data[60:90]) + data[90:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_an_error_with_its_name(root: Path, damage: str) -> None:
    """Not fewer lines in silence."""
    path = archived(root, *(line(n, payload={"pad": os.urandom(300).hex()}) for n in range(300)))
    stored = zst.archived_path(path)
    forced(stored, DAMAGES[damage](stored.read_bytes()))
    with pytest.raises(SegmentUnreadable, match=rf"{stored.name}: cannot be read: damaged archive"):
        list(reader.read_lines(stored))
    with pytest.raises(OSError, match="damaged archive"):
        zst.check(stored)


def test_what_only_looks_like_an_archive_is_an_oddity(root: Path) -> None:
    """It is neither read nor deleted."""
    path = segment(root, line(1))
    path.rename(zst.archived_path(path))
    listing = layout.list_log(root)
    assert listing.segments == []
    assert [each.reason for each in listing.skipped] == ["not a zstd file that says its content size"]


def test_the_command_archives(root: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """And tail reads on."""
    segment(root, *(line(n) for n in range(50)), name=layout.new_segment_name(time.time_ns()))
    run("seal")
    done = run("archive", "--type", "t", "--level", "19")
    assert done.returncode == 0
    size = sum(len(line(n)) for n in range(50))
    assert done.stdout.startswith(f"archived 1 segment: {size:,} bytes on disk are now ")
    newest = [json.loads(each)["payload"]["n"] for each in run("tail", "t", "-n", "3").stdout.splitlines()]
    assert newest == [47, 48, 49]
    assert archiving.LEVEL == 12
