"""The command line: what each command prints, each error in full, and the exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from uuid import UUID

import pytest

from eventlog.cli.main import COMMANDS
from eventlog.format.envelope import FIELDS
from eventlog.indexer.index import index_file
from fixtures import transcripts
from tests.conftest import PROJECT, Run, lines_of

LEAVES = [
    ("emit",),
    ("tail",),
    ("import", "jsonl"),
    ("import", "agents"),
    ("import", "claude-code"),
    ("hooks", "install"),
    ("hooks", "uninstall"),
    ("hooks", "list"),
    ("statusline", "install"),
    ("statusline", "uninstall"),
    ("quarantine", "list"),
    ("quarantine", "retry"),
    ("index",),
    ("replay",),
    ("status",),
    ("doctor",),
    ("trust",),
    ("runs",),
    ("show",),
    ("sessions",),
    ("requests",),
    ("search",),
    ("diff",),
    ("insights",),
    ("today",),
    ("cost", "daily"),
    ("cost", "weekly"),
    ("cost", "monthly"),
    ("cost", "recompute"),
    ("cost", "prices"),
    ("metrics",),
    ("health",),
    ("alerts", "add"),
    ("alerts", "list"),
    ("alerts", "snooze"),
    ("alerts", "rm"),
    ("alerts", "retry"),
    ("alerts", "check"),
    ("alerts", "watch"),
    ("alerts", "test"),
    ("sql",),
    ("export", "types"),
    ("export", "bundle"),
    ("export", "verify"),
    ("up",),
    ("service", "install"),
    ("serve",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "revoke"),
    ("keys", "rotate"),
    ("seal",),
    ("verify",),
    ("archive",),
    ("prune",),
    ("backup",),
    ("restore",),
    ("demo",),
    ("docs",),
    ("completion",),
]


def test_the_way_of_an_event_on_the_command_line(run: Run, root: Path) -> None:
    """Emit, tail, index, status, sql, export, replay."""
    emitted = run(
        "emit",
        "deploy",
        '{"version": "1.2", "ok": true}',
        "--agent",
        "ci",
        "--run-id",
        "77",
        "--session-id",
        "s",
        "--workspace",
        "w",
    )
    assert (emitted.returncode, emitted.stderr) == (0, "")
    event_id = emitted.stdout.strip()
    assert UUID(event_id).version == 7
    tailed = run("tail", "deploy")
    event = json.loads(tailed.stdout)
    assert {key: event[key] for key in event if key != "timestamp"} == {
        "event_id": event_id, "event_type": "deploy", "run_id": "77", "session_id": "s", "workspace": "w",
        "agent": "ci",
        "payload": {"version": "1.2", "ok": True},
    }  # fmt: skip
    assert run("index").stdout == f"indexed 1 event ({len(tailed.stdout)} bytes)\n"
    status = json.loads(run("status", "--json").stdout)
    assert (status["segments"], status["events"], status["rows"], status["quarantined"]) == (1, 1, 1, 0)
    assert (status["lag_bytes"], status["lag_s"], status["held_by"], status["root"]) == (0, 0.0, [], str(root))
    query = "SELECT event_id, payload ->> 'version' AS version FROM events"
    assert run("sql", query, "--format", "csv").stdout == f"event_id,version\n{event_id},1.2\n"
    assert json.loads(run("sql", query, "--format", "json").stdout) == [{"event_id": event_id, "version": "1.2"}]
    assert json.loads(run("sql", "-", "--format", "jsonl", stdin=query).stdout) == {
        "event_id": event_id,
        "version": "1.2",
    }
    (row,) = [json.loads(line) for line in run("export", "deploy", "--format", "jsonl").stdout.splitlines()]
    assert (row["event_id"], row["payload"]) == (event_id, {"version": "1.2", "ok": True})
    hash_ = re.fullmatch(
        r"replayed 1 event from 1 segment in \d+\.\d s, 0 lines in quarantine\ncontent hash ([0-9a-f]{16})\n",
        run("replay").stdout,
    )
    assert hash_
    assert run("replay", "--verify").stdout == f"equal: 1 event, content hash {hash_[1]}\n"


def test_a_table_when_piped_is_whole_and_plain(run: Run) -> None:
    """No colours, nothing shortened, control characters harmless."""
    run("emit", "t", json.dumps({"long": "x" * 500, "bad": "\x1b[31m\x07"}))
    run("index")
    found = run(
        "sql", "SELECT payload ->> 'long' AS long, payload ->> 'bad' AS bad, NULL AS nothing FROM events"
    ).stdout
    assert "x" * 500 in found
    assert "\x1b" not in found
    assert "\x07" not in found
    assert found.splitlines()[1].split("|")[1].strip() == "long"


def test_status_for_people(run: Run, root: Path) -> None:
    """Also before there is an index."""
    run("emit", "t")
    assert run("status").stdout.splitlines()[2:] == [
        "index        none; try: eventlog index",
        "events       unknown",
        "rows         unknown",
        "quarantined  unknown",
        "dropped      unknown",
        "alarms       unknown",
        "lag          unknown",
        "held by      nobody",
    ]
    run("index")
    run("emit", "t")
    (root / "log" / "Odd").mkdir()
    found = run("status").stdout
    assert re.search(r"^events       1 in the log$", found, re.MULTILINE)
    assert re.search(r"^lag          \d+ B, \d+\.\d s$", found, re.MULTILINE)
    assert re.search(r"^left alone   .*/log/Odd: the name is not an event type$", found, re.MULTILINE)


def test_emit_reads_lines_from_standard_input(run: Run, root: Path) -> None:
    """A bad line is named and costs no other."""
    done = run("emit", "item", "-", "--run-id", "r", stdin='{"n":1}\n\n[2]\n{"n":3}\nnonsense\n{"n":4}')
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.splitlines() == [
        "line 3: raw payload is not a JSON object: Expected `object`, got `array`; got: [2]",
        "line 5: raw payload is not a JSON object: JSON is malformed: invalid character (byte 4); got: nonsense",
    ]
    assert [json.loads(line)["payload"]["n"] for line in lines_of(root, "item")] == [1, 3, 4]
    assert run("emit", "item", "-", stdin="").returncode == 0


def test_emit_takes_every_envelope_field(run: Run, root: Path) -> None:
    """And refuses a value that the envelope cannot have, by the name of the option."""
    given = {
        "event_id": "019b76da-a800-7000-8000-000000000001", "timestamp": "2026-01-01T00:00:00.000000Z",
        "run_id": "r", "request_id": "q", "session_id": "s", "parent_event_id": "p", "cycle": 3, "turn_number": -2,
        "audit_level": "export", "workspace": "w", "agent": "a", "schema_version": 7,
    }  # fmt: skip
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    assert run("emit", "t", *options).stdout == f"{given['event_id']}\n"
    (line,) = lines_of(root, "t")
    assert json.loads(line) == {**given, "event_type": "t", "payload": {}}
    assert {*given, "event_type", "payload"} == set(FIELDS)
    for option, value in (("--audit-level", "all"), ("--cycle", "1.5"), ("--schema-version", "0")):
        done = run("emit", "t", option, value)
        assert (done.returncode, option in done.stderr) == (2, True)
    assert "--event-id is for one event" in run("emit", "t", "-", "--event-id", "x", stdin="{}").stderr


def test_emit_with_a_dedupe_key_gives_one_id(run: Run) -> None:
    """A hook that is called twice."""
    ids = {run("emit", "t", "--timestamp", "2026-01-01", "--dedupe-key", "k").stdout for _ in range(2)}
    assert len(ids) == 1
    ids = {run("emit", "t", "--dedupe-key", "k", EVENTLOG_WORKSPACE="w").stdout for _ in range(2)}
    assert ids == {run("emit", "t", "--dedupe-key", "k", "--workspace", "w").stdout}
    assert ids != {run("emit", "t", "--dedupe-key", "k").stdout}


def test_emitting_while_turned_off_is_silent_success(run: Run, root: Path) -> None:
    """A hook must not notice."""
    done = run("emit", "t", EVENTLOG_DIR="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not root.exists()


def test_a_closed_pipe_is_no_error(run: Run, root: Path) -> None:
    """`eventlog tail | head -1`."""
    run("emit", "t", "-", stdin=('{"pad":"' + "x" * 1000 + '"}\n') * 900)
    run("index")
    for command in (
        ["tail", "-n", "900"],
        ["sql", "SELECT * FROM events", "--format", "csv"],
        ["sql", "SELECT * FROM events"],
    ):
        line = " ".join(["exec", sys.executable, "-m", "eventlog", *(f"'{part}'" for part in command)])
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; ({line}) | head -c 100 > /dev/null"],
            env={**os.environ, "EVENTLOG_DIR": str(root)}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")


def test_importing_on_the_command_line(run: Run, tmp_path: Path) -> None:
    """What was new, what was not, what could not be read, and what looks like the time."""
    done = run("import", "claude-code", str(transcripts.FOLDER))
    assert (
        done.stdout == "3 files: 22 new events, 3 lines in quarantine (the first: not JSON: Input data was truncated)\n"
    )
    assert run("import", "claude-code", str(transcripts.FOLDER)).stdout.startswith("3 files: 0 new events, ")
    path = tmp_path / "app.jsonl"
    path.write_text('{"ts": 1588316522.5, "kind": "LogIn"}\n')
    done = run("import", "jsonl", str(path), "--type-field", "kind")
    assert done.stdout == "1 file: 1 new event\n"
    assert done.stderr == "no --time-field: the events carry no time (1970); app.jsonl seems to have one in 'ts'\n"
    run("import", "jsonl", str(path), "--type", "app", "--time-field", "ts", "--workspace", "w", "--agent", "a")
    event = json.loads(run("tail", "app").stdout)
    assert (event["timestamp"], event["workspace"], event["agent"]) == ("2020-05-01T07:02:02.500000Z", "w", "a")


ERRORS: dict[str, tuple[list[str], int, str]] = {
    "a command that is not there": (
        ["emot"], 2, "error: no such command 'emot'. Did you mean 'emit'?\n",
    ),
    "a bad type": (
        ["emit", "Bad"], 2,
        "error: event type 'Bad' is refused: use 1 to 100 of a-z, 0-9, '_', '.', '-', beginning with a letter\n",
    ),
    "bad JSON": (
        ["emit", "t", "{"], 2,
        "error: raw payload is not a JSON object: Input data was truncated; got: {\n",
    ),
    "a bad time": (
        ["emit", "t", "--timestamp", "noon"], 2,
        "error: timestamp 'noon' is not a time; use a datetime or ISO 8601 text\n",
    ),
    "a bad age": (
        ["tail", "--since", "long ago"], 2,
        "error: 'long ago' is not a time; use ISO 8601 (2026-01-31, 2026-01-31 12:00, 2026-01, 2026-W05), an age "
        "(90s, 15m, 2h, 7d, 4w), now, today, yesterday, a day of the week (monday), this week, last week, "
        "this month, last month\n",
    ),
    "times in the wrong order": (
        ["tail", "--since", "1h", "--until", "2h"], 2,
        "error: --since 1h is not before --until 2h; nothing can match\n",
    ),
    "no index yet": (
        ["sql", "SELECT 1"], 1,
        "error: there is no index at {root}/index.duckdb: nothing is recorded here yet; `eventlog` says how to begin\n",
    ),
    "a folder that is not there": (
        ["status", "--root", "/nowhere"], 2,
        "error: there is no folder /nowhere; give --root DIR or set EVENTLOG_DIR, or emit an event first\n",
    ),
    "a file to import that is not there": (
        ["import", "jsonl", "nowhere.jsonl", "--type", "t"], 1,
        "error: there is no file nowhere.jsonl; nothing was imported\n",
    ),
    "no transcripts": (
        ["import", "claude-code"], 1,
        "error: there is no {home}/.claude/projects or {home}/.config/claude/projects; "
        "name a transcript or a folder of them\n",
    ),
    "neither type nor field": (
        ["import", "jsonl", "x.jsonl"], 2,
        "error: give either --type T or --type-field F; try: eventlog import jsonl --help\n",
    ),
    "poll without watch": (
        ["index", "--poll"], 2,
        "error: --poll goes with --watch; try: eventlog index --help\n",
    ),
    "output of a table": (
        ["sql", "SELECT 1", "-o", "x"], 2,
        "error: the format of x is not known; use --format json, jsonl, csv, parquet; try: eventlog sql --help\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_where_and_what_next(run: Run, root: Path, case: str) -> None:
    """On standard error alone, in full, with the documented exit code."""
    arguments, code, message = ERRORS[case]
    root.mkdir()
    done = run(*arguments)
    assert done.stderr == message.replace("{root}", str(root)).replace("{home}", str(Path.home()))
    assert (done.returncode, done.stdout) == (code, "")


INDEXED_ERRORS: dict[str, tuple[list[str], int, str]] = {
    "a write": (
        ["sql", "DELETE FROM events"], 2,
        "error: DELETE is refused: the index is read-only and derived from the log; "
        "use SELECT, WITH, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN\n",
    ),
    "a typing error": (
        ["sql", "SELECT evnt_id FROM events"], 2,
        'error: Binder Error: Referenced column "evnt_id" not found in FROM clause!',
    ),
    "too slow": (
        ["sql", "SELECT count(*) FROM range(10000000000) a, range(1000000000) b", "--timeout", "0.2"], 2,
        "error: the query was stopped after 0.2 s; narrow it, or allow more time\n",
    ),
    "no such type": (
        ["export", "t", "other", "--format", "csv"], 2,
        "error: no events of type other, and no view of that name; try: eventlog sql 'FROM event_types', "
        "or eventlog sql 'SHOW TABLES'\n",
    ),
    "no such folder": (
        ["export", "t", "--format", "csv", "-o", "nowhere/x.csv"], 2,
        "error: there is no folder {home}/nowhere to write x.csv to\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXED_ERRORS)
def test_errors_of_questions(run: Run, root: Path, case: str) -> None:
    """As above, with an index there."""
    arguments, code, message = INDEXED_ERRORS[case]
    run("emit", "t")
    run("index")
    done = run(*arguments)
    assert done.stderr.startswith(message.replace("{home}", str(Path.home())))
    assert (done.returncode, done.stdout) == (code, "")


def test_a_held_index_is_exit_code_3(run: Run, root: Path) -> None:
    """With the name of the holder."""
    run("emit", "t")
    run("index")
    with index_file.writing(root):
        started = time.monotonic()
        done = run("sql", "SELECT 1", "--wait", "0.2")
        assert time.monotonic() - started < 10
    assert done.returncode == 3
    assert f"was held for 0.2 s by pid {os.getpid()} (" in done.stderr
    assert done.stdout == ""


def test_a_difference_is_exit_code_1(run: Run, root: Path) -> None:
    """With what differs."""
    run("emit", "t")
    run("index")
    with index_file.writing(root) as connection:
        connection.execute("DELETE FROM event_rows")
    done = run("replay", "--verify")
    assert done.returncode == 1
    assert done.stdout.startswith("the live index differs from a replay of its log:\n  events: live 0, replayed 1\n")
    assert done.stdout.endswith("try: eventlog replay\n")


def test_an_unwritable_root(run: Run, tmp_path: Path) -> None:
    """No traceback; the place and the cause."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    for arguments in (["emit", "t"], ["index", "--watch"], ["replay"]):
        done = run(*arguments, "--root", str(blocker))
        assert done.returncode in (1, 2)
        assert re.search(r"^error: ", done.stderr, re.MULTILINE)
        assert str(blocker) in done.stderr
        assert "Traceback" not in done.stderr


def test_a_bad_setting(run: Run) -> None:
    """The nearest right one is suggested."""
    done = run("status", EVENTLOG_MODUS="x")
    assert done.stderr == "error: unknown environment variable EVENTLOG_MODUS; did you mean EVENTLOG_MODE?\n"
    assert done.returncode == 2


#: They work on no log.
WITHOUT_ROOT = [
    ("export", "verify"), ("trust",), ("docs",), ("completion",), ("hooks", "uninstall"), ("hooks", "list"),
    ("statusline", "uninstall"),
]  # fmt: skip


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_has_help_with_an_example(run: Run, command: tuple[str, ...]) -> None:
    """And --root, but for what has to do with none."""
    for flag in ("--help", "-h"):
        done = run(*command, flag)
        assert done.returncode == 0
        assert (
            f"Example:\n    eventlog {' '.join(command)}" in done.stdout
            or f"eventlog {' '.join(command)}" in done.stdout
        )
        assert "Example:" in done.stdout
        assert ("--root" in done.stdout) == (command not in WITHOUT_ROOT)


def test_the_list_of_commands_is_complete(run: Run) -> None:
    """What --help lists is what there is."""
    listed = re.findall(r"^  ([a-z]+)  ", run("--help").stdout.split("Commands:")[1], re.MULTILINE)
    assert listed == list(COMMANDS) == list(dict.fromkeys(command[0] for command in LEAVES))
    assert run("--version").stdout.startswith("eventlog, version ")


def test_the_console_script_and_the_module_are_the_same(root: Path) -> None:
    """`eventlog` and `python -m eventlog`."""
    script = Path(sys.executable).with_name("eventlog")
    done = subprocess.run([script, "--version"], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("eventlog, version ")


def test_the_end_is_quick_and_nothing_is_lost(root: Path) -> None:
    """What was printed and what was left for the end is done; what was loaded is not taken apart."""
    program = """
        import atexit, sys
        from eventlog.cli import main

        class Loaded:
            def __del__(self):
                print("taken apart")

        loaded = Loaded()
        atexit.register(print, "left for the end")
        print("printed")
        print("told", end="", file=sys.stderr)
        sys.argv[1:] = ["sql", "SELECT 1"]
        main()
    """
    root.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "EVENTLOG_DIR": str(root)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "printed\nleft for the end\n")
    assert done.stderr.startswith("tolderror: there is no index at ")


def test_emit_takes_json_as_people_write_it(run: Run, root: Path) -> None:
    """Over several lines; but a newline inside a string is not JSON, and neither are broken bytes."""
    assert run("emit", "t", '{\n  "a": [1,\n 2]\n}').returncode == 0
    assert json.loads(lines_of(root, "t")[0])["payload"] == {"a": [1, 2]}
    for bad in ('{"a": "x\ny"}', os.fsdecode(b'{"a":"\xff"}')):
        done = run("emit", "t", bad)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
    assert len(lines_of(root, "t")) == 1


def test_closed_standard_streams(root: Path) -> None:
    """A daemon may have none."""
    for redirect in ("<&-", ">&-", "<&- >&-"):
        command = f"{sys.executable} -m eventlog emit t - {redirect}; {sys.executable} -m eventlog emit t {redirect}"
        done = subprocess.run(
            ["bash", "-c", command], env={**os.environ, "EVENTLOG_DIR": str(root)}, input=b'{"n":1}\n',
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines_of(root, "t")) == 4


def test_names_that_are_not_unicode(run: Run, root: Path) -> None:
    """In the log they are reported; as a root they are refused."""
    run("emit", "t")
    (root / "log" / os.fsdecode(b"bad\xff")).mkdir()
    status = json.loads(run("status", "--json").stdout)
    assert status["oddities"] == [f"{root}/log/bad\\udcff: the name is not an event type"]
    assert "bad" in run("index").stderr
    assert "is not UTF-8" in run("status", "--root", os.fsdecode(b"/tmp/x\xff")).stderr


def test_the_time_limit_holds_for_what_duckdb_does_not_interrupt(run: Run) -> None:
    """One call that makes a huge value."""
    run("emit", "t")
    run("index")
    started = time.monotonic()
    done = run("sql", "SELECT list_sum(range(300000000))", "--timeout", "0.2")
    assert time.monotonic() - started < 15
    assert done.returncode == 2
    assert done.stderr == "error: the query was stopped after 0.2 s; narrow it, or allow more time\n"


def test_an_import_of_which_nothing_comes_is_an_error(run: Run, tmp_path: Path) -> None:
    """A mistyped field, for one; the reason names it."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"at": "2026-01-01"}\n' * 2)
    done = run("import", "jsonl", str(path), "--type", "t", "--time-field", "ta")
    assert done.stdout == "1 file: 0 new events, 2 lines in quarantine (the first: there is no time field 'ta')\n"
    assert done.stderr == "error: not one line could be imported; check the options, and that it is the right file\n"
    assert done.returncode == 1
    assert "there is no type field 'kind'" in run("import", "jsonl", str(path), "--type-field", "kind").stdout


def test_output_that_cannot_be_written(root: Path, run: Run) -> None:
    """One message, and the exit code of a failure."""
    run("emit", "t")
    for command in ("status", "tail", "emit t"):
        line = f"exec {sys.executable} -m eventlog {command} > /dev/full"
        done = subprocess.run(
            ["bash", "-c", line],
            env={**os.environ, "EVENTLOG_DIR": str(root)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, b"error: No space left on device\n")


def test_a_wide_result_in_a_narrow_terminal(root: Path, run: Run) -> None:
    """One column below the other, not one letter."""
    event_id = run("emit", "t", '{"a": 1}').stdout.strip()
    run("index")
    command = f"stty cols 80; {sys.executable} -m eventlog sql 'FROM events' --root {root}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=60, check=True
    )
    assert event_id in done.stdout
    assert '{"a":1}' in done.stdout
