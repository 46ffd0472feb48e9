"""The generator: repeatable, valid, and of the sizes that agents produce."""

from __future__ import annotations

import hashlib
import statistics
import zlib
from pathlib import Path

import msgspec
import pytest

from bench import generator
from bench.generator import EVENTS
from eventlog.format import envelope, schemas
from eventlog.log import layout

EVENTS_MADE = 3000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small log for all questions."""
    root = tmp_path_factory.mktemp("generated")
    generator.generate(root, EVENTS_MADE, seed=1, processes=1)
    return root


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.jsonl"))
    }


def lines(root: Path) -> list[bytes]:
    return [line for path in sorted(root.rglob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """In files of the same names; another seed gives others."""
    generator.generate(tmp_path / "same", EVENTS_MADE, seed=1, processes=1)
    generator.generate(tmp_path / "other", EVENTS_MADE, seed=2, processes=1)
    assert contents(tmp_path / "same") == contents(made)
    assert not set(contents(tmp_path / "other").values()) & {
        digest for name, digest in contents(made).items() if "event_schema" not in name
    }


def test_more_processes_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards depend on nothing but the seed and their number."""
    monkeypatch.setattr(generator, "SHARD_EVENTS", 500)
    generator.generate(tmp_path / "one", 1200, seed=3, processes=1)
    generator.generate(tmp_path / "two", 1200, seed=3, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_shorter_log_is_the_beginning_of_a_longer_one(made: Path, tmp_path: Path) -> None:
    """So that a log can grow."""
    generator.generate(tmp_path, 1000, seed=1, processes=1)
    for path in tmp_path.rglob("*.jsonl"):
        assert (made / path.relative_to(tmp_path)).read_bytes().startswith(path.read_bytes())


def test_every_segment_and_line_is_valid(made: Path) -> None:
    """And every payload is what its registered struct says, in the folder of its type."""
    listing = layout.list_log(made)
    assert not listing.skipped
    seen = set()
    for segment in listing.segments:
        for line in segment.path.read_bytes().splitlines():
            found, extra = envelope.decode(line)
            assert (found.event_type, extra) == (segment.event_type, None)
            seen.add(found.event_id)
            registered = schemas.of_name(found.event_type)
            if registered is not None:
                typed = msgspec.json.decode(found.payload, type=registered.struct)
                assert set(found.data()) <= set(typed.__struct_fields__)
    assert len(seen) == EVENTS_MADE + len(EVENTS)


def test_sizes_are_those_of_agents(made: Path) -> None:
    """About 800 bytes on average, most below that, and a long tail."""
    sizes = sorted(map(len, lines(made)))
    assert 700 < statistics.mean(sizes) < 1000
    assert statistics.median(sizes) < 600
    assert sizes[-1] > 8_000


def test_text_is_unique_and_compresses_like_prose(made: Path) -> None:
    """A repeated string would flatter every index."""
    prompts = [
        msgspec.json.decode(line)["payload"]["input_messages"]
        for line in lines(made)
        if b'"event_type":"llm_call"' in line
    ]
    assert len(set(prompts)) > 0.98 * len(prompts)
    text = "\n".join(prompts).encode()
    assert 2.2 < len(text) / len(zlib.compress(text)) < 3.6


def test_segments_are_left_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a producer does."""
    monkeypatch.setattr(generator, "SEGMENT_MAX_BYTES", 200_000)
    monkeypatch.setattr(generator, "_FLUSH_BYTES", 50_000)
    generator.generate(tmp_path, 2000, seed=1, processes=1)
    sizes = [path.stat().st_size for path in (tmp_path / "log/llm_call").iterdir()]
    assert len(sizes) > 2
    assert max(sizes) <= 200_000 + 120_000


def test_a_disk_without_room_is_named_beforehand(tmp_path: Path) -> None:
    """With what could be done."""
    with pytest.raises(OSError, match=r"are needed and .* are free; give a smaller --scale"):
        generator.generate(tmp_path / "root", 10**12, seed=1)
    assert not list((tmp_path / "root").iterdir())
