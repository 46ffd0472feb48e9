"""Other things under the names of a root's own files: no command hangs, follows links, or fails unexpectedly."""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from eventlog.cli.main import run
from eventlog.config import Config
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.maintenance import sealing
from eventlog.record.recorder import Recorder
from faults import children
from faults.campaign import Plan, fault

_COMMANDS = (
    "status", "doctor", "index --wait 1", "index --search", "search odd", "replay", "replay --verify", "seal",
    "verify", "archive", "runs", "tail", "health", "prune --older-than 1d --dry-run", "alerts check", "alerts list",
    "sql 'SELECT count(*) FROM events'",
    "emit odd {}", "emit big '{\"text\": \"%s\"}'" % ("large " * 20_000), "export evidence --format csv",
    "backup {beside}/backup", "restore {beside}/made", "import jsonl {beside}/source.jsonl",
    "alerts add r --kind sql --sql 'SELECT 1'",
)  # fmt: skip
_FILES = (
    "index.duckdb", "index.duckdb.wal", "index.duckdb.replay", "index.turn", "index.gate", "index.replay.lock",
    "maintenance.lock", "restore.lock", "alerts.lock", "alerts.toml", "origin", "blobs", "log", "log/evidence",
    "search.lock", "search", "SEGMENT",
)  # fmt: skip
#: So many of all pairs of a file and an odd thing, and so many commands over each: a campaign takes others.
_PLACES, _EACH = 40, 4
_BOUND_S = 60.0


def _socket(path: Path) -> None:
    # The path of a socket has few characters, and other threads need this process to stay in its folder.
    folder = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


_ODD: dict[str, Callable[[Path, Path], object]] = {
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": lambda path, _: _socket(path),
    "a link to nothing": lambda path, away: path.symlink_to(away / "nothing"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to a file elsewhere": lambda path, away: path.symlink_to(away / "file"),
    "a device": lambda path, _: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
}


def _healthy(root: Path, beside: Path) -> str:
    """Make a root with an index, a seal and blobs, and a backup of it; return the path of a segment."""
    recorder = Recorder(Config(root=str(root), strict=True, blob_min_bytes=1024))
    recorder.emit("evidence", {"text": "large " * 1000})
    recorder.emit("evidence", {"n": 1})
    recorder.shutdown()
    sealing.seal(root)
    Indexer(root).catch_up()
    beside.mkdir()
    (beside / "source.jsonl").write_text('{"a": 1}\n')
    said = beside / "said"
    children.finish(children.start(_run_all, [f"backup {beside / 'made'}"], str(root), str(said)), "a backup")
    Plan.check("= 0" in said.read_text(), f"a healthy root has no backup: {said.read_text()}")
    (segment,) = layout.list_type(root, "evidence")
    return str(segment.path.relative_to(root))


def _away(folder: Path) -> Path:
    folder.mkdir()
    (folder / "file").write_text("of somebody else\n")
    (folder / "file").chmod(0o640)
    return folder


def _state(folder: Path) -> list[tuple[str, int, str]]:
    return [
        (path.name, path.lstat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    ]


def _run_all(commands: list[str], root: str, said: str) -> None:
    """In a child: run commands one after the other; their output goes to a file."""
    null, fd = os.open(os.devnull, os.O_RDONLY), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, to in enumerate((null, fd, fd)):
        os.dup2(to, number)
    for command in commands:
        os.write(fd, f"\n$ {command[:100]}\n".encode())
        code = run([*shlex.split(command), "--root", root])
        os.write(fd, f"\n= {code}\n".encode())


class _Scene:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.source, self.beside = plan.root, plan.folder / "beside"
        self.segment = _healthy(self.source, self.beside)
        self.numbers = itertools.count()

    def try_one(self, job: tuple[str, str, list[str]]) -> int:
        """Put something odd at a name, and run some commands; return their number."""
        name, kind, commands = job
        folder = self.plan.folder / f"job{next(self.numbers)}"
        folder.mkdir()
        root, away, said = folder / "root", _away(folder / "away"), folder / "said"
        shutil.copytree(self.source, root, symlinks=True)
        path = root / (self.segment if name == "SEGMENT" else name)
        _remove(path)
        try:
            _ODD[kind](path, away)
        except PermissionError:  # only the superuser makes devices
            return 0
        before = _state(away)
        beside = folder / "beside"
        shutil.copytree(self.beside, beside)
        given = [each.replace("{beside}", str(beside)) for each in commands]
        child = children.start(_run_all, given, str(root), str(said))
        code = children.ended(child, _BOUND_S)
        if code is None:
            children.kill(child)
        text = said.read_text(errors="replace")
        what = f"{name} is {kind}"
        Plan.check(code is not None, f"{what}: not within {_BOUND_S:g} s: {text[-1000:]}")
        Plan.check(text.count("\n= ") == len(commands), f"{what}: the commands died with {code}: {text[-1500:]}")
        Plan.check("unexpected" not in text and "Traceback" not in text, f"{what}: an unforeseen error: {text[-3000:]}")
        Plan.check(_state(away) == before, f"{what}: something was made or changed elsewhere by {commands}")
        shutil.rmtree(folder)
        return len(commands)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@fault(
    "Odd things at the root's own names",
    "FIFOs, folders, sockets, links and devices for each file, under every command",
)
def odd_root_files(plan: Plan) -> str:
    scene = _Scene(plan)
    places = [(name, kind) for name in _FILES for kind in _ODD]
    plan.rng.shuffle(places)
    jobs = [(name, kind, plan.rng.sample(_COMMANDS, _EACH)) for name, kind in places[: plan.times(_PLACES)]]
    tried = sum(children.side_by_side(scene.try_one, jobs))
    return (
        f"{tried:,} runs of {len(_COMMANDS)} commands over {len(jobs):,} odd things: each ended within {_BOUND_S:g} s "
        "and foresaw what it met; nothing made or changed elsewhere"
    )
