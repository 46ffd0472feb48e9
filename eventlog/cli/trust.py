"""`eventlog trust`: which projects' settings files may set everything."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eventlog import config
from eventlog.cli.main import say, tell
from eventlog.config import files
from eventlog.config import trust as trusting
from eventlog.errors import ConfigError


@click.command()
@click.argument("folder", metavar="[FOLDER]", default=".", type=click.Path(path_type=Path))
@click.option("--list", "listing", is_flag=True, help="List the trusted folders.")
@click.option("--remove", "removing", is_flag=True, help="Trust the folder no longer.")
def trust(folder: Path, listing: bool, removing: bool) -> None:
    """Let a project's eventlog.toml set everything.

    Until then it may only name things (workspace, agent). Look into the file first: it can switch
    recording off, move the log, or leave secrets in it. When the file changes, the folder has to be
    trusted again. FOLDER is the current folder, if not given.

    \b
    Example:
      eventlog trust
      eventlog trust --list
      eventlog trust --remove ~/code/shop
    """
    if listing and removing:
        raise click.UsageError("give either --list or --remove")
    if listing:
        _list()
    elif removing:
        _remove(folder)
    else:
        _add(folder)


def _add(folder: Path) -> None:
    path = Path(os.path.realpath(folder)) / files.NAME
    content = files.read(path, files.PROJECT_MAX_BYTES, follow=False)
    if content is None:
        raise ConfigError(f"there is no {path}; name the folder of a project that has one")
    settings = files.parsed(path, content.data)
    if mistakes := config.mistakes(path, settings):
        raise ConfigError(mistakes[0])
    trusting.add(os.environ, path.parent, content.data)
    tell(f"trusted {path}, as it is now; it sets:")
    for name, value in settings.items():
        tell(f"  {name} = {value!r}")


def _remove(folder: Path) -> None:
    if not trusting.remove(os.environ, folder):
        raise ConfigError(f"{os.path.realpath(folder)} is not trusted; try: eventlog trust --list")
    tell(f"{os.path.realpath(folder)} is trusted no longer")


def _list() -> None:
    folders = trusting.folders(os.environ)
    for folder, entry in folders.items():
        tell(f"{_state(Path(folder)):7}  since {entry.since}  {folder}")
    if not folders:
        say("no folder is trusted")


def _state(folder: Path) -> str:
    """Return `trusted`, `changed`, or, where there is no such file any more, `gone`."""
    try:
        content = files.read(folder / files.NAME, files.PROJECT_MAX_BYTES, follow=False)
        return "gone" if content is None else trusting.state(os.environ, folder, content.data).value
    except ConfigError:
        return "changed"
