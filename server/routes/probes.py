"""`/livez` and `/readyz`: for whatever restarts a server, or sends it no requests. They need no key, and say little."""

from __future__ import annotations

import asyncio
import os

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer

#: Less free space than this, in bytes, is nearly a full disk.
_SPACE_MIN_BYTES = 64 * 1024 * 1024


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether events are taken. `reasons` are any of stopping, intake_full, log_suspended, disk_full, no_root."""

    status: str
    reasons: list[str]


async def livez(_: Request) -> Response:
    """Answer that the process lives."""
    return Answer({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Answer 200, or 503 with the reasons for which events would be refused now."""
    reasons = await asyncio.to_thread(_reasons, parts_of(request))
    return Answer(Readiness(status="unready" if reasons else "ok", reasons=reasons), 503 if reasons else 200)


def _reasons(parts: Parts) -> list[str]:
    reasons = []
    if parts.stopping.is_set():
        reasons.append("stopping")
    if parts.intake.is_full:
        reasons.append("intake_full")
    if parts.recorder.suspended_by is not None:
        reasons.append("log_suspended")
    try:
        space = os.statvfs(_nearest(parts.root))
        if space.f_bavail * space.f_frsize < _SPACE_MIN_BYTES:
            reasons.append("disk_full")
    except OSError:
        reasons.append("no_root")
    return reasons


def _nearest(path: os.PathLike[str]) -> str:
    """Return the folder that is there: a root is made by its first event."""
    folder = os.fspath(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


ROUTES = [Route("/livez", livez), Route("/readyz", readyz)]
