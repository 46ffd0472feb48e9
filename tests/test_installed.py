"""What is installed: built from this checkout, put into fresh environments, and used as a newcomer would.

Nothing is downloaded but two packages of other projects, which have to live beside this one. The environment that the
tests run in lends what eventlog depends on: what the metadata of the wheel ask for, and nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

VERSION = "eventlog, version 0.1.0\n"
_ASK = """python -c 'import eventlog; print(eventlog.ReadStore("root").{}("SELECT 42 AS answer"))'"""
#: Extra → commands that it is for, and a part of what the last of them prints.
EXTRAS = {
    "cli": (["emit t", "seal", "archive", "verify", "tail", "doctor"], "not installed: duckdb"),
    "index": (
        [
            "emit t",
            "seal",
            "archive",
            "index",
            "runs",
            "status",
            "prune --older-than 1d",
            "sql 'SELECT 42 AS answer'",
            f"import claude-code {shlex.quote(str(PROJECT / 'fixtures/claude-code'))}",
            "index",
            "cost prices",
        ],
        "genai-prices",
    ),
    "s3": (["emit t", "backup s3://bucket/x"], "cannot list manifests at http://127.0.0.1:9"),
    "pandas": (["emit t", "index", _ASK.format("arrow"), _ASK.format("pandas")], "42"),
    "alerts": (["emit t", "index", "alerts check", "alerts test ntfy://127.0.0.1:9/t"], "A Connection error occurred"),
}
#: Their last commands try to reach a server where none is.
FAILING = {"s3", "alerts"}


class Built(NamedTuple):
    """What comes out of the build."""

    sdist: Path
    wheel: Path


class Environment(NamedTuple):
    """A virtual environment without pip, and a folder to work in, where packages of the user's have names of ours."""

    folder: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def site(self) -> Path:
        return self.folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

    def install(self, *what: str | Path) -> None:
        """Install files with the pip of the environment that the tests run in."""
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
        ]
        subprocess.run([*pip, *what], check=True, timeout=100)

    def lend(self, *requirements: str) -> None:
        """Link what is required, and what that requires, from the environment that the tests run in."""
        for distribution in needed(requirements).values():
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                if not (self.site / top).exists():
                    (self.site / top).symlink_to(Path(str(distribution.locate_file(top))))

    def sh(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a shell, with the environment's programs first, an empty home, and no settings."""
        path = f"{self.folder / 'bin'}:{os.defpath}"
        env = {"PATH": path, "HOME": str(self.work.parent), "EVENTLOG_DIR": str(self.work / "root"), **environment}
        return subprocess.run(
            ["sh", "-c", command], cwd=self.work, env=env, capture_output=True, text=True, check=False, timeout=60
        )


def needed(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Return the installed distributions that requirements come to, by name."""
    distributions: dict[str, metadata.Distribution] = {}
    todo, done = [Requirement(line) for line in requirements], set()
    while todo:
        requirement = todo.pop()
        if str(requirement) not in done:
            done.add(str(requirement))
            distribution = distributions[requirement.name] = metadata.distribution(requirement.name)
            todo += applying(distribution, requirement.extras)
    return distributions


def applying(distribution: metadata.Distribution, extras: Iterable[str]) -> list[Requirement]:
    """Return what a distribution requires here, with some extras."""
    requirements = [Requirement(line) for line in distribution.requires or ()]
    chosen = [{"extra": extra} for extra in ("", *extras)]
    return [each for each in requirements if each.marker is None or any(map(each.marker.evaluate, chosen))]


def build(project: Path, folder: Path, *targets: str) -> list[Path]:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *(f"-t{target}" for target in targets)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=100)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist and the wheel of this checkout."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; try: pip install 'agent-eventlog[test]'")
    wheel, sdist = build(PROJECT, tmp_path_factory.mktemp("dist"), "sdist", "wheel")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheels of the packages that other projects have under our names."""
    folder = tmp_path_factory.mktemp("strangers")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--retries", "1", "-w", str(folder)]
    done = subprocess.run(
        [*command, "queries==2.1.1", "eventlog==0.11.0"], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.skip(f"the packages queries and eventlog of other projects cannot be had: {done.stderr[-300:]}")
    return {path.name.split("-")[0]: path for path in folder.iterdir()}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A fresh one."""
    venv.create(tmp_path / "env", symlinks=True)
    for folder in ("queries", "indexer"):
        (tmp_path / "work" / folder).mkdir(parents=True)
        (tmp_path / "work" / folder / "__init__.py").write_text("raise RuntimeError('this is not eventlog')\n")
    return Environment(tmp_path / "env", tmp_path / "work")


def install(environment: Environment, built: Built, extra: str | None) -> None:
    """Install the wheel, and what it says that it needs with one extra."""
    environment.install(built.wheel)
    (installed,) = metadata.distributions(path=[str(environment.site)])
    environment.lend(*(f"{each.name}" + _extras(each) for each in applying(installed, [extra] if extra else [])))


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(requirement.extras)}]" if requirement.extras else ""


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist()), "a file is in there twice"
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_one_package(built: Built) -> None:
    """With all modules of the checkout, each once, its types, its documentation and its licence, and nothing else."""
    names = set(files(built.wheel))
    assert {name.split("/")[0] for name in names} == {"eventlog", "agent_eventlog-0.1.0.dist-info"}
    modules = {name for name in names if name.startswith("eventlog/")}
    assert modules == {
        str(path.relative_to(PROJECT))
        for folder in ("eventlog", "eventlog/indexer", "eventlog/queries", "eventlog/server", "eventlog/docs")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in (".py", ".html", ".js", ".css", ".md", ".svg") or path.name == "py.typed"
    }
    assert {"eventlog/py.typed", "eventlog/indexer/load/batch.py", "eventlog/docs/cost.md"} <= modules
    assert "agent_eventlog-0.1.0.dist-info/licenses/LICENSE" in names


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    """The links of the checkout are folders there."""
    with tarfile.open(built.sdist) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    (wheel,) = build(tmp_path / "agent_eventlog-0.1.0", tmp_path / "dist", "wheel")
    assert files(wheel) == files(built.wheel)


def test_the_metadata_say_what_it_is_called_and_name_no_index(built: Built) -> None:
    """The extras refer to the distribution by its own name; an address of the project is not known yet."""
    text = files(built.wheel)["agent_eventlog-0.1.0.dist-info/METADATA"].decode()
    head = text.split("\n\n", 1)[0]
    assert re.search(r"^Name: agent-eventlog$", head, re.MULTILINE)
    assert "Requires-Dist: eventlog" not in head
    assert "Project-URL" not in head
    assert "Home-page" not in head


def test_the_base_alone_emits_and_says_its_version(environment: Environment, built: Built) -> None:
    """A hook that asks for the version needs no extra; another command says what it needs."""
    install(environment, built, None)
    for command in ("eventlog --version", "python -m eventlog --version"):
        done = environment.sh(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, VERSION, "")
    done = environment.sh("eventlog emit t")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'agent-eventlog[index]'" in done.stderr
    for option in ("--help", "-h"):
        done = environment.sh(f"eventlog {option}")
        assert (done.returncode, done.stderr) == (0, "")
        assert "pip install 'agent-eventlog[index]'" in done.stdout
    done = environment.sh("""python -c 'import eventlog as obs; assert obs.emit("t"); obs.ReadStore'""")
    assert "pip install 'agent-eventlog[index]'" in done.stderr
    assert list((environment.work / "root/log/t").iterdir())


def test_what_the_readme_names_is_small(environment: Environment, built: Built) -> None:
    """Without the libraries of data frames, twice as large as all else; an environment itself has 26 MB."""
    environment.install(built.wheel)
    (installed,) = metadata.distributions(path=[str(environment.site)])
    needed_ = needed([f"{each.name}{_extras(each)}" for each in applying(installed, ["index"])])
    assert not needed_.keys() & {"pyarrow", "pandas", "numpy"}
    parts = [installed, *needed_.values()]
    paths = [Path(str(each.locate_file(file))) for each in parts for file in each.files or ()]
    assert sum(path.stat().st_size for path in paths if path.is_file()) < 128_000_000


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_alone_has_a_command_line_for_what_it_is_for(
    extra: str, environment: Environment, built: Built
) -> None:
    """As far as servers are concerned: to where they would be."""
    install(environment, built, extra)
    s3 = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    commands, printed = EXTRAS[extra]
    for command in commands:
        done = environment.sh(command if command.startswith("python ") else f"eventlog {command}", **s3)
        assert "optional dependency" not in done.stderr, done.stderr
        assert done.returncode == (extra in FAILING and command == commands[-1]), (command, done.stdout, done.stderr)
    assert printed in done.stdout + done.stderr


def the_usual(environment: Environment) -> None:
    """What somebody does on the first day."""
    assert environment.sh("eventlog --version").stdout == VERSION
    for command in ("eventlog emit t", "python -m eventlog emit t", "python -m eventlog index", "eventlog runs"):
        done = environment.sh(command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = environment.sh("eventlog doctor")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = environment.sh("eventlog sql 'SELECT count(*) AS n FROM events' --format jsonl")
    assert done.stdout == '{"n":2}\n'


def test_it_works_in_a_folder_with_packages_of_the_users(environment: Environment, built: Built) -> None:
    """`queries/` and `indexer/` are good names for one's own."""
    install(environment, built, "index")
    the_usual(environment)
    done = environment.sh("python -c 'import queries'")
    assert "this is not eventlog" in done.stderr


def test_it_works_beside_the_queries_of_another_project(
    environment: Environment, built: Built, strangers: dict[str, Path]
) -> None:
    """A PostgreSQL client; both are whole, and each can be taken away again."""
    install(environment, built, "index")
    shutil.rmtree(environment.work / "queries")
    environment.install(strangers["queries"])
    assert (environment.site / "queries/session.py").exists()
    the_usual(environment)
    assert "psycopg2" in environment.sh("python -c 'import queries'").stderr  # theirs, without what it needs


def test_doctor_finds_the_eventlog_of_another_project(
    environment: Environment, built: Built, strangers: dict[str, Path]
) -> None:
    """A Django app, which takes the place of ours and leaves a hole: commands say so, and doctor says what to do."""
    install(environment, built, "index")
    environment.install(strangers["eventlog"])
    repair = "pip install --force-reinstall --no-deps agent-eventlog"
    done = environment.sh("eventlog emit t")
    assert (done.returncode, done.stdout) == (2, "")
    init = environment.site / "eventlog/__init__.py"
    fact = f"error: another package has removed or overwritten {init}; try: "
    assert done.stderr == f"{fact}pip uninstall -y eventlog && {repair}\n"
    done = environment.sh("eventlog doctor")
    assert done.returncode == 1
    assert "eventlog 0.11.0, which is not agent-eventlog, is installed in" in done.stdout
    assert f"→ pip uninstall -y eventlog && {repair}" in done.stdout

    pip = [sys.executable, "-m", "pip", "--python", str(environment.python)]
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "eventlog"], check=True, timeout=60)
    assert environment.sh("eventlog emit t").stderr == f"{fact}{repair}\n"
    done = environment.sh("eventlog doctor")
    assert done.returncode == 1
    assert "files of agent-eventlog are missing: eventlog/__init__.py" in done.stdout
    environment.install("--force-reinstall", built.wheel)
    the_usual(environment)


def test_files_that_are_gone_are_named(environment: Environment, built: Built) -> None:
    """By the commands that need them, doctor among them, and in the list of commands; others work."""
    install(environment, built, "index")
    shutil.rmtree(environment.site / "eventlog/indexer")
    repair = "pip install --force-reinstall --no-deps agent-eventlog"
    for command in ("eventlog index", "eventlog doctor"):
        done = environment.sh(command)
        assert (done.returncode, done.stderr) == (2, f"error: eventlog.indexer is missing; try: {repair}\n")
    assert re.search(r"index +\(some of its files are missing\)", environment.sh("eventlog --help").stdout)
    assert environment.sh("eventlog emit t").returncode == 0


def test_a_program_that_uses_it_is_checked(environment: Environment, built: Built) -> None:
    """The types are there, those of what is loaded late too; names that are not there are errors."""
    install(environment, built, "index")
    program = environment.work / "program.py"
    program.write_text(
        "import eventlog as obs\nfrom eventlog import ReadStore\n\n"
        "obs.events.LlmCall\nreveal_type(ReadStore('root').counts()[0].events)\nobs.WriteStore\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment.python), str(program)]
    done = subprocess.run(mypy, capture_output=True, text=True, check=False, timeout=100, cwd=environment.work.parent)
    assert 'Revealed type is "int"' in done.stdout.replace("builtins.", "")
    assert 'Module has no attribute "WriteStore"' in done.stdout
    assert "Found 1 error" in done.stdout, done.stdout


def test_an_editable_install_is_the_checkout() -> None:
    """The environment that the tests run in is one. The links lead to the folders."""
    code = "import eventlog.queries.store as store; print(store.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(PROJECT / "eventlog/queries/store.py")
    assert Path(done.stdout.strip()).samefile(PROJECT / "queries/store.py")


def test_nothing_names_a_package_index_by_its_address() -> None:
    """Where a package comes from is a setting of whoever installs it. Links lead to the projects."""
    address = re.compile("|".join(["py" + "pi[.]org", "python" + "hosted", "npm" + "js"]).encode())
    folders = ("eventlog", "indexer", "queries", "tests", "faults", "fixtures", "bench", "docs", ".ci")
    paths = [path for folder in folders for path in (PROJECT / folder).rglob("*") if "__pycache__" not in path.parts]
    paths += PROJECT.glob("*")
    assert PROJECT / "README.md" in paths
    assert not [str(path) for path in paths if path.is_file() and address.search(path.read_bytes())]
