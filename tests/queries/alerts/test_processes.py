"""Checkers that are killed, that run at once, and that watch: in processes of their own, as they run in earnest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import AlertsBusy, QueryFailed
from eventlog.format import builtin
from eventlog.format.control import Role
from eventlog.indexer.index import index_file
from eventlog.queries.alerts import allowed, check, journal
from eventlog.queries.alerts.watch import watch
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of
from tests.indexer.support import index
from tests.queries.alerts.support import Channel, rule


def fire(root: Path, *channels: str) -> None:
    """A rule, channels that this root allows, and what makes it fire now."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.OPERATOR)
    recorder.emit(rule("spend", "cost", "5", channels=list(channels)))
    recorder.emit(builtin.LlmCall(request_model="m", cost_usd=Decimal("7.25")))
    recorder.shutdown()
    allowed.allow(root, channels)
    index(root)


def start(root: Path, *arguments: str, program: str | None = None) -> subprocess.Popen[str]:
    """Start a console command, or a program, on a root."""
    run = ["-m", "eventlog", *arguments] if program is None else ["-c", textwrap.dedent(program), str(root)]
    return subprocess.Popen(
        [sys.executable, *run], env={**os.environ, "EVENTLOG_DIR": str(root)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(child: subprocess.Popen[str], timeout_s: float = 60) -> tuple[int, str, str]:
    """Wait for a child, within a bound."""
    try:
        output, errors = child.communicate(timeout=timeout_s)
    finally:
        child.kill()
    return child.returncode, output, errors


def test_checkers_that_run_at_once_fire_and_deliver_once(root: Path, channel: Channel) -> None:
    """Four of them: one row, one message, and none of them fails."""
    channel.delay_s = 0.3
    fire(root, channel.url)
    children = [start(root, "alerts", "check") for _ in range(4)]
    outputs = [ended(child) for child in children]
    assert [code for code, _, _ in outputs] == [1] * 4, outputs
    assert sum("fired" in output for _, output, _ in outputs) == 1
    assert len(channel.received) == 1
    assert len(lines_of(root, "alert_fired")) == len(lines_of(root, "alert_delivered")) == 1
    assert ReadStore(root).sql("SELECT count(*), (SELECT count(*) FROM quarantine) FROM alerts").rows == [(1, 0)]


_KILLED_BEFORE = """
    import os, signal, sys
    from eventlog.queries.alerts import check, delivery

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    delivery.send = die
    check.check(sys.argv[1])
"""
_KILLED_BEHIND = """
    import os, signal, sys
    from eventlog.queries.alerts import allowed, check, journal

    write = journal.Journal.write

    def die(self, event, **fields):
        if type(event).__name__ == "AlertDelivered":
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, event, **fields)

    journal.Journal.write = die
    check.check(sys.argv[1])
"""


def test_a_checker_that_is_killed_between_firing_and_delivery(root: Path, channel: Channel) -> None:
    """The next check delivers what it fired, and fires nothing anew."""
    fire(root, channel.url)
    assert ended(start(root, program=_KILLED_BEFORE))[0] == -signal.SIGKILL
    assert len(lines_of(root, "alert_fired")) == 1
    assert channel.received == []
    for _ in range(2):
        ended(start(root, "alerts", "check"))
    assert len(channel.received) == 1
    assert len(lines_of(root, "alert_fired")) == 1
    (firing,) = ReadStore(root).alerts()
    assert (firing.state, len(firing.delivered)) == ("open", 1)


def test_a_checker_that_is_killed_between_delivery_and_its_event(root: Path, channel: Channel) -> None:
    """The message comes once more: at least once, as the page on alerts says."""
    fire(root, channel.url)
    assert ended(start(root, program=_KILLED_BEHIND))[0] == -signal.SIGKILL
    assert len(channel.received) == 1
    for _ in range(2):
        ended(start(root, "alerts", "check"))
    assert len(channel.received) == 2
    assert channel.facts(0)["firing"] == channel.facts(1)["firing"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_watching_ends_when_it_is_told_to(root: Path, channel: Channel, number: signal.Signals) -> None:
    """In the middle of a wait, or of its first check; with 0, and with all that it did behind it."""
    fire(root, channel.url)
    child = start(root, "alerts", "watch", "--every", "1h")
    try:
        assert child.stderr is not None
        assert child.stderr.readline().startswith("checking")
        if number is signal.SIGTERM:
            assert child.stdout is not None
            assert [child.stdout.readline()[:15] for _ in range(2)] == ["fired     warni", "delivered spend"]
        begun = time.monotonic()
        child.send_signal(number)
        assert ended(child)[0] == 0
    finally:
        child.kill()
    assert time.monotonic() - begun < 10
    assert len(channel.received) == len(lines_of(root, "alert_delivered"))
    ended(start(root, "alerts", "check"))
    assert len(channel.received) == 1


def test_watching_outlives_an_index_that_is_broken(root: Path, channel: Channel) -> None:
    """Garbage in its place is set aside; what fires after that is delivered."""
    index_file.index_path(root).parent.mkdir()
    index_file.index_path(root).write_bytes(b"no index" * 1000)
    (root / "log").mkdir()
    child = start(root, "alerts", "watch", "--every", "1s")
    try:
        recorder = Recorder(Config(root=str(root), strict=True), role=Role.OPERATOR)
        allowed.allow(root, [channel.url])
        recorder.emit(rule("spend", "cost", "5", channels=[channel.url]))
        recorder.emit(builtin.LlmCall(request_model="m", cost_usd=Decimal("7.25")))
        recorder.shutdown()
        channel.wait_for(1, timeout_s=60)
        child.send_signal(signal.SIGTERM)
        assert ended(child)[0] == 0
    finally:
        child.kill()
    assert len(channel.received) == 1


def test_watching_says_a_problem_once_and_goes_on(root: Path) -> None:
    """While somebody else checks; then it checks again."""
    fire(root)
    reports: list[str] = []
    done: list[check.Checked] = []
    stop = threading.Event()

    def on_check(each: check.Checked) -> None:
        done.append(each)
        stop.set()

    with journal.hold_lock(root, wait_s=0):
        watching = threading.Thread(
            target=lambda: watch(root, stop, interval_s=0.02, wait_s=0.0, say=reports.append, on_check=on_check)
        )
        watching.start()
        time.sleep(0.5)
        assert reports
        assert done == []
    watching.join(timeout=30)
    assert len(done) == 1
    assert reports == [
        f"{root / 'alerts.lock'} is held: another process checks alerts or changes rules; waited 0 s; trying again"
    ]


def test_watching_outlives_what_nobody_expected(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind it says one, and not more than 20 in an hour; then it checks again, and what fires is told."""
    fire(root)
    reports: list[str] = []
    done: list[check.Checked] = []
    stop = threading.Event()
    failures = iter(
        [OverflowError(f"no. {n}") for n in range(3)]
        + [MemoryError(), RecursionError("deep " * 1000)]
        + [QueryFailed(f"problem {n}") for n in range(100)]
    )

    def failing(*arguments: Any, **options: Any) -> check.Checked:
        for failure in failures:
            raise failure
        return check.check(*arguments, **options)

    def on_check(each: check.Checked) -> None:
        done.append(each)
        stop.set()

    monkeypatch.setattr("eventlog.queries.alerts.watch.check", failing)
    watching = threading.Thread(target=lambda: watch(root, stop, interval_s=0.0, say=reports.append, on_check=on_check))
    watching.start()
    watching.join(timeout=60)
    assert not watching.is_alive()
    assert [[each.name for each in one.rules if each.state == "firing"] for one in done] == [["spend"]]
    assert reports[:2] == [
        "the check failed unexpectedly: OverflowError: no. 0; trying again",
        "the check failed unexpectedly: MemoryError: ; trying again",
    ]
    assert len(reports[2]) == 1000 + len("…; trying again")
    assert reports[3:] == [f"problem {n}; trying again" for n in range(17)]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_watching_ends_by_what_is_to_end_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """These are no errors of a check."""
    reports: list[str] = []

    def ending(*arguments: Any, **options: Any) -> check.Checked:
        raise end

    monkeypatch.setattr("eventlog.queries.alerts.watch.check", ending)
    with pytest.raises(end):
        watch(root, threading.Event(), interval_s=0.0, say=reports.append)
    assert reports == []


def test_who_comes_second_is_told_so(root: Path) -> None:
    """Past the bound."""
    fire(root)
    message = r"another process checks alerts or changes rules; waited 0\.1 s"
    with journal.hold_lock(root, wait_s=0), pytest.raises(AlertsBusy, match=message):
        check.check(root, wait_s=0.1)
