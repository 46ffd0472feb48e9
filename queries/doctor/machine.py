"""Checks of what the machine has left: space, descriptors, watches."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from eventlog.queries.doctor.finding import Finding, ok, problem, warning
from eventlog.queries.doctor.snapshot import Scene
from eventlog.queries.text.units import size

_LOW_BYTES, _NONE_BYTES = 1024**3, 64 * 1024**2
_LOW_PART, _NONE_PART = 0.10, 0.01
#: What a process has open besides segments: DuckDB, sockets, libraries.
_OTHER_DESCRIPTORS = 64
_INOTIFY = Path("/proc/sys/fs/inotify")
_COUNTING_S = 0.5


def space(scene: Scene) -> Iterator[Finding]:
    """Room for bytes and for files, where the log is and where exports pass through."""
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - looked at, not used
    places = {"the root": scene.root, "the log": scene.log, "temporary files": temporary}
    seen = set()
    for name, path in places.items():
        nearest = next(each for each in (path, *path.parents) if os.path.isdir(each))
        device = os.stat(nearest).st_dev
        if device not in seen:
            seen.add(device)
            yield from _space(name, nearest)


def _space(name: str, path: Path) -> Iterator[Finding]:
    found = os.statvfs(path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    what = f"{size(free)} of {size(total)} free for {name}"
    what_to_do = "free some, or move the root; events that find no room are lost, and counted"
    if free < max(_NONE_PART * total, _NONE_BYTES):
        yield problem(what, what_to_do, path)
    elif free < max(_LOW_PART * total, _LOW_BYTES):
        yield warning(what, what_to_do, path)
    else:
        yield ok(what, path)
    if found.f_files and found.f_favail < _LOW_PART * found.f_files:
        level = problem if found.f_favail < _NONE_PART * found.f_files else warning
        yield level(
            f"{found.f_favail:,} of {found.f_files:,} inodes free for {name}",
            "remove small files; each new segment needs one",
            path,
        )


def descriptors(scene: Scene) -> Iterator[Finding]:
    """A writer has one segment open for each event type that it emits."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    need = len(scene.types) + _OTHER_DESCRIPTORS
    what = f"{limit} in this shell (a service has its own limit), for {len(scene.types):,} event types"
    if soft != resource.RLIM_INFINITY and need > soft:
        yield warning(
            f"{what}: a process that emits them all runs out",
            f"ulimit -n {need * 2}, or LimitNOFILE={need * 2} in its unit; or use fewer event types",
        )
    else:
        yield ok(what)


def notifications(scene: Scene) -> Iterator[Finding]:
    """`eventlog index --watch` needs an inotify instance, and a watch for each folder of the log."""
    limits = {name: _number(_INOTIFY / name) for name in ("max_user_watches", "max_user_instances")}
    if None in limits.values():
        yield ok("no limits are known here")
        return
    need = {"max_user_watches": len(scene.types) + 1, "max_user_instances": 1}
    used = dict(zip(limits, _in_use(scene.person.uid), strict=True))
    short = False
    for name, limit in limits.items():
        if limit is not None and used[name] + need[name] > limit:
            short = True
            yield warning(
                f"{name} is {limit:,}: {need[name]:,} needed here for each index --watch, "
                f"{used[name]:,} or more in use by {scene.person.name}",
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
    """Count a user's watches and instances, as far as that is quickly seen in /proc."""
    deadline = time.monotonic() + _COUNTING_S
    watches = instances = 0
    for process in os.listdir("/proc"):
        if time.monotonic() > deadline:
            break
        try:
            if process.isdigit() and os.stat(f"/proc/{process}").st_uid == uid:
                for counted in _watches_of(Path("/proc", process)):
                    instances += 1
                    watches += counted
        except OSError:  # ended, or not ours to look into
            continue
    return watches, instances


def _watches_of(process: Path) -> Iterator[int]:
    """Yield how many watches each inotify instance of a process has."""
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
