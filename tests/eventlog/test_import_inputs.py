"""What `eventlog import jsonl` reads: files, folders, patterns, standard input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import PROJECT, lines_of

COMMAND = [sys.executable, "-m", "eventlog", "import", "jsonl", "--type", "t", "--root"]


def _import(root: Path, *names: str, stdin: bytes = b"", folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(root), *names], input=stdin.decode(), capture_output=True, text=True, cwd=folder, timeout=60,
        check=False,
    )  # fmt: skip


def _numbers(root: Path) -> list[int]:
    return sorted(json.loads(line)["payload"]["n"] for line in lines_of(root, "t"))


def _lines(*numbers: int) -> str:
    return "".join(f'{{"n":{number}}}\n' for number in numbers)


def _wait_for(root: Path, *numbers: int) -> None:
    until = time.monotonic() + 20
    while (found := _numbers(root) if (root / "log/t").exists() else []) != sorted(numbers):
        assert time.monotonic() < until, found
        time.sleep(0.05)


def test_a_folder_and_a_pattern_stand_for_their_files(root: Path, tmp_path: Path) -> None:
    """Each file once, and only such as hold lines of JSON."""
    logs = tmp_path / "logs"
    (logs / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.log", "a.log.1", "deep/b.jsonl", "c.ndjson", "readme.txt")):
        (logs / name).write_text(_lines(number))
    assert _import(root, "logs", folder=tmp_path).returncode == 0
    assert _numbers(root) == [0, 1, 2, 3]
    done = _import(root, "logs/*.log*", "logs", "logs/readme.txt", folder=tmp_path)
    assert (done.stdout, _numbers(root)) == (
        "5 files: 1 new event, 32 bytes imported before\n", [0, 1, 2, 3, 4]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "no file nothing;"), ("*.log", "no file *.log;"), ("empty", "no *.jsonl, ")]
)
def test_a_name_that_stands_for_nothing_is_an_error(root: Path, tmp_path: Path, name: str, said: str) -> None:
    """Before anything is imported."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.jsonl").write_text(_lines(1))
    done = _import(root, "good.jsonl", name, folder=tmp_path)
    assert (done.returncode, said in done.stderr) == (1, True)
    assert not (root / "log").exists()


def test_new_files_of_a_pattern_are_found_while_following(root: Path, tmp_path: Path) -> None:
    """And what stands there when it begins, or comes while it runs, is imported once."""
    (tmp_path / "a.log").write_text(_lines(1))
    process = subprocess.Popen([*COMMAND, str(root), str(tmp_path / "*.log*"), "--follow"], cwd=PROJECT)
    try:
        _wait_for(root, 1)
        (tmp_path / "b.log").write_text(_lines(2))
        _wait_for(root, 1, 2)
        (tmp_path / "a.log").rename(tmp_path / "a.log.1")
        (tmp_path / "a.log").write_text(_lines(1, 3))
        _wait_for(root, 1, 1, 2, 3)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert _numbers(root) == [1, 1, 2, 3]


def test_what_comes_through_a_pipe_is_imported_as_it_comes(root: Path) -> None:
    """A line stands in the log while the pipe is open; the last one needs no newline."""
    process = subprocess.Popen([*COMMAND, str(root), "-"], cwd=PROJECT, stdin=subprocess.PIPE)
    pipe: IO[bytes] | None = process.stdin
    assert pipe is not None
    pipe.write(_lines(1).encode())
    pipe.flush()
    _wait_for(root, 1)
    pipe.write(_lines(2).encode() + b'{"n":3}')
    pipe.close()
    assert process.wait(20) == 0
    assert _numbers(root) == [1, 2, 3]


def test_a_pipe_is_known_again_by_its_first_4_kib(root: Path) -> None:
    """What it has beyond that is new; a short one says too little, and is new each time."""
    long = _lines(*range(1000)).encode()
    for stdin, new in ((long, 1000), (long, 0), (long + _lines(5).encode(), 1), (b'{"n":1}\n', 1), (b'{"n":1}\n', 1)):
        assert f" {new:,} new event" in _import(root, "-", stdin=stdin).stdout
    assert len({json.loads(line)["event_id"] for line in lines_of(root, "t")}) == 1003


@pytest.mark.parametrize("more", [["--follow"], ["other.jsonl"]])
def test_a_pipe_is_read_alone(root: Path, more: list[str]) -> None:
    """It ends by itself, so that there is nothing to follow."""
    done = _import(root, "-", *more)
    assert (done.returncode, "standard input" in done.stderr) == (2, True)
