"""`eventlog statusline`: one line for the foot of Claude Code, which eventlog.short.statusline prints."""

from __future__ import annotations

import click

from eventlog.cli import claude_settings
from eventlog.cli.main import Group, resolve_root, root_option, say, tell
from eventlog.errors import EventlogError
from eventlog.short import statusline as short

_project_option = click.option("--project", is_flag=True, help="Of the project in the current folder, not of yourself.")


@click.group(cls=Group, invoke_without_command=True)
@root_option
@click.pass_context
def statusline(context: click.Context, root: str | None) -> None:
    """Print one line about a session, for the foot of Claude Code.

    Claude Code gives it the session as JSON on standard input. The line has the model, how full its context is, what
    this session cost and what today cost, and the share of the 5-hour limit. The exit code is always 0.

    \b
    Example:
      eventlog statusline install
    """
    if context.invoked_subcommand is not None:
        return
    try:
        folder = resolve_root(root)
    except EventlogError:  # a mistake in the settings; the session itself can be shown all the same
        folder = None
    short.show(folder, [] if root is None else ["--root", root])


@statusline.command()
@_project_option
@root_option
def install(project: bool, root: str | None) -> None:
    """Write the status line into the settings of Claude Code.

    All else in the settings file stays as it is; a copy of the file is made first. Another status line is not replaced.

    \b
    Example:
      eventlog statusline install
    """
    path = claude_settings.project_file() if project else claude_settings.user_file()
    change = claude_settings.install_status_line(path, root)
    if not change.is_changed:
        tell(f"the status line is in {path} already")
        return
    tell(f"wrote the status line into {path}" + (f"; the file as it was: {change.backup}" if change.backup else ""))
    tell("what today cost is in it from your next `eventlog cost` on")
    if warning := claude_settings.temporary_installation():
        say(warning)


@statusline.command()
@_project_option
def uninstall(project: bool) -> None:
    """Take the status line out of the settings of Claude Code.

    \b
    Example:
      eventlog statusline uninstall
    """
    path = claude_settings.project_file() if project else claude_settings.user_file()
    change = claude_settings.uninstall_status_line(path)
    tell(
        f"took the status line out of {path}" if change.is_changed else f"there is no status line of eventlog in {path}"
    )
