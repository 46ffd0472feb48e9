"""Real Codex rollouts, counted without the product, and by ccusage; the differences are explained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import npm
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.codex_lines import import_files
from tests.conftest import REAL_DATA
from tests.indexer.support import rows

ROLLOUTS = sorted((REAL_DATA / "codex-cli").rglob("*.jsonl"))
needs_rollouts = pytest.mark.skipif(not ROLLOUTS, reason="no real rollouts: ../shared/data/codex-cli is not there")
#: The sums of its calls, as each file of the sample says in its last count: input, cached in it, output, reasoning.
KNOWN = {
    "019ed50c-2fb3-7002-a384-360bea6e7f04": (2786413, 2481792, 22838, 12020),
    "019eef3d-abd1-72e1-ab99-dcdb259027c5": (9795152, 9305728, 40293, 15851),
    "019efedf-a8dc-7b20-ba1d-f1c6ff7ea96e": (2783170, 2386048, 13661, 5318),
}


def recount(path: Path) -> dict[str, Any]:
    """What a rollout holds, read line by line, without the product: its last sum, its calls by model, its tools."""
    model, before, last, calls, tools, outputs = None, None, (), Counter[str | None](), 0, 0
    by_last = 0
    for text in path.read_text().splitlines():
        each = json.loads(text)
        payload = each["payload"]
        if each["type"] == "turn_context":
            model = payload["model"]
        elif payload.get("type") == "token_count" and payload["info"]:
            total = payload["info"]["total_token_usage"]
            if total != before:
                calls[model] += 1
                by_last += payload["info"]["last_token_usage"]["total_tokens"]
            before = total
            last = tuple(
                total[name]
                for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
            )
        elif each["type"] == "response_item":
            tools += payload["type"].endswith("_call")
            outputs += payload["type"].endswith("_output")
    return {"sum": last, "calls": calls, "tools": tools, "outputs": outputs, "by_last": by_last, "total": before}


def sums(store: ReadStore) -> dict[str, tuple[int, ...]]:
    found = store.sql(
        "SELECT session_id, sum(uncached_input_tokens + cache_read_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, "
        "sum(output_tokens)::BIGINT, sum(reasoning_tokens)::BIGINT FROM llm_calls GROUP BY 1"
    ).rows
    return {row[0]: tuple(row[1:]) for row in found}


@needs_rollouts
def test_real_rollouts_equal_a_recount(root: Path) -> None:
    """Sums of tokens, calls by model, tool calls and results; in any order of import, and after a replay."""
    import_files(root, *reversed(ROLLOUTS))
    Indexer(root).catch_up()
    store = ReadStore(root)
    counted = {path.stem: recount(path) for path in ROLLOUTS}
    expected = {session: each["sum"] for session, each in counted.items()}
    assert sums(store) == expected
    assert {session: expected[session] for session in KNOWN if session in expected} == {
        session: total for session, total in KNOWN.items() if session in expected
    }
    per_model = Counter({(row[0], row[1]): row[2] for row in store.sql(
        "SELECT session_id, model, count(*) FROM llm_calls GROUP BY 1, 2").rows})  # fmt: skip
    assert per_model == Counter(
        {(session, model): n for session, each in counted.items() for model, n in each["calls"].items()}
    )
    assert {tuple(row) for row in store.sql(
        "SELECT session_id, count(*), count(finished) FROM tool_calls GROUP BY 1").rows
    } == {(session, each["tools"], each["outputs"]) for session, each in counted.items()}  # fmt: skip
    assert store.sql("SELECT count(usage_problem) FROM llm_calls").rows == [(0,)]
    replay.replay(root)
    assert sums(ReadStore(root)) == expected


@needs_rollouts
def test_a_real_call_without_an_event_of_its_own_is_counted() -> None:
    """In one rollout `last` says 88,404 tokens less than the sum: those of a call that the user interrupted."""
    path = next((path for path in ROLLOUTS if path.stem.startswith("019eef3d")), None)
    if path is None:
        pytest.skip("the rollout 019eef3d is not among the real ones")
    counted = recount(path)
    assert counted["total"]["total_tokens"] - counted["by_last"] == 88_404


def installed_ccusage() -> Path | None:
    """The program that the benchmarks installed in this environment, if they did."""
    return next(iter(sorted((npm.folder() / "node_modules/@ccusage").glob("*/bin/ccusage"))), None)


@needs_rollouts
def test_real_rollouts_against_ccusage(root: Path, tmp_path: Path) -> None:
    """Tokens per day and model are equal, but for the call without an event of its own: ccusage adds up `last`."""
    program = installed_ccusage()
    if program is None:
        pytest.skip("ccusage is not installed in this environment; `python -m bench` installs it")
    for path in ROLLOUTS:
        copy = tmp_path / "codex/sessions/2026/06/01" / f"rollout-2026-06-01T00-00-00-{path.name}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command: list[str | Path] = [program, "codex", "daily", "--offline", "--json"]
    environment = os.environ | {"CODEX_HOME": str(tmp_path / "codex"), "TZ": "UTC"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    theirs = {
        (day["date"], model): (used["inputTokens"], used["cacheReadTokens"], used["outputTokens"])
        for day in json.loads(done.stdout)["daily"]
        for model, used in day["models"].items()
    }
    import_files(root, *ROLLOUTS)
    Indexer(root).catch_up()
    ours = {
        (row[0], row[1]): tuple(row[2:])
        for row in rows(
            root,
            "SELECT timestamp::DATE::VARCHAR, model, sum(uncached_input_tokens)::BIGINT, "
            "sum(cache_read_tokens)::BIGINT, sum(output_tokens)::BIGINT FROM llm_calls GROUP BY ALL",
        )
    }
    assert ours.keys() == theirs.keys()
    different = {key: tuple(a - b for a, b in zip(ours[key], theirs[key], strict=True)) for key in ours}
    assert {key: each for key, each in different.items() if any(each)} == {
        ("2026-06-22", "gpt-5.5"): (176398 - 174848 - (88063 - 86912), 174848 - 86912, 741 - 672)
    }
