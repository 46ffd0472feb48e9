"""Over HTTP alone: keys, rule, events, metrics, health, what fired. A timer checks the rules."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.server.running import serving


def test_the_way_of_a_team_over_http(tmp_path: Path) -> None:
    with serving(tmp_path / "root") as server:
        made = server.post("/v1/keys", {"workspace": "team", "scopes": ["ingest", "read", "admin"], "note": "walk"})
        assert made.status == 201
        key = made.json["key"]
        rule = {"kind": "error_rate", "threshold": "0.2", "window_s": 3600, "of": "runs", "min_samples": 1}
        assert server.request("PUT", "/v1/alerts/rules/failing", rule, key=key).status == 200
        price = {"model": "house-model", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
        assert server.post("/v1/prices", price, key=key).status == 201

        events = []
        for number in range(4):
            about = {"run_id": f"run-{number}", "agent": "planner"}
            call = {"request_model": "house-model", "uncached_input_tokens": 1_000_000, "output_tokens": 500_000}
            end = {"status": "ok"} if number else {"status": "error", "error_type": "GaveUp"}
            events += [
                {"event_type": "run_started", "payload": {"name": "nightly"}, **about},
                {"event_type": "llm_call", "payload": call, **about},
                {"event_type": "run_finished", "payload": {"duration_ms": 5.0, **end}, **about},
            ]
        once = {"Idempotency-Key": "seed"}
        first, again = (server.post("/v1/events", events, key=key, headers=once) for _ in range(2))
        assert (first.json["accepted"], again.json["ids"]) == (12, first.json["ids"])

        (metrics,) = _until(lambda: server.get("/v1/metrics", key=key).json, lambda rows: rows and rows[0]["runs"] == 4)
        assert (metrics["runs_error"], metrics["llm_calls"], float(metrics["cost_usd"])) == (1, 4, 8.0)
        (health,) = server.get("/v1/health?agent=planner", key=key).json
        assert health["agent"] == "planner"
        assert [penalty["name"] for penalty in health["penalties"] if penalty["points"]] == ["run_errors"]

        command = [sys.executable, "-m", "eventlog", "alerts", "check", "--root", str(server.root)]
        subprocess.run(command, check=False, capture_output=True, timeout=60)
        (firing,) = _until(lambda: server.get("/v1/alerts?history=true", key=key).json, bool)
        assert (firing["name"], firing["state"]) == ("failing", "open")
        assert server.post("/v1/alerts/rules/failing/ack", {"note": "seen"}, key=key).status == 200
        foreign = server.post("/v1/keys", {"workspace": "other", "scopes": ["read"]}).json["key"]
        for path in ("/v1/runs", "/v1/metrics", "/v1/alerts?history=true", "/v1/events"):
            answer = server.get(path, key=foreign).json
            assert (answer["events"] if isinstance(answer, dict) else answer) == []


def _until(ask: Callable[[], Any], is_there: Callable[[Any], object], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not is_there(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.2)
    return answer
