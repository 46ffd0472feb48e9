"""What is recorded, in memory; a server and the places of backups: for all who test with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.record.sinks import MemorySink
from tests.eventlog.backups import Place, Server, serve, stop, use


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real one, in a process of its own."""
    process, found = serve(tmp_path_factory.mktemp("s3") / "data")
    yield found
    stop(process)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A new, empty destination of each kind."""
    if request.param == "folder":
        return Place(str(tmp_path / "backup"), tmp_path / "backup")
    found: Server = request.getfixturevalue("server")
    use(found, monkeypatch)
    prefix = f"{tmp_path.name}/host"
    return Place(f"s3://bucket/{prefix}", found.bucket / prefix)


@pytest.fixture
def captured(root: Path) -> Iterator[MemorySink]:
    """What is recorded, in memory."""
    obs.configure(root=root)
    with obs.capture() as memory:
        yield memory
