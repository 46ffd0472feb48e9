"""Roots that are copied and used separately, and whose logs are merged into one folder again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.config import Config
from eventlog.indexer.retention import prune
from eventlog.log import chains, layout, origin, reader
from eventlog.maintenance import archiving, sealing, verification
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from eventlog.record.recorder import Recorder
from faults import oracle
from faults.campaign import Plan, fault

_ROOTS_MAX = 5
_HOW = (("cp", "-r"), ("cp", "-a"))
_KINDS = ("alpha", "beta", "gamma")


class _Root(NamedTuple):
    """A root, the heads that it has printed or that came with a log, and the ids in its log."""

    path: Path
    heads: set[chains.Head]
    ids: set[str]


def _emit_and_seal(plan: Plan, root: _Root) -> None:
    recorder = Recorder(Config(root=str(root.path), strict=True))
    for kind in plan.rng.sample(_KINDS, plan.rng.randint(1, 3)):
        for number in range(plan.rng.randint(1, 4)):
            root.ids.add(str(recorder.emit(kind, {"n": number, "root": root.path.name})))
    recorder.shutdown()
    _seal(root)


def _seal(root: _Root) -> None:
    sealing.seal(root.path)
    head = sealing.head_of(root.path, sealing.read_chain(root.path))
    if head is not None:
        root.heads.add(head)


def _copied(plan: Plan, root: _Root) -> _Root:
    """Copy a root in one of the usual ways; sometimes as an image, which cannot be told from the original."""
    path = plan.root
    how = plan.rng.choice(_HOW)
    subprocess.run([*how, root.path, path], check=True)
    (path / "index.duckdb").unlink(missing_ok=True)
    if plan.rng.random() < 0.3:
        _imitate_an_image(root.path, path)
    return _Root(path, set(root.heads), set(root.ids))


def _imitate_an_image(original: Path, copy: Path) -> None:
    """Give a copy the origin of its original, with matching marks, like two machines started from one snapshot."""
    mine = origin.read(original)
    if mine is not None:
        origin._make(copy / origin.NAME)
        marks = msgspec.json.decode((copy / origin.NAME).read_bytes(), type=dict)
        (copy / origin.NAME).write_bytes(msgspec.json.encode(marks | {"origin": mine}))


def _merge(source: _Root, target: _Root) -> None:
    subprocess.run(["cp", "-rf", f"{source.path}/log/.", f"{target.path}/log"], check=False, capture_output=True)
    target.heads.update(source.heads)
    target.ids.update(source.ids)


def _prune(plan: Plan, root: _Root) -> None:
    """Back a root up and delete one type of it."""
    place = open_destination(str(plan.folder / f"backup-{root.path.name}"))
    plan.check(not (done := backup(root.path, place, say=lambda _: None)).failures, f"a backup failed: {done.failures}")
    _seal(root)
    for path in root.path.glob("log/*/*"):
        path.chmod(path.stat().st_mode)  # an age of zero is enough for retention
    prune(root.path, 0, [plan.rng.choice(_KINDS)])
    _seal(root)
    gone = root.ids - _ids(root.path)
    root.ids.difference_update(gone)


def _ids(root: Path) -> set[str]:
    lines = reader.read_log(root, _KINDS)
    return {str(msgspec.json.decode(line.data)["event_id"]) for line in lines}


def _verified(plan: Plan, root: _Root, did: str) -> int:
    """Check that `verify` finds nothing, with each head of a chain in this log; return the forks."""
    found = verification.verify(root.path)
    plan.check(not found.findings, f"{root.path.name} after {did}: {found.findings[:3]}")
    for head in plan.rng.sample(sorted(root.heads), min(2, len(root.heads))):
        proved = verification.verify(root.path, head=head)
        others = [each for each in proved.findings if "pruned since the head was kept" not in each.detail]
        plan.check(not others, f"{root.path.name} after {did}, with head {head}: {others[:3]}")
    plan.check(root.ids <= _ids(root.path), f"{root.path.name} after {did}: lines are gone")
    return len(found.forks)


@fault(
    "copied and merged roots",
    "roots that are copied (cp -r, cp -a, an image of the same origin), seal, archive and prune, and whose "
    "logs are copied into one another, at random; each head kept is checked, and a changed byte",
)
def merge_copied_roots(plan: Plan) -> str:
    did = copies = merges = forks = 0
    for _ in range(plan.times(5)):
        roots = [_Root(plan.root, set(), set()) for _ in range(2)]
        for root in roots:
            _emit_and_seal(plan, root)
        for _ in range(12):
            root = plan.rng.choice(roots)
            step = plan.rng.choice(("emit", "emit", "copy", "merge", "merge", "archive", "prune"))
            if step == "emit":
                _emit_and_seal(plan, root)
            elif step == "copy" and len(roots) < _ROOTS_MAX:
                roots.append(root := _copied(plan, root))
                copies += 1
            elif step == "merge":
                _merge(root, other := plan.rng.choice([each for each in roots if each is not root]))
                root, merges = other, merges + 1
            elif step == "archive":
                archiving.archive_sealed(root.path)
            elif step == "prune":
                _prune(plan, root)
            did += 1
            forks += bool(_verified(plan, root, step)) and step == "merge"
        _changed_byte(plan, root)
        oracle.judge(root.path, root.ids)
        for each in roots:
            shutil.rmtree(each.path)
    return (
        f"{did:,} steps with {copies} copies and {merges} merges: no finding but the bytes that were changed; "
        f"{forks} merges of two logs with one origin were reported as forks"
    )


def _changed_byte(plan: Plan, root: _Root) -> None:
    """Change a byte, check that it is the only finding, and change it back."""
    files = [file for file in layout.list_log(root.path).segments if file.sealed and not file.archived]
    if not files:
        return
    path = plan.rng.choice(files).path
    data, mode = path.read_bytes(), path.stat().st_mode
    place = plan.rng.randrange(len(data))
    path.chmod(0o600)
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    found = [(each.segment, each.offset) for each in verification.verify(root.path).findings]
    plan.check((path.stem, place) in found, f"byte {place} of {path} was changed, and found instead: {found}")
    path.write_bytes(data)
    path.chmod(mode)
