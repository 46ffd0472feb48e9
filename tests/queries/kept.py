"""Asking in processes of their own, and seeing which answers were kept ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from eventlog.short import answers
from tests import terminals

#: What `mark` puts behind each kept answer.
MARK = b"(kept)"


class Asker:
    """Asks about a root, with variables of its own; standard output and standard error as bytes."""

    def __init__(self, root: Path | None, **environment: str) -> None:
        self.root_option = [] if root is None else ["--root", str(root)]
        self.environment = environment
        self.folder: Path | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "eventlog", *arguments, *self.root_option]

    def ask(self, *arguments: str, **environment: str) -> tuple[int, bytes, bytes]:
        """Ask once; the answer may be a kept one."""
        done = subprocess.run(
            self.command(*arguments), env={**os.environ, **self.environment, **environment}, cwd=self.folder,
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ask_in_full(self, *arguments: str) -> tuple[int, bytes, bytes]:
        """Ask without kept answers."""
        return self.ask(*arguments, EVENTLOG_KEEP_ANSWERS="false")

    def show(self, *arguments: str, columns: int, **environment: str) -> str:
        """Ask in a terminal of this width; the answer may be a kept one."""
        variables = {**os.environ, "TERM": "xterm", **self.environment, **environment}
        return terminals.shown(self.command(*arguments), variables, columns=columns, folder=self.folder)

    def uses_kept(self, *arguments: str) -> bool:
        """Say whether the next answer is a kept one. Leaves none."""
        mark()
        try:
            _, told, _ = self.ask(*arguments)
            return MARK in told
        finally:
            for path in files():
                path.unlink()


def files() -> list[Path]:
    """The files of kept answers."""
    folder = answers.folder()
    assert folder is not None
    return sorted(path for path in Path(folder).iterdir() if len(path.name) == 40) if Path(folder).is_dir() else []


def mark() -> None:
    """Change all kept answers, so that they can be told from others."""
    for path in files():
        _, _, body = path.read_bytes().partition(b"\n")
        rewrite(path, body + b"1 %d %b" % (len(MARK), MARK))


def rewrite(path: Path, body: bytes) -> None:
    """Write the content of a kept answer with the hash that belongs to it."""
    path.write_bytes(answers.digest(body).encode() + b"\n" + body)


def settle() -> None:
    """Wait until what was written before is old enough to show a later change."""
    time.sleep(0.15)


def within_one_minute() -> Iterator[None]:
    """Yield until a block was done within one minute of the clock."""
    while True:
        minute = int(time.time() // 60)
        yield
        if int(time.time() // 60) == minute:
            return
