"""`eventlog keys`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from eventlog.cli.main import Group, resolve_root, root_option, say, tell, tell_json
from eventlog.cli.text import printable
from eventlog.errors import ConfigError
from eventlog.format import timestamps
from eventlog.format.keys import SCOPES, Scope
from eventlog.server import keys as api_keys


@click.group(cls=Group)
def keys() -> None:
    """Make and revoke the API keys of the server.

    \b
    Example:
      eventlog keys create --workspace team --scopes ingest,read
    """


class _Scopes(click.ParamType[tuple[Scope, ...]]):
    """`ingest,read`: scopes, with commas between them."""

    name = "scopes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Scope, ...]:
        if isinstance(value, tuple):
            return value
        given = [name.strip() for name in str(value).split(",") if name.strip()]
        found = tuple(scope for scope in SCOPES if scope in given)
        if len(found) != len(set(given)) or not found:
            self.fail(f"{value!r}: use any of {', '.join(SCOPES)}, with commas between them", param, ctx)
        return found


@keys.command()
@click.option("--workspace", metavar="W", help="What it reads and writes is of this workspace; without it, of all.")
@click.option("--scopes", type=_Scopes(), default="ingest,read", show_default=True, help="ingest, read, admin.")
@click.option("--expires", metavar="AGE", help="It ends after this time, such as 90d.")
@click.option("--events-per-s", type=click.FloatRange(0, min_open=True), help="What it may send on the average.")
@click.option("--bytes-per-s", type=click.FloatRange(0, min_open=True), help="What it may send on the average.")
@click.option("--note", help="What it is for.")
@root_option
def create(
    workspace: str | None,
    scopes: tuple[Scope, ...],
    expires: str | None,
    events_per_s: float | None,
    bytes_per_s: float | None,
    note: str | None,
    root: str | None,
) -> None:
    """Make a key, and print it: this is the only time that anybody sees it.

    The key alone is the last line. The log holds its sha256. Running servers know it within a second.

    \b
    Example:
      KEY=$(eventlog keys create --workspace team --scopes ingest | tail -n 1)
    """
    until = None
    if expires is not None:
        seconds = timestamps.age_s(expires)
        if seconds is None:
            raise ConfigError(f"--expires {expires!r} is not a length of time; use 24h, 90d, 52w")
        until = datetime.now(UTC) + timedelta(seconds=seconds)
    key, event = api_keys.create(
        resolve_root(root), scopes=scopes, workspace=workspace, expires=until, events_per_s=events_per_s,
        bytes_per_s=bytes_per_s, note=note,
    )  # fmt: skip
    _tell_key(key, event.key_id, event.workspace)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@root_option
def list_(as_json: bool, root: str | None) -> None:
    """List all keys that were ever made, without their secrets.

    \b
    Example:
      eventlog keys list
    """
    states = api_keys.list_keys(resolve_root(root))
    if as_json:
        tell_json(states)
        return
    if not states:
        tell("no keys yet; make one: eventlog keys create --workspace W --scopes ingest,read")
    for state in states:
        workspace = "all workspaces" if state.workspace is None else f"workspace {printable(state.workspace)}"
        until = f", until {state.expires:%Y-%m-%d %H:%M} UTC" if state.expires else ""
        note = f"  {printable(state.note)}" if state.note else ""
        tell(f"{state.key_id}  {state.state:<7}  {','.join(state.scopes)}  {workspace}{until}{note}")


@keys.command()
@click.argument("key_id")
@root_option
def revoke(key_id: str, root: str | None) -> None:
    """Revoke a key, by its id or the first characters of it.

    \b
    Example:
      eventlog keys revoke 1f0c
    """
    state = api_keys.revoke(resolve_root(root), key_id)
    tell(f"{state.key_id} was revoked before" if state.state == "revoked" else f"revoked {state.key_id}")


@keys.command()
@click.argument("key_id")
@root_option
def rotate(key_id: str, root: str | None) -> None:
    """Make a key like another one, print it, and revoke the other one.

    \b
    Example:
      eventlog keys rotate 1f0c
    """
    key, event = api_keys.rotate(resolve_root(root), key_id)
    _tell_key(key, event.key_id, event.workspace)


def _tell_key(key: str, key_id: str, workspace: str | None) -> None:
    scope = "all workspaces" if workspace is None else f"workspace {printable(workspace)}"
    say(f"key {key_id} for {scope}; nobody can show it again:")
    tell(key)
