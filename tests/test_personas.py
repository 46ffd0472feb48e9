"""The first five minutes of each kind of user, from a wheel in an empty home, in a terminal of 80 columns.

What they see is compared to the letter with `tests/personas/*.txt`. A file is what somebody would paste: commands
behind `$ `, and what the terminal showed. To write the files anew after a change that is meant:

    WRITE_SCREENS=1 pytest tests/test_personas.py
"""

from __future__ import annotations

import os
import re
import shutil
import venv
from pathlib import Path

import pytest

from tests import terminals
from tests.conftest import PROJECT
from tests.test_installed import Built, Environment, build, install

pytestmark = pytest.mark.slow

SCREENS = Path(__file__).parent / "personas"
_ROWS = 200
#: What differs each time, and what stands for it.
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b01[0-9a-f]{6}(?:-[0-9a-f]{1,4})*\b"), "<id>"),
    (re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{16})\b"), "<hash>"),
    (re.compile(r"^today \(.*"), "today …"),
    (re.compile(r"(?<= age) +took +"), "  took  "),
    (
        re.compile(
            r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
        ),
        "<time>",
    ),
    (re.compile(r"\b[0-9]{8}T[0-9]{6,12}Z-[0-9a-f]{16}\b"), "<segment>"),
    (re.compile(r"\b[0-9.,]+ (?:µs|ms|s|min|h)\b(?: ago)?"), "<time>"),
    (re.compile(r"(?<![-\w])[0-9]+[smhdw]\b"), "<age>"),
    (re.compile(r"genai-prices [0-9.]+"), "genai-prices <version>"),
    (re.compile(r"\b[0-9.,]+ (?:bytes|KiB|MiB|GiB)\b"), "<size>"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel of this checkout, twice: nobody installs the other one."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; try: pip install 'agent-eventlog[test]'")
    (path,) = build(PROJECT, tmp_path_factory.mktemp("dist"), "wheel")
    return Built(path, path)


def sections(text: str) -> list[tuple[str, str]]:
    """Return the commands of a screen, each with what was shown."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def shown(environment: Environment, command: str) -> str:
    """Run a command in a terminal, and return what it shows there."""
    variables = {
        "PATH": f"{environment.folder / 'bin'}:{os.defpath}", "HOME": str(environment.work.parent / "home"),
        "TERM": "xterm", "NO_COLOR": "1", "TZ": "UTC", "LANG": "C.UTF-8",
    }  # fmt: skip
    return terminals.shown(["sh", "-c", command], variables, rows=_ROWS, folder=environment.work)


_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str, environment: Environment) -> str:
    """Replace what differs each time; lines with such a part have their columns elsewhere, so spaces count as one."""
    lines = []
    for line in _ESCAPE.sub("", text).removesuffix("\n").split("\n"):
        drawn = line.split("\r")[-1].rstrip()  # the last state of what is drawn over itself
        made = drawn.replace(str(environment.work.parent / "home"), "~").replace(str(environment.work), ".")
        for pattern, name in _VARYING:
            made = pattern.sub(name, made)
        lines.append(made if made == drawn else re.sub(r" {2,}|─+", "  ", made))
    # What today costs is told on one line or on two.
    return re.sub(r"^today …\n(?!\$).*\n", "today …\n", "\n".join(lines) + "\n", flags=re.MULTILINE) if text else ""


@pytest.mark.parametrize("persona", ["owner", "developer", "analyst", "operator"])
def test_the_first_five_minutes(persona: str, tmp_path: Path, wheel: Built) -> None:
    """Each command, each answer."""
    venv.create(tmp_path / "env", symlinks=True)
    environment = Environment(tmp_path / "env", tmp_path / "work")
    environment.work.mkdir()
    install(environment, wheel, "index")
    home = tmp_path / "home"
    if persona == "owner":
        shutil.copytree(PROJECT / "fixtures/claude-code", home / ".claude/projects/-home-ada-kiln")
    path = SCREENS / f"{persona}.txt"
    expected = path.read_text()
    walked = "".join(
        f"$ {command}\n{plain(shown(environment, command), environment)}" for command, _ in sections(expected)
    )
    if os.environ.get("WRITE_SCREENS"):
        path.write_text(walked)
    assert walked == expected
