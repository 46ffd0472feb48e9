"""What is kept of each run, and what it is compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bench import __main__ as command
from bench import history
from bench.case import Case, Claim, Measurement, Outcome

CLAIM = Claim(name="time", what="start", against="python", limit=1.5)


def outcome(value: float | None, case: str = "start") -> Outcome:
    verdict = "skipped" if value is None else "met" if CLAIM.is_met(value) else "missed"
    return Outcome(case=case, claim=CLAIM, verdict=verdict, value=value)


def test_a_run_is_compared_with_the_last_of_its_kind(tmp_path: Path) -> None:
    """Of its processor and scale; a claim that was not measured now is lost as well."""
    (tmp_path / "bench").mkdir()
    assert history.last(processor="A", scale=1, project=tmp_path) is None
    for processor, scale, value in (("A", 1, 1.2), ("A", 0.1, 2.0), ("B", 1, 2.0)):
        run = history.entry([outcome(value), outcome(None, "cost")], processor=processor, scale=scale, project=tmp_path)
        history.append(run, tmp_path)
    last = history.last(processor="A", scale=1, project=tmp_path)
    assert last is not None
    assert (last.figures, last.met) == ({"start: time": 1.2}, ["start: time"])
    worse, gone = outcome(1.6), outcome(None)
    assert history.lost([outcome(1.4), outcome(9, "cost")], last) == []
    assert history.lost([worse], last) == [worse]
    assert history.lost([gone], last) == [gone]
    assert history.lost([worse], history.last(processor="B", scale=1, project=tmp_path)) == []


def test_an_entry_names_the_commit(tmp_path: Path) -> None:
    """With a + where files are not as they were committed."""

    def commit() -> str:
        return history.entry([], processor="A", scale=1, project=tmp_path).commit

    assert commit() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True, timeout=10)
    name = commit()
    assert len(name) == 8
    (tmp_path / "file").write_text("2")
    assert commit() == f"{name}+"


@pytest.mark.parametrize(("second", "code"), [(1.1, 0), (1.7, 1)])
def test_what_is_lost_is_measured_again_and_then_said(
    second: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the exit code; the run is in the history all the same."""
    kept: list[history.Entry] = []
    values = iter([1.6, second])
    case = Case("start", "how", (CLAIM,), lambda _: iter([Measurement("time", next(values))]))
    monkeypatch.setattr(command, "discover", lambda: {"start": case})
    monkeypatch.setattr(command, "default_folder", lambda: tmp_path)
    monkeypatch.setattr(history, "append", kept.append)
    before = msgspec.structs.replace(history.entry([outcome(1.2)], processor="A", scale=1))
    monkeypatch.setattr(history, "last", lambda **_: before)
    done = CliRunner().invoke(command.main, [])
    assert done.exit_code == code, done.output
    assert "start was better the last time; measuring it again" in done.output
    assert ("LOST: " in done.output) == bool(code)
    assert [run.figures for run in kept] == [{"start: time": second}]
