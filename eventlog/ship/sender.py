"""The thread that sends the local log to a server (mode `remote`)."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from eventlog.client import Client, Response
from eventlog.config import Config
from eventlog.errors import ConfigError
from eventlog.process import threads
from eventlog.process.guards import message_of
from eventlog.ship import batches
from eventlog.ship.batches import Batch
from eventlog.ship.progress import Progress

_logger = logging.getLogger("eventlog.ship")
#: How often the log is looked at, in seconds; another process may have written to it.
_POLL_S = 1.0
#: Pause after a failure: doubled each time, and of that a random part.
_DELAY_MIN_S, _DELAY_MAX_S = 1.0, 60.0
#: With a wrong key nothing will succeed for a while.
_REFUSED_DELAY_S = 30.0
#: After this many failures in a row the server counts as away.
_AWAY_AFTER = 5
_REPORT_WINDOW_S = 60.0
#: The longest that a program is kept from ending, in seconds.
STOP_S = 3.0


class Sender:
    """Sends what is new, until `stop` is called. Failures are counted and logged; nothing leaves the local log.

    `sent` are events that the server has, `refused` those that it, or this program, will never take.
    """

    def __init__(self, root: str, url: str, key: str | None) -> None:
        self.errors = self.sent = self.refused = 0
        self._root = root
        self._client = Client(url, key)
        self._progress = Progress(root, self._client.url)
        self._failures = 0
        self._events_max = batches.EVENTS_MAX
        self._next_report = 0.0
        self._stop = threading.Event()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="eventlog-sender")
        if not threads.start(self._thread):
            self._say("no thread can be started to send events; they are in the log, and are sent by a later process")

    @property
    def is_away(self) -> bool:
        """Whether the last attempts have all failed."""
        return self._failures >= _AWAY_AFTER

    def stop(self, timeout_s: float) -> None:
        """Send the rest and end the thread, waiting up to `timeout_s` seconds, and STOP_S at most.

        What is left stays in the log, for a later process. A server that is away is not waited for.
        """
        timeout_s = min(timeout_s, STOP_S)
        self._deadline = time.monotonic() + timeout_s
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            if is_last and self._failures:
                break
            pause_s = self._guarded(self._send_new)
            if is_last:
                break
            self._stop.wait(pause_s)
        self._guarded(self._end)

    def _guarded(self, work: Callable[[], float]) -> float:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - nobody is above this thread
            return self._failed(message_of(error))

    def _end(self) -> float:
        self._progress.end()
        self._client.close()
        return 0.0

    def _send_new(self) -> float:
        """Send what is new; return how long to wait until the next look."""
        if not self._progress.begin():
            return _POLL_S
        for batch in batches.of_log(self._root, self._progress.offsets, events_max=self._events_max):
            if self._deadline is not None and time.monotonic() > self._deadline:
                break
            pause_s = self._send(batch)
            if pause_s is not None:
                return pause_s
        return _POLL_S

    def _send(self, batch: Batch) -> float | None:
        """Send a batch, and keep that it was sent; return how long to wait where it was not."""
        if batch.events:
            try:
                response = self._client.request("POST", "/v1/events", b"\n".join(batch.events))
            except OSError as error:
                return self._failed(f"{self._client.url}: {error}")
            if response.is_cut_short:  # a part is in its log; what is sent again has the same ids
                return self._failed(f"{self._client.url} could not write all of them")
            if not response.is_taken and not self._is_hopeless(batch, response):
                return self._refused(response)
            self._count(batch, response)
        for reason in batch.unsendable:
            self.refused += 1
            self._say(f"an event was not sent, and stays in the local log: {reason}")
        self._failures = 0
        self._progress.save(batch.offsets)
        return None

    def _is_hopeless(self, batch: Batch, response: Response) -> bool:
        """Say whether a single event is what the server will never take; several are tried in smaller batches."""
        return len(batch.events) == 1 and response.status in (400, 413)

    def _refused(self, response: Response) -> float:
        if response.status in (400, 413) and self._events_max > 1:
            self._events_max = max(1, self._events_max // 4)
            return 0.0
        pause_s = self._failed(f"{self._client.url}: {response}")
        if response.status in (401, 403):
            return _REFUSED_DELAY_S
        return max(pause_s, response.retry_after_s)

    def _count(self, batch: Batch, response: Response) -> None:
        if not response.is_taken:
            rejected = [{"detail": str(response)}]
        else:
            rejected = response.body["rejected"]
            self._events_max = batches.EVENTS_MAX
        self.sent += len(batch.events) - len(rejected)
        self.refused += len(rejected)
        if rejected:
            detail = rejected[0].get("detail")
            self._say(f"{self._client.url} has refused {len(rejected)} events, which stay in the local log: {detail}")

    def _failed(self, reason: str) -> float:
        """Count and log a failure; return how long to wait."""
        self.errors += 1
        self._failures += 1
        self._say(f"events are not sent; they are in the local log, and it is tried again: {reason}")
        delay_s: float = min(_DELAY_MIN_S * 2.0 ** min(self._failures - 1, 10), _DELAY_MAX_S)
        return delay_s * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def _say(self, message: str) -> None:
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + _REPORT_WINDOW_S
        try:
            _logger.warning(message)
        except BaseException:  # noqa: BLE001 - a log handler of the agent; nobody is above this thread
            return


def of(config: Config) -> Sender:
    """Start a thread that sends the log of a root to its server. Raises ConfigError where there is no such server."""
    if config.url is None:
        raise ConfigError("mode 'remote' needs the url of a server, such as https://log.example; set EVENTLOG_URL")
    return Sender(config.root, config.url, config.key)
