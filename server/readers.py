"""Questions: a few processes answer them, one at a time each, and equal ones that wait are asked once.

    question ──equal to one in flight──→ the same answer
       └──else──→ a place in the queue ──→ a process that is free ──→ answer, or a problem after a time

A process that takes too long is killed and replaced, and so is one that dies: nothing that DuckDB does to it reaches
the server (docs/decisions/0047-reader-processes.md). They are started when they are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Hashable
from pathlib import Path

import msgspec

from eventlog.config.server import Limits
from eventlog.server import frames
from eventlog.server.frames import LENGTH, Question, Reply, Setup
from eventlog.server.problems import Problem, too_busy

_CATCH_UP = Question(workspace=None, endpoint="catch_up")
#: DuckDB stops at the time limit itself, mostly; a process that does not is killed so much later.
_GRACE_S = 1.0
#: Time to start Python and to load DuckDB on a busy machine.
_START_S = 30.0
#: A question that nobody waits for any more may end by itself within this time.
_ABANDONED_S = 2.0
#: Catching up, which answers have shown to be needed, begins at most so often.
_CATCH_UP_EVERY_S = 1.0
_BUFFER_BYTES = 1 << 20
#: The exit code of a process that could not stop a query.
_STUCK = 3


class Readers:
    """The reader processes of a server, and the questions that wait for them. All of it belongs to one event loop.

    `asked` counts questions, `shared` those that got the answer of another one, `refused` those for which there was no
    place, `timed_out` and `ended` those that cost a process its life, and `answering_s` the time spent on them.
    """

    def __init__(
        self, root: str | Path, limits: Limits, *, catch_up_s: float, budgets: dict[str, float | None] | None = None
    ) -> None:
        self._limits = limits
        self._setup = Setup(
            root=os.fspath(root), timeout_s=limits.answer_timeout_s, catch_up_s=catch_up_s,
            answer_max_bytes=limits.answer_max_bytes, edition=secrets.token_hex(8), budgets=budgets or {},
        )  # fmt: skip
        self._free = asyncio.Semaphore(limits.reader_processes)
        self._idle: list[_Process] = []
        self._in_flight: dict[Hashable, _Asked] = {}
        self._catching_up: asyncio.Task[Reply] | None = None
        self._caught_up = -_CATCH_UP_EVERY_S
        self._is_closed = False
        self.asked = self.shared = self.refused = self.timed_out = self.ended = self.running = 0
        self.answering_s = 0.0

    @property
    def waiting(self) -> int:
        """How many questions wait for a process."""
        return max(len(self._in_flight) - self.running, 0)

    async def ask(self, question: Question, *, after: Hashable = None) -> Reply:
        """Return the answer to a question. Raises Problem: 503 where there is no place, 504 after too long.

        Only questions with the same `after` share an answer: what a client has sent before it asked is in it.
        """
        self.asked += 1
        key = (msgspec.msgpack.encode(question), after)
        shared = self._in_flight.get(key)
        if shared is None:
            if self._is_closed or len(self._in_flight) >= self._limits.questions_max:
                self.refused += 1
                raise too_busy("too_many_questions", "more questions wait than may wait; ask again")
            shared = self._in_flight[key] = _Asked(key)
            shared.task = asyncio.create_task(self._answer(shared, question))
            shared.task.add_done_callback(_retrieve)
        else:
            self.shared += 1
        shared.waiters += 1
        try:
            reply = await asyncio.shield(shared.task)
        finally:
            shared.waiters -= 1
            if not shared.waiters and not shared.task.done():
                self._abandon(shared)
        if reply.is_behind:
            self._catch_up_soon()
        if reply.code:
            headers = {"Retry-After": "1"} if reply.status == 503 else None
            raise Problem(reply.status, reply.code, reply.detail, headers=headers)
        return reply

    async def close(self) -> None:
        """End all processes, and with them what is in flight."""
        self._is_closed = True
        tasks = [asked.task for asked in self._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in self._idle:
            await process.end()
        self._idle.clear()

    async def _answer(self, asked: _Asked, question: Question) -> Reply:
        try:
            try:
                async with asyncio.timeout(self._limits.answer_timeout_s):
                    await self._free.acquire()
            except TimeoutError:
                self.refused += 1
                raise too_busy("too_many_questions", "no process was free in time; ask again") from None
            try:
                return await self._answer_in_process(asked, question)
            finally:
                self._free.release()
        finally:
            self._forget(asked)

    async def _answer_in_process(self, asked: _Asked, question: Question) -> Reply:
        for gone in [process for process in self._idle if process.is_gone]:
            self._idle.remove(gone)
            await gone.end()
        process = self._idle.pop() if self._idle else _Process(self._setup)
        self.running += 1
        asked.process, started = process, time.monotonic()
        try:
            reply = await process.ask(question, self._limits.answer_timeout_s + _GRACE_S)
        except TimeoutError:
            self.timed_out += 1
            detail = f"this took longer than {self._limits.answer_timeout_s:g} s; narrow the question"
            raise Problem(504, "timed_out", detail) from None
        except _Ended as error:
            if error.code == _STUCK:
                self.timed_out += 1
                raise Problem(504, "timed_out", "the query did not stop in time; narrow it") from None
            self.ended += 1
            raise too_busy("reader_ended", "the process that was to answer ended; ask again") from None
        else:
            self._idle.append(process)
            return reply
        finally:
            asked.process = None
            self.running -= 1
            self.answering_s += time.monotonic() - started
            if process not in self._idle:
                await process.end()

    def _abandon(self, asked: _Asked) -> None:
        """Drop a question that nobody waits for any more; one that is being answered may end by itself, for a time."""
        if asked.process is None:
            self._forget(asked)
            asked.task.cancel()
            return
        process = asked.process

        def kill() -> None:
            if asked.process is process and not asked.waiters:
                self._forget(asked)
                process.kill()

        asyncio.get_running_loop().call_later(_ABANDONED_S, kill)

    def _forget(self, asked: _Asked) -> None:
        """Let no further question share this one."""
        if self._in_flight.get(asked.key) is asked:
            del self._in_flight[asked.key]

    def _catch_up_soon(self) -> None:
        """Have a process index what an answer lacked; not before that answer, which had to be quick."""
        is_running = self._catching_up is not None and not self._catching_up.done()
        if is_running or self._is_closed or time.monotonic() - self._caught_up < _CATCH_UP_EVERY_S:
            return
        self._caught_up = time.monotonic()
        self._catching_up = asyncio.create_task(self.ask(_CATCH_UP))
        self._catching_up.add_done_callback(_retrieve)


class _Asked:
    """A question in flight: who waits for it, and which process answers it, if one does."""

    task: asyncio.Task[Reply]

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiters = 0
        self.process: _Process | None = None


def _retrieve(task: asyncio.Task[Reply]) -> None:
    """Look at what became of a task that nobody waits for: asyncio complains else."""
    if not task.cancelled():
        task.exception()


class _Ended(Exception):
    """A process ended before it answered, with this exit code."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class _Process:
    """One reader process (eventlog.server.reading), which begins with its first question."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._child: asyncio.subprocess.Process | None = None
        #: For its temporary files: where it is killed, it removes none.
        self._folder: str | None = None

    @property
    def is_gone(self) -> bool:
        """Whether it was there, and has ended."""
        return self._child is not None and self._child.returncode is not None

    async def ask(self, question: Question, timeout_s: float) -> Reply:
        """Return the answer. Raises TimeoutError after `timeout_s`, without the start, and _Ended."""
        if self._child is None:
            self._child = await self._start()
            await self._exchange(self._setup, _START_S)
        return await self._exchange(question, timeout_s)

    async def _start(self) -> asyncio.subprocess.Process:
        self._folder = tempfile.mkdtemp(prefix="eventlog-reader-")
        path = os.pathsep.join(part for part in sys.path if part)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", "import eventlog.server.reading as child; child.main()",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_BUFFER_BYTES, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": self._folder},
        )  # fmt: skip

    async def _exchange(self, frame: msgspec.Struct, timeout_s: float) -> Reply:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                child.stdin.write(frames.encode(frame))
                await child.stdin.drain()
                (size,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
                return msgspec.msgpack.decode(await child.stdout.readexactly(size), type=Reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.kill()
            raise _Ended(await child.wait()) from None

    def kill(self) -> None:
        """Kill the process; whoever waits for its answer sees its end."""
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.kill()
        if self._child is not None:
            await self._child.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
