"""Which project a folder belongs to."""

from __future__ import annotations

import duckdb
import pytest

from eventlog.indexer.views.projects import project_of


@pytest.mark.parametrize(("folder", "project"), [
    ("/home/ada/engine", "/home/ada/engine"),
    ("/home/ada/engine/src", "/home/ada/engine/src"),
    ("/home/ada/engine/.claude/worktrees/faster", "/home/ada/engine"),
    ("/home/ada/engine/.claude/worktrees/faster/src/deep", "/home/ada/engine"),
    ("/home/ada/engine/.claude/worktrees/faster/.claude/worktrees/more", "/home/ada/engine"),
    ("/home/ada/engine/.worktrees/faster/src", "/home/ada/engine"),
    ("/home/ada/engine/.git/worktrees/faster", "/home/ada/engine"),
    (r"C:\Users\ada\engine\.claude\worktrees\faster", r"C:\Users\ada\engine"),
    ("/home/ada/engine/.claude/worktrees", "/home/ada/engine/.claude/worktrees"),
    ("/home/ada/worktrees/faster", "/home/ada/worktrees/faster"),
    ("/home/ada/my.claude/worktrees/x", "/home/ada/my.claude/worktrees/x"),
    (None, None),
])  # fmt: skip
def test_a_worktree_belongs_to_the_repository_around_it(folder: str | None, project: str | None) -> None:
    """By marks in the path: of a worktree elsewhere it says nothing."""
    assert duckdb.execute(f"SELECT {project_of('?::VARCHAR')}", [folder]).fetchone() == (project,)
