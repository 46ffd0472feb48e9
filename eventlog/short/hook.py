"""`eventlog hook`: records what a hook of an agent program was told, as an `agent_hook` event.

The program waits for its hooks, and reads what they print: this one prints nothing, and ends with 0 whatever happens.
An event that the short way of `emit` does not take (it may hold a secret, say) is handed over to `eventlog emit`
in a process of its own, which redacts it.
"""

from __future__ import annotations

import posix as os
import sys

from eventlog.short import emit, stdin
from eventlog.short.settings import environment, plain_root

EVENT_TYPE = "agent_hook"
_WAIT_S = 5.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run(arguments: list[str]) -> NoReturn:
    """Record the event on standard input, and end the process."""
    try:
        _record(arguments[1] if arguments[:1] == ["--root"] and len(arguments) == 2 else None)
    finally:  # whatever happened: no hook of ours stops an agent, or tells it anything
        os._exit(0)


def _record(given_root: str | None) -> None:
    try:
        os.setsid()  # when the agent's terminal is closed, this event is recorded all the same
    except OSError:  # it leads a group of processes already
        pass
    told = stdin.read_object(_WAIT_S)
    if told is None:
        return
    text, members = told
    payload = text.replace("\n", " ").replace("\r", " ")  # between its parts: JSON has none inside of a text
    session_id = members.get("session_id")
    options = {"--session-id": session_id} if isinstance(session_id, str) and session_id.isprintable() else {}
    root = plain_root(given_root, environment())
    if root is None or emit.append(root, EVENT_TYPE, payload, options) is None:
        _hand_over(payload, options if given_root is None else {**options, "--root": given_root})


def _hand_over(payload: str, options: dict[str, str]) -> None:
    """Let `eventlog emit` record a payload, and wait for it."""
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "eventlog", "emit", EVENT_TYPE, "-"]
    command += [f"{name}={value}" for name, value in options.items()]
    child = os.fork()
    if child == 0:
        nowhere = os.open("/dev/null", os.O_RDWR)
        for fd, target in ((reader, 0), (nowhere, 1), (nowhere, 2)):
            os.dup2(fd, target)
        os.close(writer)
        os.execv(command[0], command)
    os.close(reader)
    with open(writer, "wb") as file:
        file.write(payload.encode("utf-8", "replace") + b"\n")
    os.waitpid(child, 0)
