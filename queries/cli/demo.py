"""`eventlog demo`: a folder with a day of made-up activity."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from eventlog.cli.main import say
from eventlog.cli.text import counted
from eventlog.config import Config
from eventlog.errors import ConfigError
from eventlog.indexer.indexer import Indexer
from eventlog.queries.cli.options import when
from eventlog.queries.demo.scenario import Scenario, write
from eventlog.record.recorder import Recorder

_TRY = """\
eventlog runs {root}
eventlog show {run} {root}
eventlog cost {root} --by agent
eventlog metrics hourly {root} --by agent
eventlog health {root}
eventlog alerts list {root}
eventlog alerts check {root}
eventlog insights {loop} {root}
eventlog search "retention raised" {root}"""


@click.command()
@click.option("--root", default="eventlog-demo", metavar="DIR", show_default=True, help="A new folder.")
@click.option("--seed", default=1, show_default=True, help="Another number tells another day.")
@click.option("--hours", default=24.0, show_default=True, type=click.FloatRange(1, 24 * 31), help="How long a day is.")
@click.option("--end", metavar="T", help="When it ends; now, if not given. With it, all ids are the same each time.")
def demo(root: str, seed: int, hours: float, end: str | None) -> None:
    """Make up a day of several agents, in a new folder.

    One of them works well, one is flaky, one loops, one is expensive, and one falls silent, so
    that every command has something to show. It never writes to your own log.

    \b
    Example:
      eventlog demo
      eventlog runs --root eventlog-demo
    """
    folder = Path(root)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; name a new folder with --root, or delete it")
    scenario = Scenario(seed, when(end) or datetime.now(UTC), hours)
    events = scenario.events()
    recorder = Recorder(Config(root=str(folder.absolute()), strict=True, operator=True))
    count = write(recorder, events)
    recorder.shutdown()
    Indexer(folder).catch_up()
    runs = [event.fields["run_id"] for event in events if "run_id" in event.fields]
    loop = max((run for run in set(runs)), key=lambda run: (runs.count(run), run))
    say(f"{counted(count, 'event')} of {hours:g} hours in {folder}; try:")
    click.echo(_TRY.format(root=f"--root {folder}", run=runs[0], loop=loop))
