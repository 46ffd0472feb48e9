"""Control events: a closed list, and nobody writes one but who may."""

from __future__ import annotations

import enum
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import eventlog as obs
from eventlog.config import Config, load
from eventlog.errors import ConfigError, InvalidEvent
from eventlog.format import alerts, builtin, envelope, ids, keys, schemas, timestamps
from eventlog.format.control import RECORDED, WRITERS, Role
from eventlog.importers import claude_code, foreign_types, sources
from eventlog.importers.checkpoints import CHECKPOINT_EVENT
from eventlog.importers.engine import importing
from eventlog.importers.events import REJECTED_EVENT
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.retry import RECOVERED_EVENT
from eventlog.indexer.alarm import ALARM_EVENT
from eventlog.indexer.policies import RETENTION_EVENT
from eventlog.log import reader
from eventlog.log.pruned import PRUNED_EVENT
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance.backup_log import BACKED_UP_EVENT
from eventlog.record import drops
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of

PAGE = Path(__file__).parents[2] / "docs/events.md"
MAINTENANCE = sorted(name for name, role in WRITERS.items() if role is Role.MAINTENANCE)
OPERATOR = sorted(name for name, role in WRITERS.items() if role is Role.OPERATOR)
#: A payload that fits each type with fields that must be there.
PAYLOADS = {
    "price_set": {"model": "m", "input_usd_per_mtok": "1"},
    "alert_rule_set": {"name": "r", "kind": "cost", "threshold": "1"},
    "alert_rule_removed": {"name": "r"},
    "alert_snoozed": {"name": "r", "until": "2030-01-01T00:00:00Z"},
    "alert_acknowledged": {"name": "r", "firing_id": "f"},
    "alert_delivery_retried": {"name": "r", "firing_id": str(ids.new_id(0)), "channel": "env:X"},
}


def written(root: Path) -> set[str]:
    """The event types that the log has, but for what importers note for themselves."""
    return {path.name for path in (root / "log").glob("*")} - {CHECKPOINT_EVENT}


# -- the list ------------------------------------------------------------------------------


def test_the_list_in_the_docs_is_the_one_in_the_code() -> None:
    """Each type once, with who may write it."""
    part = PAGE.read_text().partition("## Control events")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|", part, re.MULTILINE)
    assert dict(rows) == {name: role.name.lower() for name, role in WRITERS.items()}
    assert len(rows) == len(WRITERS)


def test_each_type_that_a_reader_acts_on_is_in_the_list() -> None:
    """Names of events that modules read back; a new one has to be entered."""
    acted_on = {
        SEAL_EVENT, PRUNED_EVENT, BACKED_UP_EVENT, drops.DROPPED_EVENT, schemas.SCHEMA_EVENT,
        ALARM_EVENT, CHECKPOINT_EVENT, REJECTED_EVENT, RECOVERED_EVENT, RETENTION_EVENT, "price_set",
        *alerts.ALERT_TYPES, *keys.KEY_EVENTS,
    }  # fmt: skip
    assert acted_on == WRITERS.keys()


def test_the_recorded_types_are_the_built_in_ones_that_steer_nothing() -> None:
    built_in = {name for name, each in schemas._by_name.items() if each.built_in}
    assert built_in - WRITERS.keys() == RECORDED


# -- emit ----------------------------------------------------------------------------------


class _Kind(enum.StrEnum):
    PRICE = "price_set"


class _Name(str):
    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return False


def _envelope(event_type: str) -> envelope.Envelope:
    return envelope.Envelope(
        event_id=ids.new_id(0), event_type=event_type, timestamp=timestamps.UNKNOWN, payload=msgspec.Raw(b"{}")
    )


DOORS: dict[str, Callable[[Recorder, str], object]] = {
    "emit": lambda recorder, name: recorder.emit(name, PAYLOADS.get(name, {})),
    "emit_many": lambda recorder, name: recorder.emit_many(name, [PAYLOADS.get(name, {})]),
    "record": lambda recorder, name: recorder.record([_envelope(name)]),
    "record_lines": lambda recorder, name: recorder.record_lines(name, [envelope.encode(_envelope(name))]),
    "a text of its own": lambda recorder, name: recorder.emit(_Name(name), PAYLOADS.get(name, {})),
    "an envelope with a text of its own": lambda recorder, name: recorder.record([_envelope(_Name(name))]),
}


@pytest.mark.parametrize("event_type", sorted(WRITERS))
@pytest.mark.parametrize("door", DOORS)
def test_an_agent_writes_no_control_event(root: Path, door: str, event_type: str) -> None:
    """By no way of recording; it is counted, and the error says what to do instead."""
    recorder = Recorder(Config(root=str(root)))
    assert not DOORS[door](recorder, event_type)
    assert recorder.stats().refused == 1
    said = recorder.stats().last_error or ""
    assert re.search("for the operator alone; use `eventlog |written by eventlog's own maintenance alone; use", said)
    assert written(root) == set()


def test_members_of_enumerations_and_typed_events_are_refused_too(root: Path) -> None:
    """The built-in Structs are importable; that does not make them everybody's."""
    recorder = Recorder(Config(root=str(root)))
    typed = [
        builtin.PriceSet(model="m"), builtin.RetentionSet(keep_days=0.0), alerts.AlertRuleRemoved(name="x"),
        alerts.AlertResolved(name="x", firing_id="x", reason="cleared"),
    ]  # fmt: skip
    assert recorder.emit(_Kind.PRICE, {"model": "m"}) is None
    assert [recorder.emit(each) for each in typed] == [None] * 4
    assert recorder.emit_many(typed) == []
    assert recorder.stats().refused == 9
    assert written(root) == set()


@pytest.mark.parametrize("event_type", sorted(WRITERS))
def test_no_struct_may_claim_a_control_type(event_type: str) -> None:
    """Else its schema would stand for ours."""
    with pytest.raises(InvalidEvent, match="choose another"):
        schemas.event(event_type)
    assert event_type not in {each.name for each in schemas._by_struct.values() if not each.built_in}


@pytest.mark.parametrize(
    "event_type",
    ["Price_set", " price_set", "price_set ", "price_set\n", "pr\u0456ce_set", "\uff50rice_set", "price_set\u200b"],
)
def test_names_that_look_alike_are_no_event_types_at_all(root: Path, event_type: str) -> None:
    """Case, space, and letters of other alphabets."""
    recorder = Recorder(Config(root=str(root)))
    assert recorder.emit(event_type, {}) is None
    assert written(root) == set()


def test_logging_bridges_write_only_log_lines(root: Path) -> None:
    """Whatever a record calls itself."""
    obs.configure(root=root)
    logger = logging.getLogger("retention_set")
    handler = obs.LogHandler()
    logger.addHandler(handler)
    try:
        logger.warning("retention_set", extra={"event_type": "retention_set", "keep_days": 0})
        obs.structlog_processor(logger, "price_set", {"event": "price_set", "event_type": "price_set"})
    finally:
        logger.removeHandler(handler)
        obs.shutdown()
    assert written(root) == {"debug_event", "event_schema"}


@pytest.mark.parametrize("event_type", OPERATOR)
def test_an_operators_program_may_write_operator_events(root: Path, event_type: str) -> None:
    """And maintenance ones not."""
    recorder = Recorder(Config(root=str(root), strict=True, operator=True))
    payload = PAYLOADS.get(event_type, {})
    assert recorder.emit(event_type, payload)
    for name in MAINTENANCE:
        with pytest.raises(InvalidEvent, match="maintenance alone"):
            recorder.emit(name, {})


@pytest.mark.parametrize("text", ["1", "true", "yes"])
def test_the_environment_makes_nobody_an_operator(text: str) -> None:
    """It is whoever starts the program who sets it."""
    with pytest.raises(ConfigError, match="unknown environment variable EVENTLOG_OPERATOR"):
        load({"EVENTLOG_OPERATOR": text})


@pytest.mark.parametrize("value", ["true", "false", '"yes"'])
def test_a_file_makes_nobody_an_operator(tmp_path: Path, value: str) -> None:
    """A project's own file, say, or one that a variable names."""
    path = tmp_path / "eventlog.toml"
    path.write_text(f"operator = {value}\n")
    with pytest.raises(ConfigError, match="can be set in code only"):
        load({"EVENTLOG_CONFIG": str(path)})


def test_an_agent_beside_such_a_file_goes_on_without_it(root: Path, tmp_path: Path) -> None:
    """Its events are recorded, and a control event is not."""
    (tmp_path / "eventlog.toml").write_text("operator = true\n")
    code = "import eventlog as o; o.emit('x'); o.emit('retention_set', {'keep_days': 0}); o.shutdown()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "EVENTLOG_DIR": str(root), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert written(root) == {"x"}


@pytest.mark.parametrize(("payload", "given"), [("{}", ""), ("-", "{}\n{}\n")])
def test_the_command_emits_no_maintenance_event(root: Path, run: Run, payload: str, given: str) -> None:
    """Neither one, nor many."""
    done = run("emit", "segments_backed_up", payload, stdin=given)
    assert done.returncode == 2
    assert "segments_backed_up is written by eventlog's own maintenance alone" in done.stderr
    assert written(root) == set()


def test_the_command_emits_operator_events(root: Path, run: Run) -> None:
    """It is the operator's."""
    assert run("emit", "retention_set", '{"keep_days": 30}').returncode == 0
    assert "retention_set" in written(root)


# -- importers -----------------------------------------------------------------------------


def import_(root: Path, tmp_path: Path, *types: str) -> dict[str, int]:
    source = tmp_path / "foreign.jsonl"
    source.write_text("".join(json.dumps({"type": each, "keep_days": 0}) + "\n" for each in types))
    with importing(Config(root=str(root), strict=True), Jsonl(type_field="type")) as importer:
        done = importer.run(source)
    return done.renamed


@pytest.mark.parametrize("event_type", sorted({*WRITERS, *RECORDED, *sources.event_types()}))
def test_a_foreign_type_that_is_ours_is_renamed(root: Path, tmp_path: Path, event_type: str) -> None:
    """However it is spelled there; and it is said how many."""
    camel = "".join(part.capitalize() for part in event_type.split("_"))
    spellings = [event_type, event_type.upper(), camel, f" {event_type}\t", f"_{event_type}."]
    renamed = import_(root, tmp_path, *spellings)
    assert renamed == {event_type: len(spellings)}
    assert written(root) == {f"imported.{event_type}"}


def test_no_two_foreign_types_become_one(root: Path, tmp_path: Path) -> None:
    """One that is called as a renamed one is renamed in its turn."""
    given = ["price_set", "imported.price_set", "imported.imported.price_set", "imported.note", "note"]
    renamed = import_(root, tmp_path, *given)
    assert renamed == {"price_set": 1, "imported.price_set": 1, "imported.imported.price_set": 1}
    made = [foreign_types.imported(name) for name in given]
    assert len(set(made)) == len(given)
    assert written(root) == set(made)
    assert made[-2:] == ["imported.note", "note"]


def test_the_kelvin_sign_is_no_way_in(root: Path, tmp_path: Path) -> None:
    """Some letters are ASCII only once they are small."""
    assert import_(root, tmp_path, "segments_bac\u212aed_up") == {"segments_backed_up": 1}


@pytest.mark.parametrize("event_type", sorted({*WRITERS, *RECORDED, *sources.event_types()}))
def test_nobody_chooses_such_a_type_for_foreign_lines(event_type: str) -> None:
    """It is refused, and another is suggested, which is taken."""
    with pytest.raises(InvalidEvent, match=f"--type imported.{event_type}"):
        Jsonl(type_=event_type)
    assert Jsonl(type_=f"imported.{event_type}").key


def test_the_command_says_what_it_renamed(root: Path, tmp_path: Path, run: Run) -> None:
    """In its summary."""
    source = tmp_path / "foreign.jsonl"
    source.write_text('{"type": "RetentionSet", "keep_days": 0}\n{"type": "note"}\n')
    done = run("import", "jsonl", str(source), "--type-field", "type")
    assert done.stdout.splitlines()[-2:] == [
        "1 file: 2 new events",
        "1 line of type retention_set: that is a name of eventlog's own, now imported.retention_set",
    ]
    assert "retention_set" not in written(root)
    done = run("import", "jsonl", str(source), "--type", "retention_set")
    assert (done.returncode, done.stdout) == (2, "")
    assert "use another, for instance --type imported.retention_set" in done.stderr


def test_a_transcript_stays_a_transcript(root: Path, tmp_path: Path) -> None:
    """Whatever its lines call themselves."""
    source = tmp_path / "session.jsonl"
    source.write_text('{"type": "price_set", "event_type": "retention_set", "keep_days": 0}\n')
    with importing(Config(root=str(root), strict=True), claude_code.ClaudeCode()) as importer:
        importer.run(source)
    assert written(root) == {"claude_code"}


# -- reading -------------------------------------------------------------------------------


def test_only_lines_of_the_folders_own_type_are_believed(root: Path) -> None:
    """A line in a foreign folder, and one that is no event, are the indexer's to report."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.OPERATOR)
    recorder.emit("retention_set", {"keep_days": 5})
    recorder.shutdown()
    (path,) = (root / "log/retention_set").iterdir()
    (good,) = lines_of(root, "retention_set")
    with path.open("ab") as file:
        file.write(good.replace(b'"event_type":"retention_set"', b'"event_type":"note"') + b"\nno event\n")
    assert [event.event_type for _, event in reader.read_events(root, "retention_set")] == ["retention_set"]
    assert list(reader.read_events(root, "note")) == []
