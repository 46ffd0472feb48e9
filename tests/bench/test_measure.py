"""Children and what is learnt from them. How long they take is not looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench import case_live
from bench.machine import file_system
from bench.measure import Child, ChildFailed, Sample, call, environment, interleave, run

MEBIBYTE = 1024**2


def hold(mebibytes: int) -> dict[str, int]:
    """Called in a child: have so much memory for a moment."""
    return {"size": len(bytearray(os.urandom(MEBIBYTE) * mebibytes))}


def test_a_function_is_called_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What it returns comes back; its peak memory is its own, not ours."""
    mine = b"x" * (200 * MEBIBYTE)
    large, small = (call(hold, tmp_path, mebibytes=size) for size in (150, 1))
    del mine
    assert (large.value(), small.value()) == ({"size": 150 * MEBIBYTE}, {"size": MEBIBYTE})
    assert large.peak_bytes > 150 * MEBIBYTE
    assert small.peak_bytes < 120 * MEBIBYTE
    assert small.elapsed_s > 0


def test_a_child_that_fails_is_told_by_its_last_words(tmp_path: Path) -> None:
    """With the name of the program, not its path."""
    with pytest.raises(ChildFailed, match=r"ended with 3: no such thing$"):
        run([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], tmp_path)
    child = Child([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    with pytest.raises(ChildFailed, match=r"^python[0-9.]* did not end within 0.2 s$"):
        child.finish(0.2)


def test_children_see_nobody_s_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home instead."""
    monkeypatch.setenv("EVENTLOG_DIR", "/elsewhere")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/elsewhere")
    found = environment(tmp_path)
    assert "/elsewhere" not in found.values()
    assert found["HOME"] == str(tmp_path)


def test_sides_take_turns() -> None:
    """In both orders; the first rounds do not count."""
    order: list[str] = []

    def side(name: str) -> Sample:
        order.append(name)
        return Sample(float(len(order)), 0, b"")

    taken = interleave(2, {"a": lambda: side("a"), "b": lambda: side("b")})
    assert "".join(order) in ("baabba", "abbaab")
    assert {name: len(samples) for name, samples in taken.items()} == {"a": 2, "b": 2}
    assert min(sample.elapsed_s for samples in taken.values() for sample in samples) == 3


def test_an_event_is_as_fresh_as_the_first_read_that_has_it() -> None:
    """Rows of a producer are its first events."""
    ms = 1_000_000
    returned = {"one": [1 * ms, 2 * ms, 3 * ms], "two": [5 * ms]}
    seen = [(1 * ms, {}), (10 * ms, {"one": 2}), (12 * ms, {"one": 2, "two": 1}), (20 * ms, {"one": 3, "two": 1})]
    assert sorted(case_live._waits_ms(returned, seen)) == [7, 8, 9, 17]


def test_file_systems_have_names(tmp_path: Path) -> None:
    """Where the kernel says."""
    if Path("/proc/self/mountinfo").exists():
        assert file_system(tmp_path)
        assert file_system(Path("/proc")) == "proc"
