"""The words of the code: nouns of docs/glossary.md, not words that say nothing of the thing that they name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_architecture import PATHS

#: What was found, what is given, who was told: name the thing instead (segment, row, rule, path).
BANNED = frozenset({"found", "what", "given", "told", "said", "kept", "known", "place"})
#: Fields that keep their names, and why.
EXCEPTIONS = {
    "eventlog.queries.doctor.finding.Finding.what": "in what `eventlog doctor --json` prints",
    "eventlog.queries.health.score.Penalty.found": "in what `eventlog health --json` prints",
}


def public_names(path: Path) -> Iterator[str]:
    """The module, what it defines at its top, methods and fields of its classes, and parameters of all of these."""
    yield path.stem
    for node in ast.parse(path.read_text()).body:
        yield from _names(node, "")


def _names(node: ast.stmt, owner: str) -> Iterator[str]:
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and not name.id.startswith("_"):
                    yield owner + name.id
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    if node.name.startswith("_") and node.name != "__init__":
        return
    yield owner + node.name
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            yield from _names(member, f"{owner}{node.name}.")
        return
    signature = node.args
    for argument in (*signature.posonlyargs, *signature.args, *signature.kwonlyargs, signature.vararg, signature.kwarg):
        if argument is not None and not argument.arg.startswith("_"):
            yield f"{owner}{node.name}({argument.arg})"


def test_public_things_are_named_by_their_nouns() -> None:
    """No module, function, class, method, field, constant or parameter has a banned word as its only name."""
    vague = {
        f"{module}.{name}"
        for module, path in PATHS.items()
        for name in public_names(path)
        if name.rstrip(")").replace("(", ".").split(".")[-1].lower() in BANNED
    }
    assert vague == set(EXCEPTIONS)


def test_the_test_sees_each_kind_of_name(tmp_path: Path) -> None:
    """In a module that has one of each; what is private is not looked at."""
    module = tmp_path / "kept.py"
    module.write_text(
        "known = 1\n_told = 2\n"
        "def read(path, *found, given, _said): ...\n"
        "class Known:\n"
        "    place: int\n"
        "    def __init__(self, what): ...\n"
        "    def told(self): ...\n"
        "    def _said(self, kept): ...\n"
        "class _Found:\n"
        "    what: int\n"
    )
    names = set(public_names(module))
    assert names >= {
        "kept", "known", "read(found)", "read(given)", "Known", "Known.place", "Known.__init__(what)", "Known.told",
    }  # fmt: skip
    assert not {name for name in names if "_told" in name or "_said" in name or "_Found" in name}
