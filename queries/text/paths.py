"""Folders as people call them: by their last name, with as much before it as tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def tails(paths: Iterable[str]) -> dict[str, str]:
    """Return the shortest end of each path that no other one has: `engine`, or `ada/engine` beside `bob/engine`."""
    parts = {path: [part for part in path.replace("\\", "/").split("/") if part] for path in dict.fromkeys(paths)}
    shown: dict[str, str] = {}
    count = 1
    while len(shown) < len(parts):
        ends = {path: "/".join(names[-count:]) for path, names in parts.items() if path not in shown}
        times = Counter("/".join(names[-count:]) for names in parts.values())
        shown |= {path: end or path for path, end in ends.items() if times[end] == 1}
        shown |= {path: path for path in ends if path not in shown and count >= len(parts[path])}
        count += 1
    return shown
