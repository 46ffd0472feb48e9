"""Jobs: maintenance commands that a request starts, each in a process of its own, one at a time.

    POST → eventlog backup … --json --root R, on a leash ──standard error──→ progress, messages
                                             └──standard output──→ result

What is known of a job is kept in memory, of the newest JOBS_MAX. A job ends with the server: it is told to (SIGTERM),
and is killed a moment later. Nothing is lost with it: what it does is done in steps that a later run continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.config.server import Limits
from eventlog.server import leash
from eventlog.server.problems import Problem

JOBS_MAX = 100
RESULT_MAX_BYTES = 4 * 1024 * 1024
MESSAGES_MAX = 50
_MESSAGE_MAX_CHARS = 1000
_READ_BYTES = 64 * 1024
#: After SIGTERM, until a job is killed.
_END_S = 2.0
_logger = logging.getLogger("eventlog.server")

Kind = Literal["backup", "verify", "prune"]
JobState = Literal["running", "done", "failed", "timed_out"]


class Job(msgspec.Struct, kw_only=True):
    """One job, as it is shown. Times are UTC.

    `done` with exit code 0, `failed` with any other; both may have a `result`, which is what the command prints with
    `--json`. `progress_bytes` of `total_bytes` are done, as far as the command says. `messages` are the last lines
    that it printed beside the result.
    """

    job_id: str
    kind: Kind
    state: JobState = "running"
    started: datetime
    ended: datetime | None = None
    progress_bytes: int | None = None
    total_bytes: int | None = None
    exit_code: int | None = None
    result: msgspec.Raw | None = None
    messages: list[str] = []


class Jobs:
    """The jobs of one server."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self, kind: Kind, arguments: Sequence[str]) -> Job:
        """Start `eventlog KIND` with arguments; return the job. Raises Problem (409) where one is running."""
        running = next((job for job in self._jobs.values() if job.state == "running"), None)
        if running is not None:
            raise Problem(409, "job_running", f"job {running.job_id} ({running.kind}) is running; wait for its end")
        while len(self._jobs) >= JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        job = Job(job_id=secrets.token_hex(8), kind=kind, started=datetime.now(UTC))
        self._jobs[job.job_id] = job
        self._running = asyncio.create_task(self._run(job, [kind, *arguments, "--json", f"--root={self._root}"]))
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job; None for one that is not known, or no more."""
        return self._jobs.get(job_id)

    def newest(self) -> list[Job]:
        """Return all jobs that are known, newest first."""
        return list(reversed(self._jobs.values()))

    async def close(self) -> None:
        """End what is running."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _run(self, job: Job, arguments: Sequence[str]) -> None:
        state: JobState = "failed"  # until it is known better
        try:
            with leash.leash() as fd:
                process = await asyncio.create_subprocess_exec(
                    *leash.command(fd, arguments, progress=True), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, pass_fds=[fd]
                )
                try:
                    async with asyncio.timeout(self._limits.job_timeout_s):
                        output, _ = await asyncio.gather(_output(process), _watch(process, job))
                        job.exit_code = await process.wait()
                    state = "failed" if job.exit_code else "done"
                    job.result = _as_json(output, job)
                except TimeoutError:
                    state = "timed_out"
                    _add_message(job, f"it was ended after {self._limits.job_timeout_s:g} s")
                finally:
                    await _end(process)
        except OSError as error:
            _add_message(job, f"it could not be started: {error.strerror}")
        finally:
            job.ended, job.state = datetime.now(UTC), state
        if state != "done":
            _logger.warning("job %s (%s) %s: %s", job.job_id, job.kind, state, job.messages[-1:])


async def _output(process: Process) -> bytes | None:
    """Return what a process prints to standard output; None where it is too much."""
    assert process.stdout is not None
    parts, size = [], 0
    while part := await process.stdout.read(_READ_BYTES):
        size += len(part)
        if size <= RESULT_MAX_BYTES:
            parts.append(part)
    return b"".join(parts) if size <= RESULT_MAX_BYTES else None


def _as_json(output: bytes | None, job: Job) -> msgspec.Raw | None:
    if output is None:
        _add_message(job, f"its result is over {RESULT_MAX_BYTES:,} bytes, and was left out")
        return None
    try:
        return msgspec.json.decode(output, type=msgspec.Raw) if output.strip() else None
    except msgspec.MsgspecError:
        return None


async def _watch(process: Process, job: Job) -> None:
    """Note the progress of a job, and its messages."""
    async for line in _lines(process):
        word, *numbers = line.split(" ")
        if word == leash.PROGRESS and len(numbers) == 2 and all(number.isdigit() for number in numbers):
            job.progress_bytes, job.total_bytes = map(int, numbers)
        elif line:
            _add_message(job, line)


async def _lines(process: Process) -> AsyncIterator[str]:
    """Yield the lines of standard error. One that is very long comes in parts."""
    assert process.stderr is not None
    rest = b""
    while data := await process.stderr.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _READ_BYTES:
            lines.append(rest)
            rest = b""
        for line in lines:
            yield line.decode("utf-8", "replace").strip()
    yield rest.decode("utf-8", "replace").strip()


def _add_message(job: Job, text: str) -> None:
    job.messages = [*job.messages, text[:_MESSAGE_MAX_CHARS]][-MESSAGES_MAX:]


async def _end(process: Process) -> None:
    """End a process that is still there."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
