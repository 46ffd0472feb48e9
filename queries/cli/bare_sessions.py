"""Draws a session of which no conversation and no call is known, but events: what hooks told, and a program's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice

from eventlog.cli.main import with_root
from eventlog.cli.text import counted, printable
from eventlog.errors import InvalidEvent
from eventlog.format import envelope, payloads, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers import previews
from eventlog.queries.text import cells

_HOOK_EVENT = "agent_hook"
#: So many events are drawn.
_EVENTS_MAX = 200


def lines(raw: Iterable[bytes], *, width: int | None, time: Callable[[datetime | None], str]) -> Iterator[str]:
    """Yield lines for people: an event each, and what else could be known. `raw` are the lines of the log, in order."""
    read = iter(raw)
    events = list(_events(islice(read, _EVENTS_MAX)))
    for event in events:
        line = f"{time(timestamps.parse(event.timestamp))}  {_words(event)}"
        yield line if width is None else cells.cut(line, width)
    more = sum(1 for _ in read)
    if more:
        yield f"… {counted(more, 'more event')}: --raw has all"
    yield ""
    if all(event.event_type == _HOOK_EVENT for event in events):
        yield "This session is known from hooks alone: they tell no answers, no tokens and no cost."
        yield with_root("To import its transcript: eventlog import claude-code")
    else:
        yield "No run, no call of a model and no call of a tool is known of this session."


def _events(raw: Iterable[bytes]) -> Iterator[Envelope]:
    for line in raw:
        try:
            yield envelope.decode(line.rstrip(b"\n")).envelope
        except InvalidEvent:
            continue


def _words(event: Envelope) -> str:
    if event.event_type != _HOOK_EVENT:
        return printable(f"{event.event_type}  {bytes(event.payload).decode(errors='replace')}")
    return printable("  ".join(filter(None, previews.hook(payloads.fields(event.payload)))))
