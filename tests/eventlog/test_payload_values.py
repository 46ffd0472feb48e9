"""What a payload may hold: any value is recorded the same way, whatever letters stand beside it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog.config import Config
from eventlog.format import envelope, json_text, payloads
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Odd(str):
    """A text that cannot be compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


class Count(int):
    pass


class Kind(enum.StrEnum):
    CALL = "call"


class Nothing(enum.Enum):
    HERE = None


@dataclasses.dataclass
class Data:
    a: Any = None


class Item(msgspec.Struct):
    a: Any = None


class Pair(msgspec.Struct, array_like=True, tag=True):
    a: Any = None


Point = collections.namedtuple("Point", "x y")

VALUES: dict[str, tuple[Any, Any]] = {
    "raw text": (msgspec.Raw(b'"nullable"'), "nullable"),
    "raw null": (msgspec.Raw(b"null"), None),
    "raw in a list": ([msgspec.Raw(b'{"a":null}')], [{"a": None}]),
    "raw in a struct": (Item(msgspec.Raw(b"[1]")), {"a": [1]}),
    "raw in a dataclass": (Data(msgspec.Raw(b"[1]")), {"a": [1]}),
    "raw with half a character": (msgspec.Raw(b'"\\ud83d."'), "\ufffd."),
    "a text of a class": (Text("x"), "x"),
    "a text that cannot be compared": ([Odd("x")], ["x"]),
    "a number of a class": ([Number(1.5), Count(3)], [1.5, 3]),
    "an enum": ([Kind.CALL, Nothing.HERE], ["call", None]),
    "a dataclass": (Data(None), {"a": None}),
    "a struct": ([Item(None), Pair(None)], [{"a": None}, ["Pair", None]]),
    "tuples": ((1, Point(1, None)), [1, [1, None]]),
    "sets": ([{1}, frozenset([None])], [[1], [None]]),
    "bytes": ([b"x", bytearray(b"x"), memoryview(b"x")], ["eA=="] * 3),
    "decimals": ([decimal.Decimal("1.10"), decimal.Decimal("NaN")], ["1.10", "NaN"]),
    "times": ([dt.date(2026, 1, 2), dt.timedelta(1), uuid.UUID(int=0)], ["2026-01-02", "P1D", str(uuid.UUID(int=0))]),
    "a huge number": (2**200, 2**200),
    "names of numbers": ({1: 2, 1.5: None, 2**70: 1}, {"1": 2, "1.5": None, str(2**70): 1}),
    "names of classes": ({Text("k"): 1, Kind.CALL: 2, Odd("o"): 3}, {"k": 1, "call": 2, "o": 3}),
    "mappings": (collections.OrderedDict(a=collections.defaultdict(int, b=1)), {"a": {"b": 1}}),
    "half a character": ("a\ud83d", "a\ufffd"),
    "both halves": ("\ud83d\ude00 \ude00", "\U0001f600 \ufffd"),
    "half a character in a name": ([{"\udcff": ("x\ude00", None)}], [{"\ufffd": ["x\ufffd", None]}]),
    "half a character beside a raw number": (["\ud800", msgspec.Raw(b"1")], ["\ufffd", 1]),
}
BESIDE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a null": {"n": None},
    "the letters": {"n": "null"},
    "a name": {"nullable": 1},
    "é": {"n": "é"},
    "a backslash": {"n": "\\ud83d"},
    "a large text": {"n": "x" * 100_000},
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("case", VALUES)
def test_a_value_is_recorded_whatever_stands_beside_it(root: Path, case: str, beside: str) -> None:
    """As JSON has it."""
    value, expected = VALUES[case]
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"v": value, **BESIDE[beside]})
    recorder.shutdown()
    (line,) = lines_of(root, "t")
    assert payloads.decode(msgspec.json.decode(line, type=envelope.Envelope).payload)["v"] == expected


def test_raw_json_beyond_a_float_is_recorded_as_it_stands(root: Path) -> None:
    """Also beside a null, where the numbers are looked at."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"v": msgspec.Raw(b"[1e999,null]"), "n": None})
    recorder.shutdown()
    assert b'"payload":{"v":[1e999,null],"n":null}' in lines_of(root, "t")[0]


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize(
    "value", [math.nan, [{"a": (-math.inf,)}], Number("nan"), {math.nan}, Item(math.inf), {"raw": msgspec.Raw(b"NaN")}]
)
def test_what_is_no_number_is_refused_whatever_stands_beside_it(root: Path, value: object, beside: str) -> None:
    """A null in its place would be another value."""
    recorder = Recorder(Config(root=str(root), strict=True))
    with pytest.raises(obs.InvalidEvent, match=r"JSON has no such number|is not JSON"):
        recorder.emit("t", {"v": value, **BESIDE[beside]})


def test_an_envelope_field_with_half_a_character_costs_the_character(root: Path) -> None:
    """As names of files have them. But a workspace is refused: two of them would become one."""
    recorder = Recorder(Config(root=str(root), strict=True))
    with obs.context(agent="file\udcff"):
        recorder.emit("t", {}, run_id="r\ud800")
    with pytest.raises(obs.InvalidEvent, match="lone surrogate"):
        recorder.emit("t", {}, workspace="\ud800", run_id="r\ud800")
    recorder.shutdown()
    (event,) = map(json.loads, lines_of(root, "t"))
    assert (event["agent"], event["run_id"]) == ("file\ufffd", "r\ufffd")


TEXTS = st.text(st.characters(exclude_categories=[]) | st.sampled_from(["\ud83d", "\ude00", "\\", '"', "u", "d", "8"]))


@given(text=TEXTS)
def test_emit_and_json_text_agree_on_half_characters(text: str) -> None:
    """Whether a text comes as Python's, or as JSON with or without escapes; and whole characters stay."""
    expected = json_text.whole(text)
    assert msgspec.json.decode(envelope.struct_json({"v": text})) == {"v": expected}
    escaped = json.dumps({"v": text}).encode()
    assert msgspec.json.decode(json_text.without_halves(escaped)) == {"v": expected}
    plain = json.dumps({"v": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert msgspec.json.decode(json_text.without_halves(plain)) == {"v": expected}
    if expected == text:
        assert json_text.without_halves(plain) == plain
