"""`eventlog index` and `eventlog replay`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from eventlog.cli.main import EXIT_FAILED, existing_root, resolve_root, root_option, say
from indexer import replay as replaying
from indexer.index_file import DEFAULT_TIMEOUT_S
from indexer.indexer import Counted, Indexer
from indexer.watch import watch

_WAIT = click.option(
    "--wait",
    "wait_s",
    default=DEFAULT_TIMEOUT_S,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for others to let go of the index.",
)


@click.command()
@click.option("--watch", "watching", is_flag=True, help="Stay, and index events as they are written.")
@click.option("--poll", is_flag=True, help="With --watch: no file notifications (network file systems).")
@_WAIT
@root_option
def index(watching: bool, poll: bool, wait_s: float, root: str | None) -> None:
    """Load what is new in the log into the index.

    \b
    Example:
      eventlog index
      eventlog index --watch
    """
    if poll and not watching:
        raise click.UsageError("--poll goes with --watch")
    folder = resolve_root(root) if watching else existing_root(root)
    with _progress("rebuilding") as progress:
        indexer = Indexer(folder, timeout_s=wait_s, say=say, progress=progress)
        if not watching:
            _report(indexer.catch_up())
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        say(f"watching {folder}; stop with Ctrl-C")
        watch(indexer, stop, poll=poll, say=say, on_batch=_report)


@click.command()
@click.option("--verify", is_flag=True, help="Change nothing: compare the live index with a fresh replay.")
@_WAIT
@root_option
def replay(verify: bool, wait_s: float, root: str | None) -> int:
    """Rebuild the index from the log alone, and swap it in.

    With --verify, the new index is only compared with the live one, by content hash; the
    exit code is 1 where they differ.

    \b
    Example:
      rm ~/.local/state/eventlog/index.duckdb; eventlog replay
      eventlog replay --verify
    """
    folder = existing_root(root)
    if not verify:
        with _progress("replaying") as progress:
            done = replaying.replay(folder, progress=progress, timeout_s=wait_s)
        click.echo(
            f"replayed {done.digest.events:,} events from {done.segments:,} segments in {done.elapsed_s:.1f} s, "
            f"{done.digest.quarantined:,} lines in quarantine\ncontent hash {done.digest.content}"
        )
        if not done.segments and not done.digest.events:
            say("the log is empty. (In mode db_only the index was the only copy of what it held.)")
        return 0
    with _progress("replaying") as progress:
        found = replaying.verify(folder, progress=progress, timeout_s=wait_s)
    if found.equal:
        click.echo(f"equal: {found.live.events:,} events, content hash {found.live.content}")
        return 0
    click.echo("the live index differs from a replay of its log:")
    for name in found.live.__struct_fields__:
        live, replayed = getattr(found.live, name), getattr(found.replayed, name)
        if live != replayed:
            click.echo(f"  {name}: live {live}, replayed {replayed}")
    click.echo("try: eventlog replay")
    return EXIT_FAILED


def _report(counted: Counted) -> None:
    rejected = f", {counted.rejected:,} lines to quarantine" if counted.rejected else ""
    click.echo(f"indexed {counted.events:,} events ({counted.bytes:,} bytes){rejected}")
    sys.stdout.flush()


@contextmanager
def _progress(label: str) -> Iterator[replaying.Progress]:
    """A bar of bytes on standard error, where that is a terminal; it appears with the first step."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task(label, total=None)

    def step(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield step
    finally:
        bar.stop()
