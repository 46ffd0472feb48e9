"""`python -m bench`: measure, print the table, and write files and pages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import click

from bench import history, report
from bench.case import ROUNDS, Case, Outcome, discover, run
from bench.data import Data, InUse, default_folder
from bench.machine import describe
from bench.npm import versions as npm_versions

QUICK_SCALE = 0.1
#: What takes minutes even at that scale.
LONG = ("replay-5m", "growth")


@click.command()
@click.option("--only", "names", metavar="NAME", multiple=True, help="Measure only this case; may be given again.")
@click.option(
    "--scale", default=1.0, type=click.FloatRange(0.0001, 10), show_default=True, help="Fewer or more events."
)
@click.option("--rounds", default=ROUNDS, type=click.IntRange(1), show_default=True, help="Of each comparison.")
@click.option("--seed", default=7, show_default=True, help="Of the generated data.")
@click.option("--quick", is_flag=True, help=f"In some five minutes: scale {QUICK_SCALE:g}, without {', '.join(LONG)}.")
@click.option("--list", "listing", is_flag=True, help="List the cases with their targets, and stop.")
@click.option("--write", "writing", is_flag=True, help=f"Write {', '.join(report.WRITTEN)}.")
def main(
    names: tuple[str, ...], scale: float, rounds: int, seed: int, quick: bool, listing: bool, writing: bool
) -> None:
    """Measure eventlog and what people would use instead.

    A run of all cases is added to the history. The exit code is 1 if a case failed, or a claim is not met that was in
    the last run of this processor and scale; such a case is measured again first.
    """
    known = discover()
    if listing:
        for benchmark in known.values():
            for claim in benchmark.claims:
                click.echo(f"{benchmark.name:20} {claim.what} | {claim.against} | {report.target(claim)}")
        return
    unknown = set(names) - set(known)
    if unknown:
        raise click.UsageError(f"no case is called {', '.join(sorted(unknown))}; see --list")
    if writing and (names or quick):
        raise click.UsageError(
            f"--write takes all cases, since they are to be of one run; leave out {'--only' if names else '--quick'}"
        )
    if quick:
        scale = QUICK_SCALE
    try:
        data = Data(default_folder(), seed)
    except InUse as error:
        raise click.ClickException(str(error)) from None
    machine = describe(data.work, npm_versions())
    before = history.last(processor=machine.processor, scale=scale)
    cases = [known[name] for name in names or known if not (quick and name in LONG)]
    started = time.monotonic()
    outcomes = _measured(cases, before, scale=scale, rounds=rounds, data=data)
    results = report.Results(
        machine=machine,
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
    lost = history.lost(outcomes, before)
    for outcome in lost:
        click.echo(f"LOST: {report.line(outcome).strip()}, and it was met the last time")
    if not names:
        history.append(history.entry(outcomes, processor=machine.processor, scale=scale))
    sys.exit(bool(lost) or any(outcome.verdict == "failed" for outcome in outcomes))


def _measured(
    cases: Sequence[Case], before: history.Entry | None, *, scale: float, rounds: int, data: Data
) -> list[Outcome]:
    """Measure cases; those that have lost what they had met are measured again, with twice the rounds."""
    outcomes: list[Outcome] = []
    for each in cases:
        of_case = list(_shown(run(each, scale=scale, rounds=rounds, data=data)))
        if history.lost(of_case, before):
            click.echo(f"{each.name} was better the last time; measuring it again")
            of_case = list(_shown(run(each, scale=scale, rounds=2 * rounds, data=data)))
        outcomes += of_case
    return outcomes


def _shown(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        click.echo(report.line(outcome))
        yield outcome


if __name__ == "__main__":
    main()
