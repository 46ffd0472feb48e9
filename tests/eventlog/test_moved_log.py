"""A log that somebody moves, deletes or cuts under its writer, and descriptors that somebody closes.

What is emitted from then on is in the log that readers see, or counted as a drop and reported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog as obs
from eventlog.log import stream
from tests.conftest import lines_of


def _segment(root: Path) -> Path:
    [path] = (root / "log" / "t").glob("*.jsonl")
    return path


def _moved_and_linked(root: Path) -> None:
    (root / "log" / "t").rename(root / "aside")
    (root / "log" / "t").symlink_to(root / "aside")


def _replaced(root: Path) -> None:
    path = _segment(root)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"")


def _other_log(root: Path) -> None:
    (root / "log").rename(root / "old")
    (root / "log" / "t").mkdir(parents=True, mode=0o700)


def _written_to(root: Path) -> None:
    with _segment(root).open("ab") as file:
        file.write(b'{"half a line')


#: What somebody does, and whether the events before it are still to be seen.
DISASTERS: dict[str, Callable[[Path], object]] = {
    "log/ is renamed": lambda root: (root / "log").rename(root / "log.1"),
    "log/ is renamed, and another is there": _other_log,
    "the root is renamed": lambda root: root.rename(root.with_name("elsewhere")),
    "the root is deleted": shutil.rmtree,
    "log/ is deleted": lambda root: shutil.rmtree(root / "log"),
    "the folder of the type is renamed": lambda root: (root / "log" / "t").rename(root / "t"),
    "the folder of the type is deleted": lambda root: shutil.rmtree(root / "log" / "t"),
    "the folder is moved, and a link is there": _moved_and_linked,
    "the segment is renamed": lambda root: _segment(root).rename(root / "away.jsonl"),
    "the segment is deleted": lambda root: _segment(root).unlink(),
    "another file is in the segment's place": _replaced,
    "the segment is emptied": lambda root: os.truncate(_segment(root), 0),
    "somebody has written half a line behind it": _written_to,
    "the segment is cut inside a line": lambda root: os.truncate(_segment(root), 20),
}
#: A link that readers do not follow: nothing can be written there, which is counted and reported.
NOT_WRITABLE = {"the folder is moved, and a link is there"}
SETTINGS: dict[str, dict[str, Any]] = {
    "synced in the background": {"sync_interval_s": 0.02},
    "synced": {"durability": "synced"},
    "not synced": {"sync_interval_s": 0},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("case", DISASTERS)
def test_what_is_emitted_after_it_is_in_the_log_that_readers_see(
    case: str, settings: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those emitted just before the writer looked are written again."""
    monkeypatch.setattr(stream, "_CHECK_S", 0.05)
    obs.configure(root=root, **SETTINGS[settings])
    for n in range(3):
        obs.emit("t", {"n": n})
    obs.flush()
    DISASTERS[case](root)
    emitted = [n for n in range(10, 13) if obs.emit("t", {"n": n}) is not None]
    time.sleep(0.15)
    emitted += [n for n in range(13, 16) if obs.emit("t", {"n": n}) is not None]
    obs.flush()
    if case in NOT_WRITABLE:
        (root / "log" / "t").unlink()
        time.sleep(0.2)
        emitted += [n for n in range(16, 19) if obs.emit("t", {"n": n}) is not None]
        obs.flush()
    else:
        assert len(emitted) == 6
        assert obs.stats().lost == 0
    assert _numbers(root) >= set(emitted)
    assert obs.stats().last_error is not None or settings != "synced in the background"


def _numbers(root: Path) -> set[int]:
    """What whole lines say; one of them may be cut."""
    found = set()
    for line in lines_of(root, "t"):
        with suppress(ValueError):
            found.add(json.loads(line)["payload"]["n"])
    return found


def test_the_schemas_go_with_the_log_and_are_logged_again(root: Path) -> None:
    """The new log has them, too."""
    obs.configure(root=root, sync_interval_s=0.02)
    struct = obs.event("moved.reading")(msgspec.defstruct("MovedReading", [("n", int)], module=__name__))
    obs.emit(struct(1))
    obs.flush()
    (root / "log").rename(root / "log.1")
    obs.emit(struct(2))
    obs.flush()
    obs.emit(struct(3))
    obs.flush()
    assert len(lines_of(root, "event_schema")) == 1
    assert [json.loads(line)["payload"]["n"] for line in lines_of(root, "moved.reading")] == [2, 3]


_PROGRAM = """
import os, sys, time
import eventlog as obs

root, folder, then, settings = sys.argv[1:]
obs.configure(root=root, **eval(settings))
for n in range(5):
    obs.emit("t", {"n": n})
os.closerange(3, 4096)
own = []
if then != "nothing":
    own = [os.open(f"{folder}/own{k}", os.O_RDWR | os.O_CREAT | os.O_APPEND) for k in range(20)]
if then == "the very numbers are taken":
    segment = obs.recorder()._writer._streams["t"]._open
    own.append(os.dup2(own[0], segment._fd))
for n in range(5, 10):
    assert obs.emit("t", {"n": n})
    time.sleep(0.02)
assert obs.flush()
obs.shutdown()
for fd in own:
    os.write(fd, b"mine")
assert obs.stats().lost == 0
"""


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("then", ["nothing", "files are opened", "the very numbers are taken"])
def test_a_program_that_closes_all_descriptors_loses_no_event_and_none_of_its_own_files(
    then: str, settings: str, root: Path, tmp_path: Path
) -> None:
    """As a daemon does. Its next files do not get the numbers that segments had, unless it asks for them."""
    command = [sys.executable, "-c", _PROGRAM, str(root), str(tmp_path), then, repr(SETTINGS[settings])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert _numbers(root) == set(range(10))
    if then == "files are opened":
        assert {path.read_bytes() for path in tmp_path.glob("own*")} == {b"mine"}
    if then == "the very numbers are taken":  # nor are they closed
        assert (tmp_path / "own0").read_bytes().endswith(b"minemine")


def test_lines_that_nobody_has_any_more_are_counted_as_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than is remembered, cut off by somebody before they were synced: an `events_dropped` says how many."""
    monkeypatch.setattr("eventlog.log.segment._REMEMBERED_MAX_BYTES", 2000)
    obs.configure(root=root, sync_interval_s=0)
    obs.recorder()._writer.write("t", b"")
    for n in range(50):
        obs.emit("t", {"n": n, "pad": "x" * 80})
    os.truncate(_segment(root), 0)
    obs.flush()
    obs.emit("t", {"n": 50})
    there = {json.loads(line)["payload"]["n"] for line in lines_of(root, "t")}
    [told] = [json.loads(line)["payload"] for line in lines_of(root, "events_dropped")]
    assert told["event_types"] == {"t": 51 - len(there)}
    assert obs.stats().lost == told["count"] > 20
