"""The parts of one running server, which its routes share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from pathlib import Path

from starlette.requests import HTTPConnection

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import EventlogError
from eventlog.format.control import Role
from eventlog.record.recorder import Recorder
from eventlog.server.buckets import Buckets
from eventlog.server.callers import Callers
from eventlog.server.ingest import Verdicts
from eventlog.server.intake import Intake
from eventlog.server.jobs import Jobs
from eventlog.server.keys import REFRESH_S, KeyRing
from eventlog.server.readers import Readers
from eventlog.server.rule_changes import RuleChanges
from eventlog.server.streams import Streams

_logger = logging.getLogger("eventlog.server")


class Parts:
    """What a server consists of. It is made before the first request, and closed after the last."""

    def __init__(self, config: Config) -> None:
        self.root = Path(config.root)
        self.limits = limits = config.server
        self.started = time.time()
        # Of the configuration only what is about files: the server's own agent or workspace is not the clients'.
        settings = Config(
            root=config.root, segment_max_bytes=config.segment_max_bytes, segment_max_age_s=config.segment_max_age_s,
            blob_min_bytes=config.blob_min_bytes, redact=config.redact, durability=Durability.SYNCED, strict=True,
        )  # fmt: skip
        self.recorder = Recorder(settings, role=Role.OPERATOR)
        self.intake = Intake(threads=limits.ingest_threads, queue_max_bytes=limits.queue_max_bytes)
        self.keys = KeyRing(config.root)
        self.callers = Callers(self.keys, session_s=limits.session_s)
        self.buckets = Buckets()
        self.readers = Readers(
            config.root, limits, catch_up_s=config.catch_up_s,
            budgets={"day": config.budget_usd_per_day, "month": config.budget_usd_per_month},
        )  # fmt: skip
        self._counting = threading.Lock()
        #: Events that this server has appended, and refused; answers to what is asked after that have them.
        self.accepted = self.rejected = 0
        self.jobs = Jobs(self.root, limits)
        self.rule_changes = RuleChanges()
        self.streams = Streams(self.root, self.callers, limits)
        self.hooks_refused = 0
        #: Set when the server is told to end: streams end then, and nothing new begins.
        self.stopping = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    def count(self, verdicts: Verdicts) -> None:
        """Count what became of events. Threads call this."""
        with self._counting:
            self.accepted += verdicts.accepted
            self.rejected += len(verdicts.rejected)

    async def open(self) -> None:
        """Start what runs beside the requests."""
        self._running = [
            asyncio.create_task(self._refresh_keys()),
            asyncio.create_task(self.streams.look_after(self.stopping)),
        ]

    async def close(self) -> None:
        """End everything, and finish what was taken."""
        self.stopping.set()
        for task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.streams.close()
        await self.readers.close()
        await self.jobs.close()
        await asyncio.to_thread(self.intake.close)
        await asyncio.to_thread(self.recorder.shutdown)

    async def _refresh_keys(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await asyncio.to_thread(self.keys.refresh)
            except (OSError, EventlogError) as error:
                _logger.warning("API keys cannot be read (%s); those known before stay in force", error)


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts of the server that a request came to."""
    parts = connection.app.state.parts
    assert isinstance(parts, Parts)
    return parts
