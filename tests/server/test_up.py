"""`eventlog up`: everything that one machine needs under one supervisor, over real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from eventlog.server import board, supervisor
from eventlog.server.up import LOCK_NAME
from tests.conftest import Run
from tests.server import support_up
from tests.server.support_up import PARTS, free_port, until, up


def test_each_part_comes_back_and_ctrl_c_leaves_nothing(root: Path) -> None:
    """In a terminal: one status line for each part, at the bottom, in place."""
    port = free_port()
    with up(root, f"--port={port}", in_terminal=True) as started:
        pids = started.all_run()
        for part, pid in pids.items():
            os.kill(pid, signal.SIGKILL)
            started.replaced(part, pid)
            assert f"{part:<6}  was killed by SIGKILL; again in 0.5 s" in started.output
            assert re.search(rf"^{part} +running, pid \d+, started again 1 time$", started.lines, re.MULTILINE)
        url = f"http://127.0.0.1:{port}"
        assert f"serve: {url}\n" in started.output
        until(lambda: len(re.findall(rf"serve: log in: {url}/login#token=\S+\n", started.output)) == 2, "links")
        assert "\x1b[4A" in started.output  # four lines up
        until(lambda: [line.split()[0] for line in started.lines.splitlines()[-4:]] == [*PARTS], "status lines")
        started.press_ctrl_c()
        assert started.ended() == 0
        assert not started.left()
        assert [line.split() for line in started.output.rpartition("\x1b[J")[2].splitlines()] == [
            [part, "stopped"] for part in PARTS
        ]
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert (root / LOCK_NAME).read_bytes() == b""


def test_a_second_one_is_refused_and_a_signal_ends_the_first(root: Path, run: Run) -> None:
    """With the pid of the first, and exit code 3. Where it is no terminal, lines are plain."""
    with up(root, "--port=0", "--no-import") as started:
        started.all_run(("index", "alerts", "serve"))
        second = run("up")
        pid = started.process.pid
        assert second.returncode == 3
        assert second.stderr == (
            f"error: another `eventlog up` runs on {root}, with pid {pid}; try: eventlog up --stop\n"
        )
        assert "import" not in started.output
        assert "\x1b" not in started.output
        started.process.send_signal(signal.SIGTERM)
        assert started.ended() == 0
        assert not started.left()
        assert started.output.splitlines()[-1].endswith(" stopped")


def test_nothing_outlives_a_supervisor_that_is_killed(root: Path) -> None:
    """Neither the port nor the locks stay taken: another one starts at once."""
    port = free_port()
    with up(root, f"--port={port}") as started:
        started.all_run()
        started.process.kill()
        with up(root, f"--port={port}") as next_one:
            next_one.all_run()
            until(lambda: not started.left(), "their end")
            next_one.process.terminate()
            assert next_one.ended() == 0


def test_a_part_that_fails_over_and_over_is_put_off_further_each_time(root: Path) -> None:
    """Its status says why, and until when; once it can, it works."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        with up(root, f"--port={port}", "--no-import") as started:
            until(lambda: "again in 2 s" in started.output, started.output)
            lived_s = time.monotonic() - began
            delays = re.findall(
                r"^serve ended with code 2 \(error: .*; again in ([\d.]+) s$", started.output, re.MULTILINE
            )
            assert delays == ["0.5", "1", "2"]
            assert f"127.0.0.1:{port} cannot be listened on" in started.output
            assert len(re.findall(r"^serve starting", started.output, re.MULTILINE)) == 3
            assert lived_s > 1.5
            taken.close()
            until(lambda: started.pid_of("serve"), "serve")
            started.process.terminate()
            assert started.ended() == 0


def test_a_part_that_does_not_end_is_killed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one that is stopped, by a second signal."""
    with up(root, "--port=0", "--no-import") as started:
        pids = started.all_run(("index", "alerts", "serve"))
        os.kill(pids["serve"], signal.SIGSTOP)
        started.process.terminate()
        until(lambda: "alerts stopped" in started.output and "index stopped" in started.output, "the end of the others")
        assert started.process.poll() is None
        began = time.monotonic()
        started.process.terminate()
        assert started.ended() == 0
        assert time.monotonic() - began < supervisor.STOP_S / 2
        assert not started.left()


def test_it_goes_to_the_background_and_is_stopped(root: Path, run: Run) -> None:
    """It says its pid, its address and its log file, which is for its owner alone."""
    mark = uuid.uuid4().hex
    try:
        begun = run("up", "--detach", "--port=0", **{support_up.MARK: mark})
        assert begun.returncode == 0, begun.stderr
        log = root / "up.log"
        found = re.search(rf"^pid (\d+), log file {log}; stop it with: eventlog up --stop", begun.stdout, re.MULTILINE)
        assert found
        assert re.search(r"^\S+Z serve: log in: http://127.0.0.1:\d+/login#token=", begun.stdout, re.MULTILINE)
        assert log.stat().st_mode & 0o777 == 0o600
        assert run("up", "--detach").returncode == 3
        stopped = run("up", "--stop")
        assert (stopped.returncode, stopped.stdout) == (0, f"stopped pid {found[1]}\n")
        assert not support_up.left(mark)
        assert "serve stopped" in log.read_text()
        again = run("up", "--stop")
        assert (again.returncode, again.stdout) == (1, f"no `eventlog up` runs on {root}\n")
    finally:
        support_up.kill_left(mark)


def test_a_service_manager_is_told_when_it_is_ready_and_when_it_ends(root: Path, tmp_path: Path) -> None:
    """By READY=1 and STOPPING=1; the parts do not know of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(support_up.WAIT_S)
        with up(root, "--port=0", "--no-import", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as started:
            news = [manager.recv(4096)]
            while news[-1] != b"READY=1":
                news.append(manager.recv(4096))
            assert news[-2] == b"STATUS=all parts work"
            assert any(re.match(rb"STATUS=index starting, pid \d+; alerts ", each) for each in news)
            for pid in started.all_run(("index", "serve")).values():
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
            started.process.terminate()
            assert manager.recv(4096) == b"STOPPING=1"
            assert started.ended() == 0


def test_one_part_that_fails_keeps_a_service_manager_waiting_for_no_other(root: Path, tmp_path: Path) -> None:
    """It is ready when each has worked or failed, and its status says which."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(support_up.WAIT_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with up(root, f"--port={taken.getsockname()[1]}", "--no-import", environment=environment) as started:
            news: list[bytes] = []
            while not (b"READY=1" in news and re.match(rb"STATUS=serve ended with code 2 .*again in", news[-1])):
                news.append(manager.recv(4096))
            assert started.process.poll() is None


@pytest.mark.parametrize(
    ("environment", "is_there"), [({}, True), ({"EVENTLOG_IMPORT_AGENTS": "false"}, False)], ids=["by default", "off"]
)
def test_agents_are_imported_unless_a_setting_says_no(root: Path, environment: dict[str, str], is_there: bool) -> None:
    """`--no-import` does so, too."""
    parts = PARTS if is_there else tuple(part for part in PARTS if part != "import")
    with up(root, "--port=0", environment=environment) as started:
        started.all_run(parts)
        assert bool(started.pid_of("import")) == is_there


def test_a_log_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full one is kept as the one before, and no other."""
    monkeypatch.setattr(board, "LOG_MAX_BYTES", 100)
    log = board.LogFile(tmp_path / "up.log")
    for number in range(10):
        log.write(f"{number} {'x' * 30}\n")
    assert sorted(path.name for path in tmp_path.glob("up.log*")) == ["up.log", "up.log.1"]
    assert all(path.stat().st_size < 200 for path in tmp_path.glob("up.log*"))
    assert "9 xxx" in (tmp_path / "up.log").read_text()


@pytest.mark.parametrize("name", ["up.log", "up.lock"])
def test_a_pipe_in_place_of_a_file_stops_nobody(name: str, root: Path, run: Run) -> None:
    """It is refused by its name, and nothing waits for its other end."""
    root.mkdir()
    os.mkfifo(root / name)
    done = run("up", "--detach", "--port=0")
    assert done.returncode == 1
    assert str(root / name) in done.stderr


# -- leashes -----------------------------------------------------------------------

_HOLDER = """
import os, signal, subprocess, sys, time
from eventlog.server import leash
with leash.leash() as fd:
    code = "import sys; sys.argv[2:] = ['tail', '--follow']; from eventlog.server import leash; " + sys.argv[1]
    subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=[fd], start_new_session=True, stderr=1)
    time.sleep(60)
"""


@pytest.mark.parametrize("deaf", [False, True], ids=["one that heeds", "one that is deaf"])
def test_a_process_on_a_leash_ends_with_the_one_that_holds_it(deaf: bool, root: Path) -> None:
    """Also one that does not heed SIGTERM."""
    body = "leash.GRACE_S = 0.2; "
    if deaf:
        body += "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    mark = uuid.uuid4().hex
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, body + "leash._main()"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "EVENTLOG_DIR": str(root), support_up.MARK: mark},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert "Waiting for its first event" in holder.stdout.readline()
        assert len(support_up.left(mark)) == 2
        holder.kill()
        holder.wait()
        until(lambda: not support_up.left(mark), "its end")
    finally:
        support_up.kill_left(mark)
        holder.communicate()
