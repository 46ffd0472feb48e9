"""The styles and scripts of pages, which come from here and from nowhere else."""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.server.problems import not_found

_FOLDER = resources.files("eventlog.server.web") / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    entry.name: entry.read_bytes() for entry in _FOLDER.iterdir() if entry.name[entry.name.rfind(".") :] in _TYPES
}


async def static(request: Request) -> Response:
    """`/static/{name}`: a file, kept by browsers for as long as it is the same."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise not_found()
    data = _FILES[name]
    headers = {"etag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[name[name.rfind(".") :]])


ROUTES = [Route("/static/{name}", static)]
