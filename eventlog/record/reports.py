"""Which of the recorder's messages are logged: one a minute of each kind, and of a few kinds.

A disk that is full says the same of each event, and must not flood the log of the agent; but what else goes wrong in
the same minute is another thing, and is said. Messages are of one kind if they differ in numbers, paths and quoted
names alone.
"""

from __future__ import annotations

import re

#: Seconds between two messages of one kind.
WINDOW_S = 60.0
#: Kinds that are told apart: of more than these in one window, none is logged.
_KINDS_MAX = 10
_KIND_CHARS = 1000
_VARYING = r"\S*/\S*|[0-9]+|'[^']*'|\"[^\"]*\"|`[^`]*`"


class Reports:
    """Which kinds of messages were logged lately. Call it with a lock held: it has none."""

    def __init__(self) -> None:
        #: When each kind may be logged again.
        self._silent_until: dict[str, float] = {}

    def is_due(self, message: str, now_s: float) -> bool:
        """Return whether a message is to be logged now; if so, others of its kind are not, for a while."""
        kind = re.sub(_VARYING, "", message[:_KIND_CHARS])
        if now_s < self._silent_until.get(kind, now_s):
            return False
        if len(self._silent_until) >= _KINDS_MAX:
            self._silent_until = {each: until for each, until in self._silent_until.items() if now_s < until}
            if len(self._silent_until) >= _KINDS_MAX:
                return False
        self._silent_until[kind] = now_s + WINDOW_S
        return True
