"""Maintenance that is killed at a random system call: the same command, run again, repairs everything."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import EventlogError
from eventlog.indexer import replay, retention
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout, zst
from eventlog.maintenance import archiving, sealing, verification
from eventlog.maintenance import backup as backing
from eventlog.maintenance import restore as restoring
from eventlog.maintenance.backup_log import BACKED_UP_EVENT
from eventlog.maintenance.folder import Folder
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from faults import children, oracle, system_calls
from faults.campaign import Plan, fault, memory

_KILLS, _KILLS_DEEP = 300, 300
_IMPORTED, _EMITTED = 40, 30
#: What no run may leave behind. An index that could not be opened is kept beside the new one, on purpose.
_LEFTOVERS = ("*.part", "*.partial*", "*.tmp", "index.duckdb.wal", "index.duckdb.replay*", ".*.part")
_TMP_AGE_S = 25 * 3600


class Scene:
    """A folder in which a command is killed: a log, perhaps its backup, and a folder to restore to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.other = folder / "other"
        self.backup = folder / "backup"
        self.source = folder / "source.jsonl"
        self._ids = folder / "ids"

    @property
    def event_ids(self) -> set[str]:
        """The ids of events that were acknowledged while the scene was made."""
        return set(self._ids.read_text().split())

    def emit(self, count: int) -> None:
        """Write events into several segments, some with fields that become blobs."""
        recorder = Recorder(
            Config(root=str(self.root), segment_max_bytes=4096, blob_min_bytes=8192, durability=Durability.SYNCED)
        )
        pads = ["x" * 400, "y" * 400, os.urandom(6000).hex()]
        made = [recorder.emit(f"kind{n % 3}", {"n": n, "pad": pads[n % 2 if n % 20 else 2]}) for n in range(count)]
        recorder.shutdown()
        with self._ids.open("a") as file:
            file.writelines(f"{each}\n" for each in made)


# -- how a scene is set ----------------------------------------------------------------------


def _more(scene: Scene) -> None:
    scene.emit(15)


def _tear(scene: Scene) -> None:
    """Leave half a line, like a producer that is killed while writing."""
    newest = layout.list_log(scene.root, ["kind0"]).segments[-1]
    with newest.path.open("ab") as file:
        file.write(b'{"event_id":"01')


def _index(scene: Scene) -> None:
    Indexer(scene.root, say=_silent).catch_up()


def _seal(scene: Scene) -> None:
    sealing.seal(scene.root)


def _archive(scene: Scene) -> None:
    archiving.archive_sealed(scene.root, level=1)


def _prune(scene: Scene) -> None:
    retention.prune(scene.root, 0, timeout_s=60)


def _back_up(scene: Scene) -> None:
    backing.backup(scene.root, Folder(scene.backup), say=_silent)


def _restore_elsewhere(scene: Scene) -> None:
    restoring.restore(scene.other, Folder(scene.backup))


def _add_rule(scene: Scene) -> None:
    done = oracle.eventlog("alerts", "add", "fires", "--kind", "sql", "--sql", "SELECT 1", "--root", scene.root)
    Plan.check(done.returncode == 0, f"alerts add: {done.stderr}")


def _write_source(scene: Scene) -> None:
    lines = [json.dumps({"id": f"line {n}", "pad": "z" * 300}) for n in range(_IMPORTED)]
    scene.source.write_text("".join(f"{line}\n" for line in lines))


def _silent(message: str) -> None:
    """Ignore a message: the progress of maintenance does not matter here."""


# -- what must hold afterwards, beside what holds always -------------------------------------


def _imported_once(scene: Scene) -> None:
    query = "SELECT count(*), count(DISTINCT payload->>'id') FROM events WHERE event_type = 'imported'"
    with index_file.reading(scene.root) as connection:
        found = connection.execute(query).fetchall()
    Plan.check(found == [(_IMPORTED, _IMPORTED)], f"of {_IMPORTED} lines {found} are rows")


def _fired_once(scene: Scene) -> None:
    with index_file.reading(scene.root) as connection:
        found = connection.execute("SELECT count(*) FROM events WHERE event_type = 'alert_fired'").fetchall()
    Plan.check(found == [(1,)], f"one rule fired, told by {found} events")


def _archived(scene: Scene) -> None:
    plain = [each.name for each in layout.list_log(scene.root).segments if each.sealed and not each.archived]
    seals = {link.seal.segment for link in sealing.read_chain(scene.root, damaged={})}
    Plan.check(not seals & set(plain), f"sealed, and not archived: {sorted(seals & set(plain))[:3]}")


def _backed_up(scene: Scene) -> None:
    """Check that the backup has the log, byte for byte, and nothing else."""
    for path in scene.backup.glob("tmp/*"):
        os.utime(path, (time.time() - _TMP_AGE_S,) * 2)
    _back_up(scene)
    Plan.check(not list(scene.backup.glob("tmp/*")), "a backup leaves temporary files for ever")
    shutil.rmtree(scene.other, ignore_errors=True)
    _restore_elsewhere(scene)
    _restored(scene)


def _restored(scene: Scene) -> None:
    """Check that each segment in the backup was restored, byte for byte."""
    restored = {each.name: each for each in layout.list_log(scene.other).segments}
    for segment in layout.list_log(scene.root).segments:
        there = restored.get(segment.name)
        if there is None:
            Plan.check(segment.event_type == BACKED_UP_EVENT, f"{segment.path} was not restored")
            continue
        expected, found = (b"".join(zst.blocks(each.path)) for each in (segment, there))
        growing = segment.event_type == BACKED_UP_EVENT
        Plan.check(
            expected == found or (growing and expected.startswith(found)),
            f"{segment.path} has {len(expected)} bytes, what was restored {len(found)}",
        )
    blobs = {path.relative_to(scene.root) for path in scene.root.glob("blobs/**/*") if path.is_file()}
    gone = [path for path in blobs if not (scene.other / path).exists()]
    Plan.check(not gone, f"{len(gone)} of {len(blobs)} blobs were not restored")


def _restored_here(scene: Scene) -> None:
    """Check that pruned segments are back: the log alone has all acknowledged events."""
    found = set()
    for segment in layout.list_log(scene.root).segments:
        for line in b"".join(zst.blocks(segment.path)).split(b"\n")[:-1]:
            found.add(json.loads(line)["event_id"])
    lost = scene.event_ids - found
    Plan.check(not lost, f"{len(lost)} events did not come back into the log")


def _nothing_more(scene: Scene) -> None:
    """Check nothing besides what always holds."""


class Work(NamedTuple):
    """A command, the scene it needs, and what must hold once it has succeeded. `{}` is a folder of the scene."""

    command: str
    before: tuple[Callable[[Scene], None], ...] = ()
    holds: Callable[[Scene], None] = _nothing_more
    code: int = 0
    stdin: str = ""
    root: str = "root"


WORKS = {
    "emit": Work("emit kind1 -", stdin="".join(f'{{"line": {n}}}\n' for n in range(_EMITTED))),
    "import": Work("import jsonl {source} --type imported --id-field id", (_write_source,), _imported_once),
    "first index": Work("index", (_tear,)),
    "index": Work("index", (_index, _more, _tear)),
    "replay": Work("replay", (_index, _more)),
    "replay behind a pruning": Work("replay", (_index, _seal, _index, _prune, _more)),
    "seal": Work("seal", (_index, _seal, _more, _tear)),
    "archive": Work("archive --level 1", (_index, _seal), _archived),
    "prune": Work("prune --older-than 0s", (_index, _seal, _index)),
    "prune of what is backed up": Work(
        "prune --older-than 0s", (_index, _seal, _back_up, _more, _index, _archive, _index)
    ),
    "backup": Work("backup {backup}", (_index, _tear), _backed_up),
    "backup of what has grown": Work("backup {backup}", (_back_up, _more, _seal, _archive), _backed_up),
    "restore": Work("restore {backup}", (_seal, _back_up), _restored, root="other"),
    "restore over beginnings": Work(
        "restore {backup}", (_back_up, _restore_elsewhere, _more, _back_up), _restored, root="other"
    ),
    "restore behind a pruning": Work("restore {backup}", (_index, _seal, _index, _back_up, _prune), _restored_here),
    "verify": Work("verify --index", (_index, _seal, _index)),
    "alerts check": Work("alerts check", (_index, _add_rule), _fired_once, code=1),
}


def _set(folder: Path, name: str, saying: Connection) -> None:
    scene = Scene(folder)
    folder.mkdir(parents=True)
    scene.emit(60)
    for step in WORKS[name].before:
        step(scene)
    saying.send("good")


def _read(folder: Path, saying: Connection) -> None:
    """Query the index that a kill has left."""
    try:
        ReadStore(folder).sql("SELECT count(*) FROM events")
    except EventlogError as error:
        saying.send(str(error))
    else:
        saying.send("good")


def _judge(folder: Path, name: str, acked: list[str], saying: Connection) -> None:
    try:
        _check(Scene(folder), WORKS[name], acked)
    except Exception:  # noqa: BLE001 - whatever it is belongs to the parent
        saying.send(traceback.format_exc())
    else:
        saying.send("good")


def _check(scene: Scene, work: Work, acked: list[str]) -> None:
    """Index the rest, and check all promises."""
    root = scene.folder / work.root
    Indexer(root, say=_silent).catch_up()
    _rows(root, scene.event_ids | set(acked))
    verified = verification.verify(root)
    Plan.check(not verified.findings, f"not as sealed: {verified.findings}")
    compared = replay.verify(root)
    Plan.check(compared.equal, f"the index differs from a replay: {compared.differences[:3]}")
    work.holds(scene)
    left = [str(path.relative_to(root)) for pattern in _LEFTOVERS for path in root.rglob(pattern)]
    Plan.check(not left, f"left behind: {left}")
    replay.replay(root)
    _rows(root, scene.event_ids | set(acked))


def _rows(root: Path, acked: set[str]) -> None:
    with index_file.reading(root) as connection:
        rows = [str(row[0]) for row in connection.execute("SELECT event_id FROM events").fetchall()]
    lost = acked - set(rows)
    Plan.check(not lost, f"{len(lost)} acknowledged events are no rows, such as {sorted(lost)[:3]}")
    Plan.check(len(rows) == len(set(rows)), f"{len(rows) - len(set(rows))} events have two rows")


# -- the kills -------------------------------------------------------------------------------


class _Share(NamedTuple):
    """A command to kill a number of times; `seed` decides at which calls."""

    name: str
    kills: int
    folder: Path
    seed: float


def _kill_many(share: _Share) -> Counter[str]:
    """Kill one command again and again, each time in a new copy of its scene, and check the result."""
    work, scene = WORKS[share.name], Scene(share.folder / "scene")
    as_set = share.folder / "as set"
    _good(f"{share.name}, its scene", _set, scene.folder, share.name)
    shutil.copytree(scene.folder, as_set, symlinks=True)
    command = _command(scene, work)
    reached = system_calls.points(command, scene.folder, work.stdin)
    _good(f"{share.name}, undisturbed", _judge, scene.folder, share.name, [])
    killed = Counter[str]()
    for point in system_calls.chosen(random.Random(share.seed), reached):
        shutil.rmtree(scene.folder)
        shutil.copytree(as_set, scene.folder, symlinks=True)
        died, printed = system_calls.kill_at(point, command, work.stdin)
        killed["killed" if died else "missed"] += 1
        what = f"{share.name}, killed at {point.call} number {point.number}"
        if _index in work.before:
            _good(f"{what}, a reader", _read, scene.root)
        again = system_calls.run(command, work.stdin)
        Plan.check(
            again.returncode == work.code,
            f"{what}: the same command again ends with {again.returncode}: {again.stderr[-2000:]}",
        )
        acked = (printed + again.stdout).split() if share.name == "emit" else []
        _good(what, _judge, scene.folder, share.name, acked)
        if killed["killed"] == share.kills or killed["missed"] > 20 + share.kills:
            break
    shutil.rmtree(share.folder)
    Plan.check(killed["killed"], f"{share.name}: none of {len(reached)} calls was reached again")
    return killed


def _good(what: str, target: Callable[..., None], *arguments: object) -> None:
    """Run a child that prints "good" at its end, or the fault."""
    with children.hearing(target, *arguments) as (_, child):
        said = child.next()
    Plan.check(said == "good", f"{what}: {said}")


def _command(scene: Scene, work: Work) -> list[str]:
    folders = {"backup": scene.backup, "source": scene.source}
    words = [word.format(**folders) for word in work.command.split(" ")]
    return [sys.executable, "-m", "eventlog", *words, "--root", str(scene.folder / work.root)]


def _shares(plan: Plan, folder: Path) -> Iterator[_Share]:
    """Divide the kills among the commands; with --deep, each gets that many."""
    names = plan.rng.sample(sorted(WORKS), len(WORKS))
    total = plan.times(_KILLS)
    for number, name in enumerate(names):
        kills = plan.times(_KILLS_DEEP) if plan.deep else len(range(number, total, len(names)))
        if kills:
            yield _Share(name, kills, folder / name.replace(" ", "-"), plan.rng.random())


@fault(
    "SIGKILL of maintenance at system calls",
    "emit, import, index, replay, seal, archive, prune, backup, restore, verify, alerts: at a random call each",
)
def kill_calls(plan: Plan) -> str:
    system_calls.require_strace()
    with memory() as folder:
        shares = list(_shares(plan, folder))
        killed = children.side_by_side(_kill_many, shares)
    kills = sum(each["killed"] for each in killed)
    return (
        f"{kills} kills of {len(shares)} commands, each run again and judged: 0 lost, 0 twice, index as a replay, "
        "log as sealed, restored logs equal, nothing left behind"
    )
