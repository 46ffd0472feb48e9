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
from eventlog.queries.doctor.snapshot import RootSnapshot, may, user_name
from eventlog.queries.text.units import size

_READ, _WRITE = os.R_OK | os.X_OK, os.W_OK | os.X_OK
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    "vboxsf", "virtiofs",
}  # fmt: skip
_MEMORY = {"tmpfs", "ramfs"}
#: Files of the index, in the root.
_INDEX_FILES = ("index.duckdb", "index.duckdb.wal", "index.turn", "index.gate", "index.replay.lock")


def access(snapshot: RootSnapshot) -> Iterator[Finding]:
    """The root exists, and the account that records may read and write all of it."""
    root, account = snapshot.root, snapshot.account
    if root not in snapshot.stats:
        yield from _absent(root)
        return
    if not stat.S_ISDIR(snapshot.stats[root].st_mode):
        yield problem("the root is not a folder", "name another root, or move the file away", root)
        return
    denied = list(_denied(snapshot))
    yield from denied
    if not os.path.isdir(snapshot.log) and not denied:
        yield note(
            "nothing is recorded yet: there is no log", "emit an event, or check that it is the right root", root
        )
    elif not denied:
        yield ok(f"{counted(len(snapshot.types), 'event type')}; {account.name} may read and write", root)


def _absent(root: Path) -> Iterator[Finding]:
    parent = next(folder for folder in root.parents if os.path.isdir(folder))
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


def _denied(snapshot: RootSnapshot) -> Iterator[Finding]:
    """What the account may not do, folders first. A closed root hides everything in it."""
    unread = _closed_folders(snapshot, _READ)
    unread += [path for path in snapshot.closed if path not in unread]
    if snapshot.root in unread:
        unread = [snapshot.root]
    if unread:
        yield problem(
            f"{snapshot.account.name} may not read {counted(len(unread), 'folder')}: {several(unread)}",
            f"{_give(snapshot)} (the root belongs to {_owner(snapshot)}), or work as that user",
            unread[0],
        )
    if snapshot.root not in unread:
        yield from _unwritable(snapshot, unread)
        yield from _unreadable_segments(snapshot)
        yield from _unusable_index(snapshot)


def _closed_folders(snapshot: RootSnapshot, want: int) -> list[Path]:
    folders = [path for path in (snapshot.root, snapshot.log, *snapshot.types) if path in snapshot.stats]
    return [path for path in folders if not may(path, snapshot.stats[path], want, snapshot.account)]


def _unwritable(snapshot: RootSnapshot, unread: list[Path]) -> Iterator[Finding]:
    unwritten = [path for path in _closed_folders(snapshot, _WRITE) if path not in unread]
    if unwritten:
        yield problem(
            f"{snapshot.account.name} may not write to {counted(len(unwritten), 'folder')}: {several(unwritten)}",
            f"{_give(snapshot)} (the root belongs to {_owner(snapshot)}); in order where this user only reads",
            unwritten[0],
        )


def _unreadable_segments(snapshot: RootSnapshot) -> Iterator[Finding]:
    closed = [segment for segment in snapshot.listing.segments if not _is_readable(snapshot, segment)]
    if closed:
        yield problem(
            f"{snapshot.account.name} may not read {counted(len(closed), 'segment')}: "
            f"{several(_with_mode(snapshot, segment) for segment in closed)}",
            f"{_give(snapshot)}; then run what emits there as that user",
            closed[0].path,
        )


def _unusable_index(snapshot: RootSnapshot) -> Iterator[Finding]:
    files = [path for name in _INDEX_FILES if (path := snapshot.root / name).exists()]
    closed = [path for path in files if not may(path, path.stat(), os.R_OK | os.W_OK, snapshot.account)]
    if closed:
        yield problem(
            f"{snapshot.account.name} may not read and write {several(path.name for path in closed)}",
            f"{_give(snapshot)}; then run the indexer as that user",
            closed[0],
        )


def _owner(snapshot: RootSnapshot) -> str:
    return user_name(snapshot.stats[snapshot.root].st_uid)


def _give(snapshot: RootSnapshot) -> str:
    """Return the commands that give the whole root to its owner."""
    root = _quoted(snapshot.root)
    return f"chown -R {snapshot.stats[snapshot.root].st_uid} {root}; chmod -R u+rwX {root}"


def _is_readable(snapshot: RootSnapshot, segment: SegmentFile) -> bool:
    status = snapshot.stats.get(segment.path)
    return status is None or may(segment.path, status, os.R_OK, snapshot.account)


def _with_mode(snapshot: RootSnapshot, segment: SegmentFile) -> str:
    status = snapshot.stats[segment.path]
    return f"{snapshot.shown(segment.path)} ({stat.S_IMODE(status.st_mode):04o}, {user_name(status.st_uid)})"


def owners(snapshot: RootSnapshot) -> Iterator[Finding]:
    """One account owns all files: it cannot open those that another account makes."""
    owner = snapshot.stats[snapshot.root].st_uid
    foreign = [path for path, status in snapshot.stats.items() if status.st_uid != owner]
    if foreign:
        yield warning(
            f"{len(foreign):,} of {len(snapshot.stats):,} files and folders belong to somebody else than the root, "
            f"which is {user_name(owner)}'s: {several(snapshot.shown(path) for path in foreign)}",
            f"chown -R {owner} {_quoted(snapshot.root)}, and always emit as one user",
            foreign[0],
        )
    elif owner != os.geteuid():
        yield note(
            f"all belongs to {user_name(owner)}, and you are {user_name(os.geteuid())}",
            "emit and index as its owner: what you make here may be closed to them",
            snapshot.root,
        )
    else:
        yield ok(f"all belongs to {user_name(owner)}")


def privacy(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Logs hold prompts and secrets. A root that is closed to other users protects all of them."""
    if not snapshot.stats[snapshot.root].st_mode & 0o077:
        yield ok("the root is closed to other users")
        return
    index = [path for name in _INDEX_FILES[:2] if (path := snapshot.root / name).exists()]
    modes = {path: status.st_mode for path, status in snapshot.stats.items()} | {
        path: path.stat().st_mode for path in index
    }
    exposed = [path for path, mode in modes.items() if mode & 0o077]
    yield note(
        f"other users may get at the root (mode {stat.S_IMODE(modes[snapshot.root]):04o})"
        + (f", and at {counted(len(exposed) - 1, 'file or folder', 'files and folders')} in it" if exposed[1:] else ""),
        f"if that is not meant: chmod -R go= {_quoted(snapshot.root)}",
        snapshot.root,
    )


def file_system(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Only local file systems guarantee locks and notifications."""
    mount, kind = mount_of(snapshot.root, snapshot.mounts)
    log_mount, log_kind = mount_of(snapshot.log, snapshot.mounts)
    sound = True
    if log_mount != mount:
        sound = False
        yield note(
            f"the log is on {log_mount}, the rest of the root on {mount}", "watch the space on both", snapshot.log
        )
    for name, path in {kind: snapshot.root, log_kind: snapshot.log}.items():
        if name in _NETWORK or name.startswith("fuse"):
            sound = False
            yield warning(
                f"it is on a file system ({name}) that may promise neither locks nor notifications",
                "let one machine write here, and use: eventlog index --watch --poll",
                path,
            )
        elif name in _MEMORY:
            sound = False
            yield note(f"it is in memory ({name}) and gone at the next start", "move the root to keep it", path)
        elif name == "overlay":
            sound = False
            yield note("it is in a container's own layer, and goes with it", "mount a volume to keep it", path)
    nearest = next(path for path in (snapshot.root, *snapshot.root.parents) if os.path.exists(path))
    for folder in dict.fromkeys((nearest, snapshot.log if os.path.exists(snapshot.log) else nearest)):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            sound = False
            yield problem("the file system is mounted read-only", "mount it read-write, or move the root", folder)
    if sound:
        yield ok(f"{kind or 'of unknown kind'}, on {mount}")


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """Return the mount point of a path and the kind of its file system: ("/", "ext4"); the kind is "" if unknown.

    `mounts` is the text of /proc/self/mounts.
    """
    real = os.path.realpath(path)
    best, kind = "/", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = _unescaped(words[1])
        # Of two mounts at one path, the last one is visible.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, words[2]
    return best, kind


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def leftovers(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Files in the root that are left from crashes and from broken indexes."""
    entries = {path.name: path for path in sorted(snapshot.root.iterdir())}
    findings = [*_of_replays(entries), *_of_broken_indexes(entries), *_of_copies(entries)]
    if "index.duckdb.wal" in entries and "index.duckdb" not in entries:
        findings.append(
            note(
                "a write-ahead log without its index",
                "nothing: the indexer clears it away when it makes a new index",
                entries["index.duckdb.wal"],
            )
        )
    yield from findings or [ok("nothing is left lying about")]


def _of_replays(entries: dict[str, Path]) -> Iterator[Finding]:
    work = entries.get("index.duckdb.replay")
    if work is None:
        return
    running = lock.holders(work.with_name("index.replay.lock"))
    if running:
        yield ok(f"a replay is running: {several(running)}", work)
    elif work.exists():  # the replay may have ended meanwhile
        yield note(
            f"an unfinished index of {size(work.stat().st_size)}, whose replay "
            f"{'is gone' if running is not None else 'may be gone'}",
            "nothing: the next replay clears it away",
            work,
        )


def _of_broken_indexes(entries: dict[str, Path]) -> Iterator[Finding]:
    broken = [
        path for name, path in entries.items() if name.startswith(("index.duckdb.broken-", "index.duckdb.replaced-"))
    ]
    if broken:
        yield warning(
            f"{counted(len(broken), 'file')} of an index that could not be opened "
            f"({size(sum(path.stat().st_size for path in broken))}): {several(path.name for path in broken)}",
            "look for the cause (a full or failing disk?); delete them when all is well. "
            "In mode db_only they may be the only copy of rows whose segments were deleted",
            broken[0],
        )


def _of_copies(entries: dict[str, Path]) -> Iterator[Finding]:
    parts = [path for name, path in entries.items() if name.endswith(".part")]
    if parts:
        yield note(
            f"{counted(len(parts), 'unfinished copy', 'unfinished copies')}: {several(path.name for path in parts)}",
            "delete them, unless something is being written this minute",
            parts[0],
        )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
