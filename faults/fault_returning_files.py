"""Segments that come back under their names: restored, copied back, shorter, continued, torn; in any order.

A story is a random sequence of what operators and agents do to a root. The oracle knows each acknowledged id; lines
that are only in a file that is about to be overwritten are indexed first. No row may ever be lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventlog.config import Config
from eventlog.format import envelope, ids, timestamps
from eventlog.indexer import replay, retention
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.maintenance import backup, restore, sealing, verification
from eventlog.maintenance.folder import Folder
from eventlog.record.recorder import Recorder
from faults.campaign import Plan, fault, memory

_STEPS = 40
_TYPES = ("note", "call", "zz_bulk")


class _Torn(NamedTuple):
    """A line of which a part was written to the end of a segment."""

    path: Path
    begun: bytes
    rest: bytes
    event_id: str


class _Story:
    """One root, and what is done to it. `release` is mode db_only; `orderly` means without manual changes."""

    def __init__(self, plan: Plan, folder: Path, *, release: bool, orderly: bool) -> None:
        self._rng = plan.rng
        self._folder = folder
        self._root = folder / "root"
        self._release = release
        self._orderly = orderly
        self._acked: set[str] = set()
        self._backups = [Folder(folder / "backup a"), Folder(folder / "backup b")]
        self._backed_up: dict[str, set[str]] = {}
        self._snapshots: list[Path] = []
        self._torn: list[_Torn] = []
        self._roots = 0
        self._deleted = False
        self.steps: list[str] = []
        self.emit()

    def live(self) -> None:
        """Take some steps, and check all promises."""
        orderly: list[Callable[[], object]] = [
            self.emit, self.emit, self.emit, self.index, self.index, self.seal, self.prune, self.back_up, self.restore,
            self.restore, self.replay, self.restore_elsewhere,
        ]  # fmt: skip
        by_hand: list[Callable[[], object]] = [
            self.tear, self.finish, self.finish, self.snapshot, self.copy_back, self.copy_back, self.cut, self.exchange,
        ]  # fmt: skip
        steps = orderly if self._orderly else orderly + by_hand
        for _ in range(_STEPS):
            step = self._rng.choice(steps)
            self.steps.append(step.__name__)
            step()
        self.judge()

    def judge(self) -> None:
        """Check that each acknowledged id is a row, before and after a replay, and that no error is left."""
        self.index()
        self._nothing_lost("at the end")
        if not self._deleted:  # rows of deleted segments are in no file, and that is said until the next replay
            Plan.check(replay.verify(self._root).equal, self._said("the index differs from a replay"))
        self.replay()
        self._nothing_lost("after a replay")
        Plan.check(self.index() == [], self._said("something is still said of the log"))
        Plan.check(replay.verify(self._root).equal, self._said("the index differs from a replay, after one"))

    # -- what agents do ------------------------------------------------------------------

    def emit(self) -> None:
        """An agent starts, adopts segments, emits, and ends."""
        recorder = Recorder(Config(root=str(self._root), strict=True, segment_max_bytes=4000))
        for _ in range(self._rng.randint(1, 5)):
            event_id = recorder.emit(self._rng.choice(_TYPES), {"pad": "x" * self._rng.randrange(300)})
            self._acked.add(str(event_id))
        recorder.shutdown()

    def tear(self) -> None:
        """A part of a line arrives, by a copy in progress or a receiver."""
        paths = [each.path for each in layout.list_log(self._root, _TYPES).segments if not each.sealed]
        if not paths:
            return
        path = self._rng.choice(paths)
        event_id = ids.new_id(time.time_ns())
        line = envelope.encode(
            envelope.Envelope(
                event_id=event_id,
                event_type=path.parent.name,
                timestamp=timestamps.from_ns(time.time_ns()),
                payload=envelope.encode_payload({"late": True}),
            )
        )
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            return
        end = self._rng.randrange(1, len(line))
        with path.open("ab") as file:
            file.write(line[:end])
        self._torn.append(_Torn(path, line[:end], line[end:], event_id))

    def finish(self) -> None:
        """The rest of it arrives, or a part of the rest."""
        if not self._torn:
            return
        torn = self._torn.pop()
        if not torn.path.exists() or not torn.path.stat().st_mode & 0o222:
            return
        if not torn.path.read_bytes().endswith(torn.begun):
            return
        end = self._rng.choice([len(torn.rest), self._rng.randrange(len(torn.rest) + 1)])
        with torn.path.open("ab") as file:
            file.write(torn.rest[:end])
        if end == len(torn.rest):
            self._acked.add(torn.event_id)
        else:
            self._torn.append(_Torn(torn.path, torn.begun + torn.rest[:end], torn.rest[end:], torn.event_id))

    # -- what operators do ---------------------------------------------------------------

    def index(self) -> list[str]:
        said: list[str] = []
        Indexer(self._root, release=self._release, say=said.append).catch_up()
        return said

    def seal(self) -> None:
        sealing.seal(self._root)

    def prune(self) -> None:
        self.index()
        retention.prune(self._root, 0, _TYPES)

    def back_up(self) -> None:
        place = self._rng.choice(self._backups)
        ids_here = self._ids_in_log()
        done = backup.backup(self._root, place, say=lambda _: None)
        Plan.check(not done.failures or not self._orderly, self._said(f"backup: {done.failures}"))
        if ids_here:  # of an empty log nothing is stored
            self._backed_up.setdefault(place.name, set()).update(ids_here)

    def restore(self) -> None:
        place = self._rng.choice(self._backups)
        if place.name not in self._backed_up:
            return
        done = restore.restore(self._root, place)
        Plan.check(not done.failures or not self._orderly, self._said(f"restore: {done.failures}"))
        again = restore.restore(self._root, place)
        Plan.check(not again.restored, self._said(f"a second restore brings {again}"))
        if self._orderly:
            self._verify(self._root)

    def restore_elsewhere(self) -> None:
        """Restore to a new machine: everything in the backup is a row there, and an agent goes on."""
        self._roots += 1
        root = self._folder / f"elsewhere {self._roots}"
        expected = set()
        for place in self._rng.sample(self._backups, 2):
            if place.name in self._backed_up:
                restore.restore(root, place)
                expected |= self._backed_up[place.name]
        if not expected:
            return
        recorder = Recorder(Config(root=str(root), strict=True))
        expected |= {str(recorder.emit(each, {})) for each in _TYPES}
        recorder.shutdown()
        Indexer(root, say=lambda _: None).catch_up()
        lost = expected - _rows(root)
        Plan.check(not lost, self._said(f"{len(lost)} of {len(expected)} that were backed up are no rows elsewhere"))
        if self._orderly:
            self._verify(root)
        _remove(root)

    def replay(self) -> None:
        done = replay.replay(self._root)
        Plan.check(done.old_index is None, self._said(f"a replay kept {done.lacking_events} events apart"))

    def snapshot(self) -> None:
        """Copy the log's folder."""
        place = self._folder / f"snapshot {len(self._snapshots)}"
        shutil.copytree(layout.log_folder(self._root), place)
        self._snapshots.append(place)

    def copy_back(self) -> None:
        """Copy it back: over the log, or in its place."""
        if not self._snapshots:
            return
        self.index()
        place = self._rng.choice(self._snapshots)
        folder = layout.log_folder(self._root)
        if self._rng.random() < 0.3:
            _remove(folder)
            self._deleted = True
        in_place, with_mode = self._rng.random() < 0.5, self._rng.random() < 0.5
        for path in sorted(place.glob("*/*")):
            target = folder / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not in_place:
                target.unlink(missing_ok=True)
            elif target.exists():
                target.chmod(0o600)
            shutil.copyfile(path, target)
            target.chmod(path.stat().st_mode if with_mode else 0o644)

    def cut(self) -> None:
        """Cut off a segment anywhere, as a disk, a power cut or an editor does."""
        self.index()
        segments = layout.list_log(self._root, _TYPES).segments
        if segments:
            path = self._rng.choice(segments).path
            path.chmod(0o600)
            os.truncate(path, self._rng.randrange(path.stat().st_size + 1))

    def exchange(self) -> None:
        """Exchange the names of two segments of a type, of the same length if there are such."""
        self.index()
        segments = layout.list_log(self._root, [self._rng.choice(_TYPES)]).segments
        if len(segments) > 1:
            one, other = (each.path for each in self._rng.sample(segments, 2))
            between = one.with_suffix(".part")
            for old, new in ((one, between), (other, one), (between, other)):
                old.rename(new)

    # -- the oracle ----------------------------------------------------------------------

    def _nothing_lost(self, when: str) -> None:
        lost = self._acked - _rows(self._root)
        Plan.check(not lost, self._said(f"{len(lost)} of {len(self._acked)} acknowledged events are lost {when}"))

    def _verify(self, root: Path) -> None:
        findings = verification.verify(root).findings
        Plan.check(not findings, self._said(f"verify: {[each.detail for each in findings][:3]}"))

    def _ids_in_log(self) -> set[str]:
        found = set()
        for segment in layout.list_log(self._root, _TYPES).segments:
            for line in segment.path.read_bytes().split(b"\n")[:-1]:
                with contextlib.suppress(Exception):
                    found.add(envelope.decode(line).envelope.event_id)
        return found

    def _said(self, what: str) -> str:
        return f"{what}; {'db_only' if self._release else 'file_only'}: {' '.join(self.steps)}"


def _rows(root: Path) -> set[str]:
    with index_file.reading(root) as connection:
        found = connection.execute("SELECT event_id::VARCHAR FROM events").fetchall()
    rows = [row[0] for row in found]
    Plan.check(len(rows) == len(set(rows)), f"{len(rows) - len(set(rows))} events are there twice")
    return set(rows)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@fault("Segments that come back", "restored, copied back, cut, torn, exchanged, continued; seal, prune, index, replay")
def bring_segments_back(plan: Plan) -> str:
    stories, steps = plan.times(60), 0
    with memory() as folder:
        for number in range(stories):
            place = folder / str(number)
            story = _Story(plan, place, release=number % 3 == 2, orderly=number % 2 == 0)
            story.live()
            steps += len(story.steps)
            _remove(place)
    return f"{stories} stories of {_STEPS} steps each, in file_only and db_only: 0 acknowledged events lost, 0 twice"
