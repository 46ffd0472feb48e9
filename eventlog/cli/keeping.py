"""Keeping answers for `eventlog.short.answers`: what a command writes, what that rests on, and until when it holds.

    begin          the console command starts; from now on its output is copied
    rests_on       a file or a folder that the answer depends on, before it is read
    ends           a moment at which the answer may become another; the earliest counts
    is_kept        a command that has told all this; nothing is kept unless one says so
    is_not_kept    something that nobody can look at later: the clock, another process, what was said only this once
    end            it has ended well: the answer is kept, if all that it rests on is as it was

Nothing here fails: an answer that cannot be kept is one that is not kept (docs/decisions/0045).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TextIO

from eventlog.short import answers
from eventlog.short.answers import FILE_MAX_BYTES, INDEX, STAT

#: Answers that are kept; the oldest one goes. A file of one has FILE_MAX_BYTES at most.
ANSWERS_MAX = 64
#: No answer holds for more than a day. What a process was killed over is removed sooner than what holds no longer.
_HOLDS_MAX_NS = 86_400 * 1_000_000_000
_MAX_AGE_S, _PART_MAX_AGE_S = 2 * 86_400, 3600
#: A folder with more than this in it is not one of ours any more.
_ENTRIES_MAX = 1000
#: Of a file that was changed this shortly before, a later change may not be seen: clocks of files have ticks of 10 ms
#: at most, some of whole seconds.
_TICK_NS, _COARSE_TICK_NS = 100_000_000, 2_500_000_000
_NAME = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"[0-9a-f]{40}\.[0-9]+\.part")
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = f"{os.sep}site-packages{os.sep}"


class _Copied(io.BufferedIOBase):
    """A standard stream that remembers what was written to it, in the order of both."""

    def __init__(self, stream: IO[bytes], answer: _Answer, fd: int) -> None:
        self._stream, self._answer, self._fd = stream, answer, fd
        self.name = stream.name

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data)
        self._answer.add_part(self._fd, text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class _Answer:
    """An answer that is being given."""

    def __init__(self, arguments: list[str], question: str) -> None:
        self.began_ns = time.time_ns()
        self.is_kept, self.is_complete = True, False
        self._arguments, self._question = arguments, question
        self._until_ns = self.began_ns + _HOLDS_MAX_NS
        self._parts: list[tuple[int, bytes]] = []
        self.written_bytes = 0
        self._rests_on: dict[tuple[str, str], str] = {}

    def copied(self, stream: TextIO, fd: int) -> TextIO:
        """Return a stream in the place of a standard stream."""
        return io.TextIOWrapper(
            _Copied(stream.buffer, self, fd), stream.encoding, stream.errors,
            line_buffering=stream.isatty(), write_through=True,
        )  # fmt: skip

    def add_part(self, fd: int, text: bytes) -> None:
        self.written_bytes += len(text)
        if self.written_bytes > FILE_MAX_BYTES:
            self.is_kept = False
        elif self._parts and self._parts[-1][0] == fd:
            self._parts[-1] = (fd, self._parts[-1][1] + text)
        else:
            self._parts.append((fd, text))

    def rests_on(self, kind: str, path: str) -> None:
        """Take down the state of a path, unless it is so fresh that a later change might not show."""
        if not self.is_kept or (kind, path) in self._rests_on:
            return
        try:
            state = answers.state(kind, path)
        except (OSError, ValueError, ImportError):
            self.is_kept = False
            return
        if kind == STAT and state != "-":
            changed_ns = max(int(text) for status in state.split(",") for text in status.split(":")[-2:])
            tick_ns = _TICK_NS if changed_ns % 1_000_000_000 else _COARSE_TICK_NS
            self.is_kept = changed_ns < self.began_ns - tick_ns
        self._rests_on[kind, path] = state

    def ends(self, moment_ns: int) -> None:
        self._until_ns = min(self._until_ns, moment_ns)

    def finished(self) -> tuple[str, bytes] | None:
        """Return name and content of the file, if the answer may be kept. Raises OSError, ValueError, ImportError."""
        now_ns = time.time_ns()
        if not self.is_complete or not self.began_ns <= now_ns < self._until_ns:
            return None
        told = dict(self._rests_on)
        for path in _program():
            self.rests_on(STAT, path)
        rests_on = [(kind, state, path) for (kind, path), state in self._rests_on.items()]
        content = answers.encode(now_ns, self._until_ns, rests_on, self._parts)
        is_as_it_was = (
            all(answers.state(kind, path) == state for (kind, path), state in told.items())
            and answers.question(self._arguments) == self._question
        )
        return (self._question, content) if self.is_kept and is_as_it_was and len(content) <= FILE_MAX_BYTES else None


_current: _Answer | None = None


def begin(arguments: list[str]) -> None:
    """Copy from now on what the console command writes, if it is one whose answers are kept."""
    global _current
    if arguments[:1] and arguments[0] in answers.COMMANDS and sys.stdout is not None and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError, ImportError):
            question = answers.question(arguments)
            if question is not None:
                _current = _Answer(arguments, question)
                sys.stdout, sys.stderr = _current.copied(sys.stdout, 1), _current.copied(sys.stderr, 2)


def is_on() -> bool:
    """Say whether this answer may still be kept: what is only asked for that need not be asked otherwise."""
    return _current is not None and _current.is_kept


def began() -> float:
    """Return when the command was called, in seconds since the epoch; now, where nothing is kept."""
    return time.time() if _current is None else _current.began_ns / 1e9


def written_bytes() -> int:
    """Return how much was written so far."""
    return 0 if _current is None else _current.written_bytes


def rests_on(*paths: str | Path) -> None:
    """Say that an answer depends on files or folders, which may be missing; to be called before they are read."""
    if _current is not None:
        for path in paths:
            _current.rests_on(STAT, os.path.abspath(path))


def rests_on_index(path: Path) -> None:
    """Say that an answer depends on an index, which this process has not open."""
    if _current is not None:
        _current.rests_on(INDEX, os.path.abspath(path))


def ends(*moments: datetime) -> None:
    """Say until when an answer holds if nothing changes; of all moments that are named, the earliest counts."""
    if _current is not None:
        for moment in moments:
            _current.ends(int(moment.timestamp() * 1e9))


def is_kept() -> None:
    """Say that all is told that this answer depends on."""
    if _current is not None:
        _current.is_complete = True


def is_not_kept() -> None:
    """Say that an answer depends on what nobody can look at later."""
    if _current is not None:
        _current.is_kept = False


def end(code: int) -> None:
    """Keep the answer, if the command ended well, said until when it holds, and all that it rests on is as it was."""
    global _current
    answer, _current = _current, None
    if answer is None or code != 0:
        return
    with contextlib.suppress(OSError, ValueError, ImportError):
        finished = answer.finished()
        if finished is not None:
            _write(*finished)


def _program() -> Iterable[str]:
    """Yield the files that this program was loaded from, and the folders where it looks for more."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for path in sorted(file for file in files if isinstance(file, str)):
        if not path.startswith(_STANDARD_LIBRARY) or _INSTALLED in path:
            yield path
    yield from (path for path in sys.path if os.path.isdir(path))


# -- files -----------------------------------------------------------------------------------


def _write(name: str, content: bytes) -> None:
    path = answers.folder()
    if path is None:
        return
    os.makedirs(path, mode=0o700, exist_ok=True)
    folder = answers.open_folder()
    if folder is None:
        return
    try:
        if not _has_room(folder):
            return
        part = f"{name}.{os.getpid()}.part"
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with open(file, "wb") as opened:
                opened.write(content)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(part, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _has_room(folder: int) -> bool:
    """Remove answers that hold no longer, the oldest ones, and parts of files; say whether there is room for one."""
    entries = os.listdir(folder)
    if len(entries) > _ENTRIES_MAX:
        return False
    answers_ = sorted((_age_s(folder, entry), entry) for entry in entries if _NAME.fullmatch(entry))
    old = [entry for at, (age_s, entry) in enumerate(answers_) if age_s > _MAX_AGE_S or at + 1 >= ANSWERS_MAX]
    old += [entry for entry in entries if _PART.fullmatch(entry) and _age_s(folder, entry) > _PART_MAX_AGE_S]
    for entry in old:
        with contextlib.suppress(OSError):  # gone, or something else under that name
            os.unlink(entry, dir_fd=folder)
    return True


def _age_s(folder: int, entry: str) -> float:
    try:
        return time.time() - os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
