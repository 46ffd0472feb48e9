"""Importing foreign files: each of their records becomes events, and each event is appended to the log once.

    file ──identity──→ source ──position──→ lines ──format──→ envelopes ──→ log

The id of an imported event is derived from what its source says, not from when it was read: from an id field if there
is one, else from the record's bytes and how often the same bytes stood in this source before. So a file that is
imported again, in another order, after it grew, moved, or was rewritten, gives the same events; and what was imported
is not appended again (eventlog.importers.positions).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

import msgspec

from eventlog.config import Config
from eventlog.errors import ImportFailed
from eventlog.format import control
from eventlog.importers import checkpoints, events, foreign_types
from eventlog.importers.content import Content, id_of
from eventlog.importers.followed import Followed
from eventlog.importers.identity import Part, part_of_pipe, parts_of_log, parts_of_session
from eventlog.importers.pipe import Pipe
from eventlog.importers.positions import Count, Position, Positions, digest_of
from eventlog.importers.reading import Line, Reading
from eventlog.importers.records import path_name, split_records
from eventlog.importers.sources import Format
from eventlog.record.recorder import Recorder

_BATCH_BYTES = 1024 * 1024
#: How often it is looked again at a log that is cut off meanwhile.
_DECISIONS_MAX = 20
#: How often a followed source that grows gets a checkpoint.
_CHECKPOINT_S = 60.0


class Imported(msgspec.Struct):
    """What an import did.

    `lines` counts all that were read, `events` what was appended to the log, and `rejected` those of them that only
    hold a line for quarantine; `reason` is that of the first. `unfinished` counts last lines that have no end yet, and
    are left for the next import. `renamed` counts events by their foreign type, where that is a name of eventlog's own
    (`foreign_types.imported`). `failures` says which files could not be read to their end, and why.
    """

    sources: int = 0
    lines: int = 0
    events: int = 0
    rejected: int = 0
    skipped_bytes: int = 0
    unfinished: int = 0
    reason: str | None = None
    renamed: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[str] = msgspec.field(default_factory=list)

    def add(self, other: Imported) -> None:
        """Add another count to this one."""
        for name in ("sources", "lines", "events", "rejected", "skipped_bytes", "unfinished"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reason = self.reason or other.reason
        self.renamed.update(other.renamed)
        self.failures += other.failures

    def count(self, event_type: str, events: int) -> None:
        """Count events of a type that were appended."""
        self.events += events
        foreign = foreign_types.renamed_from(event_type)
        if foreign is not None:
            self.renamed[foreign] += events

    def reject(self, reason: str) -> None:
        """Count an event that only holds a line for quarantine, and why."""
        self.rejected += 1
        self.reason = self.reason or reason


class _BegunAnew(Exception):
    """A log was cut off while it was looked for what stands beside it: what was found is of two moments."""


class _Undecided(Exception):
    """Which source a file is cannot be told; others can be imported all the same."""


class Importer:
    """Imports sources of one format through one recorder, which should be strict, and of the maintenance role.

    That is for checkpoints and rejected lines: what the format makes of a line is never a control event. Close it, or
    use it in a with block.
    """

    def __init__(self, recorder: Recorder, format_: Format) -> None:
        """Raises ImportFailed where the positions of earlier imports can be neither read nor made."""
        self._recorder = recorder
        self._format = format_
        root = recorder.config.root
        self._positions = Positions(root, format_.key, functools.partial(checkpoints.read, root, format_.key))
        #: When the sources that have no checkpoint of where they are got their last one, by their ids.
        self._unlogged: dict[int, float] = {}
        self._followed = Followed()

    def __enter__(self) -> Importer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._followed.close()
        self._positions.close()

    def has_all_of(self, path: Path) -> bool:
        """Say whether all of a file was imported, and it has not changed since."""
        return self._is_unchanged(path, Imported())

    def run(self, path: Path, *, following: bool = False) -> Imported:
        """Import what is new in a file. Raises WriteFailed, and ImportFailed where no file can be imported.

        A last line without a newline is left for later unless it is a complete JSON object: somebody may be writing
        it. What is compressed has no later.
        """
        done = Imported(sources=1)
        if self._is_unchanged(path, done):
            return done
        try:
            content = Content(path)
        except ImportFailed as error:
            done.failures.append(str(error))
            return done
        contents, is_held = [content], False
        try:
            try:
                parts = self._parts(content, replaced=self._followed.was_replaced(path))
            except _Undecided as undecided:
                done.failures.append(str(undecided))
                return done
            contents = [part.content for part in parts]
            for part in parts:
                self._read(part, done, following=following)
            if following and not content.compressed:
                self._followed.hold(content, parts[-1].position.id)
                is_held = True
        finally:
            for each in contents:
                if not (is_held and each is content):
                    each.close()
        return done

    def run_pipe(self, file: BufferedReader) -> Imported:
        """Import what another program writes to us, as it comes, until it ends. Raises WriteFailed, ImportFailed."""
        done = Imported(sources=1)
        pipe = Pipe(file)
        with self._positions.step():
            part = self._begun(part_of_pipe(pipe, self._format.source_name(pipe.path), self._positions))
        self._read(part, done, following=False)
        return done

    def rest(self) -> Imported:
        """Import what was written to followed files after they were renamed or removed. Raises WriteFailed."""
        done = Imported()
        for content, number in self._followed.leaving():
            with self._positions.step():
                part = self._begun(Part(content, self._positions.get(number)))
            before = done.events
            self._read(part, done, following=True)
            done.sources += done.events > before
        return done

    def checkpoint_all(self) -> None:
        """Log how far every source was imported; for the end of following."""
        for number in list(self._unlogged):
            with self._positions.step():
                position = self._positions.get(number)
                self._checkpoint(position)
                self._positions.save(position)

    # -- one file --------------------------------------------------------------------------

    def _is_unchanged(self, path: Path, done: Imported) -> bool:
        """Say whether all of a file was imported, and it has not changed since."""
        try:
            stat = path.stat()
        except OSError:
            return False
        now = path_name(path), stat.st_size, stat.st_mtime_ns
        for position in self._positions.in_file(id_of(stat)):
            is_same = (position.path, position.size, position.changed_ns) == now
            if is_same and position.begun_ns is None:
                done.skipped_bytes += position.offset
                return True
        return False

    def _parts(self, content: Content, *, replaced: bool) -> list[Part]:
        """Return what is to be read for a file, with the positions from which on. Raises _Undecided."""
        for _ in range(_DECISIONS_MAX):
            with contextlib.suppress(_BegunAnew), self._positions.step():
                try:
                    return self._decided(content, replaced=replaced)
                except ImportFailed as error:  # of this file, or of one beside it
                    raise _Undecided(str(error)) from error
        raise _Undecided(f"{content.path}: begins anew each time it is looked at; try again later")

    def _decided(self, content: Content, *, replaced: bool) -> list[Part]:
        """Return what `_parts` does. Raises _BegunAnew, and then nothing of it may be kept."""
        beginning = b"" if content.compressed else content.beginning()
        base = self._format.source_name(content.path)
        # Formats that were written for an earlier version do not say it.
        if getattr(self._format, "rotates", False):
            parts = list(parts_of_log(content, base, self._positions, replaced=replaced))
        else:
            parts = list(parts_of_session(content, base, self._positions))
        begun = [self._begun(part) for part in parts]
        if beginning and not content.beginning().startswith(beginning):
            for part in begun:
                if part.content is not content:
                    part.content.close()
            raise _BegunAnew
        return begun

    def _begun(self, part: Part) -> Part:
        """Note that lines are appended from now on; return the part with the moment of an import that was cut off."""
        position = part.position
        if part.again:
            self._positions.read_again(position)
            position.offset, position.head_bytes, position.head = 0, 0, ""
            position.tail = position.prefix_hash = None
            position.counted = True
        cut_off_ns, position.begun_ns = position.begun_ns, position.begun_ns or time.time_ns()
        self._positions.save(position)
        return part._replace(cut_off_ns=cut_off_ns)

    def _read(self, part: Part, done: Imported, *, following: bool) -> None:
        """Read a source from its position to its end, in steps."""
        root, number = self._recorder.config.root, part.position.id
        logged = set() if part.cut_off_ns is None else checkpoints.ids_since(root, part.cut_off_ns)
        done.skipped_bytes += part.position.offset
        if not part.position.counted:
            self._count_before(part.content, number)
        reading, lines = Reading(part.content, part.position.offset), None
        while lines is not None or not reading.ended:
            if lines is None:
                lines = reading.next()
            with self._positions.step():
                position = self._positions.get(number)
                if position.offset != reading.offset and part.content.can_be_read_again:
                    reading, lines = Reading(part.content, position.offset), None  # another import went on with it
                    continue
                if not part.content.still_continues(position):
                    return  # as if killed here: the next import looks for what stood there
                if position.begun_ns is None:  # and ended
                    position.begun_ns = time.time_ns()
                    self._positions.save(position)
                    continue
                self._append(lines, position, logged, done)
                reading.move(position)
                self._note(reading, position, following=following)
                self._positions.save(position)
                lines = None
        if reading.failure is not None:
            done.failures.append(reading.failure)
        done.unfinished += reading.unfinished

    def _append(self, lines: list[Line], position: Position, logged: set[str], done: Imported) -> None:
        """Append what is new in lines of a source."""
        digests = {record: digest_of(record.data) for line in lines for record in line.records}
        counts = self._positions.counts(position, set(digests.values()))
        batch = _Batch(self._recorder, done)
        for line in lines:
            done.lines += 1
            for record in line.records:
                count = counts.setdefault(digests[record], Count())
                occurrence = count.passed
                count.passed += line.terminated  # a line that has no end yet comes by again
                if occurrence < count.imported:
                    continue
                count.imported = occurrence + 1
                made, reason = events.of_record(self._format, record, line.length, position.name, occurrence)
                for each in made:
                    if each.event_id not in logged:
                        batch.add(each)
                        if reason is not None:
                            done.reject(reason)
        batch.write()
        self._positions.count(position, counts)

    def _count_before(self, content: Content, number: int) -> None:
        """Count the records before a position that only the log knows of."""
        with self._positions.step():
            position = self._positions.get(number)
            if position.counted:  # another import has done it
                return
            counts: dict[int, Count] = {}
            for line in content.lines(0):
                if line.end - line.terminated > position.offset:
                    break
                for record in split_records(line):
                    count = counts.setdefault(digest_of(record.data), Count())
                    count.imported = count.passed = count.passed + 1
            self._positions.count(position, counts)
            position.counted = True
            self._positions.save(position)

    def _note(self, reading: Reading, position: Position, *, following: bool) -> None:
        """Note what is known of a file after a step, and log it now and then."""
        is_read = reading.ended and reading.failure is None
        position.size, position.changed_ns = reading.content.version if is_read else (None, None)
        position.begun_ns = None if reading.ended else time.time_ns()
        since = self._unlogged.setdefault(position.id, time.monotonic())
        if reading.ended and (not following or time.monotonic() - since > _CHECKPOINT_S):
            self._checkpoint(position)

    def _checkpoint(self, position: Position) -> None:
        self._unlogged.pop(position.id, None)
        made = checkpoints.of(position, self._format.key)
        if position.offset > 0 and made.event_id != position.checkpoint:
            self._recorder.record([made])
            position.checkpoint, position.checkpoint_offset = made.event_id, position.offset


class _Batch:
    """Gathers lines per event type, to write and to count them in few calls."""

    def __init__(self, recorder: Recorder, done: Imported) -> None:
        self._recorder = recorder
        self._done = done
        self._lines: dict[str, list[bytes]] = {}
        self._size = 0

    def add(self, made: events.Made) -> None:
        self._lines.setdefault(made.event_type, []).append(made.line)
        self._size += len(made.line)
        if self._size >= _BATCH_BYTES:
            self.write()

    def write(self) -> None:
        for event_type, lines in self._lines.items():
            self._recorder.record_lines(event_type, lines)
            self._done.count(event_type, len(lines))
        self._lines.clear()
        self._size = 0


@contextmanager
def importing(settings: Config, format_: Format) -> Iterator[Importer]:
    """Yield an importer into a root, with a recorder of its own, and close both. `settings` should be strict.

    Raises ImportFailed where the positions of earlier imports can be neither read nor made.
    """
    recorder = Recorder(settings, role=control.Role.MAINTENANCE)
    try:
        with Importer(recorder, format_) as importer:
            yield importer
    finally:
        recorder.shutdown()


def follow(
    importer: Importer,
    find: Callable[[], list[Path]],
    wait: Callable[[], bool],
    say: Callable[[str], None],
) -> Generator[Imported, None, None]:
    """Import what is new in all sources, again and again, until `wait` returns false.

    `find` is asked each time, so that new files are found. Yields what each round did. A
    source that fails is reported once, and tried again when it changes.
    """
    looked_at: dict[Path, tuple[int, int, int]] = {}
    try:
        while True:
            round_ = importer.rest()
            for path in find():
                signature = _signature(path)
                if signature is None or looked_at.get(path) == signature:
                    continue
                looked_at[path] = signature
                round_.add(importer.run(path, following=True))
            for failure in round_.failures:
                say(failure)
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
