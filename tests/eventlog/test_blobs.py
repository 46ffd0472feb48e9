"""Large fields are kept beside the log, each chunk once, and come back as they were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog.config import Config
from eventlog.errors import BackupFailed, BlobUnreadable, InvalidEvent
from eventlog.log import blobs
from eventlog.log.blob_store import BlobStore
from eventlog.maintenance.backup import backup
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.restore import restore
from eventlog.maintenance.verification import verify
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of
from tests.eventlog.chunks import CHUNK, files, payloads, text

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
    marked = json.loads(blobs.Resolver(root).resolve(payload, None, marked=True))
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
    chunk, line = found.findings
    assert (chunk.event_type, chunk.segment) == ("blobs", changed.name)
    assert line.event_type == "t"
    assert line.detail.startswith(
        f"this line names the blob {changed.name}, which cannot be read: {changed} is damaged"
    )
    assert str(changed) in found.findings[0].detail
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
    assert finding.detail == (
        f"this line names the blob {victim.sha256}, which cannot be read: {victim.path} is missing; "
        "bring it back with: eventlog restore"
    )


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
    assert (done.blobs_copied, len(done.failures)) == (1, 2)
    assert all("byte 0: this line names the blob" in failure for failure in done.failures)
    assert [str(path) in failure for path, failure in zip((lost, changed), done.failures, strict=True)] == [True, True]
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
