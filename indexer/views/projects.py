"""Which project a folder belongs to: itself, or the repository around it where it is a worktree of git.

By marks in its path alone. What is on the disk today says nothing of the day when a session was begun there, and a
worktree is soon deleted. Where a worktree stands elsewhere, nothing in its path says of which repository it is.
"""

from __future__ import annotations

from eventlog.indexer.sql import literal

#: Folders inside of a repository that hold its worktrees: those of Claude Code, of git itself, and of a common habit.
_WORKTREE = r"[/\\](\.(claude|git)[/\\]worktrees|\.worktrees)[/\\][^/\\]+([/\\].*)?$"


def project_of(folder: str) -> str:
    """Return SQL for the project that a folder belongs to."""
    return f"regexp_replace({folder}, {literal(_WORKTREE)}, '')"
