"""Edits of a JSON file that belongs to somebody else: only the edited places change, all other characters stay.

An object or a list is named by the position of its bracket; its entries by their positions. Text comes in and goes
out; it must be valid JSON, which the caller has checked.
"""

from __future__ import annotations

import json
from typing import NamedTuple

_SPACE = " \t\r\n"
_decoder = json.JSONDecoder()


class Entry(NamedTuple):
    """An entry of an object or a list: where it starts, where its value starts, and where it ends.

    `name` is "" in a list.
    """

    name: str
    start: int
    value: int
    end: int


def entries(text: str, at: int) -> list[Entry]:
    """Return the entries of the object or list whose bracket is at a position."""
    found = []
    position = _after_space(text, at + 1)
    while text[position] not in "}]":
        start = value = position
        name = ""
        if text[at] == "{":
            name, position = _decoder.raw_decode(text, start)
            value = _after_space(text, _after_space(text, position) + 1)  # behind the colon
        _, end = _decoder.raw_decode(text, value)
        found.append(Entry(name, start, value, end))
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return found


def member(text: str, at: int, name: str) -> Entry | None:
    """Return the member of an object that has a name; of several the last, which is the one that counts."""
    return next((entry for entry in reversed(entries(text, at)) if entry.name == name), None)


def added(text: str, at: int, value: object, name: str = "") -> str:
    """Return the text with an entry at the end of an object (with its name) or of a list, indented as the rest is."""
    there = entries(text, at)
    close = _after_space(text, there[-1].end if there else at + 1)
    newline = "\r\n" if "\r\n" in text else "\n"
    if there and newline not in text[at:close]:  # all in one line
        return f"{text[: there[-1].end]}, {_written(value, name, None)}{text[there[-1].end :]}"
    outer = _indentation(text, at)
    inner = _indentation(text, there[0].start) if there else outer + _step(text)
    lines = _written(value, name, _step(text)).split("\n")
    entry = newline.join([lines[0], *(inner + line for line in lines[1:])])
    if there:
        return f"{text[: there[-1].end]},{newline}{inner}{entry}{text[there[-1].end :]}"
    return f"{text[: at + 1]}{newline}{inner}{entry}{newline}{outer}{text[close:]}"


def removed(text: str, at: int, entry: Entry) -> str:
    """Return the text without an entry of an object or a list, and without the comma that it had."""
    there = entries(text, at)
    index = there.index(entry)
    if index:
        return text[: there[index - 1].end] + text[entry.end :]
    if len(there) > 1:
        return text[: entry.start] + text[there[1].start :]
    return text[: at + 1] + text[_after_space(text, entry.end) :]


def _written(value: object, name: str, indent: str | None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return f"{json.dumps(name)}: {text}" if name else text


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _indentation(text: str, position: int) -> str:
    """Return the white space at the start of the line that a position is in."""
    start = text.rfind("\n", 0, position) + 1
    return text[start : _after_space(text, start)] if start <= position else ""


def _step(text: str) -> str:
    """Return by how much the first member of the file is indented; two spaces where nothing is."""
    at = text.find("{")
    there = entries(text, at)
    indentation = _indentation(text, there[0].start) if there and "\n" in text[at : there[0].start] else ""
    return indentation or "  "
