"""What the recorder says in the agent's log: each kind of trouble, and none of them again and again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.config import Config
from eventlog.record.recorder import Recorder
from eventlog.record.reports import WINDOW_S, Reports


def test_each_kind_is_due_once_in_its_window() -> None:
    """Numbers and quoted names make no kind of their own."""
    reports = Reports()
    assert reports.is_due("lost 1 line of 't'", 5.0)
    assert not reports.is_due("lost 27 line of 'other'", 6.0)
    assert reports.is_due("the disk is full", 6.0)
    assert not reports.is_due("lost 3 line of 't'", 5.0 + WINDOW_S - 0.1)
    assert reports.is_due("lost 3 line of 't'", 5.0 + WINDOW_S)


def test_no_number_of_kinds_is_a_flood() -> None:
    """And when the window is over, others get their turn."""
    reports = Reports()
    kinds = [chr(ord("a") + number // 26) + chr(ord("a") + number % 26) for number in range(200)]
    assert sum(reports.is_due(kind, 1.0) for kind in kinds) == 10
    assert sum(reports.is_due(kind, 1.0 + WINDOW_S) for kind in reversed(kinds)) == 10


def test_a_second_reason_is_logged_in_the_same_minute(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A refused event does not hide that another one is refused for something else."""
    recorder = Recorder(Config(root=str(root)))
    for _ in range(3):
        recorder.emit("no such/type", {})
        recorder.emit("t", {"x": float("nan")})
    recorder.shutdown()
    said = [record.getMessage() for record in caplog.records if record.name == "eventlog"]
    assert len(said) == 2
    assert "no such number" in said[1]


def test_what_was_coerced_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each kind: the event is in the log, but not as it was meant."""
    obs.configure(root=str(root))
    with caplog.at_level(logging.WARNING, "eventlog"), obs.run("nightly") as run:
        for _ in range(3):
            run.llm_call(output_tokens="many")  # type: ignore[arg-type]  # what agents do
            run.tool_call(7)  # type: ignore[arg-type]
    said = [record.getMessage() for record in caplog.records if record.name == "eventlog"]
    assert len(said) == 2
    assert said[0].startswith("llm_call was changed so that it could be recorded: ")
    assert "output_tokens" in said[0]
    assert said[1].startswith("tool_call was changed so that it could be recorded: ")
