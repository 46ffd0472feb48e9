"""`eventlog doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import click

from eventlog.cli.main import EXIT_FAILED, root_option, tell_json, with_root
from eventlog.cli.text import printable
from eventlog.queries import doctor as doctors
from eventlog.queries.doctor.finding import Finding, Level

_COLOURS = {Level.OK: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of findings.")
@root_option
def doctor(as_json: bool, root: str | None) -> int:
    """Check the root and its machine, and say what to do.

    It changes nothing. The exit code is 1 where it finds a problem; notes and warnings are none.

    \b
    Example:
      eventlog doctor
      eventlog doctor --json | jq '.[] | select(.level != "ok")'
    """
    findings = doctors.diagnose(root)
    if as_json:
        tell_json(findings)
    else:
        click.echo("\n".join(_lines(findings)))
    return EXIT_FAILED if doctors.worst(findings) is Level.PROBLEM else 0


def _lines(findings: list[Finding]) -> Iterator[str]:
    """One line per finding, grouped by check, and below it what to do."""
    width = max(len(each.check) for each in findings)
    before = ""
    for each in findings:
        mark = click.style(f"{each.level.value:7}", fg=_COLOURS[each.level])
        yield f"{each.check if each.check != before else '':{width}}  {mark}  {printable(each.what)}"
        before = each.check
        if each.what_to_do is not None:
            yield f"{'':{width + 9}}  → {printable(with_root(each.what_to_do))}"
    counts: Counter[Level] = Counter(each.level for each in findings if each.level is not Level.OK)
    yield (
        ", ".join(
            f"{counts[level]} {level.value}{'s' if counts[level] > 1 else ''}"
            for level in reversed(Level)
            if counts[level]
        )
        or "all is well"
    )
