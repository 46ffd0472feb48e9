"""Checks of the root as files: rights, owners, privacy, kind of file system, leftovers."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from eventlog.cli.text import counted
from eventlog.indexer.index import lock
from eventlog.log.layout import SegmentFile
from eventlog.queries.doctor.finding import Finding, note, ok, problem, several, warning
from eventlog.queries.doctor.snapshot import Scene, may, user_name
from eventlog.queries.text.units import size

_READ, _WRITE = os.R_OK | os.X_OK, os.W_OK | os.X_OK
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    "vboxsf", "virtiofs",
}  # fmt: skip
_MEMORY = {"tmpfs", "ramfs"}
#: Files beside the log, as far as they are eventlog's.
_INDEX_FILES = ("index.duckdb", "index.duckdb.wal", "index.turn", "index.gate", "index.replay.lock")


def access(scene: Scene) -> Iterator[Finding]:
    """The root is there, and whoever records may read and write all of it."""
    root, person = scene.root, scene.person
    if root not in scene.stats:
        yield from _absent(root)
        return
    if not stat.S_ISDIR(scene.stats[root].st_mode):
        yield problem("the root is not a folder", "name another root, or move the file away", root)
        return
    denied = list(_denied(scene))
    yield from denied
    if not os.path.isdir(scene.log) and not denied:
        yield note(
            "nothing is recorded yet: there is no log", "emit an event, or check that it is the right root", root
        )
    elif not denied:
        yield ok(f"{len(scene.types):,} event types; {person.name} may read and write", root)


def _absent(root: Path) -> Iterator[Finding]:
    parent = next(each for each in root.parents if os.path.isdir(each))
    if os.path.lexists(root):
        yield problem("the root is a link that leads nowhere", "make the folder that it names, or remove it", root)
    elif not os.access(parent, _WRITE, effective_ids=True):
        yield problem(
            f"the root cannot be reached or made: {parent} belongs to {user_name(os.stat(parent).st_uid)} "
            f"and is closed to {user_name(os.geteuid())}",
            "choose another root, or have somebody make it",
            root,
        )
    else:
        yield note("the root is not there: nothing is recorded yet", "emit an event, or check the name", root)


def _denied(scene: Scene) -> Iterator[Finding]:
    """What the person may not do, folders first."""
    person, owner = scene.person, user_name(scene.stats[scene.root].st_uid)
    folders = {path: scene.stats[path] for path in (scene.root, scene.log, *scene.types) if path in scene.stats}
    give = f"chown -R {scene.stats[scene.root].st_uid} {_quoted(scene.root)}; chmod -R u+rwX {_quoted(scene.root)}"
    unread = [path for path, found in folders.items() if not may(path, found, _READ, person)]
    unread += [path for path in scene.closed if path not in unread]
    if scene.root in unread:  # and so with all below it
        unread = [scene.root]
    if unread:
        yield problem(
            f"{person.name} may not read {counted(len(unread), 'folder')}: {several(unread)}",
            f"{give} (the root belongs to {owner}), or work as that user",
            unread[0],
        )
    if scene.root in unread:
        return
    unwritten = [path for path, found in folders.items() if not may(path, found, _WRITE, person) and path not in unread]
    if unwritten:
        yield problem(
            f"{person.name} may not write to {counted(len(unwritten), 'folder')}: {several(unwritten)}",
            f"{give} (the root belongs to {owner}); in order where this user only reads",
            unwritten[0],
        )
    closed = [each for each in scene.listing.segments if not _open_to(scene, each, os.R_OK)]
    if closed:
        yield problem(
            f"{person.name} may not read {counted(len(closed), 'segment')}: "
            f"{several(_whose(scene, each) for each in closed)}",
            f"{give}; then run what emits there as that user",
            closed[0].path,
        )
    index = [scene.root / name for name in _INDEX_FILES]
    shut = [path for path in index if os.path.exists(path) and not may(path, path.stat(), os.R_OK | os.W_OK, person)]
    if shut:
        yield problem(
            f"{person.name} may not read and write {several(path.name for path in shut)}",
            f"{give}; then run the indexer as that user",
            shut[0],
        )


def _open_to(scene: Scene, segment: SegmentFile, want: int) -> bool:
    found = scene.stats.get(segment.path)
    return found is None or may(segment.path, found, want, scene.person)


def _whose(scene: Scene, segment: SegmentFile) -> str:
    found = scene.stats[segment.path]
    return f"{scene.shown(segment.path)} ({stat.S_IMODE(found.st_mode):04o}, {user_name(found.st_uid)})"


def owners(scene: Scene) -> Iterator[Finding]:
    """One account owns it all: files that another one makes are closed to it."""
    owner = scene.stats[scene.root].st_uid
    foreign = [path for path, found in scene.stats.items() if found.st_uid != owner]
    if foreign:
        yield warning(
            f"{len(foreign):,} of {len(scene.stats):,} files and folders belong to somebody else than the root, "
            f"which is {user_name(owner)}'s: {several(scene.shown(path) for path in foreign)}",
            f"chown -R {owner} {_quoted(scene.root)}, and always emit as one user",
            foreign[0],
        )
    elif owner != os.geteuid():
        yield note(
            f"all belongs to {user_name(owner)}, and you are {user_name(os.geteuid())}",
            "emit and index as its owner: what you make here may be closed to them",
            scene.root,
        )
    else:
        yield ok(f"all belongs to {user_name(owner)}")


def privacy(scene: Scene) -> Iterator[Finding]:
    """Prompts and secrets end up in logs; a closed root closes all that is in it."""
    if not scene.stats[scene.root].st_mode & 0o077:
        yield ok("the root is closed to other users")
        return
    index = [path for name in _INDEX_FILES[:2] if (path := scene.root / name).exists()]
    modes = {path: found.st_mode for path, found in scene.stats.items()} | {path: path.stat().st_mode for path in index}
    exposed = [path for path, mode in modes.items() if mode & 0o077]
    yield note(
        f"other users may get at the root (mode {stat.S_IMODE(modes[scene.root]):04o})"
        + (f", and at {counted(len(exposed) - 1, 'file or folder', 'files and folders')} in it" if exposed[1:] else ""),
        f"if that is not meant: chmod -R go= {_quoted(scene.root)}",
        scene.root,
    )


def file_system(scene: Scene) -> Iterator[Finding]:
    """Locks and notifications are promised by local file systems only."""
    mount, kind = mount_of(scene.root, scene.mounts)
    log_mount, log_kind = mount_of(scene.log, scene.mounts)
    sound = True
    if log_mount != mount:
        sound = False
        yield note(f"the log is on {log_mount}, the rest of the root on {mount}", "watch the space on both", scene.log)
    for each, path in {kind: scene.root, log_kind: scene.log}.items():
        if each in _NETWORK or each.startswith("fuse"):
            sound = False
            yield warning(
                f"it is on a file system ({each}) that may promise neither locks nor notifications",
                "let one machine write here, and use: eventlog index --watch --poll",
                path,
            )
        elif each in _MEMORY:
            sound = False
            yield note(f"it is in memory ({each}) and gone at the next start", "move the root to keep it", path)
        elif each == "overlay":
            sound = False
            yield note("it is in a container's own layer, and goes with it", "mount a volume to keep it", path)
    nearest = next(each for each in (scene.root, *scene.root.parents) if os.path.exists(each))
    for place in dict.fromkeys((nearest, scene.log if os.path.exists(scene.log) else nearest)):
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            sound = False
            yield problem("the file system is mounted read-only", "mount it read-write, or move the root", place)
    if sound:
        yield ok(f"{kind or 'of unknown kind'}, on {mount}")


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """Return where the file system of a path is mounted, and its kind ("" where that is unknown)."""
    real = os.path.realpath(path)
    best, kind = "/", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = _unescaped(words[1])
        # The last of two mounts at one place is the one that is seen.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, words[2]
    return best, kind


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def leftovers(scene: Scene) -> Iterator[Finding]:
    """Files that something which died, or an evil day, has left in the root."""
    found = {path.name: path for path in sorted(scene.root.iterdir())}
    findings = [*_of_replays(found), *_of_broken_indexes(found), *_of_copies(found)]
    if "index.duckdb.wal" in found and "index.duckdb" not in found:
        findings.append(
            note(
                "a write-ahead log without its index",
                "nothing: the indexer clears it away when it makes a new index",
                found["index.duckdb.wal"],
            )
        )
    yield from findings or [ok("nothing is left lying about")]


def _of_replays(found: dict[str, Path]) -> Iterator[Finding]:
    work = found.get("index.duckdb.replay")
    if work is None:
        return
    running = lock.holders(work.with_name("index.replay.lock"))
    if running:
        yield ok(f"a replay is running: {several(running)}", work)
    elif work.exists():  # it may have ended while we looked
        yield note(
            f"an unfinished index of {size(work.stat().st_size)}, whose replay "
            f"{'is gone' if running is not None else 'may be gone'}",
            "nothing: the next replay clears it away",
            work,
        )


def _of_broken_indexes(found: dict[str, Path]) -> Iterator[Finding]:
    broken = [
        path for name, path in found.items() if name.startswith(("index.duckdb.broken-", "index.duckdb.replaced-"))
    ]
    if broken:
        yield warning(
            f"{counted(len(broken), 'file')} of an index that could not be opened "
            f"({size(sum(path.stat().st_size for path in broken))}): {several(path.name for path in broken)}",
            "look for the cause (a full or failing disk?); delete them when all is well. "
            "In mode db_only they may be the only copy of rows whose segments were deleted",
            broken[0],
        )


def _of_copies(found: dict[str, Path]) -> Iterator[Finding]:
    parts = [path for name, path in found.items() if name.endswith(".part")]
    if parts:
        yield note(
            f"{counted(len(parts), 'unfinished copy', 'unfinished copies')}: {several(path.name for path in parts)}",
            "delete them, unless something is being written this minute",
            parts[0],
        )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
