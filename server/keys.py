"""API keys: made, listed and revoked as events, and folded from the log by running servers.

    eventlog keys create → api_key_created in the log → KeyRing → whose request is this?

A key that was revoked once stays revoked, so no order of events matters, and no clock. A running server looks at the
two folders every REFRESH_S seconds: `find` is in force with that delay in every server of the root.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import QueryFailed
from eventlog.format.control import Role
from eventlog.format.keys import KEY_CREATED_EVENT, KEY_EVENTS, KEY_REVOKED_EVENT, ApiKeyCreated, ApiKeyRevoked, Scope
from eventlog.format.timestamps import utc
from eventlog.log import layout, reader
from eventlog.record.recorder import Recorder

REFRESH_S = 0.25
_PREFIX = "evk"
_ID_BYTES, _SECRET_BYTES = 4, 32
#: Longer than any key of ours: what is longer is none, and is not hashed.
_KEY_MAX_CHARS = 200


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """One key, as `eventlog keys list --json` shows it. `state` is active, expired or revoked."""

    key_id: str
    state: str
    scopes: list[Scope]
    workspace: str | None
    created: datetime
    expires: datetime | None
    events_per_s: float | None
    bytes_per_s: float | None
    note: str | None


class Key(NamedTuple):
    """What a valid key may do. `workspace` None is all of the root; `expires` is in seconds since the epoch."""

    key_id: str
    workspace: str | None
    scopes: frozenset[Scope]
    events_per_s: float | None = None
    bytes_per_s: float | None = None
    expires: float | None = None


def create(
    root: str | Path,
    *,
    scopes: Collection[Scope],
    workspace: str | None,
    expires: datetime | None = None,
    events_per_s: float | None = None,
    bytes_per_s: float | None = None,
    note: str | None = None,
) -> tuple[str, ApiKeyCreated]:
    """Make a key; return it, and its event. Nobody can read the key anywhere afterwards.

    Raises QueryFailed without scopes, and what `Recorder.emit` raises.
    """
    if not scopes:
        raise QueryFailed("a key needs at least one scope: ingest, read or admin")
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    event = ApiKeyCreated(
        key_id=key_id, sha256=_digest(key), scopes=sorted(set(scopes)), workspace=workspace, expires=expires,
        events_per_s=events_per_s, bytes_per_s=bytes_per_s, note=note,
    )  # fmt: skip
    with _journal(root) as journal:
        journal.emit(event)
    return key, event


def revoke(root: str | Path, key_id: str, *, note: str | None = None) -> KeyState:
    """Revoke a key, by its id or a unique prefix of it; return what it was. One that is revoked stays so.

    Raises QueryFailed where there is no such key, or several.
    """
    state = find(root, key_id)
    if state.state != "revoked":
        with _journal(root) as journal:
            journal.emit(ApiKeyRevoked(key_id=state.key_id, note=note))
    return state


def rotate(root: str | Path, key_id: str) -> tuple[str, ApiKeyCreated]:
    """Make a key like another one, and revoke that one afterwards. Raises QueryFailed as `revoke` does."""
    old = find(root, key_id)
    if old.state == "revoked":
        raise QueryFailed(f"key {old.key_id} is revoked; make a new one: eventlog keys create")
    made = create(
        root, scopes=old.scopes, workspace=old.workspace, expires=old.expires, events_per_s=old.events_per_s,
        bytes_per_s=old.bytes_per_s, note=old.note,
    )  # fmt: skip
    revoke(root, old.key_id, note=f"rotated: {made[1].key_id}")
    return made


def find(root: str | Path, key_id: str) -> KeyState:
    """Return a key by its id, or a unique prefix of it. Raises QueryFailed."""
    found = [state for state in list_keys(root) if state.key_id.startswith(key_id)]
    if len(found) == 1 and key_id:
        return found[0]
    raise QueryFailed(
        f"{'several keys begin with' if len(found) > 1 else 'there is no key'} {key_id!r}; see: eventlog keys list"
    )


def list_keys(root: str | Path) -> list[KeyState]:
    """Return all keys that were ever made, oldest first."""
    now = datetime.now(UTC)
    revoked = _revoked(root)
    states = []
    for created, key in _created(root):
        is_expired = key.expires is not None and utc(key.expires) <= now
        state = "revoked" if key.key_id in revoked else "expired" if is_expired else "active"
        states.append(
            KeyState(
                key_id=key.key_id, state=state, scopes=key.scopes, workspace=key.workspace, created=created,
                expires=key.expires, events_per_s=key.events_per_s, bytes_per_s=key.bytes_per_s, note=key.note,
            )
        )  # fmt: skip
    return sorted(states, key=lambda state: state.created)


class KeyRing:
    """The valid keys of a root, kept up to date. Safe across threads."""

    def __init__(self, root: str | Path) -> None:
        self._root = root
        self._seen: tuple[object, ...] = ()
        self._keys: dict[str, Key] = {}
        self._lock = threading.Lock()
        self.refresh()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: str) -> Key | None:
        """Return what a key may do; None where it is none of ours, was revoked, or has expired."""
        if len(key) > _KEY_MAX_CHARS or not key.startswith(_PREFIX):
            return None
        found = self._keys.get(_digest(key))
        return None if found is None or (found.expires is not None and found.expires <= time.time()) else found

    def is_valid(self, key_id: str) -> bool:
        """Say whether the key of a stream or a browser session, which was valid once, still is."""
        return any(
            key.key_id == key_id and (key.expires is None or key.expires > time.time()) for key in self._keys.values()
        )

    def refresh(self) -> None:
        """Read the log again if one of the two folders has changed. Raises OSError and SegmentUnreadable."""
        with self._lock:
            seen = tuple(
                (segment.name, segment.size) for name in KEY_EVENTS for segment in layout.list_type(self._root, name)
            )
            if seen == self._seen:
                return
            revoked = _revoked(self._root)
            self._keys = {
                key.sha256: Key(
                    key.key_id, key.workspace, frozenset(key.scopes), key.events_per_s, key.bytes_per_s,
                    None if key.expires is None else utc(key.expires).timestamp(),
                )
                for _, key in _created(self._root)
                if key.key_id not in revoked
            }  # fmt: skip
            self._seen = seen


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _created(root: str | Path) -> Iterator[tuple[datetime, ApiKeyCreated]]:
    for event in reader.read_events(root, KEY_CREATED_EVENT):
        try:
            key = msgspec.json.decode(event.envelope.payload, type=ApiKeyCreated)
        except msgspec.MsgspecError:
            continue  # of a later version: a key that is not understood opens nothing
        yield datetime.fromisoformat(event.envelope.timestamp), key


def _revoked(root: str | Path) -> set[str]:
    revoked = set()
    for event in reader.read_events(root, KEY_REVOKED_EVENT):
        key_id = event.envelope.data().get("key_id")
        if isinstance(key_id, str):
            revoked.add(key_id)
    return revoked


@contextmanager
def _journal(root: str | Path) -> Iterator[Recorder]:
    settings = Config(root=str(root), strict=True, redact=False, durability=Durability.SYNCED)
    recorder = Recorder(settings, role=Role.MAINTENANCE)
    try:
        yield recorder
    finally:
        recorder.shutdown()
