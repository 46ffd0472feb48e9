"""Large fields are kept beside the log, each chunk once, and come back as they were."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog import blobs
from eventlog.backup import backup
from eventlog.blobs import BlobStore
from eventlog.config import Config
from eventlog.destination import Folder
from eventlog.errors import BackupFailed, BlobUnreadable, InvalidEvent, WriteFailed
from eventlog.recorder import Recorder
from eventlog.restore import restore
from eventlog.verification import verify
from eventlog.writer import Durability
from tests.conftest import Run, lines_of

CHUNK = 32 * 1024


def payloads(root: Path, event_type: str) -> list[bytes]:
    """The payloads of a type as they stand in the log; a line that a kill has torn is none."""
    whole = [
        line
        for path in sorted((root / "log" / event_type).glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [bytes(msgspec.json.decode(line, type=obs.Envelope).payload) for line in whole]


def files(root: Path) -> dict[str, bytes]:
    """All files under blobs/, by their path there."""
    folder = root / "blobs"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text(size: int, seed: int = 0) -> str:
    """A text of ASCII in which no two chunks are the same."""
    return "".join(f"{seed} {n:09}\n" for n in range(size // 11 + 1))[:size]


# -- what is taken out, and comes back ---------------------------------------------------------


def test_a_large_field_is_kept_in_chunks_named_by_their_hash(recorder: Recorder, root: Path) -> None:
    """What is behind the last whole chunk stays in the event, with all small fields."""
    value = text(100_000)
    recorder.emit("t", {"small": 1, "prompt": value, "last": [None]})
    data = msgspec.json.encode(value)
    chunks = [data[:CHUNK], data[CHUNK : 2 * CHUNK], data[2 * CHUNK : 3 * CHUNK]]
    hashes = [hashlib.sha256(chunk).hexdigest() for chunk in chunks]
    assert files(root) == {f"{name[:2]}/{name}": chunk for name, chunk in zip(hashes, chunks, strict=True)}
    (payload,) = payloads(root, "t")
    assert json.loads(payload) == {
        "small": 1,
        "prompt": {"$blob": {"sha256": hashes, "bytes": len(data), "rest": data[3 * CHUNK :].decode()}},
        "last": [None],
    }
    assert blobs.resolve(root, payload) == msgspec.json.encode({"small": 1, "prompt": value, "last": [None]})


def test_a_prompt_that_grows_is_stored_once(recorder: Recorder, root: Path) -> None:
    """Of 20 prompts, each chunk is written once: a tenth of the bytes."""
    prompts = [[{"role": "user", "content": text(n * 20_000)}] for n in range(1, 21)]
    for prompt in prompts:
        recorder.emit("llm_call", {"input_messages": prompt})
    longest = msgspec.json.encode(prompts[-1])
    assert sum(len(msgspec.json.encode(prompt)) for prompt in prompts) == 4_550_593
    assert sorted(files(root).values()) == sorted(
        longest[n : n + CHUNK] for n in range(0, len(longest) // CHUNK * CHUNK, CHUNK)
    )
    assert sum(map(len, files(root).values())) == 13 * CHUNK
    read_back = [json.loads(blobs.resolve(root, payload)) for payload in payloads(root, "llm_call")]
    assert read_back == [{"input_messages": prompt} for prompt in prompts]


def test_small_payloads_and_small_fields_stay(recorder: Recorder, root: Path) -> None:
    """At the limit there is no blob; above it, none of many small fields."""
    overhead = len(b'{"p":""}')
    recorder.emit("t", {"p": "x" * (64 * 1024 - overhead)})
    recorder.emit("t", {f"p{n}": "x" * 1000 for n in range(100)})
    assert not (root / "blobs").exists()
    recorder.emit("t", {"p": "x" * (64 * 1024 - overhead + 1)})
    assert [len(chunk) for chunk in files(root).values()] == [CHUNK]


@pytest.mark.parametrize(
    ("min_bytes", "size", "chunks"), [(0, 300_000, 0), (4096, 5000, 2), (1, 5000, 5), (10**6, 300_000, 0)]
)
def test_the_limit_is_a_setting(root: Path, min_bytes: int, size: int, chunks: int) -> None:
    """0 means never; small ones make small chunks, of 1 KiB at least."""
    recorder = Recorder(Config(root=str(root), strict=True, blob_min_bytes=min_bytes))
    recorder.emit("t", {"p": text(size)})
    recorder.shutdown()
    assert len(blobs.list_blobs(root)) == chunks
    (payload,) = payloads(root, "t")
    assert json.loads(blobs.resolve(root, payload)) == {"p": text(size)}


def test_chunks_do_not_cut_characters(recorder: Recorder, root: Path) -> None:
    """Whatever the distance to the cut is: each is text."""
    for shift in range(4):
        value = "a" * shift + "é😀" * 20_000
        recorder.emit("t", {"p": value})
        assert json.loads(blobs.resolve(root, payloads(root, "t")[-1])) == {"p": value}
    for chunk in files(root).values():
        assert CHUNK - 3 <= len(chunk) <= CHUNK
        chunk.decode()


_LOOKALIKES = [
    {"$blob": {"sha256": ["0" * 64], "bytes": 5, "rest": ""}},
    {"$blob": {"value": 1}},
    {"$blob": {"value": {"$blob": {"value": 1}}}},
    {"$blob": None},
    {"$blob": 1, "more": 2},
    "$blob",
    '{"$blob":{"value":1}}',
    [{"$blob": {"value": 1}}],
]


@pytest.mark.parametrize("value", _LOOKALIKES, ids=str)
@pytest.mark.parametrize("large", [False, True])
def test_what_looks_like_a_reference_comes_back_as_it_was(
    recorder: Recorder, root: Path, value: object, large: bool
) -> None:
    """In events with blobs and without; raw JSON with white space and escapes as well."""
    rest = {"p": text(100_000)} if large else {}
    recorder.emit("t", {"v": value} | rest)
    spaced = json.dumps({"v": value} | rest, indent=1).replace("\n", " ")
    recorder.emit("t", msgspec.Raw(spaced.encode()))
    recorder.emit("t", msgspec.Raw(spaced.replace("$", "\\u0024").encode()))
    for payload in payloads(root, "t"):
        assert json.loads(blobs.resolve(root, payload)) == {"v": value} | rest


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40) | st.sampled_from(["$blob", "sha256", "é" * 700, text(1500), text(3000)]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=4) | st.sampled_from(["$blob", "value", "rest"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=4) | st.just("$blob"), _json, max_size=4))
def test_any_payload_comes_back(tmp_path_factory: pytest.TempPathFactory, payload: dict[str, Any]) -> None:
    """What is taken out of any JSON is put back, byte for byte."""
    root = tmp_path_factory.getbasetemp() / "any"
    data = msgspec.json.encode(payload)
    stored = BlobStore(root, min_bytes=1).take_out(data)
    assert blobs.resolve(root, stored) == data
    assert len(stored) < 40_000


def test_the_limits_of_a_line_hold_for_what_is_emitted(recorder: Recorder, root: Path) -> None:
    """Blobs are no way around them."""
    with pytest.raises(InvalidEvent, match="over the limit"):
        recorder.emit("t", {"p": "x" * 17_000_000})
    deep: Any = text(100_000)
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidEvent, match="nested deeper"):
        recorder.emit("t", {"p": deep})
    assert not (root / "blobs").exists()


def test_typed_events_are_checked_before(recorder: Recorder, root: Path) -> None:
    """A text that became a reference was a text when it was checked."""
    assert recorder.emit(obs.events.RunFinished(error_message=text(100_000)))
    with pytest.raises(InvalidEvent, match="Expected `str"):
        recorder.emit("run_finished", {"error_message": {"$blob": text(100_000)}})


def test_secrets_are_redacted_before(recorder: Recorder, root: Path) -> None:
    """No chunk has them."""
    recorder.emit("t", {"p": text(50_000) + " Bearer hunter2hunter2 " + text(50_000)})
    assert b"hunter2" not in b"".join(files(root).values()) + payloads(root, "t")[0]


def test_captured_events_are_whole(recorder: Recorder, root: Path) -> None:
    """Memory has no root; and nothing is written anywhere."""
    with recorder.capture() as memory:
        recorder.emit("t", {"p": text(100_000), "v": {"$blob": {"value": 1}}})
    assert memory.events[0].data() == {"p": text(100_000), "v": {"$blob": {"value": 1}}}
    assert not root.exists()


def test_what_is_recorded_finished_is_left_as_it_is(recorder: Recorder, root: Path) -> None:
    """Importers keep foreign lines verbatim."""
    payload = msgspec.Raw(msgspec.json.encode({"p": text(100_000)}))
    made = obs.Envelope(
        event_id="01a1fc0e-90e7-7614-b5c5-39cd6cbb2847", event_type="t", timestamp="2026-01-01T00:00:00.000000Z",
        payload=payload,
    )  # fmt: skip
    recorder.record([made])
    assert payloads(root, "t") == [bytes(payload)]
    assert not (root / "blobs").exists()


# -- on disk -----------------------------------------------------------------------------------


def test_chunks_are_for_their_owner_alone(recorder: Recorder, root: Path) -> None:
    """Prompts and secrets end up there; and what never changes is read-only."""
    recorder.emit("t", {"p": text(100_000)})
    for path in [root / "blobs", *(root / "blobs").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o400), path


def test_a_chunk_that_is_there_is_not_written_again(recorder: Recorder, root: Path) -> None:
    """By the same process or by another one; but one that was lost or damaged is, when it comes again."""
    recorder.emit("t", {"p": text(100_000)})
    before = {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    recorder.emit("t", {"p": text(100_000)})
    another = Recorder(Config(root=str(root), strict=True))
    another.emit("t", {"p": text(100_000)})
    another.shutdown()
    assert {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)} == before
    lost, damaged, _ = before
    lost.unlink()
    damaged.chmod(0o600)
    damaged.write_bytes(b"\0" * CHUNK)  # as a power cut may leave it
    recorder.emit("t", {"p": text(100_000)})
    assert lost.exists()
    third = Recorder(Config(root=str(root), strict=True))
    third.emit("t", {"p": text(100_000)})
    third.shutdown()
    assert [json.loads(blobs.resolve(root, each)) for each in payloads(root, "t")] == [{"p": text(100_000)}] * 5


def _file(root: Path) -> None:
    root.mkdir()
    (root / "blobs").write_text("in the way")


def _link(root: Path) -> None:
    (root / "elsewhere").mkdir(parents=True)
    (root / "blobs").symlink_to(root / "elsewhere")


def _file_in_the_making(root: Path) -> None:
    (root / "blobs").mkdir(parents=True)
    (root / "blobs/tmp").write_text("in the way")


@pytest.mark.parametrize("obstacle", [_file, _link, _file_in_the_making])
def test_what_cannot_be_kept_apart_stays_in_its_event(
    recorder: Recorder, root: Path, obstacle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, also where emit is strict; it is said, and no link is followed."""
    obstacle(root)
    assert recorder.emit("t", {"p": text(100_000)})
    assert json.loads(payloads(root, "t")[0]) == {"p": text(100_000)}
    assert "a large field stays in its event instead" in caplog.text
    assert not [*(root / "elsewhere").glob("*/*")]
    assert recorder.flush()
    assert recorder.stats().lost == 0


@pytest.mark.parametrize("failing", ["open", "write", "rename"])
def test_a_full_disk_keeps_the_field_in_its_event(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whichever step is refused; nothing half-written is left."""
    real = getattr(os, failing)

    def refused(*arguments: Any, **more: Any) -> Any:
        if failing != "write" and "blobs" not in str(arguments[0]):
            return real(*arguments, **more)
        if failing == "write" and len(arguments[1]) != CHUNK:
            return real(*arguments, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refused)
        assert recorder.emit("t", {"p": text(100_000)})
    assert json.loads(payloads(root, "t")[0]) == {"p": text(100_000)}
    assert files(root) == {}
    assert recorder.emit("t", {"p": text(100_000)})
    assert len(files(root)) == 3


def test_what_a_crash_left_in_the_making_is_cleared_away(root: Path) -> None:
    """After a day; somebody may be writing what is younger."""
    folder = root / "blobs" / "tmp"
    folder.mkdir(parents=True)
    for name in ("old", "young"):
        (folder / name).write_bytes(b"x")
    os.utime(folder / "old", (0, 0))
    BlobStore(root, min_bytes=1).put(b"chunk")
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_a_kill_between_chunk_and_line_leaves_a_log_that_reads(root: Path) -> None:
    """A chunk without a line is no harm, and the next emit uses it."""
    program = f"""
        import os, signal
        import eventlog as obs
        obs.configure(root={str(root)!r}, strict=True)
        obs.emit("t", {{"n": 1}})
        obs.recorder()._writer.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        obs.emit("t", {{"p": "x" * 100_000}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert payloads(root, "t") == [b'{"n":1}']
    before = {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    assert len(before) == 2  # the first, and two of the same bytes
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": "x" * 100_000})
    recorder.shutdown()
    assert {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)} == before
    assert json.loads(blobs.resolve(root, payloads(root, "t")[1])) == {"p": "x" * 100_000}


def test_whatever_a_kill_interrupts_every_line_has_its_chunks(root: Path) -> None:
    """Killed ten times in the middle of it all."""
    program = f"""
        import eventlog as obs, os
        obs.configure(root={str(root)!r}, strict=True)
        for n in range(10**9):
            obs.emit("t", {{"p": os.urandom(40_000).hex()}})
            print(n, flush=True)
    """
    for after in range(10):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(after * 3 + 1):
            child.stdout.readline()
        child.kill()
        child.wait(timeout=60)
        child.stdout.close()
    stored = payloads(root, "t")
    assert len(stored) >= sum(after * 3 + 1 for after in range(10))
    for payload in stored:
        assert len(json.loads(blobs.resolve(root, payload))["p"]) == 80_000
    assert all(hashlib.sha256(each.path.read_bytes()).hexdigest() == each.sha256 for each in blobs.list_blobs(root))


def test_threads_and_forked_children_share_the_chunks(recorder: Recorder, root: Path) -> None:
    """Each chunk is there once, and each event is whole."""

    def emit_some() -> None:
        for n in range(10):
            recorder.emit("t", {"p": text(70_000 + n * 10_000)})

    threads = [threading.Thread(target=emit_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            emit_some()
            status = 0 if recorder.flush() else 2
        finally:
            os._exit(status)
    for thread in threads:
        thread.join(60)
    assert os.waitpid(child, 0)[1] == 0
    assert recorder.flush()
    read_back = sorted(len(json.loads(blobs.resolve(root, each))["p"]) for each in payloads(root, "t"))
    assert read_back == sorted([70_000 + n * 10_000 for n in range(10)] * 5)
    assert len(files(root)) == len(msgspec.json.encode(text(160_000))) // CHUNK


# -- durable -----------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files and folders in the order in which they were synced."""
    found: list[str] = []

    def noted(fd: int, real: Any) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, real=real: noted(fd, real))
    return found


def test_flush_syncs_chunks_before_the_lines_that_name_them(root: Path, synced: list[str]) -> None:
    """Their files, and the folders that have their names; and not again the next time."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    assert synced == []
    assert recorder.flush()
    hashes = [each.sha256 for each in blobs.list_blobs(root)]
    last_of_blobs = max(synced.index(name) for name in [*hashes, *(name[:2] for name in hashes), "blobs"])
    first_of_log = next(n for n, name in enumerate(synced) if name.endswith(".jsonl"))
    assert last_of_blobs < first_of_log
    synced.clear()
    assert recorder.flush()
    assert synced == []
    recorder.shutdown()


def test_synced_durability_has_chunks_on_disk_before_emit_returns(root: Path, synced: list[str]) -> None:
    """Also those that another process may have written a moment ago."""
    config = Config(root=str(root), strict=True, durability=Durability.SYNCED, sync_interval_s=0)
    for _ in range(2):
        recorder = Recorder(config)
        recorder.emit("t", {"p": text(70_000)})
        hashes = {each.sha256 for each in blobs.list_blobs(root)}
        # A new chunk is synced under the name that it has then.
        assert sum(len(name) in (16, 64) for name in synced) == len(hashes) == 2
        assert {name[:2] for name in hashes} | {"blobs"} <= set(synced)
        synced.clear()
        recorder.shutdown()


def test_the_background_syncs_chunks(root: Path) -> None:
    """Without anybody asking for it."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0.01))
    recorder.emit("t", {"p": text(70_000)})
    syncer = recorder._writer._syncer
    assert syncer is not None
    syncer.join(30)
    assert not syncer.is_alive()
    assert recorder._blobs.is_settled
    recorder.shutdown()


def test_after_a_failed_sync_a_chunk_is_written_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pages count as written, and are not: the same file is never synced a second time."""
    recorder = Recorder(Config(root=str(root), strict=False, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    before = {each.sha256: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    victim = min(before)
    real, failed = os.fsync, []

    def failing(fd: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{fd}")).name == victim:
            failed.append(os.fstat(fd).st_ino)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    assert recorder.flush()
    after = {each.sha256: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    assert failed == [before[victim]]
    assert after[victim] != before[victim]
    assert blobs.read(root, victim)
    recorder.shutdown()


def test_a_child_syncs_what_its_parent_has_written_and_not_synced(root: Path, synced: list[str]) -> None:
    """If it uses the same chunk: the parent may never come to it."""
    store = BlobStore(root, min_bytes=1)
    digest = store.put(b"chunk")
    store.after_fork()
    assert store.is_settled
    assert store.put(b"chunk") == digest
    assert not store.is_settled
    store.sync()
    assert digest in synced


def test_two_who_sync_do_not_disturb_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits, and finds that nothing is left."""
    store = BlobStore(root, min_bytes=1)
    store.put(b"chunk")
    real, inside, go_on = os.fsync, threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        inside.set()
        assert go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    failures: list[BaseException] = []

    def sync() -> None:
        try:
            store.sync()
        except BaseException as error:  # noqa: BLE001 - of a thread, told to the test
            failures.append(error)

    first, second = threading.Thread(target=sync), threading.Thread(target=sync)
    first.start()
    assert inside.wait(30)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    first.join(30)
    second.join(30)
    assert (failures, store.is_settled) == ([], True)


def test_flush_says_so_where_chunks_cannot_be_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one tries again."""
    store = BlobStore(root, min_bytes=1)
    store.put(b"chunk")

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(WriteFailed, match="cannot be synced"):
            store.sync()
    assert not store.is_settled
    store.sync()
    assert store.is_settled


@pytest.mark.parametrize("deleted", ["a chunk", "all chunks", "all folders"])
def test_a_deleted_chunk_does_not_fail_each_flush_from_then_on(deleted: str, root: Path, synced: list[str]) -> None:
    """As a deleted segment does not; the others are synced, and it is written again when it comes again."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    lost, kept = (each.path for each in blobs.list_blobs(root))
    if deleted == "all folders":
        shutil.rmtree(root / "blobs")
    else:
        lost.unlink()
        if deleted == "all chunks":
            kept.unlink()
    assert recorder.flush()
    assert recorder._blobs.is_settled
    assert (kept.name in synced) is (deleted == "a chunk")
    recorder.emit("t", {"p": text(70_000)})
    assert recorder.flush()
    assert (lost.is_file(), kept.is_file(), lost.name in synced) == (True, True, True)
    recorder.shutdown()


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture
def damaged(root: Path) -> tuple[Path, Path]:
    """A log with two chunks: one lost, the other one changed."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(80_000), "n": 1})
    recorder.shutdown()
    lost, changed = (each.path for each in blobs.list_blobs(root))
    changed.chmod(0o600)
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    return lost, changed


def test_a_missing_or_damaged_chunk_is_named(root: Path, damaged: tuple[Path, Path]) -> None:
    """With what to do, and no content is made up."""
    lost, changed = damaged
    with pytest.raises(BlobUnreadable) as raised:
        blobs.read(root, changed.name)
    assert str(raised.value) == (
        f"{changed} is damaged: its bytes do not have the hash that is its name; "
        "move it away, and bring it back with: eventlog restore"
    )
    lost.unlink()
    with pytest.raises(BlobUnreadable) as raised:
        blobs.read(root, lost.name)
    assert str(raised.value) == f"{lost} is missing; bring it back with: eventlog restore"
    (payload,) = payloads(root, "t")
    with pytest.raises(BlobUnreadable):
        blobs.resolve(root, payload)
    marked = json.loads(blobs.Resolver(root).resolve(payload, marked=True))
    assert marked["n"] == 1
    assert marked["p"]["$blob"]["bytes"] == len(msgspec.json.encode(text(80_000)))
    error = blobs.error_of(marked["p"])
    assert error is not None
    assert str(lost) in error or str(changed) in error


@pytest.mark.parametrize(
    "reference",
    [
        {"sha256": ["../../etc/passwd"], "bytes": 5, "rest": ""},
        {"sha256": [], "bytes": 1, "rest": "1"},
        {"sha256": ["0" * 64], "bytes": 2**40, "rest": ""},
        {"sha256": "0" * 64, "bytes": 5, "rest": ""},
        {"error": "x"},
        7,
    ],
    ids=str,
)
def test_what_is_no_reference_of_ours_is_left_alone(root: Path, reference: object) -> None:
    """Lines of other programs may have anything in them."""
    payload = msgspec.json.encode({"p": {"$blob": reference}})
    assert blobs.resolve(root, payload) == payload


def test_a_reference_that_promises_something_else_is_refused(root: Path) -> None:
    """Not as many bytes, no JSON, or more than any payload had."""
    store = BlobStore(root, min_bytes=1)
    digest = store.put(b'"aaaaaa')
    big = store.put(b"1" * 1_000_000)

    def resolved(digests: list[str], size: int, rest: str) -> bytes:
        return blobs.resolve(
            root, msgspec.json.encode({"p": {"$blob": {"sha256": digests, "bytes": size, "rest": rest}}})
        )

    assert resolved([digest], 8, '"') == b'{"p":"aaaaaa"}'
    with pytest.raises(BlobUnreadable, match="does not have as many"):
        resolved([digest], 9, '"')
    with pytest.raises(BlobUnreadable, match="is not JSON"):
        resolved([digest], 8, "x")
    with pytest.raises(BlobUnreadable, match="does not have as many"):
        resolved([big] * 10_000, 16_000_000, "")
    many = {f"p{n}": {"$blob": {"sha256": [big] * 16, "bytes": 16_000_000, "rest": ""}} for n in range(2)}
    with pytest.raises(BlobUnreadable, match="which none had when emitted"):
        blobs.resolve(root, msgspec.json.encode(many))


def test_verify_names_the_chunk_that_is_damaged(root: Path, damaged: tuple[Path, Path], run: Run) -> None:
    """The others are counted."""
    _, changed = damaged
    found = verify(root)
    assert (found.blobs, found.blob_bytes) == (2, 2 * CHUNK)
    assert [(each.event_type, each.segment) for each in found.findings] == [("blobs", changed.name)]
    assert str(changed) in found.findings[0].what
    done = run("verify")
    assert done.returncode == 1
    assert f"blobs/{changed.name}: byte 0 or later: {changed} is damaged" in done.stdout
    assert "2 blobs (65,536 bytes)" in done.stdout


def test_verify_names_the_line_whose_chunk_is_missing(recorder: Recorder, root: Path) -> None:
    """Once for each chunk, at the first line that names it; not what only looks like a reference."""
    recorder.emit("t", {"n": 1})
    recorder.emit("t", {"v": {"$blob": {"sha256": ["0" * 64], "bytes": 5, "rest": ""}}})
    before = sum(len(line) + 1 for line in lines_of(root, "t"))
    recorder.emit("t", {"p": text(40_000) * 2})
    recorder.emit("t", {"p": text(40_000) * 2})
    recorder.flush()
    assert verify(root).findings == []
    victim = blobs.list_blobs(root)[1]
    victim.path.unlink()
    (finding,) = verify(root).findings
    assert (finding.event_type, finding.offset) == ("t", before)
    assert finding.what == f"the blob {victim.sha256} is missing, which this line names; try: eventlog restore"


# -- backups -----------------------------------------------------------------------------------


def test_a_backup_has_the_chunks_and_restores_them(root: Path, tmp_path: Path, run: Run) -> None:
    """Only those that are new are copied; a log that is brought back reads as it was."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(100_000)})
    recorder.flush()
    first = run("backup", str(tmp_path / "copy"))
    assert f"copied 3 blobs ({3 * CHUNK:,} bytes); 0 there already" in first.stdout
    recorder.emit("t", {"p": text(140_000)})
    recorder.shutdown()
    assert "copied 1 blob (32,768 bytes); 3 there already" in run("backup", str(tmp_path / "copy")).stdout
    back = tmp_path / "back"
    restored = run("restore", str(tmp_path / "copy"), EVENTLOG_DIR=str(back))
    assert "restored 4 blobs; 0 there already" in restored.stdout
    assert files(back) == files(root)
    assert [json.loads(blobs.resolve(back, each)) for each in payloads(back, "t")] == [
        {"p": text(100_000)}, {"p": text(140_000)}
    ]  # fmt: skip
    assert "restored 0 blobs; 4 there already" in run("restore", str(tmp_path / "copy"), EVENTLOG_DIR=str(back)).stdout


def test_restoring_heals_damaged_chunks(root: Path, tmp_path: Path) -> None:
    """And lost ones; a backup does not copy the damage."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(100_000)})
    recorder.shutdown()
    place = Folder(tmp_path / "copy")
    backup(root, place, say=print)
    lost, changed, kept = (each.path for each in blobs.list_blobs(root))
    lost.unlink()
    changed.chmod(0o600)
    changed.write_bytes(b"x")
    done = backup(root, Folder(tmp_path / "other"), say=print)
    assert (done.blobs_copied, len(done.failures)) == (1, 1)
    assert str(changed) in done.failures[0]
    assert restore(root, place, dry_run=True).blobs_restored == 2
    assert not lost.exists()
    healed = restore(root, place)
    assert (healed.blobs_restored, healed.blobs_present, healed.failures) == (2, 1, [])
    assert json.loads(blobs.resolve(root, payloads(root, "t")[0])) == {"p": text(100_000)}
    assert kept.exists()


def test_a_damaged_backup_restores_the_rest(root: Path, tmp_path: Path) -> None:
    """And names what it could not."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(100_000)})
    recorder.shutdown()
    place = Folder(tmp_path / "copy")
    backup(root, place, say=print)
    victim = blobs.list_blobs(root)[0].sha256
    (tmp_path / "copy/blobs" / victim[:2] / victim).write_bytes(b"x")
    done = restore(tmp_path / "back", place)
    assert (done.blobs_restored, done.restored) == (2, 1)
    (failure,) = done.failures
    assert f"blobs/{victim[:2]}/{victim} is damaged" in failure


def test_a_place_that_does_not_keep_chunks_is_no_backup(root: Path, tmp_path: Path) -> None:
    """Each is read back; segments are not copied before all chunks are there."""

    class Forgetful(Folder):
        def put(self, key: str, data: Any) -> None:
            super().put(key, [b"x"] if key.startswith("blobs/") else data)

    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(100_000)})
    recorder.shutdown()
    place = Forgetful(tmp_path / "copy")
    with pytest.raises(BackupFailed, match="does not read back as it was sent"):
        backup(root, place, say=print)
    assert place.list("log") == []
    assert place.list("blobs") == []
