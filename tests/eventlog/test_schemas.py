"""Typed events: checked at emit, announced once, one struct per name."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog as obs
from eventlog.config import Config
from eventlog.format import schemas
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "_by_name", {})
    monkeypatch.setattr(schemas, "_by_struct", {})


class _Loose(msgspec.Struct):
    celsius: float


def reading() -> type[msgspec.Struct]:
    @obs.event("reading", version=2)
    class Reading(msgspec.Struct):
        celsius: float
        place: str | None = None

    return Reading


def test_a_typed_event_carries_its_type_and_version(root: Path, recorder: Recorder) -> None:
    """The struct is the payload."""
    recorder.emit(reading()(celsius=1.5), agent="probe")
    event = json.loads(lines_of(root, "reading")[0])
    assert (event["event_type"], event["schema_version"], event["agent"]) == ("reading", 2, "probe")
    assert event["payload"] == {"celsius": 1.5, "place": None}


def test_values_are_checked_at_emit(root: Path, recorder: Recorder) -> None:
    """A struct's constructor checks nothing; emit names the field, and the struct."""
    with pytest.raises(obs.InvalidEvent, match=r"reading: Expected `float`, got `str` - at `\$.celsius` \(.*Reading\)"):
        recorder.emit(reading()(celsius="warm"))
    assert not (root / "log").exists()


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01", 5])
def test_what_is_no_time_is_explained(root: Path, recorder: Recorder, at: object) -> None:
    """Text where a datetime is expected is fine, if it is one."""

    @obs.event("met")
    class Met(msgspec.Struct):
        at: datetime

    for event in (Met(at=at), {"at": at}):  # type: ignore[arg-type]
        with pytest.raises(obs.InvalidEvent) as caught:
            recorder.emit(*(("met", event) if isinstance(event, dict) else (event,)))
        assert str(caught.value).startswith("met: ")
        assert "`$.at`" in str(caught.value)
        assert str(caught.value).endswith(
            "; pass a datetime, or ISO 8601 text with date and time: 2026-01-31T12:00:00Z"
        )
    assert recorder.emit("met", {"at": "2026-01-31T12:00:00Z"})


def test_raw_json_in_a_struct_is_checked_too(root: Path, recorder: Recorder) -> None:
    """It is refused, and not taken for a failing disk."""

    @obs.event("wrapped")
    class Wrapped(msgspec.Struct):
        raw: msgspec.Raw

    for nonsense, reason in [(b"nonsense", "wrapped: JSON is malformed"), (b'"\xff"', "not UTF-8")]:
        with pytest.raises(obs.InvalidEvent, match=reason):
            recorder.emit(Wrapped(msgspec.Raw(nonsense)))
    recorder.emit(Wrapped(msgspec.Raw(b"[1]")))
    assert json.loads(lines_of(root, "wrapped")[0])["payload"] == {"raw": [1]}
    assert (recorder.stats().refused, recorder.stats().lost) == (2, 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokens": "many"}, r"asked: Expected `int \| null`, got `str` - at `\$.tokens` \(.*Asked\)"),
        ({"prompt": msgspec.Raw(b"[1,")}, "asked: JSON is malformed"),
        ({"prompt": msgspec.Raw(b'{"a":"\\q"}')}, "asked: JSON is malformed"),
        ({"prompt": msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)}, "asked: maximum recursion depth exceeded"),
        ({"prompt": msgspec.Raw(b"[1,\n2]")}, "newline"),
        ({"prompt": msgspec.Raw(b'"\xff"')}, "not UTF-8"),
        ({"prompt": [{"score": math.inf}]}, r"payload.prompt\[0\].score is inf"),
        ({"prompt": {1j: 1}}, "cannot be written as JSON"),
    ],
)
def test_of_eventlogs_own_structs_all_is_checked_but_what_may_be_anything(
    root: Path, recorder: Recorder, fields: dict[str, Any], reason: str
) -> None:
    """A long prompt becomes no objects again, and is JSON all the same."""

    @schemas.built_in("asked")
    class Asked(msgspec.Struct, omit_defaults=True):
        prompt: Any = None
        tokens: int | None = None

    recorder.emit(Asked([{"role": "user", "content": ["hello", 1.5, None]}], 3))
    with pytest.raises(obs.InvalidEvent, match=reason):
        recorder.emit(Asked(**fields))
    (event,) = map(json.loads, lines_of(root, "asked"))
    assert event["payload"] == {"prompt": [{"role": "user", "content": ["hello", 1.5, None]}], "tokens": 3}


def test_a_dict_under_a_registered_name_is_checked_too_and_keeps_unknown_fields(root: Path, recorder: Recorder) -> None:
    """One rule for the type, however it is emitted."""
    reading()
    with pytest.raises(obs.InvalidEvent, match="missing required field `celsius`"):
        recorder.emit("reading", {"place": "roof"})
    recorder.emit("reading", {"celsius": 2, "humidity": 0.3})
    assert json.loads(lines_of(root, "reading")[0])["payload"] == {"celsius": 2, "humidity": 0.3}


def test_two_structs_under_one_name_are_an_error_that_names_both() -> None:
    """Which one won would depend on the order of imports."""
    reading()
    with pytest.raises(obs.EventTypeConflict) as caught:
        obs.event("reading")(_Loose)
    assert "reading.<locals>.Reading" in str(caught.value)
    assert "_Loose" in str(caught.value)


def test_the_same_struct_may_be_defined_again(recorder: Recorder) -> None:
    """A notebook cell that is run twice."""
    reading()
    recorder.emit(reading()(celsius=1.0))


@pytest.mark.parametrize("name", ["events", "llm_calls", "sessions", "event_schema", "Bad", "../x"])
def test_bad_and_reserved_names_are_refused(name: str) -> None:
    """A view of that name would hide a table of the index."""
    with pytest.raises(obs.InvalidEvent):
        obs.event(name)(_Loose)


def test_an_unregistered_struct_is_refused_with_both_ways_out(recorder: Recorder) -> None:
    """Decorate it, or give a name."""
    with pytest.raises(obs.InvalidEvent, match=r"decorate it with @eventlog\.event.*or call emit\('a_name', payload\)"):
        recorder.emit(_Loose(1.0))


def test_the_schema_is_logged_once_per_log(root: Path) -> None:
    """Whichever process emits first; later ones find it."""
    struct = reading()
    for _ in range(3):
        recorder = Recorder(Config(root=str(root), strict=True))
        recorder.emit(struct(celsius=1.0))
        recorder.emit(struct(celsius=2.0))
        recorder.shutdown()
    (line,) = lines_of(root, "event_schema")
    payload = json.loads(line)["payload"]
    assert (payload["name"], payload["version"]) == ("reading", 2)
    assert payload["json_schema"]["$defs"]["Reading"]["properties"]["celsius"] == {"type": "number"}


def test_a_schema_that_could_not_be_logged_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And costs no event."""
    struct = reading()
    recorder = Recorder(Config(root=str(root)))
    (root / "log").mkdir(parents=True)
    blocker = root / "log/event_schema"
    blocker.write_text("in the way")
    assert recorder.emit(struct(celsius=1.0)) is not None
    blocker.unlink()
    assert recorder.emit(struct(celsius=2.0)) is not None
    recorder.shutdown()
    assert len(lines_of(root, "reading")) == 2
    assert len(lines_of(root, "event_schema")) == 1
