"""A server that is killed, or whose disk fills, while clients of two workspaces send."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

from eventlog.client import Client
from eventlog.errors import SendFailed
from eventlog.queries.store import ReadStore
from eventlog.server import keys
from faults import oracle
from faults.campaign import FaultFound, Plan, fault
from faults.fault_disk_full import filled, small_disk

_WORKSPACES = ("acme", "borealis")
_CLIENTS = 6
_SECONDS = 60.0
_START_S = 30.0
#: Long enough for a restart; after that a client asks again with the same idempotency key.
_PATIENCE_S = 2.0
_BATCH_MAX = 20


class _Server:
    """A server that is started again, on the same port, whenever it was killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.process.kill()
        self.process.communicate()
        self.process = self._start()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "eventlog", "serve", "--port", str(self.port), "--root", str(self.root)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        readable, _, _ = select.select([process.stdout], [], [], _START_S)
        if not readable or not os.read(process.stdout.fileno(), 4096):
            process.kill()
            raise FaultFound(f"the server did not start: {process.stderr.read()[-2000:]!r}")
        return process


class _Acknowledged(NamedTuple):
    """An event that the server has acknowledged: its id, the workspace of the key, and its mark."""

    event_id: str
    workspace: str
    mark: str


class _Sender(threading.Thread):
    """A client that never gives up: what failed is sent again with the same idempotency key."""

    def __init__(self, number: int, server: _Server, key: str, workspace: str, rng: Random) -> None:
        super().__init__(daemon=True)
        self.number, self.workspace, self.rng = number, workspace, rng
        self.client = Client(server.url, key, timeout_s=5, patience_s=_PATIENCE_S)
        self.acknowledged: list[_Acknowledged] = []
        self.again = 0
        self.stopping = threading.Event()
        self.problem: str | None = None

    def run(self) -> None:
        """Send batches until told to stop; the last one is finished."""
        count = 0
        while not self.stopping.is_set():
            marks = [f"{self.number}/{count + n}" for n in range(self.rng.randint(1, _BATCH_MAX))]
            count += len(marks)
            events = [
                {"event_type": f"kind{self.rng.randint(0, 2)}", "payload": {"mark": mark, "pad": "x" * 200}}
                for mark in marks
            ]
            while True:
                try:
                    sent = self.client.send(events, idempotency_key=f"{self.number}/{count}")
                    break
                except SendFailed as error:
                    self.again += 1
                    if self.again > 1000:
                        self.problem = str(error)
                        return
                    time.sleep(0.1)
            if sent.rejected:
                self.problem = f"rejected: {sent.rejected[0]}"
                return
            self.acknowledged += [
                _Acknowledged(*each) for each in zip(sent.ids, [self.workspace] * len(marks), marks, strict=True)
            ]


@fault("server killed", "6 clients of 2 workspaces send over HTTP; SIGKILL of the server at random moments, restarted")
def kill_server(plan: Plan) -> str:
    server, senders = _begin(plan, plan.root)
    kills = 0
    try:
        end = time.monotonic() + _SECONDS * plan.scale
        while time.monotonic() < end:
            time.sleep(plan.rng.uniform(0.1, 2.0))
            server.restart()
            kills += 1
        _finish(plan, senders)
        code = server.stop()
        plan.check(code == 0, f"the server ended with {code} at SIGTERM")
    finally:
        server.process.kill()
    return f"{kills} kills: {_judge(plan, server.root, senders)}"


@fault("server with a full disk", "the same clients; the disk of the log is filled several times, then freed")
def server_disk_full(plan: Plan) -> str:
    rounds = plan.times(4)
    with small_disk(plan.folder / "disk") as disk:
        server, senders = _begin(plan, disk / "root")
        try:
            for _ in range(rounds):
                time.sleep(1.0)
                with filled(disk):
                    time.sleep(2.0)
                    alive = server.process.poll() is None
                    plan.check(alive, "the server has ended on a full disk")
                time.sleep(6.0)  # the log is probed again after 5 s at the latest
            _finish(plan, senders)
            server.stop()
        finally:
            server.process.kill()
        return f"{rounds} times full: {_judge(plan, server.root, senders)}"


def _begin(plan: Plan, root: Path) -> tuple[_Server, list[_Sender]]:
    secrets = {name: keys.create(root, scopes=["ingest"], workspace=name)[0] for name in _WORKSPACES}
    server = _Server(root)
    senders = []
    for number in range(_CLIENTS):
        workspace = _WORKSPACES[number % len(_WORKSPACES)]
        senders.append(_Sender(number, server, secrets[workspace], workspace, Random(plan.rng.random())))
    for sender in senders:
        sender.start()
    return server, senders


def _finish(plan: Plan, senders: list[_Sender]) -> None:
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(60)
        plan.check(not sender.is_alive(), "a client did not get its last request through within 60 s")
        plan.check(sender.problem is None, f"a client gave up: {sender.problem}")
        sender.client.close()


def _judge(plan: Plan, root: Path, senders: list[_Sender]) -> str:
    """Each acknowledged id is one row of its workspace, and each mark one row: nothing is lost, and nothing twice."""
    oracle.recover(root)
    acknowledged = {(each.event_id, each.workspace, each.mark) for sender in senders for each in sender.acknowledged}
    query = "SELECT event_id::VARCHAR, workspace, payload ->> 'mark' FROM events WHERE event_type LIKE 'kind%'"
    found = ReadStore(root).sql(query, row_limit=10_000_000).rows
    rows = {tuple(row) for row in found}
    plan.check(len(rows) == len(found), f"{len(found) - len(rows)} rows are there twice")
    plan.check(acknowledged <= rows, f"{len(acknowledged - rows)} of {len(acknowledged)} acknowledged events are lost")
    plan.check(
        rows <= acknowledged, f"{len(rows - acknowledged)} rows were never acknowledged, though all was sent again"
    )
    marks = {mark for *_, mark in rows}
    plan.check(len(marks) == len(rows), f"{len(rows) - len(marks)} events have two rows")
    for name in _WORKSPACES:
        theirs = ReadStore(root, workspace=name).sql(f"SELECT count(*) FROM ({query})").rows[0][0]
        own = sum(workspace == name for _, workspace, _ in acknowledged)
        plan.check(theirs == own, f"workspace {name} sees {theirs} events, and has {own}")
    conflicts = ReadStore(root).sql("SELECT count(*) FROM conflicts").rows[0][0]
    plan.check(conflicts == 0, f"{conflicts} conflicts")
    again = sum(sender.again for sender in senders)
    return f"{len(acknowledged):,} acknowledged events, each one row; {again} requests made again, nothing twice"
