"""The built-in events of API keys: who may ask a server, and for which workspace (docs/server.md).

A key is `evk_<id>_<secret>`. The log holds the sha256 of the whole key, never the key: the secret is 256 random bits,
so there is nothing to guess, and a slow hash would only slow each request down. The workspace that a key stands for is
in the payload, not in the envelope: keys belong to the operator of the root.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from eventlog.format.schemas import built_in

KEY_CREATED_EVENT = "api_key_created"
KEY_REVOKED_EVENT = "api_key_revoked"
KEY_EVENTS = (KEY_CREATED_EVENT, KEY_REVOKED_EVENT)

#: `ingest` appends events, `read` asks, `admin` changes what is for the operator, and may do all.
Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "read", "admin")


@built_in(KEY_CREATED_EVENT)
class ApiKeyCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key was made. `sha256` is that of the key as text, in hex. Without a `workspace` it is for all of the root.

    `events_per_s` and `bytes_per_s` are what it may send on the average; None is the server's own limit.
    """

    key_id: str
    sha256: str
    scopes: list[Scope]
    workspace: str | None = None
    events_per_s: float | None = None
    bytes_per_s: float | None = None
    expires: datetime | None = None
    note: str | None = None


@built_in(KEY_REVOKED_EVENT)
class ApiKeyRevoked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key is worth nothing any more. Its events stay."""

    key_id: str
    note: str | None = None
