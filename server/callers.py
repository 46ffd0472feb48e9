"""Who asks, and what they may do: decided before anything is read or written.

A caller is the key of the `Authorization: Bearer` header, or the browser session of the cookie, or, through the unix
socket, which only the owner can open, the owner. What a session may do comes from the key, or the login link, that
opened it; it ends with that key.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from starlette.requests import HTTPConnection

from eventlog.format.control import Role
from eventlog.format.keys import SCOPES, Scope
from eventlog.server.keys import Key, KeyRing
from eventlog.server.problems import Problem

COOKIE = "eventlog_session"
CSRF_HEADER = "x-csrf-token"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SESSIONS_MAX = 1000
#: A login link is used once, and soon.
LOGIN_S = 3600.0

#: The owner of the root: whoever started the server, and may read and write its files anyway.
OWNER = Key("owner", None, frozenset(SCOPES))


class Caller(NamedTuple):
    """One request's key, and its browser session if it came with a cookie."""

    key: Key
    session: Session | None = None

    @property
    def workspace(self) -> str | None:
        """The workspace whose events this caller sees, and writes; None is all of the root."""
        return self.key.workspace

    @property
    def role(self) -> Role:
        """What this caller may write: control events of operators need the scope admin."""
        return Role.OPERATOR if self.may("admin") else Role.AGENT

    def workspace_for(self, named: str | None) -> str | None:
        """Return the workspace of what a request names: the key's, or for a key of all the root the one that is named.

        Raises Problem (403) where a key with a workspace names another one.
        """
        if self.workspace is None or named in (None, self.workspace):
            return named if self.workspace is None else self.workspace
        raise Problem(403, "foreign_workspace", "this is another workspace than that of the key; leave it out")

    def expect_whole_root(self) -> None:
        """Raise Problem (403) for a key with a workspace."""
        if self.workspace is not None:
            raise Problem(403, "whole_root", "this is about all of the root; a key with a workspace may not do it")

    def may(self, scope: Scope) -> bool:
        """Say whether this caller has a scope; who has admin has all."""
        return scope in self.key.scopes or "admin" in self.key.scopes


class Session(NamedTuple):
    """A browser that has logged in. `expires` is in seconds since the epoch."""

    key: Key
    csrf_token: str
    expires: float


class Callers:
    """Finds the caller of a request. Sessions are kept in memory: after a restart, browsers log in again."""

    def __init__(self, keys: KeyRing, *, session_s: float, now: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self._session_s = session_s
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._logins: dict[str, float] = {}

    def of(self, connection: HTTPConnection, scope: Scope) -> Caller:
        """Return who asks. Raises Problem: 401 for nobody, 403 for somebody without the scope, or a forged form."""
        return _with_scope(self._authenticated(connection), scope)

    def of_key(self, key: str, scope: Scope) -> Caller:
        """Return the caller of a key that did not come in a header. Raises Problem as `of` does."""
        found = self.keys.find(key)
        if found is None:
            raise _unknown("the key is unknown, revoked or expired")
        return _with_scope(Caller(found), scope)

    def find(self, connection: HTTPConnection) -> Caller | None:
        """Return who asks, or None; for pages, which send people to the login."""
        try:
            return self._authenticated(connection)
        except Problem:
            return None

    def _authenticated(self, connection: HTTPConnection, csrf_token: str | None = None) -> Caller:
        given = connection.headers.get("authorization")
        if given is not None:
            scheme, _, key = given.partition(" ")
            found = self.keys.find(key.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                raise _unknown("the key is unknown, revoked or expired")
            return Caller(found)
        cookie = connection.cookies.get(COOKIE)
        if cookie is not None:
            session = self._session(cookie)
            if session is None:
                raise _unknown("the browser session has ended; log in again")
            method = connection.scope.get("method", "GET")
            token = connection.headers.get(CSRF_HEADER) or csrf_token or ""
            if method not in _SAFE_METHODS and not secrets.compare_digest(token.encode(), session.csrf_token.encode()):
                raise Problem(403, "bad_csrf_token", f"send the session's token in {CSRF_HEADER}")
            return Caller(session.key, session)
        if is_local_socket(connection):
            return Caller(OWNER)
        raise _unknown("send a key: Authorization: Bearer evk_…; `eventlog keys create` makes one")

    # -- browsers ----------------------------------------------------------------------

    def login_token(self) -> str:
        """Return a token that opens one session of the owner, within LOGIN_S seconds."""
        token = secrets.token_urlsafe(32)
        self._logins[token] = self._now() + LOGIN_S
        return token

    def log_in(self, token_or_key: str) -> str | None:
        """Open a session for a login token, which is used up, or for a key; return its cookie, or None."""
        expires = self._logins.pop(token_or_key, None)
        if expires is not None and expires > self._now():
            key: Key | None = OWNER
        else:
            key = self.keys.find(token_or_key)
        if key is None:
            return None
        while len(self._sessions) >= _SESSIONS_MAX:
            self._sessions.pop(next(iter(self._sessions)))
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = Session(key, secrets.token_urlsafe(32), self._now() + self._session_s)
        return cookie

    def log_out(self, connection: HTTPConnection, token: str | None) -> None:
        """End the session of a request, whose form, or header, has its token. Raises Problem."""
        self._authenticated(connection, token)
        self._sessions.pop(connection.cookies.get(COOKIE, ""), None)

    def is_still_valid(self, caller: Caller) -> bool:
        """Say whether a caller whose stream is open may still see it: keys are revoked, and sessions end."""
        if caller.session is not None and caller.session.expires <= self._now():
            return False
        return caller.key.key_id == OWNER.key_id or self.keys.is_valid(caller.key.key_id)

    def _session(self, cookie: str) -> Session | None:
        session = self._sessions.get(cookie)
        if session is None or self.is_still_valid(Caller(session.key, session)):
            return session
        self._sessions.pop(cookie, None)
        return None


def _with_scope(caller: Caller, scope: Scope) -> Caller:
    if not caller.may(scope):
        raise Problem(403, "missing_scope", f"this key has no scope {scope}; see: eventlog keys list")
    return caller


def is_local_socket(connection: HTTPConnection) -> bool:
    """Say whether a request came through the unix socket: then its server has a path and no port."""
    server = connection.scope.get("server")
    return server is not None and server[1] is None


def _unknown(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="eventlog"'})
