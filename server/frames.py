"""What the server and its reader processes say to each other: a length in four bytes, then a struct in MessagePack."""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec

LENGTH = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame, to a process that has just begun. Times are in seconds, sizes in bytes.

    `edition` is another one for each start of a server: tags of answers are not those of an earlier version.
    """

    root: str
    timeout_s: float
    catch_up_s: float
    answer_max_bytes: int
    edition: str
    budgets: dict[str, float | None]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: of which workspace (None: of all), at which endpoint, with which texts or which body.

    `tags` are those of answers that whoever asks has already.
    """

    workspace: str | None
    endpoint: str
    texts: dict[str, list[str]] = {}
    body: bytes = b""
    tags: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back: an answer, or the code and detail of a problem. `is_behind`: the answer lacks newest events."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: dict[str, str] = {}
    code: str = ""
    detail: str = ""
    is_behind: bool = False


def encode(frame: msgspec.Struct) -> bytes:
    """Return a frame with its length."""
    data = msgspec.msgpack.encode(frame)
    return LENGTH.pack(len(data)) + data


def read(file: BinaryIO) -> bytes:
    """Return the next frame of a pipe; nothing at its end."""
    head = file.read(LENGTH.size)
    return file.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
