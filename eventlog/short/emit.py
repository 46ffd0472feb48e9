"""`eventlog emit TYPE [JSON]` for one usual event: the line, the bytes and the durability of the full way.

It steps aside for whatever is not usual: other options, settings, types that need msgspec to be checked, a payload that
could hold a secret or is odd in any way, a log without a segment that can be continued. So all errors, and all that
depends on settings, are the full way's (eventlog.cli.emit).
"""

from __future__ import annotations

import posix as os
import sys
import time

from eventlog.short import built_in, gate, json_object, log
from eventlog.short.settings import environment, plain_root

#: The options that it knows, in the order of the fields in a line. Each takes a value.
_FIELDS = ("--run-id", "--request-id", "--session-id", "--parent-event-id", "--workspace", "--agent")
_PAYLOAD_MAX_CHARS = 8_000
_VALUE_MAX_CHARS = 1_000
#: No payload with so few brackets is nested too deep.
_BRACKETS_MAX = 100
_SCHEMAS_MAX_BYTES = 1024 * 1024


def run(arguments: list[str]) -> None:
    """Append the event, print its id, and end the process; return where the full way has to do it."""
    parts = _parts(arguments)
    if parts is None:
        return
    event_type, payload, options = parts
    root = plain_root(options.pop("--root", None), environment())
    event_id = None if root is None else append(root, event_type, payload, options)
    if event_id is not None:
        _end(event_id)


def append(root: str, event_type: str, payload: str, options: dict[str, str]) -> str | None:
    """Append an event to the log; return its id, or None where the full way has to do it. `options` as in `_FIELDS`."""
    members = json_object.parsed(payload, strict=True)
    if (
        members is None
        or not _is_type(event_type)
        or not built_in.fits(event_type, members)
        or not _is_usual(payload)
        or not gate.is_plain(payload)
        or not all(_is_value(value) for value in options.values())
        or not _is_announced(root, event_type)
    ):
        return None
    event_id, line = _line(event_type, payload, options, time.time_ns())
    return event_id if log.append(root, event_type, line) else None


def _parts(arguments: list[str]) -> tuple[str, str, dict[str, str]] | None:
    """Return event type, payload and options of a command line; None for one that has anything else."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            words.append(argument)
            continue
        name, equals, value = argument.partition("=")
        value = value if equals else next(rest, "-")
        if (name not in _FIELDS and name != "--root") or name in options or value.startswith("-"):
            return None
        options[name] = value
    return (words[0], words[1] if len(words) > 1 else "{}", options) if len(words) in (1, 2) else None


def _is_type(name: str) -> bool:
    """As eventlog.format.envelope.EVENT_TYPE."""
    letters = name.replace("_", "a").replace(".", "a").replace("-", "a")
    return name.isascii() and letters.isalnum() and name == name.lower() and name[0].isalpha() and len(name) <= 100


def _is_usual(payload: str) -> bool:
    brackets = payload.count("{") + payload.count("[")
    is_bare = payload.startswith("{") and payload.endswith("}")
    return is_bare and payload.isprintable() and brackets <= _BRACKETS_MAX and len(payload) <= _PAYLOAD_MAX_CHARS


def _is_value(text: str) -> bool:
    """Say whether a field's value stands in JSON as it is."""
    is_plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return is_plain and len(text) <= _VALUE_MAX_CHARS


def _is_announced(root: str, event_type: str) -> bool:
    """Say whether the log has the schema of a type, or the type needs none."""
    if event_type not in built_in.TYPES:
        return True
    event_id = built_in.TYPES[event_type][0].encode()
    try:
        with os.scandir(f"{root}/log/event_schema") as entries:
            paths = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
        return any(_holds(path, event_id) for path in paths if path.endswith(".jsonl"))
    except OSError:
        return False


def _holds(path: str, event_id: bytes) -> bool:
    with open(path, "rb") as file:
        return b'{"event_id":"%b"' % event_id in file.read(_SCHEMAS_MAX_BYTES)


def _line(event_type: str, payload: str, options: dict[str, str], now_ns: int) -> tuple[str, bytes]:
    """Return id and line of an event, as eventlog.format.ids and eventlog.format.envelope make them."""
    fields = "".join(f',"{name[2:].replace("-", "_")}":"{options[name]}"' for name in _FIELDS if name in options)
    moment = (now_ns << 16) // 1_000_000 & (1 << 64) - 1  # 48 bits of ms, and of their fraction 16, of which 12 count
    bits = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1 | 1 << 63
    ms, rest = f"{moment:016x}", f"{bits:016x}"
    event_id = f"{ms[:8]}-{ms[8:12]}-7{ms[12:15]}-{rest[:4]}-{rest[4:]}"
    seconds, rest_ns = divmod(now_ns, 1_000_000_000)
    second = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*time.gmtime(seconds)[:6])
    timestamp = f"{second}.{rest_ns // 1000:06}Z"
    start = f'{{"event_id":"{event_id}","event_type":"{event_type}","timestamp":"{timestamp}"'
    return event_id, f'{start}{fields},"payload":{payload}}}\n'.encode()


def _end(event_id: str) -> None:
    """Print an id and end the process. If its reader is gone, or there is none, that is no error."""
    code = 0
    try:
        os.write(1, f"{event_id}\n".encode())
    except OSError as error:
        if sys.stdout is not None and not isinstance(error, BrokenPipeError):
            os.write(2, f"error: {error.strerror}\n".encode())
            code = 1
    os._exit(code)
