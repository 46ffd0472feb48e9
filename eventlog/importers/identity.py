"""Which source a file is: one that is known, under this name or another, or a new one.

A *session* is what its name says, wherever its file lies: one whose beginning changed was written anew, and is read
again. A *log* is some content under a name: it is rotated, and then the same name stands for other content, while what
was read goes on under another name (`app.log.1`, `app.log-20260105.gz`) or, where its writer copies and cuts it, in a
copy. Equal lines of two such contents are two events; a line of one content is one, under whatever name.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import ImportFailed
from eventlog.importers.content import COMPARED_BYTES, Content, file_of, fingerprint
from eventlog.importers.positions import Count, Position, Positions, digest_of
from eventlog.importers.records import split_records

_FAMILY_MAX = 200
#: How often, and how many seconds apart, a log is looked for that does not stand where it was: to rename all
#: generations of one takes milliseconds.
_LOOKS, _LOOK_S = 3, 0.03
#: Of how many records of a file it is asked whether they are known, to tell an edited file from a new log.
_COMPARED_RECORDS = 100


class Part(NamedTuple):
    """Something to read: content, and the position of its source.

    `again`: it is to be read from the start. `cut_off_ns`: since when an import that was cut off may have appended.
    """

    content: Content
    position: Position
    again: bool = False
    cut_off_ns: int | None = None


def parts_of_session(content: Content, base: str, positions: Positions) -> Iterator[Part]:
    """Yield what to read for a file of a session, which its format calls `base`."""
    here = [each for each in positions.at(content.name) if each.base in (base, "")]
    moved = [] if here else [each for each in positions.called(base) if not os.path.exists(each.path)]
    position = next(iter(here or moved), None)
    if position is None:
        yield Part(content, positions.add(_new(content, base, base)))
    else:
        yield Part(content, _found(position, content, base), again=not content.continues(position))


def parts_of_log(content: Content, base: str, positions: Positions, *, replaced: bool) -> Iterator[Part]:
    """Yield what to read for a log that its format calls `base`: first the rest of what stood under its name before.

    `replaced`: the file that was followed under this path is another one. Close the contents.
    """
    for position in positions.cut_off(base):
        if position.path != content.name and (rest := _found_again(position, content)) is not None:
            yield Part(rest, _found(position, rest, base))
    yield from _parts_of_log(content, base, positions, replaced=replaced)


def _parts_of_log(content: Content, base: str, positions: Positions, *, replaced: bool) -> Iterator[Part]:
    for position in positions.in_file(content.file):
        is_renamed = position.path != content.name
        if (is_renamed or position.offset >= COMPARED_BYTES) and content.continues(position):
            yield Part(content, _found(position, content, base))
            return
    here, namesakes = positions.at(content.name), positions.called(base)
    if not here and not namesakes:
        moved = _moved_here(content, positions)
        yield Part(content, _found(moved, content, base) if moved else positions.add(_new(content, base, base)))
        return
    newest = (here or namesakes)[0]
    former = _renamed(newest, content) if here else None
    if former is None and here and 0 < newest.offset < COMPARED_BYTES:  # so short that another log may have begun so
        former = _copied(newest, content, positions, is_other=True)
    if former is None:
        for position in (*here, *namesakes):
            if content.continues(position):
                yield Part(content, _found(position, content, base))
                return
        former = _copied(newest, content, positions) if here else None
    is_edited = (
        former is None
        and not _is_shorter(content, newest, replaced=replaced)
        and _is_mostly_known(content, newest, positions)
    )
    if former is None and here and not is_edited and newest.offset > 0:
        former = _being_renamed(newest, content, positions)
    if former is not None:
        yield Part(former, _found(newest, former, newest.base))
        for between in _between(former, newest, content, positions):
            yield Part(between, positions.add(_new(between, base, positions.next_name(base))))
    elif is_edited:
        yield Part(content, _found(newest, content, base), again=True)
        return
    yield Part(content, positions.add(_new(content, base, positions.next_name(base))))


def part_of_pipe(content: Content, base: str, positions: Positions) -> Part:
    """Return what to read for standard input: it is known again by its first 4 KiB, and new with less than that."""
    first = content.beginning()
    if len(first) == COMPARED_BYTES:
        for position in positions.beginning_with(COMPARED_BYTES, fingerprint(first)):
            if position.base == base:
                return Part(content, position, again=True)
    return Part(content, positions.add(_new(content, base, positions.next_name(base))))


def _new(content: Content, base: str, name: str) -> Position:
    position = Position(source=content.name, base=base, name=name, path=content.name, file=content.file)
    content.recognise_in(position)
    return position


def _found(position: Position, content: Content, base: str) -> Position:
    position.path, position.file = content.name, content.file
    if not position.base:  # from a log of an earlier version, where a source had one content
        position.base = position.name = base
    return position


def _renamed(position: Position, content: Content) -> Content | None:
    """Return the file of a position under its new name, if it stands beside the one that has taken its name."""
    if position.file is None or position.file == content.file:
        return None
    for path in _family(Path(content.name)):
        if file_of(path) == position.file and (found := _continuing(path, position)):
            return found
    return None


def _found_again(position: Position, content: Content) -> Content | None:
    """Return the file of a position where it was found last, else beside a log, under a name that it has by now."""
    others = (_continuing(path, position) for path in _family(Path(content.name)))
    return _continuing(Path(position.path), position) or next(filter(None, others), None)


def _copied(position: Position, content: Content, positions: Positions, *, is_other: bool = False) -> Content | None:
    """Return a file beside this one that has the content of a position: a copy, or a compressed one.

    With `is_other`, only if that went on in another way than this one.
    """
    for path in _family(Path(content.name)):
        found = _continuing(path, position)
        if found is None:
            continue
        has_gone_on = not is_other or content.file != position.file or _has_parted(content, found)
        if has_gone_on and not _is_another(found, position, positions):
            return found
        found.close()
    return None


def _has_parted(content: Content, other: Content) -> bool:
    """Say whether some other content goes on in another way than this one; a damaged archive says nothing."""
    try:
        return not content.begins_with(other)
    except ImportFailed:
        return False


def _being_renamed(position: Position, content: Content, positions: Positions) -> Content | None:
    """Return what `_renamed` or `_copied` find a moment later: a listing may miss a file that is being renamed."""
    for _ in range(_LOOKS):
        time.sleep(_LOOK_S)
        found = _renamed(position, content) or _copied(position, content, positions)
        if found is not None:
            return found
    return None


def _is_another(content: Content, position: Position, positions: Positions) -> bool:
    """Say whether some content is known as that of another source, of which it has more."""
    others = [each for each in positions.in_file(content.file) if content.continues(each)]
    known = next(iter(others), None) or _moved_here(content, positions)
    return known is not None and known.id != position.id


def _continuing(path: Path, position: Position) -> Content | None:
    try:
        found = Content(path)
    except ImportFailed:
        return None
    if found.continues(position):
        return found
    found.close()
    return None


def _between(former: Content, position: Position, content: Content, positions: Positions) -> Iterator[Content]:
    """Yield the contents that had the name of a log after a former one and before another, oldest first.

    They were written to after the former one was read as the log: whoever compressed that later may have given it a
    later time.
    """
    since = min(each for each in (former.version[1], position.changed_ns, position.begun_ns) if each is not None)
    for path in reversed(_family(Path(content.name))):
        if not _is_generation(path.name, Path(content.name).name):
            continue
        try:
            found = Content(path)
        except ImportFailed:
            continue
        is_between = since <= found.version[1] and found.file not in (former.file, content.file)
        if is_between and not _is_known(found, positions):
            yield found
        else:
            found.close()


def _is_known(content: Content, positions: Positions) -> bool:
    """Say whether some content is that of a source. That its file is one that was read says nothing: inodes return."""
    in_file = (each for each in positions.in_file(content.file) if each.offset > 0)
    return any(map(content.continues, in_file)) or _moved_here(content, positions) is not None


def _is_generation(name: str, log: str) -> bool:
    """Say whether a file is called as rotations call a log's: `app.log.1`, or `app-20260105.log.gz` of `app.log`."""
    stem, dot, ending = log.partition(".")
    dated = rf"{re.escape(stem)}[-._][0-9][0-9T:._-]*{re.escape(dot + ending)}(\.\w+)?"
    return name.startswith(log) or re.fullmatch(dated, name) is not None


def _family(path: Path) -> list[Path]:
    """Return the other files in a log's folder that are called like it, newest first: `app.log.1`, `app-1.log.gz`."""
    stems = tuple(path.name.split(".")[0] + each for each in ".-_")
    found = []
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                is_like = entry.name.startswith((path.name, *stems)) and entry.name != path.name
                if is_like and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat().st_mtime_ns, entry.path))
    except OSError:
        return []
    return [Path(name) for _, name in sorted(found, reverse=True)[:_FAMILY_MAX]]


def _moved_here(content: Content, positions: Positions) -> Position | None:
    """Return the source whose content this is, where it no longer is where it was.

    Many files have the same few bytes at their beginning: these count beside the place where the content was only.
    """
    try:
        beginning = content.beginning()
    except ImportFailed:
        return None
    for size in sorted(positions.head_sizes(), reverse=True):
        for position in positions.beginning_with(size, fingerprint(beginning[:size])):
            is_near = size == COMPARED_BYTES or _is_called_like(Path(content.name), Path(position.path))
            if is_near and not _is_still_there(position) and content.continues(position):
                return position
    return None


def _is_called_like(path: Path, other: Path) -> bool:
    return path.parent == other.parent and path.name.split(".")[0] == other.name.split(".")[0]


def _is_still_there(position: Position) -> bool:
    found = _continuing(Path(position.path), position)
    if found is not None:
        found.close()
    return found is not None


def _is_shorter(content: Content, position: Position, *, replaced: bool) -> bool:
    """Say whether a log was cut off, or begun anew under its name: it has less than what was read."""
    is_same_file = content.file == position.file or replaced
    return is_same_file and content.before(position.offset) is None


def _is_mostly_known(content: Content, position: Position, positions: Positions) -> bool:
    """Say whether a file holds the records of a source, so that somebody has edited it."""
    digests: list[int] = []
    try:
        for line in content.lines(0):
            digests += [digest_of(record.data) for record in split_records(line)]
            if len(digests) >= _COMPARED_RECORDS:
                break
    except ImportFailed:
        pass
    counts = positions.counts(position, digests)
    return sum(counts.get(digest, Count()).imported > 0 for digest in digests) * 2 > len(digests)
