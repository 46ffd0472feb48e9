"""What stands at the names of eventlog's own files may be anything: nothing hangs, and nothing is followed out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.indexer.indexer import Indexer
from tests.conftest import Run

NAMES = [
    "index.duckdb", "index.duckdb.wal", "index.duckdb.replay", "index.turn", "index.gate", "index.replay.lock",
    "maintenance.lock", "alerts.lock", "search.lock", "search",
]  # fmt: skip
COMMANDS = [["index", "--search"], ["replay"], ["status"], ["doctor"], ["alerts", "check"], ["seal"]]


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(path.parent)  # a path of a socket has few characters
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


ODD: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "link that dangles": lambda path: path.symlink_to(path.parent.parent / "away"),
    "link in a circle": lambda path: path.symlink_to(path.name),
    "socket": _socket,
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_no_command_hangs_or_follows_what_is_no_file(run: Run, root: Path, name: str, kind: str) -> None:
    """One command per file and kind here; the campaign has them all."""
    obs.configure(root=root)
    obs.emit("t", {"n": 1})
    obs.shutdown()
    Indexer(root).catch_up()
    for left in root.glob(f"{name}*"):
        left.unlink()
    ODD[kind](root / name)
    command = COMMANDS[(NAMES.index(name) + list(ODD).index(kind)) % len(COMMANDS)]
    done = run(*command)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert not (root.parent / "away").exists()


@pytest.mark.parametrize("kind", ["FIFO", "folder", "socket", "link that dangles"])
def test_an_index_that_is_no_file_is_named(run: Run, root: Path, kind: str) -> None:
    """With what to try next."""
    obs.configure(root=root)
    obs.emit("t", {"n": 1})
    obs.shutdown()
    ODD[kind](root / "index.duckdb")
    done = run("index")
    assert done.returncode == 1
    what = "symbolic link" if kind.startswith("link") else kind
    assert (
        done.stderr
        == f"error: {root / 'index.duckdb'} is a {what}, not a file of eventlog's; move it away and try again\n"
    )


def test_what_is_exported_is_for_its_owner_alone(run: Run, root: Path, tmp_path: Path) -> None:
    """Whatever the umask is."""
    obs.configure(root=root)
    obs.emit("t", {"n": 1})
    obs.shutdown()
    Indexer(root).catch_up()
    before = os.umask(0)
    try:
        for kind in ("csv", "jsonl", "parquet"):
            assert run("export", "t", "--format", kind, "-o", str(tmp_path / kind)).returncode == 0
            assert (tmp_path / kind).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


HOSTILE = "a\x1b[31mb\x9bc\u202ed\u2028e\x07f"
_ALLOWED = set("\n\t")


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["doctor"], ["tail"], ["runs"], ["sessions"], ["search", "b"], ["insights"],
        ["metrics", "--by", "agent"], ["cost"], ["health"], ["sql", "SELECT * FROM events"],
        ["sql", "SELECT * FROM quarantine"],
        ["show", HOSTILE],
        ["sql", f"SELECT '{HOSTILE}' FROM none{HOSTILE}"], ["tail", HOSTILE], ["emit", HOSTILE], [HOSTILE],
        ["import", "jsonl", f"none{HOSTILE}"], ["verify"], ["alerts", "list"],
    ],
    ids=lambda command: command[0][:8],
)  # fmt: skip
def test_nothing_that_is_printed_can_drive_a_terminal(run: Run, root: Path, command: list[str]) -> None:
    """Names, values, file names and errors; joiners of letters stay."""
    obs.configure(root=root, agent=HOSTILE)
    with obs.run(HOSTILE) as recorded:
        recorded.tool_call(HOSTILE, arguments={HOSTILE: HOSTILE}, result="می\u200cخواهم")
        obs.error(RuntimeError(HOSTILE))
    obs.emit("x", {HOSTILE: HOSTILE}, session_id=HOSTILE)
    obs.shutdown()
    (root / "log" / "x" / f"{HOSTILE}.jsonl").write_text(f"{HOSTILE}\n")
    (root / "log" / HOSTILE).mkdir()
    done = run(*command)
    bad = {each for each in done.stdout + done.stderr if not each.isprintable() and each not in _ALLOWED}
    assert bad <= {"\u200c"}
