"""`eventlog tail`: what it chooses, and how it follows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import Run


def test_tail_chooses_by_time_type_and_number(run: Run) -> None:
    """The newest ten by default, in order of time."""
    for n in range(12):
        run("emit", "a" if n % 2 else "b", json.dumps({"n": n}), "--timestamp", f"2026-01-01T00:{n:02d}:00Z")

    def ns(*arguments: str) -> list[int]:
        return [json.loads(line)["payload"]["n"] for line in run("tail", *arguments).stdout.splitlines()]

    assert ns() == list(range(2, 12))
    assert ns("-n", "3") == [9, 10, 11]
    assert ns("-n", "0") == []
    assert ns("a", "-n", "2") == [9, 11]
    assert ns("--since", "2026-01-01T00:05:00Z") == [5, 6, 7, 8, 9, 10, 11]
    assert ns("--since", "2026-01-01T00:05:00Z", "-n", "2") == [10, 11]
    assert ns("--until", "2026-01-01T00:02:00Z") == [0, 1]
    assert ns("--until", "2026-01-01T00:06:00Z", "-n", "2") == [4, 5]
    assert ns("--since", "1h") == []
    run("emit", "a", '{"n": 99}')
    assert ns("--since", "1m") == [99]


def test_tail_follows(run: Run, root: Path) -> None:
    """From the last events on, each new one as it comes; Ctrl-C ends it."""
    run("emit", "t", '{"n": 0}')
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "tail", "--follow", "--root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    run("emit", "t", '{"n": 1}')
    run("emit", "u", '{"n": 2}')
    lines = [first, process.stdout.readline(), process.stdout.readline()]
    assert [json.loads(line)["payload"]["n"] for line in lines] == [0, 1, 2]
    process.send_signal(2)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.strip()) == (130, b"")


def test_tail_looks_past_what_is_no_event(run: Run, root: Path) -> None:
    """Lines that are in quarantine do not count."""
    run("emit", "t", '{"n": 1}')
    (path,) = (root / "log/t").iterdir()
    with path.open("a") as file:
        file.write("nonsense\n" * 50)
    assert json.loads(run("tail", "-n", "1").stdout)["payload"] == {"n": 1}


def test_following_shows_no_line_twice(run: Run, root: Path) -> None:
    """Although events come while the first ones are chosen."""
    run("emit", "t", "-", stdin='{"n":0}\n' * 3000)
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "tail", "-f", "--since", "1h", "--root", str(root)], stdout=subprocess.PIPE
    )
    for n in range(5):
        run("emit", "t", json.dumps({"n": n}))
    assert process.stdout is not None
    ids = [json.loads(process.stdout.readline())["event_id"] for _ in range(3005)]
    process.kill()
    rest, _ = process.communicate(timeout=20)
    assert (len(set(ids)), rest) == (3005, b"")


def test_tail_of_a_type_that_is_not_there_says_what_is(run: Run) -> None:
    """On standard error."""
    run("emit", "here")
    done = run("tail", "nosuch")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no events of type nosuch; there are: here\n")
