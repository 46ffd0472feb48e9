"""Forked children: a new process in milliseconds, without starting Python."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from faults.campaign import FaultFound
from faults.pace import Deadline


def in_child(work: Callable[[], object], *, timeout_s: float = 60) -> Any:
    """Run `work` in a forked child; return its result, converted by JSON. Raises FaultFound.

    The child ends without the exit handlers of this process. If it takes too long it counts as hanging, and is killed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os._exit(_work(work, writing))
    os.close(writing)
    try:
        answer = _read_all(reading, Deadline(timeout_s))
    finally:
        os.close(reading)
        if not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _end(pid)
        status = os.waitpid(pid, 0)[1]
    if answer is None:
        raise FaultFound(f"a child took longer than {timeout_s:g} s")
    if os.waitstatus_to_exitcode(status):
        raise FaultFound(f"a child ended with {os.waitstatus_to_exitcode(status)}: {answer.decode()[-3000:]}")
    return json.loads(answer)


def _work(work: Callable[[], object], writing: int) -> int:
    code = 0
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # finalizers complain of calls that fail there
    try:
        answer = json.dumps(work())
    except BaseException:  # noqa: BLE001 - whatever it is belongs to the parent
        code, answer = 1, traceback.format_exc()
    data = answer.encode()
    while data:
        data = data[os.write(writing, data) :]
    return code


def _read_all(fd: int, deadline: Deadline) -> bytes | None:
    found = b""
    while True:
        ready, _, _ = select.select([fd], [], [], max(deadline.bound_s - deadline.elapsed_s, 0.2))
        if not ready:
            if deadline.has_passed():
                return None
            continue
        block = os.read(fd, 1 << 20)
        if not block:
            return found
        found += block


def _end(pid: int) -> None:
    """Give a child that has answered a moment to end by itself."""
    for _ in range(100):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
