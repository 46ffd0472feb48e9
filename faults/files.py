"""A layer between this process and its files below one root, in which faults are injected.

It covers the calls of Python code, not those of DuckDB or zstd; strace covers those. Install it in a child that ends
afterwards: nothing is restored.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]
#: Gets the name of the call, the file, the real call and its arguments; returns or raises in its stead.
Rule = Callable[[str, str, Call, tuple[Any, ...]], Any]

BY_PATH = ("open", "mkdir", "unlink", "rename", "replace", "link", "chmod")
BY_DESCRIPTOR = ("write", "pread", "fsync", "fdatasync", "ftruncate", "lseek", "fchmod", "close", "flock")
CALLS = BY_PATH + BY_DESCRIPTOR


def install(root: Path, rule: Rule) -> None:
    """Let the rule decide about each call on a file below the root, or on the folder that holds it."""
    for name in CALLS:
        module = fcntl if name == "flock" else os
        setattr(module, name, _ruled(name, getattr(module, name), str(root), rule))


def _ruled(name: str, real: Call, root: str, rule: Rule) -> Call:
    by_path = name in BY_PATH
    readlink, fspath = os.readlink, os.fspath

    def ruled(*arguments: Any, **options: Any) -> Any:
        try:
            path = str(fspath(arguments[0])) if by_path else readlink(f"/proc/self/fd/{arguments[0]}")
        except (OSError, TypeError):
            return real(*arguments, **options)
        if path.startswith(root) or path == root.rpartition("/")[0]:
            return rule(name, path, lambda *given: real(*given, **options), arguments)
        return real(*arguments, **options)

    return ruled


class Failing:
    """Fails the `when`-th call of a name, and, if `lasting`, all later ones, until `heal`.

    The error "short" writes only the first half of the bytes; "uncut" does so and also fails to truncate the file.
    Syncs are skipped: no power is cut here, and they take long.
    """

    def __init__(self, name: str, error: str, when: int, *, lasting: bool) -> None:
        self.name = name
        self.error = error
        self.when = when
        self.lasting = lasting
        self.asked: Counter[str] = Counter()
        self.failed = 0
        self._healed = False

    def heal(self) -> None:
        """Let no further call fail."""
        self._healed = True

    def __call__(self, name: str, path: str, real: Call, arguments: tuple[Any, ...]) -> Any:
        if self._healed:
            return real(*arguments)
        self.asked[name] += 1
        if name == "ftruncate" and self.error == "uncut" and self.failed:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        if name != self.name or not self._is_due():
            return None if name in ("fsync", "fdatasync") else real(*arguments)
        self.failed += 1
        if self.error in ("short", "uncut"):
            return real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if name == "close":  # Linux lets go of the descriptor, whatever it says
            real(*arguments)
        number = getattr(errno, self.error)
        raise OSError(number, os.strerror(number), path)

    def _is_due(self) -> bool:
        asked = self.asked[self.name]
        return asked >= self.when if self.lasting else asked == self.when
