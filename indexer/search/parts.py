"""The files of the search index: parts, each of the words of some rows of the index. They are never changed.

    <root>/search/00000007/part.json       which rows it covers: segments, each from an offset to an offset
                          /docs.parquet    its rows, numbered: segment and offset
                          /words.parquet   for each word, in order: the rows that have it, and how often

A part is written under another name and renamed when it is whole, so whoever sees it can read it. A part that replaces
others names them; so they are not counted twice, in the moment between its arrival and their deletion.

Parts are of one index, and of its rows as they are: `identity` differs for another index, and once rows of a segment
were moved to another. Rows that leave the index need no care, since an answer has only rows that the index has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.errors import WriteFailed
from eventlog.indexer.index import schema
from eventlog.indexer.sql import literal
from eventlog.process import forks, root_files

#: Increase it with any change of the files, or of the rule what a word is.
VERSION = 1
_FOLDER, _LOCK = "search", "search.lock"
_DOCS, _WORDS, _ABOUT = "docs.parquet", "words.parquet", "part.json"
_ABOUT_MAX_BYTES = 64 * 1024 * 1024


class Span(msgspec.Struct, frozen=True, array_like=True):
    """The rows of a segment whose lines begin at `start` or later, and before `end`.

    `tail` is the hash of the bytes before `end`, as its checkpoint has it; "" where it has none of this place.
    """

    segment: str
    start: int
    end: int
    tail: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in `part.json`: the index that it is of, its number, its count of rows, and which it covers."""

    version: int
    identity: str
    number: int
    rows: int
    #: Rows with large fields, whose words it does not have.
    apart: int
    spans: list[Span]
    #: Numbers of parts whose rows are all in this one.
    replaces: list[int] = []


class Reach(NamedTuple):
    """How far a segment is indexed, without a torn line, and the hash of the bytes before."""

    offset: int
    tail: str


class Parts(msgspec.Struct, frozen=True):
    """The parts that may be used, in the order of the rows that they cover, and how far they cover each segment."""

    folder: Path
    in_order: list[Part] = []
    #: In bytes, by segment.
    covered: dict[str, int] = {}
    #: Segments of which the index has more than that, and how far they are covered.
    behind: dict[str, int] = {}

    def only(self, part: Part) -> Parts:
        """Return one part alone."""
        return Parts(self.folder, [part])

    def path_of(self, part: Part) -> Path:
        """Return the folder of a part."""
        return self.folder / name_of(part.number)

    @property
    def docs(self) -> str:
        """SQL: a table of all rows: doc, segment, line_offset, has_blobs."""
        return self._table(_DOCS)

    @property
    def words(self) -> str:
        """SQL: a table of all words: word, doc, times."""
        return self._table(_WORDS)

    def _table(self, file: str) -> str:
        paths = ", ".join(literal(str(self.path_of(part) / file)) for part in self.in_order)
        return f"read_parquet([{paths}], hive_partitioning = false)"


def folder_of(root: str | Path) -> Path:
    """Return the folder of the search index of a root, whether it exists or not."""
    return Path(root).absolute() / _FOLDER


def name_of(number: int) -> str:
    """Return the name of the folder of a part."""
    return f"{number:08d}"


def identity(connection: duckdb.DuckDBPyConnection) -> str:
    """Return what the parts of the index must have as `identity`."""
    return "-".join(str(value) for (value,) in connection.execute(SELECT_IDENTITY).fetchall())


def reaches(connection: duckdb.DuckDBPyConnection) -> dict[str, Reach]:
    """Return how far each segment is indexed."""
    return {name: Reach(offset, tail) for name, offset, tail in connection.execute(SELECT_REACHES).fetchall()}


def read_parts(root: str | Path, identity_: str, indexed: Mapping[str, Reach]) -> Parts:
    """Return the parts that may be used with an index; none where there are none, or they may not be read.

    A part that reaches beyond the index, or to the same place with other bytes before it, is of another state of it:
    an older copy was put in its place. It is left out.
    """
    folder = folder_of(root)
    listed: dict[int, Part] = {}
    with contextlib.suppress(OSError):
        if not folder.is_symlink():
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                part = _read(Path(entry.path))
                if part is not None and part.identity == identity_:
                    listed[part.number] = part
    replaced = {number for part in listed.values() for number in part.replaces}
    covered: dict[str, int] = {}
    used: list[Part] = []
    for part in sorted(listed.values(), key=lambda part: min(part.replaces, default=part.number)):
        fits = all(
            span.start == covered.get(span.segment, 0) and _fits(span, indexed.get(span.segment)) for span in part.spans
        )
        if part.number not in replaced and fits:
            used.append(part)
            covered |= {span.segment: span.end for span in part.spans}
    behind = {
        name: covered.get(name, 0) for name, reach in sorted(indexed.items()) if reach.offset > covered.get(name, 0)
    }
    return Parts(folder, used, covered, behind)


def _fits(span: Span, reach: Reach | None) -> bool:
    if reach is None or not span.start <= span.end <= reach.offset:
        return False
    return span.end < reach.offset or span.tail in ("", reach.tail)


def _read(path: Path) -> Part | None:
    """Read what a part says of itself; None for what is none, or not whole, or of another version."""
    try:
        if not path.name.isdigit() or any(not _is_file(path / name) for name in (_DOCS, _WORDS, _ABOUT)):
            return None
        if (path / _ABOUT).stat().st_size > _ABOUT_MAX_BYTES:
            return None
        part = msgspec.json.decode((path / _ABOUT).read_bytes(), type=Part)
    except (OSError, msgspec.DecodeError):
        return None
    return part if part.version == VERSION and name_of(part.number) == path.name else None


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@contextmanager
def filling(root: str | Path) -> Iterator[bool]:
    """Hold the lock of those who write parts; yield whether this one has it, and may write here."""
    fd = None
    try:
        if root_files.kind_of(folder_of(root)) in (None, "a folder"):
            with contextlib.suppress(OSError, WriteFailed):
                folder_of(root).mkdir(mode=0o700, exist_ok=True)
                fd = forks.hold(root_files.open_lock(Path(root).absolute() / _LOCK))
        yield fd is not None and os.access(folder_of(root), os.W_OK) and _is_locked(fd)
    finally:
        if fd is not None:
            forks.let_go(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_others(parts: Parts) -> None:
    """Delete all but these parts: those of another index, replaced ones, unfinished ones. Hold the lock."""
    names = {name_of(part.number) for part in parts.in_order}
    with contextlib.suppress(OSError):
        for entry in os.scandir(parts.folder):
            if entry.name not in names:
                remove(Path(entry.path))


def remove(path: Path) -> None:
    """Delete a part, whatever stands there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def next_number(parts: Parts) -> int:
    """Return a number that no part has, also none that cannot be used. Hold the lock."""
    numbers = [int(entry.name) for entry in os.scandir(parts.folder) if entry.name.isdigit()]
    return max(numbers, default=0) + 1


def write(connection: duckdb.DuckDBPyConnection, parts: Parts, part: Part, docs: str, words: str) -> None:
    """Write a part from two queries; rows come sorted, `docs` by doc and `words` by word and doc. Hold the lock.

    Raises OSError and duckdb.Error; nothing is left then.
    """
    target = parts.folder / name_of(part.number)
    unfinished = target.with_name(f"{target.name}.unfinished")
    remove(unfinished)
    try:
        unfinished.mkdir(mode=0o700)
        for name, query in ((_DOCS, docs), (_WORDS, words)):
            connection.execute(COPY.format(query=query, path=literal(str(unfinished / name))))
            (unfinished / name).chmod(0o600)
        (unfinished / _ABOUT).write_bytes(msgspec.json.encode(part))
        (unfinished / _ABOUT).chmod(0o600)
        os.rename(unfinished, target)
    except BaseException:
        remove(unfinished)
        raise


def remove_unreadable(connection: duckdb.DuckDBPyConnection, root: str | Path, parts: Parts) -> None:
    """Read all of each part, and delete those that cannot be read, unless another process fills at this moment."""
    with filling(root) as may_write:
        for part in parts.in_order if may_write else []:
            alone = parts.only(part)
            try:
                for table in (alone.docs, alone.words):
                    connection.execute(SELECT_HASH.format(table=table)).fetchall()
            except duckdb.InterruptException:
                raise
            except duckdb.Error:
                remove(parts.path_of(part))


SELECT_IDENTITY = f"SELECT value FROM index_meta WHERE key IN ('id', {literal(schema.MOVED_KEY)}) ORDER BY key"
SELECT_REACHES = "SELECT name, indexed_offset - torn_bytes, tail_hash FROM segments"
COPY = "COPY ({query}) TO {path} (FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd)"
SELECT_HASH = "SELECT sum(hash(rows)) FROM {table} rows"
