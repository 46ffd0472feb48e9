"""The settings file of a folder that may be a stranger's: it names things, and nothing in it hurts anybody."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog import config
from eventlog.config import Mode, files, trust
from eventlog.errors import ConfigError
from eventlog.queries.doctor import diagnose
from tests.conftest import Run, lines_of

SECRET = "sk-ant-api03-" + "a1B2" * 20
HOSTILE = 'mode = "off"\nroot = "elsewhere"\nredact = false\nworkspace = "acme"\n'


def resolved() -> config.Resolved:
    return config.resolve({}, {})


def fifo(path: Path) -> None:
    os.mkfifo(path)


def fed_fifo(path: Path) -> None:
    """Somebody holds its other end open and never writes."""
    os.mkfifo(path)
    os.open(path, os.O_RDWR | os.O_NONBLOCK)


#: What may stand at ./eventlog.toml, and a word of what is said about it.
ODD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (fifo, "a FIFO"),
    "a FIFO with a silent writer": (fed_fifo, "a FIFO"),
    "a folder": (lambda path: path.mkdir(), "a folder"),
    "a link": (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
    "a link to itself": (lambda path: path.symlink_to(path), "a symbolic link"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
    "a huge file": (lambda path: path.write_bytes(b"#" * 10**8), "larger than 4,096 bytes"),
    "no TOML": (lambda path: path.write_text("workspace ="), "cannot be read as TOML"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be read as TOML"),
    "deep": (lambda path: path.write_text("a=" + "[" * 4000), "nested too deep"),
    "dotted": (lambda path: path.write_text("a." * 2000 + "a = 1"), "unknown setting 'a'"),
    "a dotted name": (lambda path: path.write_text("agent" + ".a" * 2000 + " = 1"), "Expected `str | null`"),
    "a long name": (lambda path: path.write_text(f"workspace = '{'x' * 3000}'"), "is longer than 200 characters"),
    "a list for a name": (lambda path: path.write_text("agent = ['x']"), "Expected `str | null`, got `array`"),
    "many unknown names": (lambda path: path.write_text("".join(f"x{n} = 1\n" for n in range(300))), "unknown setting"),
    "operator": (lambda path: path.write_text("operator = true"), "operator left out"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_FILES)
def test_whatever_stands_there_an_agent_records_at_once(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised, waited for or lost; it is said once, in few words."""
    make, word = ODD_FILES[kind]
    make(Path("eventlog.toml"))
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    began_s = time.monotonic()
    assert obs.emit("t") is not None
    assert time.monotonic() - began_s < 5
    assert len(lines_of(root, "t")) == 1
    assert b"acme" not in lines_of(root, "t")[0]
    assert word in caplog.text
    assert len(caplog.records) <= 3
    assert len(caplog.text) < 2000
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    obs.configure(root=root)
    obs.emit("t")
    assert len(caplog.records) <= 3, "said once"


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out, and named."""

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    Path("eventlog.toml").write_text("workspace = 'x'")
    monkeypatch.setattr(os, "open", refuse)
    assert resolved().left_out == [
        f"{Path.cwd()}/eventlog.toml cannot be read: Permission denied; nothing of it counts"
    ]


def test_a_file_of_another_user_counts_for_nothing_until_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /tmp."""
    Path("eventlog.toml").write_text("workspace = 'x'")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(files, "read", owned_by(12))
    assert resolved().config.workspace is None
    assert "belongs to another user (uid 12): nothing of it counts" in resolved().left_out[0]
    monkeypatch.undo()


def owned_by(uid: int) -> Callable[..., files.Content | None]:
    """`files.read` as if the files were another user's."""
    read = files.read

    def read_(path: Path, max_bytes: int, *, follow: bool) -> files.Content | None:
        content = read(path, max_bytes, follow=follow)
        if content is None or path.name != files.NAME:
            return content
        status = list(content.status)
        status[stat.ST_UID] = uid
        return content._replace(status=os.stat_result(status))

    return read_


def test_a_cloned_repository_neither_moves_nor_mutes_nor_unmasks(
    root: Path, tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name counts; the rest is said to an agent's log, and on the standard error of commands."""
    Path("eventlog.toml").write_text(HOSTILE)
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    assert obs.emit("t", {"key": SECRET})
    (line,) = lines_of(root, "t")
    assert SECRET.encode() not in line
    assert json.loads(line)["workspace"] == "acme"
    assert not Path("elsewhere").exists()
    says = f"{Path.cwd()}/eventlog.toml comes with the project and may only name things: mode, redact, root left out"
    assert says in caplog.text
    done = run("emit", "t", json.dumps({"key": SECRET}))
    assert (done.returncode, done.stderr) == (0, f"note: {says}; look into it, then: eventlog trust {Path.cwd()}\n")
    assert SECRET.encode() not in lines_of(root, "t")[-1]
    assert next(each.what for each in diagnose() if each.level.value == "warning").startswith(says)


def test_trust_holds_for_one_content_of_one_folder(run: Run, tmp_path: Path) -> None:
    """By its real path; a changed file has to be trusted again."""
    Path("eventlog.toml").write_text(HOSTILE)
    (tmp_path / "link").symlink_to(Path.cwd())
    done = run("trust", str(tmp_path / "link"))
    path = Path.cwd() / "eventlog.toml"
    assert done.stdout == (
        f"trusted {path}, as it is now; it sets:\n"
        "  mode = 'off'\n  root = 'elsewhere'\n  redact = False\n  workspace = 'acme'\n"
    )
    assert (resolved().config.mode, resolved().config.root) == (Mode.OFF, str(Path.cwd() / "elsewhere"))
    assert resolved().left_out == []
    Path("eventlog.toml").write_text(HOSTILE + "agent = 'a'\n")
    assert (resolved().config.mode, resolved().config.agent) == (Mode.FILE_ONLY, "a")
    assert "it was changed since you trusted it" in resolved().left_out[0]
    assert run("trust", "--list").stdout.startswith("changed  since 20")
    Path("eventlog.toml").write_text(HOSTILE)
    assert run("trust", "--list").stdout.startswith("trusted  since 20")
    Path("eventlog.toml").unlink()
    assert run("trust", "--list").stdout.startswith("gone     since 20")
    assert run("trust", "--remove").stdout == f"{Path.cwd()} is trusted no longer\n"
    assert run("trust", "--list").stderr == "no folder is trusted\n"
    assert run("trust", "--remove").returncode == 2


def test_the_list_of_trusted_folders_is_the_users_alone() -> None:
    """Mode 0600; one that others may write to counts for nothing, and says so."""
    Path("eventlog.toml").write_text(HOSTILE)
    trust.add({}, Path.cwd(), HOSTILE.encode())
    path = Path.home() / ".config/eventlog/trusted.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o620)
    assert resolved().config.mode is Mode.FILE_ONLY
    assert f"{path}: others may write to it, so no folder is trusted" in resolved().left_out[0]
    with pytest.raises(ConfigError, match="others may write to it"):
        trust.add({}, Path.cwd(), b"")
    path.chmod(0o600)
    path.write_text("{")
    assert "delete it, and trust the folders again" in resolved().left_out[0]


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        (None, "there is no "),
        ("mode = 'fast'", "it is one of file_only"),
        ("operator = true", "in code only"),
        ("=", "TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_not_trusted(toml: str | None, reason: str, run: Run) -> None:
    """The mistake is named instead."""
    if toml is not None:
        Path("eventlog.toml").write_text(toml)
    done = run("trust")
    assert (done.returncode, done.stdout, reason in done.stderr) == (2, "", True)
    assert trust.folders({}) == {}


def test_two_who_trust_at_a_time_lose_nothing(tmp_path: Path) -> None:
    """Two terminals, or a script."""
    folders = [tmp_path / str(n) for n in range(8)]
    for folder in folders:
        folder.mkdir()
    threads = [threading.Thread(target=trust.add, args=({}, folder, b"")) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(trust.folders({})) == {str(folder) for folder in folders}


def test_the_users_file_is_the_users_alone() -> None:
    """One that everybody may write to is a mistake that is named; an agent goes on without it."""
    path = Path.home() / ".config/eventlog/eventlog.toml"
    path.parent.mkdir(parents=True)
    path.write_text("mode = 'off'")
    assert resolved().config.mode is Mode.OFF
    path.chmod(0o666)
    assert resolved().config.mode is Mode.FILE_ONLY
    with pytest.raises(ConfigError, match="others may write to it"):
        config.load({})


def test_the_users_file_may_be_a_link_and_its_folder_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tools that manage settings have it; and in its own folder it is no project's."""
    folder = Path.home() / ".config/eventlog"
    folder.mkdir(parents=True)
    Path("dotfile").write_text("root = 'log'\nmode = 'dual'")
    (folder / "eventlog.toml").symlink_to(Path.home() / "dotfile")
    assert (resolved().config.root, resolved().config.mode) == (str(folder / "log"), Mode.DUAL)
    (folder / "eventlog.toml").unlink()
    (folder / "eventlog.toml").write_text("mode = 'dual'")
    monkeypatch.chdir(folder)
    assert (resolved().config.mode, resolved().left_out) == (Mode.DUAL, [])


def test_a_home_that_may_not_be_searched_has_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of whoever ran `sudo -u`, say. A file that a variable names is a mistake all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    Path("eventlog.toml").write_text("mode = 'off'")
    monkeypatch.setattr(files, "is_out_of_reach", lambda _: True)
    assert (resolved().problems, resolved().left_out) == ([], [])
    assert trust.folders({}) == {}
    monkeypatch.setattr(files, "_check_kind", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        config.load({"EVENTLOG_CONFIG": "eventlog.toml"})


def test_nobodys_home_is_not_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `~` in a stranger's project is not the home of a user without one; nor is a relative XDG_CONFIG_HOME."""
    for home in ("~", "xdg"):
        path = Path(home, ".config" if home == "~" else "", "eventlog/eventlog.toml")
        path.parent.mkdir(parents=True)
        path.write_text("mode = 'off'")
    assert config.resolve({"XDG_CONFIG_HOME": "xdg"}).config.mode is Mode.FILE_ONLY
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert config.resolve({"EVENTLOG_DIR": "/x"}).config.mode is Mode.FILE_ONLY


def test_a_named_file_is_read_in_place_of_both(tmp_path: Path) -> None:
    """It is the choice of whoever starts the program, and may set everything."""
    Path("eventlog.toml").write_text("agent = 'project'")
    user = Path.home() / ".config/eventlog/eventlog.toml"
    user.parent.mkdir(parents=True)
    user.write_text("mode = 'off'")
    (tmp_path / "named.toml").write_text("root = 'log'\nworkspace = 'w'")
    found = config.load({"EVENTLOG_CONFIG": str(tmp_path / "named.toml")})
    assert (found.agent, found.mode, found.workspace, found.root) == (None, Mode.FILE_ONLY, "w", str(tmp_path / "log"))
    assert config.load({"EVENTLOG_CONFIG": os.devnull}).mode is Mode.FILE_ONLY
    with pytest.raises(ConfigError, match="a device, not a file"):
        config.load({"EVENTLOG_CONFIG": "/dev/zero"})


def test_an_agent_whose_folder_is_gone(root: Path) -> None:
    """It records under an absolute root, and a relative one is named and left out."""
    code = (
        "import os, tempfile, eventlog as o\n"
        "folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)\n"
        "print(o.recorder().config.root, o.emit('t') is not None)"
    )
    for given_root, expected in ((str(root), str(root)), ("relative", str(Path.home() / ".local/state/eventlog"))):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "EVENTLOG_DIR": given_root, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.stdout == f"{expected} True\n", done.stderr
        assert ("is relative, and the current folder is gone" in done.stderr) == (given_root == "relative")


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_no_bytes_of_a_project_change_more_than_names(data: bytes) -> None:
    """Whatever they are; also beside settings that are TOML."""
    plain = resolved_with(b"")
    for content in (data, HOSTILE.encode() + data, data + b"\n" + HOSTILE.encode()):
        changed = resolved_with(content)
        assert changed.problems == []
        for name in set(config.Config.__struct_fields__) - {"workspace", "agent"}:
            assert getattr(changed.config, name) == getattr(plain.config, name)


def resolved_with(content: bytes) -> config.Resolved:
    Path("eventlog.toml").write_bytes(content)
    return resolved()
