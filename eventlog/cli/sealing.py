"""`eventlog seal`, `eventlog verify`, `eventlog archive`."""

from __future__ import annotations

import importlib
from typing import Any

import click
import msgspec

from eventlog.cli.main import (
    EXIT_FAILED,
    existing_root,
    existing_types,
    progress_bar,
    root_option,
    say,
    tell,
    tell_json,
    with_root,
)
from eventlog.cli.text import counted, percent, printable
from eventlog.errors import MissingExtra, QueryFailed
from eventlog.log import blobs, chains
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance import archiving, sealing, verification

_TYPES = click.option(
    "--type", "event_types", metavar="T", multiple=True, help="Only this event type; may be repeated."
)


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What `eventlog seal --json` prints: the new seals of segments, their bytes, and the head of the chain."""

    segments: int
    bytes: int
    head: str | None
    seals: list[Any]


@click.command()
@_TYPES
@_JSON
@root_option
def seal(event_types: tuple[str, ...], as_json: bool, root: str | None) -> None:
    """Seal the segments that no program is writing.

    A sealed segment is read-only, and its hash is in a chain of seals. Store the printed head
    somewhere else: it proves the chain up to it (eventlog verify --head).

    \b
    Example:
      eventlog seal
    """
    folder = existing_root(root)
    with progress_bar("sealing") as progress:
        made = sealing.seal(folder, existing_types(folder, event_types), progress=progress)
    data = [seal for seal in made if seal.segment_type != SEAL_EVENT]
    size_bytes = sum(seal.size_bytes for seal in data)
    head = sealing.head_of(folder, sealing.read_chain(folder))
    if as_json:
        head_text = None if head is None else str(head)
        tell_json(_Sealed(segments=len(data), bytes=size_bytes, head=head_text, seals=list(data)))
        return
    nothing_new = "" if data else "; every segment that no program is writing is sealed already"
    tell(f"sealed {counted(len(data), 'segment')}, {size_bytes:,} bytes{nothing_new}")
    if head is not None:
        tell(f"head {head}")


@click.command()
@click.option("--index", "with_index", is_flag=True, help="Also compare each row of the index with its line.")
@click.option("--head", "head", metavar="N:HASH", help="A head printed by `eventlog seal`, and stored elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@root_option
def verify(with_index: bool, head: str | None, as_json: bool, root: str | None) -> int:
    """Compare the log with its seals.

    Print the segment and the byte of the first difference for each segment that is not as it
    was sealed. The exit code is 1 if there is one. With --head, a segment that was pruned since that
    head was printed counts, too: anybody who could write to the log may have deleted it.

    \b
    Example:
      eventlog verify
      eventlog verify --index --json | jq .findings
    """
    folder = existing_root(root)
    with progress_bar("verifying") as progress:
        verified = verification.verify(folder, head=_head(head), progress=progress)
    if not as_json:
        _show(verified)  # before the index is opened, which may not exist
    rows = _verify_index(folder) if with_index else None
    if as_json:
        answer = msgspec.structs.asdict(verified) | ({} if rows is None else {"index": rows})
        tell_json(answer)
    elif rows is not None:
        _show_rows(rows)
    return EXIT_FAILED if verified.findings or (rows is not None and not rows.equal) else 0


def _head(text: str | None) -> chains.Head | None:
    if text is None:
        return None
    number, _, sha256 = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(sha256) == 64):
        raise QueryFailed(f"{text!r} is not a head; it looks like 12:9f86d0… (64 digits), as `eventlog seal` prints it")
    return chains.Head(int(number), sha256.lower())


def _verify_index(folder: str) -> Any:
    try:
        # By name: the write side must not depend on the index side.
        replay = importlib.import_module("eventlog.indexer.replay")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"eventlog verify --index ({error.name} is missing)", "index") from None
    with progress_bar("comparing rows") as progress:
        return replay.verify(folder, progress=progress)


def _show(result: verification.Verified) -> None:
    for finding in result.findings:
        path = f"{finding.event_type}/{finding.segment}" if finding.segment else finding.event_type
        about = "" if finding.exact else " or later" if finding.event_type == blobs.FOLDER else " or later in this line"
        tell(printable(f"{path}: byte {finding.offset:,}{about}: {finding.detail}"))
    verdict = "all as sealed" if result.sealed_segments else with_root("nothing to compare (try: eventlog seal)")
    tell(
        f"{counted(result.sealed_segments, 'sealed segment')} ({result.sealed_bytes:,} bytes), "
        f"{counted(len(result.findings), 'finding') if result.findings else verdict}; "
        f"{result.pruned_segments:,} pruned; {result.unsealed_segments:,} not sealed yet "
        f"({result.unsealed_bytes:,} bytes)"
        + (f"; {counted(result.blobs, 'blob')} ({result.blob_bytes:,} bytes)" if result.blobs else "")
    )
    for stray in result.strays:
        tell(printable(f"{stray.event_type}/{stray.segment}: byte {stray.offset:,}: {stray.detail}"))
    for fork in result.forks:
        tell(
            f"fork: the seals of {_origin(fork.origin)} part behind seal {fork.after:,}: two copies of one root have "
            f"sealed under its id. Each part was compared; they end at {' and '.join(fork.heads)}"
            if fork.origin is not None
            else f"{len(fork.heads):,} chains of seals without an origin part behind seal {fork.after:,}: the logs of "
            f"several roots, or of copies. Each was compared; they end at {' and '.join(fork.heads)}"
        )
    for chain in result.chains:
        if chain.head != result.head:
            tell(f"another chain, of {_origin(chain.origin)}: head {chain.head}")
    if result.head is not None:
        tell(f"head {result.head}")


def _origin(origin: str | None) -> str:
    return "no origin" if origin is None else f"origin {origin}"


def _show_rows(rows: Any) -> None:
    for row in rows.differences:
        tell(printable(f"{row.event_type}/{row.segment}: byte {row.line_offset:,}: {row.reason}"))
    carried = f", but {rows.carried:,} whose segment was pruned or released" if rows.carried else ""
    verdict = f"each equal to its line{carried}" if rows.equal else "not all as the log has them; try: eventlog replay"
    tell(f"{counted(rows.live.events, 'row')}, {verdict}")


@click.command()
@_TYPES
@click.option("--level", default=archiving.LEVEL, type=click.IntRange(1, 19), show_default=True, help="Of zstd.")
@_JSON
@root_option
def archive(event_types: tuple[str, ...], level: int, as_json: bool, root: str | None) -> int:
    """Compress sealed segments with zstd.

    They stay where they are, and every command reads them as before.

    \b
    Example:
      eventlog seal && eventlog archive
    """
    folder = existing_root(root)
    with progress_bar("archiving") as progress:
        done = archiving.archive_sealed(folder, existing_types(folder, event_types), level=level, progress=progress)
    if as_json:
        tell_json(done)
        return EXIT_FAILED if done.refused else 0
    for reason in done.refused:
        say(f"not archived: {reason}")
    ratio = f" ({percent(done.bytes_after, done.bytes_before)})" if done.bytes_before else ""
    sizes = f"{done.bytes_before:,} bytes on disk are now {done.bytes_after:,}{ratio}"
    tell(
        f"archived {counted(done.segments, 'segment')}: {sizes}"
        if done.segments
        else with_root("archived nothing: every sealed segment is archived already; to seal more, run: eventlog seal")
    )
    return EXIT_FAILED if done.refused else 0
