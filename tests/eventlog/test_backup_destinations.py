"""Where backups go, the command line, and the parts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from eventlog.errors import BackupFailed, ConfigError, ObjectMissing
from eventlog.log import layout
from eventlog.log.content import digests, extent
from eventlog.log.segment import Segment
from eventlog.maintenance import backup as backing
from eventlog.maintenance import manifest
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from tests.conftest import PROJECT, Run
from tests.eventlog.backups import Place, Server, backed_up, emit, events, only, restored, serve, stop, use

# -- destinations ----------------------------------------------------------------------------


def test_a_destination_keeps_objects(place: Place) -> None:
    """The contract: put, put again, get in blocks, list under a folder, delete twice."""
    made = place.open()
    large = [bytes([number]) * 3_000_000 for number in range(4)]
    assert made.list("a") == []
    made.put("a/b/one", [b"1"])
    made.put("a/b/one", [b"11", b"12"])
    made.put("a/large", large)
    made.put("a/empty", [])
    made.put("ab/other", [b"x"])
    assert b"".join(made.get("a/b/one")) == b"1112"
    assert b"".join(made.get("a/large")) == b"".join(large)
    assert b"".join(made.get("a/empty")) == b""
    assert max(map(len, made.get("a/large"))) < 11_000_000
    assert made.list("a") == ["a/b/one", "a/empty", "a/large"]
    for _ in range(2):
        made.delete("a/large")
    assert made.list("a") == ["a/b/one", "a/empty"]
    with pytest.raises(ObjectMissing) as caught:
        list(made.get("a/large"))
    assert str(caught.value) == f"{place.text}: there is no a/large"


def test_an_object_whose_source_fails_is_not_there(place: Place) -> None:
    """Not even a part of it."""
    made = place.open()

    def failing() -> Iterator[bytes]:
        yield b"x" * 6_000_000
        yield b"x" * 6_000_000
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        made.put("a/b", failing())
    assert made.list("a") == []
    made.put("a/b", [b"1"])
    assert made.list("a") == ["a/b"]


def test_a_folder_is_for_its_owner_alone_and_swept_of_old_leftovers(tmp_path: Path) -> None:
    """What another run is writing now is left."""
    made = open_destination(str(tmp_path / "backup"))
    made.put("log/t/a", [b"1"])
    for name, age_s in (("old", 2 * 24 * 3600), ("new", 60)):
        path = tmp_path / "backup" / "tmp" / name
        path.write_bytes(b"")
        os.utime(path, (time.time() - age_s,) * 2)
    open_destination(str(tmp_path / "backup")).put("log/t/b", [b"1"])
    assert [path.name for path in (tmp_path / "backup" / "tmp").iterdir()] == ["new"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "backup").rglob("*") if path.name != "new"}
    assert modes == {"log": 0o700, "t": 0o700, "tmp": 0o700, "a": 0o600, "b": 0o600}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gs://user:password@b/x", "gs:// is not a place for backups; use a folder or s3://bucket/prefix"),
        ("s3://key:password@b/x", "not the name of a bucket; use s3://bucket/prefix, "),
        ("s3:///x", "not the name of a bucket; "),
        ("s3://b1x/../y", "not the name of a bucket; "),
    ],
)
def test_a_name_that_cannot_be_a_destination(text: str, message: str) -> None:
    """Is refused without repeating what may be a password."""
    with pytest.raises(ConfigError) as caught:
        open_destination(text)
    assert str(caught.value).startswith(message)
    assert "password" not in str(caught.value)


BUCKET_ERRORS: dict[str, tuple[str, dict[str, str], str]] = {
    "no such bucket": (
        "s3://nobody/x", {},
        r"error: s3://nobody/x: there is no bucket 'nobody' at http://\S+; create it, or check the name"
    ),
    "a wrong key": (
        "s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"},
        r"error: s3://bucket/x: cannot list manifests: the server at http://\S+ answers SignatureDoesNotMatch; "
        r"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do",
    ),
    "nobody there": (
        "s3://bucket/x", {"AWS_ENDPOINT_URL": "http://user:wrong@127.0.0.1:1"},
        r"error: s3://bucket/x: cannot list manifests at http://127\.0\.0\.1:1: .*; "
        r"check AWS_ENDPOINT_URL and the network",
    ),
    "no address": (
        "s3://bucket/x", {"AWS_ENDPOINT_URL": "user:wrong@127.0.0.1"},
        r"error: AWS_ENDPOINT_URL is not an address like https://host or http://host:port",
    ),
    "a setting of no use": (
        "s3://bucket/x", {"AWS_SKIP_SIGNATURE": "perhaps"},
        r'error: s3://bucket/x: the AWS_\* variables cannot be used: .* failed to parse "perhaps" as boolean',
    ),
    "nothing backed up": (
        "s3://bucket/nothing", {}, r"error: s3://bucket/nothing: there is no backup \(no manifests\); check the name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BUCKET_ERRORS)
def test_errors_of_buckets(run: Run, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """In a line, soon, and without a password."""
    text, environment, message = BUCKET_ERRORS[case]
    use(server, monkeypatch)
    emit(root, "t", 1)
    started = time.monotonic()
    done = run("restore" if case == "nothing backed up" else "backup", text, **environment)
    assert time.monotonic() - started < 20
    assert re.fullmatch(message + "\n", done.stderr)
    assert "wrong" not in done.stderr
    assert (done.returncode, done.stdout) == (2 if "AWS_" in message.split(";")[0] else 1, "")


def test_a_server_that_takes_nothing(run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, or read-only: it says which object, and nothing is recorded."""
    process, server = serve(tmp_path / "data", "--read-only")
    try:
        use(server, monkeypatch)
        emit(root, "t", 1)
        done = run("backup", "s3://bucket/x")
    finally:
        stop(process)
    assert done.returncode == 1
    assert re.match(
        r"error: s3://bucket/x: cannot store log/t/\S+: the server at http://\S+ answers \w+; ", done.stderr
    )
    assert events(root) == []


def test_a_server_that_goes_away_in_the_middle(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified before counts."""
    process, server = serve(tmp_path / "data")
    use(server, monkeypatch)
    monkeypatch.setattr(backing, "FLUSH_SEGMENTS", 2)
    emit(root, "t", *range(20), pad=900)
    place = Place("s3://bucket/x", server.bucket / "x")
    inner = place.open()
    puts = 0

    class Leaving:
        name = inner.name
        list, get, delete, finish = inner.list, inner.get, inner.delete, inner.finish

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            nonlocal puts
            puts += 1
            if puts == 5:
                stop(process)
            inner.put(key, blocks)

    with pytest.raises(BackupFailed, match="check AWS_ENDPOINT_URL and the network"):
        backup(root, Leaving(), say=print)
    left = Place(str(server.bucket / "x"), server.bucket / "x")  # what it kept is a backup like any other
    assert len(manifest.read(left.open()).segments()) == 2
    assert backed_up(root, left).present == 2
    assert restored(tmp_path / "new", left).failures == []


# -- the command line ------------------------------------------------------------------------


def test_backup_and_restore_on_the_command_line(run: Run, root: Path, tmp_path: Path, place: Place) -> None:
    """What each run says, and what to do next."""
    run("emit", "t", '{"n": 1}')
    size = only(root, "t").stat().st_size
    said = run("backup", place.text, "--dry-run")
    assert said.stdout == f"would copy 1 segment ({size} bytes on disk) to {place.text}; 0 there already\n"
    said = run("backup", place.text)
    assert (said.stdout, said.stderr) == (
        f"copied 1 segment ({size} bytes on disk) to {place.text}; 0 there already\n",
        "",
    )
    new = tmp_path / "new"
    said = run("restore", place.text, "--root", str(new), "--dry-run")
    assert said.stdout == f"would restore 1 segment ({size} bytes on disk) to {new}; 0 there already\n"
    said = run("restore", place.text, "--root", str(new))
    assert said.stdout == f"restored 1 segment ({size} bytes on disk) to {new}; 0 there already\n"
    assert said.stderr == f"next: eventlog replay --root {new}\n"
    only(new, "t").write_bytes(b"x" * size)
    said = run("restore", place.text, "--root", str(new))
    assert (said.returncode, said.stdout) == (1, f"restored 0 segments (0 bytes on disk) to {new}; 0 there already\n")
    name = next(path.stem for path in (new / "log/t").iterdir() if path.name != only(root, "t").name)
    assert said.stderr == (
        f"t/{only(root, 't').stem}: the log has other bytes than the backup, and they stay; "
        f"the backup's are restored as {name}\n"
        "error: 1 of them failed; the others are done\n"
    )


def test_a_backup_does_not_go_into_the_log(run: Run, root: Path) -> None:
    """It would be taken for a part of it."""
    run("emit", "t")
    for where in (root, root / "log" / "t", root / "backup"):
        done = run("backup", str(where))
        assert (
            done.stderr == f"error: {where} is inside {root}; keep the backup somewhere else, on another disk at best\n"
        )
        assert done.returncode == 2


def test_a_bar_in_a_terminal(root: Path, tmp_path: Path) -> None:
    """On standard error."""
    emit(root, "t", 1)
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "backup", str(tmp_path / "place")],
        stdout=subprocess.DEVNULL,
        stderr=end,
        env={**os.environ, "EVENTLOG_DIR": str(root), "PYTHONPATH": str(PROJECT), "TERM": "xterm"},
    )
    os.close(end)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while block := os.read(terminal, 4096):
            seen += block
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"backing up" in seen
    assert b"100%" in seen


def test_without_its_extra_a_bucket_is_an_error_that_names_it(root: Path) -> None:
    """And a folder works."""
    emit(root, "t", 1)
    code = (
        "import sys; sys.modules['obstore'] = None; from eventlog.cli.main import run; "
        f"sys.exit(run(['backup', 's3://bucket/x', '--root', {str(root)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stderr == (
        "error: a backup to s3://… needs an optional dependency; try: pip install 'agent-eventlog[s3]'\n"
    )
    assert done.returncode == 2


# -- the parts -------------------------------------------------------------------------------


def test_hashes_of_beginnings() -> None:
    """Wherever the blocks end; those that are not reached are left out."""
    data = b"abcdefghij"
    for step in (1, 3, 10, 20):
        found = digests((data[at : at + step] for at in range(0, 10, step)), [0, 3, 4, 10, 11])
        assert (found.size, found.sha256) == (10, hashlib.sha256(data).hexdigest())
        assert found.beginnings == {size: hashlib.sha256(data[:size]).hexdigest() for size in (0, 3, 4, 10)}
    assert digests([], [0, 1]).beginnings == {0: hashlib.sha256(b"").hexdigest()}


def test_how_much_of_a_segment_is_settled(root: Path) -> None:
    """Up to the last newline while it is owned, however far back; all of it then."""
    owner = Segment.create(root / "log" / "t")
    (segment,) = layout.list_log(root).segments
    assert extent(segment) == (0, False)
    owner.append(b"{}\n")
    os.write(owner._fd, b"x" * 200_000)
    assert extent(segment) == (3, False)
    owner.close()
    assert extent(segment) == (200_003, True)
    owner.path.unlink()
    assert extent(segment) == (0, False)


def test_a_backup_without_a_destination_is_a_usage_error(run: Run) -> None:
    """Not a traceback's words."""
    for arguments in (["backup"], ["backup", "--verify"]):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "missing argument 'DEST'" in done.stderr
