"""The doctor's look at large fields: names, kinds and sizes, and what the newest lines name."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.log import blobs
from eventlog.queries.doctor import diagnose
from eventlog.queries.doctor.finding import Level
from eventlog.record.recorder import Recorder
from tests.eventlog.chunks import text
from tests.eventlog.test_blob_states import STATES

#: What only reading would tell.
_UNSEEN = {"cut off", "longer", "other bytes of the size", "a changed byte"}


def _emitted(root: Path) -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": text(100_000)})
    recorder.shutdown()


def _levels(root: Path) -> list[Level]:
    return [each.level for each in diagnose(str(root)) if each.check == "blobs"]


@pytest.mark.parametrize("state", STATES)
def test_a_chunk_that_is_none_is_a_problem(root: Path, state: str) -> None:
    """Nothing is read, and nobody is waited for; whether bytes are right, verify tells."""
    _emitted(root)
    assert _levels(root) == [Level.OK]
    STATES[state](blobs.list_blobs(root)[1].path)
    assert _levels(root) == [Level.OK if state in _UNSEEN else Level.PROBLEM]


@pytest.mark.parametrize("folder", ["blobs", "blobs/??"])
def test_a_folder_that_became_a_link_is_a_problem(root: Path, tmp_path: Path, folder: str) -> None:
    """Its files are there, and nobody reads them."""
    _emitted(root)
    path = next(each for each in sorted(root.glob(folder)) if each.name != "tmp")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert Level.PROBLEM in _levels(root)


def test_what_was_set_aside_is_a_warning(root: Path) -> None:
    """The disk may be failing, and other chunks be damaged that nobody has written anew."""
    _emitted(root)
    STATES["empty"](blobs.list_blobs(root)[1].path)
    _emitted(root)
    assert _levels(root) == [Level.WARNING]
