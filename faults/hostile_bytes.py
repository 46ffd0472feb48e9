"""Lines that somebody might write into a log to break its reader."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from eventlog.format import ids

#: Real logs and torture files, beside the project; not part of it.
REAL_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def event(rng: random.Random, **changes: object) -> bytes:
    """A valid line with some fields changed; without its newline."""
    fields = {
        "event_id": ids.new_id(rng.randrange(10**18, 2 * 10**18)),
        "event_type": "t",
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "payload": {"n": rng.randrange(10**9)},
    }
    return json.dumps(fields | changes).encode()


def with_value(rng: random.Random, value: bytes) -> bytes:
    """A line with raw bytes as a value of its payload."""
    return event(rng, payload={"n": "HERE"}).replace(b'"HERE"', value)


def hostile_lines(rng: random.Random) -> Iterator[bytes]:
    """Return one line of each kind that we could think of, valid or not."""
    for value in (b"1e999999", b"-1e999999", b"1e-999999", b"9" * 100_000, b"-" + b"9" * 5000, b"0." + b"1" * 100_000,
                  b"1E400", b"-0", b"-0.0", b"00", b"+1", b".5", b"1.", b"0x10", b"NaN", b"Infinity", b"nan",
                  b"18446744073709551616", b"1e308", b"123456789012345678901234567890.5e-10"):  # fmt: skip
        yield with_value(rng, value)
    for value in (b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\u2028"', b'"\xe2\x80\xa8"',
                  b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
                  b'"\xe2\x82"', b'"\\x41"', b'"\\"', b'"', b"'x'", b'"\t"', b'"\r"', b"\xef\xbb\xbf1",
                  b'"\xf0\x9f\x92\xa9"', b'"\\/\\b\\f"', b"tru", b"nul", b"true false", b"undefined", b"/**/1", b"[1,]",
                  b'{"a":1,}', b'{"a"}', b"{a:1}", b'{"":{"":{"":1}}}', b'{"a":1,"a":2,"A":3}',
                  b'{"__proto__":1}', b'"\xef\xbf\xbf"'):  # fmt: skip
        yield with_value(rng, value)
    for depth in (255, 256, 1000, 100_000):
        for opened, closed in ((b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b"[{", b"}]")):
            yield with_value(rng, opened * depth + (b"1" if opened.endswith(b":") else b"") + closed * depth)
    yield with_value(rng, b"[" * 300 + b'"' + b'\\"' * 500_000)
    yield with_value(rng, b"[" * 300 + b'"' + b'\\"' * 500_000 + b'"' + b"]" * 300)
    yield with_value(rng, b"[" + b"[]," * 500_000 + b"[]]")
    yield with_value(rng, json.dumps({"k" * 1_000_000: 1}).encode())
    yield with_value(rng, json.dumps({f"k{n}": n for n in range(100_000)}).encode())
    yield with_value(rng, b"[" + b"{}," * 300_000 + b"{}]")
    whole = event(rng)
    yield from (whole + b"\r", b"\xef\xbb\xbf" + whole, whole + event(rng), whole + b" " + event(rng), whole + b",",
                b"[" + whole + b"]", whole[:-1], whole[1:], b"  " + whole + b"\t ", b"\0" + whole, whole + b"\0",
                b"\0" * 100_000, b"", b" ", b" " * 100_000, b"\r", b"\t", b"\x0b", b"\xe2\x80\xa8", b"\xc2\xa0",
                b"\xe2\x80\xa8" + whole, b"\x0c" + whole, b"\xff\xfe" + whole.decode().encode("utf-16-le"),
                b"null", b"true", b"1", b'"x"', b"[]", b"{}", b"{", b"}", b"x" * 70_000, b"\xff" * 70_000, b"#",
                b"{}" * 2000, b"[" * 20_000_000)  # fmt: skip
    for field in ("event_id", "event_type", "timestamp", "payload", "run_id", "request_id", "session_id", "cycle",
                  "parent_event_id", "turn_number", "audit_level", "workspace", "agent", "schema_version"):  # fmt: skip
        odd: tuple[object, ...] = (
                      None, True, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 1.0, 1e300, "", " ", "1", "x" * 10_001,
                      "\n", "\0", "\ud800", "é" * 5000, [], [1], {}, {"a": None}, "../../etc", "t\n", "T", "turn\0",
                      "2026-02-30T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z",
                      "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF")  # fmt: skip
        for each in odd:
            yield event(rng, **{field: each})
        twice = json.dumps({field: 1}).encode()[1:-1]
        yield b"{" + twice + b"," + event(rng)[1:]
        yield event(rng)[:-1] + b"," + twice + b"}"
        yield event(rng, **{field.upper(): "x", field + " ": 1, "\\u0065" + field[1:]: 2})
        yield event(rng).replace(f'"{field[0]}'.encode(), f'"\\u{ord(field[0]):04x}'.encode())


def torture_files() -> Iterator[bytes]:
    """Return the lines of public JSON parsing tests, as they are and as values; none if they are not installed."""
    for path in sorted((REAL_DATA / "json-torture").rglob("*.json")):
        data = path.read_bytes()
        yield data.replace(b"\n", b" ")
        yield from data.split(b"\n")


def mutated(rng: random.Random, line: bytes) -> bytes:
    """Return a line with something changed, inserted, left out or repeated."""
    data = bytearray(line[:20_000])
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        what = rng.randrange(5)
        if what == 0:
            data[at:at] = rng.randbytes(rng.randint(1, 4))
        elif what == 1:
            del data[at : min(end, at + 10)]
        elif what == 2 and at < len(data):
            data[at] = rng.choice(b'"\\{}[]:,0-eE.\x00\xff \r')
        elif what == 3:
            data[at:at] = data[at : min(end, at + 50)]
        else:
            data[at:at] = rng.choice(
                [b"\\ud800", b"\xef\xbb\xbf", b'"payload":{},', b"1e999", b"\0", b"\\u0000", b"null"]
            )
    return bytes(data).replace(b"\n", b"")
