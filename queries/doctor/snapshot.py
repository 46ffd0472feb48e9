"""What most checks look at, gathered once: the listing, modes and owners, who holds what.

Everything here is bounded: two `stat` per segment, and of the unsealed segments at most
`LOOKED_INTO_MAX`, the newest, are opened. Nothing is created, written or waited for.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from pathlib import Path

import msgspec

from eventlog.format.envelope import EVENT_TYPE
from eventlog.indexer.index import lock
from eventlog.log import layout
from eventlog.log.layout import Listing, SegmentFile
from eventlog.log.segment import is_owned

#: How many unsealed segments are opened.
LOOKED_INTO_MAX = 10_000


class Person(msgspec.Struct, frozen=True):
    """The account whose rights are judged."""

    uid: int
    groups: frozenset[int]
    #: Whether it is the one that this process runs as.
    present: bool

    @property
    def name(self) -> str:
        return user_name(self.uid)


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A root as it was found. `listing` leaves out the folders in `closed`, which cannot be listed."""

    root: Path
    person: Person
    types: list[Path]
    closed: list[Path]
    listing: Listing
    stats: dict[Path, os.stat_result]
    #: Segments by the processes that own them, as far as the kernel names those.
    writers: dict[int, list[SegmentFile]]
    #: Of the newest unsealed segments: owned by a process that the kernel does not name, and by none.
    nameless: list[SegmentFile]
    unowned: list[SegmentFile]
    #: How many unsealed segments were too many to be opened.
    passed_over: int
    mounts: str
    now_s: float

    @property
    def log(self) -> Path:
        return layout.log_folder(self.root)

    def shown(self, path: Path) -> str:
        """Return a path as it stands below the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def look(root: Path) -> Scene:
    """Look at a root, whatever state it is in."""
    types, closed = _type_folders(root)
    listing = _list(root, closed)
    stats = _stats([root, layout.log_folder(root), *types, *(each.path for each in listing.segments)])
    owners = _owners(stats)
    unsealed = sorted((each for each in listing.segments if not each.sealed), key=lambda each: each.name)
    rest = [each for each in unsealed if not owners.get(each.path)]
    newest = rest[-LOOKED_INTO_MAX:]
    nameless: list[SegmentFile] = []
    unowned: list[SegmentFile] = []
    for segment in newest:  # the kernel's list ends at the border of a container, the lock does not
        (nameless if is_owned(segment.path) else unowned).append(segment)
    if nameless:  # or they were taken just now
        owners = _owners(stats)
        nameless = [each for each in nameless if not owners.get(each.path)]
    return Scene(
        root=root,
        person=_person(stats.get(root)),
        types=types,
        closed=closed,
        listing=listing,
        stats=stats,
        writers=_by_process(unsealed, owners),
        nameless=nameless,
        unowned=unowned,
        passed_over=len(rest) - len(newest),
        mounts=_text("/proc/self/mounts"),
        now_s=time.time(),
    )


def permits(found: os.stat_result, want: int, person: Person) -> bool:
    """Say whether the mode lets a person do what `want` (os.R_OK | …) asks for."""
    if person.uid == 0:
        return True
    if found.st_uid == person.uid:
        bits = found.st_mode >> 6
    elif found.st_gid in person.groups:
        bits = found.st_mode >> 3
    else:
        bits = found.st_mode
    return bits & want == want


def may(path: Path, found: os.stat_result, want: int, person: Person) -> bool:
    """Like `permits`, but an access control list of the present user counts as well."""
    return permits(found, want, person) or (person.present and os.access(path, want, effective_ids=True))


def user_name(uid: int) -> str:
    """Return `name (uid 7)`, or the number alone where it has no name."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _person(found: os.stat_result | None) -> Person:
    """The present user; for the superuser, who may everything, the owner of the root."""
    uid = os.geteuid()
    if uid != 0 or found is None or found.st_uid == 0:
        return Person(uid, frozenset([os.getegid(), *os.getgroups()]), True)
    try:
        account = pwd.getpwuid(found.st_uid)
        groups = {account.pw_gid, *(each.gr_gid for each in grp.getgrall() if account.pw_name in each.gr_mem)}
    except KeyError:
        groups = set()
    return Person(found.st_uid, frozenset(groups), False)


def _type_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of event types, and which folders (the log itself, too) cannot be listed."""
    folder = layout.log_folder(root)
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                Path(entry.path)
                for entry in entries
                if EVENT_TYPE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError:
        return [], [folder]
    return found, [path for path in found if not os.access(path, os.R_OK | os.X_OK, effective_ids=True)]


def _list(root: Path, closed: list[Path]) -> Listing:
    if not closed:
        return layout.list_log(root)
    folder = layout.log_folder(root)
    if folder in closed:
        return Listing([], [])
    return layout.list_log(root, {*os.listdir(folder)} - {path.name for path in closed})


def _stats(paths: list[Path]) -> dict[Path, os.stat_result]:
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path)
        except OSError:  # gone meanwhile, or behind a closed folder, which is reported as such
            continue
    return found


def _owners(stats: dict[Path, os.stat_result]) -> dict[Path, set[int]]:
    held = lock.held_files() or {}
    return {path: held.get(lock.lock_key(found), set()) for path, found in stats.items()} if held else {}


def _by_process(segments: list[SegmentFile], owners: dict[Path, set[int]]) -> dict[int, list[SegmentFile]]:
    writers: dict[int, list[SegmentFile]] = {}
    for segment in segments:
        for pid in owners.get(segment.path, ()):
            writers.setdefault(pid, []).append(segment)
    return writers


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""
