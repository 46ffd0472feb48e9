"""`eventlog serve`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from eventlog.cli.main import configured, resolve_root, root_option, tell
from eventlog.errors import ConfigError
from eventlog.server import app as apps
from eventlog.server import serve as serving
from eventlog.server.parts import Parts

F = TypeVar("F", bound=Callable[..., Any])

HOST, PORT = "127.0.0.1", 4318
_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--host", default=HOST, show_default=True, help="The address to listen on."),
    click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: a free one."),
    click.option("--uds", metavar="PATH", type=_FILE, help="Listen on a unix socket, for yourself alone."),
    click.option("--no-tcp", is_flag=True, help="With --uds: listen on no address."),
    click.option("--tls-cert", metavar="FILE", type=_FILE, help="A certificate in PEM, with its chain."),
    click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key."),
    click.option(
        "--behind-proxy", is_flag=True, help="A proxy in front does TLS, and says who asks (X-Forwarded-For)."
    ),
    click.option(
        "--public-url", "public_urls", metavar="URL", multiple=True, help="Another name of it; may be repeated."
    ),
    click.option(
        "--allow-origin", "origins", metavar="ORIGIN", multiple=True, help="A foreign page that may ask (CORS)."
    ),
)
_NAMES = frozenset({"host", "port", "uds", "no_tcp", "tls_cert", "tls_key", "behind_proxy", "public_urls", "origins"})


def listening_options(command: F) -> F:
    """Add the options of `serve` to a command, which gets them for `listening_arguments`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def listening_arguments() -> list[str]:
    """Return the options of `serve` that this command line has, with whole paths, to start `eventlog serve` with."""
    context = click.get_current_context()
    arguments: list[str] = []
    for parameter in context.command.params:
        if parameter.name not in _NAMES:
            continue
        value, option = context.params[parameter.name], parameter.opts[0]
        if isinstance(value, bool):
            arguments += [option] if value else []
            continue
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        arguments += [f"{option}={each.absolute() if isinstance(each, Path) else each}" for each in values]
    return arguments


@click.command()
@listening_options
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
    SIGTERM; nothing is lost with it. See `eventlog docs server`.

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
