"""What is asked of a server in tests, and a root with two workspaces that look alike."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from eventlog.format import builtin
from eventlog.format.alerts import AlertRuleSet
from tests.queries.stories import Story
from tests.server.running import Answered, Running

#: As long as each other, so that answers about one are as long as about the other.
OWN, FOREIGN, NOBODY = "alpha", "gamma", "omega"


def ask(server: Running, path: str, *, key: str | None = "", tags: str = "", **parameters: Any) -> Answered:
    """Ask with parameters, of which lists are repeated; `tags` is If-None-Match."""
    query = urlencode(parameters, doseq=True)
    headers = {"If-None-Match": tags} if tags else {}
    return server.get(f"{path}?{query}" if query else path, key=key, headers=headers)


def two_workspaces(root: Path) -> dict[str, list[str]]:
    """In each workspace, one of everything, whose names hold that of the workspace; return the ids of events."""
    ids: dict[str, list[str]] = {}
    for number, workspace in enumerate((OWN, FOREIGN)):
        names: dict[str, Any] = {
            "workspace": workspace, "agent": f"agent-{workspace}", "run_id": f"run-{workspace}",
            "session_id": f"session-{workspace}", "request_id": f"request-{workspace}",
        }  # fmt: skip
        at = number * 60
        with Story(root, **names) as story:
            ids[workspace] = [
                story.tell(at, builtin.RunStarted(name=f"nightly {workspace}", task=f"Tidy {workspace}")),
                story.tell(
                    at + 1,
                    builtin.LlmCall(
                        request_model=f"model-{workspace}",
                        uncached_input_tokens=100,
                        output_tokens=10,
                        latency_ms=500.0,
                        input_messages=[{"role": "user", "content": f"the word is zebra{workspace}"}],
                    ),
                ),
                story.tell(at + 2, builtin.ToolCall(tool_name=f"tool_{workspace}", arguments={"n": 1}, ok=False)),
                story.tell(at + 3, f"note_{workspace}", {"text": f"zebra{workspace}"}, audit_level="export"),
                story.tell(at + 4, builtin.RunFinished(status="ok", duration_ms=4000.0)),
            ]
        with Story(root, workspace=workspace) as story:
            rates = {"input_usd_per_mtok": "5", "output_usd_per_mtok": "25"}
            rule = AlertRuleSet(name=f"rule-{workspace}", kind="cost", threshold=Decimal(1), window_s=60)
            story.tell(at + 5, "price_set", {"model": f"model-{workspace}", **rates})
            story.tell(at + 6, rule)
    return ids
