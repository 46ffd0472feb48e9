"""`eventlog completion`: lets a shell complete commands and options."""

from __future__ import annotations

import click
from click import shell_completion

from eventlog.cli.main import COMPLETION_VARIABLE, root, tell


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands.

    \b
    Example:
      eval "$(eventlog completion bash)"                  in ~/.bashrc
      eval "$(eventlog completion zsh)"                   in ~/.zshrc
      eventlog completion fish > ~/.config/fish/completions/eventlog.fish
    """
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    tell(found(root, {}, "eventlog", COMPLETION_VARIABLE).source())
