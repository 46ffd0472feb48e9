"""`eventlog serve` and `eventlog keys`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from eventlog.cli.main import Group, configured, resolve_root, root_option, say, tell, tell_json
from eventlog.cli.text import printable
from eventlog.errors import ConfigError
from eventlog.format import timestamps
from eventlog.format.keys import SCOPES, Scope
from eventlog.server import app as apps
from eventlog.server import keys as api_keys
from eventlog.server import serve as serving
from eventlog.server.parts import Parts

HOST, PORT = "127.0.0.1", 4318
_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option(
    "--uds", metavar="PATH", type=click.Path(path_type=Path), help="Listen on a unix socket, for yourself alone."
)
@click.option("--no-tcp", is_flag=True, help="With --uds: listen on no address.")
@click.option(
    "--tls-cert", metavar="FILE", type=click.Path(path_type=Path), help="A certificate in PEM, with its chain."
)
@click.option("--tls-key", metavar="FILE", type=click.Path(path_type=Path), help="Its key.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front does TLS, and says who asks (X-Forwarded-For).")
@click.option("--public-url", "public_urls", metavar="URL", multiple=True, help="Another name of it; may be repeated.")
@click.option("--allow-origin", "origins", metavar="ORIGIN", multiple=True, help="A foreign page that may ask (CORS).")
@root_option
def serve(
    host: str,
    port: int,
    uds: Path | None,
    no_tcp: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    public_urls: tuple[str, ...],
    origins: tuple[str, ...],
    root: str | None,
) -> None:
    """Serve this root over HTTP.

    It takes events, streams what is recorded, and answers questions. Prints its address, then a link that logs a
    browser in once. Every request needs a key (eventlog keys create), except through --uds. Ends with Ctrl-C or
    SIGTERM; nothing is lost with it. See docs/server.md.

    \b
    Example:
      eventlog serve
      eventlog serve --port 0 --root /tmp/demo
    """
    config = configured(resolve_root(root))
    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert and --tls-key go together")
    if no_tcp and uds is None:
        raise ConfigError("--no-tcp needs --uds PATH: else there is nothing to listen on")
    tls = (tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    sockets = [] if no_tcp else serving.listen(host, port)
    try:
        parts = Parts(config)
        if serving.is_public(sockets):
            _check_public(parts, tls is not None or behind_proxy, host)
        if uds is not None:
            sockets.append(serving.listen_locally(uds))
        names = [host, *(_name_of(url) for url in public_urls)]
        app = apps.create(parts, names=names, origins=origins)
        _log_to_stderr()

        def on_listening() -> None:
            url = serving.url_of(sockets, tls=tls is not None)
            tell(url if url is not None else str(uds))
            if url is not None:
                tell(f"log in: {(public_urls or (url,))[0].rstrip('/')}/login#token={parts.callers.login_token()}")

        serving.run(app, parts, sockets, on_listening=on_listening, tls=tls, behind_proxy=behind_proxy)
    finally:
        for opened in sockets:
            opened.close()
        if uds is not None:
            uds.unlink(missing_ok=True)


def _check_public(parts: Parts, is_encrypted: bool, host: str) -> None:
    """Raise ConfigError where others could connect, and there is nothing between them and the log."""
    if not is_encrypted:
        raise ConfigError(
            f"--host {host}: other machines can connect there, and keys would cross the network as they are; give "
            "--tls-cert and --tls-key, or --behind-proxy where a proxy does TLS, or listen on 127.0.0.1"
        )
    if not len(parts.keys):
        raise ConfigError(f"--host {host}: other machines can connect there; make a key first: eventlog keys create")


def _name_of(url: str) -> str:
    from urllib.parse import urlsplit

    name = urlsplit(url).hostname
    if name is None or urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"--public-url {url}: this is no address such as https://eventlog.example")
    return name


def _log_to_stderr() -> None:
    """Say on standard error what goes wrong. No line of it has a key: addresses and headers are not logged."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for name in ("eventlog", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False


# -- keys ------------------------------------------------------------------------------------


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
