"""`eventlog hooks`: recording what an agent program tells its hooks."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eventlog.cli import claude_settings
from eventlog.cli.claude_settings import EVENTS, Change
from eventlog.cli.main import Group, root_option, say, tell
from eventlog.cli.text import counted
from eventlog.errors import ConfigError

#: There is one so far.
_agent_argument = click.argument(
    "agent", metavar="[claude-code]", default="claude-code", type=click.Choice(["claude-code"]), expose_value=False
)
_project_option = click.option("--project", is_flag=True, help="Of the project in the current folder, not of yourself.")


@click.group(cls=Group)
def hooks() -> None:
    """Record sessions while they run, by hooks of the agent program.

    \b
    Example:
      eventlog hooks install claude-code
    """


@hooks.command()
@_agent_argument
@_project_option
@click.option(
    "--server",
    metavar="URL",
    help="Post to this server, with the key in $EVENTLOG_KEY; nothing stays here.",
)
@root_option
def install(project: bool, server: str | None, root: str | None) -> None:
    """Write the hooks into the settings of the program.

    Each prompt, tool call, notification and end of a session becomes an agent_hook event. The hooks run in the
    background and print nothing. All else in the settings file stays as it is; a copy of the file is made first.

    \b
    Example:
      eventlog hooks install claude-code
      eventlog hooks install claude-code --project
      eventlog hooks install claude-code --server https://log.example
    """
    path = _settings(project)
    if server is None:
        hook = claude_settings.local_hook(root)
    else:
        _check_server(server)
        hook = claude_settings.remote_hook(server)
    change = claude_settings.install_hooks(path, hook)
    if not change.is_changed:
        tell(f"the hooks are in {path} already")
        return
    tell(f"wrote {counted(len(EVENTS), 'hook')} into {path}{_backup(change)}")
    if server is not None:
        variable = claude_settings.KEY_VARIABLE
        tell(f"Claude Code posts to {server}; set ${variable} where it starts: a key with the scope ingest")
        return
    tell("new sessions are recorded; look at them with: eventlog tail agent_hook")
    if project:
        say("note: the hooks name the Python of this machine; keep them out of version control")
    if warning := claude_settings.temporary_installation():
        say(warning)


@hooks.command()
@_agent_argument
@_project_option
def uninstall(project: bool) -> None:
    """Take the hooks out of the settings of the program.

    What is recorded stays.

    \b
    Example:
      eventlog hooks uninstall claude-code
    """
    path = _settings(project)
    change = claude_settings.uninstall_hooks(path)
    tell(f"took the hooks out of {path}" if change.is_changed else f"there are no hooks of eventlog in {path}")


@hooks.command("list")
def list_() -> None:
    """Show which settings have the hooks.

    \b
    Example:
      eventlog hooks list
    """
    for path in dict.fromkeys((_settings(project=False), _settings(project=True))):
        there = claude_settings.hooked_events(path)
        count = counted(len(there), "hook") if there else "no hooks"
        tell(f"claude-code  {count} in {path}")


def _check_server(url: str) -> None:
    """Raise ConfigError where no server of ours answers, or it does not take the key in the environment."""
    from eventlog.client import Client

    key = os.environ.get(claude_settings.KEY_VARIABLE)
    with Client(url, key, timeout_s=5.0) as client:
        try:
            response = client.request("GET", "/livez")
            if response.status != 200 or response.body != {"status": "ok"}:
                raise ConfigError(f"{url} is no eventlog server: it answers {response.status}")
            if key is not None and client.request("POST", "/v1/events", b"").status in (401, 403):
                raise ConfigError(
                    f"{url} does not take the key in ${claude_settings.KEY_VARIABLE}; it needs the scope ingest"
                )
        except OSError as error:
            raise ConfigError(f"{url} does not answer ({error}); start it with: eventlog serve") from None


def _settings(project: bool) -> Path:
    return claude_settings.project_file() if project else claude_settings.user_file()


def _backup(change: Change) -> str:
    return f"; the file as it was: {change.backup}" if change.backup else ""
