"""However many event types there are, segments take a part of the descriptors, and nothing is lost by closing some."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import eventlog as obs
from eventlog.durability import Durability
from eventlog.log import descriptors, reader
from eventlog.log.writer import Writer
from tests.conftest import lines_of

LINE = b'{"n":%d}\n'


def writer(root: Path, durability: Durability = Durability.WRITTEN, sync_interval_s: float = 0) -> Writer:
    return Writer(
        root,
        segment_max_bytes=2**26,
        segment_max_age_s=3600,
        durability=durability,
        sync_interval_s=sync_interval_s,
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Four segments may be open."""
    monkeypatch.setattr(descriptors, "limit", lambda: 4)
    return 4


def open_segments(root: Path) -> int:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(link).startswith(str(root.resolve())) for link in links if os.path.lexists(link))


def run(program: str, root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), root], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "settings", ["sync_interval_s=0.05", "durability='synced'", "sync_interval_s=0", "mode='dual'"]
)
def test_a_thousand_types_under_a_limit_of_256(root: Path, settings: str) -> None:
    """All is recorded, in one segment per type, and the program can still open files."""
    types = 1000 if "synced" not in settings else 200
    said = run(
        f"""
        import resource, sys, eventlog as obs
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        obs.configure(root=sys.argv[1], {settings})
        done = sum(bool(obs.emit(f"tool.call_{{k}}", {{"round": r}})) for r in range(3) for k in range({types}))
        files = [open(sys.executable, "rb") for _ in range(100)]
        print(done, obs.stats().lost, obs.flush())
        """,
        root,
    )
    assert said == f"{3 * types} 0 True"
    assert len(list((root / "log").glob("tool.call_*/*.jsonl"))) == types
    for k in (0, types // 2, types - 1):
        assert [json.loads(line)["payload"]["round"] for line in lines_of(root, f"tool.call_{k}")] == [0, 1, 2]


def test_typed_events_of_many_types_read_the_logged_schemas_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them again for each new type."""
    reads = 0

    def counted(path: Path, max_bytes: int) -> Iterator[reader.Line]:
        nonlocal reads
        reads += 1
        return real(path, max_bytes=max_bytes)

    real = reader.read_lines
    monkeypatch.setattr(reader, "read_lines", counted)
    made = [msgspec.defstruct(f"Made{k}", [("n", int)], module=__name__) for k in range(20)]
    for _ in range(2):
        reads = 0
        obs.configure(root=root)
        for k, struct in enumerate(made):
            assert obs.emit(obs.event(f"made.{k}")(struct)(k))
        assert reads <= 1
    assert len(lines_of(root, "event_schema")) == 20


def test_at_most_so_many_are_open_and_the_one_used_least_recently_is_closed(root: Path, few: int) -> None:
    """A type that is used all the time keeps its segment open."""
    made = writer(root)
    for n in range(40):
        made.write("hot", LINE % n)
        made.write(f"t{n}", LINE % n)
        assert open_segments(root) <= few
    assert not made._streams["hot"]._open.at_rest  # type: ignore[union-attr]
    assert made._streams["hot"].segments_opened == 1
    for n in range(40):
        made.write(f"t{n}", LINE % (n + 1))
    assert all(len(list((root / "log" / f"t{n}").iterdir())) == 1 for n in range(40))


def test_the_limit_is_asked_for_again(root: Path) -> None:
    """A program may lower it later."""
    made = writer(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for n in range(60):
        made.write(f"t{n}", LINE % n)
    before = open_segments(root)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        made.write("one_more", LINE % 0)
        assert open_segments(root) <= 64 // 8 < before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_descriptors_segments_give_way_first(root: Path) -> None:
    """The program has taken all that were left: a new type is recorded, and it gets some back."""
    said = run(
        """
        import os, resource, sys, eventlog as obs
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        obs.configure(root=sys.argv[1], sync_interval_s=0)
        for k in range(50): obs.emit(f"t{k}", {})
        taken = []
        try:
            while True: taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        done = [bool(obs.emit(f"new{k}", {})) for k in range(40)]
        flushed = obs.flush()
        files = [open("/dev/null") for _ in range(5)]
        for k in range(50): assert obs.emit(f"t{k}", {}), k
        print(all(done), flushed, obs.stats().lost, obs.stats().failed_syncs)
        """,
        root,
    )
    assert said == "True True 0 0"


@pytest.mark.parametrize("durability", Durability)
def test_a_segment_that_was_closed_is_synced_like_any_other(
    root: Path, few: int, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `flush`, or with `synced` at once, a power cut leaves all of it."""
    synced: dict[str, int] = {}
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        size = os.fstat(fd).st_size
        real(fd)
        name = os.path.realpath(f"/proc/self/fd/{fd}")
        synced[name] = max(size, synced.get(name, 0))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    made = writer(root, durability)
    for n in range(60):
        made.write(f"t{n % 20}", LINE % n)
    if durability is Durability.WRITTEN:
        made.flush()
    assert synced == {str(path.resolve()): path.stat().st_size for path in (root / "log").glob("*/*.jsonl")}
    assert made.failed_syncs == 0


def _adopted(path: Path, root: Path) -> None:
    other = writer(root)
    other.write("t", b'{"n":"other"}\n')
    other.close()


def _replaced(path: Path, _: Path) -> None:
    path.unlink()
    path.write_bytes(b'{"n":"x"}\n')


def _made_a_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _piped(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "another writer has continued it": _adopted,
    "it is sealed": lambda path, _: path.chmod(0o400),
    "it is deleted": lambda path, _: path.unlink(),
    "it is cut": lambda path, _: os.truncate(path, 3),
    "another file is in its place": _replaced,
    "it is a folder": _made_a_folder,
    "it is a pipe": _piped,
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_became_of_a_segment_meanwhile_is_looked_at(root: Path, few: int, case: str) -> None:
    """It is continued only as it was left. What was not synced yet is in the log in any case."""
    made = writer(root)
    made.write("t", LINE % 0)
    for n in range(few):
        made.write(f"other{n}", LINE % n)
    [path] = (root / "log" / "t").iterdir()
    assert made._streams["t"]._open.at_rest  # type: ignore[union-attr]
    CHANGES[case](path, root)
    before = path.read_bytes() if path.is_file() else None
    made.write("t", LINE % 1)
    made.flush()
    there = [each.read_bytes() for each in (root / "log" / "t").glob("*.jsonl") if each.is_file()]
    assert set(b"\n".join(there).splitlines(keepends=True)) >= {LINE % 0, LINE % 1}
    if before is not None:
        assert path.read_bytes() == before


def test_a_child_goes_on_with_segments_of_its_own(root: Path, few: int) -> None:
    """Whatever its parent had closed or open."""
    made = writer(root)
    for n in range(10):
        made.write(f"t{n}", LINE % n)
    pid = os.fork()
    if pid == 0:
        made.after_fork()
        for n in range(10):
            made.write(f"t{n}", LINE % (n + 100))
        made.close()
        os._exit(0)
    for n in range(10):
        made.write(f"t{n}", LINE % (n + 200))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    made.close()
    for n in range(10):
        assert sorted(lines_of(root, f"t{n}")) == sorted([b'{"n":%d}' % (n + k) for k in (0, 100, 200)])


@pytest.mark.parametrize("durability", Durability)
def test_threads_that_write_sync_and_close_beside_each_other_lose_nothing(
    root: Path, few: int, durability: Durability
) -> None:
    """Each line is there once; none is glued to another."""
    made = writer(root, durability, sync_interval_s=0.005)

    def work(first: int) -> None:
        for n in range(first, first + 150):
            made.write(f"t{n % 13}", LINE % n)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    made.close()
    counted = Counter(line for k in range(13) for line in lines_of(root, f"t{k}"))
    assert counted == {b'{"n":%d}' % (1000 * k + n): 1 for k in range(6) for n in range(150)}


def test_an_import_of_many_types_needs_few_descriptors(root: Path, tmp_path: Path) -> None:
    """The importer writes through the same writer."""
    source = tmp_path / "foreign.jsonl"
    source.write_text("".join(f'{{"kind": "kind_{k}", "n": {k}}}\n' for k in range(400)))
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    command = ["eventlog", "import", "jsonl", str(source), "--type-field", "kind", "--root", str(root)]
    code = f"{limited}sys.argv = {command!r}; runpy.run_module('eventlog', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list((root / "log").glob("kind_*/*.jsonl"))) == 400


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    obs.shutdown()
    assert len(os.listdir("/proc/self/fd")) <= before + 140
