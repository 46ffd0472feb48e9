"""What all tests share: an empty home, no settings from outside, a root of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import eventlog as obs
from eventlog.config import Config
from eventlog.record import api
from eventlog.record.recorder import Recorder
from tests import warm

settings.register_profile("tests", deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.load_profile("tests")

PROJECT = Path(__file__).parent.parent
REAL_DATA = PROJECT.parent / "shared" / "data"


# Where it is set, each process that a test starts would compile eventlog anew: twice the time of `import eventlog`.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("EVENTLOG_", "XDG_", "CLAUDE_", "CODEX_")):
            monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES"):  # they would overrule what a terminal says
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    monkeypatch.setattr(api, "_recorder", None)
    monkeypatch.setattr(api, "_sinks", [])
    monkeypatch.setattr(api, "_redactor", None)
    yield
    obs.shutdown()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of this test's log; nothing is there yet."""
    return tmp_path / "root"


@pytest.fixture
def recorder(root: Path) -> Iterator[Recorder]:
    """A strict recorder on `root`."""
    made = Recorder(Config(root=str(root), strict=True))
    yield made
    made.shutdown()


@pytest.fixture
def real_data() -> Path:
    """Real logs, where they are at hand."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real logs at {REAL_DATA}")
    return REAL_DATA


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(root: Path) -> Run:
    """Run the console command in a process of its own, on `root`."""

    def run_(*arguments: str, stdin: str | bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        env = {**os.environ, "EVENTLOG_DIR": str(root), **environment}
        done = warm.run(arguments, environment=env, stdin=data, timeout_s=60)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()
        )

    return run_


def lines_of(root: Path, event_type: str) -> list[bytes]:
    """All lines of a type as they stand in the log, segment after segment."""
    return [
        line
        for path in sorted((root / "log" / event_type).glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")
        if line
    ]
