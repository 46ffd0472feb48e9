"""The OpenAPI document: what it says is what is answered, whatever is asked (schemathesis)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.server.endpoints import ENDPOINTS
from tests.server.running import Running, serving
from tests.server.support_reads import OWN, ask, two_workspaces

#: Of the whole campaign.
_TIME_S = 40


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("openapi") / "root"
    two_workspaces(root)
    with serving(root) as running:
        yield running


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def test_the_document_has_every_endpoint_with_its_parameters(open_server: Running) -> None:
    """And every schema that it refers to."""
    document = ask(open_server, "/v1/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {*(endpoint.path for endpoint in ENDPOINTS), "/v1/sql"}
    assert set(document["paths"]["/v1/events"]) == {"get", "post"}
    for endpoint in ENDPOINTS:
        operation = document["paths"][endpoint.path]["get"]
        parameters = [(each["name"], each["in"]) for each in operation["parameters"]]
        path = [("id", "path")] if "{id}" in endpoint.path else []
        assert parameters == [*path, *((each.name, "query") for each in endpoint.all_parameters)]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]
    names = {reference.removeprefix("#/components/schemas/") for reference in _references(document)}
    assert names == set(document["components"]["schemas"])
    runs = document["components"]["schemas"]["PricedRun"]["properties"]
    assert set(ask(open_server, "/v1/runs").json[0]) == set(runs)


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_is_not_described(open_server: Running, tmp_path: Path) -> None:
    """It asks every endpoint for everything that the document allows, and for some that it does not.

    What fits the document may be refused all the same: no schema says that `since` is before `until`. Answers of
    real data are among them: the root has a run of the name that is asked for.
    """
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    # One worker: with threads, Python 3.11 may fail to parse code (python/cpython#106905).
    command = [
        program, "run", f"{open_server.url}/v1/openapi.json", "--header", f"Authorization: Bearer {open_server.key}",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "4", "--max-time", f"{_TIME_S}", "--workers", "1",
        "--exclude-checks", "positive_data_acceptance", "--exclude-operation-id", "send", "--seed", "1",
        "--continue-on-failure", "--no-color", "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3 * _TIME_S, check=False)
    assert done.returncode == 0, "\n".join(line[:300] for line in done.stdout.splitlines())
    assert "No issues found" in done.stdout
    assert ask(open_server, f"/v1/runs/run-{OWN}").status == 200
