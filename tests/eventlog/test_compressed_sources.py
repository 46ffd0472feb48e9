"""Compressed sources: by their bytes, whatever their names; and damaged ones, read up to the damage."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import ImportFailed
from eventlog.importers.codex import without_copies
from eventlog.importers.compression import plain_name
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.records import is_compressed, open_source, read_lines
from eventlog.log.zst import open_zst
from tests.eventlog.test_importers import events, import_

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
LINES = [b'{"n":%d,"noise":"%s"}' % (n, random.Random(n).randbytes(8).hex().encode()) for n in range(20_000)]
DATA = b"".join(line + b"\n" for line in LINES)


def read(path: Path) -> tuple[int, str | None]:
    """Return how many lines were read, and the error at the end of them; each is the line that was packed."""
    count = 0
    try:
        with open_source(path) as file:
            for line in read_lines(path, file, 0):
                assert line.data == LINES[count % len(LINES)]
                count += 1
    except ImportFailed as error:
        return count, str(error)
    return count, None


@pytest.mark.parametrize("name", ["f", "f.jsonl", "F.GZ", "f.gzip", "f.zst", "f.zstd", "f.xz", "f.bz2", "app.log.1"])
@pytest.mark.parametrize("packed", PACKS)
def test_the_bytes_say_how_a_file_is_compressed(tmp_path: Path, name: str, packed: str) -> None:
    """Not its name."""
    path = tmp_path / name
    path.write_bytes(PACKS[packed](DATA))
    assert is_compressed(path)
    assert read(path) == (len(LINES), None)


@pytest.mark.parametrize("packed", PACKS)
def test_all_of_a_file_is_read(tmp_path: Path, packed: str) -> None:
    """Parts that were compressed one by one, empty ones too."""
    pack, path = PACKS[packed], tmp_path / "f"
    path.write_bytes(pack(DATA[:100_000]) + pack(b"") + pack(DATA[100_000:]) + pack(b""))
    assert read(path) == (len(LINES), None)
    path.write_bytes(pack(b""))
    assert read(path) == (0, None)


@pytest.mark.parametrize("packed", ["gzip", "xz", "bzip2"])
def test_zeros_between_and_behind_parts_are_nothing(tmp_path: Path, packed: str) -> None:
    """Tapes and block devices leave them."""
    pack, path = PACKS[packed], tmp_path / "f"
    path.write_bytes(pack(DATA) + b"\0" * 100_000 + pack(DATA) + b"\0" * 512)
    assert read(path) == (2 * len(LINES), None)


@pytest.mark.parametrize("whole_parts", [0, 1])
@pytest.mark.parametrize("cut", [1, 5, 30, 2_000])
@pytest.mark.parametrize("packed", PACKS)
def test_what_is_cut_off_is_read_up_to_the_cut(tmp_path: Path, packed: str, cut: int, whole_parts: int) -> None:
    """And is an error: the end of the file is not that of its content."""
    pack, path = PACKS[packed], tmp_path / "f"
    path.write_bytes(pack(DATA) * whole_parts + pack(DATA)[:-cut])
    count, error = read(path)
    assert f"{path}: damaged after byte " in (error or "")
    blocks_lost = 0 if packed == "bzip2" else len(LINES) * 3 // 4  # bzip2's blocks are of 900,000 bytes
    assert count >= whole_parts * len(LINES) + blocks_lost


def test_of_a_zst_file_all_that_was_flushed_is_read(tmp_path: Path) -> None:
    """To the last line before the cut, also of what the decompressor still held back."""
    file, path = io.BytesIO(), tmp_path / "f.zst"
    with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:
        for start in range(0, 2500, 500):
            writer.write(b"".join(line + b"\n" for line in LINES[start : start + 500]))
            writer.flush(zstandard.FLUSH_BLOCK)
        path.write_bytes(file.getvalue())
    count, error = read(path)
    assert (count, "damaged" in (error or "")) == (2500, True)


@pytest.mark.parametrize("damage", ["its first byte", "no compression"])
@pytest.mark.parametrize("packed", PACKS)
def test_what_is_damaged_behind_a_whole_part(tmp_path: Path, packed: str, damage: str) -> None:
    """Is an error, after all that is before it."""
    pack, path = PACKS[packed], tmp_path / "f"
    second = b"\xff" + pack(DATA)[1:] if damage == "its first byte" else DATA
    path.write_bytes(pack(DATA) + second)
    count, error = read(path)
    assert count == len(LINES)
    assert f"damaged after byte {len(DATA):,}" in (error or "")


@pytest.mark.parametrize("content", [b"plain", b'{"n":1}\n', b"\x1f", b"\0" * 100])
@pytest.mark.parametrize("name", ["f.jsonl.gz", "f.ZST", "f.xz", "f.jsonl.bz2"])
def test_a_name_that_lies_is_said(tmp_path: Path, name: str, content: bytes) -> None:
    """It may be damaged, or only have the wrong name."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImportFailed, match=r"damaged after byte 0: it is named as \w+ .* rename it"):
        open_source(path)
    assert is_compressed(path)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    """Whatever its name."""
    path = tmp_path / "f.jsonl.gz"
    path.touch()
    assert read(path) == (0, None)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
        (b"PAR1rest", "a Parquet file"),
        (b"SQLite format 3\0rest", "an SQLite database"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    """Rather than each of their lines put into quarantine."""
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(ImportFailed, match=what):
        open_source(path)


def test_what_is_compressed_twice_is_named(tmp_path: Path) -> None:
    """As what comes compressed through a pipe."""
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(PACKS["zstd"](DATA)))
    with open_source(path) as file, pytest.raises(ImportFailed, match="compressed with zstd; decompress it first"):
        next(read_lines(path, file, 0))


def test_a_compressed_tar_archive_is_named(tmp_path: Path) -> None:
    """As it is by what is in it, not by its name."""
    path, packed = tmp_path / "logs.gz", io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    path.write_bytes(packed.getvalue())
    with open_source(path) as file, pytest.raises(ImportFailed, match="this is a tar archive; unpack it first"):
        next(read_lines(path, file, 0))


def test_a_missing_library_is_the_fault_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are imported."""
    path = tmp_path / "f.zst"
    path.write_bytes(PACKS["zstd"](DATA))
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportFailed, match=r"cannot be decompressed: .*zstd"):
        open_source(path)


def test_a_compressed_file_is_the_source_that_it_was(root: Path, tmp_path: Path) -> None:
    """The ending is no part of the source's name, in any case."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"n":1}\n')
    import_(root, path, format_=Jsonl(type_="t"))
    for name, packed in (("f.jsonl.GZ", "gzip"), ("f.jsonl.bz2", "bzip2"), ("f.jsonl.xz", "xz")):
        (tmp_path / name).write_bytes(PACKS[packed](b'{"n":1}\n'))
        import_(root, tmp_path / name, format_=Jsonl(type_="t"))
    assert len({event["event_id"] for event in events(root, "t")}) == 1
    assert plain_name("a.gz.b") == "a.gz.b"
    assert plain_name("a.ZST") == "a"


def test_a_compressed_rollout_beside_the_plain_one_is_left_out() -> None:
    """Whatever it was compressed with."""
    paths = [Path("/h/sessions/2026/r.jsonl"), Path("/h/sessions/2026/r.jsonl.xz"), Path("/h/sessions/2026/s.jsonl.GZ")]
    assert without_copies(paths) == [paths[0], paths[2]]


def zst_parts(numbers: random.Random) -> tuple[list[bytes], bytes]:
    """Return frames of many kinds, and what they hold."""
    frames, content = [], b""
    for _ in range(numbers.randint(1, 4)):
        size = numbers.randint(0, 300_000)
        data = numbers.choice([b"", b"\0" * size, numbers.randbytes(size), b"abc" * (size // 3)])
        compressor = zstandard.ZstdCompressor(
            level=numbers.choice([1, 3, 12]),
            write_content_size=numbers.random() < 0.5,
            write_checksum=numbers.random() < 0.5,
        )
        kind = numbers.randint(0, 2)
        if kind == 0:
            frames.append(bytes([0x50 + numbers.randint(0, 15)]) + b"\x2a\x4d\x18\x07\0\0\0skipped")
            continue
        if kind == 1:
            frames.append(compressor.compress(data))
        else:
            file = io.BytesIO()
            with compressor.stream_writer(file, closefd=False) as writer:
                writer.write(data)
                writer.flush(zstandard.FLUSH_BLOCK)
            frames.append(file.getvalue())
        content += data
    return frames, content


@given(seed=st.integers(0, 2**32))
def test_a_zst_file_ends_where_a_frame_does(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """One that was cut off anywhere else is an error, after the beginning of what it holds."""
    numbers = random.Random(seed)
    frames, content = zst_parts(numbers)
    whole = b"".join(frames)
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    path = tmp_path_factory.getbasetemp() / f"{os.getpid()}.zst"
    for cut in (len(whole), *(numbers.randrange(len(whole)) for _ in range(4))):
        path.write_bytes(whole[:cut])
        found = bytearray()
        with open_zst(path) as file:
            try:
                while block := file.read1(65536):
                    found += block
                assert cut in ends
            except EOFError:
                assert cut not in ends
        assert content.startswith(found)
        assert cut < len(whole) or found == content
