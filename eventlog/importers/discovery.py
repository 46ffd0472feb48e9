"""Finding the files of a program below folders.

Links to folders are followed, each folder once, where the user owns what they lead to: people keep projects elsewhere
and link to them. Links to files are not: what they lead to is found where it lies, or is none of the program's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path


def files_below(folder: Path, patterns: Sequence[str], unreadable: list[str]) -> Iterator[Path]:
    """Yield the regular files below a folder whose names match one of the patterns, such as `*.jsonl`.

    Adds a message to `unreadable` for each folder that cannot be read, and goes on.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append(f"{here}: cannot be read: {error.strerror or error}; check its permissions")
            continue
        waiting += reversed(list(_folders(found)))
        for entry in found:
            if entry.is_file(follow_symlinks=False) and any(fnmatchcase(entry.name, pattern) for pattern in patterns):
                yield Path(entry.path)


def _folders(entries: Iterable[os.DirEntry[str]]) -> Iterator[Path]:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and _is_own_folder(entry.path)):
            yield Path(entry.path)


def _is_own_folder(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:  # a link that leads nowhere, or round in circles
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
