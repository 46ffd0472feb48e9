"""`eventlog docs`: the pages are where the package is."""

from __future__ import annotations

from tests.conftest import PROJECT, Run


def test_pages_are_listed_and_shown(run: Run) -> None:
    """By their names, however they are written."""
    listed = run("docs").stdout.splitlines()
    assert {line.split()[0] for line in listed} == {path.stem.lower() for path in (PROJECT / "docs").glob("*.md")}
    assert next(line for line in listed if line.startswith("cost ")).split(maxsplit=1)[1] == "What calls cost"
    for name in ("cost", "docs/cost.md", "COST"):
        assert run("docs", name).stdout == (PROJECT / "docs/cost.md").read_text()
    unknown = run("docs", "nothing")
    assert (unknown.returncode, unknown.stderr.partition(";")[0]) == (2, "error: there is no page 'nothing'")
