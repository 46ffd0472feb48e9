"""The reader processes: equal questions are asked once, and nothing that one does to its process reaches another."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from eventlog.config.server import Limits
from eventlog.server.frames import Question, Reply, Setup
from eventlog.server.problems import Problem
from eventlog.server.readers import Readers
from eventlog.server.reading import Reader
from tests.server.running import Running, serving
from tests.server.support_reads import ask, two_workspaces

COUNTS = Question(workspace=None, endpoint="counts")
#: It ends when it is stopped, and DuckDB can stop it.
LONG = Question(
    workspace=None, endpoint="sql",
    body=msgspec.json.encode({"query": "SELECT count(*) FROM range(100000000) a, range(100000000) b"}),
)  # fmt: skip


def limits(**changed: float) -> Limits:
    return msgspec.structs.replace(Limits(reader_processes=1, answer_timeout_s=20.0), **changed)


@asynccontextmanager
async def readers_of(root: Path, **changed: float) -> AsyncIterator[Readers]:
    readers = Readers(root, limits(**changed), catch_up_s=0.5)
    try:
        yield readers
    finally:
        await readers.close()
        assert not children()


def children() -> list[int]:
    """The processes that this one has started, and that are not gone."""
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in own}
    return [pid for pid, command in commands.items() if b"eventlog.server.reading" in command]


async def problem_of(asked: Awaitable[Reply]) -> tuple[int, str]:
    with pytest.raises(Problem) as raised:
        await asked
    return raised.value.status, raised.value.code


async def until(condition: Callable[[], object], timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def ask_equal(root: Path) -> None:
    """Twenty equal questions are one; those of another workspace, and those after more events, are others."""
    async with readers_of(root) as readers:
        assert not children()  # they are started when they are needed
        equal = [readers.ask(COUNTS) for _ in range(20)]
        other = msgspec.structs.replace(COUNTS, workspace="alpha")
        replies = await asyncio.gather(*equal, readers.ask(other), readers.ask(COUNTS, after=1))
        assert len({reply.body for reply in replies}) == 2
        assert (readers.asked, readers.shared) == (22, 19)
        assert (await readers.ask(COUNTS)).body == replies[0].body
        assert readers.shared == 19
        assert (readers.running, readers.waiting) == (0, 0)


async def hang(root: Path) -> None:
    """A process that does not answer in time is killed; the next question has another one."""
    async with readers_of(root, answer_timeout_s=1.0) as readers:
        await readers.ask(COUNTS)
        (pid,) = children()
        folder = re.search(rb"\0TMPDIR=([^\0]+)", Path(f"/proc/{pid}/environ").read_bytes())
        assert folder is not None
        assert Path(os.fsdecode(folder[1])).is_dir()
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        assert await problem_of(readers.ask(COUNTS)) == (504, "timed_out")
        assert time.monotonic() - started < 10
        assert children() == []
        assert not Path(os.fsdecode(folder[1])).exists()
        assert (await readers.ask(COUNTS)).status == 200
        assert (readers.timed_out, readers.ended) == (1, 0)


async def die(root: Path) -> None:
    """The same where it dies, while it is asked or before."""
    async with readers_of(root) as readers:
        await readers.ask(COUNTS)
        asked = asyncio.create_task(readers.ask(LONG))
        await until(lambda: readers.running)
        os.kill(children()[0], signal.SIGKILL)
        assert await problem_of(asked) == (503, "reader_ended")
        assert (await readers.ask(COUNTS)).status == 200
        os.kill(children()[0], signal.SIGKILL)
        await until(lambda: not children())
        await asyncio.sleep(0.05)
        assert (await readers.ask(COUNTS)).status == 200  # it is seen that this one is gone
        assert readers.ended == 1


async def stop_in_time(root: Path) -> None:
    """DuckDB stops most questions itself, and the process lives on."""
    async with readers_of(root, answer_timeout_s=1.0) as readers:
        assert await problem_of(readers.ask(LONG)) == (504, "timed_out")
        (pid,) = children()
        await readers.ask(COUNTS)
        assert children() == [pid]


async def fill(root: Path) -> None:
    """Beyond the queue there is no place; nor is there one after waiting for too long."""
    async with readers_of(root, questions_max=3) as readers:
        asked = [asyncio.create_task(readers.ask(LONG, after=n)) for n in range(3)]
        await until(lambda: readers.running)
        assert (readers.running, readers.waiting) == (1, 2)
        assert await problem_of(readers.ask(COUNTS)) == (503, "too_many_questions")
        assert readers.refused == 1
        for task in asked:
            task.cancel()
    async with readers_of(root, answer_timeout_s=0.5) as readers:
        both = [problem_of(readers.ask(LONG, after=n)) for n in range(3)]
        assert set(await asyncio.gather(*both)) == {(504, "timed_out"), (503, "too_many_questions")}


async def go_away(root: Path) -> None:
    """What nobody waits for any more is dropped from the queue at once, and ended soon where it has begun."""
    async with readers_of(root) as readers:
        first, second, other = (asyncio.create_task(readers.ask(LONG, after=n)) for n in (1, 1, 2))
        await until(lambda: readers.running)
        first.cancel()
        other.cancel()
        await asyncio.sleep(0.05)
        assert (readers.running, readers.waiting) == (1, 0)
        assert not second.done()  # somebody still waits for this one
        second.cancel()
        started = time.monotonic()
        assert (await readers.ask(COUNTS)).status == 200
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("story", [ask_equal, hang, die, stop_in_time, fill, go_away])
def test_reader_processes(root: Path, story: Callable[[Path], Awaitable[None]]) -> None:
    """Each story ends without a process that is left over."""
    two_workspaces(root)

    async def told() -> None:
        async with asyncio.timeout(60):
            await story(root)

    asyncio.run(told())


def test_a_fault_of_ours_is_one_answer(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The reader says so, and answers the next question."""
    setup = Setup(
        root=str(root), timeout_s=5, catch_up_s=0.5, answer_max_bytes=10_000, edition="1", budgets={}
    )  # fmt: skip
    reader = Reader(setup)
    fault = reader.reply(Question(workspace=None, endpoint="no such endpoint"))
    assert (fault.status, fault.code) == (500, "internal_error")
    assert "KeyError" in capfd.readouterr().err
    assert reader.reply(COUNTS).body == b"[]\n"


def test_the_end_waits_for_no_question(tmp_path: Path) -> None:
    """A server that is told to end does so within its time, and its readers with it."""
    root = tmp_path / "root"
    two_workspaces(root)
    with serving(root) as server, socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall(_request(server, LONG.body))
        deadline = time.monotonic() + 20
        while b"eventlog_questions_running 1" not in server.get("/metrics").body:
            assert time.monotonic() < deadline
        pids = [
            int(pid)
            for pid in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        ]
        assert pids
        libraries = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, *pids)}
        assert [pid for pid, loaded in libraries.items() if "duckdb" in loaded] == pids  # it is in readers alone
        server.process.terminate()
        server.process.wait(10)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _request(server: Running, body: bytes) -> bytes:
    head = f"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_client_that_goes_away_frees_its_place(tmp_path: Path) -> None:
    """The server sees that nobody waits: with one process and one place, the next one is answered."""
    root = tmp_path / "root"
    two_workspaces(root)
    with serving(root, settings="[server]\nreader_processes = 1\nquestions_max = 1\nanswer_timeout_s = 60") as server:
        address = urlsplit(server.url)
        with socket.create_connection((str(address.hostname), address.port or 0)) as client:
            client.sendall(_request(server, LONG.body))
            deadline = time.monotonic() + 20
            while ask(server, "/v1/counts").status == 200:
                assert time.monotonic() < deadline
            assert ask(server, "/v1/counts").code == "too_many_questions"
        while ask(server, "/v1/counts").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
