"""The supervisor of `eventlog up`, over parts that are small programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from eventlog.server import supervisor
from eventlog.server.supervisor import Backoff
from tests.server.support_up import MARK, WAIT_S, kill_left, left, until

#: Supervises one part, which is the program in its argument, and says what it prints and does.
_SUPERVISED = """
import sys
from eventlog.server import leash, supervisor
leash.command = lambda fd, arguments, progress=False: [sys.executable, "-c", *arguments]
supervisor.STOP_S = 0.5
print_ = lambda *texts: print(*texts, flush=True)
supervisor.Supervisor(
    [supervisor.Part("part", (sys.argv[1],), "ready")],
    on_line=lambda child, line: print_("line", line), on_change=lambda child: print_("change", child.status),
).run()
print_("end")
"""
_STARTS_ANOTHER = """
import subprocess, sys
print("ready", flush=True)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("other", other.pid, flush=True)
sys.stdin.read()
sys.exit("it went wrong")
"""
_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(300)
"""
_SILENT = """
import os, sys, time
print("ready", flush=True)
os.close(1)
os.close(2)
time.sleep(300)
"""


class Supervised:
    """The process of a supervisor; `output` is all that it has printed."""

    def __init__(self, program: str, folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self._file = folder / "output"
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SUPERVISED, program], stdout=output, stderr=output,
                env={**os.environ, MARK: self.mark},
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._file.read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        kill_left(self.mark)


def test_what_a_part_has_started_goes_before_it_is_started_again(tmp_path: Path) -> None:
    """It would hold a port, say."""
    supervised = Supervised(_STARTS_ANOTHER, tmp_path)
    try:
        until(lambda: supervised.output.count("line other") >= 2, "a second start")
        first = int(re.findall(r"line other (\d+)", supervised.output)[0])
        assert first not in left(supervised.mark)
        assert "change ended with code 1 (it went wrong); again in 0.5 s" in supervised.output
        supervised.process.terminate()
        assert supervised.process.wait(WAIT_S) == 0
        assert not left(supervised.mark)
    finally:
        supervised.end()


def test_a_deaf_part_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    """Half a second, here."""
    supervised = Supervised(_DEAF, tmp_path)
    try:
        until(lambda: "running" in supervised.output)
        supervised.process.terminate()
        assert supervised.process.wait(WAIT_S) == 0
        assert re.findall(r"change (stop\w+)", supervised.output) == ["stopping", "stopped"]
        assert supervised.output.endswith("end\n")
        assert not left(supervised.mark)
    finally:
        supervised.end()


def test_a_part_that_closes_its_output_goes_on_and_costs_nothing(tmp_path: Path) -> None:
    """A pipe at its end can be read again and again."""
    supervised = Supervised(_SILENT, tmp_path)
    try:
        until(lambda: "running" in supervised.output)
        before = _cpu_ticks(supervised.process.pid)
        time.sleep(0.5)
        assert _cpu_ticks(supervised.process.pid) - before < 10
        assert "ended" not in supervised.output
    finally:
        supervised.end()


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_signals_that_were_ignored_stay_so(tmp_path: Path) -> None:
    """Under nohup the end of the terminal ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        supervised = Supervised(_DEAF, tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        until(lambda: "running" in supervised.output)
        supervised.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert "stopping" not in supervised.output
        supervised.process.terminate()
        assert supervised.process.wait(WAIT_S) == 0
        assert re.findall(r"change (stop\w+)", supervised.output) == ["stopping", "stopped"]
    finally:
        supervised.end()


def test_delays_are_doubled_up_to_a_minute_and_begin_again_after_a_calm_one() -> None:
    """In seconds."""
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.after(59.9), backoff.after(60.0), backoff.after(0.0)] == [60, 0.5, 1]


def test_long_lines_are_cut_and_the_end_of_output_is_no_end(root: Path) -> None:
    """A part that prints without newlines takes no memory."""
    shown: list[str] = []
    made = supervisor.Supervisor([supervisor.Part("loud", (), "x")], on_line=lambda _, line: shown.append(line))
    (child,) = made.children
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(["true"], stdout=subprocess.DEVNULL) as process:
        process.stdout = os.fdopen(reader, "rb")
        child.process = process
        made._selector.register(process.stdout, 1, child)
        for _ in range(3):
            os.write(writer, b"y" * supervisor.LINE_MAX_BYTES)
            made._read(child)
        os.write(writer, b"last")
        os.close(writer)
        made._read(child)
        made._read(child)
    assert child.process is process
    assert process.stdout.closed
    assert max(map(len, shown)) <= 2 * supervisor.LINE_MAX_BYTES
    assert shown[-1].endswith("last")
