"""Imported sessions equal a recount of their lines, value by value: calls, tools, titles, copies, tokens, costs.

On the fixtures, on transcripts with all that is odd in real ones, and on real ones; in any order, and after a replay.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.importers.claude_code import SOURCE, ClaudeCode
from eventlog.importers.engine import importing
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from fixtures.transcripts import FOLDER
from tests.conftest import PROJECT, REAL_DATA
from tests.recount import log, sessions, transcripts
from tests.recount.calls import llm_calls, tool_calls
from tests.recount.product import check, load_shuffled

REAL = REAL_DATA / "claude-code"
#: Rates that make each kind of tokens visible in a sum.
PRICE = {
    "input_usd_per_mtok": "5", "cache_read_usd_per_mtok": "0.5", "cache_write_5m_usd_per_mtok": "6.25",
    "cache_write_1h_usd_per_mtok": "10", "output_usd_per_mtok": "25", "effective_from": "2020-01-01T00:00:00Z",
}  # fmt: skip
MODELS = ("claude", "anthropic/", "<")


def import_into(root: Path, paths: list[Path], workspaces: tuple[str | None, ...] = (None,)) -> None:
    """Import each file into a segment of its own, so that they can be loaded in any order."""
    for workspace in workspaces:
        for path in paths:
            with importing(Config(root=str(root), strict=True), ClaudeCode(workspace=workspace)) as importer:
                importer.run(path)
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    for model in MODELS:  # a search has a price with one of the sellers, and none with the other
        recorder.emit("price_set", {"model": model} | PRICE | ({"web_search_usd": "0.01"} if model == "claude" else {}))
    recorder.shutdown()


def test_the_fixtures(root: Path) -> None:
    """For two workspaces, and for none."""
    import_into(root, SOURCE.find([FOLDER]), ("a", "b", None))
    Indexer(root).catch_up()
    check(root)


@pytest.mark.parametrize("seed", [1, 2])
def test_odd_transcripts(root: Path, tmp_path: Path, seed: int) -> None:
    """Imported in any order, loaded in any other, and replayed."""
    paths = transcripts.write(tmp_path / "projects", seed)
    import_into(root, sorted(paths) if seed % 2 else sorted(paths, reverse=True))
    Indexer(root).catch_up()
    in_order = check(root)
    shuffled = tmp_path / "shuffled"
    load_shuffled(root, shuffled, seed)
    assert ReadStore(shuffled).digest() == in_order
    replay.replay(shuffled)
    assert ReadStore(shuffled).digest() == in_order


def test_odd_transcripts_are_odd(root: Path, tmp_path: Path) -> None:
    """The generator makes what it is for, so that equality says something."""
    import_into(root, transcripts.write(tmp_path / "projects", 1))
    lines = log.read(root)
    events = log.without_copies(lines)
    calls = llm_calls(events)
    assert len(lines) - len(events) > 10
    assert {call.ok for call in calls} == {True, False}
    assert {tool.ok for tool in tool_calls(events)} == {True, False, None}
    assert len({call.subagent_id for call in calls}) > 3
    assert {each["title_source"] for each in sessions.sessions(events).values()} >= {"person", "model", "prompt"}
    assert any(event.session_id is None for event in events)


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="no real transcripts: ../shared/data/claude-code is not there")
def test_real_transcripts(root: Path, tmp_path: Path) -> None:
    """All values; no session that no line names; a title for each session."""
    import_into(root, SOURCE.find([REAL]))
    Indexer(root).catch_up()
    in_order = check(root)
    named = {event.payload.get("sessionId") for event in log.without_copies(log.read(root))}
    store = ReadStore(root)
    found = dict(store.sql("SELECT session_id, title FROM sessions").rows)
    assert found.keys() <= named
    assert [session for session, title in found.items() if title is None] == []
    _figures_of_the_cost_page(store)
    shuffled = tmp_path / "shuffled"
    load_shuffled(root, shuffled, 1, at_once=30)
    assert ReadStore(shuffled).digest() == in_order


def _figures_of_the_cost_page(store: ReadStore) -> None:
    """What docs/cost.md says of these transcripts: calls that look cut short, and others."""
    page = (PROJECT / "docs/cost.md").read_text()
    ((calls, short),) = store.sql("SELECT count(*), count(*) FILTER (cut_short) FROM llm_costs").rows
    assert f"of {calls:,} calls in public transcripts\n{short:,} ({short / calls:.0%}) report" in page
    query = """
        SELECT count(*), median(output_chars / output_tokens), quantile_cont(output_chars / output_tokens, [0.1, 0.9])
        FROM llm_calls WHERE stop_reason IS NOT NULL AND output_chars >= 500
    """
    ((answers, median, (low, high)),) = store.sql(query).rows
    words = " ".join(page.split())
    assert f"The {answers} answers of 500 characters and more with a stop reason in these transcripts" in words
    assert f"have {median:.1f} characters per token, 80% of them {low:.1f} to {high:.1f}" in words
