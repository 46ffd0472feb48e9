"""Indexers that are killed at every named step of a batch, a release, a rebuild and a replay."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.format import ids
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from faults import children, oracle
from faults.campaign import FaultFound, Plan, fault, memory
from faults.fault_indexers import compare
from faults.steps import Death, Steps

#: Logs stay small, so that comparing with a replay after every kill is cheap.
_KILLS_PER_ROOT = 20
_CHANGED = "20260101T000000000000Z-0123456789abcdef"


class _Content(NamedTuple):
    """The expected content of a root. Of the changed segment: all lines that were ever in it, and those in the log now.

    If an index was `lost`, only the lines in the log are left.
    """

    event_ids: set[str]
    changed_ids: set[str]
    rejected: int
    logged_ids: frozenset[str] = frozenset()
    lost: bool = False

    def and_then(self, more: _Content) -> _Content:
        """Return the expected content of the root after more was written."""
        return _Content(
            self.event_ids | more.event_ids,
            (set(self.logged_ids) if more.lost else self.changed_ids) | more.changed_ids,
            self.rejected + more.rejected,
            more.logged_ids or self.logged_ids,
        )


# -- what an indexer finds -------------------------------------------------------------------


def _line(key: str, event_type: str = "step", **more: object) -> tuple[str, bytes]:
    event_id = ids.derived_id(1_700_000_000_000_000, key)
    event = {
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "payload": {"key": key},
    }
    return event_id, msgspec.json.encode(event | more) + b"\n"


def _write(root: Path, event_type: str, data: bytes, name: str = "") -> None:
    folder = root / "log" / event_type
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name or layout.new_segment_name(time.time_ns())}.jsonl").write_bytes(data)


def _write_more(root: Path, number: int) -> _Content:
    """Add one of each: a redelivery, a conflict, a bad line, a torn tail, a schema."""
    (first, one), (second, two) = _line(f"{number}.1"), _line(f"{number}.2")
    _, conflicting = _line(f"{number}.2", run_id="other")
    schema = {"name": "step", "version": 1, "json_schema": {"properties": {"key": {"type": "string"}}}}
    third, three = _line(f"{number}.3", "event_schema", payload=schema)
    _write(root, "step", one + two + one + b"bad\n")
    _write(root, "step", conflicting + b'{"torn')
    _write(root, "event_schema", three)
    return _Content({first, second, third}, set(), 3)


def _change_segment(root: Path, number: int) -> _Content:
    """Rewrite a segment that was indexed before, each time longer."""
    earlier = set()
    if not layout.segment_path(root, "changed", _CHANGED).exists():
        event_id, line = _line("unchanged", "changed")
        _write(root, "changed", line, _CHANGED)
        _index(root)
        earlier = {event_id}
    lines = [_line(f"{number}.changed.{each}", "changed") for each in range(number + 1)]
    _write(root, "changed", b"".join(line for _, line in lines), _CHANGED)
    written = {event_id for event_id, _ in lines}
    return _Content(set(), earlier | written, 0, frozenset(written))


def _outdate(root: Path, number: int) -> _Content:
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        connection.execute("UPDATE index_meta SET value = '0' WHERE key = 'schema_version'")
    return _write_more(root, number)


def _break(root: Path, number: int) -> _Content:
    index_file.index_path(root).write_bytes(b"nonsense" * 1000)
    return _write_more(root, number)._replace(lost=True)


def _delete(root: Path, number: int) -> _Content:
    index_file.index_path(root).unlink()
    return _write_more(root, number)._replace(lost=True)


# -- what it does then -----------------------------------------------------------------------


def _silent(message: str) -> None:
    """Ignore a message: the warnings of an indexer do not matter here."""


def _index(root: Path) -> None:
    Indexer(root, say=_silent).catch_up()


def _release(root: Path) -> None:
    Indexer(root, release=True, say=_silent).catch_up()


class _Work(NamedTuple):
    """A situation, and the work of an indexer in it. `release` is mode db_only."""

    prepare: Callable[[Path, int], _Content]
    act: Callable[[Path], object]
    release: bool = False


_WORKS = {
    "batch": _Work(_write_more, _index),
    "first batch": _Work(_delete, _index),
    "replay": _Work(_write_more, replay.replay),
    "changed segment": _Work(_change_segment, _index),
    "outdated index": _Work(_outdate, _index),
    "broken index": _Work(_break, _index),
    "release": _Work(_write_more, _release, release=True),
    "replay of a spool": _Work(_write_more, replay.replay, release=True),
    "outdated spool": _Work(_outdate, _release, release=True),
}


class _Kill(NamedTuple):
    """One kill: during which work, and at which step."""

    work: str
    death: Death | None


class _Share(NamedTuple):
    """The kills on one root."""

    root: Path
    kills: list[_Kill]


def _live(root: Path, number: int, expected: _Content, kill: _Kill, saying: Connection) -> None:
    """Recover from the kill before, report that, and work up to the step at which to die."""
    work = _WORKS[kill.work]
    (_release if work.release else _index)(root)
    _check(root, expected)
    saying.send(work.prepare(root, number))
    steps = Steps(kill.death)
    with steps.watched():
        work.act(root)
    saying.send(dict(steps.counts))


def _check(root: Path, expected: _Content) -> None:
    compare(root)
    with index_file.reading(root) as connection:
        rows = connection.execute("SELECT event_id::VARCHAR, event_type FROM events").fetchall()
        rejected = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    found = {event_id for event_id, event_type in rows if event_type != "index_alarm"}
    if found != expected.event_ids | expected.changed_ids or rejected != (expected.rejected,):
        raise FaultFound(f"{len(found)} events, {rejected} in quarantine; expected {expected}")


def _undisturbed(root: Path, number: int, before: _Content, work: str) -> tuple[_Content, dict[str, int]]:
    """Do some work to its end; return the expected content of the root, and the steps that were taken."""
    with children.hearing(_live, root, number, before, _Kill(work, None)) as (_, indexer):
        more = indexer.next()
        steps = indexer.next()
    if not isinstance(more, _Content) or not isinstance(steps, dict):
        raise FaultFound(f"{work}, undisturbed: {more} {steps}")
    return before.and_then(more), steps


def _begun(root: Path, *, release: bool) -> _Content:
    """Make a root that has some content already."""
    return _undisturbed(root, 0, _Content(set(), set(), 0), "release" if release else "batch")[0]


def _steps_of(root: Path, work: str) -> dict[str, int]:
    """Do some work once; return its steps, and the number of each."""
    return _undisturbed(root, 1, _begun(root, release=_WORKS[work].release), work)[1]


def _kills(plan: Plan, work: str, steps: dict[str, int]) -> list[_Kill]:
    """Return a kill before each step, and one after the last."""
    deaths = [Death(name, plan.rng.randrange(count), after=False) for name, count in steps.items()]
    return [_Kill(work, death) for death in [*deaths, deaths[-1]._replace(after=True)]]


def _kill_at_steps(share: _Share) -> int:
    expected = _begun(share.root, release=_WORKS[share.kills[0].work].release)
    before = "the beginning"
    for number, kill in enumerate(share.kills, 1):
        with children.hearing(_live, share.root, number, expected, kill) as (process, indexer):
            said = indexer.next()
            Plan.check(isinstance(said, _Content), f"after {before}: {said}")
            ended = children.ended(process, 60)
        Plan.check(ended == -signal.SIGKILL, f"{kill.work} ended with {ended}, not {kill.death}")
        expected = expected.and_then(said)
        before = f"a kill at {kill.work}, {kill.death}"
    return oracle.judge(share.root, expected.event_ids | expected.changed_ids)


@fault("SIGKILL of indexers, step by step", "before each named step of batch, release, rebuild, replay and swap")
def kill_indexer_steps(plan: Plan) -> str:
    with memory() as folder:
        works = plan.rng.sample(sorted(_WORKS), min(plan.times(len(_WORKS)), len(_WORKS)))
        steps = children.side_by_side(lambda work: _steps_of(folder / work, work), works)
        found = [kill for work, each in zip(works, steps, strict=True) for kill in _kills(plan, work, each)]
        shares = list(_shares(folder, plan.rng.sample(found, min(plan.times(len(found)), len(found)))))
        rows = children.side_by_side(_kill_at_steps, shares)
    killed = sum(len(share.kills) for share in shares)
    return (
        f"{killed} kills at {len(found)} steps of {len(works)} works, {sum(rows):,} rows; equal to a replay after each"
    )


def _shares(folder: Path, kills: list[_Kill]) -> Iterator[_Share]:
    for release in (False, True):
        alike = [kill for kill in kills if _WORKS[kill.work].release is release]
        for start in range(0, len(alike), _KILLS_PER_ROOT):
            yield _Share(folder / f"root {release} {start}", alike[start : start + _KILLS_PER_ROOT])
