"""`eventlog emit`: one event, or one per line of standard input, from shells and hooks."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import Any, get_args

import click
import msgspec

from eventlog.cli.main import configured, root_option, say
from eventlog.config import Config, Mode
from eventlog.errors import EventlogError, InvalidEvent
from eventlog.format import control, envelope
from eventlog.format.control import Role
from eventlog.record.recorder import Recorder


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("payload", metavar="[JSON|-]", default="{}")
@click.option("--run-id", help="The run that the event belongs to.")
@click.option("--request-id", help="The request that it belongs to.")
@click.option("--session-id", help="The session that it belongs to.")
@click.option("--parent-event-id", help="The event that caused it, such as a step.")
@click.option("--cycle", type=int, help="The number of the cycle.")
@click.option("--turn-number", type=int, help="The number of the turn.")
@click.option("--audit-level", type=click.Choice(get_args(envelope.AuditLevel)), help="turn, if not given.")
@click.option("--agent", help="Who did it.")
@click.option("--workspace", help="For whom.")
@click.option("--schema-version", type=click.IntRange(1, 2**31 - 1), help="Of the payload; 1, if not given.")
@click.option("--event-id", help="A UUID of your own; made, if not given.")
@click.option("--timestamp", help="When it happened, ISO 8601; now, if not given.")
@click.option("--dedupe-key", help="Events with the same workspace, type, timestamp and key are one row.")
@root_option
def emit(event_type: str, payload: str, root: str | None, **fields: Any) -> int:
    """Append an event and print its id; '-' reads one per line.

    JSON is an object and defaults to {}. A bad line of standard input is reported with its
    number, the others are recorded, and the exit code is 2.

    \b
    Example:
      eventlog emit deploy '{"version": "1.2"}' --agent ci --run-id 77
      jq -c .items[] < data.json | eventlog emit item -
    """
    if payload == "-" and fields["event_id"] is not None:
        raise click.UsageError("--event-id is for one event; with '-' each line is another")
    settings = configured(root, strict=True)
    recorder = Recorder(settings, role=Role.OPERATOR)
    envelope_fields = {name: value for name, value in fields.items() if value is not None}
    if payload != "-":
        event_id = recorder.emit(event_type, _payload(os.fsencode(payload)), **envelope_fields)
        _echo(event_id)
        _send(settings)
        return 0
    control.check(envelope.check_event_type(event_type), Role.OPERATOR)
    failures = 0
    stdin = sys.stdin.buffer if sys.stdin is not None else io.BytesIO()
    number = 0
    while line := stdin.readline(envelope.MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            if len(line) > envelope.MAX_LINE_BYTES:
                while not line.endswith(b"\n") and (line := stdin.readline(envelope.MAX_LINE_BYTES)):
                    pass
                raise InvalidEvent(f"longer than {envelope.MAX_LINE_BYTES:,} bytes")
            _echo(recorder.emit(event_type, _payload(line.strip()), **envelope_fields))
        except InvalidEvent as error:
            failures += 1
            say(f"line {number}: {error}")
    _send(settings)
    return 2 if failures else 0


def _send(settings: Config) -> None:
    """In mode `remote`, send what is new for a few seconds; a later process sends the rest."""
    if settings.mode is not Mode.REMOTE:
        return
    from eventlog.ship import sender

    sender.of(settings).stop(sender.STOP_S)


def _payload(data: bytes) -> msgspec.Raw:
    try:
        if b"\n" in data:  # people write JSON over several lines
            msgspec.json.decode(data)
            data = msgspec.json.format(data, indent=-1)
        return envelope.encode_payload(msgspec.Raw(data))
    except (EventlogError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"{error}; got: {data[:80].decode(errors='replace')}") from None


def _echo(event_id: str | None) -> None:
    """Print an id. None means that emitting is turned off, which hooks must not notice.

    If the reader of the ids is gone, later events are recorded all the same.
    """
    if event_id is not None:
        with contextlib.suppress(BrokenPipeError, AttributeError):  # standard output is closed, or does not exist
            click.echo(event_id)
