"""Producers whose system calls fail, one after the other, each in every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.log import layout
from eventlog.record.recorder import Recorder
from faults import files, oracle
from faults.campaign import Plan, fault
from faults.forked import in_child

#: What each call of a producer may fail with.
ERRORS = {
    "write": ("EIO", "ENOSPC", "EDQUOT", "short", "uncut"),
    "fdatasync": ("EIO", "ENOSPC"),
    "fsync": ("EIO",),
    "open": ("EIO", "ENOSPC", "EDQUOT", "EMFILE"),
    "mkdir": ("EIO", "EDQUOT"),
    "flock": ("EIO", "ENOLCK", "EWOULDBLOCK"),
    "unlink": ("EIO",),
    "close": ("EIO",),
    "pread": ("EIO",),
}
_STEPS = 12
#: Told once, the agent may run on for long: in the end all that was lost is told.
_TIMEOUT_S = 20


class Case(NamedTuple):
    """One producer: which call fails, how and from when on, and the durability that it was promised."""

    call: str
    error: str
    lasting: bool
    durability: Durability


class Report(NamedTuple):
    """The last report of a producer."""

    acked: list[str]
    tried: int
    emitted: int
    lost: int
    refused: int
    failed: int
    descriptors: int


@fault(
    "failing system calls", "the k-th of each call for every k; EIO, ENOSPC, EDQUOT, …, once and lasting; short writes"
)
def failing_calls(plan: Plan) -> str:
    merged, acked, runs, failed, lost = plan.root, [], 0, 0, 0
    for case in _cases():
        step = max(1, round(1 / plan.scale))
        when = plan.rng.randint(1, step)
        while True:
            report, root = _try(plan, case, when)
            runs, failed, lost = runs + 1, failed + report.failed, lost + report.lost
            acked += report.acked
            _merge(root, merged)
            if not report.failed:
                break
            when += step
    rows = oracle.judge(merged, acked)
    return (
        f"{runs:,} producers, {failed:,} calls failed, {len(acked):,} acknowledged, {rows:,} rows, "
        f"{lost:,} dropped and reported; 0 lost in silence, 0 twice, 0 raised"
    )


def _cases() -> Iterator[Case]:
    for durability in Durability:
        for call, errors in ERRORS.items():
            for error in errors:
                for lasting in (False, True):
                    yield Case(call, error, lasting, durability)


def _try(plan: Plan, case: Case, when: int) -> tuple[Report, Path]:
    root = plan.root
    what = f"{case.call} number {when} with {case.error}{' and on' * case.lasting}, {case.durability.value}"
    found = in_child(lambda: _produce(root, case, when), timeout_s=_TIMEOUT_S)
    report = Report(*found)
    plan.check(report.refused == 0, f"{what}: {report.refused} refused")
    plan.check(
        len(report.acked) + report.lost == report.tried,
        f"{what}: {report.tried} emitted, {len(report.acked)} acknowledged, {report.lost} counted as lost",
    )
    plan.check(report.emitted == len(report.acked), f"{what}: stats say {report.emitted}, not {len(report.acked)}")
    there, told = oracle.read_whole(root)
    gone = set(report.acked) - there
    plan.check(not gone, f"{what}: {len(gone)} of {len(report.acked)} acknowledged events are not in the log")
    plan.check(told == report.lost, f"{what}: {report.lost} lost, the log tells of {told}")
    plan.check(report.descriptors == 0, f"{what}: {report.descriptors} descriptors stay open")
    return report, root


def _produce(root: Path, case: Case, when: int) -> Report:
    rule = files.Failing(case.call, case.error, when, lasting=case.lasting)
    files.install(root, rule)
    # The thread that syncs regularly would make the order of the calls a matter of chance.
    recorder = Recorder(
        Config(root=str(root), segment_max_bytes=4096, durability=case.durability, sync_interval_s=0, agent="a")
    )
    acked, tried = [], 0
    for step in range(_STEPS):
        kind = f"kind{step % 3}"
        if step % 4 == 3:
            acked += recorder.emit_many(kind, [{"step": step, "n": n, "pad": "x" * 500} for n in range(5)])
            tried += 5
        else:
            event_id = recorder.emit(kind, {"step": step, "pad": "x" * 1100})
            acked += [event_id] if event_id else []
            tried += 1
    recorder.flush()
    rule.heal()
    recorder.shutdown()
    stats = recorder.stats()
    return Report(acked, tried, stats.emitted, stats.lost, stats.refused, rule.failed, _open_below(root))


def _open_below(root: Path) -> int:
    links = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(each.readlink()))
        except OSError:
            continue
    return sum(link.startswith(str(root)) for link in links)


def _merge(root: Path, merged: Path) -> None:
    """Move the segments into one log: a segment is identified by its name."""
    for path in layout.log_folder(root).glob("*/*"):
        folder = layout.log_folder(merged) / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
