"""The check of large fields: whether the chunks that lines refer to exist and are regular files.

It checks names, kinds and sizes, and the lines that were written last. `eventlog verify` checks the bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from eventlog.errors import EventlogError
from eventlog.log import blob_references, blobs, reader
from eventlog.queries.doctor.finding import Finding, ok, problem, several, warning
from eventlog.queries.doctor.snapshot import RootSnapshot
from eventlog.queries.text.units import size

_SEGMENTS_MAX, _LINES_OF_EACH = 50, 20
_ADVICE = "eventlog verify names the lines that need it; bring it back with eventlog restore"


def chunks(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Entries that are no valid chunks, and missing chunks that the newest lines refer to."""
    listed = blobs.list_blobs(snapshot.root)
    invalid = [blob.path for blob in listed if not blob.size]
    links = [path for path in _folders(snapshot.root) if path.is_symlink()]
    if links:
        yield problem(
            f"a link, which eventlog does not follow: {several(map(snapshot.shown, links))}",
            "put a folder there, with the files that the link leads to",
            links[0],
        )
    missing = sorted(set(_missing(snapshot)))
    if invalid:
        yield problem(f"{len(invalid):,} are empty, or no regular files: {_several(invalid)}", _ADVICE, invalid[0])
    if missing:
        yield problem(f"the newest lines name {len(missing):,} that are not there: {_several(missing)}", _ADVICE)
    aside = _entries(blobs.damaged_of(snapshot.root))
    if aside:
        yield warning(
            f"{len(aside):,} damaged ones were set aside, and written anew by who had the bytes",
            "check the disk; events from before may name others that nobody has written anew: run eventlog verify",
            blobs.damaged_of(snapshot.root),
        )
    if not invalid and not links and not missing and not aside:
        yield ok(
            f"{len(listed):,} ({size(sum(blob.size for blob in listed))}); whether the bytes are right: eventlog verify"
        )


def _missing(snapshot: RootSnapshot) -> Iterator[Path]:
    newest = sorted(snapshot.listing.segments, key=lambda segment: segment.mtime_ns)[-_SEGMENTS_MAX:]
    for segment in newest:
        with contextlib.suppress(EventlogError, OSError):  # other checks report that it cannot be read
            for line in reader.last_lines(segment, _LINES_OF_EACH):
                for sha256 in blob_references.named(line.data):
                    path = blobs.path_of(snapshot.root, sha256)
                    if not os.path.lexists(path):
                        yield path


def _folders(root: Path) -> list[Path]:
    top = blobs.folder_of(root)
    return [top, *(top / name for name in _entries(top) if not top.is_symlink() and len(name) == 2)]


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _several(paths: list[Path]) -> str:
    return several(path.name for path in paths)
