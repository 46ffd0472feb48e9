"""Kept answers: a question that was asked before is answered from a file, while all that this rests on is as it was.

    <cache>/eventlog/answers/<hash of the question>      the folder is 0700, a file 0600

    <hash of the rest>
    <kept at, ns since the epoch>
    <holds until, ns since the epoch>
    s <what stat(2) says> <path>                    for each file and folder that the answer rests on
    i <the same, and a hash of the headers> <path>  for an index
    (an empty line)
    1 <length> <bytes …>                            what was written to standard output, 2: to standard error

The question is the command line with all that it is asked in: folder, variables, user, terminal, Python. A variable may
hold a secret, so only the hash is written. `eventlog.cli.keeping` keeps answers; here is what both need. Whatever is
not certain is no kept answer: then the full way answers.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from eventlog.version import __version__

#: The commands whose answers are kept.
COMMANDS = ("cost", "metrics", "runs", "sessions", "today")
FILE_MAX_BYTES = 1024 * 1024
STAT, INDEX = "s", "i"
#: Variables that say nothing to a program, and differ from call to call.
_IGNORED = frozenset({b"_", b"SHLVL", b"OLDPWD"})
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
#: DuckDB's headers: of the file, and two of the database, of which each commit writes one with a higher number.
_HEADERS_BYTES = 3 * 4096

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run(arguments: list[str]) -> None:
    """Write the kept answer to a command line and end the process; return where there is none that holds."""
    try:
        name = question(arguments)
        found = None if name is None else _found(name, time.time_ns())
    except (OSError, ValueError, ImportError):
        return
    if found is not None:
        _end(found)


def _end(parts: list[tuple[int, bytes]]) -> NoReturn:
    code = 0
    try:
        for fd, data in parts:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:  # the reader is gone, which is no error (eventlog.cli.main)
        pass
    except OSError as error:
        code = 1
        os.write(2, f"error: {error.strerror}\n".encode())
    finally:
        os._exit(code)


# -- questions -------------------------------------------------------------------------------


def question(arguments: list[str]) -> str | None:
    """Return the hash of a command line and of all that it is asked in; None where nobody reads the answer.

    Raises OSError and ImportError.
    """
    streams = [_stream(fd) for fd in (0, 1, 2)]
    if streams[1] in ("closed", "device"):  # the command is run for what it does besides
        return None
    environment = sorted((name, value) for name, value in os.environb.items() if name not in _IGNORED)
    parts = (
        __version__, __file__, sys.executable, sys.version, tuple(sys.flags), sys.path, os.getcwdb(), arguments,
        os.getuid(), os.geteuid(), os.getegid(), environment, streams,
    )  # fmt: skip
    return digest(repr(parts).encode("utf-8", "surrogateescape"))


def _stream(fd: int) -> str:
    """Return what may change an answer about a standard stream: whether it is a terminal, and of which size."""
    try:
        if os.isatty(fd):
            return "{}x{}".format(*os.get_terminal_size(fd))
        mode = os.fstat(fd).st_mode
    except OSError:
        return "closed"
    return "device" if stat.S_ISCHR(mode) else "file"


def digest(data: bytes) -> str:
    """Return a hash as 40 hexadecimal digits. `hashlib` takes longer to load than all else here. Raises ImportError."""
    from _blake2 import blake2b  # noqa: PLC0415 - a module of its own, which a Python may be built without

    return blake2b(data, digest_size=20).hexdigest()


# -- what answers rest on --------------------------------------------------------------------


def state(kind: str, path: str) -> str:
    """Return the state of a file, a folder or an index, as far as it can be seen without reading; `-` for none.

    Of a link, it is also the state of what it leads to. Raises OSError where that cannot be seen.
    """
    try:
        status = os.lstat(path)
        text = _status(status)
        if stat.S_ISLNK(status.st_mode):
            text += f",{_status(os.stat(path))}"
    except (FileNotFoundError, NotADirectoryError):
        return "-"
    return f"{text},{digest(_headers(path))}" if kind == INDEX else text


def _status(status: os.stat_result) -> str:
    return (
        f"{status.st_dev}:{status.st_ino}:{status.st_mode}:{status.st_uid}:{status.st_gid}:{status.st_size}:"
        f"{status.st_mtime_ns}:{status.st_ctime_ns}"
    )


def _headers(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, _HEADERS_BYTES)
    finally:
        os.close(fd)


# -- files -----------------------------------------------------------------------------------


def folder() -> str | None:
    """Return the path of the folder of answers; None for a user without a home folder."""
    home = os.environ.get("HOME", "")
    cache = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home.startswith("/") else "")
    return f"{cache}/eventlog/answers" if cache.startswith("/") else None


def open_folder() -> int | None:
    """Open the folder of answers; None where there is none that belongs to this user alone. Raises OSError."""
    path = folder()
    if path is None:
        return None
    try:
        fd = os.open(path, _FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if _is_private(os.fstat(fd)):
        return fd
    os.close(fd)
    return None


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _read(name: str) -> bytes | None:
    folder_fd = open_folder()
    if folder_fd is None:
        return None
    try:
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    finally:
        os.close(folder_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status) or status.st_size > FILE_MAX_BYTES:
            return None
        return os.read(fd, FILE_MAX_BYTES)
    finally:
        os.close(fd)


def encode(kept_ns: int, until_ns: int, rests_on: list[tuple[str, str, str]], parts: list[tuple[int, bytes]]) -> bytes:
    """Return the content of a file; `rests_on` are (kind, state, path), `parts` (descriptor, what was written to it).

    Raises ImportError, and ValueError for a path that cannot stand in a line.
    """
    if any("\n" in path for _, _, path in rests_on):
        raise ValueError("a path of several lines")
    lines = [str(kept_ns), str(until_ns), *(" ".join(each) for each in rests_on), "", ""]
    body = "\n".join(lines).encode("utf-8", "strict")
    body += b"".join(b"%d %d %b" % (fd, len(data), data) for fd, data in parts)
    return digest(body).encode() + b"\n" + body


def _found(name: str, now_ns: int) -> list[tuple[int, bytes]] | None:
    """Return what a kept answer says, if it still holds. Raises OSError and ValueError."""
    content = _read(name)
    if content is None:
        return None
    claimed, _, body = content.partition(b"\n")
    if claimed != digest(body).encode():  # torn by a power cut
        return None
    head, _, rest = body.partition(b"\n\n")
    kept_ns, until_ns, *rests_on = head.decode().split("\n")
    if not int(kept_ns) <= now_ns < int(until_ns):
        return None
    for line in rests_on:
        kind, was, path = line.split(" ", 2)
        if state(kind, path) != was:
            return None
    return _parts(rest)


def _parts(rest: bytes) -> list[tuple[int, bytes]]:
    parts = []
    while rest:
        fd, length, rest = rest.split(b" ", 2)
        parts.append((int(fd), rest[: int(length)]))
        rest = rest[int(length) :]
    return parts
