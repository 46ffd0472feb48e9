"""`python -m bench`: measure, print the table, and write files and pages."""

from __future__ import annotations

import sys
import time

import click

from bench import report
from bench.case import ROUNDS, Outcome, discover, run
from bench.data import Data, InUse, default_folder
from bench.machine import describe
from bench.npm import versions as npm_versions


@click.command()
@click.option("--only", "names", metavar="NAME", multiple=True, help="Measure only this case; may be given again.")
@click.option(
    "--scale", default=1.0, type=click.FloatRange(0.0001, 10), show_default=True, help="Fewer or more events."
)
@click.option("--rounds", default=ROUNDS, type=click.IntRange(1), show_default=True, help="Of each comparison.")
@click.option("--seed", default=7, show_default=True, help="Of the generated data.")
@click.option("--list", "listing", is_flag=True, help="List the cases with their targets, and stop.")
@click.option("--write", "writing", is_flag=True, help=f"Write {', '.join(report.WRITTEN)}.")
def main(names: tuple[str, ...], scale: float, rounds: int, seed: int, listing: bool, writing: bool) -> None:
    """Measure eventlog and what people would use instead."""
    known = discover()
    if listing:
        for benchmark in known.values():
            for claim in benchmark.claims:
                click.echo(f"{benchmark.name:20} {claim.what} | {claim.against} | {report.target(claim)}")
        return
    unknown = set(names) - set(known)
    if unknown:
        raise click.UsageError(f"no case is called {', '.join(sorted(unknown))}; see --list")
    if writing and names:
        raise click.UsageError("--write takes all cases, since they are to be of one run; leave out --only")
    try:
        data = Data(default_folder(), seed)
    except InUse as error:
        raise click.ClickException(str(error)) from None
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for name in names or known:
        for outcome in run(known[name], scale=scale, rounds=rounds, data=data):
            outcomes.append(outcome)
            click.echo(report.line(outcome))
    results = report.Results(
        machine=describe(data.work, npm_versions()),
        seed=seed,
        scale=scale,
        rounds=rounds,
        took_s=round(time.monotonic() - started),
        outcomes=outcomes,
    )
    click.echo(f"\n{report.header(results)}\n")
    click.echo(report.plain_table(results))
    if writing:
        report.write(results)
        click.echo(f"wrote {', '.join(report.WRITTEN)}")
    sys.exit(any(outcome.verdict == "failed" for outcome in outcomes))


if __name__ == "__main__":
    main()
