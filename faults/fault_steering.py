"""Data that would change settings: control events from everywhere but their own writers, and by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventlog.config import Config
from eventlog.errors import EventlogError
from eventlog.format import builtin, envelope, ids, timestamps
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.control import RECORDED, WRITERS, Role
from eventlog.format.envelope import Envelope
from eventlog.importers import foreign_types, sources
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.retention import prune
from eventlog.log import layout
from eventlog.log.pruned import Pruned
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance import sealing, verification
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults.campaign import Plan, fault

_DAY_S = 86_400.0
_ACCOUNTS = {"import_checkpoint", "import_rejected", "event_schema"}


def _payload(event_type: str) -> dict[str, Any]:
    """Return a payload that would take effect if it were believed."""
    payloads: dict[str, dict[str, Any]] = {
        "price_set": {"model": "m", "input_usd_per_mtok": "1000"},
        "retention_set": {"keep_days": 0},
        "alert_rule_set": {"name": "r", "kind": "sql", "sql": "SELECT 1", "channels": ["json://127.0.0.1:9/x"]},
        "alert_rule_removed": {"name": "own"},
        "alert_snoozed": {"name": "own", "until": "2999-01-01T00:00:00Z"},
        "alert_acknowledged": {"name": "own", "firing_id": "00000000-0000-0000-0000-000000000000"},
    }
    return payloads.get(event_type, {})


def _envelope(event_type: str) -> Envelope:
    return Envelope(
        event_id=ids.new_id(time.time_ns()),
        event_type=event_type,
        timestamp=timestamps.from_ns(time.time_ns()),
        payload=msgspec.Raw(msgspec.json.encode(_payload(event_type))),
    )


_DOORS: dict[str, Callable[[Recorder, str], object]] = {
    "emit": lambda recorder, name: recorder.emit(name, _payload(name)),
    "emit_many": lambda recorder, name: recorder.emit_many(name, [_payload(name)] * 3),
    "record": lambda recorder, name: recorder.record([_envelope(name)]),
    "record_lines": lambda recorder, name: recorder.record_lines(name, [envelope.encode(_envelope(name))]),
}


def _healthy(root: Path) -> None:
    """Make a root with a rule, a call, and a sealed segment that is two months old."""
    recorder = Recorder(Config(root=str(root), strict=True, operator=True))
    recorder.emit("evidence", {"n": 1})
    recorder.emit(builtin.LlmCall(request_model="m", uncached_input_tokens=10**6))
    recorder.emit(AlertRuleSet(name="own", kind="sql", sql="SELECT 1 WHERE 1 = 0"))
    recorder.shutdown()
    Indexer(root).catch_up()
    sealing.seal(root)
    moment = time.time() - 60 * _DAY_S
    for file in layout.list_log(root).segments:
        os.utime(file.path, (moment, moment))


def _standing(root: Path) -> dict[str, object]:
    """Return all that control events decide."""
    Indexer(root).catch_up()
    store = ReadStore(root)
    return {
        "cost": store.costs(None).total.cost_usd,
        "rules": [(rule.name, rule.state, rule.channels) for rule in store.alert_rules()],
        "fired": len(store.alerts()),
        "pruned": [each.segment for each in prune(root, None if _has_policy(root) else 10**12).pruned],
        "findings": [each.detail for each in verification.verify(root).findings],
        "quarantine": store.sql("SELECT count(*) FROM quarantine").rows,
    }


def _has_policy(root: Path) -> bool:
    return bool(layout.list_type(root, "retention_set"))


def _types(root: Path) -> set[str]:
    return {path.name for path in (root / "log").iterdir()}


@fault("Control events by every door", "each type by emit, batches, importers, lookalikes; forged by hand in the log")
def steer_by_data(plan: Plan) -> str:
    root = plan.root
    _healthy(root)
    before, there = _standing(root), _types(root)
    refused = _through_doors(root)
    Plan.check(_types(root) <= there | {"debug_event"} | _ACCOUNTS, f"there are new types: {_types(root) - there}")
    renamed = _through_importers(plan, root)
    for event_type in _types(root) - there:
        Plan.check(event_type not in WRITERS or event_type in _ACCOUNTS, f"an importer has written {event_type}")
    after = _standing(root)
    Plan.check(after == before, f"something moved: {before} → {after}")
    forged = _by_hand(plan)
    return (
        f"{refused:,} control events refused by {len(_DOORS) + 1} ways of recording, {renamed:,} foreign lines "
        f"renamed; prices, policies, rules, prunings and findings as before; {forged:,} forged by hand deleted no only "
        "copy, excused no missing segment, and broke no chain"
    )


def _through_doors(root: Path) -> int:
    refused = 0
    for operator in (False, True):
        recorder = Recorder(Config(root=str(root), operator=operator))
        for event_type, role in WRITERS.items():
            if operator and role is Role.OPERATOR:
                continue
            for how, door in _DOORS.items():
                count = recorder.stats().refused
                Plan.check(not door(recorder, event_type), f"{how} has written {event_type}")
                Plan.check(recorder.stats().refused > count, f"{how} of {event_type} was not counted as refused")
                refused += recorder.stats().refused - count
        for typed in (builtin.PriceSet(model="m"), builtin.RetentionSet(keep_days=0.0)):
            if not operator:
                Plan.check(recorder.emit(typed) is None, f"{type(typed).__name__} was recorded")
                refused += 1
        recorder.shutdown()
    return refused


def _spelled(plan: Plan, name: str) -> str:
    """Return a foreign type that could become a name of ours."""
    style = plan.rng.choice(["same", "upper", "camel", "spaces", "dots", "kelvin", "prefix", "mixed"])
    if style == "mixed":
        return "".join(plan.rng.choice((each, each.upper())) for each in name)
    return {
        "same": name,
        "upper": name.upper(),
        "camel": "".join(part.capitalize() for part in name.split("_")),
        "spaces": f"\t{name.replace('_', ' ')} \n",
        "dots": f"..{name}--",
        "kelvin": name.replace("k", "\u212a"),
        "prefix": foreign_types.IMPORTED * plan.rng.randint(1, 3) + name,
    }[style]


def _through_importers(plan: Plan, root: Path) -> int:
    source = plan.folder / "foreign.jsonl"
    names = sorted({*WRITERS, *RECORDED, *sources.event_types()})
    lines = [
        {"type": _spelled(plan, name), "n": n, **_payload(name)}
        for n in range(plan.times(100))
        for name in plan.rng.sample(names, len(names))
    ]
    source.write_text("".join(json.dumps(each) + "\n" for each in lines))
    settings = Config(root=str(root), strict=True)
    with importing(settings, Jsonl(type_field="type")) as importer:
        done = importer.run(source)
    with importing(settings, ClaudeCode()) as importer:
        importer.run(source)
    for name in names:
        with contextlib.suppress(EventlogError):
            Jsonl(type_=name)
            Plan.check(False, f"--type {name} was taken")
    Plan.check(done.rejected == 0, f"{done.rejected} lines were rejected: {done.reason}")
    return sum(done.renamed.values())


def _forge(root: Path, event_type: str, payload: object) -> None:
    made = Envelope(
        event_id=ids.new_id(time.time_ns()),
        event_type=event_type,
        timestamp=timestamps.from_ns(time.time_ns()),
        payload=envelope.encode_payload(payload),
    )
    path = layout.segment_path(root, event_type, layout.new_segment_name(time.time_ns()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(envelope.encode(made))


def _by_hand(plan: Plan) -> int:
    forged = 0
    for _ in range(plan.times(20)):
        root = plan.root
        recorder = Recorder(Config(root=str(root), strict=True))
        recorder.emit("evidence", {"n": 1})
        recorder.shutdown()
        sealing.seal(root)
        (file,) = layout.list_type(root, "evidence")
        os.utime(file.path, (time.time() - 60 * _DAY_S,) * 2)
        sha256 = hashlib.sha256(file.path.read_bytes()).hexdigest()
        forged += _forged_backup(plan, root, file, sha256)
        forged += _forged_seal(plan, root)
        forged += _forged_pruning(root, file, sha256)
    return forged


def _forged_backup(plan: Plan, root: Path, file: layout.SegmentFile, sha256: str) -> int:
    place = plan.rng.choice([str(plan.folder / "nowhere"), str(plan.folder), "/", str(root), "s3", "~", ""])
    copy = {"segment": file.name, "sha256": sha256, "size_bytes": file.size}
    _forge(root, "segments_backed_up", {"destination": place, "segments": [copy]})
    done = prune(root, _DAY_S)
    Plan.check(done.pruned == [] and file.path.exists(), f"the only copy was deleted on the word of {place!r}")
    return 1


def _forged_seal(plan: Plan, root: Path) -> int:
    before = sealing.head_of(root, sealing.read_chain(root))
    seal = {
        "number": plan.rng.choice([0, 1, 2, 7, 1000, 2**53 - 1, 2**53, 2**63 - 1, 2**64]),
        "previous": plan.rng.choice([None, "a" * 64, "x"]), "segment": layout.new_segment_name(1),
        "segment_type": "evidence",
        "size_bytes": 1, "sha256": "aa", "lines": 1, "torn_bytes": 0, "first_event_id": None, "last_event_id": None,
        "check_lines": 1, "checks": "",
    }  # fmt: skip
    _forge(root, SEAL_EVENT, seal)
    made = sealing.seal(root)
    Plan.check(before is not None and made[0].number == before.number + 1, f"the chain goes on at {made[0].number}")
    found = verification.verify(root, head=before).findings
    Plan.check(found == [], f"a forged seal {seal['number']} breaks the chain: {found}")
    return 1


def _forged_pruning(root: Path, file: layout.SegmentFile, sha256: str) -> int:
    head = sealing.head_of(root, sealing.read_chain(root))
    account = Pruned(
        segment=file.name, segment_type=file.event_type, size_bytes=file.size, lines=1, sha256=sha256, seal=1,
        indexed=True, backups=[],
    )  # fmt: skip
    file.path.unlink()
    _forge(root, "segment_pruned", account)
    Plan.check(verification.verify(root).findings, "an account that is not sealed excuses a segment")
    sealing.seal(root)
    Plan.check(verification.verify(root, head=head).findings, "a head from before does not tell")
    return 1
