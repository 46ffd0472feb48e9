"""`eventlog backup` and `eventlog restore`."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import click

from eventlog.cli.main import EXIT_FAILED, existing_root, progress_bar, resolve_root, root_option, say, tell, tell_json
from eventlog.cli.text import counted, printable
from eventlog.errors import ConfigError
from eventlog.maintenance import backup as backing
from eventlog.maintenance import restore as restoring
from eventlog.maintenance.destination import Destination, is_inside, open_destination

_SHOWN_FAILURES = 20
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


class _Share(click.ParamType[float]):
    """A share in percent, such as `10%`, as a number from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _PERCENT.fullmatch(str(value))
        percent = float(match[1]) if match else 0
        if not 0 < percent <= 100:
            self.fail(f"{value!r} is not a share; it looks like 10%", param, ctx)
        return percent / 100


class _BackupCommand(click.Command):
    """Reads `--verify` as `--verify=100%`, unless a share follows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        pairs = itertools.zip_longest(args, args[1:], fillvalue="")
        return super().parse_args(ctx, [_with_share(arg, follower) for arg, follower in pairs])


def _with_share(arg: str, follower: str) -> str:
    return "--verify=100%" if arg == "--verify" and not _PERCENT.fullmatch(follower) else arg


@click.command(cls=_BackupCommand)
@click.argument("destination", metavar="DEST")
@click.option("--dry-run", is_flag=True, help="Print what would be copied, and change nothing.")
@click.option(
    "--verify",
    "share",
    type=_Share(),
    metavar="[SHARE]",
    default=None,
    help="Check the backup's objects, and copy damaged ones again. With 10%: a tenth of them, in turn.",
)
@_JSON
@root_option
def backup(destination: str, dry_run: bool, share: float | None, as_json: bool, root: str | None) -> int:
    """Copy new parts of the log to a folder, a file or an S3 bucket.

    Each segment is read back and compared by SHA-256 before it counts. The next run continues
    an interrupted one. A file is one whose name ends in .tar.zst or .tar.gz. A bucket needs
    agent-eventlog[s3], and the usual AWS_* variables.
    The exit code is 1 where a line names a blob that neither side has whole.

    \b
    Example:
      eventlog backup /mnt/usb/eventlog
      eventlog backup laptop.tar.zst
      eventlog backup s3://my-bucket/laptop --verify 10%
    """
    folder = existing_root(root)
    target = _outside(open_destination(destination), folder)
    with progress_bar("backing up") as progress:
        done = backing.backup(folder, target, say=_say, progress=progress, dry_run=dry_run, check_share=share or 0.0)
    if as_json:
        tell_json(done)
        return EXIT_FAILED if done.failures else 0
    verb = "would copy" if dry_run else "copied"
    tell(f"{verb} {_segments(done.copied, done.copied_bytes)} to {target.name}; {done.present:,} there already")
    if done.blobs_copied or done.blobs_present:
        size = f"{counted(done.blobs_copied, 'blob')} ({done.blobs_copied_bytes:,} bytes)"
        tell(f"{verb} {size}; {done.blobs_present:,} there already")
    if share is not None:
        repaired = done.damaged - done.still_damaged
        tell(
            f"read {counted(done.checked, 'object')} again ({done.checked_bytes:,} bytes): "
            + (f"{done.damaged:,} damaged, {max(repaired, 0):,} copied again" if done.damaged else "all as stored")
        )
    return _exit_code(done.failures)


@click.command()
@click.argument("source", metavar="SRC")
@click.option("--dry-run", is_flag=True, help="Print what would be restored, and change nothing.")
@_JSON
@root_option
def restore(source: str, dry_run: bool, as_json: bool, root: str | None) -> int:
    """Restore the log from a backup.

    It works in an empty folder, and in a log that has a part of the backup. A segment that is longer in
    the log, or different, is never overwritten; the exit code is 1 if one differs or is damaged.

    \b
    Example:
      eventlog restore s3://my-bucket/laptop --root ~/restored
      eventlog restore laptop.tar.zst --root ~/restored
      eventlog replay --root ~/restored
    """
    folder = resolve_root(root)
    backed_up = _outside(open_destination(source), folder)
    with progress_bar("restoring") as progress:
        done = restoring.restore(folder, backed_up, progress=progress, dry_run=dry_run)
    if as_json:
        tell_json(done)
        return EXIT_FAILED if done.failures else 0
    verb = "would restore" if dry_run else "restored"
    tell(f"{verb} {_segments(done.restored, done.restored_bytes)} to {folder}; {done.present:,} there already")
    if done.blobs_restored or done.blobs_present:
        tell(f"{verb} {counted(done.blobs_restored, 'blob')}; {done.blobs_present:,} there already")
    for message in done.renamed:
        _say(message)
    if done.restored and not dry_run:
        say(f"next: eventlog replay --root {shlex.quote(folder)}")
    return _exit_code(done.failures)


def _outside(destination: Destination, root: str) -> Destination:
    """Return the destination. Raises ConfigError if it is inside the root, where it would be part of the log."""
    if is_inside(destination, Path(root)):
        raise ConfigError(
            f"{destination.name} is inside {root}; keep the backup somewhere else, on another disk at best"
        )
    return destination


def _segments(count: int, size_bytes: int) -> str:
    return f"{counted(count, 'segment')} ({size_bytes:,} bytes on disk)"


def _exit_code(failures: list[str]) -> int:
    for failure in failures[:_SHOWN_FAILURES]:
        _say(failure)
    if len(failures) > _SHOWN_FAILURES:
        say(f"… and {len(failures) - _SHOWN_FAILURES:,} more")
    if failures:
        say(f"error: {len(failures):,} of them failed; the others are done")
    return EXIT_FAILED if failures else 0


def _say(message: str) -> None:
    """Print a message that may contain foreign text, from a manifest or a folder."""
    say(printable(message))
