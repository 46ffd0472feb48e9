"""The doctor: a table of disasters, each made for real, and what it says about them."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from eventlog.config import Config
from eventlog.indexer.index import lock
from eventlog.indexer.indexer import Indexer
from eventlog.log.segment import Segment
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.sealing import seal
from eventlog.queries.doctor import CHECKS, diagnose, folders, index, machine, run, segments, snapshot
from eventlog.queries.doctor.finding import Finding, Level
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.queries.disasters import DISASTERS, NOBODY, Said, a_broken_index, an_odd_name, emit, needs_root, new_segment


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the machine that runs the tests may well be full."""
    for name in ("_LOW_BYTES", "_NONE_BYTES", "_LOW_PART", "_NONE_PART"):
        monkeypatch.setattr(machine, name, 0)


@pytest.fixture
def healthy(root: Path) -> Path:
    """A root as producers and an indexer leave it."""
    made = Recorder(Config(root=str(root), strict=True))
    for n in range(3):
        made.emit("t", {"n": n})
    made.emit("u")
    made.shutdown()
    Indexer(root).catch_up()
    return root


def said(findings: list[Finding]) -> list[Finding]:
    """What is neither ok, nor about the clock of the machine that runs the tests."""
    return [each for each in findings if each.level is not Level.OK and "kernel says" not in each.what]


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree but the times of access."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        stat = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (stat.st_mode, stat.st_uid, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, data)
    return found


def test_a_healthy_root_has_nothing_but_oks(healthy: Path) -> None:
    """And every check says what it looked at."""
    findings = diagnose(str(healthy))
    assert said(findings) == []
    assert {each.check for each in findings} == {"settings", "versions", "sources", *CHECKS}


# -- the table of disasters ---------------------------------------------------------------


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_disaster_is_named_with_what_to_do_and_nothing_is_touched(
    healthy: Path, disaster: Callable[[Path], Said]
) -> None:
    """One row of the table."""
    check, level, what, what_to_do = disaster(healthy)
    before = contents(healthy)
    findings = diagnose(str(healthy))
    assert contents(healthy) == before
    found = [each for each in findings if (each.check, each.level.value) == (check, level)]
    assert any(re.match(what, each.what) and re.search(what_to_do, each.what_to_do or "") for each in found), findings
    assert not any("could not be looked at" in each.what for each in findings)
    msgspec.json.encode(findings)


# -- disasters of the surroundings --------------------------------------------------------


def test_a_write_ahead_log_is_not_played_into_the_index(healthy: Path) -> None:
    """An indexer was killed: what it committed is seen, and its files stay as they are."""
    program = (
        "import duckdb, os, sys\n"
        "c = duckdb.connect(sys.argv[1]); c.execute(\"SET wal_autocheckpoint = '1TB'\")\n"
        "c.execute(\"INSERT INTO rejected VALUES ('s', 0, 1, 'r', NULL)\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, healthy / "index.duckdb"], check=True, timeout=60)
    assert (healthy / "index.duckdb.wal").stat().st_size
    before = contents(healthy)
    (found,) = said(diagnose(str(healthy)))
    assert found.what == "1 line in quarantine, beside 4 events"
    assert contents(healthy) == before


@contextmanager
def another_process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python until the block ends; it is ready when it has printed a line."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


HOLD_INDEX = """
import sys
from eventlog.indexer.index import index_file
with index_file.writing(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""
HOLD_INDEX_WITHOUT_A_TURN = """
import sys, duckdb
held = duckdb.connect(sys.argv[1] + "/index.duckdb")
print("ready", flush=True)
sys.stdin.read()
"""
WRITE = """
import eventlog as obs
import sys
obs.configure(root=sys.argv[1])
obs.emit("t"); obs.emit("v")
print("ready", flush=True)
sys.stdin.read()
"""
REPLAY = """
import sys
from eventlog.indexer import replay
with replay._work_file(sys.argv[1], 1) as path:
    path.touch()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("program", [HOLD_INDEX, HOLD_INDEX_WITHOUT_A_TURN])
def test_a_held_index_is_waited_for_a_few_seconds_only(healthy: Path, program: str) -> None:
    """Then its holder is named."""
    with another_process(program, healthy) as process:
        started = time.monotonic()
        found = [each for each in said(diagnose(str(healthy))) if each.check == "index"]
        assert time.monotonic() - started < 10
    assert [each.level for each in found] == [Level.WARNING]
    assert f"held for 3 s by pid {process.pid} (" in found[0].what


def test_who_writes_is_named(healthy: Path) -> None:
    """And its half-written line is no torn tail."""
    with another_process(WRITE, healthy) as process:
        with max((healthy / "log/v").iterdir()).open("ab") as file:
            file.write(b"half")
        findings = diagnose(str(healthy))
    (found,) = [each.what for each in findings if each.check == "writers"]
    assert re.fullmatch(rf"pid {process.pid} \(.*\) has 2 open: t, v", found, re.DOTALL)
    assert [each.what for each in findings if each.check == "torn tails"] == ["none"]


def test_a_segment_that_was_adopted_meanwhile_is_not_torn(healthy: Path) -> None:
    """Its new owner is in the middle of a line."""
    looked = snapshot.take_snapshot(healthy)
    (path,) = (healthy / "log/u").iterdir()
    owned = Segment.adopt(path)
    assert owned is not None
    owned.append(b"half")
    assert [each.what for each in run("torn tails", looked)] == ["none"]
    owned.close()
    assert [each.level for each in run("torn tails", looked)] == [Level.NOTE]


def test_a_writer_that_the_kernel_does_not_name_still_counts(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of locks ends at the border of a container."""
    monkeypatch.setattr(lock, "held_files", lambda: None)
    (path,) = (healthy / "log/u").iterdir()
    owned = Segment.adopt(path)
    assert owned is not None
    findings = diagnose(str(healthy))
    owned.close()
    (found,) = [each.what for each in findings if each.check == "writers"]
    assert found.startswith("1 held by processes that cannot be named from here")


def test_a_running_replay_has_left_nothing_over(healthy: Path) -> None:
    """Its file is its own."""
    with another_process(REPLAY, healthy) as process:
        findings = diagnose(str(healthy))
    (found,) = [each for each in findings if each.check == "leftovers"]
    assert found.level is Level.OK
    assert found.what.startswith(f"a replay is running: pid {process.pid} (")


def diagnose_as(uid: int, root: Path) -> list[Finding]:
    """Diagnose in a child that has become another user."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir("/")
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, msgspec.json.encode(diagnose(str(root))))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return msgspec.json.decode(data, type=list[Finding])


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can get at, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="doctor-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_another_users_eyes(reachable: Path) -> None:
    """What nobody may not do is said to nobody; what it may do, too."""
    root = reachable / "root"
    emit(root, "t", {})
    emit(root, "u", {})
    problems = [each for each in diagnose_as(NOBODY, root) if each.level is Level.PROBLEM]
    assert [(each.check, each.path) for each in problems] == [("root", str(root))]
    assert "65534) may not read 1 folder" in problems[0].what
    for path in [root, root / "log", root / "log/t", root / "log/u"]:
        path.chmod(0o755)
    problems = [each for each in diagnose_as(NOBODY, root) if each.level is Level.PROBLEM]
    assert [re.sub(r".*\) may", "may", each.what.split(":")[0]) for each in problems] == [
        "may not write to 4 folders",
        "may not read 2 segments",
    ]
    (root / "log/t").chmod(0o700)
    problems = [each for each in diagnose_as(NOBODY, root) if each.level is Level.PROBLEM]
    assert problems[0].what.split(") ")[-1] == f"may not read 1 folder: {root}/log/t"
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    assert not [each for each in diagnose_as(NOBODY, root) if each.check in ("root", "owners") and each in said([each])]
    (found,) = [each for each in diagnose_as(NOBODY, root / "../other") if each.level is Level.PROBLEM]
    assert f"cannot be reached or made: {reachable} belongs to root (uid 0)" in found.what


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "permitted"),
    [
        (0o400, 7, {9}, os.R_OK),
        (0o040, 8, {9}, os.R_OK),
        (0o040, 7, {9}, 0),  # the class of the owner comes first, and is the only one
        (0o004, 8, {1}, os.R_OK),
        (0o704, 8, {9}, 0),
        (0o300, 7, {9}, os.W_OK | os.X_OK),
        (0o000, 0, {1}, os.R_OK | os.W_OK | os.X_OK),
    ],
)
def test_rights_are_read_from_mode_owner_and_group(mode: int, uid: int, groups: set[int], permitted: int) -> None:
    """As the kernel does it, for a file of user 7 and group 9."""
    found = os.stat_result((mode, 1, 1, 1, 7, 9, 0, 0, 0, 0))
    account = snapshot.Account(uid, frozenset(groups), False)
    for want in (os.R_OK, os.W_OK, os.X_OK):
        assert snapshot.permits(found, want, account) == bool(permitted & want)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_system_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, filling up, full, out of inodes, and at last read-only."""
    monkeypatch.undo()
    with mounted(tmp_path / "disk", "size=200m,nr_inodes=1000") as folder:
        root = folder / "root"
        emit(root, "t", {})

        def levels() -> set[tuple[str, Level, str]]:
            return {
                (each.check, each.level, re.sub(r"[\d.,]+ ", "", each.what))
                for each in diagnose(str(root))
                if each.check in ("space", "file system") and each.path and each.path.startswith(str(folder))
            }

        memory = ("file system", Level.NOTE, "it is in memory (tmpfs) and gone at the next start")
        assert levels() == {memory, ("space", Level.WARNING, "MiB of MiB free for the root")}
        (folder / "big").write_bytes(bytes(150 * 1024**2))
        assert levels() == {memory, ("space", Level.PROBLEM, "MiB of MiB free for the root")}
        for n in range(992):
            (folder / f"f{n}").touch()
        assert ("space", Level.PROBLEM, "of inodes free for the root") in levels()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert ("file system", Level.PROBLEM, "the file system is mounted read-only") in levels()


def test_the_log_on_another_file_system(tmp_path: Path) -> None:
    """A volume for the log alone."""
    (tmp_path / "root").mkdir()
    with mounted(tmp_path / "root/log", "size=1m") as folder:
        found = run("file system", snapshot.take_snapshot(tmp_path / "root"))
        assert f"the log is on {folder}, the rest of the root on " in found[0].what


MOUNTS = """\
/dev/sda / ext4 rw 0 0
nas:/x /mnt/my\\040nas nfs4 rw 0 0
a@b: /mnt/ssh fuse.sshfs rw 0 0
none /c overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/mnt/my nas/root", "/mnt/my nas", "nfs4"),
        ("/mnt/ssh", "/mnt/ssh", "fuse.sshfs"),
        ("/mnt/sshx", "/", "ext4"),
        ("/c/root", "/c", "overlay"),
    ],
)
def test_the_kind_of_file_system_is_that_of_the_nearest_mount(path: str, mount: str, kind: str) -> None:
    """From the kernel's table."""
    assert folders.mount_of(Path(path), MOUNTS) == (mount, kind)
    assert folders.mount_of(Path(path), "") == ("/", "")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_promises_little(healthy: Path, kind: str) -> None:
    """As if the root were on one."""
    looked = msgspec.structs.replace(snapshot.take_snapshot(healthy), mounts=f"x / {kind} rw 0 0\n")
    (found,) = run("file system", looked)
    assert found.level is Level.WARNING
    assert f"({kind}) that may promise neither locks nor notifications" in found.what
    assert "index --watch --poll" in str(found.what_to_do)


def test_too_few_descriptors(healthy: Path, run: Run) -> None:
    """For as many types as there are."""
    for n in range(100):
        (healthy / "log" / f"type{n}").mkdir()
    program = f"ulimit -n 150; exec {sys.executable} -m eventlog doctor --json --root {healthy}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, check=True, timeout=60)
    (found,) = [each for each in json.loads(done.stdout) if each["check"] == "descriptors"]
    assert (found["level"], found["what"][:13]) == ("note", "150 in this s")
    assert "a writer keeps 18 segments open" in found["what"]  # an eighth of 150
    types = len(list((healthy / "log").iterdir()))
    assert found["what_to_do"].startswith(f"ulimit -n {types * 8}, or LimitNOFILE={types * 8}")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 150


def test_too_few_watches(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in use count."""
    limits = tmp_path / "inotify"
    limits.mkdir()
    (limits / "max_user_watches").write_text("2\n")
    (limits / "max_user_instances").write_text("9999999\n")
    monkeypatch.setattr(machine, "_INOTIFY", limits)
    (found,) = run("notifications", snapshot.take_snapshot(healthy))
    assert found.level is Level.WARNING
    assert found.what.startswith("max_user_watches is 2: 3 needed here")
    assert "sudo sysctl fs.inotify.max_user_watches=" in str(found.what_to_do)


def test_watches_in_use_are_counted(healthy: Path) -> None:
    """From the kernel: those of a process exactly, and all of them in the sum of its user.

    Other processes of this user start and stop watching meanwhile: the sum has a least value, no exact one.
    """
    program = (
        "import sys, threading, time, watchfiles\n"
        "from pathlib import Path\n"
        "from eventlog.queries.doctor import machine\n"
        "threading.Thread(target=lambda: list(watchfiles.watch(sys.argv[1])), daemon=True).start()\n"
        "ends = time.monotonic() + 30\n"
        "while list(machine._watches_of(Path('/proc/self'))) != [3] and time.monotonic() < ends: time.sleep(0.01)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with another_process(program, healthy / "log") as process:
        assert list(machine._watches_of(Path("/proc", str(process.pid)))) == [3]
        watches, instances = machine._in_use(os.geteuid())
    assert watches >= 3
    assert instances >= 1


def test_a_clock_before_there_was_an_eventlog(healthy: Path) -> None:
    """No battery."""
    looked = msgspec.structs.replace(snapshot.take_snapshot(healthy), now_s=86400.0)
    found = run("clock", looked)
    assert (found[0].level, found[0].what) == (
        Level.PROBLEM,
        "it says 1970-01-02, before there was an eventlog",
    )
    assert found[1].what.startswith("2 segments were created in the future")


def test_a_kernel_without_a_time_service(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or with one."""
    for answer, expected in ((True, [Level.NOTE]), (False, [Level.OK])):
        monkeypatch.setattr(segments, "_is_unsynchronised", lambda answer=answer: answer)
        assert [each.level for each in run("clock", snapshot.take_snapshot(healthy))] == expected


def test_a_large_log_is_looked_into_in_part(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest segments; and it says so."""
    new_segment(healthy, b"torn", created_s=10**9)
    for module in (snapshot, segments):
        monkeypatch.setattr(module, "OPENED_MAX", 2)
    looked = snapshot.take_snapshot(healthy)
    assert run("segments", looked)[0].what.endswith("; 1 older ones were not opened")
    assert [each.what for each in run("torn tails", looked)] == ["none (the newest 2 looked at)"]


def test_archived_segments_are_no_oddity(healthy: Path) -> None:
    """Nor gone."""
    seal(healthy)
    archive_sealed(healthy)
    Indexer(healthy).catch_up()
    assert said(diagnose(str(healthy))) == []


def test_an_index_full_of_gaps(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay packs it."""
    monkeypatch.setattr(index, "_LARGE_BYTES", 1000)
    (found,) = said(diagnose(str(healthy)))
    assert "eventlog replay writes it afresh" in str(found.what_to_do)


def test_a_check_that_fails_is_a_finding(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others run."""

    def broken(_: object) -> list[Finding]:
        raise OSError("I/O error")

    monkeypatch.setitem(CHECKS, "clock", broken)
    findings = diagnose(str(healthy))
    (found,) = said(findings)
    assert (found.check, found.level, found.what) == ("clock", Level.PROBLEM, "could not be looked at: I/O error")
    assert findings[-1].check == "index"


# -- the command --------------------------------------------------------------------------


def test_the_page_for_people(healthy: Path, run: Run) -> None:
    """A line per finding, what to do below it, no colours in a pipe, nothing that drives a terminal."""
    an_odd_name(healthy)
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("oddities "))
    assert lines[place] == (
        "oddities       warning  log/t/notes\N{REPLACEMENT CHARACTER}[31m.txt is left alone: "
        "the name is not that of a segment"
    )
    assert lines[place + 1] == f"{'':22}  → move it out of the log, or name it right"
    assert re.search(r"^segments       ok       2 \(\d+ B\), 0 sealed; 2 unsealed", done.stdout, re.MULTILINE)
    assert "1 warning" in lines[-1]


def test_a_problem_is_exit_code_1(healthy: Path, run: Run) -> None:
    """In both forms."""
    a_broken_index(healthy)
    assert run("doctor").returncode == 1
    done = run("doctor", "--json")
    assert done.returncode == 1
    (found,) = [each for each in json.loads(done.stdout) if each["level"] == "problem"]
    assert list(found) == ["check", "level", "what", "what_to_do", "path"]
    assert found["path"] == str(healthy / "index.duckdb")


def test_nothing_is_made_where_nothing_was(root: Path, run: Run, tmp_path: Path) -> None:
    """A root that is not there, one that is a file, one whose link leads nowhere."""
    before = contents(tmp_path)
    assert "the root is not there: nothing is recorded yet" in run("doctor").stdout
    assert contents(tmp_path) == before
    root.symlink_to(tmp_path / "nowhere")
    assert "the root is a link that leads nowhere" in run("doctor").stdout
    root.unlink()
    root.write_text("")
    done = run("doctor")
    assert "the root is not a folder" in done.stdout
    assert done.returncode == 1
