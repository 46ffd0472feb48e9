"""Whose file it is, by its first lines: a file of another program is refused by name.

It would give thousands of events that no view reads.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from eventlog.errors import ImportFailed
from eventlog.importers import sources
from eventlog.importers.records import open_source, read_lines, split_records
from eventlog.importers.sources import Source

#: Lines that are looked at, and how far into a file: the first line of a Codex file has a page of instructions.
_LINES_MAX = 10
_BYTES_MAX = 1024 * 1024
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Recognition:
    """Which other source a file belongs to, as far as its first lines show. A file is looked at until they do."""

    def __init__(self, asked: Source) -> None:
        self._asked = asked
        self._others: dict[Path, Source | None] = {}

    def other(self, path: Path) -> Source | None:
        """Return the other source that recognises a file; None where the source that is asked does, or nobody."""
        if path not in self._others:
            lines = list(islice(_first_lines(path), _LINES_MAX))
            other = _other(self._asked, lines)
            if not lines:
                return None  # nobody has written to it yet
            self._others[path] = other
        return self._others[path]


def hint(source: Source, paths: Sequence[Path]) -> str:
    """Return what to say of files of a source: `this looks like Codex; try: eventlog import codex logs`."""
    command = shlex.join(["eventlog", "import", source.command, *map(str, paths)])
    return f"this looks like {title(source)}; try: {command}"


def title(source: Source) -> str:
    """Return what people call the program of a source: `Claude Code`."""
    return source.name.replace("_", " ").title()


def _other(asked: Source, lines: list[dict[str, Any]]) -> Source | None:
    if any(_recognises(asked, line) for line in lines):
        return None
    others = (source for source in sources.all_sources() if source.name != asked.name)
    return next((other for other in others if any(_recognises(other, line) for line in lines)), None)


def _recognises(source: Source, line: dict[str, Any]) -> bool:
    try:
        return source.recognises is not None and source.recognises(line)
    except Exception:  # noqa: BLE001 - a source of somebody else must not stop the imports of others
        return False


def _first_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file's first lines. What is damaged, the import itself says."""
    try:
        with open_source(path) as file:
            for line in read_lines(path, file, 0):
                for record in split_records(line):
                    if record.reason is None and record.data.startswith(b"{"):
                        yield _decode(record.data)
                if line.end > _BYTES_MAX:
                    return
    except (ImportFailed, msgspec.MsgspecError):
        return
