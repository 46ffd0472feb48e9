"""Importing a source: from where it was left, once more from the start if it was rewritten.

The id of an imported event is derived from what the source says, not from where: from an
id field if there is one, else from the record's bytes and how many times the same bytes
stood in this source before. So a file that is imported again, in another order, after it
grew or was rewritten, gives the same events. The offset is only a saving, kept as an
`import_checkpoint` event and believed only if the bytes before it still hash to the same.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISREG

import msgspec

from eventlog.errors import ImportFailed, InvalidEvent
from eventlog.format import control, envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers import foreign_types
from eventlog.importers.records import (
    Record,
    SourceFile,
    SourceLine,
    is_compressed,
    open_source,
    path_name,
    read_lines,
    skip,
    split_records,
)
from eventlog.importers.sources import Format
from eventlog.log import blob_store, reader
from eventlog.record.recorder import Recorder

CHECKPOINT_EVENT = "import_checkpoint"
REJECTED_EVENT = "import_rejected"

_BATCH_BYTES = 1024 * 1024
_RAW_KEPT_BYTES = 64 * 1024
#: Sources whose state is kept in memory while following; of the others, the log knows it.
_FOLLOWED_MAX = 64


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `import_checkpoint`: a source was imported up to `offset` (uncompressed bytes)."""

    importer: str
    source: str
    offset: int
    prefix_hash: str


class Imported(msgspec.Struct):
    """What an import did.

    `lines` counts all that were read, `events` what was appended to the log, and `rejected`
    those of them that only hold a line for quarantine; `reason` is that of the first. `unfinished` counts
    last lines that have no end yet, and are left for the next import. `renamed` counts
    events by their foreign type, where that is a name of eventlog's own (`foreign_types.imported`).
    """

    sources: int = 0
    lines: int = 0
    events: int = 0
    rejected: int = 0
    skipped_bytes: int = 0
    unfinished: int = 0
    reason: str | None = None
    renamed: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Imported) -> None:
        """Add another count to this one."""
        for name in ("sources", "lines", "events", "rejected", "skipped_bytes", "unfinished"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reason = self.reason or other.reason
        for foreign, count in other.renamed.items():
            self.rename(foreign, count)

    def rename(self, foreign: str, count: int = 1) -> None:
        """Count events whose foreign type is a name of eventlog's own."""
        self.renamed[foreign] = self.renamed.get(foreign, 0) + count


class Importer:
    """Imports sources of one format through one recorder, which should be strict, and of the maintenance role.

    That is for checkpoints and rejected lines: what the format makes of a line is never a control event.
    """

    def __init__(self, recorder: Recorder, format_: Format) -> None:
        self._recorder = recorder
        self._format = format_
        self._known = _read_checkpoints(recorder.config.root, format_.key)
        self._open: dict[Path, _Source] = {}

    def run(self, path: Path, *, following: bool = False) -> Imported:
        """Import what is new in a source. Raises ImportFailed, WriteFailed.

        A last line without a newline is left for later unless it is a complete JSON object: somebody
        may be writing it. What is compressed has no later.
        """
        source = self._open.get(path)
        if source is None or not source.fits():
            source = _Source(path, self._known.get(path_name(path), {}))
            self._open[path] = source
        try:
            return self._run(path, source, following=following)
        except BaseException:
            # What was read may not have been written: forget how far that was, and let the
            # next run begin at the last checkpoint.
            del self._open[path]
            raise

    def _run(self, path: Path, source: _Source, *, following: bool) -> Imported:
        done = Imported(sources=1, skipped_bytes=source.offset)
        batch = _Batch(self._recorder)
        name = self._format.source_name(path)
        with batch, open_source(path) as file:
            for line in source.lines(file):
                records = split_records(line)
                if not line.terminated and not is_compressed(path) and not all(map(_is_whole, records)):
                    done.unfinished = 1
                    break
                done.lines += 1
                for record in records:
                    occurrence = source.count(record.data)
                    events, reason = self._events(record, line, name, occurrence)
                    for event_type, encoded in events:
                        batch.add(event_type, encoded)
                        if (foreign := foreign_types.renamed_from(event_type)) is not None:
                            done.rename(foreign)
                    done.events += len(events)
                    done.rejected += reason is not None
                    done.reason = done.reason or reason
                source.move(line)
        if not following:
            self._let_go(path)
        elif len(self._open) > _FOLLOWED_MAX:
            self._let_go(next(iter(self._open)))
        return done

    def _let_go(self, path: Path) -> None:
        """Forget a source. If it grows, its checkpoint says where to go on."""
        self.checkpoint(path)
        del self._open[path]

    def checkpoint(self, path: Path) -> None:
        """Log how far a source was imported, unless the log says so already."""
        source = self._open.get(path)
        if source is None or source.offset == 0:
            return
        found = Checkpoint(
            importer=self._format.key,
            source=path_name(path),
            offset=source.offset,
            prefix_hash=source.hash.hexdigest(),
        )
        known = self._known.setdefault(found.source, {})
        if known.get(found.offset) == found.prefix_hash:
            return
        known[found.offset] = found.prefix_hash
        payload = envelope.encode_payload(found)
        self._recorder.record(
            [
                Envelope(
                    event_id=ids.derived_id(0, CHECKPOINT_EVENT, bytes(payload)),
                    event_type=CHECKPOINT_EVENT,
                    timestamp=timestamps.UNKNOWN,
                    payload=payload,
                )
            ]
        )

    def checkpoint_all(self) -> None:
        """Log how far every source was imported; for the end of following."""
        for path in self._open:
            self.checkpoint(path)

    def _events(
        self, record: Record, line: SourceLine, source: str, occurrence: int
    ) -> tuple[list[tuple[str, bytes]], str | None]:
        """Return (event type, line) of each event of a record, and why if it only holds a line for quarantine."""
        reason = record.reason
        if reason is None:
            try:
                made = self._format.envelopes(record.data, source, occurrence)
                return [_encoded(each, record.data) for each in made], None
            except InvalidEvent as error:
                reason = str(error)
            except msgspec.ValidationError:
                reason = "not a JSON object"
            except (ValueError, RecursionError) as error:
                reason = f"not JSON: {error}"
        rejected = _rejected(self._format, source, record.data, line.length, occurrence, reason)
        return [(REJECTED_EVENT, envelope.encode(rejected))], reason


def _encoded(made: Envelope, data: bytes) -> tuple[str, bytes]:
    """Return the type and the line of an event that a record gave. Raises InvalidEvent for a control event."""
    control.check(made.event_type, control.Role.AGENT)
    if blob_store.may_have_lookalikes(data):  # a foreign line cannot refer to one of our chunks
        made = msgspec.structs.replace(made, payload=msgspec.Raw(blob_store.escape_lookalikes(bytes(made.payload))))
    return made.event_type, envelope.encode(made)


def _is_whole(record: Record) -> bool:
    """Say whether nothing that is still to come can belong to the record: it is an object, closed."""
    return record.reason is None and record.data.startswith(b"{")


class _Batch:
    """Gathers lines per event type, to write them in few calls."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lines: dict[str, list[bytes]] = {}
        self._size = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.write()  # what was read before an error, too

    def add(self, event_type: str, line: bytes) -> None:
        self._lines.setdefault(event_type, []).append(line)
        self._size += len(line)
        if self._size >= _BATCH_BYTES:
            self.write()

    def write(self) -> None:
        for event_type, lines in self._lines.items():
            self._recorder.record_lines(event_type, lines)
        self._lines.clear()
        self._size = 0


class _Source:
    """Where the import of one file stands: offset, hash of all before it, repeated records."""

    def __init__(self, path: Path, known: dict[int, str]) -> None:
        self.path = path
        self._reset()
        self._terminated = True
        for offset in sorted(known, reverse=True):
            if self._skip_to(offset, known[offset]):
                break
            self._reset()

    def _reset(self) -> None:
        self.offset = 0
        self.hash = hashlib.blake2b(digest_size=16)
        self._tail = b""
        self._inode: int | None = None
        self._seen: set[bytes] = set()
        self._repeats: dict[bytes, int] = {}

    def fits(self) -> bool:
        """Say whether the file still is what was read: not replaced, cut, or rewritten."""
        if is_compressed(self.path):
            return False
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self.offset:
                    return False
                file.seek(self.offset - len(self._tail))
                return file.read(len(self._tail)) == self._tail and self._continues(file)
        except OSError:
            return False

    def lines(self, file: SourceFile) -> Iterator[SourceLine]:
        """Yield the lines behind the offset."""
        if not is_compressed(self.path):
            self._inode = os.fstat(file.fileno()).st_ino
        skip(file, self.offset)
        yield from read_lines(self.path, file, self.offset)

    def move(self, line: SourceLine) -> None:
        """Account for a line that was imported."""
        data = line.data + b"\n" if line.terminated else line.data
        self.hash.update(data)
        self._tail = (self._tail + data)[-256:] if len(data) < 256 else data[-256:]
        if line.length > len(line.data):  # a cut line: the tail is not what precedes the offset
            self._tail = b""
        self.offset = line.end
        self._terminated = line.terminated

    def count(self, record: bytes) -> int:
        """Return how often the same bytes came before in this source."""
        key = hashlib.blake2b(record, digest_size=12).digest()
        if key not in self._seen:
            self._seen.add(key)
            return 0
        self._repeats[key] = self._repeats.get(key, 0) + 1
        return self._repeats[key]

    def _skip_to(self, offset: int, prefix_hash: str) -> bool:
        """Read up to a checkpoint, counting records on the way; False where the hash differs."""
        with open_source(self.path) as file:
            for line in read_lines(self.path, file, 0):
                if line.end > offset and not (line.end == offset + 1 and line.terminated):
                    return False
                at_mark = line._replace(end=offset, terminated=False) if line.end == offset + 1 else line
                for record in split_records(line):
                    self.count(record.data)
                self.move(at_mark)
                if self.offset == offset:
                    if not is_compressed(self.path):
                        self._inode = os.fstat(file.fileno()).st_ino
                    return self.hash.hexdigest() == prefix_hash
        return False

    def _continues(self, file: SourceFile) -> bool:
        """Behind a line that had no newline, only a newline means that it was complete."""
        return self._terminated or file.read(1) in (b"", b"\n")


def _read_checkpoints(root: str, importer: str) -> dict[str, dict[int, str]]:
    """Return offset → hash by source, from the log."""
    found: dict[str, dict[int, str]] = {}
    for _, event in reader.read_events(root, CHECKPOINT_EVENT):
        try:
            mark = msgspec.json.decode(event.payload, type=Checkpoint)
        except msgspec.MsgspecError:
            continue  # a damaged checkpoint costs a second reading, nothing else
        if mark.importer == importer:
            found.setdefault(mark.source, {})[mark.offset] = mark.prefix_hash
    return found


def _rejected(format_: Format, source: str, data: bytes, length: int, occurrence: int, reason: str) -> Envelope:
    """Make the event that keeps a foreign record which is none, verbatim."""
    importer = format_.key
    kept: dict[str, str]
    try:
        kept = {"raw": data.decode()}
    except UnicodeDecodeError:
        kept = {"raw_base64": base64.b64encode(data).decode()}
    if len(data) > envelope.MAX_LINE_BYTES // 8:  # escaping may cost six bytes for one
        kept = {"raw_base64": base64.b64encode(data[:_RAW_KEPT_BYTES]).decode()}
    payload = {"importer": importer, "source": source, "reason": reason[:1000], "length": length, **kept}
    return Envelope(
        event_id=ids.derived_id(
            0, REJECTED_EVENT, importer, source, data, str(occurrence), workspace=format_.workspace
        ),
        event_type=REJECTED_EVENT,
        timestamp=timestamps.UNKNOWN,
        workspace=format_.workspace,
        agent=format_.agent,
        payload=envelope.encode_payload(payload),
    )


def follow(
    importer: Importer,
    find: Callable[[], list[Path]],
    wait: Callable[[], bool],
    say: Callable[[str], None],
) -> Iterator[Imported]:
    """Import what is new in all sources, again and again, until `wait` returns false.

    `find` is asked each time, so that new files are found. Yields what each round did. A
    source that fails is reported once, and tried again when it changes.
    """
    looked_at: dict[Path, tuple[int, int, int]] = {}
    try:
        while True:
            round_ = Imported()
            for path in find():
                signature = _signature(path)
                if signature is None or looked_at.get(path) == signature:
                    continue
                looked_at[path] = signature
                try:
                    round_.add(importer.run(path, following=True))
                except ImportFailed as error:
                    say(str(error))
            yield round_
            if not wait():
                return
    finally:
        importer.checkpoint_all()


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None for one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns) if S_ISREG(stat.st_mode) else None
