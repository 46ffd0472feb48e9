"""Where a stream stands in the log: the id of each of its frames, which a client gives back to go on from there.

The log has many segments that grow at the same time, so one offset in one of them does not say how far the others were
sent. An id therefore begins with the line that it is of, and goes on with what was sent of all others:

    20260131T120000123456Z-0a1b2c3d4e5f6071:1234;pdkn…        segment:offset;rest

The rest is msgpack in base64: a horizon, and for the segments that may still grow how far each was sent. Of segments
that are not listed there, those whose names are up to the horizon were sent whole, the others not at all. Nothing is
stored on the server, so an id means the same after a restart, and to any other server of the root.

"Sent whole" is not believed where the log says otherwise: the rest also holds how many bytes those segments had, and
when the last of them was written to. A segment that was written to since is sent again from its start. Where there are
more bytes than that explains (a clock that was set back, a log that was copied), all of them are sent again. Each
frame names its line, so a client can drop what comes twice; what is missing nobody could know.

An id without the rest, `segment:offset`, is enough to miss nothing: all lines of segments that were written to after
that segment was created are sent, but for what stands before the line in its own segment. Where its creation lies in
the future, the clock was wrong, and everything is sent. What cannot be told is a clock that was set back by more than
an hour in between (docs/decisions/0046-where-a-stream-stands.md).
"""

from __future__ import annotations

import base64
import binascii
import heapq
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from eventlog.errors import QueryFailed
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile

#: Stands for the position before all lines.
START = "start"
#: How many growing segments an id lists.
_LISTED_MAX = 64
#: How much earlier than a segment's creation another one may have been written to last, and count as older.
_CLOCK_SLACK_NS = 3600 * 10**9
_AFTER_MAX_CHARS = 32 * 1024
_ANY_BYTES = 2**63 - 1


class Progress(NamedTuple):
    """A segment, and how far it was read.

    `offset` is behind the last complete line; `seen` is how many bytes were looked at: a torn line may lie between.
    """

    file: SegmentFile
    offset: int
    seen: int


#: The segments of a log by name, and how far each was read.
Files = Mapping[str, Progress]


class Cursor:
    """What was sent: of the segments in `listed` up to their offsets, of others named up to `horizon` everything.

    `listed` begins with the segment that changed least recently. `total` and `latest_ns` are the bytes, and the time
    of the last write, of what was sent everything of.
    """

    def __init__(self) -> None:
        self.horizon = ""
        self.listed: dict[str, Progress] = {}
        self.total = 0
        self.latest_ns = 0

    @classmethod
    def at_end(cls, files: Files) -> Cursor:
        """Return the position behind everything that was read of a log."""
        cursor = cls()
        growing = (progress for progress in files.values() if not progress.file.sealed)
        recent = heapq.nlargest(_LISTED_MAX, growing, key=lambda progress: progress.file.mtime_ns)
        cursor.listed = {progress.file.name: progress for progress in reversed(recent)}
        for name, progress in files.items():
            if name not in cursor.listed:
                cursor.settle(progress)
        return cursor

    def copy(self) -> Cursor:
        """Return another cursor at the same position."""
        other = Cursor()
        other.horizon, other.total, other.latest_ns = self.horizon, self.total, self.latest_ns
        other.listed = dict(self.listed)
        return other

    def reached(self, progress: Progress) -> int:
        """Return how far a segment was sent, as an offset."""
        name = progress.file.name
        if name in self.listed:
            return self.listed[name].offset
        return progress.offset if name <= self.horizon else 0

    def advance(self, progress: Progress) -> None:
        """Note that a segment was sent so far."""
        self.listed.pop(progress.file.name, None)
        self.listed[progress.file.name] = progress

    def settle(self, progress: Progress) -> None:
        """Note that a segment was sent whole, without listing it. All named before it must be listed, or sent whole."""
        self.listed.pop(progress.file.name, None)
        self.horizon = max(self.horizon, progress.file.name)
        self.total += progress.seen
        self.latest_ns = max(self.latest_ns, progress.file.mtime_ns)

    def list_again(self, progress: Progress) -> None:
        """List a segment that was sent so far, because it grows."""
        name = progress.file.name
        if name not in self.listed:
            if name <= self.horizon:
                self.total -= progress.seen
            self.listed[name] = progress

    def trim(self) -> None:
        """Settle what changed least recently, where more is listed than an id holds."""
        while len(self.listed) > _LISTED_MAX:
            self.settle(next(iter(self.listed.values())))

    def recount(self, files: Files) -> None:
        """Set `total` and `latest_ns` to what the files say, and forget listed segments that are gone."""
        self.listed = {name: progress for name, progress in self.listed.items() if name in files}
        settled = [each for name, each in files.items() if name <= self.horizon and name not in self.listed]
        self.total = sum(each.seen for each in settled)
        self.latest_ns = max((each.file.mtime_ns for each in settled), default=0)

    def carry(self, before: Files, now: Files) -> None:
        """Stay where `before` was read to, in a log that has grown since: list what grew and was not listed."""
        for name, progress in now.items():
            if name <= self.horizon and name not in self.listed:
                sent = before.get(name)
                if sent is None or sent.offset < progress.offset:
                    offset = 0 if sent is None else sent.offset
                    self.listed[name] = Progress(progress.file, offset, offset)
        self.recount(now)

    def id_of(self, segment: str, offset: int) -> str:
        """Return the id of the frame of a line. This cursor must be behind that line."""
        return f"{segment}:{offset};{self._rest()}"

    def id(self) -> str:
        """Return the id of a frame that is of no line."""
        return f";{self._rest()}"

    def _rest(self) -> str:
        offsets = {_key(name): progress.offset for name, progress in self.listed.items()}
        packed = msgspec.msgpack.encode((self.horizon, self.total, self.latest_ns, offsets))
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _key(name: str) -> int:
    """Return what an id calls a segment by: 32 of its random bits."""
    return int(name[-8:], 16)


_Number = Annotated[int, msgspec.Meta(ge=0, le=_ANY_BYTES)]
_Key = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_rests = msgspec.msgpack.Decoder(tuple[Annotated[str, msgspec.Meta(max_length=100)], _Number, _Number, dict[_Key, int]])


class After(NamedTuple):
    """An id that a client gave back; with neither `segment` nor `rest` it is the position before all lines.

    `segment` is None where the frame was of no line, `rest` is None where only the line was given.
    """

    segment: str | None = None
    offset: int = 0
    rest: tuple[str, int, int, dict[int, int]] | None = None


def parse(text: str) -> After:
    """Read an id, or START. Raises QueryFailed for what is neither."""
    if text == START:
        return After()
    line, semicolon, rest = text.partition(";")
    segment, colon, digits = line.partition(":")
    is_line = bool(colon) and layout.created_s(segment) is not None and digits.isascii() and digits.isdecimal()
    if len(text) > _AFTER_MAX_CHARS or not ((is_line and len(digits) < 19) or (not line and semicolon)):
        raise QueryFailed("this is no id of a frame: segment:offset, with or without what follows it, or start")
    return After(segment if line else None, int(digits or 0), _decoded(rest) if semicolon else None)


def _decoded(rest: str) -> tuple[str, int, int, dict[int, int]]:
    try:
        return _rests.decode(base64.b64decode(rest + "=" * (-len(rest) % 4), altchars=b"-_", validate=True))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise QueryFailed("what follows the semicolon of this id is not ours; segment:offset alone will do") from None


def resume(after: After, files: Files, *, now_ns: int | None = None) -> Cursor:
    """Return the position of an id in a log as it is now. Reads one line. Raises SegmentUnreadable."""
    cursor = Cursor()
    if after.segment is None and after.rest is None:
        return cursor
    moment_ns = time.time_ns() if now_ns is None else now_ns
    horizon, total, latest_ns, offsets = after.rest or _by_times(after, files, moment_ns)
    by_key: dict[int, list[Progress]] = {}
    for name, each in files.items():
        by_key.setdefault(_key(name), []).append(each)
    for key, offset in offsets.items():
        candidates = by_key.get(key, [])
        for candidate in candidates:  # several of one key are a coincidence: then both are sent again
            cursor.listed[candidate.file.name] = _at(candidate, offset if len(candidates) == 1 else 0)
    progress = files.get(after.segment or "")
    if progress is not None:
        cursor.listed[progress.file.name] = _at(progress, _line_end(progress.file, after.offset))
    cursor.horizon = _believed(cursor, files, horizon, total, latest_ns)
    cursor.recount(files)
    return cursor


def _believed(cursor: Cursor, files: Files, horizon: str, total: int, latest_ns: int) -> str:
    """Return the horizon up to which the log bears out that segments were sent whole; list those that changed."""
    settled = [each for name, each in files.items() if name <= horizon and name not in cursor.listed]
    changed = [each for each in settled if each.file.mtime_ns > latest_ns]
    if _bytes(settled) - _bytes(changed) > total:
        return ""
    if len(changed) > _LISTED_MAX:
        least = min(each.file.name for each in changed)
        return max((name for name in files if name < least), default="")
    for progress in changed:
        cursor.listed[progress.file.name] = Progress(progress.file, 0, 0)
    return horizon


def _by_times(after: After, files: Files, now_ns: int) -> tuple[str, int, int, dict[int, int]]:
    """Return the rest of an id that has none: what cannot have been written to after its line."""
    assert after.segment is not None
    created_ns = int((layout.created_s(after.segment) or 0) * 1e9)
    if created_ns > now_ns:
        return after.segment, _ANY_BYTES, 0, {}
    progress = files.get(after.segment)
    least_ns = created_ns if progress is None else min(created_ns, progress.file.mtime_ns)
    return after.segment, _ANY_BYTES, max(least_ns - _CLOCK_SLACK_NS, 0), {}


def _at(progress: Progress, offset: int) -> Progress:
    """Describe a segment as sent so far; from its start where it is shorter: then it is another file."""
    file = progress.file
    if not 0 <= offset <= file.size:
        newer = layout.refreshed(file)
        offset = offset if newer is not None and 0 <= offset <= newer.size else 0
    return Progress(file, offset, offset)


def _line_end(file: SegmentFile, offset: int) -> int:
    """Return where the line at an offset ends, newline included; 0 where there is none."""
    for line in reader.read_lines(file.path, offset, max_bytes=1):
        return line.offset + line.length
    return 0


def _bytes(several: Iterable[Progress]) -> int:
    return sum(progress.seen for progress in several)
