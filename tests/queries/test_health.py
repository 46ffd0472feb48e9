"""The health of agents: each penalty alone, by its value, its words, and the query that shows why."""

from __future__ import annotations

import json
import re
import textwrap
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.indexer import replay
from eventlog.queries.health import score
from eventlog.queries.health.penalties import CHECKS
from eventlog.queries.store import ReadStore
from eventlog.record.drops import EventsDropped
from tests.conftest import PROJECT, Run
from tests.queries.recordings import Told, record

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
WHO = {"agent": "a", "workspace": "w"}


def ago(**length: float) -> datetime:
    """So long before NOW."""
    return NOW - timedelta(**length)


def run_of(run_id: str, began: datetime, ended: datetime | None, **finish: Any) -> list[Told]:
    """A run, and its end if it has one."""
    fields = WHO | {"run_id": run_id}
    told: list[Told] = [(began, builtin.RunStarted(name="n", pid=7), dict(fields))]
    if ended is not None:
        duration_ms = (ended - began) / timedelta(milliseconds=1)
        told.append((ended, builtin.RunFinished(duration_ms=duration_ms, **finish), dict(fields)))
    return told


def runs(count: int, *, hours_ago: float, failed: int = 0, minutes: float = 10) -> list[Told]:
    """Runs in a row, the first of which fail."""
    told = []
    for n in range(count):
        began = ago(hours=hours_ago) + timedelta(seconds=n)
        finish = {"status": "error", "error_type": "Oops"} if n < failed else {}
        told += run_of(f"r{hours_ago}-{n}", began, began + timedelta(minutes=minutes), **finish)
    return told


def calls(count: int, *, hours_ago: float, failed: int = 0, in_runs: str = "", **fields: Any) -> list[Told]:
    """Calls of a model in a row, the first of which fail. `in_runs` has each in a run of its own, named so."""
    fields = {name: Decimal(value) if name == "cost_usd" else value for name, value in fields.items()}
    return [
        (
            ago(hours=hours_ago) + timedelta(seconds=n),
            builtin.LlmCall(request_model="m", error_type="Timeout" if n < failed else None, **fields),
            WHO | ({"run_id": f"{in_runs}-{n}"} if in_runs else {}),
        )
        for n in range(count)
    ]


def tools(count: int, *, failed: int = 0) -> list[Told]:
    """Calls of a tool, the first of which fail."""
    return [(ago(hours=1), builtin.ToolCall(tool_name="t", ok=n >= failed), dict(WHO)) for n in range(count)]


def beats(*minutes_ago: float, interval_s: float | None = 60, status: str | None = None) -> list[Told]:
    """Heartbeats."""
    beat = builtin.Heartbeat(interval_s=interval_s, status=status)
    return [(ago(minutes=each), beat, dict(WHO)) for each in minutes_ago]


def dropped(count: int, pid: int, **fields: str) -> Told:
    """What a recorder tells that has lost events an hour ago."""
    moment = ago(hours=1)
    text = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
    payload = EventsDropped(
        count=count, event_types={"step": count}, since=text, until=text, cause="No space left on device", pid=pid
    )
    return moment, "events_dropped", fields | {"payload": msgspec.to_builtins(payload)}


#: By penalty: what was told → points (None: not judged), words, and some of what its query returns.
CASES: dict[str, tuple[str, list[Told], int | None, str, dict[str, Any]]] = {
    "no run failed": (
        "run_errors", runs(8, hours_ago=2), 0, "0 of 8 runs failed (0.0%)", {"finished": 8, "failed": 0},
    ),
    "one run of ten failed": (
        "run_errors", runs(10, hours_ago=2, failed=1), 12, "1 of 10 runs failed (10.0%): Oops 1",
        {"finished": 10, "failed": 1, "types": {"Oops": 1}},
    ),
    "all runs failed": (
        "run_errors", runs(3, hours_ago=2, failed=3), 60, "3 of 3 runs failed (100.0%): Oops 3", {"failed": 3},
    ),
    "runs failed before": (
        "run_errors", runs(5, hours_ago=30, failed=5) + runs(1, hours_ago=2), 0, "0 of 1 run failed (0.0%)",
        {"finished": 1},
    ),
    "calls failed": (
        "call_errors", calls(100, hours_ago=3, failed=10), 7, "10 of 100 model calls failed (10.0%): Timeout 10",
        {"calls": 100, "failed": 10, "types": {"Timeout": 10}},
    ),
    "some calls fail anyway": (
        "call_errors", calls(100, hours_ago=3, failed=2), 0, "2 of 100 model calls failed (2.0%): Timeout 2",
        {"failed": 2},
    ),
    "few calls": (
        "call_errors", calls(9, hours_ago=3, failed=9), None, "9 model calls, too few to judge (under 10)",
        {"calls": 9, "failed": 9},
    ),
    "tools failed": (
        "tool_errors", tools(20, failed=7), 5, "7 of 20 tool calls failed (35.0%): (unknown) 7",
        {"calls": 20, "failed": 7},
    ),
    "seven points and a half of calls": (  # 20 × (17/160 − 0.02) / 0.23
        "call_errors", calls(160, hours_ago=3, failed=17), 8, "17 of 160 model calls failed (10.6%): Timeout 17",
        {"calls": 160, "failed": 17},
    ),
    "one run of 3,000 failed": (
        "run_errors", runs(3000, hours_ago=2, failed=1), 0, "1 of 3,000 runs failed (0.03%): Oops 1", {"failed": 1},
    ),
    "slower": (
        "latency", calls(40, hours_ago=48, latency_ms=1000.0) + calls(20, hours_ago=2, latency_ms=2125.0), 8,
        "p95 2,125 ms, 1,000 ms before (×2.12)",
        {"calls": 20, "p95_ms": 2125.0, "calls_before": 40, "p95_ms_before": 1000.0},
    ),
    "a little slower": (
        "latency", calls(40, hours_ago=48, latency_ms=1000.0) + calls(20, hours_ago=2, latency_ms=1250.0), 0,
        "p95 1,250 ms, 1,000 ms before (×1.25)", {"p95_ms": 1250.0},
    ),
    "slow, with little to compare": (
        "latency", calls(19, hours_ago=48, latency_ms=1.0) + calls(20, hours_ago=2, latency_ms=9000.0), None,
        "latencies of 20 calls, and of 19 before: too few for a trend (under 20)", {"calls_before": 19},
    ),
    "slow before what is compared": (
        "latency", calls(40, hours_ago=24 * 8 + 1, latency_ms=1.0) + calls(20, hours_ago=2, latency_ms=9000.0), None,
        "latencies of 20 calls, and of 0 before: too few for a trend (under 20)", {"calls_before": 0},
    ),
    "dearer by the day": (
        "cost",
        [told for day in (2, 3, 4) for told in calls(1, hours_ago=24 * day, cost_usd=f"{day}")]
        + calls(11, hours_ago=24, cost_usd="1"), 8,
        "$11.00, $4.00 in the dearest window before (×2.75)",
        {"usd": Decimal(11), "windows_before": 3, "dearest_usd_before": Decimal(4)},
    ),
    "dearer by the run": (
        "cost",
        calls(6, hours_ago=50, cost_usd="0.1", in_runs="old") + calls(5, hours_ago=5, cost_usd="0.4", in_runs="new"),
        15, "$0.4000 per run, $0.1000 before (×4.00)",
        {"runs": 5, "runs_before": 6, "run_usd": Decimal("2.0"), "run_usd_before": Decimal("0.6")},
    ),
    "runs that went on for days": (
        "cost",
        [told for day in (1, 2) for told in calls(5, hours_ago=24 * day + 1, cost_usd="1", in_runs="long")]
        + calls(5, hours_ago=5, cost_usd="2", in_runs="new"), 0, "$2.00 per run, $2.00 before (×1.00)",
        {"runs": 5, "runs_before": 5, "run_usd": Decimal(10), "run_usd_before": Decimal(10)},
    ),
    "runs that go on in the window": (
        "cost",
        calls(6, hours_ago=50, cost_usd="1", in_runs="old") + calls(5, hours_ago=25, cost_usd="1", in_runs="long")
        + calls(5, hours_ago=5, cost_usd="1", in_runs="long"), 3, "$2.00 per run, $1.00 before (×2.00)",
        {"runs": 5, "runs_before": 6, "run_usd": Decimal(10), "run_usd_before": Decimal(6)},
    ),
    "a half": ("tool_errors", tools(16, failed=2), 1, "2 of 16 tool calls failed (12.5%): (unknown) 2", {"failed": 2}),
    "dearer, with little to compare": (
        "cost", [told for day in (2, 3) for told in calls(1, hours_ago=24 * day, cost_usd="0.1")]
        + calls(1, hours_ago=5, cost_usd="100"), None, "too little to compare costs", {"windows_before": 2},
    ),
    "a heartbeat in time": (
        "heartbeat", beats(10, 3), 0, "last heartbeat 2026-03-09 11:57:00Z, 180 s ago, one is due every 60 s",
        {"interval_s": 60.0, "silent_s": 180.0},
    ),
    "a heartbeat is late": (
        "heartbeat", beats(10, 6.5), 35, "last heartbeat 2026-03-09 11:53:30Z, 390 s ago, one is due every 60 s",
        {"interval_s": 60.0, "silent_s": 390.0},
    ),
    "silent for days": (
        "heartbeat", beats(24 * 60 * 3), 50,
        "last heartbeat 2026-03-06 12:00:00Z, 259,200 s ago, one is due every 60 s", {"silent_s": 259_200.0},
    ),
    "a heartbeat that was the last": (
        "heartbeat", beats(60, status="ok") + beats(59, status="stopped"), None,
        "last heartbeat 2026-03-09 11:01:00Z, which said that it stops", {"status": "stopped"},
    ),
    "nobody said when the next is due": (
        "heartbeat", beats(600, interval_s=None), None, "no heartbeats with an interval", {},
    ),
    "events lost": (
        "drops", [dropped(2, 1, **WHO), *tools(1598)], 7,
        "2 events lost (0.1%): No space left on device", {"dropped": 2, "reports": 1, "events": 1599},
    ),
    "many events lost": (
        "drops", [dropped(50, 1, **WHO), *tools(10)], 20,
        "50 events lost (82.0%): No space left on device", {"dropped": 50},
    ),
    "a run given up": (
        "stuck_runs", [*runs(19, hours_ago=3), *run_of("lost", ago(hours=2), None)], 10,
        "1 abandoned of 20 runs: lost (a run given up)",
        {"abandoned": 1, "stuck": 0, "finished": 19, "run_ids": ["lost (a run given up)"]},
    ),
    "given up long ago": (
        "stuck_runs", [*runs(19, hours_ago=3), *run_of("lost", ago(hours=25), None)], 0, "none of 19 runs",
        {"abandoned": 0, "finished": 19},
    ),
    "under way for too long": (
        "stuck_runs",
        [*runs(9, hours_ago=30), *runs(5, hours_ago=3), *run_of("long", ago(minutes=31), None), *beats(),
         (ago(minutes=1), builtin.Step(name="s"), WHO | {"run_id": "long"})], 22,
        "1 under way for over 3 times the longest (600 s) of 6 runs: long (under way for too long)",
        {"stuck": 1, "abandoned": 0},
    ),
    "under way for long": (
        "stuck_runs",
        [*runs(5, hours_ago=3), *run_of("long", ago(minutes=29), None),
         (ago(minutes=1), builtin.Step(name="s"), WHO | {"run_id": "long"})], 0,
        "none of 6 runs", {"stuck": 0, "running": 1},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One log of all cases: each is an agent of its own, with runs of its own."""
    root = tmp_path_factory.mktemp("cases")
    told: list[Told] = []
    for case, (_, each, *_) in CASES.items():
        own = [(moment, event, {**fields, "agent": case}) for moment, event, fields in each]
        told += [
            (moment, event, fields | {"run_id": f"{fields['run_id']} ({case})"} if "run_id" in fields else fields)
            for moment, event, fields in own
        ]
    record(root, *told)
    return root


@pytest.mark.parametrize("case", CASES)
def test_each_penalty_alone(cases: Path, case: str) -> None:
    """Its points, its words, and a query that returns what the words say; nothing else takes points."""
    name, _, points, words, row = CASES[case]
    store = ReadStore(cases)
    (health,) = store.health(case, now=NOW)
    penalty = next(each for each in health.penalties if each.name == name)
    assert (penalty.points, penalty.judged, penalty.found) == (points or 0, points is not None, words)
    assert [each.name for each in health.penalties if each.points and each.name != name] == []
    judged = any(each.judged for each in health.penalties)
    assert health.score == (100 - penalty.points if judged else None)
    rows = store.sql(penalty.query).dicts()
    assert len(rows) == bool(row)
    assert {key: rows[0][key] for key in row} == row if row else True


@pytest.mark.parametrize(
    ("name", "free", "full", "points_max"),
    [("run_errors", (0, 1), (1, 2), 60), ("call_errors", (1, 50), (1, 4), 20), ("tool_errors", (1, 10), (3, 5), 10)],
)
@given(count=st.integers(10, 10_000), share=st.floats(0, 1))
def test_points_are_exact(
    name: str, free: tuple[int, int], full: tuple[int, int], points_max: int, count: int, share: float
) -> None:
    """By whole numbers alone: the share over a common denominator, and halves rounded up."""
    failed = int(count * share)
    above = failed * free[1] - free[0] * count  # share - free, times count × free[1]
    span = full[0] * free[1] - free[0] * full[1]  # full - free, times full[1] × free[1]
    numerator, denominator = points_max * above * full[1], count * span
    expected = min(max((2 * numerator + denominator) // (2 * denominator), 0), points_max)
    check = next(each for each in CHECKS if each.name == name)
    row = {"finished": count, "calls": count, "failed": failed, "types": None}
    points, _ = check.judge(row)
    assert points is not None
    assert score.rounded(points) == expected


@pytest.mark.parametrize(
    ("minutes", "until", "counts"),
    [
        (10, "12:05", False), (10, "12:06", True), (10, "12:15", True), (10, "12:16", False), (15, "12:06", True),
        (60, "13:00", True), (60, "13:05", True), (60, "13:06", False), (60, "12:05", False), (1440, "13:00", True),
    ],
)  # fmt: skip
def test_a_run_is_given_up_in_one_window(root: Path, minutes: int, until: str, counts: bool) -> None:
    """In that with the moment at which it was: 15 minutes after its last event, at 12:05, however long the window."""
    began = datetime(2026, 3, 9, 11, 50, tzinfo=UTC)
    record(root, *run_of("lost", began, None))
    now = datetime.fromisoformat(f"2026-03-09T{until}:00+00:00")
    (found,) = ReadStore(root).health(now=now, window=timedelta(minutes=minutes))
    (stuck,) = (each for each in found.penalties if each.name == "stuck_runs")
    assert (stuck.points, stuck.found.startswith("1 abandoned of 1 run")) == ((30, True) if counts else (0, False))


def told_of(who: dict[str, str], *told: Told) -> list[Told]:
    """What others were told to have done, as done by these."""
    return [(moment, event, {**fields, **who}) for moment, event, fields in told]


def test_penalties_add_up(root: Path) -> None:
    """To what is missing from 100, and to 0 at worst; the grade goes with the score."""
    lost = run_of("lost", ago(hours=2), None)
    record(root, *runs(4, hours_ago=3, failed=1), *lost, *calls(10, hours_ago=2, failed=10), *beats(100))
    (found,) = ReadStore(root).health(now=NOW)
    assert {each.name: each.points for each in found.penalties if each.points} == {
        "run_errors": 30, "call_errors": 20, "heartbeat": 50, "stuck_runs": 25,
    }  # fmt: skip
    assert (found.score, found.grade) == (0, "F")
    (sooner,) = ReadStore(root).health(now=ago(hours=1.75))
    assert {each.name: each.points for each in sooner.penalties if each.points} == {
        "run_errors": 30, "call_errors": 20
    }  # fmt: skip
    assert (sooner.score, sooner.grade, sooner.until - sooner.since) == (50, "F", timedelta(hours=24))


@pytest.mark.parametrize(
    ("points", "expected"),
    [(100, "A"), (90, "A"), (89, "B"), (80, "B"), (79, "C"), (70, "C"), (69, "D"), (60, "D"), (59, "F"), (0, "F")],
)
def test_grades(points: int, expected: str) -> None:
    """In steps of ten from 90 down."""
    assert score.grade(points) == expected


def test_without_anything_to_judge_there_is_no_score(root: Path) -> None:
    """Neither of an agent that did nothing lately, nor of one that only said things of its own."""
    who = {"agent": "gone", "workspace": "a"}
    record(root, *told_of(who, *runs(3, hours_ago=24 * 30)), (ago(hours=1), "thought", {"agent": "quiet"}))
    quiet, gone = ReadStore(root).health(now=NOW)
    assert (gone.agent, gone.score, gone.grade, gone.last_event) == (
        "gone", None, None, ago(hours=24 * 30) + timedelta(seconds=2, minutes=10)
    )  # fmt: skip
    assert (quiet.agent, quiet.score, quiet.last_event) == ("quiet", None, ago(hours=1))
    assert not any(each.judged or each.points for each in gone.penalties + quiet.penalties)
    assert [each.found for each in gone.penalties] == [check.missing for check in CHECKS]


def test_agents_of_one_name_in_two_workspaces_are_two(root: Path) -> None:
    """And a store of one of them scores it the same."""
    awkward = "o'brien\0; --"
    record(
        root,
        *told_of({"workspace": "w", "agent": awkward}, *runs(10, hours_ago=2, failed=1)),
        *told_of({"workspace": "v", "agent": awkward, "run_id": "v"}, *runs(1, hours_ago=2)),
        *told_of({"workspace": "v", "agent": "b"}, *calls(20, hours_ago=3)),
    )
    whole = ReadStore(root).health(now=NOW)
    assert [(each.workspace, each.agent, each.score) for each in whole] == [
        ("v", "b", 100), ("v", awkward, 100), ("w", awkward, 88),
    ]  # fmt: skip
    assert ReadStore(root).health(awkward, now=NOW) == whole[1:]
    for each in whole:
        inside = ReadStore(root, workspace=each.workspace)
        assert each in inside.health(now=NOW)
        for penalty in each.penalties:
            assert inside.sql(penalty.query).rows == ReadStore(root).sql(penalty.query).rows, penalty.name
    rows = ReadStore(root).sql(whole[2].penalties[0].query).dicts()
    assert rows == [{"finished": 10, "failed": 1, "types": {"Oops": 1}}]


def test_work_that_nobody_signed_has_a_score_of_its_own(root: Path) -> None:
    """As imported sessions have no agent; but not what is no work."""
    record(root, *((moment, call, {}) for moment, call, _ in calls(20, hours_ago=1, failed=20)))
    record(root, (ago(hours=40), "price_list", {}))
    (found,) = ReadStore(root).health(now=NOW)
    assert (found.workspace, found.agent, found.score, found.grade) == (None, None, 80, "B")
    assert ReadStore(root).health(now=ago(hours=30)) == []


def test_whose_lost_events_are(root: Path) -> None:
    """Of whom the recorder names; else of whose runs were in that process then; else of nobody known."""
    record(
        root,
        *told_of({"agent": "by name"}, dropped(3, 99)),
        *told_of({"agent": "by process"}, *run_of("in it", ago(hours=2), NOW)),
        *told_of({"agent": "in it too"}, *run_of("open", ago(hours=2), None)),
        *told_of({"agent": "over by then"}, *run_of("over", ago(hours=3), ago(hours=2))),
        *told_of({"agent": "not yet"}, *run_of("late", ago(minutes=50), NOW)),
        *told_of({"agent": "elsewhere", "workspace": "v"}, *run_of("v", ago(hours=2), NOW)),
        dropped(5, 7, workspace="w"),
        dropped(8, 1234, workspace="w"),
    )
    lost = {}
    for each in ReadStore(root).health(now=NOW):
        (penalty,) = (penalty for penalty in each.penalties if penalty.name == "drops")
        if penalty.judged:
            lost[each.agent] = penalty.found.split(" events")[0]
    assert lost == {"by name": "3", "by process": "5", "in it too": "5", None: "8"}


def test_a_replay_gives_the_same_health(root: Path) -> None:
    """Words, points and queries; and asking twice as well."""
    record(root, *runs(10, hours_ago=3, failed=2), *calls(30, hours_ago=40, latency_ms=5.0), *beats(30))
    before = ReadStore(root).health(now=NOW)
    assert before[0].score == 100 - 24 - 50
    assert ReadStore(root).health(now=NOW) == before
    replay.replay(root)
    assert ReadStore(root).health(now=NOW) == before


def test_late_news_change_the_score(root: Path) -> None:
    """A run that was taken for lost, and says later that it went well."""
    began = ago(hours=3)
    record(root, *run_of("r", began, None))
    assert [each.score for each in ReadStore(root).health(now=NOW)] == [70]
    record(root, *run_of("r", began, ago(hours=1))[1:])
    assert [each.score for each in ReadStore(root).health(now=NOW)] == [100]


def test_another_window(root: Path) -> None:
    """Is compared with seven of its own length."""
    record(root, *calls(20, hours_ago=6, latency_ms=10.0), *calls(20, hours_ago=0.5, latency_ms=30.0))
    (found,) = ReadStore(root).health(now=NOW, window=timedelta(hours=1))
    assert (found.score, found.penalties[3].found) == (85, "p95 30 ms, 10 ms before (×3.00)")
    assert found.penalties[3].points == found.penalties[3].points_max == 15


REFUSED = {
    "no time at all": ({"window": timedelta(0)}, r"^a window of 0:00:00 is out of range: 1 minute to 366 days$"),
    "too long": ({"window": timedelta(days=367)}, r"^a window of 367 days, 0:00:00 is out of range"),
    "before all time": ({"now": datetime(1, 1, 2)}, r"^0001-01-02 00:00:00 is too early"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_windows_that_cannot_be(cases: Path, case: str) -> None:
    """Are refused by what they are."""
    options, message = REFUSED[case]
    with pytest.raises(QueryFailed, match=message):
        ReadStore(cases).health(**options)  # type: ignore[arg-type]


def test_the_page_has_the_numbers_of_the_code() -> None:
    """docs/health.md lists each penalty with its greatest points."""
    page = (PROJECT / "docs/health.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)
    assert listed == [(check.name, str(check.points_max)) for check in CHECKS]
    assert re.findall(r"^\| ([A-F]) \| (\d+)", page, re.MULTILINE) == [
        (name, str(least)) for name, least in score.GRADES
    ]


def test_the_command(run: Run, root: Path) -> None:
    """A line per agent and penalty; --verbose has all checks with their SQL; --json all of it."""
    record(root, *runs(10, hours_ago=2, failed=1), (ago(hours=1), "thought", {"agent": "quiet"}))
    at = ("--at", "2026-03-09T12:00:00Z", "--utc")
    done = run("health", *at)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "quiet     –  no data, last event 2026-03-09 11:00:00Z\n"
        "a in w   88  B\n"
        "   −12  run_errors   1 of 10 runs failed (10.0%): Oops 1\n"
    )
    verbose = run("health", "a", "--verbose", *at).stdout
    assert [line.split()[1] for line in verbose.splitlines()[1:] if line[4:6].strip()[-1:] in ("2", "0", "–")] == [
        check.name for check in CHECKS
    ]
    query = textwrap.dedent(verbose.split("Oops 1\n")[1].split("     – ")[0])
    assert json.loads(run("sql", query, "--format", "json").stdout) == [
        {"finished": 10, "failed": 1, "types": {"Oops": 1}}
    ]
    (found,) = json.loads(run("health", "a", "--json", "--workspace", "w", *at).stdout)
    assert (found["score"], found["until"], found["penalties"][0]["points"]) == (88, "2026-03-09T12:00:00Z", 12)
    assert run("health", "--window", "30d", *at).stdout.count("12  run_errors") == 1
    unknown = run("health", "b", *at)
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "error: no event names the agent 'b'; all agents: eventlog health\n",
    )
    assert run("health", "--window", "long").stderr == (
        "error: 'long' is not a length of time; use one like 90m, 24h, 7d\n"
    )
