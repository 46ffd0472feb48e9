"""`eventlog statusline`: one line about a session of Claude Code, for the foot of its terminal.

Claude Code runs it after each answer, with an object of JSON on standard input, and shows what it prints; it shows
nothing where the exit code is not 0. So it prints a line and ends with 0, whatever it was given. What today cost stands
in a small file, which `eventlog cost` keeps; where that is old, this starts `eventlog cost` in the background.
"""

from __future__ import annotations

import posix as os
import select
import stat
import sys
import time

from eventlog.short import json_object, stdin
from eventlog.short.settings import environment, plain_root

#: Below the root: `{"day":"2026-01-31","cost_usd":"4.93","unpriced_calls":0}`, the day being one of the local zone.
TODAY_FILE = "cost-today.json"
#: Below the root: when `eventlog cost` was last started from here.
_ASKED_FILE = "cost-today.asked"
#: Below the root: that `eventlog cost` imports, which the user was told (eventlog.cli.agents).
_INTRODUCED_FILE = "agents.introduced"
_TODAY_MAX_AGE_S = 60.0
_TODAY_MAX_BYTES = 4096
#: Without a figure of today, wait for one as long as this; else show the last one.
_TODAY_WAIT_S = 5.0
_INPUT_WAIT_S = 1.0
_NAME_MAX_CHARS = 40
_NOTHING = "eventlog"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run(arguments: list[str]) -> None:
    """Print the line and end the process; return where the full way has to find the root, or was asked for more."""
    if not arguments or (len(arguments) == 2 and arguments[0] == "--root"):
        root = plain_root(arguments[1] if arguments else None, environment())
        if root is not None:
            show(root, arguments, imports=True)


def show(root: str | None, root_option: list[str], *, imports: bool = False) -> NoReturn:
    """Print the line, with what today cost in a root, and end the process.

    `root_option` is as it was given: empty, or `["--root", …]`. With `imports`, and where the user was told so before,
    what Claude Code wrote meanwhile is imported before that is summed up.
    """
    text = _NOTHING
    try:
        told = stdin.read_object(_INPUT_WAIT_S)
        session = {} if told is None else told[1]
        text = line(session, None)
        text = line(session, None if root is None else _today(root, root_option, imports))
    finally:
        _end(text)


def _end(text: str) -> NoReturn:
    try:
        os.write(1, f"{text}\n".encode("utf-8", "replace"))
    finally:  # an exit code that is not 0 would blank the line
        os._exit(0)


def line(session: dict[str, object], today: str | None) -> str:
    """Return the line for what Claude Code says of a session; `today` is a part of it."""
    cost, block = (
        _number(session, "cost", "total_cost_usd"),
        _number(session, "rate_limits", "five_hour", "used_percentage"),
    )
    context = _context(session)
    parts = (
        _name(session),
        None if context is None else f"context {context:.0f}%",
        None if cost is None else f"{_usd(cost)} session",
        today,
        None if block is None else f"5-hour limit {block:.0f}%",
    )
    return " · ".join(part for part in parts if part) or _NOTHING


def _name(session: dict[str, object]) -> str | None:
    name = _at(session, "model", "display_name") or _at(session, "model", "id")
    if not isinstance(name, str):
        return None
    name = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name.strip())
    return name if len(name) <= _NAME_MAX_CHARS else f"{name[: _NAME_MAX_CHARS - 1]}…"


def _context(session: dict[str, object]) -> float | None:
    """Return how much of the context window is used, in percent; older versions say it in tokens only."""
    used = _number(session, "context_window", "used_percentage")
    if used is not None:
        return used
    size = _number(session, "context_window", "context_window_size")
    kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    counts = [_number(session, "context_window", "current_usage", kind) for kind in kinds]
    return None if not size or counts[0] is None else 100 * sum(count or 0 for count in counts) / size


def _at(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(session: dict[str, object], *names: str) -> float | None:
    """Return an amount that makes sense; None for anything else."""
    value = _at(session, *names)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _usd(amount: float) -> str:
    """Return an amount in cents; below a cent with two digits more, so that only nothing reads as zero."""
    if 0 < amount < 0.01:
        return f"${amount:.4f}" if amount >= 0.0001 else "under $0.0001"
    return f"${amount:,.2f}"


# -- today -----------------------------------------------------------------------------------


def _today(root: str, root_option: list[str], imports: bool) -> str | None:
    """Return what today cost: `$4.93 today`, with a + where calls have no price; None where nobody knows yet."""
    cost, age_s = _read_today(root)
    if age_s > _TODAY_MAX_AGE_S:
        running = _ask(root, root_option, imports)
        if running is not None and cost is None:
            select.select([running], [], [], _TODAY_WAIT_S)
            cost, _ = _read_today(root)
    return cost


def _read_today(root: str) -> tuple[str | None, float]:
    """Return what the file says of today, and its age in seconds; None where it is of another day, or unusable."""
    try:
        fd = os.open(f"{root}/{TODAY_FILE}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            data = os.read(fd, _TODAY_MAX_BYTES) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(fd)
        content = json_object.parsed(data.decode()) or {}
        age_s = time.time() - status.st_mtime
        if content.get("day") != "{:04}-{:02}-{:02}".format(*time.localtime()[:3]):
            return None, age_s
        cost = _usd(float(str(content["cost_usd"])))
        return f"{cost}{'+' if content.get('unpriced_calls') else ''} today", age_s if age_s >= 0 else float("inf")
    except (OSError, ValueError, KeyError):
        return None, float("inf")


def _ask(root: str, root_option: list[str], imports: bool) -> int | None:
    """Start `eventlog cost` unless that was done a moment ago; return a descriptor that ends when it does."""
    path = f"{root}/{_ASKED_FILE}"
    if not _exists(f"{root}/log"):
        return None
    try:
        if 0 <= time.time() - os.lstat(path).st_mtime < _TODAY_MAX_AGE_S:
            return None
    except FileNotFoundError:
        pass
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    os.utime(path)
    midnight = "{:04}-{:02}-{:02}".format(*time.localtime()[:3])
    command = [sys.executable, "-P", "-m", "eventlog", "cost", "daily", "--since", midnight, "--json", *root_option]
    variables = environment()
    if imports and _exists(f"{root}/{_INTRODUCED_FILE}"):
        variables["EVENTLOG_IMPORT_AGENTS"] = "true"
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        nowhere = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.set_inheritable(writer, True)
        os.execve(command[0], command, variables)
    os.close(writer)
    return reader


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
