"""What calls cost by branch, subagent, server and session; in total; against a budget; in blocks of five hours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventlog.queries.cost.report import GROUPS
from eventlog.queries.store import ReadStore
from tests.codex_lines import PARENT, count, item, meta, turn, usage
from tests.codex_lines import store_of as codex_store_of
from tests.conftest import Run
from tests.queries.calls import MILLION, call, price, recorded, utc
from tests.queries.claude_sessions import answered, asked, store_of, tool
from tests.queries.test_cost_cli import cells
from tests.terminals import in_terminal

DAY = "2026-03-01"


def usd(store: ReadStore, by: Any) -> dict[str | None, Decimal | None]:
    return {row.group: row.cost_usd for row in store.cost.by(by)}


# -- groups ----------------------------------------------------------------------------------


def claude(root: Path, folder: Path) -> ReadStore:
    """A session of two branches, with a subagent and tools of two servers; each answer costs 2 cents."""
    recorded(root, price("claude-opus", "5", "25"))
    return store_of(root, folder, [
        asked("s", f"{DAY}T10:00:00Z", "Fix it"),
        answered("s", f"{DAY}T10:01:00Z", tool("1", "mcp__github__get_issue"), gitBranch="main"),
        answered("s", f"{DAY}T10:02:00Z", tool("2", "Bash", command="make"), gitBranch="fix"),
        answered("s", f"{DAY}T10:03:00Z", tool("3", "mcp__slack__post"), tool("4", "mcp__github__comment"),
                 tool("5", "mcp__github__comment"), gitBranch="fix"),
        answered("s", f"{DAY}T10:04:00Z", tool("6", "mcp__plugin_docs_docs__find_it"), agentId="a1", isSidechain=True),
        answered("s", f"{DAY}T10:05:00Z", tool("7", "mcp__grep")),
    ])  # fmt: skip


def test_costs_by_branch_subagent_and_source(root: Path, tmp_path: Path) -> None:
    """Of each call, by its own line."""
    store = claude(root, tmp_path / "p")
    assert usd(store, "branch") == {"fix": Decimal("0.04"), "main": Decimal("0.02"), None: Decimal("0.04")}
    assert usd(store, "subagent") == {None: Decimal("0.08"), "a1": Decimal("0.02")}
    assert usd(store, "source") == {"claude_code": Decimal("0.1")}


def test_costs_by_server_of_tools(root: Path, tmp_path: Path) -> None:
    """A call is of the servers whose tools its answer asked for; of several together, so that all add up."""
    store = claude(root, tmp_path / "p")
    assert usd(store, "server") == {
        "github": Decimal("0.02"), "github, slack": Decimal("0.02"), "plugin_docs_docs": Decimal("0.02"),
        "grep": Decimal("0.02"), None: Decimal("0.02"),
    }  # fmt: skip


def test_servers_of_recorded_tools(root: Path) -> None:
    """Asked by the last call before, of the same run; of a workspace alone, too."""
    recorded(
        root, price("m", "1", "1"),
        call(f"{DAY}T10:00:00Z", "m", MILLION, run_id="a"), call(f"{DAY}T10:00:01Z", "m", 2 * MILLION, run_id="b"),
        ("tool_call", {"timestamp": f"{DAY}T10:00:02Z", "run_id": "a", "tool_name": "mcp__db__query"}),
        call(f"{DAY}T10:00:03Z", "m", 4 * MILLION, run_id="a"),
        ("tool_call", {"timestamp": f"{DAY}T10:00:04Z", "run_id": "a", "tool_name": "mcp__x__y", "workspace": "w"}),
        ("tool_call", {"timestamp": f"{DAY}T10:00:05Z", "run_id": "c", "tool_name": "mcp__db__query"}),
    )  # fmt: skip
    assert usd(ReadStore(root), "server") == {"db": Decimal(1), None: Decimal(6)}
    assert usd(ReadStore(root, workspace="w"), "server") == {}


def test_servers_of_codex(root: Path, tmp_path: Path) -> None:
    """Codex counts an answer behind the calls of tools in it."""
    store = codex_store_of(root, tmp_path / "c", [
        meta(git={"branch": "fix/x", "commit_hash": "7a"}), turn(),
        item("10:00:02", "function_call", call_id="c1", name="_search", namespace="mcp__github", arguments="{}"),
        count("10:00:03", usage(1_000, 10)),
        item("10:00:04", "function_call", call_id="c2", name="shell", arguments='{"command": ["ls"]}'),
        count("10:00:05", usage(3_000, 30)),
    ])  # fmt: skip
    rows = {row.group: (row.calls, row.uncached_input_tokens) for row in store.cost.by("server")}
    assert rows == {"github": (1, 1_000), None: (1, 2_000)}
    assert [row.group for row in store.cost.by("branch")] == ["fix/x"]
    assert [session.branch for session in store.sessions()] == ["fix/x"]
    assert [session.session_id for session in store.sessions()] == [PARENT]


@pytest.mark.parametrize("by", GROUPS)
def test_each_grouping_adds_up(root: Path, tmp_path: Path, by: str) -> None:
    """Rows of any grouping, with days and without, are the total, exactly; the same at other prices."""
    store = claude(root, tmp_path / "p")
    recorded(root, call(f"{DAY}T12:00:00Z", "claude-opus", 7, run_id="r", agent="a"), call(f"{DAY}T12:00:00Z", "x", 7))
    for period in (None, "day", "month"):
        report = store.cost.report(period, by=by)  # type: ignore[arg-type]
        assert report.total.cost_usd == Decimal("0.100035")
        assert sum((row.cost_usd or Decimal(0) for row in report.rows), Decimal(0)) == report.total.cost_usd
        assert sum(row.calls for row in report.rows) == report.total.calls == 7
        assert sum(row.unpriced_calls for row in report.rows) == report.total.unpriced_calls == 1
    moved = store.cost.recomputed(utc("2026-03-02"), by=by)  # type: ignore[arg-type]
    assert (moved.total.calls, moved.total.new_usd) == (7, Decimal("0.100035"))
    assert sum(row.calls for row in moved.rows) == 7


# -- tables ----------------------------------------------------------------------------------


def test_a_group_has_one_total(root: Path, tmp_path: Path, run: Run) -> None:
    """`cost --by session` has a row per session, by its short id and title; `cost daily` splits by day."""
    recorded(root, price("claude-opus", "5", "25"))
    long_id = "4ddad80c-1111-4111-8111-111111111111"
    store_of(
        root, tmp_path / "p",
        [asked(long_id, f"{DAY}T10:00:00Z", "Fix the login"), answered(long_id, f"{DAY}T10:00:00Z"),
         answered(long_id, "2026-03-02T10:00:00Z")],
    )  # fmt: skip
    heading, row, total = cells(run("cost", "--by", "session").stdout)
    assert heading == [
        "session", "calls", "input", "output", "cache write", "cache read", "tokens", "cost", "cache savings",
    ]  # fmt: skip
    assert row == ["4ddad80c  Fix the login", "2", "8.0k", "0", "0", "0", "8.0k", "$0.0400", "$0.00"]
    assert total[:2] == ["total", "2"]
    assert len(cells(run("cost", "daily", "--by", "session").stdout)) == 4
    assert run("cost", "total", "--by=session").stdout == run("cost", "--by=session").stdout
    (told,) = json.loads(run("cost", "--by", "session", "--json").stdout)["rows"]
    assert (told["group"], told["group_name"], told["start"], told["cost_usd"]) == (
        long_id,
        "Fix the login",
        None,
        "0.04",
    )


def test_a_narrow_terminal_has_each_kind_of_token(root: Path, tmp_path: Path) -> None:
    """In the order of ccusage; what calls of subagents are not is called so."""
    claude(root, tmp_path / "p")
    heading = in_terminal("cost", "--root", str(root), "--utc").splitlines()[0]
    assert heading.split()[:3] == ["day", "(UTC)", "calls"]
    assert heading.split()[3:] == ["input", "output", "cache", "write", "cache", "read", "tokens", "cost"]
    grouped = in_terminal("cost", "--by", "subagent", "--root", str(root)).splitlines()
    assert [line.split()[0] for line in grouped[:4]] == ["subagent", "(main)", "a1", "total"]
    assert all(len(line) <= 80 for line in grouped[:4])


# -- budgets ---------------------------------------------------------------------------------


def test_a_budget_is_compared_with_the_month(root: Path, run: Run, tmp_path: Path) -> None:
    """By an option, else by settings; of a day as well; whatever time was asked for."""
    now = datetime.now(UTC)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    recorded(
        root, call(start.isoformat(), "m", 1, cost_usd="41"), call(now.isoformat(), "x", 1),
        call((start - timedelta(seconds=1)).isoformat(), "m", 1, cost_usd="1000"),
    )  # fmt: skip
    told = json.loads(run("cost", "--utc", "--json", "--budget", "100", "--since", "1s").stdout)
    ((month),) = told["budgets"]
    assert [month[name] for name in ("per", "limit_usd", "spent_usd", "unpriced_calls")] == ["month", "100", "41", 1]
    assert Decimal(month["projected_usd"]) >= 41
    (line,) = [each for each in run("cost", "--utc", "--budget", "20").stdout.splitlines() if each.startswith("spent")]
    assert line.startswith("spent $41.00 of $20.00 this month (205.0%, $21.00 over, without 1 unpriced call), $")
    assert line.endswith(" at this rate")
    settings_ = {"EVENTLOG_BUDGET_USD_PER_MONTH": "82", "EVENTLOG_BUDGET_USD_PER_DAY": "0.5"}
    lines = [each for each in run("cost", "--utc", **settings_).stdout.splitlines() if each.startswith("spent")]
    assert [each.split(" (")[0].split(", $")[0] for each in lines][1] == "spent $41.00 of $82.00 this month"
    assert " of $0.5000 this day" in lines[0]
    assert not [each for each in run("cost").stdout.splitlines() if each.startswith("spent")]


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "inf", "1e3", "ten", ""])
def test_a_budget_is_an_amount(root: Path, run: Run, amount: str) -> None:
    """Above 0."""
    recorded(root, call(f"{DAY}T10:00:00Z", "m", 1))
    done = run("cost", f"--budget={amount}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not an amount of USD, such as 100 or 12.50" in done.stderr


# -- blocks ----------------------------------------------------------------------------------

START = datetime(2026, 3, 1, 10, 20, tzinfo=UTC)


def test_a_block_begins_with_the_hour_of_its_first_call(root: Path) -> None:
    """It lasts five hours; the next call begins another one, whenever it comes."""
    recorded(root, price("m", "1", "1"), *(
        call((START + timedelta(hours=hours)).isoformat(), "m", MILLION) for hours in (0, 1, 4.66, 4.67, 30)
    ), call((START + timedelta(minutes=1)).isoformat(), "x", 5))  # fmt: skip
    now = START + timedelta(hours=31)
    found = ReadStore(root).cost.blocks(now=now)
    assert [(block.start.isoformat()[5:16], block.calls, block.cost_usd, block.active) for block in found] == [
        ("03-01T10:00", 4, Decimal(3), False), ("03-01T15:00", 1, Decimal(1), False),
        ("03-02T16:00", 1, Decimal(1), True),
    ]  # fmt: skip
    assert (found[0].unpriced_calls, found[0].models, found[0].tokens) == (1, ["m", "x"], 3 * MILLION + 5)
    assert all(block.end - block.start == timedelta(hours=5) for block in found)
    running = found[-1]
    assert (running.usd_per_hour, running.remaining_s) == (Decimal(1), 13_200)
    assert running.projected_usd == Decimal("4.666667")
    assert (running.tokens_per_minute, running.projected_tokens) == (16_666.7, 4_666_667)
    assert found[0].usd_per_hour is found[0].projected_usd is None
    since = ReadStore(root).cost.blocks(since=START + timedelta(hours=4), until=START + timedelta(hours=29))
    assert [block.start.hour for block in since] == [10, 15]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 60 * 60), min_size=1, max_size=25))
@example([0, 299, 300, 301, 599, 600])
def test_blocks_are_those_of_a_walk_over_the_calls(
    tmp_path_factory: pytest.TempPathFactory, minutes: list[int]
) -> None:
    """One call after the other, as ccusage does it; no call is lost."""
    root = tmp_path_factory.mktemp("root")
    times = sorted(START + timedelta(minutes=each) for each in minutes)
    recorded(root, *(call(each.isoformat(), "m", 1) for each in times))
    walked: list[list[datetime]] = []
    start = None
    for each in times:
        if start is None or each - start >= timedelta(hours=5):
            start = each.replace(minute=0)
            walked.append([])
        walked[-1].append(each)
    found = ReadStore(root).cost.blocks()
    assert [(block.first, block.last, block.calls) for block in found] == [
        (calls[0], calls[-1], len(calls)) for calls in walked
    ]


def test_blocks_in_a_terminal(root: Path, run: Run) -> None:
    """Of all calls or of one source; what the running one will cost."""
    now = datetime.now(UTC)
    recorded(root, call(f"{DAY}T10:20:00Z", "m", 3, cost_usd="2"), call(now.isoformat(), "m", 1, cost_usd="1"))
    heading, old, running = cells(run("cost", "blocks", "--utc").stdout)
    assert heading[0] == "block"
    assert old[:3] == ["2026-03-01 10:00Z", "", "1"]
    assert running[1:3] == ["running", "1"]
    active = run("cost", "blocks", "--active").stdout
    assert len(cells(active)) == 2
    assert " left: $1.00 in 1 call\n" in active
    assert " an hour, " in active
    recorded(root, call(now.isoformat(), "of-nobody", 1))
    unpriced = run("cost", "blocks", "--active").stdout
    assert "$1.00+" in unpriced
    assert " left: $1.00+ in 2 calls, 1 of them without a price\n" in unpriced
    assert len(json.loads(run("cost", "blocks", "--source", "llm_call", "--json").stdout)) == 2
    none = run("cost", "blocks", "--source", "claude-code")
    assert (none.stdout, none.stderr) == (
        "",
        "no such model calls; record some with obs.run(…), or import some: eventlog import --help\n",
    )
    unknown = run("cost", "blocks", "--source", "gpt")
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "error: unknown source 'gpt'; there are: llm_call, claude_code, codex\n",
    )


def test_no_block_is_running(root: Path, run: Run) -> None:
    """When the last one ended is said."""
    recorded(root, call(f"{DAY}T10:20:00Z", "m", 3))
    done = run("cost", "blocks", "--active", "--utc")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no block is running; the last one ended at 2026-03-01 15:00:00Z\n"
