"""Positions: how far each foreign file was imported, in `<root>/imports.sqlite`.

The file saves work and is derived: without it, positions are those of the `import_checkpoint` events in the log. It
knows two things that those do not say. How often each record stood in its source: a file that is read again, for
whatever reason, appends only what the log does not have. And since when lines may have been appended that are not
accounted for: after a kill, the log itself says which of them it has.

It never is ahead of the log. A position whose checkpoint the log does not have is forgotten (an older log was put
back), and after a reboot, which may have cost the log its last lines, only positions that are checkpoints count.

One transaction holds what one step of an import does, and nobody else imports into this root meanwhile: two imports of
one file take turns and append each line once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from eventlog.errors import ImportFailed
from eventlog.process import root_files

FILE_NAME = "imports.sqlite"
_VERSION = 1
_WAIT_S = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: With how many of the sources that a file may be it is compared.
_CANDIDATES_MAX = 50
_TABLES = (
    "CREATE TABLE about (boot TEXT NOT NULL)",
    "INSERT INTO about VALUES ('')",
    "CREATE TABLE formats (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL)",
    """CREATE TABLE sources (
        format INTEGER NOT NULL, id INTEGER PRIMARY KEY, source TEXT NOT NULL, base TEXT NOT NULL, name TEXT NOT NULL,
        path TEXT NOT NULL, file TEXT, size INTEGER, changed_ns INTEGER, head_bytes INTEGER NOT NULL,
        head TEXT NOT NULL, offset INTEGER NOT NULL, tail TEXT, counted INTEGER NOT NULL, begun_ns INTEGER,
        checkpoint TEXT, checkpoint_offset INTEGER NOT NULL, prefix_hash TEXT)""",
    "CREATE INDEX by_path ON sources (format, path)",
    "CREATE INDEX by_base ON sources (format, base)",
    "CREATE INDEX by_file ON sources (format, file)",
    "CREATE INDEX by_head ON sources (format, head_bytes, head)",
    """CREATE TABLE records (
        source INTEGER NOT NULL, digest INTEGER NOT NULL, imported INTEGER NOT NULL, passed INTEGER NOT NULL,
        PRIMARY KEY (source, digest)) WITHOUT ROWID""",
)
#: Sources that are not where the log says that they are.
_AHEAD = "checkpoint IS NULL OR checkpoint_offset <> offset"


class Position(msgspec.Struct, kw_only=True):
    """A source, which is some content under a path, and how far it was imported.

    source      where it was found first: `/var/log/app.log`
    base        what its format calls it, often the same; empty where only a log of an earlier version says
    name        the same, with a number from the second content under this name on; it goes into the ids of events
    path        where it was found last: `/var/log/app.log.1`
    file        its device and inode then: `2049:131`
    size, changed_ns  of the file, when all of it had been read; None where there is more to read
    head_bytes, head  how many of its first bytes have this hash, those behind the offset as well
    offset      where the next line begins, in uncompressed bytes
    tail        the hash of the bytes before the offset; None where it is not known
    counted     whether the records before the offset are counted
    begun_ns    since when lines may have been appended that are not accounted for; None where all are
    checkpoint  the id of the event in the log that says how far it was, which is `checkpoint_offset`
    prefix_hash of all bytes before the offset, where only a log of an earlier version says how far it was
    """

    id: int = 0
    source: str
    base: str
    name: str
    path: str
    file: str | None = None
    size: int | None = None
    changed_ns: int | None = None
    head_bytes: int = 0
    head: str = ""
    offset: int = 0
    tail: str | None = None
    counted: bool = True
    begun_ns: int | None = None
    checkpoint: str | None = None
    checkpoint_offset: int = 0
    prefix_hash: str | None = None


class Count(msgspec.Struct):
    """How often a record was imported from its source, and how often it came by when that was read last."""

    imported: int = 0
    passed: int = 0


def digest_of(record: bytes) -> int:
    """Return what stands for a record in the counts: 64 bits of its hash."""
    return int.from_bytes(hashlib.blake2b(record, digest_size=8).digest(), signed=True)


_FIELDS = Position.__struct_fields__
_SAVED = _FIELDS[1:]  # without the id
_INSERT = f"INSERT INTO sources (format, {', '.join(_SAVED)}) VALUES ({', '.join('?' * (len(_SAVED) + 1))})"
_UPDATE = f"UPDATE sources SET {', '.join(f'{field} = ?' for field in _SAVED)} WHERE id = ?"


class Positions:
    """The positions of the sources of one format in one root."""

    def __init__(self, root: str | Path, format_key: str, checkpoints: Callable[[], Iterable[Position]]) -> None:
        """Open the file, or make one. `checkpoints` reads what the log says, oldest first.

        It is called while no other import makes a step: what one has logged since would else be taken for lost, and its
        lines read again. Raises ImportFailed where the file can be neither read nor made.
        """
        self._path = Path(root) / FILE_NAME
        self._open()
        with self.step():
            self._connection.execute("INSERT OR IGNORE INTO formats (key) VALUES (?)", [format_key])
            ((self._format,),) = self._connection.execute("SELECT id FROM formats WHERE key = ?", [format_key])
            self._agree_with(list(checkpoints()))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Do what is in the block wholly or not at all, and alone: other imports into this root wait.

        Raises ImportFailed where another one does not end its step within a minute, or the file is damaged.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    # -- sources ---------------------------------------------------------------------------

    def add(self, position: Position) -> Position:
        """Add a source; return it with its id."""
        values = [getattr(position, field) for field in _SAVED]
        added = self._connection.execute(_INSERT, [self._format, *values])
        return msgspec.structs.replace(position, id=added.lastrowid or 0)

    def save(self, position: Position) -> None:
        """Save what has become of a source."""
        self._connection.execute(_UPDATE, [*(getattr(position, field) for field in _SAVED), position.id])

    def get(self, number: int) -> Position:
        """Return a source by its id as it is now: another import may have gone on with it."""
        (position,) = self._select("id = ?", number)
        return position

    def at(self, path: str) -> list[Position]:
        """Return the sources that were found under a path last, newest first."""
        return self._select("path = ?", path)

    def called(self, base: str) -> list[Position]:
        """Return the sources that their format calls so, newest first."""
        return self._select("base = ?", base)

    def cut_off(self, base: str) -> list[Position]:
        """Return the sources that their format calls so, and of which an import was cut off, newest first."""
        return self._select("base = ? AND begun_ns IS NOT NULL", base)

    def in_file(self, file: str) -> list[Position]:
        """Return the sources that were found in a file last, newest first."""
        return self._select("file = ?", file)

    def beginning_with(self, head_bytes: int, head: str) -> list[Position]:
        """Return the sources with these first bytes, newest first."""
        return self._select("head_bytes = ? AND head = ?", head_bytes, head)

    def head_sizes(self) -> list[int]:
        """Return the different numbers of first bytes that sources are known by."""
        rows = self._connection.execute(
            "SELECT DISTINCT head_bytes FROM sources WHERE format = ? AND head_bytes > 0", [self._format]
        )
        return [size for (size,) in rows]

    def next_name(self, base: str) -> str:
        """Return the name of the next content that is called so: `app.log`, then `app.log #2`, …"""
        ((count,),) = self._connection.execute(
            "SELECT count(*) FROM sources WHERE format = ? AND base = ?", [self._format, base]
        )
        return f"{base} #{count + 1}" if count else base

    def _select(self, condition: str, *values: object) -> list[Position]:
        rows = self._connection.execute(
            f"SELECT {', '.join(_FIELDS)} FROM sources WHERE format = ? AND {condition} ORDER BY id DESC LIMIT ?",
            [self._format, *values, _CANDIDATES_MAX],
        )
        return [_position(row) for row in rows]

    # -- records ---------------------------------------------------------------------------

    def counts(self, position: Position, digests: Iterable[int]) -> dict[int, Count]:
        """Return the counts of those records of a source that came by before, by their digests."""
        rows = self._connection.execute(
            "SELECT digest, imported, passed FROM records "
            "WHERE source = ? AND digest IN (SELECT value FROM json_each(?))",
            [position.id, msgspec.json.encode(list(digests)).decode()],
        )
        return {digest: Count(imported, passed) for digest, imported, passed in rows}

    def count(self, position: Position, counts: Mapping[int, Count]) -> None:
        """Save the counts of some records of a source."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)",
            [(position.id, digest, each.imported, each.passed) for digest, each in counts.items()],
        )

    def read_again(self, position: Position) -> None:
        """Let the records of a source come by from the first on; what was imported stays so."""
        self._connection.execute("UPDATE records SET passed = 0 WHERE source = ?", [position.id])

    # -- the file --------------------------------------------------------------------------

    def _agree_with(self, checkpoints: list[Position]) -> None:
        """Forget what the log does not know, and add what only the log knows."""
        logged = {each.checkpoint for each in checkpoints}
        rows = self._connection.execute(
            "SELECT id, source, name, checkpoint FROM sources WHERE format = ?", [self._format]
        )
        known = set()
        for number, source, name, checkpoint in rows.fetchall():
            if checkpoint is None or checkpoint in logged:
                known.add((source, name))
            else:
                self._forget("id = ?", number)
        latest = {(each.source, each.name): each for each in checkpoints}
        for key, position in latest.items():
            if key not in known:
                self.add(position)

    def _forget(self, condition: str, *values: object) -> None:
        self._connection.execute(
            f"DELETE FROM records WHERE source IN (SELECT id FROM sources WHERE {condition})", values
        )
        self._connection.execute(f"DELETE FROM sources WHERE {condition}", values)

    def _open(self) -> None:
        """Open the file; make it anew where it is damaged, or something else than a database."""
        refusal = root_files.refusal(self._path)
        if refusal is not None:
            raise ImportFailed(refusal)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(root_files.open_lock(self._path))  # for its owner alone, which SQLite would not make it
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, or the disk is full
                    raise
                for suffix in ("", "-wal", "-shm", "-journal"):
                    self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
                self._connect()
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error | OSError) -> ImportFailed:
        if "locked" in str(error):
            return ImportFailed(f"{self._path}: another import into this root is at work; try again when it is done")
        advice = "check its permissions and the disk, or delete it: it is made again from the log"
        return ImportFailed(f"{self._path}: {error}; {advice}")

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
        try:
            # What a power cut costs is looked for after a reboot.
            for setting in ("synchronous = OFF", "journal_mode = WAL", "cache_size = -65536"):
                self._connection.execute(f"PRAGMA {setting}")
            self._connection.execute("BEGIN IMMEDIATE")
            self._prepare()
            self._connection.commit()
        except BaseException:  # also Ctrl-C: nobody else closes it
            self._connection.close()
            raise

    def _prepare(self) -> None:
        """Make the tables where there are none, or those of another version; look for a reboot."""
        connection = self._connection
        ((version,),) = connection.execute("PRAGMA user_version")
        if version != _VERSION:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                connection.execute(f"DROP TABLE {table}")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        boot = _boot()
        ((before,),) = connection.execute("SELECT boot FROM about")
        if before != boot:
            self._forget(_AHEAD)
            connection.execute("UPDATE about SET boot = ?", [boot])


def _position(row: tuple[Any, ...]) -> Position:
    return Position(**dict(zip(_FIELDS, row, strict=True)))


def _boot() -> str:
    """Return what differs after each boot of the machine; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
