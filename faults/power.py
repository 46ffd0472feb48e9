"""Simulation of a power cut: of all files, only what was synced is certain.

`Journal` wraps a producer's calls and records what became durable, in order, and what the producer was promised. `Disk`
plays a journal up to some moment and builds the files that a power cut would leave then, in the worst way that a file
system may:

- a file whose name was not synced, in a folder whose name was not, … may be gone;
- bytes that no sync covered stay, are zero, or are gone, page by page;
- a failed sync marks bytes as clean: no later sync of that file covers them any more.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_PAGE_BYTES = 4096


class Journal:
    """A rule for `files.install` that records what was synced, and what was promised."""

    def __init__(self, path: Path, rng: random.Random, *, fails: float, delay_max_s: float) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write: Callable[[int, bytes], int] = os.write
        self._rng = rng
        self._fails = fails
        self._delay_max_s = delay_max_s
        self._lock = threading.Lock()

    def promised(self, ids: list[str]) -> None:
        """Record that the producer was promised that these events are durable."""
        self._note("promised", ids=ids)

    def _note(self, kind: str, **values: Any) -> None:
        self._write(self._fd, json.dumps({"kind": kind, **values}).encode() + b"\n")

    def __call__(self, name: str, path: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "fdatasync":
            return self._sync(path, real, arguments)
        if name == "fsync":
            names = os.listdir(path)
            time.sleep(self._rng.random() * self._delay_max_s)
            return self._note("names", path=path, names=names)
        done = real(*arguments)
        if name == "unlink":
            self._note("gone", path=path)
        elif name in ("write", "ftruncate"):
            with self._lock:  # sizes in the order in which they came to be
                self._note("size", path=path, size=os.stat(path).st_size)
        return done

    def _sync(self, path: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        size = os.stat(f"/proc/self/fd/{arguments[0]}").st_size
        time.sleep(self._rng.random() * self._delay_max_s)
        failed = self._rng.random() < self._fails
        self._note("failed" if failed else "synced", path=path, size=size)
        if failed:
            raise OSError(5, "Input/output error", path)


class Disk:
    """What is durable after the first `moments` records of a journal, about a root."""

    def __init__(self, root: Path, records: list[dict[str, Any]], moments: int) -> None:
        self.promised: set[str] = set()
        self._root = root
        self._names: dict[str, set[str]] = {}
        self._sizes: dict[str, int] = {}
        self._clean: dict[str, int] = {}
        self._durable: dict[str, list[tuple[int, int]]] = {}
        for each in records[:moments]:
            self._play(**each)

    def _play(
        self, kind: str, path: str = "", size: int = 0, names: Iterable[str] = (), ids: Iterable[str] = ()
    ) -> None:
        clean = self._clean.get(path, 0)
        match kind:
            case "promised":
                self.promised.update(ids)
            case "names":
                self._names.setdefault(path, set()).update(names)
            case "size":
                self._sizes[path] = size
            case "gone":
                self._sizes.pop(path, None)
            case "synced" if size > clean:
                self._durable.setdefault(path, []).append((clean, size))
                self._clean[path] = size
            case "failed":
                self._clean[path] = max(size, clean)

    def leave(self, target: Path, rng: random.Random) -> None:
        """Build the root that a power cut would leave now."""
        for path, size in self._sizes.items():
            if not self._is_named(Path(path)) and rng.random() < 0.5:
                continue
            left = target / Path(path).relative_to(self._root)
            left.parent.mkdir(parents=True, exist_ok=True)
            left.write_bytes(self._bytes(path, size, rng))

    def _is_named(self, path: Path) -> bool:
        chain = [path, *path.parents[: len(path.relative_to(self._root).parts)]]
        return all(each.name in self._names.get(str(each.parent), ()) for each in chain)

    def _bytes(self, path: str, size: int, rng: random.Random) -> bytes:
        written = Path(path).read_bytes()[:size]
        written += b"{" * (size - len(written))  # what was cut back later
        durable = self._durable.get(path, [])
        certain = max((end for _, end in durable), default=0)
        kept = bytearray(written[: rng.randint(certain, size) if size > certain else size])
        fate = rng.choice(("kept", "zero", "mixed"))
        for start in range(0, len(kept), _PAGE_BYTES):
            end = min(start + _PAGE_BYTES, len(kept))
            if fate == "zero" or (fate == "mixed" and rng.random() < 0.5):
                kept[start:end] = bytes(end - start)
        for start, end in durable:
            kept[start:end] = written[start:end]
        return bytes(kept)
