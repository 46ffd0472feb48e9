"""Kept answers have the bytes of the full way, and are used as long as nothing changed."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.format import builtin, spoken
from eventlog.queries.text import units
from eventlog.short import answers
from tests.conftest import PROJECT
from tests.queries.kept import MARK, Asker, files, mark, rewrite, settle, within_one_minute
from tests.queries.stories import Story, nightly

QUESTIONS = [
    "cost", "cost daily --utc", "cost weekly --by model", "cost monthly --json", "cost total --by session",
    "cost daily --since 2026-01-01 --until 2026-06-01 --time-zone Asia/Tokyo", "cost daily --budget 50",
    "cost prices", "cost recompute --as-of 2026-07-01", "cost blocks --until 2026-06-01",
    "cost --workspace w --no-index", "runs", "runs nightly --limit 1", "runs --status error --json",
    "runs --utc nothing",
    "sessions", "sessions --since 2026-01-01 --json", "metrics", "metrics hourly --by agent --by model --utc",
    "metrics --json", "today --since 2026-03-01", "today --since 2026-03-01 --md --until 2026-03-03",
    "today --since yesterday --json",
]  # fmt: skip


def _tell(root: Path) -> Path:
    """Write a log with two runs, and calls with and without a price; index it."""
    nightly(root)
    nightly(root, "nightly-8", shift=86_400, failing=False)
    with Story(root, agent="planner", session_id="s2") as story:
        story.tell(0, builtin.LlmCall(request_model="nobody-knows", uncached_input_tokens=5))
        story.tell(0, builtin.LlmCall(request_model="claude-opus-4-6", uncached_input_tokens=5_000, output_tokens=7))
    settle()
    return root


@pytest.fixture
def told(root: Path) -> Path:
    """A root that a test may change."""
    return _tell(root)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for tests that only ask."""
    return _tell(tmp_path_factory.mktemp("unchanged") / "root")


@pytest.fixture
def called_today(told: Path) -> Path:
    """The same, with a call of today: rates are told."""
    Asker(told).ask("emit", "llm_call", json.dumps({"cost_usd": "1.25"}))
    Asker(told).ask("index")
    settle()
    return told


def test_a_kept_answer_has_the_same_bytes(called_today: Path) -> None:
    """Of each question: in full, then kept, and then from what was kept."""
    asker = Asker(called_today)
    for question in dict.fromkeys(QUESTIONS):
        arguments = question.split()
        for _ in within_one_minute():
            for path in files():
                path.unlink()
            in_full = asker.ask_in_full(*arguments)
            before = asker.ask(*arguments)
            mark()
            kept = asker.ask(*arguments)
        assert in_full[0] == 0, question
        assert before == in_full, question
        assert kept == (0, in_full[1] + MARK, in_full[2]), question


@pytest.mark.parametrize(
    "question", ["cost daily", "cost --by model", "runs", "sessions", "metrics", "today --since 2026-03-01"]
)
def test_a_kept_answer_in_a_terminal_has_the_same_bytes(question: str, unchanged: Path) -> None:
    """At each width: colours, bars and cut columns are those of the full way."""
    asker, arguments = Asker(unchanged), question.split()
    shown = {}
    for columns in (60, 100, 200):
        for _ in within_one_minute():
            in_full = asker.show(*arguments, columns=columns, EVENTLOG_KEEP_ANSWERS="false")
            others = [asker.show(*arguments, columns=columns) for _ in range(2)]
        assert others == [in_full, in_full]
        shown[columns] = in_full
    mark()
    for columns, in_full in shown.items():
        again = asker.show(*arguments, columns=columns)
        if question.startswith("today"):  # its first line has its end: the minute may be over
            assert again.removesuffix(MARK.decode()).partition("\n")[2] == in_full.partition("\n")[2]
        else:
            assert again in (in_full + MARK.decode(), in_full)
    assert len(set(shown.values())) > 1


# -- what an answer rests on -----------------------------------------------------------------


def _emit(root: Path) -> None:
    Asker(root).ask("emit", "note", "{}")


def _emit_and_index(root: Path) -> None:
    _emit(root)
    Asker(root).ask("index")


def _price(root: Path) -> None:
    price = {"model": "nobody-knows", "input_usd_per_mtok": "3", "effective_from": "2026-01-01T00:00:00Z"}
    Asker(root).ask("emit", "price_set", json.dumps({**price, "output_usd_per_mtok": "4"}))


def _rewrite_in_place(root: Path) -> None:
    """Of the same size and with its old time: its ctime tells."""
    path = root / "index.duckdb"
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _settings(name: str) -> Callable[[Path], None]:
    def write(_: Path) -> None:
        path = Path(name).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("budget_usd_per_month = 100.0\n")

    return write


CHANGES: dict[str, Callable[[Path], object]] = {
    "an event": _emit,
    "an event of a new type": lambda root: Asker(root).ask("emit", "greeting", "{}"),
    "an event that is indexed": _emit_and_index,
    "a price": _price,
    "no index": lambda root: (root / "index.duckdb").unlink(),
    "an index that was written again": _rewrite_in_place,
    "an index of another time": lambda root: os.utime(root / "index.duckdb", (1, 1)),
    "a log of its own for the index": lambda root: (root / "index.duckdb.wal").write_bytes(b""),
    "the user's settings": _settings("~/.config/eventlog/eventlog.toml"),
    "the project's settings": _settings("eventlog.toml"),
    "a package that is installed": lambda _: Path("packages/genai_prices_of_others.py").touch(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_the_answer_is_a_new_one(change: str, told: Path) -> None:
    """Each change alone; before it, the kept answer was used."""
    Path("packages").mkdir()
    settle()
    asker = Asker(told, PYTHONPATH="packages")
    asker.ask("cost", "daily")
    mark()
    assert MARK in asker.ask("cost", "daily")[1]
    CHANGES[change](told)
    code, text, problems = asker.ask("cost", "daily")
    assert MARK not in text
    if change != "a log of its own for the index":
        assert (code, text, problems) == asker.ask_in_full("cost", "daily")


def test_another_question_has_another_answer(unchanged: Path, tmp_path: Path) -> None:
    """Another word, variable, folder or Python."""
    asker = Asker(unchanged)
    asker.ask("cost")
    mark()
    assert MARK in asker.ask("cost")[1]
    assert MARK not in asker.ask("cost", "daily")[1]
    for variable in ("TZ", "COLUMNS", "LANG", "NO_COLOR", "TERM", "EVENTLOG_BUDGET_USD_PER_DAY", "ANYTHING"):
        assert MARK not in asker.ask("cost", **{variable: "1"})[1], variable
    asker.folder = tmp_path
    assert MARK not in asker.ask("cost")[1]
    asker.folder = None
    with_bytecode = [sys.executable, "-B", *asker.command("cost")[1:]]
    assert MARK not in subprocess.run(with_bytecode, capture_output=True, check=True, timeout=60).stdout
    assert MARK in asker.ask("cost")[1]


def test_the_shell_and_the_level_of_it_are_no_part_of_a_question(unchanged: Path) -> None:
    """Else hardly any question would be asked twice."""
    asker = Asker(unchanged)
    asker.ask("runs", SHLVL="1", _="a")
    mark()
    assert MARK in asker.ask("runs", SHLVL="2", _="b", OLDPWD="/")[1]


def test_what_agents_wrote_is_a_part_of_it() -> None:
    """Where a question imports first: a transcript that grew, and a new one."""
    claude = Path("~/.claude/projects/p").expanduser()
    claude.mkdir(parents=True)
    line = {
        "type": "user", "sessionId": "s", "uuid": "u1", "timestamp": "2026-03-01T10:00:00.000Z", "cwd": "/p",
        "message": {"role": "user", "content": "Tidy the shelf"},
    }  # fmt: skip
    transcript = claude / "s.jsonl"
    transcript.write_text(json.dumps(line) + "\n")
    settle()
    asker = Asker(None, EVENTLOG_IMPORT_AGENTS="true")
    for _ in range(3):  # imports; indexes nothing, but the log is as new as the process; is kept
        code, told_, _ = asker.ask("sessions")
        assert code == 0
        settle()
    mark()
    assert asker.ask("sessions")[1] == told_ + MARK
    with transcript.open("a") as file:
        file.write(json.dumps(line | {"uuid": "u2", "timestamp": "2026-03-01T10:00:09.000Z"}) + "\n")
    grown = asker.ask("sessions")[1]
    assert MARK not in grown
    assert grown != told_


# -- the clock -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "is_kept"),
    [
        ("cost --since 2h", False), ("cost --until now", False), ("runs --since '7d ago'", False),
        ("cost --since yesterday", True), ("cost --since 2026-W05", True),
    ],
)  # fmt: skip
def test_what_moves_with_the_clock_is_not_kept(question: str, is_kept: bool, unchanged: Path) -> None:
    """An age is one of now; a day is the same all day."""
    asker, arguments = Asker(unchanged), [part.strip("'") for part in question.replace(" ago'", "ago").split()]
    asker.ask(*arguments)
    assert bool(files()) is is_kept


def test_an_open_run_is_not_kept(told: Path) -> None:
    """Its process may end, or it may be silent for too long; sessions and costs know nothing of that."""
    with Story(told, run_id="open") as story:
        story.tell((datetime.now(UTC) - datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC)).total_seconds() - 1,
                   builtin.RunStarted(name="open"))  # fmt: skip
    settle()
    asker = Asker(told)
    for question in ("runs", "metrics"):
        asker.ask(question)
        assert not files()
    asker.ask("sessions")
    assert files()


def test_with_an_event_of_the_future_nothing_is_kept(told: Path) -> None:
    """It counts when its time has come."""
    with Story(told) as story:
        story.tell(365 * 86_400 * 10, builtin.LlmCall(cost_usd=Decimal(1)))
    settle()
    for question in ("cost", "runs", "sessions", "metrics", "today"):
        Asker(told).ask(question)
    assert not files()


@pytest.mark.parametrize(("kept_s", "until_s", "holds"), [(-5, 60, True), (-60, -1, False), (60, 120, False)])
def test_an_answer_holds_from_when_it_was_kept_until_its_end(
    kept_s: int, until_s: int, holds: bool, unchanged: Path
) -> None:
    """Also where a clock was set back."""
    asker = Asker(unchanged)
    asker.ask("runs")
    (path,) = files()
    _, _, _, rest = path.read_bytes().split(b"\n", 3)
    now_ns = time.time_ns()
    rewrite(path, b"%d\n%d\n%b" % (now_ns + kept_s * 10**9, now_ns + until_s * 10**9, rest))
    assert asker.uses_kept("runs") is holds


def _until(path: Path) -> datetime:
    return datetime.fromtimestamp(int(path.read_bytes().split(b"\n", 3)[2]) / 1e9, UTC)


def test_rates_hold_for_a_minute_and_sums_for_a_day(unchanged: Path) -> None:
    """Without calls of today there are no rates, but in JSON."""
    now = datetime.now(UTC)
    Asker(unchanged).ask("cost", "--utc")
    (of_sums,) = files()
    assert _until(of_sums) == now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    of_sums.unlink()
    for _ in within_one_minute():
        Asker(unchanged).ask("cost", "--json")
    assert max(map(_until, files())) <= datetime.now(UTC) + timedelta(minutes=1)


@given(st.floats(0, 10**9))
def test_an_age_is_the_same_until_it_changes(seconds: float) -> None:
    """The answer ends when the text of an age in it does."""
    rest_s = units.same_age_s(seconds)
    assert rest_s > 0
    assert units.age(seconds + rest_s * 0.999) == units.age(seconds)
    assert units.age(seconds + rest_s + 0.001) != units.age(seconds)


@pytest.mark.parametrize(
    ("text", "moves"),
    [("2h", True), ("7d ago", True), ("NOW", True), ("today", False), ("2026-01-01", False), ("nonsense", False)],
)
def test_which_times_move(text: str, moves: bool) -> None:
    """Only an age and now are another moment each time."""
    assert spoken.moves(text) is moves


def test_who_reads_the_clock_is_known() -> None:
    """A module that begins to must tell `eventlog.cli.keeping` until when its answer holds, or that nobody knows."""
    clocks, modules = {"now", "time", "time_ns", "today", "utcnow"}, ("datetime", "date", "time")
    found = set()
    for path in (PROJECT / "queries").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in clocks and ast.unparse(node.value) in modules:
                found.add(path.relative_to(PROJECT).as_posix())
    of_commands_that_keep = {
        "queries/cli/options.py", "queries/cli/today.py", "queries/cost/blocks.py", "queries/cost/report.py",
        "queries/metrics/aggregates.py",
    }  # fmt: skip
    of_others = {
        "queries/alerts/changes.py", "queries/alerts/check.py", "queries/alerts/history.py", "queries/cli/alerts.py",
        "queries/cli/counts.py", "queries/cli/demo.py", "queries/doctor/snapshot.py", "queries/health/score.py",
        "queries/snapshot.py", "queries/status.py",
    }  # fmt: skip
    assert found == of_commands_that_keep | of_others


# -- what is not kept ------------------------------------------------------------------------


def test_what_went_wrong_is_not_kept(unchanged: Path) -> None:
    """Nor is what nobody reads, what is shown page by page, and what was switched off."""
    asker = Asker(unchanged)
    assert asker.ask("runs", "--limit", "0")[0] == 2
    assert asker.ask("runs", "--help")[0] == 0
    asker.ask_in_full("runs")
    asker.show("today", "--since", "2026-03-01", columns=80, LINES="3", PAGER="cat")
    with open(os.devnull, "w") as nowhere:
        subprocess.run(asker.command("runs"), stdout=nowhere, check=True, timeout=60)
    assert not files()


def test_an_answer_that_lacks_something_is_not_kept(told: Path) -> None:
    """It says so, and the next one may not have to."""
    _emit(told)
    settle()
    code, _, problems = Asker(told, EVENTLOG_CATCH_UP_S="0").ask("runs")
    assert code == 0
    assert b"this answer is without" in problems
    assert not files()


def test_what_changed_while_it_was_asked_is_not_kept(told: Path) -> None:
    """A segment that was written to a moment before may be written to again without a trace in its times."""
    segment = next((told / "log" / "llm_call").glob("*.jsonl"))
    future = time.time() + 5
    os.utime(segment, (future, future))
    Asker(told).ask("runs")
    assert not files()


# -- the folder ------------------------------------------------------------------------------


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder_is_a_link(path: Path) -> None:
    folder = path.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "others may read it": lambda path: path.chmod(0o644),
    "others may look into the folder": lambda path: path.parent.chmod(0o755),
    "a link": _replace_by_link,
    "a link to a folder": _folder_is_a_link,
    "a folder": _replace_by_folder,
    "a FIFO": _replace_by_fifo,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "no hash": lambda path: path.write_bytes(b"\n" + path.read_bytes().partition(b"\n")[2]),
    "no numbers": lambda path: rewrite(path, b"a\nb\n\n"),
    "not UTF-8": lambda path: rewrite(path, b"\xff\n" * 3),
    "nothing about what it rests on": lambda path: rewrite(path, b"\n\n"),
    "parts of a strange length": lambda path: rewrite(path, b"0\n9999999999999999999\n\n1 x y"),
    "another file": lambda path: path.write_bytes(os.urandom(5000)),
    "too large": lambda path: path.write_bytes(b"0" * (answers.FILE_MAX_BYTES + 1)),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_stands_in_the_folder_is_no_danger(hostile: str, unchanged: Path) -> None:
    """The answer is that of the full way, and there is no message about it."""
    asker = Asker(unchanged)
    in_full = asker.ask("runs")
    (path,) = files()
    mark()
    HOSTILE[hostile](path)
    assert asker.ask("runs") == in_full
    assert in_full[2] == b""


@pytest.mark.parametrize("place", ["a file", "no rights", "nowhere", "relative", "rubbish"])
def test_where_there_can_be_no_folder_nothing_is_kept(place: str, unchanged: Path, tmp_path: Path) -> None:
    """The answer is the same."""
    cache = tmp_path / "cache"
    folder = cache / "eventlog" / "answers"
    folder.mkdir(parents=True, mode=0o700)
    if place == "a file":
        folder.rmdir()
        folder.write_text("")
    elif place == "rubbish":
        for number in range(1001):
            (folder / f"{number}").touch()
    elif place == "no rights":
        folder.rmdir()
        folder.parent.rmdir()
        cache.chmod(0o500)
    where = {"nowhere": "/proc/nowhere", "relative": "cache"}.get(place, str(cache))
    asker = Asker(unchanged, XDG_CACHE_HOME=where)
    assert asker.ask("runs") == asker.ask("runs") == asker.ask_in_full("runs")
    cache.chmod(0o700)
    if place != "no rights" or os.geteuid() != 0:  # whom rights do not stop
        assert not [path for path in tmp_path.rglob("*") if len(path.name) == 40]


def test_the_oldest_answers_go(unchanged: Path) -> None:
    """There are 64 at most, and no part of one for longer than an hour."""
    asker = Asker(unchanged)
    asker.ask("runs")
    (first,) = files()
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700
    for number in range(70):
        old = first.with_name(f"{number:040x}")
        old.write_bytes(b"")
        os.utime(old, (time.time() - number, time.time() - number))
    (part,) = [first.with_name(f"{'a' * 40}.7.part")]
    part.touch()
    os.utime(part, (1, 1))
    asker.ask("sessions")
    assert len(files()) == 64
    assert f"{0:040x}" in {path.name for path in files()}
    assert f"{69:040x}" not in {path.name for path in files()}
    assert not part.exists()


def test_a_variable_does_not_stand_in_the_folder(unchanged: Path) -> None:
    """It may hold a secret; even its hash is one of all variables together."""
    Asker(unchanged, API_KEY="sk-very-secret").ask("runs")
    (path,) = files()
    assert b"sk-very-secret" not in path.read_bytes()
    assert b"API_KEY" not in path.read_bytes()


def test_a_reader_that_is_gone_is_no_error(unchanged: Path) -> None:
    """As with `eventlog runs | true`."""
    asker = Asker(unchanged)
    asker.ask("runs")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(asker.command("runs"), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE,
                          check=False, timeout=60)  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_kept_answer_needs_no_packages(unchanged: Path) -> None:
    """Neither click nor DuckDB is loaded for it; -X is no part of the question."""
    asker = Asker(unchanged)
    asker.ask("cost")
    command = [sys.executable, "-X", "importtime", *asker.command("cost")[1:]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "eventlog.short.answers" in loaded
    assert not {"duckdb", "click", "msgspec", "json", "pathlib"} & loaded


# -- any history -----------------------------------------------------------------------------

STEPS: dict[str, Callable[[Path], object]] = {
    "call": lambda root: Asker(root).ask(
        "emit", "llm_call", json.dumps({"cost_usd": "1"}), "--timestamp", "2026-02-01"
    ),
    "price": _price,
    "index": lambda root: Asker(root).ask("index"),
    "no index": lambda root: (root / "index.duckdb").unlink(missing_ok=True),
    "settings": _settings("~/.config/eventlog/eventlog.toml"),
    "no settings": lambda _: Path("~/.config/eventlog/eventlog.toml").expanduser().unlink(missing_ok=True),
    "time": lambda _: settle(),
}


@settings(max_examples=4)
@given(steps=st.lists(st.sampled_from([*STEPS, "ask", "ask", "ask"]), min_size=3, max_size=7))
def test_a_kept_answer_never_differs(steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever happened, in whatever order: it says what the full way says at that moment."""
    root = tmp_path_factory.mktemp("any") / "root"
    STEPS["call"](root)
    with contextlib.suppress(OSError):
        Path("~/.config/eventlog/eventlog.toml").expanduser().unlink()
    for step in [*steps, "ask", "time", "ask", "ask"]:
        if step in STEPS:
            STEPS[step](root)
            continue
        for _ in within_one_minute():
            kept, in_full = Asker(root).ask("cost", "--by", "model"), Asker(root).ask_in_full("cost", "--by", "model")
        assert kept[:2] == in_full[:2]
