"""`python -m faults`: run the campaign, print the outcomes, and write docs/reliability.md."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import click

from faults.campaign import Fault, discover, not_tried, run
from faults.outcomes import Outcomes, Verdict, in_order, load
from faults.report import write

_MINUTES, _DEEP_MINUTES = 20.0, 240.0


@click.command()
@click.option("--seed", type=int, default=None, help="Repeat an earlier campaign's choices.")
@click.option("--only", "names", metavar="NAME", multiple=True, help="Try only this one; may be given again.")
@click.option(
    "--scale", default=1.0, type=click.FloatRange(0.001, 10), show_default=True, help="Fewer or more of each."
)
@click.option("--deep", is_flag=True, help="Many times more kills at system calls: for hours.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=None,
    help=f"Begin nothing that would end later.  [default: {_MINUTES:g}; with --deep: {_DEEP_MINUTES:g}]",
)
@click.option("--resume", is_flag=True, help="Go on with what the last campaign did not try, with its seed.")
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".faults.json"),
    show_default=True,
    help="Where the outcomes are kept; --only keeps none.",
)
@click.option("--list", "listing", is_flag=True, help="List the faults and stop.")
@click.option("--write", "writing", is_flag=True, help="Write the figures into docs/reliability.md.")
def main(
    seed: int | None,
    names: tuple[str, ...],
    scale: float,
    deep: bool,
    minutes: float | None,
    resume: bool,
    results: Path,
    listing: bool,
    writing: bool,
) -> None:
    """Break eventlog on purpose and check that its promises hold.

    The exit code is 0 if all held or were skipped, 1 if one is broken, and 3 if none is broken but some were not tried
    for lack of time.
    """
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
    earlier = load(results)
    if resume:
        now, chosen = _resumed(earlier, results, known)
    else:
        seed = random.SystemRandom().randrange(10**9) if seed is None else seed
        now, chosen = Outcomes(seed=seed, scale=scale, deep=deep), list(names or known)
    now.outcomes |= {name: not_tried(known[name]) for name in chosen}
    click.echo(f"seed {now.seed}, scale {now.scale:g}{', deep' * now.deep}")
    kept = None if names else results
    _try_all(now, [known[name] for name in in_order(chosen, earlier)], earlier, kept, minutes)
    if writing:
        write(Path("docs/reliability.md"), [now.outcomes[name] for name in known if name in now.outcomes], now.seed)
    _conclude(now)


def _resumed(earlier: Outcomes | None, results: Path, known: dict[str, Fault]) -> tuple[Outcomes, list[str]]:
    """Return the last campaign, and the faults that it did not try. Raises UsageError if there is nothing to resume."""
    if earlier is None:
        raise click.UsageError(f"{results} has no campaign to go on with; run `python -m faults` first")
    kept = {name: each for name, each in earlier.outcomes.items() if name in known}
    now = Outcomes(seed=earlier.seed, scale=earlier.scale, deep=earlier.deep, outcomes=kept)
    return now, [name for name in known if name not in kept or kept[name].verdict is Verdict.NOT_TRIED]


def _try_all(
    now: Outcomes, chosen: list[Fault], earlier: Outcomes | None, results: Path | None, minutes: float | None
) -> None:
    """Try one fault after the other while there is time, and save the outcomes after each."""
    limit_s = 60 * ((_DEEP_MINUTES if now.deep else _MINUTES) if minutes is None else minutes)
    started = time.monotonic()
    if results:
        now.save(results)
    for number, each in enumerate(chosen, 1):
        elapsed_s = time.monotonic() - started
        if elapsed_s + ((earlier and earlier.expected_s(each.name)) or 0) >= limit_s:
            continue
        click.echo(f"[{number}/{len(chosen)}, {elapsed_s / 60:.1f} of {limit_s / 60:g} min] {each.name} …", err=True)
        outcome = run(each, seed=now.seed, scale=now.scale, deep=now.deep)
        now.outcomes[each.name] = outcome
        click.echo(f"{outcome.verdict:9} {outcome.elapsed_s:6.1f} s  {outcome.name}: {outcome.figure}")
        if results:
            now.save(results)


def _conclude(now: Outcomes) -> None:
    """Print what to do next, and exit with the code of the campaign."""
    broken, left = now.named(Verdict.BROKEN), now.named(Verdict.NOT_TRIED)
    if left:
        click.echo(f"not tried for lack of time: {', '.join(left)}; go on with `python -m faults --resume`", err=True)
    if broken:
        click.echo(f"broken: {', '.join(broken)}; repeat with --seed {now.seed} --only {broken[0]}", err=True)
    sys.exit(now.exit_code())


if __name__ == "__main__":
    main()
