"""A snapshot of the index: one DuckDB file for other tools, with a table for each view, and costs among them.

    index, opened once ── each view, as a query sees it ──→ tables ──→ FILE, when it is whole

The index itself has a format that only this DuckDB and later ones read, computes its views from payloads, and holds no
costs. A snapshot is written in a format that DuckDB 1.2 and later read, and asks nothing of who opens it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import MissingExtra, QueryFailed
from eventlog.indexer.index import schema
from eventlog.indexer.index.engine import CONFIG
from eventlog.indexer.sql import ident, literal
from eventlog.queries.access.reader import IndexReader
from eventlog.version import __version__

#: The oldest format that this DuckDB can write without giving anything up that the index needs.
STORAGE_VERSION = "v1.2.0"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was written: its path, its size in bytes, and its tables with their rows.

    `prices` is the price list that its costs come from, as `"genai-prices 0.2.3"`; None where there is none.
    """

    path: str
    bytes: int
    workspace: str | None
    prices: str | None
    tables: dict[str, int]


def write(reader: IndexReader, path: Path) -> Snapshot:
    """Write a snapshot to a file, in the place of an older one. Raises QueryFailed, IndexFailed, IndexBusy."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise QueryFailed(f"there is no folder {target.parent} to write {target.name} to")
    if target.exists() and not target.is_file():
        raise QueryFailed(f"{target} is no file; name one that is written or made, such as eventlog.duckdb")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise QueryFailed(f"{target} cannot be written: {error.strerror}") from error
    part = folder / target.name
    try:
        with reader.beside(part) as (connection, names):
            prices = _price_list()
            tables = _copy(connection, names, part)
            _note(connection, reader.workspace, prices)
            connection.commit()
            connection.execute(DETACH)
        part.chmod(0o600)  # payloads are the owner's
        size = part.stat().st_size
        part.replace(target)
    except OSError as error:
        raise QueryFailed(f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Snapshot(path=str(path), bytes=size, workspace=reader.workspace, prices=prices, tables=tables)


def is_snapshot(path: Path) -> bool:
    """Return whether a file is a snapshot that `write` has written."""
    try:
        with duckdb.connect(str(path), read_only=True, config=dict(CONFIG)) as connection:
            return connection.execute(ANY_ABOUT).fetchone() is not None
    except duckdb.Error:
        return False


def _copy(connection: duckdb.DuckDBPyConnection, names: list[str], path: Path) -> dict[str, int]:
    connection.execute(ATTACH.format(path=literal(str(path))))
    rows = {}
    connection.begin()  # one commit, not one for each table
    for name in names:
        connection.execute(COPY_TABLE.format(name=ident(name)))
        ((rows[name],),) = connection.execute(COUNT_ROWS.format(name=ident(name))).fetchall()
    return rows


def _note(connection: duckdb.DuckDBPyConnection, workspace: str | None, prices: str | None) -> None:
    """Say in the snapshot what it is, in a schema of its own: event types may have any name."""
    made = datetime.now(UTC).replace(tzinfo=None)
    connection.execute(CREATE_SCHEMA)
    connection.execute(CREATE_ABOUT, [made, __version__, schema.SCHEMA_VERSION, prices, workspace])


def _price_list() -> str | None:
    from eventlog.queries.cost import prices  # noqa: PLC0415 - loading it takes as long as most questions

    try:
        return prices.version()
    except MissingExtra:
        return None


# -- statements ------------------------------------------------------------------------------

# Small blocks: of its many tables most are small.
ATTACH = f"ATTACH {{path}} AS snapshot (READ_WRITE, STORAGE_VERSION {literal(STORAGE_VERSION)}, BLOCK_SIZE 16384)"
DETACH = "DETACH snapshot"
COPY_TABLE = "CREATE TABLE snapshot.main.{name} AS SELECT * FROM {name}"
COUNT_ROWS = "SELECT count(*) FROM snapshot.main.{name}"
CREATE_SCHEMA = "CREATE SCHEMA snapshot.eventlog"
ANY_ABOUT = "SELECT 1 FROM eventlog.about"
CREATE_ABOUT = """
    CREATE TABLE snapshot.eventlog.about AS
    SELECT ?::TIMESTAMP AS made, ?::VARCHAR AS eventlog, ?::INTEGER AS schema_version, ?::VARCHAR AS prices,
           ?::VARCHAR AS workspace
"""
