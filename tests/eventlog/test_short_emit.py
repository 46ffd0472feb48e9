"""The short way of `eventlog emit`: the same line as the full way, or none."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.cli.emit import _payload
from eventlog.config import Config
from eventlog.errors import InvalidEvent
from eventlog.format import control, envelope, schemas
from eventlog.format.control import Role
from eventlog.log import layout
from eventlog.record.recorder import Recorder
from eventlog.record.redaction.prefilter import may_hold_secrets
from eventlog.record.redaction.tokens import TOKENS
from eventlog.short import built_in, emit, gate, log
from eventlog.short.settings import plain_root
from tests.conftest import PROJECT, Run, lines_of
from tests.eventlog.redaction_table import SECRET

_IDS = re.compile(rb'"event_id":"[0-9a-f-]{36}"|"timestamp":"[^"]{27}"')


def full_line(event_type: str, text: str, options: dict[str, str]) -> bytes | None:
    """The line of the full way, without what differs each time; None where it refuses the event."""
    recorder = Recorder(Config(root="/nowhere", strict=True), role=Role.OPERATOR)
    fields = {name[2:].replace("-", "_"): value for name, value in options.items()}
    with recorder.capture() as memory:
        try:
            recorder.emit(event_type, _payload(os.fsencode(text)), **fields)
        except InvalidEvent:
            return None
    (line,) = memory.lines
    return _IDS.sub(b"", line + b"\n")


# -- the same line ---------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["name", "search", "step", "step 1", "grün", "a.b", "kind", "duration_ms", "ok", "x-1", "status", "", "1", "it's"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_TYPES = st.sampled_from(["greeting", "a.b-c_1", *built_in.TYPES, *sorted(built_in.OTHERS), "Bad", "1a", "", "a" * 101])
_TEXTS = st.builds(
    json.dumps,
    st.dictionaries(_WORDS, _VALUES, max_size=4),
    ensure_ascii=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
)
_OPTIONS = st.dictionaries(st.sampled_from(emit._FIELDS), st.sampled_from(["r1", "", "a b", 'a"b', "ü", "x" * 2000]))


@given(event_type=_TYPES, text=_TEXTS | st.text(max_size=20), options=_OPTIONS)
@example(event_type="step", text='{"name": "search"}', options={"--run-id": "r1", "--agent": "a"})
@example(event_type="step", text='{"name": 5, "name": "x"}', options={})
@example(event_type="step", text='{"name": "x", "duration_ms": 1}', options={})
@example(event_type="step", text='{"name": "x", "duration_ms": true}', options={})
@example(event_type="greeting", text='{"n": 1e400}', options={})
@example(event_type="greeting", text='{"n": NaN}', options={})
@example(event_type="greeting", text='{"n": 01}', options={})
@example(event_type="greeting", text=' {"n": 1}', options={})
@example(event_type="greeting", text="[1]", options={})
@example(event_type="greeting", text='{"n": "' + "x" * 9000 + '"}', options={})
@example(event_type="greeting", text='{"n": ' + "[" * 300 + "]" * 300 + "}", options={})
def test_the_line_is_that_of_the_full_way(event_type: str, text: str, options: dict[str, str]) -> None:
    """But for id and time; where the full way refuses an event, the short way steps aside."""
    made: list[bytes] = []

    def keep(_root: str, _type: str, line: bytes) -> bool:
        made.append(line)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "_is_announced", lambda *_: True)
        patch.setattr(log, "append", keep)
        event_id = emit.append("/nowhere", event_type, text, options)
    if event_id is None:
        assert not made
        return
    assert _IDS.sub(b"", made[0]) == full_line(event_type, text, options)
    assert envelope.decode(made[0].rstrip(b"\n")).envelope.event_id == event_id


@pytest.mark.parametrize("text", ["{}", '{"version": "1.2", "ok": true}', '{"n": [1, 2.5, null]}', '{"a": {"b": "ü"}}'])
def test_usual_events_go_the_short_way(text: str, recorder: Recorder, root: Path) -> None:
    """Behind the first one of their type, whose segment they continue."""
    recorder.emit("greeting", {"n": 0})
    recorder.shutdown()
    event_id = emit.append(str(root), "greeting", text, {"--run-id": "r1"})
    last = envelope.decode(lines_of(root, "greeting")[-1]).envelope
    assert (last.event_id, last.run_id, bytes(last.payload).decode()) == (event_id, "r1", text)
    assert len(list((root / "log/greeting").iterdir())) == 1


def test_typed_events_need_their_schema_in_the_log(recorder: Recorder, root: Path) -> None:
    """Which the full way writes once."""
    recorder.emit("greeting")
    (root / "log/step").mkdir()
    segment = layout.segment_path(root, "step", layout.new_segment_name(time.time_ns()))
    segment.touch()
    assert emit.append(str(root), "step", '{"name": "search"}', {}) is None
    recorder.emit("step", {"name": "first"})
    recorder.shutdown()
    assert emit.append(str(root), "step", '{"name": "search"}', {}) is not None


def test_the_table_of_types_is_that_of_the_structs() -> None:
    """Each registered and each control type is in it, or left to the full way; fields, kinds and schema ids agree."""
    kinds: dict[Any, Any] = {str: str, int: int, float: (int, float), bool: bool, dict: dict}
    simple = {}
    for name, registered in schemas._by_name.items():
        hints = typing.get_type_hints(registered.struct)
        fields = {}
        for field in msgspec.structs.fields(registered.struct):
            hint = hints[field.name]
            options = () if typing.get_origin(hint) is dict else typing.get_args(hint)
            (kind,) = {*(options or (hint,))} - {type(None)}
            kind = typing.get_origin(kind) or kind
            if kind is not Any:
                fields[field.encode_name] = kinds.get(kind)
        if registered.built_in and name not in control.WRITERS and None not in fields.values():
            simple[name] = (schemas.schema_envelope(registered).event_id, fields)
    assert simple == built_in.TYPES
    others = {name for name, registered in schemas._by_name.items() if registered.built_in} - set(simple)
    assert set(control.WRITERS) | others == built_in.OTHERS


# -- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [row[1] for row in SECRET])
def test_no_secret_passes_the_gate(payload: Any) -> None:
    """In none of the encodings."""
    for ascii_only in (True, False):
        for separators in ((",", ":"), (", ", ": ")):
            assert not gate.is_plain(json.dumps(payload, ensure_ascii=ascii_only, separators=separators))


@pytest.mark.parametrize("token", TOKENS, ids=[token.example[:20] for token in TOKENS])
def test_no_token_passes_the_gate(token: Any) -> None:
    """Anywhere in a text."""
    for text in (token.example, f"say {token.example} now", f"x{token.example}"):
        payload = json.dumps({"text": text})
        assert not (gate.is_plain(payload) and may_hold_secrets(payload.encode()))


_FRAGMENTS = st.sampled_from(
    [
        "word", "Key", "PASS", "token", "auth", "code", "record", "ken1", "rd_2", "rd-3", "ret4", "order", "5432", "54",
        ":", ": ", ":  ", " :", "=", "-", "--", "---", "-p", " -u", ".", "_", "/", "//", "1//0", "[", "]", "{", "}",
        '"',
        "'", "`", ",", " ", "A", "AKI", "AA", ":AA", "eyJ", "SK", "0123456789abcdef", "aB3dE5fG7hI9jK1lM3nO5pQ7", "is",
        "is: ", "Bot ", "basic ", "Bearer ", "dapi", "hooks", "authorization", "question", "action", "x", "é", "\t",
        *sorted({token.prefix for token in TOKENS}),
    ]
)  # fmt: skip


@given(st.lists(_FRAGMENTS, max_size=12).map("".join))
def test_what_passes_the_gate_passes_the_prefilter(text: str) -> None:
    """In a text, as a name, and as it is: the gate is never the one that lets more through."""
    for payload in (
        json.dumps({"text": text}, ensure_ascii=False),
        json.dumps({text: "x y"}, ensure_ascii=False),
        text,
    ):
        assert not (gate.is_plain(payload) and may_hold_secrets(payload.encode()))


def test_a_secret_is_redacted_on_the_command_line(run: Run, root: Path) -> None:
    """In the first event, and in later ones."""
    token = next(token.example for token in TOKENS if token.prefix == "ghp_")
    for _ in range(2):
        assert run("emit", "note", json.dumps({"text": token})).returncode == 0
    lines = lines_of(root, "note")
    assert len(lines) == 2
    assert not any(token.encode() in line for line in lines)


# -- stepping aside --------------------------------------------------------------------------


def _move_behind_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("other"))
    folder.symlink_to("other")


def _tear(folder: Path) -> None:
    (segment,) = folder.iterdir()
    os.truncate(segment, segment.stat().st_size - 1)


def _seal_something(folder: Path) -> None:
    seals = folder.with_name("segment_sealed")
    seals.mkdir()
    (seals / "x").touch()


_STEPS_ASIDE: dict[str, Callable[[Path], object]] = {
    "no folder": lambda folder: folder.rename(folder.with_name("other")),
    "a link": _move_behind_a_link,
    "a torn end": _tear,
    "read-only": lambda folder: next(folder.iterdir()).chmod(0o400),
    "an archive": lambda folder: (folder / "20990101T000000000000Z-0123456789abcdef.jsonl.zst").write_bytes(b""),
    "a name of others": lambda folder: (folder / "zzz").write_bytes(b""),
    "a full one": lambda folder: os.truncate(next(folder.iterdir()), 64 * 1024 * 1024),
    "a seal": _seal_something,
}


@pytest.mark.parametrize("case", _STEPS_ASIDE)
def test_a_segment_that_may_not_be_continued_is_left_alone(case: str, recorder: Recorder, root: Path) -> None:
    """Nothing is written, and the full way decides."""
    recorder.emit("greeting")
    recorder.shutdown()
    _STEPS_ASIDE[case](root / "log/greeting")
    before = {path: path.stat().st_size for path in (root / "log").rglob("*.jsonl")}
    assert emit.append(str(root), "greeting", "{}", {}) is None
    assert {path: path.stat().st_size for path in (root / "log").rglob("*.jsonl")} == before


def test_a_segment_of_a_living_owner_is_left_alone(recorder: Recorder, root: Path) -> None:
    """Its lock says so; the next one that is free is taken."""
    recorder.emit("greeting")
    assert emit.append(str(root), "greeting", "{}", {}) is None
    free = layout.segment_path(root, "greeting", layout.new_segment_name(time.time_ns() - 3_600_000_000_000))
    free.touch()
    assert emit.append(str(root), "greeting", "{}", {}) is not None
    assert free.stat().st_size


def test_an_old_segment_is_left_alone(root: Path) -> None:
    """As by the setting segment_max_age_s, whose default it is."""
    (root / "log/greeting").mkdir(parents=True)
    layout.segment_path(root, "greeting", layout.new_segment_name(time.time_ns() - 25 * 3600 * 10**9)).touch()
    assert emit.append(str(root), "greeting", "{}", {}) is None


def test_a_short_write_is_cut_back(recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the line is left to the full way, which finds another segment."""
    recorder.emit("greeting")
    recorder.shutdown()
    before = lines_of(root, "greeting")
    write = os.write
    monkeypatch.setattr("posix.write", lambda fd, data: write(fd, data[:10]))
    assert emit.append(str(root), "greeting", "{}", {}) is None
    assert lines_of(root, "greeting") == before


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["-"], ["t", "-"], ["t", "{}", "{}"], ["t", "--cycle", "1"], ["t", "--agent"], ["t", "--agent", "-x"],
        ["t", "--agent=a", "--agent=b"], ["t", "--help"], ["t", "--debug"], ["--", "t"], ["t", "--event-id=x"],
    ],
)  # fmt: skip
def test_other_command_lines_are_left_to_the_full_way(arguments: list[str]) -> None:
    """They have options that take a closer look, or are wrong."""
    parts = emit._parts(arguments)
    assert parts is None or parts[1] == "-"


_ENVIRONMENTS: dict[str, tuple[dict[str, str], str | None]] = {
    "--root": ({"HOME": "/h", "EVENTLOG_DIR": "/e"}, "/r"),
    "the variable": ({"HOME": "/h", "EVENTLOG_DIR": "/e"}, None),
    "the default": ({"HOME": "/h"}, None),
    "XDG": ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, None),
}


@pytest.mark.parametrize("case", _ENVIRONMENTS)
def test_the_root_is_the_one_of_the_full_way(case: str) -> None:
    """Where only the command line, a variable or the default decide."""
    from eventlog import config

    environ, given_root = _ENVIRONMENTS[case]
    settings = config.load(environ, **({} if given_root is None else {"root": given_root}))
    assert plain_root(given_root, environ) == settings.root.replace(str(Path.home()), "/h")


@pytest.mark.parametrize(
    "environ",
    [
        {}, {"HOME": "h"}, {"HOME": "/h", "EVENTLOG_DIR": ""}, {"HOME": "/h", "EVENTLOG_DIR": "e"},
        {"HOME": "/h", "EVENTLOG_MODE": "off"}, {"HOME": "/h", "EVENTLOG_TYPO": "x"},
        {"HOME": "/h", "EVENTLOG_DIR": "~/x"},
        {"HOME": "/h", "EVENTLOG_DIR": "/e/../f"}, {"HOME": "/h", "EVENTLOG_DIR": "/e/"},
        {"HOME": "/h", "_EVENTLOG_COMPLETE": "bash_source"}, {"HOME": "/h", "XDG_STATE_HOME": "s"},
    ],
)  # fmt: skip
def test_settings_that_need_a_closer_look_are_left_to_the_full_way(environ: dict[str, str]) -> None:
    """Wrong ones among them, of which it is the full way that complains."""
    assert plain_root(None, environ) is None


@pytest.mark.parametrize("name", ["eventlog.toml", ".config/eventlog/eventlog.toml"])
def test_a_settings_file_is_left_to_the_full_way(name: str) -> None:
    """The project's and the user's."""
    path = Path.home() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    environ = {"HOME": str(Path.home())}
    assert plain_root("/r", environ) == "/r"
    path.touch()
    assert plain_root("/r", environ) is None


# -- as a program ----------------------------------------------------------------------------


def test_nothing_but_the_standard_library_is_loaded(run: Run, root: Path) -> None:
    """And little of that: this is what makes it short."""
    run("emit", "greeting")
    program = """
        import sys
        sys.argv = ["eventlog", "emit", "greeting", '{"text": "hello"}']
        import posix as os
        ended = os._exit
        def end(code):
            heavy = {"msgspec", "click", "logging", "json", "re", "typing", "hashlib"} & set(sys.modules)
            sys.stderr.write(" ".join(sorted(heavy)))
            sys.stderr.flush()
            ended(code)
        os._exit = end
        from eventlog.cli import main
        main()
    """
    code = "\n".join(line[8:] for line in program.splitlines())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(PROJECT)!r})\n{code}"],
        env={**os.environ, "EVENTLOG_DIR": str(root)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lines_of(root, "greeting")) == 2


def test_a_program_that_is_called_like_the_command_has_all_names() -> None:
    """They are loaded when it asks for one of them."""
    code = (
        "import sys; sys.argv = ['eventlog', 'emit']; import eventlog as obs; assert obs.is_short\n"
        "assert 'msgspec' not in sys.modules; assert obs.emit; assert not obs.is_short\n"
        "assert all(hasattr(obs, name) for name in obs.__all__); import eventlog.events"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("first", [True, False])
def test_a_closed_output_is_no_error(first: bool, run: Run, root: Path) -> None:
    """Whichever way an event goes, it is recorded."""
    if not first:
        run("emit", "greeting")
    for redirection in (">&-", "| true"):
        command = f"set -o pipefail; {sys.executable} -m eventlog emit greeting '{{}}' {redirection}"
        env = {**os.environ, "EVENTLOG_DIR": str(root)}
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines_of(root, "greeting")) == 2 + (not first)


def test_a_full_output_is_the_same_error_either_way(run: Run, root: Path) -> None:
    """The event is recorded, and its id is not."""
    env = {**os.environ, "EVENTLOG_DIR": str(root)}
    answers = []
    for _ in range(2):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "eventlog", "emit", "greeting"],
                env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            )  # fmt: skip
        answers.append((done.returncode, done.stderr))
    assert answers[0] == answers[1]
    assert answers[0][0] == 1


def test_many_at_once_lose_nothing(run: Run, root: Path) -> None:
    """Those that find all segments owned create another one."""
    run("emit", "greeting")
    env = {**os.environ, "EVENTLOG_DIR": str(root)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "eventlog", "emit", "greeting", f'{{"n": {n}}}'], env=env, stdout=subprocess.PIPE
        )
        for n in range(12)
    ]
    ids = {process.communicate()[0] for process in processes}
    assert len(ids) == 12
    lines = lines_of(root, "greeting")
    assert len(lines) == 13
    for line in lines:
        envelope.decode(line)
    with open(next((root / "log/greeting").iterdir()), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody has kept it


@pytest.mark.parametrize("command", ["cost", "sql", "today"])
def test_a_question_loads_no_recorder(command: str, root: Path) -> None:
    """It records nothing; to load what does takes half as long as to load DuckDB."""
    code = (
        f"import sys; sys.argv = ['eventlog', {command!r}]; import eventlog.cli, eventlog.cli.main as cli\n"
        f"assert cli.run([{command!r}, '--help']) == 0; assert 'eventlog.record.redaction' not in sys.modules\n"
        "assert 'eventlog.record.recorder' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)
