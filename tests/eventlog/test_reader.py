"""Reading: complete lines and their offsets, from anywhere, also while the log grows."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.errors import EventlogError
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.indexer.index import checkpoint
from eventlog.log import layout, reader, segment
from eventlog.record.recorder import Recorder


def test_only_complete_lines_are_read(tmp_path: Path) -> None:
    """What stands behind the last newline is not there yet."""
    path = tmp_path / "f"
    path.write_bytes(b"one\n\nthree\r\nfo")
    assert list(reader.read_lines(path)) == [(0, 4, b"one"), (4, 1, b""), (5, 7, b"three\r")]
    assert list(reader.read_lines(path, 4)) == [(4, 1, b""), (5, 7, b"three\r")]
    assert list(reader.read_lines(path, end=11)) == [(0, 4, b"one"), (4, 1, b"")]
    assert list(reader.read_lines(path, max_bytes=1)) == [(0, 4, b"one")]
    assert list(reader.read_lines(tmp_path / "nowhere")) == []
    with pytest.raises(EventlogError, match="cannot be read"):
        list(reader.read_lines(tmp_path))


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=30),
    tail=st.binary(max_size=10).map(lambda data: data.replace(b"\n", b"")),
    block=st.integers(1, 64),
    budget=st.integers(1, 200),
)
def test_reading_in_pieces_gives_the_lines_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], tail: bytes, block: int, budget: int
) -> None:
    """Whatever the size of blocks and budgets, and each offset leads back to its line."""
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_BLOCK_BYTES", block)
        offset, found = 0, []
        while part := list(reader.read_lines(path, offset, max_bytes=budget)):
            found += part
            offset = part[-1].offset + part[-1].length
        assert [line.data for line in found] == lines
        assert [reader.read_line_at(path, line.offset) for line in found] == lines


def test_a_line_over_the_limit_is_kept_in_part_and_passed_over(tmp_path: Path) -> None:
    """Memory stays bounded, and the next line is found."""
    path = tmp_path / "f"
    path.write_bytes(b"a\n" + b"x" * (MAX_LINE_BYTES + 10) + b"\nb\n" + b"y" * MAX_LINE_BYTES + b"\n")
    a, long, b, longest = reader.read_lines(path)
    assert (a.data, b.data) == (b"a", b"b")
    assert (long.offset, long.length, len(long.data), long.oversized) == (2, MAX_LINE_BYTES + 11, 64 * 1024, True)
    assert (longest.oversized, len(longest.data)) == (False, MAX_LINE_BYTES)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_the_last_lines_without_reading_all(tmp_path: Path, count: int) -> None:
    """Lines much longer than the first guess included."""
    path = tmp_path / "20260101T000000000000Z-0123456789abcdef.jsonl"
    lines = [b"%d" % i + b"x" * (i % 5 * 30_000) for i in range(50)]
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"torn")
    file = layout.SegmentFile(path.stem, "t", path, path.stat().st_size, 0, False)
    assert [line.data for line in reader.last_lines(file, count)] == lines[-count:]


def test_following_a_live_log_across_rotation_and_new_types(root: Path) -> None:
    """Each line once, from the moment of following on, in whatever segment it lands."""
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, strict=True))
    recorder.emit("old", {"n": 0})
    follower = reader.Follower(root)
    everything = reader.Follower(root, ["t"], from_start=True)
    assert list(follower.poll()) == []
    ids = [recorder.emit("t", {"n": n, "pad": "x" * 300}) for n in range(40)]
    first = list(follower.poll())
    ids += [recorder.emit("late", {"n": 1}), recorder.emit("old", {"n": 2})]
    second = list(follower.poll())
    assert len(layout.list_type(root, "t")) > 3
    assert [any(str(id_).encode() in line.data for line in [*first, *second]) for id_ in ids] == [True] * 42
    assert len(first) == 40
    assert len(second) == 2
    assert len(list(everything.poll())) == 40
    assert list(follower.poll()) == []
    recorder.shutdown()


def test_a_follower_waits_for_the_newline(root: Path) -> None:
    """A line that is being written comes once, whole."""
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("t")
    follower = reader.Follower(root)
    (path,) = (root / "log/t").iterdir()
    with path.open("ab") as file:
        file.write(b'{"half":')
        file.flush()
        assert list(follower.poll()) == []
        file.write(b"1}\n")
    assert [line.data for line in follower.poll()] == [b'{"half":1}']
    waits: list[str | None] = []
    stream = follower.follow(wait=lambda: waits.append(recorder.emit("t", {"n": len(waits)})))
    assert b'"n":0' in next(stream).data
    assert b'"n":1' in next(stream).data
    recorder.shutdown()


@pytest.mark.parametrize("look", ["read_lines", "is_owned", "tail_hash", "remove_if_finished"])
def test_a_fifo_in_the_place_of_a_segment_holds_nobody_up(tmp_path: Path, look: str) -> None:
    """A segment may become one between the listing and the opening."""
    path = tmp_path / "f"
    os.mkfifo(path)
    looks: dict[str, Callable[[], object]] = {
        "read_lines": lambda: list(reader.read_lines(path)),
        "is_owned": lambda: segment.is_owned(path),
        "tail_hash": lambda: checkpoint.tail_hash(path, 1),
        "remove_if_finished": lambda: segment.remove_if_finished(path, 1),
    }
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(EventlogError):
            looks[look]()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    came_back = done.wait(5)
    os.close(os.open(path, os.O_RDWR))  # lets go of a thread that hangs
    assert came_back


@pytest.mark.parametrize("in_place", [True, False])
def test_a_follower_reads_another_file_from_its_start(root: Path, in_place: bool) -> None:
    """A segment that shrinks and grows beyond what was read is another file; one that only grows is not."""
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("t", {"n": 1})
    recorder.shutdown()
    (path,) = (root / "log/t").iterdir()
    followers = [reader.Follower(root), reader.Follower(root, from_start=True)]
    assert [len(list(each.poll())) for each in followers] == [0, 1]
    lines = [b'{"other":%d}' % n for n in range(40)]
    data = b"".join(line + b"\n" for line in lines)
    if in_place:
        path.write_bytes(data)
    else:
        path.with_name("new").write_bytes(data)
        path.with_name("new").replace(path)
    assert [[each.data for each in follower.poll()] for follower in followers] == [lines, lines]
    with path.open("ab") as file:
        file.write(b'{"last":1}\n')
    assert [[each.data for each in follower.poll()] for follower in followers] == [[b'{"last":1}']] * 2
