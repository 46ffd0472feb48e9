"""Followed files that are kept open: what is written to one after it was renamed or removed is read as well."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from eventlog.importers.content import Content, file_of

#: Files that are kept open, unless that is more than a fourth of those that may be.
_HELD_MAX = 500
#: How long after its last change a file that is gone from its path is looked at.
_LEAVING_S = 60.0


class Followed:
    """Open files, each with the id of its source's position, of which the last ones that had something new are kept.

    One that is let go of is found again by its name or beside it, unless it was moved away.
    """

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max = _HELD_MAX if soft == resource.RLIM_INFINITY else min(_HELD_MAX, soft // 4)
        self._held: dict[Path, tuple[Content, int]] = {}
        self._leaving: list[tuple[Content, int, float]] = []
        self._replaced: set[Path] = set()

    def hold(self, content: Content, number: int) -> None:
        """Keep a file open that was read to its end."""
        self._let_go(content.path)
        self._held[content.path] = content, number
        if len(self._held) > self._max:
            self._let_go(next(iter(self._held)))

    def was_replaced(self, path: Path) -> bool:
        """Say, once, whether another file stands under a path than the one that was kept open."""
        with contextlib.suppress(KeyError):
            self._replaced.remove(path)
            return True
        return False

    def leaving(self) -> Iterator[tuple[Content, int]]:
        """Yield the files that are gone from their paths and may have something new."""
        for path, (content, number) in list(self._held.items()):
            if file_of(path) != content.file:
                del self._held[path]
                self._replaced.add(path)
                content.look_again()
                self._leaving.append((content, number, time.monotonic()))
                yield content, number
        for place, (content, number, changed) in reversed(list(enumerate(self._leaving))):
            if content.look_again():
                self._leaving[place] = content, number, time.monotonic()
                yield content, number
            elif time.monotonic() - changed > _LEAVING_S:
                content.close()
                del self._leaving[place]

    def close(self) -> None:
        """Close all files."""
        for path in list(self._held):
            self._let_go(path)
        for content, *_ in self._leaving:
            content.close()
        self._leaving.clear()

    def _let_go(self, path: Path) -> None:
        if path in self._held:
            self._held.pop(path)[0].close()
