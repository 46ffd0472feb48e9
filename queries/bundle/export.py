"""Writing a bundle: a ZIP file that proves its lines by itself (docs/bundles.md, docs/decisions/0033-bundles.md).

    index ── which events ──→ log: their lines, proofs, seals, chunks ──→ ZIP: lines, blobs, seals, manifest, verify.py

Only lines of the workspace are in it, whoever's lines stand beside them in their segments: each is proven alone, by the
tree of hashes in the segment's seal. The same log and the same prices give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import BlobUnreadable, InvalidEvent, MissingExtra, QueryFailed, SegmentUnreadable
from eventlog.format import envelope
from eventlog.log import blob_references, blobs, layout
from eventlog.queries.access import sandbox
from eventlog.queries.bundle import evidence
from eventlog.queries.bundle import summary as summaries
from eventlog.queries.bundle.evidence import SegmentLines, Wanted
from eventlog.queries.identity import Column, Scope
from eventlog.queries.runs import tree as trees
from eventlog.queries.runs.tree import Tree

FORMAT, VERSION = "eventlog-bundle", 1
#: Lines and large fields of one bundle: it is put together in memory, and verified in memory.
MAX_BYTES = 512 * 1024 * 1024
VERIFIER = Path(__file__).with_name("verify.py")
_KINDS: dict[Column, str] = {"run_id": "run", "session_id": "session", "request_id": "request"}
_GONE = "the log has the line no more: its segment was pruned, released, or is another one now"
_UNREADABLE = "the segment cannot be read"
_NO_CHUNK = "part of a large field is missing or damaged in the root"
_README = """This is a bundle of eventlog: all events of one {kind}, as they stand in the log, with proofs.

Verify it with:  python3 verify.py            (in this folder; Python 3.8 or later, nothing else)
            or:  python3 verify.py --head 12:9f86d0...    with a head of the log that you kept

summary.txt     what happened, for people; summary.json for programs
lines/          the lines of the log, byte for byte, by the segment that they stand in
blobs/          parts of large fields that the lines name, named by their SHA-256
seals.jsonl     the seals of these segments, as they stand in the log
manifest.json   where each line stands, its hash and its proof; the hash of every file

Nothing was redacted for this export: what was in the log is in here.
"""
_LINES = """
    SELECT event_id::VARCHAR, event_type, segment, line_offset, line_length FROM events WHERE {scope}
    UNION
    SELECT event_id::VARCHAR, event_type, segment, line_offset, line_length FROM conflicts WHERE {scope}
    ORDER BY segment, line_offset
"""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says of a run, session or request: its tree, and where its lines are, by type and segment."""

    scope: Scope
    tree: Tree
    wanted: dict[tuple[str, str], list[Wanted]]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written. `sha256` is that of its manifest: kept elsewhere, it proves the bundle.

    `unproven` are lines without a proof by reason, and `left_out` are events without a line by reason.
    """

    path: str
    kind: str
    id: str
    workspace: str | None
    lines: int
    proven: int
    unproven: dict[str, int]
    left_out: dict[str, int]
    blobs: int
    sha256: str


def find(connection: duckdb.DuckDBPyConnection, id_: str) -> Contents:
    """Return what the index knows. Any unique prefix of an id works. Raises QueryFailed."""
    tree = trees.find_tree(connection, id_)
    scope = _scope(tree)
    wanted: dict[tuple[str, str], list[Wanted]] = {}
    size = 0
    rows = sandbox.execute(connection, scope.within(_LINES), scope.params).fetchall()
    for event_id, event_type, segment, offset, length in rows:
        wanted.setdefault((event_type, segment), []).append(Wanted(event_id, offset, length))
        size += length
    if size > MAX_BYTES:
        raise QueryFailed(
            f"{id_!r} has {size:,} bytes of lines, and a bundle holds {MAX_BYTES:,}; export its runs one by one"
        )
    return Contents(scope=scope, tree=tree, wanted=wanted)


def _scope(tree: Tree) -> Scope:
    if tree.run is not None:
        return Scope("run_id", tree.run.run_id, tree.workspace)
    if tree.request is not None:
        return Scope("request_id", tree.request.request_id, tree.workspace)
    return Scope("session_id", tree.session_id or "", tree.workspace)


def write(root: Path, contents: Contents, path: Path, *, chain: bool = False) -> Bundle:
    """Write the bundle; the file appears when it is complete. Raises SegmentUnreadable, OSError, QueryFailed.

    With `chain`, all seals from the first one needed to the newest are in it: they name segments and event types of
    other workspaces, too.
    """
    scope = contents.scope
    what = {"kind": _KINDS[scope.column], "column": scope.column, "id": scope.id, "workspace": scope.workspace}
    left_out: Counter[str] = Counter()
    seals = evidence.Seals(root)
    segments = list(_segments(root, contents, seals, left_out))
    chunks = _chunks(root, segments, scope.workspace, left_out)
    seal_lines, raw_seals = seals.lines([each.link for each in segments if each.link is not None], chain=chain)
    counts = Counter({each.file.event_type: 0 for each in segments})
    for each in segments:
        counts[each.file.event_type] += len(each.lines)
    facts = summaries.summary(what, contents.tree, counts)
    files = {
        **{f"lines/{each.file.name}.jsonl": b"".join(each.data) for each in segments},
        **{f"blobs/{sha256}": data for sha256, data in chunks.items()},
        "seals.jsonl": b"".join(raw_seals),
        "summary.json": _json(facts),
        "summary.txt": summaries.text(facts).encode(errors="replace"),
        "README.txt": _README.format(kind=what["kind"]).encode(),
        "verify.py": VERIFIER.read_bytes(),
    }
    manifest = _json(
        {
            "format": FORMAT,
            "version": VERSION,
            "what": what,
            "line_count": sum(len(each.lines) for each in segments),
            "segments": [_listed(each) for each in segments],
            "seals": seal_lines,
            "left_out": dict(sorted(left_out.items())),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        }
    )
    digest = hashlib.sha256(manifest).hexdigest()
    files |= {"manifest.json": manifest, "manifest.sha256": f"{digest}  manifest.json\n".encode()}
    _zip(path, files)
    unproven: Counter[str] = Counter()
    for each in segments:
        if each.why_not is not None:
            unproven[each.why_not] += len(each.lines)
    return Bundle(
        path=str(path), kind=str(what["kind"]), id=scope.id, workspace=scope.workspace,
        lines=sum(len(each.lines) for each in segments),
        proven=sum(len(each.lines) for each in segments if each.link is not None),
        unproven=dict(unproven), left_out=dict(left_out), blobs=len(chunks), sha256=digest,
    )  # fmt: skip


def _segments(root: Path, contents: Contents, seals: evidence.Seals, left_out: Counter[str]) -> Any:
    """Yield the segments that have lines of it, sorted by name, and count what is left out."""
    files = {file.name: file for file in layout.list_log(root).segments}
    for (event_type, name), wanted in sorted(contents.wanted.items(), key=lambda item: (item[0][1], item[0][0])):
        file = files.get(name)
        if file is None or file.event_type != event_type:
            left_out[_GONE] += len(wanted)
            continue
        try:
            read = evidence.read_segment(file, wanted, seals.by_segment.get(name, []))
        except (SegmentUnreadable, MissingExtra):
            left_out[_UNREADABLE] += len(wanted)
            continue
        own = [place for place, raw in enumerate(read.data) if _is_of(raw, read.lines[place].event_id, contents.scope)]
        if len(own) < len(wanted):
            left_out[_GONE] += len(wanted) - len(own)
        if own:
            yield read._replace(lines=[read.lines[place] for place in own], data=[read.data[place] for place in own])


def _is_of(raw: bytes, event_id: str, scope: Scope) -> bool:
    """Say whether a line still is the event that was indexed: else it may be anybody's."""
    try:
        logged = envelope.decode(raw[:-1]).envelope
    except InvalidEvent:
        return False
    named = (logged.event_id.lower(), getattr(logged, scope.column), logged.workspace)
    return named == (event_id, scope.id, scope.workspace)


def _chunks(
    root: Path, segments: list[SegmentLines], workspace: str | None, left_out: Counter[str]
) -> dict[str, bytes]:
    """Return the files of the chunks that the lines name, header included, by their hash."""
    named = sorted({name for each in segments for raw in each.data for name in blob_references.named(raw[:-1])})
    chunks: dict[str, bytes] = {}
    size = 0
    for sha256 in named:
        try:
            blobs.read_of(root, sha256, workspace)  # refuses those of another workspace
            chunks[sha256] = blobs.read(root, sha256)
        except BlobUnreadable:
            left_out[_NO_CHUNK] += 1
            continue
        size += len(chunks[sha256])
        if size > MAX_BYTES:
            raise QueryFailed(f"its large fields are over {MAX_BYTES:,} bytes, which a bundle does not hold")
    return chunks


def _listed(each: SegmentLines) -> dict[str, Any]:
    listed = {"name": each.file.name, "event_type": each.file.event_type, "lines": each.lines}
    return listed | ({"why_not": each.why_not} if each.link is None else {"seal": each.link.sha256})


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def _zip(path: Path, files: dict[str, bytes]) -> None:
    """Write a ZIP file that depends on nothing but the files, with its final name at the end."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, data in sorted(files.items()):
                entry = zipfile.ZipInfo(name)  # of 1980, whatever the clock says
                entry.external_attr = 0o600 << 16
                entry.create_system = 3
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 6)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
