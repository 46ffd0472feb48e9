"""What an indexer knows of its index without asking, as long as nobody else writes to it.

To ask takes longer than most batches that live indexing has: each question loads what it needs of the index
anew, and the more of it there is, the longer that takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import duckdb

from eventlog.indexer.index import checkpoint
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.views import typed
from eventlog.indexer.views.promoted import Kept

#: Ids that are remembered, and checkpoints: some megabytes of them.
_IDS_MAX = 50_000
_MARKS_MAX = 10_000


class Known:
    """Checkpoints, kept columns, and the newest event ids: right until somebody else writes to the index.

    `marks` are checkpoints by segment name; whoever moves one has to store it as well.
    """

    def __init__(self) -> None:
        self.marks: dict[str, Checkpoint] = {}
        self._kept: list[Kept] | None = None
        #: What made the views of typed events, by type.
        self.views: dict[str, str] = {}
        #: Each id of the index that is higher than this is in `_ids`. Unknown at first.
        self._floor: str | None = None
        self._ids: set[str] = set()

    def clear(self) -> None:
        """Forget everything: the index may be another one."""
        self.marks.clear()
        self.forget_columns()
        self.forget_views()
        self.forget_ids()

    def read_marks(self, connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
        """Have the checkpoints of these segments in `marks`, where there are any."""
        if len(self.marks) > _MARKS_MAX:
            self.marks.clear()
        unknown = [name for name in names if name not in self.marks]
        if unknown:
            self.marks |= checkpoint.read(connection, unknown)

    def kept_columns(self, connection: duckdb.DuckDBPyConnection) -> list[Kept]:
        """Return the columns that are kept beside the payload."""
        if self._kept is None:
            self._kept = typed.kept_columns(connection)
        return self._kept

    def forget_columns(self) -> None:
        """There may be more of them now."""
        self._kept = None

    def forget_views(self) -> None:
        """They may not be there: what made them was rolled back."""
        self.views = {}

    def lacks(self, connection: duckdb.DuckDBPyConnection, ids: Set[str], lowest: str) -> bool:
        """Say whether the index certainly has none of these ids, as text in lower case."""
        if self._floor is None:
            row = connection.execute("SELECT max(event_id)::VARCHAR FROM event_rows").fetchone()
            self._floor = row[0] if row and row[0] else ""
        return lowest > self._floor and self._ids.isdisjoint(ids)

    def add_ids(self, ids: Set[str]) -> None:
        """Note what the index has now."""
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
        """The index has others by now."""
        self._floor = None
        self._ids = set()
