"""The envelope: one event, and its line of JSON.

A line is one JSON object in UTF-8, without a raw newline inside, at most
`MAX_LINE_BYTES` long and nested at most `MAX_DEPTH` deep. `decode` checks lines when they are
indexed. Two functions make lines, within the same limits, so that the index accepts every
line that is written:

    encode   from a finished envelope
    line     at emit, from parts: an id, a time, the fields that events share (checked once
             by `encode_fields`), and a payload (checked by `payload_json`)

`Decoded.extra` has the unknown envelope fields. docs/decisions/0006-nesting-limit.md gives the reason for the limit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import json_text, payloads, timestamps
from eventlog.process.guards import shown

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 256

EVENT_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,99}", re.ASCII)
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
#: A shorter payload cannot be nested too deep: each of its levels takes two brackets.
_DEEP_MIN_BYTES = 2 * MAX_DEPTH
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
#: Nearly all JSON is nested no deeper than this, which is checked quickly.
_SHALLOW = 16
_BACKSLASH = ord("\\")
_NEWLINE = ord("\n")  # `number in bytes` is faster than `bytes in bytes`
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEPS)

Text = Annotated[str, msgspec.Meta(max_length=10_000)]
Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
AuditLevel = Literal["turn", "session", "export"]
#: From the least to the highest: what is for an export is for the record of a session, too.
AUDIT_LEVELS: tuple[AuditLevel, ...] = ("turn", "session", "export")
EventId = Annotated[str, msgspec.Meta(pattern=_UUID)]


class _Fields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that events of one context share."""

    run_id: Text | None = None
    request_id: Text | None = None
    session_id: Text | None = None
    parent_event_id: Text | None = None
    cycle: Count | None = None
    turn_number: Count | None = None
    audit_level: AuditLevel = "turn"
    workspace: Text | None = None
    agent: Text | None = None
    schema_version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1


# In a line these come first, then the shared fields and the payload: msgspec puts fields first that are not `kw_only`.
class _Named(_Fields, frozen=True, omit_defaults=True):
    event_id: EventId
    event_type: Annotated[str, msgspec.Meta(pattern=rf"^{EVENT_TYPE.pattern}\Z", max_length=100)]
    timestamp: Annotated[str, msgspec.Meta(pattern=timestamps.PATTERN)]


class Envelope(_Named, frozen=True, kw_only=True, omit_defaults=True):
    """One event. A field at its default is left out of the line."""

    payload: msgspec.Raw

    def data(self) -> dict[str, Any]:
        """Return the payload's fields as plain Python objects (see eventlog.format.payloads)."""
        return payloads.fields(self.payload)


FIELDS = Envelope.__struct_fields__


class _Strict(Envelope, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _StrictFields(_Fields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _WorkspaceOnly(msgspec.Struct):
    workspace: str | None = None


class Decoded(NamedTuple):
    """A valid line: its envelope, and the envelope fields that this version does not know, if any."""

    envelope: Envelope
    extra: dict[str, msgspec.Raw] | None


#: How a value of a subclass becomes one of the class, by its own code as little as possible.
_PLAIN: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


def _builtin(value: object) -> Any:
    """Return a text or a number of a subclass, such as numpy.float64, as what it is; for the encoder."""
    for kind, plain in _PLAIN.items():
        if issubclass(type(value), kind) and not isinstance(value, bool):  # True as a name
            return plain(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encoder = msgspec.json.Encoder(enc_hook=_builtin)
_strict = msgspec.json.Decoder(_Strict)
_lenient = msgspec.json.Decoder(Envelope)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WRITTEN_AS_IT_IS = (dict, msgspec.Struct)
_any_json = msgspec.json.Decoder(msgspec.Raw)
_shared_fields = msgspec.json.Decoder(_StrictFields)
_workspace_only = msgspec.json.Decoder(_WorkspaceOnly)
_event_id = msgspec.json.Decoder(EventId)


def levels_from(least: AuditLevel) -> tuple[AuditLevel, ...]:
    """Return an audit level and the higher ones: `levels_from("session")` is `("session", "export")`.

    Raises InvalidEvent for an unknown one.
    """
    if least not in AUDIT_LEVELS:
        raise InvalidEvent(f"unknown audit level {shown(least)}; use one of {', '.join(AUDIT_LEVELS)}")
    return AUDIT_LEVELS[AUDIT_LEVELS.index(least) :]


def check_event_type(name: object) -> str:
    """Return `name` if it may be an event type, and so the name of a folder. Raises InvalidEvent."""
    if isinstance(name, str) and EVENT_TYPE.fullmatch(name):
        return str.__str__(name)  # str() of a member of `class Kind(str, Enum)` is "Kind.CALL"
    raise InvalidEvent(
        f"event type {shown(name)} is refused: use 1 to 100 of a-z, 0-9, '_', '.', '-', beginning with a letter"
    )


def encode_payload(payload: object) -> msgspec.Raw:
    """Encode a payload as a JSON object. Raises InvalidEvent with the value that cannot be written.

    Takes a mapping, a msgspec Struct, a dataclass, or a `msgspec.Raw` of a JSON object. Raw
    JSON inside of the payload is checked by `check_json` or `encode`.
    """
    return msgspec.Raw(payload_json(payload))


def payload_json(payload: object) -> bytes:
    """Like `encode_payload`, as bytes. Raises InvalidEvent."""
    if isinstance(payload, msgspec.Raw):
        return _checked_raw(payload)
    if not isinstance(payload, _WRITTEN_AS_IT_IS) and isinstance(payload, Mapping):
        payload = dict(payload)
    data = struct_json(payload)
    if not data.startswith(b"{"):
        raise InvalidEvent(f"payload must be a JSON object, not {type(payload).__name__}; wrap it: {{'value': …}}")
    return data


def struct_json(payload: object) -> bytes:
    """Like `payload_json`, for a Struct that is not `array_like`, which encodes to an object. Raises InvalidEvent."""
    try:
        data = _encoded(payload)
    except RecursionError:
        raise InvalidEvent("payload is nested too deep, or contains itself; flatten it") from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidEvent(f"payload cannot be written as JSON: {error}") from None
    if _NEWLINE in data:
        raise InvalidEvent("payload holds raw JSON with a newline in it; re-encode it on one line")
    if not data.isascii():
        _refuse_not_utf8(data)
    if _BACKSLASH in data and json_text.may_have_halves(data):  # in raw JSON: the encoder writes none
        data = json_text.without_halves(data)
    if data.rfind(b"null") >= 0:  # msgspec writes NaN and infinities as null, so only then check for them
        check_json(data)
        _check_nulls(payload, data)
    if len(data) > MAX_LINE_BYTES:  # before anything else is done with it
        check_limits(data)
    return data


def _encoded(payload: object) -> bytes:
    try:
        return _encoder.encode(payload)
    except UnicodeEncodeError:  # half of a surrogate pair: it costs the character
        return _encoder.encode(_whole(_builtins(payload)))


def _whole(value: Any) -> Any:
    """Return builtin objects without half characters in their texts."""
    if isinstance(value, str):
        return json_text.whole(value)
    if isinstance(value, dict):
        return {_whole(name): _whole(item) for name, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple | set | frozenset) else value


def _builtins(payload: object) -> Any:
    """Return a payload that can be encoded as builtin objects: what `_encoder` takes, this takes."""
    return msgspec.to_builtins(payload, str_keys=True, enc_hook=_builtin_or_raw)


def _builtin_or_raw(value: object) -> Any:
    return payloads.decode(value) if isinstance(value, msgspec.Raw) else _builtin(value)


def _check_nulls(payload: object, data: bytes) -> None:
    """Refuse a payload of which `data` was made if a null in it was a number that is none."""
    try:
        plain = _builtins(payload)
        if plain == msgspec.json.decode(data):  # each null is a None; comparing is faster than walking
            return
    except msgspec.MsgspecError:
        pass  # raw JSON may hold a number beyond a float
    _refuse_non_finite(plain, "payload")


def check_json(data: bytes) -> None:
    """Raise InvalidEvent if a payload is not JSON: raw JSON inside of it is not checked when it is encoded."""
    try:
        _any_json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidEvent(f"payload is not JSON: {error}") from None


def _refuse_not_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"payload holds raw JSON that is not UTF-8: {error}") from None


def _checked_raw(raw: msgspec.Raw) -> bytes:
    data = bytes(raw)
    if b"\n" in data:
        raise InvalidEvent("raw payload holds a newline; re-encode it on one line")
    try:
        data.decode()
        if json_text.may_have_halves(data):
            data = json_text.without_halves(data)
        _fields.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"raw payload is not a JSON object: {error}") from None
    if len(data) > MAX_LINE_BYTES:
        check_limits(data)
    return data


def _refuse_non_finite(value: object, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidEvent(f"{path} is {value}: JSON has no such number; send null or a string")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]")


def encode(envelope: Envelope) -> bytes:
    """Return the line of an envelope, newline included. Raises InvalidEvent for a wrong field or an exceeded limit.

    The line is read back first, because struct constructors check nothing: else a wrong field would end in
    quarantine later.
    """
    line = _written(envelope) + b"\n"
    check_limits(line)
    _read_back(_strict, line)
    return line


def line(event_id: str, event_type: str, timestamp: str, fields: bytes, payload: bytes) -> bytes:
    """Return the line of an event, newline included, from valid parts.

    The parts come from, in this order, `ids` or `encode_event_id`, `check_event_type`, `timestamps`,
    `encode_fields`, and `payload_json` with `check_json`. Raises InvalidEvent for an exceeded limit.
    """
    start = f'{{"event_id":"{event_id}","event_type":"{event_type}","timestamp":"{timestamp}"'
    line = b"".join((start.encode(), fields, b',"payload":', payload, b"}\n"))
    if len(payload) >= _DEEP_MIN_BYTES:
        check_limits(line)
    return line


def encode_fields(values: Mapping[str, Any]) -> bytes:
    """Return the shared fields as in a line, each after a comma: b',"run_id":"r1","agent":"a"'.

    Raises InvalidEvent for a wrong one.
    """
    read_back = _read_back(_shared_fields, _written(_StrictFields(**values)))
    data = _encoder.encode(read_back)  # encode what was read back: a value may be raw JSON with a newline
    return b"," + data[1:-1] if len(data) > len(b"{}") else b""


def workspace_of(fields: bytes) -> str | None:
    """Return the workspace in the result of `encode_fields`, or None."""
    return _workspace_only.decode(b"{" + fields[1:] + b"}").workspace


def encode_event_id(value: object) -> str:
    """Return an event id as a text. Raises InvalidEvent if it is no UUID."""
    return str(_read_back(_event_id, _written(value)))


def _written(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"an envelope field holds a lone surrogate: {error}") from None
    except (TypeError, OverflowError) as error:
        raise InvalidEvent(f"an envelope field cannot be written as JSON: {error}") from None


def _read_back(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidEvent(f"envelope is not valid: {error}") from None


def check_limits(line: bytes) -> None:
    """Raise InvalidEvent if a line, or a payload for a line, is too long or nested too deep."""
    if len(line) > MAX_LINE_BYTES + len(b"\n"):
        raise InvalidEvent(
            f"event of {len(line) - 1:,} bytes is over the limit of {MAX_LINE_BYTES:,}; "
            "store the large part as a file and log its path and hash"
        )
    if too_deep(line):
        raise InvalidEvent(f"payload is nested deeper than {MAX_DEPTH} levels; flatten it")


def decode(line: bytes) -> Decoded:
    """Decode one line, without its newline. Raises InvalidEvent with the reason."""
    if not line.strip():
        raise InvalidEvent("empty line")
    if line.startswith(b"\xef\xbb\xbf"):
        raise InvalidEvent("line begins with a byte order mark")
    if too_deep(line):
        raise InvalidEvent(f"nested deeper than {MAX_DEPTH} levels")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"not UTF-8: {error.reason} at byte {error.start} of the line") from None
    try:
        decoded = Decoded(_strict.decode(line), None)
    except msgspec.ValidationError:
        decoded = _decode_with_extra(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEvent(f"not JSON: {error}") from None
    if not bytes(decoded.envelope.payload).startswith(b"{"):
        raise InvalidEvent("not an envelope: payload is not an object")
    return decoded


def _decode_with_extra(line: bytes) -> Decoded:
    """Decode a line with unknown fields, or refuse one with a wrong field; slower than the strict decoder."""
    try:
        envelope = _lenient.decode(line)
    except msgspec.MsgspecError as error:
        raise InvalidEvent(f"not an envelope: {error}") from None
    repeated = repeated_field(line)
    if repeated is not None:
        raise InvalidEvent(f"envelope field {repeated!r} stands twice")
    extra = {name: raw for name, raw in _fields.decode(line).items() if name not in FIELDS}
    return Decoded(envelope, extra)


def repeated_field(line: bytes) -> str | None:
    """Return an envelope field that a valid line repeats, or None.

    Parsers disagree on which of the two counts. This is slow, so `decode` calls it only for lines with unknown
    fields: the strict decoder refuses repeated ones.
    """
    names = [name for name, _ in json.loads(line, object_pairs_hook=list, parse_int=str, parse_float=str)]
    return next((name for name in FIELDS if names.count(name) > 1), None)


def too_deep(line: bytes) -> bool:
    """Say whether JSON nests deeper than MAX_DEPTH.

    Writing and reading both call this rather than catch a RecursionError, whose threshold depends on
    the caller's stack: live indexing and replay must agree on every line. Nearly all lines
    have fewer brackets than MAX_DEPTH, which is checked first.
    """
    if opening_brackets(line) <= MAX_DEPTH:
        return False
    # Without a regular expression: hostile lines would take it quadratic time, or a huge stack.
    if _BACKSLASH in line:
        line = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(line.split(b'"')[::2]).translate(None, _NO_BRACKETS)
    rest = brackets  # each round removes the innermost level or two: nothing is left of shallow JSON
    for _ in range(_SHALLOW // 2):
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
    return bool(rest) and max(accumulate(map(_STEPS.__getitem__, brackets))) > MAX_DEPTH


def opening_brackets(data: bytes) -> int:
    """Count `{` and `[`, also inside strings: no part of the data is nested deeper than that."""
    # `data.replace` is ten times as fast as `data.count`, which CPython does byte by byte.
    return 2 * len(data) - len(data.replace(b"{", b"")) - len(data.replace(b"[", b""))
