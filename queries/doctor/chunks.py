"""The check of large fields: is what lines name there, and does it look like a chunk?

It looks at names, kinds and sizes, and at the lines written last. Whether the bytes are right,
`eventlog verify` tells.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from eventlog.errors import EventlogError
from eventlog.log import blob_references, blobs, reader
from eventlog.queries.doctor.finding import Finding, ok, problem, several, warning
from eventlog.queries.doctor.snapshot import Scene
from eventlog.queries.text.units import size

_SEGMENTS_MAX, _LINES_OF_EACH = 50, 20
_WHAT_TO_DO = "eventlog verify names the lines that need it; bring it back with eventlog restore"


def chunks(scene: Scene) -> Iterator[Finding]:
    """Chunks that are none by their kind or size, and those that the newest lines name and that are not there."""
    found = blobs.list_blobs(scene.root)
    odd = [each.path for each in found if not each.size]
    links = [path for path in _folders(scene.root) if path.is_symlink()]
    if links:
        yield problem(
            f"a link, which eventlog does not follow: {several(map(scene.shown, links))}",
            "put a folder there, with the files that the link leads to",
            links[0],
        )
    missing = sorted(set(_missing(scene)))
    if odd:
        yield problem(f"{len(odd):,} are empty, or no regular files: {_several(odd)}", _WHAT_TO_DO, odd[0])
    if missing:
        yield problem(f"the newest lines name {len(missing):,} that are not there: {_several(missing)}", _WHAT_TO_DO)
    aside = _entries(blobs.damaged_of(scene.root))
    if aside:
        yield warning(
            f"{len(aside):,} damaged ones were set aside, and written anew by who had the bytes",
            "check the disk; events from before may name others that nobody has written anew: run eventlog verify",
            blobs.damaged_of(scene.root),
        )
    if not odd and not links and not missing and not aside:
        yield ok(
            f"{len(found):,} ({size(sum(each.size for each in found))}); whether the bytes are right: eventlog verify"
        )


def _missing(scene: Scene) -> Iterator[Path]:
    newest = sorted(scene.listing.segments, key=lambda each: each.mtime_ns)[-_SEGMENTS_MAX:]
    for segment in newest:
        with contextlib.suppress(EventlogError, OSError):  # other checks say that it cannot be read
            for line in reader.last_lines(segment, _LINES_OF_EACH):
                for sha256 in blob_references.named(line.data):
                    path = blobs.path_of(scene.root, sha256)
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
