"""A disk that is full for a while, for writers and for the indexer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.indexer.index import index_file
from faults import oracle
from faults.campaign import Plan, Skipped, fault
from faults.pace import Deadline

_WRITERS = 4
_INDEX_MAX_S = 6.0
_DISK_BYTES = 96 * 1024 * 1024
#: The breaker probes every 5 s at the latest; the rest is for a machine that is busy.
_RESUME_MAX_S = 5.0 + 5.0

_PRODUCER = """
import json, os, random, sys, time
from eventlog.config import Config
from eventlog.record.recorder import Recorder
root, seed, stop = sys.argv[1:]
rng, recorder, tried = random.Random(seed), Recorder(Config(root=root, segment_max_bytes=1024 * 1024)), 0
while not os.path.exists(stop):
    payloads = [{"pad": "x" * int(100 * 100 ** (rng.random() ** 3))} for _ in range(rng.choice((1, 1, 1, 4)))]
    ids = recorder.emit_many(f"kind{rng.randint(0, 2)}", payloads)
    tried += len(payloads)
    os.write(1, "".join(f"{each}\\n" for each in ids).encode())
    time.sleep(0.02)
recorder.shutdown()
stats = recorder.stats()
os.write(2, json.dumps([tried, stats.emitted, stats.lost]).encode())
"""


@fault("disk full", "a small tmpfs, filled while 4 processes write and the indexer runs, then freed")
def disk_full(plan: Plan) -> str:
    rounds, tried, lost, slowest, failed = plan.times(4), 0, 0, 0.0, 0
    acked: list[str] = []
    with small_disk(plan.folder / "disk") as disk:
        root, stop = disk / "root", plan.folder / "stop"
        reports = [plan.folder / f"report{each}" for each in range(_WRITERS)]
        writers = [_start(root, str(plan.rng.random()), stop, report) for report in reports]
        try:
            for _ in range(rounds):
                _wait_for_growth(plan, reports, 30)
                plan.check(not _index(root), "the indexer failed though there was space")
                rows = _rows(root)
                with filled(disk):
                    time.sleep(1.5 + plan.rng.random())
                    failed += _index(root)
                    kept = _rows(root)
                    plan.check(
                        rows <= kept, f"{len(rows - kept)} of {len(rows)} committed rows are gone on a full disk"
                    )
                slowest = max(slowest, _wait_for_growth(plan, reports, _RESUME_MAX_S))
            stop.touch()
            for writer, report in zip(writers, reports, strict=True):
                _, said = writer.communicate(timeout=60)
                plan.check(writer.returncode == 0, f"a writer ended with {writer.returncode}: {said[-2000:]!r}")
                theirs = report.read_text().split()
                one_tried, one_emitted, one_lost = json.loads(said.splitlines()[-1])
                plan.check(
                    one_tried == len(theirs) + one_lost and one_emitted == len(theirs),
                    f"{one_tried} emitted, {len(theirs)} acknowledged, stats say {one_emitted} and {one_lost} lost",
                )
                acked, tried, lost = acked + theirs, tried + one_tried, lost + one_lost
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        _, told = oracle.read_whole(root)
        plan.check(told == lost, f"{lost} events were lost, events_dropped tells of {told}")
        oracle.judge(root, acked)
    return (
        f"{rounds} times full: {tried:,} emitted = {len(acked):,} acknowledged + {lost:,} dropped, each reported; "
        f"no line fused; all writers back within {slowest:.1f} s; {failed} runs of the indexer failed, no row lost"
    )


def _start(root: Path, seed: str, stop: Path, report: Path) -> subprocess.Popen[bytes]:
    with report.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-c", _PRODUCER, str(root), seed, str(stop)], stdout=out, stderr=subprocess.PIPE
        )


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system at a folder. Raises Skipped where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"a file system that is small enough to fill needs the right to mount one ({error})") from None
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Keep the disk full, again and again, so that space that is freed meanwhile is of no use."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(_Full):
                while True:
                    _write(file.fileno(), bytes(size))
    try:
        yield
    finally:
        filler.unlink()


def _index(root: Path) -> bool:
    """Index for some seconds (it would go on while writers write); return whether it failed."""
    try:
        return bool(oracle.eventlog("index", "--root", root, timeout_s=_INDEX_MAX_S).returncode)
    except subprocess.TimeoutExpired:
        return False


class _Full(Exception):
    pass


def _write(fd: int, data: bytes) -> None:
    try:
        os.write(fd, data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _Full from None


def _wait_for_growth(plan: Plan, reports: list[Path], timeout_s: float) -> float:
    """Return how many seconds it took until every writer had an event acknowledged."""
    deadline = Deadline(timeout_s)
    before = [report.stat().st_size for report in reports]
    while any(report.stat().st_size <= size for report, size in zip(reports, before, strict=True)):
        plan.check(not deadline.has_passed(), f"a writer did not go on within {timeout_s:g} s")
        time.sleep(0.02)
    return deadline.elapsed_s


def _rows(root: Path) -> set[str]:
    with index_file.reading(root) as connection:
        return {str(row[0]) for row in connection.execute("SELECT event_id FROM events").fetchall()}
