"""`python -m bench`: its options, and what it refuses."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.case import discover


def test_the_list_names_each_claim_with_its_target() -> None:
    """Without measuring anything."""
    done = CliRunner().invoke(main, ["--list"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert len(lines) == sum(len(each.claims) for each in discover().values())
    assert "replay-1m            replay, 1M events | DuckDB, CREATE TABLE AS read_json | ≤ 0.8 ×" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "emit", "--only", "nothing"], "no case is called nothing; see --list"),
        (["--only", "emit", "--write"], "--write takes all cases, since they are to be of one run; leave out --only"),
        (["--rounds", "0"], "0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str) -> None:
    """In one line."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_quick_figures_are_written_nowhere() -> None:
    """They are of another size."""
    done = CliRunner().invoke(main, ["--quick", "--write"])
    assert done.exit_code == 2
    assert "leave out --quick" in done.output
