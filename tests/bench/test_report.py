"""The table, the page and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from bench import expectations, picture, report
from bench.case import Claim, Outcome, Side, discover
from bench.machine import describe
from bench.measure import PROJECT

RATIO = Claim(name="time", what="replay, 1M events", against="DuckDB | read_json", limit=0.8)
FASTER = Claim(name="q", what="tokens by model", against="SQLite", limit=10, unit="× faster", at_least=True)
OUTCOMES = [
    Outcome(
        case="replay", claim=RATIO, verdict="met", value=0.4, note="1,000,000 events",
        ours=Side(value=1.0, unit="s", samples=[1.0, 1.1, 0.9], peak_bytes=100 * 1024**2),
        peer=Side(value=2.5, unit="s"),
    ),
    Outcome(case="aggregates", claim=FASTER, verdict="missed", value=4.0),
    Outcome(case="cost", claim=RATIO, verdict="skipped", reason="npm is not installed"),
]  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> report.Results:
    return report.Results(machine=describe(tmp_path), seed=7, scale=1.0, rounds=5, took_s=60, outcomes=OUTCOMES)


def test_the_table_has_a_line_for_each_claim() -> None:
    """Also for what was skipped."""
    assert report.markdown_table(OUTCOMES).splitlines() == [
        "| what | against | ours | peer | ratio | target | met |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| replay, 1M events (1,000,000 events) | DuckDB / read_json | 1 s, 100 MiB | 2.5 s | 0.4 × | ≤ 0.8 × | met |",
        "| tokens by model | SQLite |  |  | 4 × faster | ≥ 10 × faster | not met |",
        "| replay, 1M events | DuckDB / read_json |  |  |  | ≤ 0.8 × | skipped: npm is not installed |",
    ]


def test_the_header_says_what_it_was_measured_on(results: report.Results) -> None:
    """Without names of machines and people, or paths."""
    words = report.header(results)
    assert "cores" in words
    assert "duckdb" in words
    assert "medians of 5 rounds or more" in words
    assert "too small for conclusions" in report.header(msgspec.structs.replace(results, scale=0.02))
    assert str(Path.home()) not in words


def test_writing_replaces_what_stands_between_the_markers(results: report.Results, tmp_path: Path) -> None:
    """And nothing else of the page; twice gives the same."""
    for folder in ("bench", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / report.EXPECTED).write_text("# To expect\n<!-- figures: begin -->\n<!-- figures: end -->\n")
    page = tmp_path / report.PAGE
    page.write_text("# Before\n\n<!-- figures: begin -->\nold\n<!-- figures: end -->\n\nAfter.\n")
    report.write(results, tmp_path)
    first = page.read_text()
    assert first.startswith("# Before\n\n<!-- figures: begin -->\n![")
    assert first.endswith("not installed |\n<!-- figures: end -->\n\nAfter.\n")
    report.write(results, tmp_path)
    assert page.read_text() == first
    kept = msgspec.json.decode((tmp_path / report.RESULTS).read_bytes(), type=report.Results)
    assert kept == results
    assert str(tmp_path) not in (tmp_path / report.RESULTS).read_text()
    assert "| `eventlog replay` of 1 million events of 800 bytes | – | – |" in (tmp_path / report.EXPECTED).read_text()


def test_the_pages_show_the_figures_of_the_last_run() -> None:
    """Both pages, to the letter: nobody edits a figure by hand."""
    found = msgspec.json.decode((PROJECT / report.RESULTS).read_bytes(), type=report.Results)
    for page, text in report.pages(found).items():
        assert f"<!-- figures: begin -->\n{text}\n<!-- figures: end -->" in (PROJECT / page).read_text(), page


def test_what_to_expect_is_measured() -> None:
    """Each row is the figure of a claim that exists; one that was not measured is a dash."""
    claims = {(case.name, claim.name) for case in discover().values() for claim in case.claims}
    rows = (*expectations.ROWS, *expectations.SHARES, *expectations.IDLE)
    assert {(row.case, row.claim) for row in rows} <= claims
    replay = msgspec.structs.replace(OUTCOMES[0], case="replay-1m")
    lines = expectations.table([replay]).splitlines()
    assert "| `eventlog replay` of 1 million events of 800 bytes | 1 s | 100 MiB |" in lines
    assert "| size of the index, as a share of the log | – | |" in lines


def test_the_picture_is_svg_with_a_bar_for_each_figure() -> None:
    """Left of the line is met, in both directions."""
    drawn = ET.fromstring(picture.draw(OUTCOMES))
    bars = drawn.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["met", "missed"]
    lengths = [float(bar.get("width") or 0) for bar in bars]
    target = picture.place(1.0) * picture._BARS
    assert lengths[0] < target < lengths[1]
    assert "prefers-color-scheme: dark" in picture.draw(OUTCOMES)


def test_shares_of_a_target() -> None:
    """At least 10 and found 5 is twice what it should be; the scale has ends."""
    assert picture.share_of_target(RATIO, 0.4) == 0.5
    assert picture.share_of_target(FASTER, 5) == 2
    assert picture.place(picture.share_of_target(FASTER, 0)) == 1
    assert picture.place(0) == 0
    nothing = Claim(name="n", what="", against="", limit=0)
    assert picture.place(picture.share_of_target(nothing, 0)) == 0
    assert picture.place(picture.share_of_target(nothing, 1)) == 1
    assert picture.draw([]).startswith("<svg")
