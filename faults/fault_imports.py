"""Importers that are killed, beside each other, while the log that they read grows and is rotated."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

from eventlog.config import Config
from eventlog.importers.engine import follow, importing
from eventlog.importers.jsonl import Jsonl
from eventlog.log import reader
from eventlog.queries.store import ReadStore
from faults import children, oracle
from faults.campaign import Plan, fault

_TYPE = "foreign"
_KEPT = 4


class _Writer:
    """A program that writes a log, and what rotates it: by renaming, or by copying it and cutting it off."""

    def __init__(self, plan: Plan, log: Path) -> None:
        self._rng = plan.rng
        self._log = log
        self.written: Counter[str] = Counter()
        self.rotations = 0
        log.touch()

    def write(self) -> None:
        """Write some lines, equal ones among them, now and then in two parts."""
        for _ in range(self._rng.randint(1, 40)):
            number = sum(self.written.values())
            text = self._rng.choice(["tick", "tock", f"only {number}", f"only {number}"])
            line = json.dumps({"text": text, "noise": "x" * self._rng.choice([0, 0, 500])})
            cut = self._rng.choice([0, self._rng.randrange(len(line))])
            for part in (line[:cut], line[cut:] + "\n"):
                with self._log.open("a") as file:
                    file.write(part)
            self.written[line] += 1

    def rotate(self) -> None:
        """Move older generations on, compress the second, and begin the log anew, with a line that is like no other."""
        self.rotations += 1
        for age in range(_KEPT + self.rotations, 0, -1):
            for ending in ("", ".gz"):
                old = self._generation(age, ending)
                if old.exists():
                    old.rename(self._generation(age + 1, ending))
        if (second := self._generation(2, "")).exists():
            packed = self._generation(2, ".gz")
            part = packed.with_name(f"part-{packed.name}")
            part.write_bytes(gzip.compress(second.read_bytes()))
            shutil.copystat(second, part)
            part.rename(packed)
            second.unlink()
        if self._rng.random() < 0.5:
            self._log.rename(self._generation(1, ""))
        else:
            shutil.copy2(self._log, self._generation(1, ""))
            os.truncate(self._log, 0)
        first = json.dumps({"text": f"rotation {self.rotations}"})
        with self._log.open("a") as file:
            file.write(first + "\n")
        self.written[first] += 1

    def _generation(self, age: int, ending: str) -> Path:
        return self._log.with_name(f"{self._log.name}.{age}{ending}")


def _wait() -> bool:
    time.sleep(0.05)
    return True


def _import(root: str, log: str, following: bool) -> None:
    with importing(Config(root=root, strict=True), Jsonl(type_=_TYPE)) as importer:
        if following:
            for _ in follow(importer, lambda: [Path(log)], _wait, print):
                pass
        else:
            importer.run(Path(log))


@fault("Killed importers", "SIGKILL of importers, following and not, of one log that grows and is rotated")
def kill_importers(plan: Plan) -> str:
    root, folder = plan.root, plan.folder / "logs"
    folder.mkdir()
    writer = _Writer(plan, folder / "app.log")
    writer.write()
    _import(str(root), str(folder / "app.log"), following=False)  # what it never saw is not looked for
    kills = 0
    for _ in range(plan.times(120)):
        with contextlib.ExitStack() as stack:
            running = [
                stack.enter_context(
                    children.running(_import, str(root), str(folder / "app.log"), plan.rng.random() < 0.7)
                )
                for _ in range(plan.rng.randint(1, 2))
            ]
            for _ in range(plan.rng.randint(1, 5)):
                writer.write()
                time.sleep(plan.rng.uniform(0, 0.06))
                if plan.rng.random() < 0.1:
                    writer.rotate()
            for each in running:
                kills += each.exitcode is None
                children.kill(each)
    for _ in range(2):
        _import(str(root), str(folder / "app.log"), following=False)
    logged = Counter(json.dumps(json.loads(each.data)["payload"]) for each in reader.read_log(root, [_TYPE]))
    missing, twice = writer.written - logged, logged - writer.written
    plan.check(
        not missing, f"{missing.total():,} lines are not in the log: {[line[:60] for line in list(missing)[:3]]}"
    )
    plan.check(not twice, f"{twice.total():,} lines are in the log twice: {[line[:60] for line in list(twice)[:3]]}")
    oracle.recover(root)
    rows = ReadStore(root).sql(f"SELECT count(*) FROM events WHERE event_type = '{_TYPE}'").rows[0][0]
    plan.check(rows == writer.written.total(), f"{rows:,} rows of {writer.written.total():,} lines")
    return f"{kills} kills, {writer.rotations} rotations: {rows:,} lines, each in the log once and one row"
