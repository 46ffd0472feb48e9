"""Coming back to a stream: nothing is missing, and nothing comes twice, whatever has happened meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.sealing import seal
from tests.server.running import Running, serving
from tests.server.support_streams import (
    Ended,
    Frame,
    Framing,
    Sse,
    Ws,
    events_of,
    last_segment,
    lines_by_place,
    place,
    recording,
    watching,
)

TYPES = ("alpha", "beta", "gamma")
SETTINGS = "[server]\nping_s = 0.5\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with short times."""
    with serving(tmp_path_factory.mktemp("resumed") / "root", settings=SETTINGS) as running:
        yield running


@contextmanager
def emitting(root: Path, *, processes: int = 2, pause_s: float = 0.002) -> Iterator[None]:
    """Processes that emit events of three types, with segments of 4 KiB that rotate all the time."""
    program = (
        "import itertools, time, eventlog as obs\n"
        f"obs.configure(root={str(root)!r}, segment_max_bytes=4096, strict=True)\n"
        f"for n in itertools.count():\n    obs.emit({TYPES!r}[n % 3], {{'n': n, 'text': 'x' * 600}})\n"
        f"    time.sleep({pause_s})\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait(20)


def taken_by(client: Sse | Ws, frames: list[Frame], *, until_s: float) -> str:
    """Collect frames for some seconds, or until the server ends; return the last id."""
    deadline, last = time.monotonic() + until_s, ""
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            frame = client.next(left_s)
        except (Ended, TimeoutError):
            break
        last = frame.id
        if frame.kind == "event":
            frames.append(frame)
    return last


def check_complete(frames: list[Frame], root: Path) -> None:
    """Compare what was sent with the log: each line once, with its bytes."""
    expected = lines_by_place(root, TYPES)
    places = [place(frame) for frame in frames]
    assert len(places) == len(set(places))
    assert {place(frame): frame.line for frame in frames} == expected


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_restarted(end: signal.Signals, framing: Framing, tmp_path: Path) -> None:
    """Twice, while other processes go on: no gap and no duplicate."""
    root, frames, last = tmp_path / "root", list[Frame](), "start"
    with emitting(root):
        for _ in range(3):
            with serving(root) as server, watching(framing, server, after=last, types=TYPES) as client:
                last = taken_by(client, frames, until_s=0.7)
                server.process.send_signal(end)
                last = taken_by(client, frames, until_s=5) or last
            assert frames
    with serving(root) as server, watching(framing, server, after=last, types=TYPES) as client:
        last = taken_by(client, frames, until_s=1)
    check_complete(frames, root)


def test_a_client_that_leaves_at_any_frame(framing: Framing, server: Running) -> None:
    """It reads a few frames, leaves in the middle of a batch, and comes back with the last id that it has read."""
    frames: list[Frame] = []
    last = "start"
    with emitting(server.root, pause_s=0.0005):
        for count in itertools.islice(itertools.cycle([1, 7, 2, 30, 100]), 25):
            with watching(framing, server, after=last, types=TYPES) as client:
                frames += events_of(client, count)
            last = frames[-1].id
    with watching(framing, server, after=last, types=TYPES) as client:
        taken_by(client, frames, until_s=1)
    check_complete(frames, server.root)
    assert len(list((server.root / "log").glob("*/*"))) > 64
    assert max(len(frame.id) for frame in frames) < 2500


def test_an_id_of_a_line_alone_misses_nothing(framing: Framing, server: Running) -> None:
    """`segment:offset`: all that came later is sent, and perhaps what was before; each frame says which line it is."""
    name = f"plain_{framing.__name__.lower()}"
    with recording(server.root) as recorder, watching(framing, server, types=[name, name + "2"]) as client:
        for n in range(6):
            recorder.emit(name, {"n": n})
            recorder.emit(name + "2", {"n": n})
        frames = events_of(client, 12)
    later = {frame.line for frame in frames[6:]}
    with watching(framing, server, after=place(frames[5]), types=[name, name + "2"]) as client:
        again = list[Frame]()
        taken_by(client, again, until_s=0.7)
    assert later <= {frame.line for frame in again}
    assert place(frames[5]) not in map(place, again)
    assert len(again) == len(set(map(place, again)))


def _archived(root: Path) -> None:
    seal(root)
    archive_sealed(root)


def _pruned(root: Path) -> None:
    for segment in (root / "log").glob("kept*/*"):
        segment.unlink()


@pytest.mark.parametrize("happens", [_archived, _pruned])
def test_a_segment_that_goes_while_it_is_streamed(
    happens: Callable[[Path], None], framing: Framing, tmp_path: Path
) -> None:
    """Archived or deleted: what comes after it arrives once; what was archived can be read again."""
    root = tmp_path / "root"
    with serving(root, settings=SETTINGS) as server, watching(framing, server, types=["kept", "kept2"]) as client:
        with recording(root) as recorder:
            recorder.emit("kept", {"n": 1})
            first = events_of(client, 1)[0]
        happens(root)
        assert client.next().kind == "ping"
        with recording(root) as recorder:
            recorder.emit("kept", {"n": 2})
            recorder.emit("kept2", {"n": 3})
            assert [frame.n for frame in events_of(client, 2)] == [2, 3]
        assert client.next().kind == "ping"
        with watching(framing, server, types=["kept", "kept2"], after=first.id) as again:
            assert {frame.n for frame in events_of(again, 2)} == {2, 3}
            assert again.next().kind == "ping"
        with watching(framing, server, types=["kept"], after="start") as again:
            expected = {1, 2} if happens is _archived else {2}
            assert {frame.n for frame in events_of(again, len(expected))} == expected
            assert again.next().kind == "ping"


def test_a_server_that_starts_on_a_log_that_was_archived(framing: Framing, tmp_path: Path) -> None:
    """Meanwhile: the id still says where the stream stood."""
    root = tmp_path / "root"
    with serving(root) as server, watching(framing, server, types=["kept"]) as client, recording(root) as recorder:
        for n in range(10):
            recorder.emit("kept", {"n": n})
        last = events_of(client, 5)[-1].id
    _archived(root)
    assert last_segment(root, "kept").archived
    with recording(root) as recorder:
        recorder.emit("kept", {"n": 10})
    with serving(root) as server, watching(framing, server, types=["kept"], after=last) as client:
        assert [frame.n for frame in events_of(client, 6)] == [5, 6, 7, 8, 9, 10]


def test_a_client_that_reads_a_long_log_slowly_holds_little(tmp_path: Path) -> None:
    """40 MB by a client with a small window, while another one is served: the memory of the server hardly grows."""
    root = tmp_path / "root"
    with recording(root, blob_min_bytes=0) as recorder:
        for n in range(400):
            recorder.emit("big", {"n": n, "text": "x" * 100_000})
    with serving(root) as server:
        for client in (Sse(server, types=["big"], after="start"), Ws(server, types=["big"], after="start")):
            events_of(client, 1)
            client.close()
        before = _memory(server)
        slow = Sse(server, types=["big"], after="start", receive_bytes=4096)
        events_of(slow, 1)
        with watching(Sse, server, types=["small"]) as other, recording(root) as recorder:
            recorder.emit("small", {"n": 1})
            assert events_of(other, 1)[0].n == 1
        assert [frame.n for frame in events_of(slow, 399, 60)] == list(range(1, 400))
        assert _memory(server) - before < 20_000_000
        slow.close()


def test_more_than_a_queue_holds_is_appended_while_a_client_catches_up(framing: Framing, server: Running) -> None:
    """There is no gap: it goes on reading from the log."""
    name = f"meanwhile_{framing.__name__.lower()}"
    with recording(server.root, blob_min_bytes=0) as recorder:
        recorder.emit_many(name, [{"n": n, "text": "x" * 20_000} for n in range(1000)])
        with watching(framing, server, types=[name], after="start", receive_bytes=4096) as client:
            frames = events_of(client, 1)
            for start in range(1000, 4000, 100):
                recorder.emit_many(name, [{"n": n} for n in range(start, start + 100)])
            time.sleep(0.5)
            frames += events_of(client, 3999, 30)
            assert [frame.n for frame in frames] == list(range(4000))
            recorder.emit(name, {"n": 4000})
            assert events_of(client, 1)[0].n == 4000


def _memory(server: Running) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_files_that_are_open_are_few(server: Running) -> None:
    """Re-reading opens one file for each client, and closes it when the client leaves."""
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    with recording(server.root, segment_max_bytes=4096) as recorder:
        for n in range(500):
            recorder.emit("many", {"n": n, "text": "x" * 100})
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        clients = [Sse(server, types=["many"], after="start", receive_bytes=4096) for _ in range(5)]
        for client in clients:
            events_of(client, 1)
        assert len(list(descriptors.iterdir())) <= before + 15
        for client in clients:
            client.close()
    deadline = time.monotonic() + 5
    while len(list(descriptors.iterdir())) > before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_reads_nothing_while_nobody_listens(server: Running) -> None:
    """The thread ends with the last stream, and another one begins with the next."""

    def is_watching() -> bool:
        links = list(Path(f"/proc/{server.process.pid}/fd").iterdir())
        return any(link.is_symlink() and "inotify" in os.readlink(link) for link in links)

    for _ in range(2):
        with watching(Sse, server, types=["t"]) as client, recording(server.root) as recorder:
            recorder.emit("t", {"n": 1})
            assert events_of(client, 1)[0].n == 1
            assert is_watching()
        deadline = time.monotonic() + 5
        while is_watching():
            assert time.monotonic() < deadline
            time.sleep(0.05)
