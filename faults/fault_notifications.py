"""Notifications that get lost: a full queue, a folder that fills faster than it is watched, limits."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from eventlog.indexer.watch import SWEEP_S
from faults import children, oracle
from faults.campaign import Plan, fault, memory
from faults.watchers import emit_one, make_segments, watching

#: A sweep, and the time to index what it found on a busy machine.
_BOUND_S = SWEEP_S + 30


def _overflow(plan: Plan) -> str:
    """Stop the watcher, create more files than its queue holds, and continue it."""
    with memory() as folder:
        return _stop_and_go(plan, folder / "root")


def _stop_and_go(plan: Plan, root: Path) -> str:
    acked = [emit_one(root, "first")]
    with watching(root) as watcher:
        watcher.wait_for(1, "the first event", _BOUND_S)
        watcher.process.send_signal(signal.SIGSTOP)
        made = make_segments(root, [f"kind{number}" for number in range(20)], plan.times(1000))
        watcher.process.send_signal(signal.SIGCONT)
        took_s = watcher.wait_for(1 + len(made), "files made while the watcher was stopped", _BOUND_S)
        batches = watcher.batches()
    plan.check(len(batches) == 2, f"{len(made):,} files were found in {len(batches) - 1} sweeps, not in one")
    oracle.judge(root, acked + made)
    return f"{len(made):,} files made while it was stopped: one sweep, {took_s:.1f} s"


def _fill_folders(plan: Plan) -> str:
    """Create folders and fill each at once, again and again."""
    root = plan.root
    acked = [emit_one(root, "first")]
    worst_s = 0.0
    with watching(root) as watcher:
        watcher.wait_for(1, "the first event", _BOUND_S)
        for number in range(plan.times(10)):
            acked += make_segments(root, [f"kind{number}.{each}" for each in range(20)], 1)
            worst_s = max(worst_s, watcher.wait_for(len(acked), "files in folders made at once", _BOUND_S))
    oracle.nothing_lost(root, acked)
    return f"{len(acked) - 1} folders filled at once: at most {worst_s:.1f} s"


def _limited(plan: Plan, what: str, *options: str, prefix: tuple[str, ...] = (), warning: str = "") -> str:
    """Watch without notifications, or with too few; new folders are created meanwhile."""
    root = plan.root
    acked = [emit_one(root, "first")]
    with watching(root, *options, prefix=prefix) as watcher:
        watcher.wait_for(1, "the first event", _BOUND_S)
        worst_s = 0.0
        types = [f"kind{each:02d}" for each in range(20)]
        for round_, folders in (("new folders", types), ("folders that nobody watches", types[10:])):
            acked += make_segments(root, folders, plan.times(20), key=round_)
            worst_s = max(worst_s, watcher.wait_for(len(acked), f"{round_}, with {what}", _BOUND_S))
        children.wait_until(lambda: warning in watcher.said(), f"{warning!r} to be said, with {what}", _BOUND_S)
    oracle.nothing_lost(root, acked)
    return f"{what}: {worst_s:.1f} s"


def _limit(name: str, value: int) -> tuple[str, ...]:
    """Return a command that runs another under a limit, in a user namespace, so that no other process is affected."""
    return ("unshare", "-Ur", "sh", "-c", f'echo {value} > /proc/sys/user/max_inotify_{name} && exec "$@"', "sh")


def _can_limit() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_limit("watches", 1), "true"], capture_output=True, check=False).returncode == 0


@fault("Notifications lost", "queue overflow, folders filled at once, no or too few watches, polling")
def lose_notifications(plan: Plan) -> str:
    figures = [_overflow(plan), _fill_folders(plan), _limited(plan, "polling", "--poll")]
    if _can_limit():
        figures.append(_limited(plan, "3 watches", prefix=_limit("watches", 3)))
        figures.append(
            _limited(plan, "no notifications", prefix=_limit("instances", 0), warning="no file notifications")
        )
    else:
        figures.append("limits of notifications cannot be set here and were not tried")
    return "; ".join(figures)
