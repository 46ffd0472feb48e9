"""Checks of the machine's free resources: space, file descriptors, inotify watches."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from eventlog.cli.text import counted
from eventlog.log import descriptors as segment_descriptors
from eventlog.queries.doctor.finding import Finding, note, ok, problem, warning
from eventlog.queries.doctor.snapshot import RootSnapshot
from eventlog.queries.text.units import size

_LOW_BYTES, _NONE_BYTES = 1024**3, 64 * 1024**2
_LOW_PART, _NONE_PART = 0.10, 0.01
_INOTIFY = Path("/proc/sys/fs/inotify")
_COUNTING_S = 0.5


def space(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Free bytes and inodes for the root, the log and temporary files."""
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - looked at, not used
    folders = {"the root": snapshot.root, "the log": snapshot.log, "temporary files": temporary}
    seen = set()
    for name, path in folders.items():
        nearest = next(folder for folder in (path, *path.parents) if os.path.isdir(folder))
        device = os.stat(nearest).st_dev
        if device not in seen:
            seen.add(device)
            yield from _space(name, nearest)


def _space(name: str, path: Path) -> Iterator[Finding]:
    status = os.statvfs(path)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    fact = f"{size(free)} of {size(total)} free for {name}"
    advice = "free some, or move the root; events that find no room are lost, and counted"
    if free < max(_NONE_PART * total, _NONE_BYTES):
        yield problem(fact, advice, path)
    elif free < max(_LOW_PART * total, _LOW_BYTES):
        yield warning(fact, advice, path)
    else:
        yield ok(fact, path)
    if status.f_files and status.f_favail < _LOW_PART * status.f_files:
        level = problem if status.f_favail < _NONE_PART * status.f_files else warning
        yield level(
            f"{status.f_favail:,} of {status.f_files:,} inodes free for {name}",
            "remove small files; each new segment needs one",
            path,
        )


def descriptors(snapshot: RootSnapshot) -> Iterator[Finding]:
    """A writer keeps the segments open that it used last, as many as the limit of its process allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    kept_open, types = segment_descriptors.limit(), len(snapshot.types)
    fact = f"{limit} in this shell (a service has its own limit), for {counted(types, 'event type')}"
    enough = min(types, segment_descriptors.LIMIT_MAX) * segment_descriptors.SHARE
    if types > kept_open and soft < enough:
        yield note(
            f"{fact}: a writer keeps {kept_open} segments open, and opens others again for each of their lines",
            f"ulimit -n {enough}, or LimitNOFILE={enough} in its unit; or use fewer event types",
        )
    else:
        yield ok(fact)


def notifications(snapshot: RootSnapshot) -> Iterator[Finding]:
    """`eventlog index --watch` needs an inotify instance, and a watch for each folder of the log."""
    limits = {name: _number(_INOTIFY / name) for name in ("max_user_watches", "max_user_instances")}
    if None in limits.values():
        yield ok("no limits are known here")
        return
    need = {"max_user_watches": len(snapshot.types) + 1, "max_user_instances": 1}
    used = dict(zip(limits, _in_use(snapshot.account.uid), strict=True))
    short = False
    for name, limit in limits.items():
        if limit is not None and used[name] + need[name] > limit:
            short = True
            yield warning(
                f"{name} is {limit:,}: {need[name]:,} needed here for each index --watch, "
                f"{used[name]:,} or more in use by {snapshot.account.name}",
                f"sudo sysctl fs.inotify.{name}={max(limit * 2, (used[name] + need[name]) * 2)}, or index --watch "
                "--poll; without notifications events are indexed up to a second later",
                _INOTIFY / name,
            )
    if not short:
        yield ok(
            ", ".join(
                f"{name} {limit:,} ({used[name]:,} used, {need[name]:,} needed)" for name, limit in limits.items()
            )
        )


def _in_use(uid: int) -> tuple[int, int]:
    """Count the inotify watches and instances of a user in /proc, for half a second at most."""
    deadline = time.monotonic() + _COUNTING_S
    watches = instances = 0
    for process in os.listdir("/proc"):
        if time.monotonic() > deadline:
            break
        try:
            if process.isdigit() and os.stat(f"/proc/{process}").st_uid == uid:
                for count in _watches_of(Path("/proc", process)):
                    instances += 1
                    watches += count
        except OSError:  # it has ended, or belongs to another user
            continue
    return watches, instances


def _watches_of(process: Path) -> Iterator[int]:
    """Yield the number of watches of each inotify instance of a process."""
    for descriptor in os.listdir(process / "fd"):
        try:
            if os.readlink(process / "fd" / descriptor) == "anon_inode:inotify":
                yield (process / "fdinfo" / descriptor).read_text().count("inotify wd:")
        except OSError:  # closed since it was listed
            continue


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
