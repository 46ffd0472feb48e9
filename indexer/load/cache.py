"""The index cache: what an indexer remembers of its index, so that it need not ask again.

A question takes longer than most batches of live indexing: DuckDB loads what it needs of the index anew for each, and
the larger the index is, the longer that takes (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set

import duckdb

from eventlog.importers import sources
from eventlog.indexer.index import checkpoint
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.views import typed
from eventlog.indexer.views.promoted import PromotedColumn

#: Ids and checkpoints that are remembered at most: some megabytes of them.
_IDS_MAX = 50_000
_CHECKPOINTS_MAX = 10_000


class IndexCache:
    """Checkpoints, promoted columns, statements of typed views, and the newest event ids of one index.

    Valid as long as nobody else writes to the index; `clear` it otherwise, and after any error.
    """

    def __init__(self) -> None:
        #: By segment name. Whoever moves a checkpoint here has to store it in the index as well.
        self.checkpoints: dict[str, Checkpoint] = {}
        self._promoted: list[PromotedColumn] | None = None
        #: The CREATE VIEW statements of typed events, by event type.
        self.views: dict[str, str] = {}
        #: Event types of sources that the views read.
        self._sources: set[str] = set()
        #: `_ids` holds each id of the index that is higher than this. None: not known.
        self._floor: str | None = None
        self._ids: set[str] = set()

    def clear(self) -> None:
        """Forget everything: the index may be another one."""
        self.checkpoints.clear()
        self.forget_columns()
        self.forget_views()
        self.forget_ids()

    def load_checkpoints(self, connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
        """Read the checkpoints of these segments, as far as there are any, into `checkpoints`."""
        if len(self.checkpoints) > _CHECKPOINTS_MAX:
            self.checkpoints.clear()
        missing = [name for name in names if name not in self.checkpoints]
        if missing:
            self.checkpoints |= checkpoint.read(connection, missing)

    def promoted_columns(self, connection: duckdb.DuckDBPyConnection) -> list[PromotedColumn]:
        """Return the promoted columns of the index."""
        if self._promoted is None:
            self._promoted = typed.promoted_columns(connection)
        return self._promoted

    def forget_columns(self) -> None:
        """Read the promoted columns again when they are needed: there may be more of them."""
        self._promoted = None

    def forget_views(self) -> None:
        """Create views again: their creation was rolled back."""
        self.views = {}
        self._sources = set()

    def unread_sources(self, event_types: Collection[str]) -> set[str]:
        """Return those of the event types that are of sources and were not asked for before."""
        new = set(event_types).intersection(sources.event_types()) - self._sources
        self._sources |= new
        return new

    def lacks(self, connection: duckdb.DuckDBPyConnection, ids: Set[str], lowest: str) -> bool:
        """Return whether the index certainly has none of these ids. `lowest` is the lowest; all are in lower case."""
        if self._floor is None:
            row = connection.execute(HIGHEST_ID).fetchone()
            self._floor = row[0] if row and row[0] else ""
        return lowest > self._floor and self._ids.isdisjoint(ids)

    def add_ids(self, ids: Set[str]) -> None:
        """Note ids that were stored in the index."""
        if len(ids) > _IDS_MAX:
            self.forget_ids()  # to ask for the highest is faster than to sort so many
        if self._floor is None:
            return
        self._ids |= ids
        if len(self._ids) > _IDS_MAX:
            newest = sorted(self._ids)[-_IDS_MAX // 2 :]
            self._floor = max(self._floor, newest[0])
            self._ids = set(newest)

    def forget_ids(self) -> None:
        """Ask the index for its highest id again: ids were stored that are not noted here."""
        self._floor = None
        self._ids = set()


HIGHEST_ID = "SELECT max(event_id)::VARCHAR FROM event_rows"
