"""Append, rotate, adopt, crash, tear, index, replay, in any order, against a plain list."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventlog.config import Config
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.record.recorder import Recorder
from tests.indexer.support import rows

WRITERS = st.integers(0, 2)


class Way(RuleBasedStateMachine):
    """Three writers and two indexers on one root; the model is a list of (type, n) and a count."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eventlog-model-"))
        self.writers: dict[int, Recorder] = {}
        self.indexers = [Indexer(self.folder), Indexer(self.folder)]
        self.emitted: dict[str, tuple[str, int]] = {}
        self.indexed: dict[str, tuple[str, int]] = {}
        self.torn = 0
        self.n = 0

    def writer(self, which: int) -> Recorder:
        if which not in self.writers:
            self.writers[which] = Recorder(Config(root=str(self.folder), segment_max_bytes=4096, strict=True))
        return self.writers[which]

    @rule(which=WRITERS, event_type=st.sampled_from(["a", "b"]), size=st.integers(0, 3000), count=st.integers(1, 4))
    def append(self, which: int, event_type: str, size: int, count: int) -> None:
        for _ in range(count):
            self.n += 1
            event_id = self.writer(which).emit(event_type, {"n": self.n, "pad": "x" * size})
            assert event_id is not None
            self.emitted[event_id] = (event_type, self.n)

    @rule(which=WRITERS)
    def redeliver(self, which: int) -> None:
        for _ in range(2):
            event_id = self.writer(which).emit("c", {}, timestamp="2026-01-01T00:00:00Z", dedupe_key="same")
            assert event_id is not None
            self.emitted[event_id] = ("c", 0)

    @rule(which=WRITERS)
    def leave(self, which: int) -> None:
        """A writer ends; the next one adopts what it left."""
        if which in self.writers:
            self.writers.pop(which).shutdown()

    @rule(which=WRITERS)
    def crash(self, which: int) -> None:
        """A writer dies inside a line."""
        if which not in self.writers:
            return
        recorder = self.writers.pop(which)
        owned = [stream._open for stream in recorder._writer._streams.values() if stream._open]
        if owned:
            with owned[0].path.open("ab") as file:
                file.write(b'{"event_id":"half a li')
            self.torn += 1
        recorder._writer.abandon()

    @rule(which=st.integers(0, 1))
    def index(self, which: int) -> None:
        self.indexers[which].catch_up()
        self.indexed = dict(self.emitted)

    @rule()
    def replay(self) -> None:
        replay.replay(self.folder)
        self.indexed = dict(self.emitted)

    @rule()
    def delete_index(self) -> None:
        (self.folder / "index.duckdb").unlink(missing_ok=True)
        self.indexed = {}

    @invariant()
    def rows_are_the_events_that_were_indexed(self) -> None:
        if not hasattr(self, "folder") or not (self.folder / "index.duckdb").exists():
            return
        found = rows(
            self.folder,
            "SELECT event_id::VARCHAR, event_type, coalesce((payload ->> 'n')::INT, 0) FROM events",
        )
        assert {row[0]: (row[1], row[2]) for row in found} == self.indexed
        assert len(found) == len(self.indexed)

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        for recorder in self.writers.values():
            recorder.shutdown()
        self.indexers[0].catch_up()
        self.indexed = dict(self.emitted)
        self.rows_are_the_events_that_were_indexed()
        assert rows(self.folder, "SELECT count(*) FROM quarantine") == [(self.torn,)]
        assert replay.verify(self.folder).equal
        shutil.rmtree(self.folder)


TestWay = Way.TestCase
TestWay.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
