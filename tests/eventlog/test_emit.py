"""What emit promises: one line per event, an id, and never an exception by default."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

import eventlog as obs
from eventlog.config import Config
from eventlog.format import builtin, ids, timestamps
from eventlog.process import locks
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of


def events_of(root: Path, event_type: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(root, event_type)]


def test_an_event_is_one_line_with_what_was_given_and_nothing_else(root: Path) -> None:
    """Absent means absent: the line holds no defaults."""
    obs.configure(root=root)
    event_id = obs.emit("greeting", {"text": "héllo ☃", "n": [1, 2.5, None, True]}, run_id="r1", cycle=3)
    (line,) = lines_of(root, "greeting")
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event_id": event_id,
        "event_type": "greeting",
        "run_id": "r1",
        "cycle": 3,
        "payload": {"text": "héllo ☃", "n": [1, 2.5, None, True]},
    }


def test_it_works_without_any_configuration(tmp_path: Path) -> None:
    """The default root is ~/.local/state/eventlog."""
    assert obs.emit("greeting")
    assert len(lines_of(tmp_path / "home/.local/state/eventlog", "greeting")) == 1


def test_an_id_is_a_uuid7_of_the_time_of_the_event(root: Path) -> None:
    """Ids begin with the milliseconds of the timestamp, and sort in order of emission."""
    obs.configure(root=root)
    emitted = [obs.emit("tick") for _ in range(500)]
    assert all(UUID(each).version == 7 for each in emitted if each)
    assert emitted == sorted(emitted, key=str)
    first = events_of(root, "tick")[0]
    moment = datetime.fromisoformat(first["timestamp"])
    assert UUID(first["event_id"]).int >> 80 == timestamps.to_us(moment) // 1000


REFUSED: dict[str, tuple[str, object, str]] = {
    "upper case": ("Bad", {}, "event type 'Bad' is refused"),
    "path": ("../x", {}, "is refused"),
    "empty": ("", {}, "is refused"),
    "newline": ("a\nb", {}, "is refused"),
    "NUL": ("a\0b", {}, "is refused"),
    "too long": ("a" * 101, {}, "is refused"),
    "digit first": ("1a", {}, "is refused"),
    "not ASCII": ("é", {}, "is refused"),
    "NaN": ("t", {"a": {"b": [0.0, math.nan]}}, "payload.a.b[1] is nan"),
    "infinity": ("t", {"a": math.inf}, "payload.a is inf"),
    "raw newline": ("t", msgspec.Raw(b'{"a":\n1}'), "newline"),
    "nested raw newline": ("t", {"a": msgspec.Raw(b"[1,\n2]")}, "newline"),
    "nested raw nonsense": ("t", {"a": msgspec.Raw(b"nonsense")}, "payload is not JSON"),
    "nested raw nonsense beside null": ("t", {"a": msgspec.Raw(b"nonsense"), "b": None}, "payload is not JSON"),
    "nested raw not UTF-8": ("t", {"a": msgspec.Raw(b'"\xff"')}, "not UTF-8"),
    "not a number beside null": ("t", {"n": None, "a": [(1, -math.inf)]}, "payload.a[0][1] is -inf"),
    "raw nonsense": ("t", msgspec.Raw(b"{nope}"), "not a JSON object"),
    "raw not UTF-8": ("t", msgspec.Raw(b'{"a":"\xff"}'), "not a JSON object"),
    "list": ("t", [1, 2], "must be a JSON object, not list"),
    "string": ("t", "text", "must be a JSON object, not str"),
    "unknown class": ("t", {"a": object()}, "cannot be written as JSON"),
    "too large": ("t", {"a": "x" * (16 * 1024 * 1024)}, "over the limit"),
    "deep": ("t", json.loads('{"a":' + "[" * 300 + "]" * 300 + "}"), "nested deeper than 256"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_logged_is_refused_with_the_reason(root: Path, case: str) -> None:
    """In strict mode the reason is raised; nothing is written."""
    event_type, payload, reason = REFUSED[case]
    recorder = Recorder(Config(root=str(root), strict=True))
    with pytest.raises(obs.InvalidEvent) as caught:
        recorder.emit(event_type, payload)
    assert reason in str(caught.value)
    assert recorder.stats().refused == 1
    assert not (root / "log").exists()


def test_a_payload_that_contains_itself_is_refused(recorder: Recorder) -> None:
    """No endless loop, no crash."""
    payload: dict[str, Any] = {}
    payload["self"] = payload
    with pytest.raises(obs.InvalidEvent, match="contains itself"):
        recorder.emit("t", payload)


@pytest.mark.parametrize("case", REFUSED)
def test_by_default_nothing_is_raised_into_the_agent(root: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """The event is counted, the cause is logged once, and the next event is recorded."""
    event_type, payload, reason = REFUSED[case]
    obs.configure(root=root)
    with caplog.at_level(logging.WARNING, "eventlog"):
        assert obs.emit(event_type, payload) is None
        assert obs.emit(event_type, payload) is None
    assert obs.emit("fine") is not None
    stats = obs.stats()
    assert (stats.emitted, stats.refused, stats.lost) == (1, 2, 0)
    assert [reason in record.getMessage() for record in caplog.records] == [True]


def test_a_dead_disk_costs_events_but_no_exception(tmp_path: Path) -> None:
    """What could not be written is counted as lost."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    obs.configure(root=blocker / "below")
    assert obs.emit("t") is None
    assert (obs.stats().lost, obs.stats().emitted) == (1, 0)
    with pytest.raises(obs.WriteFailed, match="file"):
        Recorder(Config(root=str(blocker / "below"), strict=True)).emit("t")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"run": "x"}, "unknown envelope field 'run'"),
        ({"run_id": 7}, "Expected `str | null`, got `int`"),
        ({"run_id": "x" * 10_001}, "length <= 10000"),
        ({"workspace": "\ud800"}, "lone surrogate"),
        ({"cycle": "3"}, "Expected `int | null`, got `str`"),
        ({"cycle": 2**64}, "envelope is not valid"),
        ({"audit_level": "loud"}, "Invalid enum value 'loud'"),
        ({"schema_version": 0}, ">= 1"),
        ({"timestamp": "yesterday"}, "'yesterday' is not a time"),
        ({"timestamp": 12}, "12 is not a time"),
        ({"run_id": msgspec.Raw(b'"x","payload":{}')}, "unknown field `payload`"),
        ({"run_id": msgspec.Raw(b'"x"}\n{"y":1')}, "trailing characters"),
        ({"run_id": "r", "agent": msgspec.Raw(b'"a","more":1')}, "unknown field `more`"),
        ({"event_id": "nope"}, "matching regex"),
        ({"event_id": "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847\n"}, "matching regex"),
    ],
)
def test_a_bad_envelope_field_is_refused(recorder: Recorder, fields: dict[str, Any], reason: str) -> None:
    """The same checks hold as at indexing, so nothing emitted ends up in quarantine."""
    with pytest.raises(obs.InvalidEvent) as caught:
        recorder.emit("t", {}, **fields)
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [7, "x" * 10_001])
def test_a_bad_context_field_is_refused_each_time(recorder: Recorder, root: Path, value: Any) -> None:
    """Fields of a context are encoded once, and good ones only."""
    with obs.context(run_id=value):
        for _ in range(2):
            with pytest.raises(obs.InvalidEvent):
                recorder.emit("t")
    assert not (root / "log").exists()


def test_recorders_with_other_defaults_share_a_context(tmp_path: Path) -> None:
    """What one has made of the context is not what the other writes."""
    with obs.context(run_id="r"):
        for agent in ("a", "b", None, "a"):
            recorder = Recorder(Config(root=str(tmp_path), agent=agent, strict=True))
            with recorder.capture() as captured:
                recorder.emit("t")
            assert [(event.run_id, event.agent) for event in captured] == [("r", agent)]


@pytest.mark.parametrize(
    ("given", "logged"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000000Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000000Z"),
        ("2026-01-02", "2026-01-02T00:00:00.000000Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000Z"),
    ],
)
def test_a_given_time_is_logged_in_utc_with_microseconds(
    root: Path, recorder: Recorder, given: datetime | str, logged: str
) -> None:
    """One form only, whatever the caller's."""
    recorder.emit("t", {}, timestamp=given)
    assert events_of(root, "t")[0]["timestamp"] == logged


def test_a_dedupe_key_gives_the_same_id_again(recorder: Recorder) -> None:
    """Same type, time and key: same id; another key or type: another id. It begins with the time."""
    when = "2026-01-02T03:04:05Z"
    one = recorder.emit("t", {}, timestamp=when, dedupe_key="k")
    assert one == recorder.emit("t", {}, timestamp=when, dedupe_key="k")
    assert one != recorder.emit("t", {}, timestamp=when, dedupe_key="k2")
    assert one != recorder.emit("t2", {}, timestamp=when, dedupe_key="k")
    assert one == ids.derived_id(1767323045000000, "t", "k")
    assert UUID(one).version == 8
    assert UUID(one).int >> 80 == 1767323045000


@pytest.mark.parametrize("way", ["emit", "emit_many", "typed"])
def test_a_dedupe_key_without_a_time_is_one_event(recorder: Recorder, way: str) -> None:
    """However often and whenever it is emitted: there is no clock in its id, which begins with a time of 0."""

    def once() -> str | None:
        if way == "typed":
            return recorder.emit(builtin.Step(name="s"), dedupe_key="k")
        if way == "emit_many":
            return recorder.emit_many("step", [{"name": "s"}], dedupe_key="k")[0]
        return recorder.emit("step", {"name": "s"}, dedupe_key="k", timestamp=None)

    one = once()
    time.sleep(0.002)
    assert one == once() == ids.derived_id(0, "step", "k")


def test_a_derived_id_belongs_to_a_workspace(root: Path) -> None:
    """That of the line, wherever it comes from; and no workspace is another than an empty name."""
    found = []
    for config, context, given in (
        (None, {}, {}), ("w", {}, {}), (None, {"workspace": "w"}, {}), ("x", {"workspace": "w"}, {}),
        ("x", {"workspace": "y"}, {"workspace": "w"}), ("", {}, {}), ("x", {"workspace": None}, {}),
        ("x", {}, {"workspace": None}), ("x", {"workspace": "y"}, {"workspace": msgspec.Raw(b' "w"')}),
    ):  # fmt: skip
        recorder = Recorder(Config(root=str(root), strict=True, workspace=config))
        with obs.context(**context):
            found.append(recorder.emit("t", {}, dedupe_key="k", **given))
        recorder.shutdown()
    none, w, empty = (ids.derived_id(0, "t", "k", workspace=each) for each in (None, "w", ""))
    assert found == [none, w, w, w, w, empty, none, none, w]
    assert len({none, w, empty}) == 3


def test_one_instant_has_one_id_however_it_is_written(recorder: Recorder) -> None:
    """In any zone, as text or as a datetime, to the millisecond."""
    spellings = [
        "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+00:00", "20260102T030405Z", "2026-01-02T04:04:05.000+01:00",
        "2026-01-02T03:04:05", "2026-01-02T03:04:05,0009Z", " 2026-01-01T22:04:05-05:00 ",
        datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC),
        datetime(2026, 1, 2, 5, 34, 5, tzinfo=timezone(timedelta(hours=2, minutes=30))),
    ]  # fmt: skip
    assert len({recorder.emit("t", {}, timestamp=each, dedupe_key="k") for each in spellings}) == 1


@dataclasses.dataclass
class _Point:
    x: int


class _Plain(msgspec.Struct):
    x: int


@pytest.mark.parametrize("payload", [{"x": 1}, _Point(1), _Plain(1), msgspec.Raw(b'{"x":1}'), os._Environ])
def test_payloads_may_be_of_several_kinds(root: Path, recorder: Recorder, payload: object) -> None:
    """dict, dataclass, struct, raw JSON and any other mapping."""
    if payload is os._Environ:
        from types import MappingProxyType

        payload = MappingProxyType({"x": 1})
    recorder.emit("t", payload)
    assert events_of(root, "t")[0]["payload"] == {"x": 1}


def test_the_caller_may_give_the_id(root: Path, recorder: Recorder) -> None:
    """As text or as a UUID; what is returned is what the log says."""
    text = "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"
    assert recorder.emit("t", {}, event_id=text) == recorder.emit("t", {}, event_id=UUID(text)) == text
    assert {event["event_id"] for event in events_of(root, "t")} == {text}


def test_raw_json_as_an_envelope_field_cannot_break_a_line(root: Path, recorder: Recorder) -> None:
    """What is written is what was read of it."""
    recorder.emit(
        "t", {}, run_id=msgspec.Raw(b'\n "a" '), event_id=msgspec.Raw(b'\n"01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"')
    )
    (event,) = events_of(root, "t")
    assert (event["run_id"], event["event_id"]) == ("a", "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847")


def test_emit_many_gives_the_same_fields_to_all(root: Path, recorder: Recorder) -> None:
    """One time and one key, so one id: a redelivery in itself."""
    got = recorder.emit_many("t", [{"n": 0}, {"n": 1}], timestamp="2026-01-02", dedupe_key="k", cycle=4)
    assert got == [ids.derived_id(1767312000000000, "t", "k")] * 2
    assert [(event["timestamp"], event["cycle"]) for event in events_of(root, "t")] == [
        ("2026-01-02T00:00:00.000000Z", 4)
    ] * 2


def test_emit_many_writes_all_and_names_those_recorded(root: Path) -> None:
    """One bad payload does not cost the others."""
    obs.configure(root=root)
    got = obs.emit_many("t", [{"i": 0}, {"i": math.nan}, {"i": 2}], run_id="r")
    assert [event["payload"]["i"] for event in events_of(root, "t")] == [0, 2]
    assert [event["event_id"] for event in events_of(root, "t")] == got
    assert (obs.stats().emitted, obs.stats().refused) == (2, 1)


def test_off_is_a_no_op(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTLOG_DIR="" turns emitting off: nothing is written, nothing is raised."""
    monkeypatch.setenv("EVENTLOG_DIR", "")
    assert obs.emit("t") is None
    assert obs.emit_many("t", [{}]) == []
    assert obs.emit("Bad type") is None
    assert obs.stats().emitted == obs.stats().refused == 0
    assert obs.flush() is True


# -- threads, tasks, forks, exits ------------------------------------------------------------


def test_threads_share_the_writer(root: Path) -> None:
    """No line is lost or mixed up, and one segment is enough."""
    obs.configure(root=root)

    def work(name: int) -> None:
        for i in range(200):
            obs.emit("t", {"name": name, "i": i, "pad": "x" * 300})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = {(event["payload"]["name"], event["payload"]["i"]) for event in events_of(root, "t")}
    assert seen == {(n, i) for n in range(8) for i in range(200)}
    assert obs.stats().emitted == 1600
    assert len(list((root / "log/t").iterdir())) == 1


def test_a_forked_child_writes_segments_of_its_own(root: Path) -> None:
    """Also when another thread holds the writer's lock at the moment of the fork."""
    obs.configure(root=root)
    obs.emit("t", {"who": "parent"})
    stream = obs.recorder()._writer._streams["t"]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.held(stream._sync_lock, 1), locks.held(stream._append_lock, 1):
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        ok = obs.emit("t", {"who": "child"}) is not None and obs.stats().emitted == 1
        os._exit(0 if ok else 1)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    obs.emit("t", {"who": "parent again"})
    files = [path.read_text() for path in sorted((root / "log/t").iterdir())]
    assert sorted(["parent again" in text for text in files]) == [False, True]
    assert sorted(['"child"' in text for text in files]) == [False, True]
    assert not any("parent" in text and '"child"' in text for text in files)


PROGRAMS = {
    "exit": "obs.emit('t', {'n': 1})",
    "a thread": "import threading\nthreading.Thread(target=obs.emit, args=('t', {'n': 1})).start()",
    "atexit": "import atexit\natexit.register(lambda: obs.emit('t', {'n': 1}))",
    "after shutdown": "obs.shutdown()\nobs.emit('t', {'n': 1})",
    "unhandled exception": "obs.emit('t', {'n': 1})\nraise RuntimeError('x')",
    "os._exit": "import os\nobs.emit('t', {'n': 1})\nos._exit(0)",
    "kill -9": "import os\nobs.emit('t', {'n': 1})\nos.kill(os.getpid(), 9)",
    "signal handler": (
        "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: obs.emit('t', {'n': 1}))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    ),
    "asyncio.run": "import asyncio\nasync def main():\n    obs.emit('t', {'n': 1})\nasyncio.run(main())",
    "multiprocessing": (
        "import multiprocessing as m\np = m.get_context('fork').Process(target=obs.emit, args=('t', {'n': 1}))\n"
        "p.start(); p.join()"
    ),
    "pool of processes": (
        "import concurrent.futures as c, multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    with c.ProcessPoolExecutor(1, m.get_context('spawn')) as pool:\n"
        "        pool.submit(obs.emit, 't', {'n': 1}).result()"
    ),
}


@pytest.mark.parametrize("how", PROGRAMS)
def test_an_emitted_event_survives_the_end_of_its_process(root: Path, tmp_path: Path, how: str) -> None:
    """However the process ends, the line is there, whole."""
    program = tmp_path / "program.py"
    program.write_text(f"import eventlog as obs\n{PROGRAMS[how]}\n")
    environment = {**os.environ, "EVENTLOG_DIR": str(root)}
    subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, timeout=60, check=False)
    assert [event["payload"] for event in events_of(root, "t")] == [{"n": 1}]


# -- context ---------------------------------------------------------------------------------


def test_context_fields_reach_all_events_inside(root: Path) -> None:
    """Inner contexts add and override; None hides; arguments of emit are stronger; all ends with the block."""
    obs.configure(root=root, workspace="w", agent="default")
    with obs.context(run_id="r", agent="a"):
        obs.emit("t")
        with obs.context(agent="b", cycle=2):
            obs.emit("t")
            obs.emit("t", {}, agent="c")
        with obs.context(run_id=None):
            obs.emit("t")
    obs.emit("t")
    names = ("workspace", "agent", "run_id", "cycle")
    assert [tuple(event.get(name) for name in names) for event in events_of(root, "t")] == [
        ("w", "a", "r", None),
        ("w", "b", "r", 2),
        ("w", "c", "r", 2),
        ("w", "a", None, None),
        ("w", "default", None, None),
    ]


def test_a_wrong_context_field_is_an_error_at_once() -> None:
    """A typing error would otherwise cost the correlation of a whole run."""
    with pytest.raises(obs.InvalidEvent, match="'runid'"), obs.context(runid="x"):
        pass


def test_tasks_inherit_the_context_and_threads_get_it_by_carry() -> None:
    """A task has its own copy; a plain thread starts empty; `carry` hands the context over."""
    with obs.capture() as captured:

        async def task(name: str) -> None:
            with obs.context(agent=name):
                await asyncio.sleep(0)
                obs.emit("task")

        async def main() -> None:
            with obs.context(run_id="r"):
                await asyncio.gather(*(task(f"a{i}") for i in range(3)))

        asyncio.run(main())
        work: Callable[[], object] = lambda: obs.emit("thread")  # noqa: E731 - passed as a value
        with obs.context(run_id="r"):
            for target in (work, obs.carry(work)):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
    assert sorted((event.run_id, event.agent) for event in captured.of_type("task")) == [
        ("r", "a0"),
        ("r", "a1"),
        ("r", "a2"),
    ]
    assert [event.run_id for event in captured.of_type("thread")] == [None, "r"]


def test_a_batch_that_is_written_in_part_counts_and_names_that_part(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the log is recorded, what is not is lost; sinks get the same."""
    obs.configure(root=root)
    sink = obs.MemorySink()
    obs.add_sink(sink)
    monkeypatch.setattr("eventlog.log.stream._WRITE_MAX_BYTES", 1000)
    real, budget = os.write, [3]

    def write(fd: int, data: bytes) -> int:
        if not budget[0]:
            raise OSError(28, "No space left on device")
        budget[0] -= 1
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        recorded = obs.emit_many("t", [{"n": n, "pad": "x" * 300} for n in range(20)])
    logged = [event["event_id"] for event in events_of(root, "t")]
    assert recorded == logged == [event.event_id for event in sink.events]
    assert 0 < len(logged) < 20
    assert (obs.stats().emitted, obs.stats().lost) == (len(logged), 20 - len(logged))


def test_derived_ids_tell_the_parts_of_a_key_apart() -> None:
    """And are what docs/format.md says, for producers in other languages."""
    assert ids.derived_id(1767225600000000, "demo", "k") == "019b76da-a800-866d-affc-a54a5035f02c"
    assert ids.derived_id(0, "a", "bc") != ids.derived_id(0, "ab", "c")
    assert ids.derived_id(0, "a", b"\xff") == ids.derived_id(0, b"a", b"\xff")
    assert ids.derived_id(-5, "a")[:13] == "00000000-0000"
    assert ids.derived_id(1767225600000000, "demo", "k", workspace="acme") == "019b76da-a800-8598-81c1-290fde088132"
    assert ids.derived_id(0, "a", workspace="w") != ids.derived_id(0, "w", "a")
    assert ids.derived_id(0, "a", workspace="") != ids.derived_id(0, "a") != ids.derived_id(0, "", "a")


def test_ids_of_one_moment_differ_also_across_a_fork() -> None:
    """Random numbers are fetched many at a time; a child must not use up what its parent has left."""
    ours = [ids.new_id(10**18)]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, ",".join(ids.new_id(10**18) for _ in range(500)).encode())
        os._exit(0)
    ours += [ids.new_id(10**18) for _ in range(500)]
    os.close(writing)
    with open(reading, encoding="ascii") as pipe:
        theirs = pipe.read().split(",")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len({*ours, *theirs}) == 1001
    assert all(UUID(each).version == 7 and UUID(each).variant == "specified in RFC 4122" for each in ours)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (999_999_999, "1970-01-01T00:00:00.999999Z"),
        (1_000_000_000, "1970-01-01T00:00:01.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_767_323_045_000_001_999, "2026-01-02T03:04:05.000001Z"),
        (1_767_323_045_999_999_999, "2026-01-02T03:04:05.999999Z"),
    ],
)
def test_the_time_of_an_event_is_exact_to_the_microsecond(time_ns: int, text: str) -> None:
    """Also across the second that was formatted before."""
    assert timestamps.from_ns(time_ns) == text
    assert timestamps.from_ns(time_ns) == text


class _Kind(str, enum.Enum):  # noqa: UP042 - the older way of writing it is the one that differs
    CALL = "call"


def test_an_enum_of_text_is_its_value(recorder: Recorder, root: Path) -> None:
    """Its folder was once called `_Kind.CALL`, which no reader takes for an event type."""
    recorder.emit(_Kind.CALL, {})
    assert [folder.name for folder in (root / "log").iterdir()] == ["call"]
