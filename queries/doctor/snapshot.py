"""A snapshot of a root for the checks: its entries, their modes and owners, and which process holds which segment.

The cost is bounded: two `stat` per segment, and at most `OPENED_MAX` unsealed segments are opened, the newest ones.
Nothing is created, written or waited for.
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

#: Unsealed segments that are opened.
OPENED_MAX = 10_000


class Account(msgspec.Struct, frozen=True):
    """The account whose rights are checked."""

    uid: int
    groups: frozenset[int]
    #: Whether this process runs as it.
    is_current: bool

    @property
    def name(self) -> str:
        return user_name(self.uid)


class RootSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A root at one moment. `closed` are folders that cannot be listed; `listing` does not have their segments."""

    root: Path
    account: Account
    types: list[Path]
    closed: list[Path]
    listing: Listing
    stats: dict[Path, os.stat_result]
    #: Segments by the process id of their writers, as far as the kernel shows them.
    writers: dict[int, list[SegmentFile]]
    #: The newest unsealed segments whose writer the kernel does not show, and those without a writer.
    nameless: list[SegmentFile]
    unowned: list[SegmentFile]
    #: The number of unsealed segments beyond OPENED_MAX.
    passed_over: int
    mounts: str
    now_s: float

    @property
    def log(self) -> Path:
        return layout.log_folder(self.root)

    def shown(self, path: Path) -> str:
        """Return a path relative to the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def take_snapshot(root: Path) -> RootSnapshot:
    """Take a snapshot of a root in any state, even a missing one."""
    types, closed = _type_folders(root)
    listing = _list(root, closed)
    stats = _stats([root, layout.log_folder(root), *types, *(segment.path for segment in listing.segments)])
    owners = _owners(stats)
    unsealed = sorted((segment for segment in listing.segments if not segment.sealed), key=lambda segment: segment.name)
    rest = [segment for segment in unsealed if not owners.get(segment.path)]
    newest = rest[-OPENED_MAX:]
    nameless: list[SegmentFile] = []
    unowned: list[SegmentFile] = []
    for segment in newest:  # processes of other containers are not in the kernel's list, but their locks hold here, too
        (nameless if is_owned(segment.path) else unowned).append(segment)
    if nameless:  # or their writers have just started
        owners = _owners(stats)
        nameless = [segment for segment in nameless if not owners.get(segment.path)]
    return RootSnapshot(
        root=root,
        account=_account(stats.get(root)),
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


def permits(status: os.stat_result, want: int, account: Account) -> bool:
    """Return whether the mode of a file gives an account the rights `want`, such as `os.R_OK | os.X_OK`."""
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        bits = status.st_mode >> 6
    elif status.st_gid in account.groups:
        bits = status.st_mode >> 3
    else:
        bits = status.st_mode
    return bits & want == want


def may(path: Path, status: os.stat_result, want: int, account: Account) -> bool:
    """Return what `permits` does, but respect also an access control list, for the current account."""
    return permits(status, want, account) or (account.is_current and os.access(path, want, effective_ids=True))


def user_name(uid: int) -> str:
    """Return "name (uid 7)", or "uid 7" if it has no name."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _account(root: os.stat_result | None) -> Account:
    """Return the current account; for the superuser, who has all rights, the owner of the root."""
    uid = os.geteuid()
    if uid != 0 or root is None or root.st_uid == 0:
        return Account(uid, frozenset([os.getegid(), *os.getgroups()]), True)
    try:
        entry = pwd.getpwuid(root.st_uid)
        groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)}
    except KeyError:
        groups = set()
    return Account(root.st_uid, frozenset(groups), False)


def _type_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of event types, and the folders that cannot be listed, which may be the log itself."""
    folder = layout.log_folder(root)
    try:
        with os.scandir(folder) as entries:
            folders = sorted(
                Path(entry.path)
                for entry in entries
                if EVENT_TYPE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError:
        return [], [folder]
    return folders, [path for path in folders if not os.access(path, os.R_OK | os.X_OK, effective_ids=True)]


def _list(root: Path, closed: list[Path]) -> Listing:
    if not closed:
        return layout.list_log(root)
    folder = layout.log_folder(root)
    if folder in closed:
        return Listing([], [])
    return layout.list_log(root, {*os.listdir(folder)} - {path.name for path in closed})


def _stats(paths: list[Path]) -> dict[Path, os.stat_result]:
    stats = {}
    for path in paths:
        try:
            stats[path] = os.stat(path)
        except OSError:  # deleted meanwhile, or in a closed folder, which is a finding itself
            continue
    return stats


def _owners(stats: dict[Path, os.stat_result]) -> dict[Path, set[int]]:
    held = lock.held_files() or {}
    return {path: held.get(lock.lock_key(status), set()) for path, status in stats.items()} if held else {}


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
