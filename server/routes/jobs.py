"""Maintenance over HTTP: a backup, a verification, what pruning would delete. See eventlog.server.jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.format import timestamps
from eventlog.server import bodies
from eventlog.server.jobs import Kind
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer, Problem, not_found

_TYPES_MAX = 100
_HEAD = r"^[0-9]{1,18}:[0-9a-fA-F]{64}$"


class BackupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to back up. Where to is a setting. `verify_percent` of the objects there are read again."""

    dry_run: bool = False
    verify_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None


class VerifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to verify: the rows of the index as well; what is missing since an earlier head."""

    index: bool = False
    head: Annotated[str, msgspec.Meta(pattern=_HEAD)] | None = None


class PruneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What pruning would delete; only `dry_run` is possible over HTTP."""

    dry_run: bool
    older_than: Annotated[str, msgspec.Meta(max_length=20)] | None = None
    types: Annotated[list[Annotated[str, msgspec.Meta(max_length=100)]], msgspec.Meta(max_length=_TYPES_MAX)] = []


async def backup(request: Request) -> Response:
    """`POST /v1/backup`: copy what is new to the place that the settings name; answer 202 with the job."""
    parts = _allowed(request)
    body = await bodies.read_struct(request, BackupBody, parts.limits)
    share = [] if body.verify_percent is None else [f"--verify={body.verify_percent:.6f}%"]
    arguments = [*(["--dry-run"] if body.dry_run else []), *share, _destination(parts)]
    return _started(parts, "backup", arguments)


async def verify(request: Request) -> Response:
    """`POST /v1/verify`: compare the log with its seals; answer 202 with the job."""
    parts = _allowed(request)
    body = await bodies.read_struct(request, VerifyBody, parts.limits)
    head = [] if body.head is None else [f"--head={body.head}"]
    return _started(parts, "verify", [*(["--index"] if body.index else []), *head])


async def prune(request: Request) -> Response:
    """`POST /v1/prune`: say what pruning would delete; answer 202 with the job."""
    parts = _allowed(request)
    body = await bodies.read_struct(request, PruneBody, parts.limits)
    if not body.dry_run:
        raise Problem(422, "dry_run_only", "nothing is deleted over HTTP; send dry_run true, or run: eventlog prune")
    if body.older_than is not None and timestamps.age_s(body.older_than) is None:
        raise Problem(422, "invalid_body", "older_than: this is no age; use one like 90s, 15m, 2h, 30d, 4w")
    age = [] if body.older_than is None else [f"--older-than={body.older_than}"]
    return _started(parts, "prune", ["--dry-run", *age, *(f"--type={name}" for name in body.types)])


async def job(request: Request) -> Response:
    """`GET /v1/jobs/{id}`: the state of a job, its progress, and in the end its result."""
    found = _allowed(request).jobs.find(request.path_params["job_id"])
    if found is None:
        raise not_found("there is no such job; only the newest are known, until the server ends")
    return Answer(found)


async def jobs(request: Request) -> Response:
    """`GET /v1/jobs`: the jobs of this server, newest first, without their results."""
    newest = _allowed(request).jobs.newest()
    return Answer({"jobs": [msgspec.structs.replace(each, result=None) for each in newest]})


def _allowed(request: Request) -> Parts:
    """Return the parts of the server, for a caller who may run jobs. Raises Problem for anybody else."""
    parts = parts_of(request)
    parts.callers.of(request, "admin").expect_whole_root()
    return parts


def _destination(parts: Parts) -> str:
    place = parts.limits.backup_to
    if place is None:
        raise Problem(409, "no_destination", "the settings of the server name no place for backups: [server] backup_to")
    if "://" not in place and not os.path.isabs(place):
        raise Problem(409, "no_destination", "[server] backup_to is neither a whole path nor s3://bucket/prefix")
    return place


def _started(parts: Parts, kind: Kind, arguments: Sequence[str]) -> Response:
    started = parts.jobs.start(kind, arguments)
    return Answer(started, 202, {"Location": f"/v1/jobs/{started.job_id}"})


ROUTES = [
    Route("/v1/backup", backup, methods=["POST"]),
    Route("/v1/verify", verify, methods=["POST"]),
    Route("/v1/prune", prune, methods=["POST"]),
    Route("/v1/jobs", jobs),
    Route("/v1/jobs/{job_id}", job),
]
