"""`eventlog index` and `eventlog replay`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import click

from eventlog.cli.main import (
    EXIT_FAILED,
    awaited_root,
    draws_bars,
    existing_root,
    existing_types,
    progress_bar,
    root_option,
    say,
    tell,
    tell_json,
    with_root,
)
from eventlog.cli.text import counted, printable
from eventlog.errors import MissingExtra, QueryFailed
from eventlog.format import timestamps
from eventlog.indexer import replay as replaying
from eventlog.indexer.index.index_file import DEFAULT_TIMEOUT_S
from eventlog.indexer.indexer import Counted, Indexer
from eventlog.indexer.search.background import BackgroundFiller
from eventlog.indexer.search.filler import fill
from eventlog.indexer.summary import EVERY_S, Summary
from eventlog.indexer.views import sources
from eventlog.log import clock

_WAIT = click.option(
    "--wait",
    "wait_s",
    default=DEFAULT_TIMEOUT_S,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for others to let go of the index.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--watch", "watching", is_flag=True, help="Keep running, and index events as they are written.")
@click.option("--poll", is_flag=True, help="With --watch: no file notifications (network file systems).")
@click.option("--quiet", is_flag=True, help="Print problems only.")
@click.option(
    "--every",
    "every_s",
    default=EVERY_S,
    show_default=True,
    type=click.FloatRange(min=0),
    help="With --watch: seconds between two reports; 0 reports each batch.",
)
@click.option("--search", "fills", is_flag=True, help="Complete the search index, too; --watch does it by itself.")
@_WAIT
@_JSON
@root_option
def index(
    watching: bool, poll: bool, quiet: bool, every_s: float, fills: bool, wait_s: float, as_json: bool, root: str | None
) -> None:
    """Index the new events of the log.

    With --watch, what was indexed is summed up now and then.

    \b
    Example:
      eventlog index
      eventlog index --watch
    """
    if poll and not watching:
        raise click.UsageError("--poll goes with --watch")
    watch = _watch() if watching else None
    folder = awaited_root(root) if watching else existing_root(root)
    _warn_of_sources()

    def report(done: Counted) -> None:
        if not quiet:
            _report(done, as_json=as_json)

    with progress_bar("indexing") as progress:
        indexer = Indexer(folder, timeout_s=wait_s, say=say, progress=None if watching else progress)
        if watch is None:
            done = indexer.catch_up(progress if draws_bars() else None)
    if watch is None:
        report(done)
        if fills:
            with progress_bar("search index") as progress:
                fill(folder, rows_min=1, progress=progress)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say(f"watching {folder}; stop with Ctrl-C")
    summary = Summary(report, every_s=every_s)
    filler = BackgroundFiller(folder)

    def on_batch(done: Counted) -> None:
        summary.add(done)
        filler.add(done.events)

    watch(indexer, stop, poll=poll, say=say, on_batch=on_batch)
    filler.stop()
    summary.close()


def _warn_of_sources() -> None:
    """Name the sources whose lines will not be rows of the views. Raises InvalidSource."""
    for entry_point in sources.left_out():
        say(printable(f"warning: {entry_point}"))


def _watch() -> Callable[..., None]:
    """Import the watcher only for --watch, since it needs another package. Raises MissingExtra."""
    try:
        from eventlog.indexer.watch import watch
    except ModuleNotFoundError as error:
        raise MissingExtra(f"eventlog index --watch ({error.name} is missing)", "index") from None
    return watch


_AGE = click.option(
    "--older-than", "age", metavar="AGE", help="Time since the last write: 90s, 15m, 2h, 30d, 4w; else policies decide."
)


@click.command()
@_AGE
@click.option("--type", "event_types", metavar="T", multiple=True, help="Only this event type; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; list what would be deleted.")
@_WAIT
@_JSON
@root_option
def prune(
    age: str | None, event_types: tuple[str, ...], dry_run: bool, wait_s: float, as_json: bool, root: str | None
) -> None:
    """Delete old segments whose content is safe elsewhere.

    A segment must be sealed, unchanged since then, and either indexed or backed up. Its rows stay
    in the index, and a segment_pruned event records the deletion. Events that a policy
    (retention_set) keeps longer stay; without --older-than, policies alone decide.

    \b
    Example:
      eventlog emit retention_set '{"keep_days": 30}' --workspace acme; eventlog prune
      eventlog prune --older-than 30d --dry-run
      eventlog prune --older-than 30d --type debug
    """
    from eventlog.indexer import retention

    folder = existing_root(root)
    age_s = None if age is None else timestamps.age_s(age)
    if age is not None and age_s is None:
        raise QueryFailed(f"{age!r} is not an age; use one like 90s, 15m, 2h, 30d, 4w")
    types = existing_types(folder, event_types)
    for text in clock.warnings(folder, ["retention_set"]):
        say(f"warning: {text}")
    done = retention.prune(folder, age_s, types, dry_run=dry_run, timeout_s=wait_s)
    if as_json:
        tell_json(done)
        return
    for segment in done.pruned:
        homes = [*(["indexed"] if segment.indexed else []), *(f"backed up to {to}" for to in segment.backups)]
        size = f"{done.disk_bytes[segment.segment]:,} bytes"
        tell(printable(f"{segment.segment_type}/{segment.segment}  {size}  {' and '.join(homes)}"))
    for reason in done.retained:
        say(printable(f"kept: {reason}"))
    for problem in done.backup_problems:
        say(printable(f"not counted as a backup: {problem}"))
    verb, total = "would delete" if dry_run else "deleted", sum(done.disk_bytes.values())
    tell(f"{verb} {counted(len(done.pruned), 'segment')}, {total:,} bytes on disk")


@click.command()
@click.option("--verify", is_flag=True, help="Change nothing: compare the live index with a fresh replay.")
@_WAIT
@root_option
def replay(verify: bool, wait_s: float, root: str | None) -> int:
    """Rebuild the index from the log alone, and swap it in.

    With --verify, the new index is compared with the live one by content hash instead; the exit
    code is 1 if they differ.

    \b
    Example:
      rm ~/.local/state/eventlog/index.duckdb; eventlog replay
      eventlog replay --verify
    """
    folder = existing_root(root)
    _warn_of_sources()
    if not verify:
        with progress_bar("replaying") as progress:
            done = replaying.replay(folder, progress=progress, timeout_s=wait_s)
        tell(
            f"replayed {counted(done.digest.events, 'event')} from {counted(done.segments, 'segment')} "
            f"in {done.elapsed_s:.1f} s, {counted(done.digest.quarantined, 'line')} in quarantine\n"
            f"content hash {done.digest.content}"
        )
        for reason in done.unreadable:
            say(f"left out: {reason}")
        for remark in replaying.remarks(done):
            say(remark)
        if done.pruned:
            lines = sum(segment.lines for segment in done.pruned)
            homes = sorted({home for segment in done.pruned for home in segment.backups})
            say(
                f"{counted(lines, 'line')} of {counted(len(done.pruned), 'pruned segment')} "
                "are in no log and no index any more; "
                + (f"try: eventlog restore {homes[0]}" if homes else "no backup of them is recorded")
            )
        if not done.segments and not done.digest.events:
            say("the log is empty. (In mode db_only the index was the only copy of what it held.)")
        return EXIT_FAILED if done.unreadable else 0
    with progress_bar("replaying") as progress:
        verified = replaying.verify(folder, progress=progress, timeout_s=wait_s)
    if verified.equal:
        tell(f"equal: {counted(verified.live.events, 'event')}, content hash {verified.live.content}")
        return 0
    tell("the live index differs from a replay of its log:")
    for name in verified.live.__struct_fields__:
        live, replayed = getattr(verified.live, name), getattr(verified.replayed, name)
        if live != replayed:
            tell(f"  {name}: live {live}, replayed {replayed}")
    for row in verified.differences:
        tell(printable(f"  {row.event_type}/{row.segment}: byte {row.line_offset:,}: {row.reason}"))
    tell(with_root("try: eventlog replay"))
    return EXIT_FAILED


def _report(done: Counted, *, as_json: bool) -> None:
    if as_json:
        tell_json(done)
    else:
        rejected = f", {counted(done.rejected, 'line')} to quarantine" if done.rejected else ""
        tell(f"indexed {counted(done.events, 'event')} ({done.bytes:,} bytes){rejected}")
    sys.stdout.flush()
