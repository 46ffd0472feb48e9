"""Jobs over HTTP: a backup to a real S3 server and to one file, a verification, what pruning would delete."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.restore import restore
from tests.conftest import Run
from tests.eventlog import backups
from tests.server.running import Answered, Running, serving
from tests.server.support_up import MARK, WAIT_S, kill_left, left, until

TO_BUCKET = '[server]\nbackup_to = "s3://bucket/laptop"\n'


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[backups.Server]:
    process, server = backups.serve(tmp_path_factory.mktemp("s3") / "served")
    yield server
    backups.stop(process)


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[backups.Server]:
    """A bucket whose server never answers: a backup to it waits."""
    process, server = backups.serve(tmp_path / "s3" / "served")
    backups.use(server, monkeypatch)
    process.send_signal(signal.SIGSTOP)
    yield server
    process.send_signal(signal.SIGCONT)
    backups.stop(process)


@pytest.fixture
def mark(silent: backups.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the environment of the processes that are started from now on."""
    chosen = uuid.uuid4().hex
    monkeypatch.setenv(MARK, chosen)
    return chosen


def finished(served: Running, started: Answered) -> dict[str, Any]:
    """Wait for the end of a job that was answered with 202; return it."""
    assert started.status == 202, started
    assert started.headers["Location"] == f"/v1/jobs/{started.json['job_id']}"
    deadline = time.monotonic() + WAIT_S
    while True:
        job: dict[str, Any] = served.request("GET", started.headers["Location"]).json
        if job["state"] != "running":
            return job
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_backup_goes_to_a_bucket_and_is_restored(
    root: Path, tmp_path: Path, bucket: backups.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where to is in the settings alone. A second one copies what is new; a restored log is the same."""
    backups.use(bucket, monkeypatch)
    backups.emit(root, "note", *range(300), pad=100)
    with serving(root, settings=TO_BUCKET) as served:
        told = finished(served, served.request("POST", "/v1/backup", {"dry_run": True}))
        assert (told["state"], told["exit_code"]) == ("done", 0)
        assert told["result"]["copied"] > 1
        assert not list(bucket.bucket.rglob("note/*"))
        done = finished(served, served.request("POST", "/v1/backup"))
        assert (done["state"], done["kind"], done["exit_code"], done["result"]["failures"]) == ("done", "backup", 0, [])
        assert done["progress_bytes"] == done["total_bytes"] > 30_000
        assert done["started"] <= done["ended"]
        again = finished(served, served.request("POST", "/v1/backup", {"verify_percent": 100}))
        assert again["result"]["checked"] > 1
        assert (again["result"]["damaged"], again["exit_code"]) == (0, 0)
        listed = served.request("GET", "/v1/jobs").json["jobs"]
        assert [job["job_id"] for job in listed] == [job["job_id"] for job in (again, done, told)]
        assert all(job["result"] is None for job in listed)
        notes = {name: data for name, data in backups.tree(root).items() if "/note/" in name}
    elsewhere = tmp_path / "elsewhere"
    assert not restore(elsewhere, open_destination("s3://bucket/laptop")).failures
    assert {name: data for name, data in backups.tree(elsewhere).items() if "/note/" in name} == notes


def test_a_backup_may_be_one_file(root: Path, tmp_path: Path) -> None:
    """By its name."""
    backups.emit(root, "note", *range(10))
    file = tmp_path / "log.tar.zst"
    with serving(root, settings=f"[server]\nbackup_to = {json.dumps(str(file))}\n") as served:
        assert finished(served, served.request("POST", "/v1/backup"))["state"] == "done"
    assert not restore(tmp_path / "elsewhere", open_destination(str(file))).failures


def test_verification_and_pruning_say_what_the_commands_say(root: Path, run: Run) -> None:
    """A finding is a failure with a result; nothing is deleted."""
    backups.emit(root, "note", *range(10))
    run("seal")
    run("index")
    with serving(root) as served:
        fine = finished(served, served.request("POST", "/v1/verify", {"index": True}))
        assert (fine["state"], fine["result"]["findings"]) == ("done", [])
        assert "index" in fine["result"]
        before = backups.tree(root)
        told = finished(served, served.request("POST", "/v1/prune", {"dry_run": True, "older_than": "0s"}))
        assert (told["state"], [each["segment_type"] for each in told["result"]["pruned"]]) == ("done", ["note"])
        assert backups.tree(root) == before
        damaged = backups.only(root, "note")
        damaged.chmod(0o600)
        damaged.write_bytes(damaged.read_bytes().replace(b'"n":3', b'"n":4'))
        found = finished(served, served.request("POST", "/v1/verify"))
        assert (found["state"], found["exit_code"], len(found["result"]["findings"])) == ("failed", 1, 1)


def test_one_job_runs_at_a_time_and_ends_with_the_server(silent: backups.Server, root: Path, mark: str) -> None:
    """Within a few seconds."""
    backups.emit(root, "note", *range(10))
    try:
        with serving(root, settings=TO_BUCKET) as served:
            first = served.request("POST", "/v1/backup")
            assert first.status == 202
            for path in ("/v1/backup", "/v1/verify"):
                second = served.request("POST", path)
                assert (second.status, second.code) == (409, "job_running")
                assert first.json["job_id"] in second.json["detail"]
            until(lambda: len(left(mark)) == 2, "the job")
            assert served.request("GET", first.headers["Location"]).json["state"] == "running"
            began = time.monotonic()
            served.process.terminate()
            assert served.process.wait(WAIT_S) in (0, -15)
            assert time.monotonic() - began < 10
            until(lambda: not left(mark), "the end of the job")
    finally:
        kill_left(mark)


def test_a_job_ends_with_a_server_that_is_killed(silent: backups.Server, root: Path, mark: str) -> None:
    """It waits for the end of a pipe that only the server holds."""
    backups.emit(root, "note", 1)
    try:
        with serving(root, settings=TO_BUCKET) as served:
            served.request("POST", "/v1/backup")
            until(lambda: len(left(mark)) == 2, "the job")
            served.process.kill()
            served.process.wait()
            until(lambda: not left(mark), "the end of the job")
    finally:
        kill_left(mark)


def test_a_job_that_takes_too_long_is_ended(silent: backups.Server, root: Path) -> None:
    """By the limit of the settings; it says so, and the next one may begin."""
    backups.emit(root, "note", 1)
    with serving(root, settings=f"{TO_BUCKET}job_timeout_s = 0.5\n") as served:
        for _ in range(2):
            job = finished(served, served.request("POST", "/v1/backup"))
            assert (job["state"], job["messages"][-1]) == ("timed_out", "it was ended after 0.5 s")


def test_what_cannot_be_done_is_refused(root: Path) -> None:
    """Without a place for backups, without the whole root, without the scope, and with fields that do not exist."""
    with serving(root) as served:
        team, reader = served.known_key("admin", workspace="team"), served.known_key("read")
        for path in ("/v1/backup", "/v1/verify", "/v1/prune", "/v1/jobs", "/v1/jobs/x"):
            method = "GET" if "jobs" in path else "POST"
            assert served.request(method, path, key=team).code == "whole_root"
            assert served.request(method, path, key=reader).code == "missing_scope"
            assert served.request(method, path, key=None).status == 401
        assert served.request("GET", "/v1/jobs/x").code == "not_found"
        refused = served.request("POST", "/v1/backup")
        assert (refused.status, refused.code) == (409, "no_destination")
        for path, body, code in (
            ("/v1/backup", {"destination": "s3://mine"}, "invalid_body"),
            ("/v1/backup", {"verify_percent": 101}, "invalid_body"),
            ("/v1/verify", {"head": "--root=/"}, "invalid_body"),
            ("/v1/prune", {}, "invalid_body"),
            ("/v1/prune", {"dry_run": False}, "dry_run_only"),
            ("/v1/prune", {"dry_run": True, "older_than": "long"}, "invalid_body"),
        ):
            refused = served.request("POST", path, body)
            assert (refused.status, refused.code) == (422, code)
        assert served.request("GET", "/v1/jobs").json == {"jobs": []}


def test_a_command_that_fails_says_why(root: Path) -> None:
    """In the messages of the job."""
    with serving(root, settings=f"[server]\nbackup_to = {json.dumps(str(root / 'inside'))}\n") as served:
        job = finished(served, served.request("POST", "/v1/backup"))
        assert (job["state"], job["exit_code"], job["result"]) == ("failed", 2, None)
        assert "keep the backup somewhere else" in job["messages"][-1]
