"""`python -m faults`: run the campaign, print what held, and write docs/reliability.md."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import click

from faults.campaign import CAMPAIGN_MAX_S, Outcome, discover, out_of_time, run
from faults.report import write


@click.command()
@click.option("--seed", type=int, default=None, help="Repeat an earlier campaign's choices.")
@click.option("--only", "names", metavar="NAME", multiple=True, help="Try only this one; may be given again.")
@click.option(
    "--scale", default=1.0, type=click.FloatRange(0.001, 10), show_default=True, help="Fewer or more of each."
)
@click.option("--list", "listing", is_flag=True, help="List the faults and stop.")
@click.option("--write", "writing", is_flag=True, help="Write the figures into docs/reliability.md.")
def main(seed: int | None, names: tuple[str, ...], scale: float, listing: bool, writing: bool) -> None:
    """Break eventlog on purpose and see whether its promises hold."""
    known = discover()
    if listing:
        for each in known.values():
            click.echo(f"{each.name:24} {each.title}: {each.how}")
        return
    unknown = set(names) - set(known)
    if unknown:
        raise click.UsageError(f"no fault is called {', '.join(sorted(unknown))}; see --list")
    # A shell that starts a campaign in the background lets it, and so all that it starts, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    click.echo(f"seed {seed}, scale {scale:g}")
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + CAMPAIGN_MAX_S
    for name in names or known:
        left_s = deadline - time.monotonic()
        outcome = run(known[name], seed=seed, scale=scale) if left_s > 0 else out_of_time(known[name])
        outcomes.append(outcome)
        click.echo(f"{outcome.verdict:8} {outcome.elapsed_s:6.1f} s  {outcome.name}: {outcome.figure}")
    if writing:
        write(Path("docs/reliability.md"), outcomes, seed)
    broken = [outcome.name for outcome in outcomes if outcome.verdict == "broken"]
    if broken:
        click.echo(f"broken: {', '.join(broken)}; repeat with --seed {seed} --only {broken[0]}", err=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
