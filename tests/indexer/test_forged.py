"""Control events that somebody else wrote into the log: they are checked, or do no harm.

The recorder refuses them (tests/eventlog/test_control.py). A log may contain some nevertheless: from a version that did
not, or from another log that was merged into this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.indexer.retention import prune
from eventlog.log import layout
from eventlog.log.chains import Head
from eventlog.log.fingerprint import sha256
from eventlog.maintenance import sealing, verification
from eventlog.maintenance.backup import backup
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.sealing import head_of, read_chain, seal
from tests.conftest import Run
from tests.eventlog.test_sealing import forced
from tests.indexer.support import index, line, rows, segment
from tests.indexer.test_retention import aged

MONTH_S = 30 * 86_400


def forge(root: Path, event_type: str, *payloads: dict[str, Any], n: int = 9000, **fields: Any) -> Path:
    """Write lines of a control event by hand."""
    lines = [line(n + at, event_type, payload=payload, **fields) for at, payload in enumerate(payloads)]
    return segment(root, *lines, event_type=event_type)


def evidence(root: Path, days: float = 60) -> Path:
    """A sealed segment."""
    path = aged(segment(root, *(line(n) for n in range(3))), days)
    seal(root)
    return path


def head(root: Path) -> Head:
    found = head_of(root, read_chain(root))
    assert found is not None
    return found


def found(root: Path, kept: Head | None = None) -> list[str]:
    return [each.detail for each in verification.verify(root, head=kept).findings]


# -- backups -------------------------------------------------------------------------------


def _nowhere(root: Path, path: Path, tmp_path: Path) -> str:
    return str(tmp_path / "nowhere")


def _wiped(root: Path, path: Path, tmp_path: Path) -> str:
    backup(root, Folder(tmp_path / "wiped"), say=print)
    for each in (tmp_path / "wiped").rglob("*.jsonl"):
        each.unlink()
    return str(tmp_path / "wiped")


def _rotten(root: Path, path: Path, tmp_path: Path) -> str:
    backup(root, Folder(tmp_path / "rotten"), say=print)
    for each in (tmp_path / "rotten/log/t").iterdir():
        each.write_bytes(each.read_bytes().replace(b"0", b"1"))
    return str(tmp_path / "rotten")


def _without_the_object(root: Path, path: Path, tmp_path: Path) -> str:
    backup(root, Folder(tmp_path / "gone"), say=print)
    for each in (tmp_path / "gone/log/t").iterdir():
        each.unlink()
    return str(tmp_path / "gone")


def _a_fifo(root: Path, path: Path, tmp_path: Path) -> str:
    place = Path(_without_the_object(root, path, tmp_path))
    import os

    os.mkfifo(place / "log/t" / f"{path.stem}.{sha256(path)}.jsonl")
    return str(place)


def _a_file(root: Path, path: Path, tmp_path: Path) -> str:
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file")


def _inside_the_root(root: Path, path: Path, tmp_path: Path) -> str:
    backup(root, Folder(root / "copy"), say=print)
    return str(root / "copy")


PLACES: dict[str, Callable[[Path, Path, Path], str]] = {
    "a folder that is not there": _nowhere,
    "a backup that was wiped": _wiped,
    "a backup whose copy has rotted": _rotten,
    "a backup whose copy is gone": _without_the_object,
    "a pipe in place of the copy": _a_fifo,
    "a file": _a_file,
    "a folder inside the root": _inside_the_root,
    "no place at all": lambda *_: "ftp://host/x",
    "an empty name": lambda *_: "",
    "a name with a null byte": lambda *_: "/a\0b",
    "nobody's home": lambda *_: "~nobody-at-all/x",
    "no bucket": lambda *_: "s3://",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_only_copy_is_not_deleted_on_the_word_of_an_event(root: Path, tmp_path: Path, place: str) -> None:
    """Without an index, a backup counts once its copy was read."""
    path = evidence(root)
    name = PLACES[place](root, path, tmp_path)
    copy = {"segment": path.stem, "sha256": sha256(path), "size_bytes": path.stat().st_size}
    forge(root, "segments_backed_up", {"destination": name, "segments": [copy]})
    done = prune(root, MONTH_S)
    assert done.pruned == []
    assert done.backup_problems
    assert path.exists()
    index(root)
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(3,)]
    assert len(prune(root, MONTH_S).pruned) == 1  # its rows are in the index now


def test_prune_says_which_backup_it_could_not_look_at(root: Path, tmp_path: Path, run: Run) -> None:
    """And what to do."""
    path = evidence(root)
    copy = {"segment": path.stem, "sha256": sha256(path), "size_bytes": path.stat().st_size}
    forge(root, "segments_backed_up", {"destination": str(tmp_path / "usb"), "segments": [copy]})
    done = run("prune", "--older-than", "30d")
    assert done.returncode == 0
    assert done.stdout == "deleted 0 segments, 0 bytes on disk\n"
    assert "neither indexed, nor in a backup that could be looked at; try: eventlog index" in done.stderr
    assert f"not counted as a backup: {tmp_path}/usb: there is no backup" in done.stderr


# -- prunings ------------------------------------------------------------------------------


def account(path: Path, **changed: Any) -> dict[str, Any]:
    """The payload of `segment_pruned` for a segment."""
    return {
        "segment": path.stem, "segment_type": "t", "size_bytes": path.stat().st_size, "lines": 3,
        "sha256": sha256(path), "seal": 1, "indexed": True, "backups": [], **changed,
    }  # fmt: skip


def test_an_account_that_is_not_sealed_excuses_nothing(root: Path) -> None:
    """Prune seals its own; and once it is sealed, a head kept before tells."""
    path = evidence(root)
    kept, told = head(root), account(path)
    path.unlink()
    forge(root, "segment_pruned", told)
    assert "is not sealed, so it proves nothing" in found(root)[0]
    assert len(found(root, kept)) == 1
    seal(root)
    assert found(root) == []
    assert ["pruned since the head was kept" in each for each in found(root, kept)] == [True]


@pytest.mark.parametrize(
    "changed",
    [{"sha256": "0" * 64}, {"size_bytes": 1}, {"lines": 2}, {"segment_type": "u"}],
    ids=lambda changed: str(*changed),
)
def test_an_account_of_something_else_excuses_nothing(root: Path, changed: dict[str, Any]) -> None:
    """It agrees with the seal in all, or it is of another segment."""
    path = evidence(root)
    told = account(path, **changed)
    path.unlink()
    forge(root, "segment_pruned", told)
    seal(root)
    assert ["was not pruned" in each for each in found(root)] == [True]


def test_an_account_in_a_foreign_folder_excuses_nothing(root: Path) -> None:
    """Or under a foreign name in its own."""
    path = evidence(root)
    told = account(path)
    path.unlink()
    segment(root, line(9000, "segment_pruned", payload=told), event_type="note")
    segment(root, line(9001, "note", payload=told), event_type="segment_pruned")
    seal(root)
    assert ["was not pruned" in each for each in found(root)] == [True]


def test_what_prune_deletes_is_told_and_sealed(root: Path, run: Run) -> None:
    """Verify ends with 0 right after it; with a head from before, it lists what went, and ends with 1."""
    path = evidence(root)
    index(root)
    kept = head(root)
    assert len(prune(root, MONTH_S).pruned) == 1
    assert found(root) == []
    (said,) = found(root, kept)
    assert said.startswith("pruned since the head was kept (3 lines")
    done = run("verify", "--head", str(kept))
    assert done.returncode == 1
    assert f"t/{path.stem}: byte 0: pruned since the head was kept" in done.stdout
    seal(root)
    assert found(root, head(root)) == []


def test_a_prune_that_ends_before_it_seals_its_account_can_be_repeated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is there until the account is sealed."""
    path = evidence(root)
    index(root)
    with monkeypatch.context() as patched:
        patched.setattr("eventlog.indexer.retention.seal_held", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune(root, MONTH_S)
    assert path.exists()
    assert found(root) == []
    assert len(prune(root, MONTH_S).pruned) == 1
    assert found(root) == []
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 't'") == [(3,)]


# -- seals ---------------------------------------------------------------------------------


def forged_seal(**changed: Any) -> dict[str, Any]:
    """The payload of `segment_sealed` for a segment that never existed."""
    return {
        "number": 7, "previous": None, "segment": "20260101T000000000000Z-0123456789abcdef", "segment_type": "x",
        "size_bytes": 1, "sha256": "aa", "lines": 1, "torn_bytes": 0, "first_event_id": None, "last_event_id": None,
        "check_lines": 1, "checks": "", **changed,
    }  # fmt: skip


FORGED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "the greatest number": lambda _: forged_seal(number=2**63 - 1),
    "a number beyond": lambda _: forged_seal(number=2**64),
    "a great number": lambda _: forged_seal(number=2**53 - 1),
    "zero": lambda _: forged_seal(number=0),
    "less than nothing": lambda _: forged_seal(number=-1),
    "a number and a hash of nothing": lambda _: forged_seal(number=1000, previous="b" * 64),
    "the next number, after another seal": lambda root: forged_seal(number=head(root).number + 1, previous="b" * 64),
    "a second beginning": lambda _: forged_seal(number=1),
    "of a foreign origin": lambda _: forged_seal(number=99, previous="c" * 64, origin="0" * 32),
    "of a segment that is there": lambda root: forged_seal(
        number=50, segment=layout.list_type(root, "t")[0].name, segment_type="t", previous="d" * 64
    ),
    "of a segment that is not sealed yet": lambda root: forged_seal(
        number=50, segment=layout.list_type(root, "u")[0].name, segment_type="u", previous="d" * 64
    ),
}


@pytest.mark.parametrize("which", FORGED)
def test_a_forged_seal_breaks_no_chain(root: Path, which: str) -> None:
    """The chain goes on after the last seal of its own, and everything still verifies."""
    evidence(root)
    segment(root, line(500, "u"), event_type="u")
    before = head(root)
    forge(root, "segment_sealed", FORGED[which](root))
    made = seal(root)
    assert [each.number for each in made][:1] == [before.number + 1]
    assert {each.segment_type for each in made} >= {"u"}
    verified = verification.verify(root, head=before)
    assert verified.findings == []
    assert seal(root) == []
    own = {link.seal.segment for link in sealing.without_strays(root, read_chain(root))[0]}
    assert {file.name for file in layout.list_type(root, "t") + layout.list_type(root, "u")} <= own


def test_a_seal_that_is_not_counted_is_shown(root: Path, run: Run) -> None:
    """Nothing is hidden; the exit code is 0."""
    evidence(root)
    path = forge(root, "segment_sealed", forged_seal())
    done = run("verify")
    assert done.returncode == 0, done.stdout
    assert f"segment_sealed/{path.stem}: byte 0: a seal that belongs to no chain" in done.stdout


def test_a_seal_that_was_removed_is_still_missed(root: Path) -> None:
    """What hangs on a removed seal vouches for what is there, or has others after it."""
    for n in range(3):
        segment(root, line(100 + n))
        seal(root)
    (first, *_) = layout.list_type(root, "segment_sealed")
    content = first.path.read_bytes().splitlines(keepends=True)
    forced(first.path, b"".join(content[1:]))
    assert any("missing" in each for each in found(root))
    assert json.loads(content[0])["payload"]["number"] == 1
