"""The recount shares no code with the product, nor with the tests of the product."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
#: What compares, and needs both.
BETWEEN = {"product.py", *(path.name for path in FOLDER.glob("test_*.py"))}
COUNTING = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in BETWEEN)
ALLOWED = {
    "__future__",
    "collections",
    "datetime",
    "decimal",
    "fractions",
    "genai_prices",
    "json",
    "pathlib",
    "random",
    "typing",
    "uuid",
}


def imported(source: str) -> set[str]:
    """The modules that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("name", COUNTING)
def test_it_imports_the_standard_library_and_itself(name: str) -> None:
    """And the price list. Nothing of eventlog, indexer or queries, not even through a helper of other tests."""
    source = (FOLDER / name).read_text()
    others = {module for module in imported(source) if module.split(".")[0] not in ALLOWED}
    assert {module for module in others if not module.startswith("tests.recount.")} == set()
    assert {f"{module.removeprefix('tests.recount.')}.py" for module in others} <= set(COUNTING)
    assert "import_module" not in source
    assert "__import__" not in source


def test_the_guard_sees_what_is_imported() -> None:
    """In any form, and late."""
    assert imported("import eventlog.x\ndef f():\n    from indexer import y\nfrom . import z") == {
        "eventlog.x", "indexer", ".",
    }  # fmt: skip
    assert {
        "log.py", "runs.py", "calls.py", "sessions.py", "costs.py", "metrics.py", "health.py", "requests.py",
        "alerts.py", "rollouts.py", "library.py",
    } <= set(COUNTING)  # fmt: skip
