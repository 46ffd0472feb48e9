"""Who may import whom, and what a program that only writes has to carry."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import eventlog
from eventlog.config import Config
from eventlog.indexer.indexer import Indexer
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT

PACKAGES = ("eventlog", "indexer", "queries", "server")
#: Besides the standard library.
MAY_IMPORT = {
    "eventlog": {"msgspec"},
    "indexer": {"duckdb", "watchfiles", "msgspec"},
    "queries": {"duckdb", "msgspec"},
    "server": {"starlette", "msgspec"},
}
#: Command-line modules may also use these.
COMMAND_LINE = {"click"}
#: And these the one module that asks them.
ALONE = {
    "queries/cost/prices.py": {"genai_prices"},
    "queries/alerts/delivery.py": {"apprise"},
    "server/serve.py": {"uvicorn"},
    "server/live.py": {"watchfiles"},
    "server/web/templates.py": {"jinja2", "markupsafe"},
}
#: Named for type checkers only, and loaded when a program asks for it.
LAZY = {"eventlog/__init__.py": {"eventlog.queries.store"}}
#: The rooms, floor by floor from the ground up: a module may import from its own floor and from those below.
ROOMS = (
    ("eventlog.errors", "eventlog.version", "eventlog.durability", "eventlog.short"),
    ("eventlog.installation", "eventlog.client"),
    ("eventlog.process",),
    ("eventlog.config",),
    ("eventlog.format",),
    ("eventlog.log",),
    ("eventlog.record",),
    ("eventlog",),
    ("eventlog.maintenance", "eventlog.ship"),
    ("eventlog.importers",),
    ("eventlog.cli", "eventlog.__main__"),
    ("eventlog.indexer.sql",),
    ("eventlog.indexer.index",),
    ("eventlog.indexer.views",),
    ("eventlog.indexer.load",),
    ("eventlog.indexer.search",),
    ("eventlog.indexer",),
    ("eventlog.queries.identity", "eventlog.queries.rows", "eventlog.queries.zones"),
    ("eventlog.queries.text",),
    ("eventlog.queries.access",),
    (
        "eventlog.queries.alerts",
        "eventlog.queries.bundle",
        "eventlog.queries.conversation",
        "eventlog.queries.cost",
        "eventlog.queries.demo",
        "eventlog.queries.doctor",
        "eventlog.queries.events",
        "eventlog.queries.health",
        "eventlog.queries.insights",
        "eventlog.queries.metrics",
        "eventlog.queries.runs",
        "eventlog.queries.search",
    ),
    ("eventlog.queries",),
    ("eventlog.queries.cli",),
    ("eventlog.server",),
    ("eventlog.server.web",),
    ("eventlog.server.routes",),
    ("eventlog.server.app", "eventlog.server.serve"),
    ("eventlog.server.cli",),
)
TOPICS = next(rooms for rooms in ROOMS if "eventlog.queries.runs" in rooms)


def _dotted(path: Path) -> str:
    """`queries/cost/rates.py` is installed as `eventlog.queries.cost.rates`."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts if parts[0] == "eventlog" else ("eventlog", *parts)).removesuffix(".__init__")


PATHS = {
    _dotted(path): path
    for package in PACKAGES
    for path in sorted((PROJECT / package).rglob("*.py"))
    if not (package == "eventlog" and path.relative_to(PROJECT).parts[1] in PACKAGES)
}
MODULES = list(PATHS.values())


def imported(path: Path) -> set[str]:
    """All modules that a module imports, anywhere in it; of eventlog's own, the deepest that is named."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            names |= {f"{module}.{name.name}" if f"{module}.{name.name}" in PATHS else module for name in node.names}
    names -= LAZY.get(path.relative_to(PROJECT).as_posix(), set())
    return {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}


def room(module: str) -> str:
    """The room of ROOMS that a module stands in."""
    rooms = [room for floor in ROOMS for room in floor if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len)


FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


@pytest.mark.parametrize("module", PATHS)
def test_imports_run_one_way(module: str) -> None:
    """eventlog ← indexer ← queries, and from room to room below; click only where commands are."""
    path = PATHS[module]
    names = imported(path)
    own = {name for name in names if name.split(".")[0] == "eventlog"}
    assert own <= set(PATHS)
    upwards = {name for name in own if FLOOR[room(name)] > FLOOR[room(module)]}
    assert not upwards

    where = path.relative_to(PROJECT).as_posix()
    allowed = MAY_IMPORT[where.split("/")[0]] | ALONE.get(where, set())
    if "cli" in path.relative_to(PROJECT).parts or path.stem == "cli":
        allowed |= COMMAND_LINE
    assert {name.split(".")[0] for name in names - own} <= allowed


def test_no_imports_go_round_in_circles() -> None:
    """Those inside functions count: to read one module one need not read another that needs the first."""
    arrows = {module: imported(path) & set(PATHS) - {module} for module, path in PATHS.items()}
    while removable := [module for module, names in arrows.items() if not names & set(arrows)]:
        for module in removable:
            del arrows[module]
    assert not arrows


def _reached(module: str) -> set[str]:
    """All modules that come with a module, third parties' too."""
    reached, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= (imported(PATHS[name]) if name in PATHS else set()) - reached
    return reached


@pytest.mark.parametrize("module", [module for module in PATHS if room(module) in TOPICS])
def test_topics_have_no_face(module: str) -> None:
    """They take a connection or a reader and return structs: for a command, for a server, for a notebook."""
    reached = _reached(module)
    assert not {name.split(".")[0] for name in reached} & COMMAND_LINE
    assert "eventlog.queries.store" not in reached


def test_untrusted_sql_is_run_in_one_room() -> None:
    """Elsewhere nobody opens the index for it: one room has to be right about what a query may do."""
    for module, path in PATHS.items():
        if room(module) != "eventlog.queries.access":
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert not names & {"untrusted", "extract_statements"}, module


@pytest.mark.parametrize("module", PATHS)
def test_what_is_private_is_used_in_its_room_only(module: str) -> None:
    """A name with an underscore in front is its module's; modules of one room may share it."""
    tree = ast.parse(PATHS[module].read_text())
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "eventlog":
            for name in node.names:
                modules[name.asname or name.name] = f"{node.module}.{name.name}"
                if name.name.startswith("_") and not name.name.startswith("__"):
                    assert room(node.module) == room(module), f"{name.name} is private to {node.module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
            owner = modules.get(node.value.id)
            if owner in PATHS and not node.attr.startswith("__"):
                assert room(owner) == room(module), f"{node.attr} is private to {owner}"


def test_the_folders_are_imported_by_their_installed_names_only() -> None:
    """From a checkout `import queries` would give a second copy of each class."""
    for folder in (*PACKAGES, "tests", "faults", "fixtures", "bench"):
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.split(".")[0] for name in names} & {"indexer", "queries"}, path


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


def test_read_store_is_loaded_when_it_is_asked_for() -> None:
    """`from eventlog import *` and `help(eventlog)` need no DuckDB, and what needs it says which extra is missing."""
    program = """
        import sys
        import eventlog
        assert "duckdb" not in sys.modules and "ReadStore" in dir(eventlog)
        from eventlog import ReadStore
        assert ReadStore is eventlog.ReadStore is sys.modules["eventlog.queries.store"].ReadStore
    """
    assert "duckdb" in loaded_by(program)
    without = """
        import inspect, sys
        sys.modules["duckdb"] = None
        from eventlog import *
        import eventlog
        assert inspect.getmembers(eventlog) and not hasattr(eventlog, "WriteStore")
        try:
            from eventlog import ReadStore
        except MissingExtra as error:
            assert "ReadStore (duckdb is missing)" in str(error) and "'agent-eventlog[index]'" in str(error)
            assert isinstance(error, ImportError)  # so that whoever wants it where it is there catches what is usual
        else:
            raise AssertionError
    """
    assert "pandas" not in loaded_by(without)


def test_no_public_name_is_that_of_a_submodule() -> None:
    """Whoever imports the one would get the other."""
    modules = {module.name for module in pkgutil.iter_modules(eventlog.__path__)}
    assert {"indexer", "queries", "record"} <= modules
    assert not modules & {*eventlog.__all__, "ReadStore"}
    assert all(hasattr(eventlog, name) for name in eventlog.__all__)


@pytest.mark.parametrize(
    ("old", "new"),
    [("events", "format.builtin"), ("alert_events", "format.alerts"), ("blobs", "log.blobs")],
)
def test_modules_that_the_documentation_named_keep_their_names_for_one_version(old: str, new: str) -> None:
    """Whichever way they are imported, the module is the same one."""
    program = f"""
        import eventlog.{old}
        from eventlog import {old} as by_name
        import eventlog.{new}
        assert by_name is eventlog.{old} is eventlog.{new}
    """
    loaded_by(program)


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
    """A hook that runs once per event should not wait for DuckDB, nor for the metadata of what is installed."""
    program = """
        import os
        os.environ["EVENTLOG_DIR"] = os.path.join(os.environ["HOME"], "root")
        from eventlog.cli.main import run
        assert run(["emit", "t"]) == 0
    """
    assert not loaded_by(program) & ((HEAVY | {"email"}) - {"click", "asyncio"})  # importlib.metadata loads email


def test_a_query_loads_nothing_but_what_answers_it(root: Path) -> None:
    """Loading takes longer than most queries: nothing that only the indexer needs."""
    program = f"""
        import contextlib, io, sys
        from eventlog.cli.main import run
        with contextlib.redirect_stdout(io.StringIO()) as answer:
            assert run(["sql", "SELECT 1 AS one", "--root", {str(root)!r}]) == 0
        assert "one" in answer.getvalue()
        print(*sorted({{"watchfiles", "asyncio", "eventlog.indexer.indexer"}} & set(sys.modules)))
    """
    Recorder(Config(root=str(root), strict=True)).emit("t")
    Indexer(root).catch_up()
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


_NEEDS = "needs an optional dependency; try: pip install 'agent-eventlog[index]'\n"
WITHOUT = {
    "duckdb": (["sql", "SELECT 1"], f"error: eventlog sql (duckdb is missing) {_NEEDS}"),
    "watchfiles": (["index", "--watch"], f"error: eventlog index --watch (watchfiles is missing) {_NEEDS}"),
    "click": (
        ["emit", "t"],
        "error: the eventlog command needs click; try: pip install 'agent-eventlog[index]' "
        "(or 'agent-eventlog[cli]', for commands that need no index)\n",
    ),
}


def test_the_version_needs_no_extra() -> None:
    """It is what one asks for first."""
    code = (
        "import sys; sys.modules['click'] = None; sys.argv[1:] = ['--version']\nfrom eventlog.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"eventlog, version {eventlog.__version__}\n", "")


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
    assert "pip install 'agent-eventlog[index]'" in done.stdout
    assert "can be indexed later" in done.stderr
    assert len(list((root / "log/t").iterdir())) == 1
