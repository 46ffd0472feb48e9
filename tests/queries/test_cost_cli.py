"""`eventlog cost`, as people and programs see it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.queries.text import bars, units
from tests.conftest import Run
from tests.queries.calls import call, price, recorded

#: Of the columns of a table.
WIDTHS = (10, 7, 5, 6, 6, 11, 10, 6, 7, 13, 14)


def some(root: Path) -> None:
    recorded(
        root,
        call("2026-03-01T10:00:00Z", "claude-opus-4-5", 150_000, 1_000_000, agent="planner"),
        call("2026-03-01T11:00:00Z", "claude-opus-4-5", 0, 0, 0, 0, 100_000, agent="coder"),
        call("2026-03-03T11:00:00Z", "claude-haiku-4-5", 123, 0, 0, 0, 4, agent="coder"),
        call("2026-03-03T12:00:00Z", "qwen's \x1b[31m", 1_500, agent="coder", provider_name="local"),
    )


def cells(output: str) -> list[list[str]]:
    """The cells of a plain table, row by row."""
    lines = [line.strip("|") for line in output.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_costs_per_day_by_agent(run: Run, root: Path) -> None:
    """A table with a total, a plot, and below it what has no price, with the command that gives it one."""
    some(root)
    done = run("cost", "daily", "--by", "agent", "--utc")
    assert (done.returncode, done.stderr) == (0, "")
    table, plot = done.stdout.split("+\n2026", 1)
    assert table.splitlines()[1:] == [
        "|day (UTC)  | agent   | calls |  input | output | cache write | cache read | tokens |    cost | cache savings "
        "| unpriced calls|",
        f"+{'-+-'.join('-' * width for width in WIDTHS)}+",
        "|2026-03-01 | coder   |     1 |      0 | 100.0k |           0 |          0 | 100.0k |   $2.50 |         $0.00 "
        "|               |",
        "|2026-03-01 | planner |     1 | 150.0k |      0 |           0 |       1.0M |   1.1M |   $1.25 |         $4.50 "
        "|               |",
        "|2026-03-03 | coder   |     2 |   1.6k |      4 |           0 |          0 |   1.6k | $0.0001 |         $0.00 "
        "|              1|",
        "|total      |         |     4 | 151.6k | 100.0k |           0 |       1.0M |   1.3M |   $3.75 |         $4.50 "
        "|              1|",
        f"+{'-+-'.join('-' * width for width in WIDTHS)}",
    ]
    bars = ("2026" + plot).splitlines()
    assert bars[0] == f"2026-03-01  {'█' * 59}    $3.75"
    assert bars[1] == f"2026-03-03  ▏{' ' * 58}  $0.0001"
    assert all(len(bar) == 80 for bar in bars[:2])
    assert bars[2:4] == [
        "1 call has no price, and so no place in these sums:",
        "  qwen's �[31m (local): 1 call, 1.5k tokens, 2026-03-03; no price is known",
    ]
    assert bars[4].startswith("    → eventlog emit price_set ")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((4_000,), "1 call looks cut short: its output tokens are too few for what it wrote; those missing are in no "
                   "sum, which cost about $0.0333 more (eventlog docs cost, Exact)"),
        ((4_000, 4_000), "2 calls look cut short: their output tokens are too few for what they wrote; those missing "
                         "are in no sum, which cost about $0.0666 more (eventlog docs cost, Exact)"),
        ((7,), None),
    ],
)  # fmt: skip
def test_calls_that_look_cut_short_are_said(
    run: Run, tmp_path: Path, answers: tuple[int, ...], said: str | None
) -> None:
    """One token of output for so many characters, without a stop reason: (4,000 / 3 - 1) tokens at $25 per million."""
    pytest.importorskip("genai_prices")
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(_answer(number, chars)) + "\n" for number, chars in enumerate(answers)))
    assert run("import", "claude-code", str(path)).returncode == 0
    run("index")
    told = [line for line in run("cost").stdout.splitlines() if "cut short" in line]
    assert told == ([] if said is None else [said])
    total = json.loads(run("cost", "--json").stdout)["total"]
    assert total["cut_short_calls"] == (0 if said is None else len(answers))


def _answer(number: int, chars: int) -> dict[str, object]:
    """A line of Claude Code whose usage is that of a line in mid-stream."""
    message = {
        "id": f"msg_{number:020}", "role": "assistant", "model": "claude-opus-4-5-20251101", "stop_reason": None,
        "content": [{"type": "text", "text": "x" * chars}], "usage": {"input_tokens": 3, "output_tokens": 1},
    }  # fmt: skip
    return {
        "type": "assistant", "sessionId": "s", "uuid": f"00000000-aaaa-4aaa-8aaa-{number:012}",
        "timestamp": "2026-03-01T10:00:00.000Z", "requestId": f"req_{number:020}", "message": message,
    }  # fmt: skip


def test_the_command_that_is_proposed_gives_the_price(run: Run, root: Path) -> None:
    """With amounts in place of the dots, it works as it stands, from the first call on."""
    recorded(root, call("2026-03-03T12:00:00Z", "it's", 2_000_000, provider_name="local", service_tier="turbo"))
    (proposed,) = re.findall(r"→ eventlog (.*)$", run("cost").stdout, re.MULTILINE)
    assert run(*shlex.split(proposed.replace("…", "1.5"))).returncode == 0
    Indexer(root).catch_up()
    assert ReadStore(root).costs().total.cost_usd == 3


def test_daily_is_what_cost_does_if_nothing_else_is_said(run: Run, root: Path) -> None:
    """With all of its options but groups, which have one total each."""
    some(root)
    for options in ([], ["--budget", "7"], ["--since", "2026-03-02", "--json"]):
        assert (
            run("cost", *options).stdout.split('"elapsed_s"')[0]
            == (run("cost", "daily", *options).stdout.split('"elapsed_s"')[0])
        )


def test_json_has_decimals_as_text(run: Run, root: Path) -> None:
    """All that the report holds, to the last digit."""
    some(root)
    found = json.loads(run("cost", "monthly", "--by", "model", "--json").stdout)
    assert [(row["start"], row["group"], row["cost_usd"]) for row in found["rows"]] == [
        ("2026-03-01T00:00:00Z", "claude-opus-4-5", "3.75"),
        ("2026-03-01T00:00:00Z", "claude-haiku-4-5", "0.000143"),
        ("2026-03-01T00:00:00Z", "qwen's \x1b[31m", None),
    ]
    assert found["total"]["cost_usd"] == "3.750143"
    assert found["unpriced"][0]["because"] == "no price is known"
    assert found["today"]["cost_usd"] == "0"


def test_weeks_have_their_numbers(run: Run, root: Path) -> None:
    """Those of ISO 8601; one period needs no plot."""
    some(root)
    lines = run("cost", "weekly", "--utc").stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")] == [
        "week (UTC)",
        "2026-W09",
        "2026-W10",
        "total",
    ]
    assert "█" not in run("cost", "monthly").stdout  # fmt: skip


def test_recompute_shows_old_new_and_difference(run: Run, root: Path) -> None:
    """And changes nothing."""
    recorded(
        root, price("m", "1", "1"), price("m", "3", "1", effective_from="2026-06-01T00:00:00Z"),
        call("2026-03-01", "m", 1_000_000), call("2026-03-01", "nobody", 1),
    )  # fmt: skip
    done = run("cost", "recompute", "--as-of", "2026-07-01", "--utc")
    assert cells(done.stdout) == [
        ["model", "calls", "at their time", "as of 2026-07-01 00:00Z", "difference", "unpriced calls"],
        ["m", "1", "$1.00", "$3.00", "$2.00", ""],
        ["nobody", "1", "–", "–", "–", "1 → 1"],
        ["total", "2", "$1.00", "$3.00", "$2.00", "1 → 1"],
    ]
    as_json = json.loads(run("cost", "recompute", "--as-of", "2026-07-01", "--by", "agent", "--json").stdout)
    assert (as_json["as_of"], as_json["total"]["difference_usd"]) == ("2026-07-01T00:00:00Z", "2")
    assert run("cost", "recompute", "--as-of", "soon").returncode == 2
    assert run("cost", "recompute").returncode == 2


def in_terminal(root: Path, columns: int, *arguments: str) -> list[str]:
    """What a command prints in a terminal of a width."""
    command = shlex.join([sys.executable, "-m", "eventlog", *arguments, "--root", str(root)])
    done = subprocess.run(
        ["script", "-qec", f"stty cols {columns} rows 50; {command}", "/dev/null"], capture_output=True, text=True,
        timeout=60, check=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_narrow_terminal_has_a_line_per_row_and_fewer_columns(root: Path) -> None:
    """Of costs and of metrics; what says least is left out first."""
    some(root)
    by_day = ("cost", "daily", "--by", "agent", "--utc")
    assert in_terminal(root, 60, *by_day)[:5] == [
        "day (UTC)   agent     input  output  tokens     cost",
        "2026-03-01  coder         0  100.0k  100.0k    $2.50",
        "2026-03-01  planner  150.0k       0    1.1M    $1.25",
        "2026-03-03  coder      1.6k       4    1.6k  $0.0001",
        "total                151.6k  100.0k    1.3M    $3.75",
    ]
    assert in_terminal(root, 120, *by_day)[0].split("  ")[-2:] == ["cache savings", "unpriced calls"]
    assert in_terminal(root, 50, *by_day)[1] == "2026-03-01  coder         0  100.0k    $2.50"
    lines = in_terminal(root, 80, "metrics", "--by", "agent", "--utc")
    assert lines[0].split()[:4] == ["start", "(UTC)", "agent", "calls"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["2026-03-01", "coder"], ["2026-03-01", "planner"], ["2026-03-03", "coder"],
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80


def test_a_narrow_terminal_leaves_columns_out_before_it_cuts_names(root: Path) -> None:
    """And says the rest in lines that fit, but for commands, which are on one line each."""
    model = "claude-sonnet-4-5-20250929"
    recorded(
        root,
        call("2026-03-01T10:00:00Z", model, 150_000),
        call("2026-03-02T10:00:00Z", "my-own-model-of-some-kind", 1_500),
    )
    for columns, names in ((80, {model, "my-own-model-of-some-kind"}), (60, {model, "my-own-model-of-some-kind"})):
        lines = in_terminal(root, columns, "cost", "daily", "--by", "model", "--utc")
        assert {line.split()[1] for line in lines if line.startswith("2026")} >= names
        assert all(len(line) <= columns or line.startswith("    → ") for line in lines)
    assert "$0.4500" in in_terminal(root, 40, "cost", "daily", "--by", "model", "--utc")[1]


def test_prices_of_the_models_in_use(run: Run, root: Path) -> None:
    """With band, times, match and version."""
    recorded(root, call("2026-03-01", "claude-opus-4-6", 1), call("2026-03-01", "nobody", 1))
    rows = cells(run("cost", "prices").stdout)
    assert rows[1] == [
        "claude-opus-4-6 (anthropic)", "up to 200,000 input tokens", "", "2026-03-13", "5", "0.5", "6.25", "10", "25",
        "0.01", "anthropic:claude-opus-4-6", "genai-prices 0.2.3",
    ]  # fmt: skip
    assert rows[4][:2] + rows[4][10:] == ["nobody", "standard", "no price", ""]
    found = json.loads(run("cost", "prices", "opus", "--json").stdout)
    assert [each["rate"]["output"] for each in found["prices"]] == ["25", "25", "37.5"]
    missing = run("cost", "prices", "gpt")
    assert (missing.returncode, missing.stderr) == (
        2, "error: no such model is in use; try: eventlog cost prices\n",
    )  # fmt: skip


def test_an_index_without_calls(run: Run, root: Path) -> None:
    """Says so."""
    recorded(root, price("m", "1", "1"))
    done = run("cost")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no such model calls; record some with obs.run(…), or import some: eventlog import --help\n"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "–"), ("0", "$0.00"), ("0.00004", "$0.00004"), ("0.0001", "$0.0001"), ("0.99995", "$1.0000"),
        ("0.0000123456785", "$0.000012346"), ("0.0000000004", "under $0.000000001"), ("0.00125", "$0.0013"),
        ("2.005", "$2.01"), ("1", "$1.00"), ("1234567.895", "$1,234,567.90"), ("-2.5", "-$2.50"),
    ],
)  # fmt: skip
def test_amounts_as_people_read_them(amount: str | None, text: str) -> None:
    """What is something never reads as nothing, and what is unknown never as zero."""
    assert units.usd(None if amount is None else Decimal(amount)) == text


def test_bars_are_as_long_as_their_part() -> None:
    """In eighths of a character, one at least."""
    assert [bars.length(Decimal(part), 4) for part in ("0", "0.0001", "0.25", "0.28125", "1")] == [
        "",
        "▏",
        "█",
        "█▏",
        "████",
    ]


def test_the_second_time_the_price_list_is_not_loaded_and_duckdb_is_left_to_the_end(run: Run, root: Path) -> None:
    """The answer is the same; and a process that goes on after a command has one DuckDB of it, not one for each."""
    some(root)
    first = run("cost", "--json")
    program = """
        import sys
        from eventlog.cli.main import run
        from eventlog.queries.cli import options as cli_options
        assert run(["cost", "--json"]) == 0
        kept = cli_options._last
        assert run(["cost", "--json"]) == 0
        print(any(name.startswith(("genai_prices", "pydantic")) for name in sys.modules), file=sys.stderr)
        print(kept._reader._engine._instance is not None, cli_options._last is kept, file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())],
        env={**os.environ, "EVENTLOG_DIR": str(root)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr.split() == ["False", "True", "False"]
    rows = [json.loads(text)["rows"] for text in (first.stdout, *done.stdout.splitlines())]
    assert rows[0] == rows[1] == rows[2] != []
