"""The floors: each target that stands on one has its part, and the parts run. Nothing here looks at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import asking, floors
from bench.case import Bench, Skipped
from bench.data import Data
from bench.floors import PARTS, Measured


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Bench]:
    data = Data(tmp_path / "data", seed=1)
    return (Bench(scale=0.001, rounds=1, data=data, folder=data.work / str(number)) for number in count())


def test_every_floor_is_measured_once() -> None:
    """In the order of the table."""
    assert [name for names in PARTS for name in names] == list(floors._FLOORS)


def test_floors_stand_in_a_table_with_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the marks on the page, and nothing else is touched; what could not be measured says why."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{floors._BEGIN}\nold\n{floors._END}\nafter\n")
    monkeypatch.setattr(floors, "_PAGE", page)
    found: dict[str, Measured] = {
        "emit": (4.5e-6, 9e-6), "import": (0.06, 0.04), "cost": "skipped: no npm", "runs-json": (0.001, 0.0095),
    }  # fmt: skip
    floors.write(floors.table(found))
    assert page.read_text() == (
        "before\n<!-- floors: begin -->\n"
        "| the least | | against | | ratio | asked of the whole |\n"
        "| --- | ---: | --- | ---: | ---: | ---: |\n"
        "| encode, make id and time, os.write; all else hard-coded | 4.5 µs | structlog + orjson | 9 µs | 0.5 ×"
        " | ≤ 0.5 × |\n"
        "| python -c 'import msgspec' | 60 ms | python -c 'import logging, json' | 40 ms | 1.5 × | ≤ 1.5 × |\n"
        "| python -c with duckdb: open the index, count its rows | | ccusage daily --offline | | skipped: no npm"
        " | ≤ 1 × |\n"
        "| runs by agent over a table of nothing but these rows and columns | 1 ms | JSON extraction from the index"
        " | 9.5 ms | 9.5 × faster | ≥ 20 × faster |\n"
        "<!-- floors: end -->\nafter\n"
    )


@pytest.mark.parametrize("part", ["_loading", "_asking", "_starting"])
def test_parts_run_at_a_tiny_size(part: str, benches: Iterator[Bench]) -> None:
    """Each ends with two times; those that need no peers."""
    (names,) = [names for names, each in PARTS.items() if each is getattr(floors, part)]
    found = floors.measure(benches, {names: getattr(floors, part)})
    assert tuple(found) == names
    for measured in found.values():
        assert isinstance(measured, tuple)
        assert min(measured) > 0


def test_what_cannot_be_measured_here_keeps_its_rows(benches: Iterator[Bench]) -> None:
    """With the reason; the other parts are measured all the same."""

    def skip(bench: Bench) -> dict[str, Measured]:
        raise Skipped("no real data")

    found = floors.measure(benches, {("cost",): skip, ("emit", "batch"): lambda _: {"emit": (1, 2), "batch": (3, 4)}})
    assert found == {"cost": "skipped: no real data", "emit": (1, 2), "batch": (3, 4)}


def test_the_page_is_of_a_whole_run() -> None:
    """A small one shows that everything works, and nothing else."""
    done = CliRunner().invoke(floors.main, ["--scale", "0.1", "--write"])
    assert done.exit_code == 2
    assert "at full size" in done.output


def test_ways_to_ask_take_turns_in_both_orders() -> None:
    """What one has left in the processor's caches, or thrown out of them, is not always the same one's."""
    asked: list[str] = []

    def way(name: str) -> asking.Rows:
        asked.append(name)
        return [[1]]

    ways: dict[str, Callable[[], asking.Rows]] = {name: partial(way, name) for name in ("typed", "json", "sqlite")}
    seconds = asking._ask("any", ways, 2)
    assert asked == ["typed", "json", "sqlite", "sqlite", "json", "typed", "typed", "json", "sqlite"]
    assert {name: len(taken) for name, taken in seconds.items()} == {"typed": 2, "json": 2, "sqlite": 2}
