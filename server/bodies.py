"""Bodies of requests: read within a time and a size, and decompressed within the same size.

A client may send in chunks without saying how long the body is, so bytes are counted as they come. 97 KB of gzip can be
100 MB: what is decompressed is counted, too, and decompressing stops at the limit.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from eventlog.config.server import Limits
from eventlog.log import zst
from eventlog.server.problems import Problem

T = TypeVar("T")

#: Content-Encoding → a reader of what is in a file. Both read several members as one, and notice one that is cut short.
_READERS: Mapping[str, Callable[[BinaryIO], io.BufferedIOBase]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "x-gzip": lambda file: gzip.GzipFile(fileobj=file),
    "zstd": lambda file: zst.reading(file, "the body"),
}


async def read_body(
    request: Request, *, max_bytes: int, timeout_s: float, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return the body as it was sent. Raises Problem where it is too large, takes too long, or breaks off.

    `take` is told how many bytes came, before they are kept.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large(max_bytes)
    parts, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise too_large(max_bytes)
                take(len(part))
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not arrive within {timeout_s:g} s"
        raise Problem(408, "body_too_slow", detail, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "body_cut_short", "the body broke off") from None
    return b"".join(parts)


async def read_struct(request: Request, kind: type[T], limits: Limits) -> T:
    """Return a small body as a struct; no body is `{}`. Raises Problem: 400 for no JSON, 422 for other fields."""
    body = await read_body(request, max_bytes=limits.control_max_bytes, timeout_s=limits.body_timeout_s)
    data = decompressed(body, request.headers.get("content-encoding", ""), max_bytes=limits.control_max_bytes)
    try:
        return msgspec.json.decode(data.strip() or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_body", f"{error}; `eventlog docs server` has the fields") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ArithmeticError) as error:
        raise Problem(400, "not_json", f"the body is no JSON: {error}") from None


def decompressed(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Return a body without its Content-Encoding. Raises Problem: 413 beyond `max_bytes`, 415 for another encoding."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _READERS:
        detail = "send the body plain, or with Content-Encoding gzip or zstd"
        raise Problem(415, "unknown_encoding", detail, headers={"Accept-Encoding": "gzip, zstd"})
    try:
        with _READERS[name](io.BytesIO(body)) as reader:
            data = reader.read(max_bytes + 1)
    except Exception as error:
        if not (isinstance(error, EOFError | OSError | zlib.error) or zst.is_zstd_error(error)):
            raise
        raise Problem(400, "damaged_body", f"the body is no whole {name}; was it cut short?") from None
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


def too_large(max_bytes: int) -> Problem:
    """Return the answer for a body over the limit."""
    return Problem(413, "too_large", f"the body is over {max_bytes:,} bytes; send it in parts")
