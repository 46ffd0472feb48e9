"""Chunks and objects of a backup that rot, vanish, or are replaced."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from eventlog.config import Config
from eventlog.log import blobs
from eventlog.maintenance import archiving, sealing, verification
from eventlog.maintenance.backup import backup
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.restore import restore
from eventlog.record.recorder import Recorder
from faults.campaign import Plan, fault

_BLOB_MIN_BYTES = 4096


def _flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.chmod(0o600)
    path.write_bytes(data)


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _gone(path: Path, _: random.Random) -> None:
    path.unlink()


def _pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, _: random.Random) -> None:
    path.rename(path.with_name("right"))
    path.symlink_to("right")


_ROT: tuple[Callable[[Path, random.Random], None], ...] = (_flipped, _cut, _gone, _pipe, _folder, _link)


def _emit(plan: Plan, recorder: Recorder, texts: list[str]) -> None:
    for _ in range(plan.rng.randint(1, 5)):
        text = plan.rng.choice(texts)[: plan.rng.randint(100, 40_000)]
        plan.check(recorder.emit(plan.rng.choice("abc"), {"text": text}), "an event was not recorded")


def _backed_up(plan: Plan, root: Path, place: Folder, share: float = 0.0) -> int:
    done = backup(root, place, say=lambda _: None, check_share=share)
    plan.check(not done.failures, f"the root has everything, and yet a backup failed: {done.failures[:2]}")
    return done.damaged


@fault(
    "rotten blobs and backups",
    "chunks of the root, and objects and manifests of a backup: changed bits, cut off, gone, a pipe, a folder or a "
    "link in their place, at random; read again in shares",
)
def rot_backups(plan: Plan) -> str:
    rotten = chunks = 0
    for _ in range(plan.times(10)):
        root, place = plan.root, Folder(plan.root)
        texts = [plan.rng.randbytes(20_000).hex() for _ in range(2)]
        recorder = Recorder(Config(root=str(root), strict=True, blob_min_bytes=_BLOB_MIN_BYTES))
        _emit(plan, recorder, texts)
        recorder.shutdown()
        sealing.seal(root)
        if plan.rng.random() < 0.5:
            archiving.archive_sealed(root)
        _backed_up(plan, root, place)
        chunks += _rot_chunks(plan, root, place)
        rotten += _rot_objects(plan, root, place)
        shutil.rmtree(root)
        shutil.rmtree(place.path)
    return (
        f"{chunks} chunks of roots, each found with a line that names it, and brought back; {rotten} objects of "
        "backups, each copied again within as many runs as its share takes; every restored copy verified"
    )


def _rot_chunks(plan: Plan, root: Path, place: Folder) -> int:
    """Damage chunks of the root: verify reports them, a backup without them fails, a restore repairs them."""
    victims = blobs.list_blobs(root)
    for blob in plan.rng.sample(victims, min(2, len(victims))):
        rot = plan.rng.choice(_ROT)
        rot(blob.path, plan.rng)
        what = f"chunk {blob.sha256[:8]} was damaged ({rot.__name__})"
        findings = verification.verify(root).findings
        plan.check(
            any(each.event_type in "abc" and blob.sha256 in each.detail for each in findings), f"{what}: {findings}"
        )
        elsewhere = Folder(plan.root)
        failures = backup(root, elsewhere, say=lambda _: None, dry_run=True).failures
        plan.check(
            any(blob.sha256 in failure for failure in failures), f"{what}, and a backup elsewhere said {failures}"
        )
        restored = restore(root, place)
        plan.check(not restored.failures, f"{what}, and was not brought back: {restored.failures}")
        plan.check(not (left := verification.verify(root).findings), f"{what}, and brought back: {left[:2]}")
    return min(2, len(victims))


def _rot_objects(plan: Plan, root: Path, place: Folder) -> int:
    """Damage objects and manifests: runs that each read a share find and repair all of them."""
    folders = ("log", "blobs", "manifests")
    objects = sorted(path for folder in folders for path in (place.path / folder).rglob("*") if path.is_file())
    victims = plan.rng.sample(objects, min(len(objects), plan.rng.randint(1, 4)))
    for path in victims:
        plan.rng.choice(_ROT)(path, plan.rng)
    runs = plan.rng.choice((1, 2, 5))
    for _ in range(runs):
        _backed_up(plan, root, place, 1 / runs)
    plan.check(_backed_up(plan, root, place, 1.0) == 0, f"{len(victims)} objects rotted, and some were not mended")
    copy = plan.root
    restored = restore(copy, place)
    plan.check(not restored.failures, f"{len(victims)} objects were mended, and yet: {restored.failures[:2]}")
    findings = verification.verify(copy).findings
    plan.check(not findings, f"the restored copy is not as sealed: {findings[:2]}")
    plan.check(_hashes(copy) >= _hashes(root), "the restored copy lacks chunks")
    shutil.rmtree(copy)
    return len(victims)


def _hashes(root: Path) -> set[str]:
    return {hashlib.sha256(blob.path.read_bytes()).hexdigest() for blob in blobs.list_blobs(root)}
