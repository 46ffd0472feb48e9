"""The JSON object that another program writes to standard input: without waiting for ever, whatever it does."""

from __future__ import annotations

import posix as os
import select
import time

from eventlog.short import json_object

_BLOCK_BYTES = 1024 * 1024
_MAX_BYTES = 16 * 1024 * 1024


def read_object(wait_s: float) -> tuple[str, dict[str, object]] | None:
    """Return the object's text and its members; None where standard input holds none within `wait_s` seconds.

    It does not wait for the end of the input: a program may keep it open. A terminal is not waited for at all.
    """
    data = bytearray()
    give_up_s = time.monotonic() + wait_s
    try:
        is_over = os.isatty(0)
        while not is_over and len(data) <= _MAX_BYTES:
            if not select.select([0], [], [], 0)[0]:
                if (complete := _object(data)) is not None:
                    return complete
                if not select.select([0], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
                    break
            block = os.read(0, _BLOCK_BYTES)
            data += block
            is_over = not block
    except (OSError, ValueError):  # standard input is closed
        pass
    return _object(data)


def _object(data: bytearray) -> tuple[str, dict[str, object]] | None:
    text = data.decode(errors="replace").removeprefix("\ufeff").strip()
    members = json_object.parsed(text)
    return None if members is None else (text, members)
