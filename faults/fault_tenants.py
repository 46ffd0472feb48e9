"""Tenants on one root, and an attacker: no tenant gains or loses a row, a conflict or a byte by another."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventlog.config import Config
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.sources import Format
from eventlog.indexer.indexer import Indexer
from eventlog.log import blobs, layout, reader
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults import oracle
from faults.campaign import Plan, fault

_TENANTS = ["acme", "borealis"]
_GUESSER = "mallory"
_TYPES = ["order", "note"]
_SHARED_TIME = "2026-01-02T03:04:05Z"
_WORD = "xyzzy"
#: Ways to write the name of a reference in JSON; the index resolves the escapes.
_SPELLINGS = ["$blob", r"\u0024blob", r"\u0024\u0062lob", r"$\u0062\u006C\u006fb"]


class _Said(NamedTuple):
    """A line of the log, as JSON."""

    place: tuple[str, int]
    event: dict[str, Any]


class _Town:
    """Recorders of all tenants on one root, and what the attacker has learned."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng, self.root = plan, plan.rng, plan.root
        self.acked: list[str] = []
        self.keyed: dict[tuple[str, ...], str] = {}
        self.recorders = {
            name: Recorder(
                Config(root=str(self.root), strict=True, workspace=name, blob_min_bytes=4096, segment_max_bytes=65_536)
            )
            for name in (*_TENANTS, _GUESSER)
        }
        self.files = [plan.folder / f"source{n}.jsonl" for n in range(3)]
        for number, path in enumerate(self.files):
            path.write_text("".join(f'{{"uuid":"{number}.{n}","ts":"{_SHARED_TIME}"}}\n' for n in range(5)) + "odd\n")

    def step(self) -> None:
        """Let one of them act."""
        name = self.rng.choice([*_TENANTS, *_TENANTS, _GUESSER])
        do = self.rng.choice([self.emit, self.emit, self.emit, self.keep, self.import_, self.index])
        if name == _GUESSER:
            do = self.rng.choice([self.emit, self.steal_id, self.steal_chunk, self.steal_chunk])
        do(name)

    def emit(self, name: str) -> None:
        """Emit what others emit, too: the same types, times and keys."""
        fields: dict[str, Any] = {"dedupe_key": self.rng.randrange(20)} if self.rng.random() < 0.8 else {}
        if self.rng.random() < 0.5:
            fields["timestamp"] = _SHARED_TIME
        content = 1 if self.rng.random() < 0.9 else self.rng.randrange(3)
        event_type = self.rng.choice(_TYPES)
        event_id = self.record(name, event_type, {"of": name, "n": content}, **fields)
        if "dedupe_key" in fields:
            known = self.keyed.setdefault((name, event_type, *map(str, fields.values())), event_id)
            Plan.check(known == event_id, f"an event of {name} has the ids {known} and {event_id}: {fields}")

    def keep(self, name: str) -> None:
        """Emit a text that becomes a blob."""
        self.record(
            name, "note", {"of": name, "text": f"{_WORD} of {name} " + "plain " * self.rng.randrange(1500, 3000)}
        )

    def record(self, name: str, event_type: str, payload: object, **fields: Any) -> str:
        event_id = self.recorders[name].emit(event_type, payload, **fields) or ""
        self.acked.append(event_id)
        return event_id

    def import_(self, name: str) -> None:
        formats: list[Format] = [
            ClaudeCode(workspace=name),
            Jsonl(type_="foreign", id_field="uuid", time_field="ts", workspace=name),
        ]
        with importing(Config(root=str(self.root), strict=True), self.rng.choice(formats)) as importer:
            importer.run(self.rng.choice(self.files))

    def index(self, name: str) -> None:
        Indexer(self.root).catch_up()

    def steal_id(self, name: str) -> None:
        """Write an event with another's id and type, and perhaps its content."""
        event = self.rng.choice(_lines(self.root)).event
        if event["event_type"] in _TYPES:
            payload = event["payload"] if self.rng.random() < 0.5 else {"of": name}
            self.record(name, event["event_type"], payload, event_id=event["event_id"], timestamp=event["timestamp"])

    def steal_chunk(self, name: str) -> None:
        """Refer to another's chunk: in an event, in a foreign file, in a line of the log itself."""
        found = [each.event for each in _lines(self.root) if "$blob" in str(each.event["payload"].get("text"))]
        kept = [each["payload"]["text"] for each in found if each.get("workspace") != name]
        if not kept:
            return
        inner = msgspec.json.encode(self.rng.choice(kept)["$blob"]).decode()
        raw = f'{{"of":"{name}","text":{{"{self.rng.choice(_SPELLINGS)}":{inner}}}}}'
        way = self.rng.randrange(3)
        if way == 0:
            self.record(name, "note", msgspec.Raw(raw.encode()))
        elif way == 1:
            path = self.plan.folder / f"forged{self.rng.getrandbits(64)}.jsonl"
            path.write_text(raw + "\n")
            settings = Config(root=str(self.root), strict=True)
            with importing(settings, Jsonl(type_="foreign", workspace=name)) as importer:
                importer.run(path)
        else:
            self.write_line(name, raw)

    def write_line(self, name: str, payload: str) -> None:
        event_id = f"01900000-0000-7000-8000-{self.rng.getrandbits(48):012x}"
        path = layout.segment_path(self.root, "note", layout.new_segment_name(self.rng.randrange(10**18, 2 * 10**18)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'{{"event_id":"{event_id}","event_type":"note","timestamp":"2026-01-01T00:00:00.000000Z",'
            f'"workspace":"{name}","payload":{payload}}}\n'
        )


@fault(
    "Tenants and a guesser",
    "The same types, times, keys, ids and files in 3 workspaces; ids and chunks of others taken",
)
def tenants(plan: Plan) -> str:
    town = _Town(plan)
    for name in _TENANTS:
        town.keep(name)
    for _ in range(plan.times(800)):
        town.step()
    for recorder in town.recorders.values():
        recorder.shutdown()
    rows = oracle.judge(town.root, town.acked)
    lines = _lines(town.root)
    conflicts = 0
    for name in (*_TENANTS, _GUESSER):
        conflicts += _judge(town.root, name, [each for each in lines if each.event.get("workspace") == name])
        _judge_alone(plan, town.root, name)
    stolen = _stolen(town.root)
    return f"{len(lines):,} lines of 3 workspaces, {rows:,} rows, {conflicts:,} conflicts, each alike alone; {stolen}"


def _lines(root: Path) -> list[_Said]:
    found = []
    for segment in layout.list_log(root).segments:
        found += [_Said((segment.name, line.offset), json.loads(line.data)) for line in reader.read_lines(segment.path)]
    return found


def _judge(root: Path, name: str, lines: list[_Said]) -> int:
    """Compare rows and conflicts of a workspace with its lines; return the number of conflicts."""
    versions: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for place, event in sorted(lines, key=lambda each: each.place):
        of_content = {key: value for key, value in event.items() if key != "event_id"}
        if event["event_id"].startswith("00000000-0000-8"):
            of_content.pop("timestamp")
        versions[event["event_id"]].setdefault(json.dumps(of_content, sort_keys=True), place)
    store = ReadStore(root, workspace=name, timeout_s=300)
    for table, places in (
        ("events", {(event_id, next(iter(each.values()))) for event_id, each in versions.items()}),
        ("conflicts", {(event_id, at) for event_id, each in versions.items() for at in list(each.values())[1:]}),
    ):
        found = store.sql(f"SELECT event_id::VARCHAR, segment, line_offset FROM {table}", row_limit=10**7).rows
        there = {(event_id, (segment, offset)) for event_id, segment, offset in found}
        Plan.check(there == places, f"{name} has {len(there)} {table} and its lines {len(places)}: {there ^ places}")
        Plan.check(len(found) == len(there), f"{name} has one of its {table} twice")
    return sum(len(each) - 1 for each in versions.values())


def _judge_alone(plan: Plan, root: Path, name: str) -> None:
    """Compare the view of a workspace with that of a log that has its lines alone."""
    alone = plan.root
    for segment in layout.list_log(root).segments:
        own = [
            line.data + b"\n"
            for line in reader.read_lines(segment.path)
            if json.loads(line.data).get("workspace") == name
        ]
        if own:
            path = layout.segment_path(alone, segment.event_type, segment.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(own))
    shutil.copytree(blobs.folder_of(root), blobs.folder_of(alone))
    oracle.recover(alone)
    one, other = ReadStore(root, workspace=name, timeout_s=300), ReadStore(alone, workspace=name, timeout_s=300)
    everybody = ReadStore(root, timeout_s=300)
    for query in (
        "SELECT event_id, timestamp, event_type, payload, segment FROM events ORDER BY ALL",
        "SELECT event_id, timestamp, payload, segment FROM conflicts ORDER BY ALL",
        "SELECT reason, event_id, segment FROM quarantine ORDER BY ALL",
        "SELECT event_type, events FROM event_types ORDER BY ALL",
    ):
        ours, theirs = (store.sql(query, row_limit=10**7).rows for store in (one, other))
        Plan.check(
            ours == theirs, f"{name} alone sees something else: {query}: {set(map(str, ours)) ^ set(map(str, theirs))}"
        )
    for view in ("sessions", "llm_calls", "tool_calls", "runs"):
        whole = everybody.sql(f"FROM {view} WHERE workspace = ? ORDER BY ALL", [name]).rows
        Plan.check(whole == one.sql(f"FROM {view} ORDER BY ALL").rows, f"{view} of {name} are others in a store of all")


def _stolen(root: Path) -> str:
    """Read everything as the attacker: no chunk of others is in it."""
    store = ReadStore(root, workspace=_GUESSER, timeout_s=300)
    forged, after = 0, None
    while True:
        page = store.events(limit=1000, after=after)
        for event in page.events:
            text = event.data().get("text")
            forged += text is not None
            Plan.check(not isinstance(text, str), f"the guesser reads a chunk of others: {str(text)[:60]!r}")
        after = page.next
        if after is None:
            break
    Plan.check(not store.search(_WORD).hits, "the guesser finds words of others")
    return f"{forged:,} forged references gave nothing"
