"""The curl lines of docs/server.md, each run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.server.running import Running, serving

_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
#: One command, with the lines that go on behind a backslash.
_COMMAND = re.compile(r"^curl (?:[^\n]*\\\n)*[^\n]*$", re.MULTILINE)
COMMANDS = [
    command for block in _BLOCK.findall((PROJECT / "docs/server.md").read_text()) for command in _COMMAND.findall(block)
]
#: These name what there is only in the example.
_NOT_THERE = ("nightly-7", "01a1fc0e-90e7")


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("documented") / "root") as running:
        yield running


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works(command: str, documented: Running, tmp_path: Path) -> None:
    """As long as the address and the key are those of the server; streams are cut off after a second."""
    status = "-o answer -w '%{http_code}' -m 1" if "/v1/stream" in command else "-o answer -w '%{http_code}'"
    command = command.replace("localhost:4318", "$URL").replace("curl ", f"curl -s {status} ", 1)
    variables = {**os.environ, "URL": documented.url, "KEY": documented.key}
    # A stream that is cut off ends with an exit code of its own.
    shell = ["sh", "-c", command]
    done = subprocess.run(shell, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=60)
    expected = "404" if any(name in command for name in _NOT_THERE) else "200"
    assert done.stdout == expected, (tmp_path / "answer").read_text()
