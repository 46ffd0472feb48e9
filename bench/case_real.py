"""Real files: replay, import and size, where such files are beside the project."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

from bench import real, sessions
from bench.case import Bench, Claim, Measurement, Side, Skipped, case, compare
from bench.case_replay import beside_read_json
from bench.data import log_bytes
from bench.figures import in_words
from bench.measure import Sample, eventlog, interleave, run

#: What was written before is old enough for an answer that rests on it to be kept.
_SETTLED_S = 0.2


@case(
    *(
        Claim(name=name, what=f"replay, real files: {name}", against="DuckDB, CREATE TABLE AS read_json", limit=0.8)
        for name in real.IMPORTS
    )
)
def replay_real(bench: Bench) -> Iterator[Measurement]:
    """The replay of real files, imported beforehand, as that of generated ones; with a process each,
    small files measure how fast the two start."""
    for name in real.IMPORTS:
        root = real.import_into(bench, bench.folder / name, name)
        taken = beside_read_json(bench, root, max(bench.rounds, 9))
        yield compare(name, taken["ours"], taken["duckdb"], note=in_words(log_bytes(root), "B"))


@case(
    Claim(name="time", what="eventlog cost, the first time", against="agentsview sync", limit=0.6),
    Claim(name="ccusage", what="eventlog cost, the first time", against="ccusage daily --offline", limit=5.3),
)
def first_answer(bench: Bench) -> Iterator[Measurement]:
    """From nothing: one command imports all sessions, indexes them and sums up their costs; with an empty home but for
    the sessions. Against agentsview, which then has its database of the same sessions, with no daemon (its own advice
    for a single run), no telemetry, and without the Python wrapper around its Go program; and against ccusage, which
    keeps nothing."""
    real.files_of("claude-code")
    sides = {"agentsview": sessions.agentsview(bench)}
    problem = ""
    try:
        sides["ccusage"] = sessions.ccusage(bench)
    except Skipped as skipped:
        problem = str(skipped)
    home = bench.folder / "owner"
    (home / ".claude").mkdir(parents=True)
    (home / ".claude/projects").symlink_to(sessions.SESSIONS)

    def ours() -> Sample:
        shutil.rmtree(home / ".local", ignore_errors=True)
        return run(eventlog("cost"), home, {"EVENTLOG_IMPORT_AGENTS": "true"})

    taken = interleave(bench.rounds, {"ours": ours, **sides})
    yield compare("time", taken["ours"], taken["agentsview"])
    if problem:
        yield Measurement("ccusage", skipped=problem)
    else:
        yield compare("ccusage", taken["ours"], taken["ccusage"])


@case(
    Claim(name="time", what="eventlog cost daily, asked before", against="ccusage daily --offline", limit=1.0),
    Claim(name="changed", what="eventlog cost daily, after an event", against="ccusage daily --offline", limit=3.0),
)
def cost_daily(bench: Bench) -> Iterator[Measurement]:
    """From the shell, over an index of the sessions, against ccusage, which reads the sessions
    themselves; its native program, without the Node.js wrapper around it. Asked before: nothing changed since, so the
    answer is a kept one. After an event: that is indexed first. The round that does not count has looked up the prices
    of the models, which are kept for the next time."""
    real.files_of("claude-code")
    theirs = sessions.ccusage(bench)
    root = real.import_into(bench, bench.folder / "root", "claude-code")
    run(eventlog("index", "--root", root), bench.home)

    def ask() -> Sample:
        return run(eventlog("cost", "daily", "--root", root), bench.home)

    def changed() -> Sample:
        run(eventlog("emit", "note", "--root", root), bench.home)
        time.sleep(_SETTLED_S)
        return ask()

    def kept() -> Sample:
        ask()
        return ask()

    taken = interleave(max(bench.rounds, 9), {"changed": changed, "kept": kept, "ccusage": theirs})
    yield compare("time", taken["kept"], taken["ccusage"])
    yield compare("changed", taken["changed"], taken["ccusage"])


@case(
    Claim(name="index", what="index of real files", against="bytes of the log", limit=0.25),
    Claim(name="archive", what="archived segments of real files", against="bytes of the log", limit=0.15),
)
def sizes(bench: Bench) -> Iterator[Measurement]:
    """All data sets in one log: the index file after `eventlog index`, and all segments after
    `eventlog seal` and `eventlog archive`, beside the lines as they were written."""
    root = bench.folder / "root"
    for name in real.IMPORTS:
        real.import_into(bench, root, name)
    raw = log_bytes(root)
    run(eventlog("index", "--root", root), bench.home)
    index = (root / "index.duckdb").stat().st_size
    yield _share("index", index, raw)
    run(eventlog("seal", "--root", root), bench.home)
    run(eventlog("archive", "--root", root), bench.home)
    raw = log_bytes(root)
    archived = sum(path.stat().st_size for path in (root / "log").rglob("*") if path.is_file())
    yield _share("archive", archived, raw)


def _share(claim: str, size: int, raw: int) -> Measurement:
    return Measurement(claim, size / raw, Side(value=size, unit="B"), Side(value=raw, unit="B"))
