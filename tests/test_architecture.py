"""Who may import whom, and what a program that only writes has to carry."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.recorder import Recorder
from indexer.indexer import Indexer
from tests.conftest import PROJECT

PACKAGES = ("eventlog", "indexer", "queries")
MAY_IMPORT = {
    "eventlog": {"eventlog", "msgspec"},
    "indexer": {"eventlog", "indexer", "duckdb", "watchfiles", "msgspec"},
    "queries": {"eventlog", "indexer", "queries", "duckdb", "msgspec"},
}
#: Command-line modules may also use these.
COMMAND_LINE = {"click", "rich"}
#: And these the one module that asks them.
ALONE = {"queries/cost/prices.py": {"genai_prices"}}
MODULES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """All top-level packages that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add((node.module or "").split(".")[0])
    return names - sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_run_one_way(path: Path) -> None:
    """eventlog ← indexer ← queries; click and rich only where commands are."""
    package = path.relative_to(PROJECT).parts[0]
    allowed = set(MAY_IMPORT[package])
    if path == PROJECT / "queries/alerts/delivery.py":
        allowed |= {"apprise"}
    if "cli" in path.relative_to(PROJECT).as_posix() or path.stem == "render":
        allowed |= COMMAND_LINE
    allowed |= ALONE.get(path.relative_to(PROJECT).as_posix(), set())
    assert imported(path) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_modules_are_small_and_say_what_they_are_for(path: Path) -> None:
    """A docstring, and at most 600 lines."""
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    assert ast.get_docstring(ast.parse(text))


def loaded_by(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a program."""
    code = f"{textwrap.dedent(program)}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}}, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


HEAVY = {
    "duckdb",
    "watchfiles",
    "click",
    "rich",
    "indexer",
    "queries",
    "numpy",
    "pandas",
    "pyarrow",
    "asyncio",
    "genai_prices",
}


def test_importing_and_emitting_loads_msgspec_and_the_standard_library_only() -> None:
    """In a fresh interpreter."""
    program = """
        import os
        os.environ["EVENTLOG_DIR"] = os.path.join(os.environ["HOME"], "root")
        import eventlog as obs
        with obs.context(run_id="r"):
            assert obs.emit("t", {"n": 1})
    """
    found = loaded_by(program)
    assert not found & HEAVY
    third_party = {name for name in found - sys.stdlib_module_names if not name.startswith("_")} - loaded_by("")
    assert third_party - {"typing_extensions"} == {"eventlog", "msgspec"}  # which msgspec uses where it is there


def test_emitting_imports_nothing_any_more(root: Path) -> None:
    """A process may have given up its rights, its root folder or its last descriptor after `import eventlog`."""
    program = f"""
        import os, sys
        import eventlog as obs, msgspec
        sys.meta_path.clear()

        @obs.event("reading")
        class Reading(msgspec.Struct):
            celsius: float

        obs.configure(root={str(root)!r}, durability="synced", sync_interval_s=0.01)
        with obs.context(run_id="r"):
            assert obs.emit(Reading(1.5))
            assert obs.emit("t", {{"n": None}}, dedupe_key="k", timestamp="2026-01-02")
            assert obs.emit("t", {{"n": float("nan")}}) is None
        blocker = {str(root / "log/u")!r}
        open(blocker, "w").close()
        assert obs.emit("u") is None
        os.unlink(blocker)
        assert obs.emit("u")
        assert obs.flush()
        assert (obs.stats().emitted, obs.stats().refused, obs.stats().lost) == (3, 1, 1)

        traced = obs.traced(lambda: obs.decision("q", chosen=object()))
        with obs.run("r", heartbeat_s=0.05) as run, obs.step("s"), run.timed_llm_call(request_model="m") as call:
            call.usage = {{"input_tokens": 1, "output_tokens": 2}}
            traced()
            try:
                run.tool_call("t", result=1 / 0)
            except ZeroDivisionError as error:
                obs.error(error)
        assert run.stats().unpriced_calls == 1
        obs.shutdown()
    """
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert {folder.name for folder in (root / "log").iterdir()} >= {"reading", "t", "u", "events_dropped"}


def test_the_emit_command_does_not_load_the_index_side() -> None:
    """A hook that runs once per event should not wait for DuckDB."""
    program = """
        import os
        os.environ["EVENTLOG_DIR"] = os.path.join(os.environ["HOME"], "root")
        from eventlog.cli.main import run
        assert run(["emit", "t"]) == 0
    """
    assert not loaded_by(program) & (HEAVY - {"click", "asyncio"})


def test_a_query_loads_nothing_but_what_answers_it(root: Path) -> None:
    """Loading takes longer than most queries: no terminal, no drawing; and nothing that only the indexer needs."""
    program = f"""
        import contextlib, io, sys
        from eventlog.cli.main import run
        with contextlib.redirect_stdout(io.StringIO()) as answer:
            assert run(["sql", "SELECT 1 AS one", "--root", {str(root)!r}]) == 0
        assert "one" in answer.getvalue()
        print(*sorted({{"rich", "watchfiles", "asyncio", "indexer.indexer"}} & set(sys.modules)))
    """
    Recorder(Config(root=str(root), strict=True)).emit("t")
    Indexer(root).catch_up()
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


_NEEDS = "needs an optional dependency; try: pip install 'eventlog[index]'\n"
WITHOUT = {
    "duckdb": (["sql", "SELECT 1"], f"error: eventlog sql (duckdb is missing) {_NEEDS}"),
    "watchfiles": (["index", "--watch"], f"error: eventlog index --watch (watchfiles is missing) {_NEEDS}"),
    "click": (
        ["emit", "t"],
        "error: the eventlog command needs click; try: pip install 'eventlog[cli]' (or 'eventlog[all]')\n",
    ),
}


@pytest.mark.parametrize("missing", WITHOUT)
def test_a_missing_extra_is_named(missing: str, root: Path) -> None:
    """With the line that installs it."""
    arguments, message = WITHOUT[missing]
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments!r}\n"
        "from eventlog.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == message


def test_a_mode_without_its_extra_still_writes(root: Path) -> None:
    """`dual` asked for by the environment, but no DuckDB: the log is written all the same."""
    code = (
        "import sys; sys.modules['duckdb'] = None\n"
        f"import os; os.environ.update(EVENTLOG_MODE='dual', EVENTLOG_DIR={str(root)!r})\n"
        "import eventlog as obs; assert obs.emit('t')\n"
        "try:\n    obs.configure(mode='dual')\nexcept obs.MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'eventlog[index]'" in done.stdout
    assert "can be indexed later" in done.stderr
    assert len(list((root / "log/t").iterdir())) == 1
