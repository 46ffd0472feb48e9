"""The settings file of the current folder, which is the project's, and may be a stranger's.

It may name things. Whatever moves, mutes or unmasks counts only while the user trusts the folder with this very
content (eventlog.config.trust). Nothing that stands there stops a program: what cannot be used is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.config import files, trust
from eventlog.config.trust import State
from eventlog.errors import ConfigError

#: What a file may set although nobody looked into it.
NAMES = frozenset({"workspace", "agent"})
#: A name is in every line.
_NAME_MAX_CHARS = 200
_ADVICE = {
    State.UNKNOWN: "look into it, then: eventlog trust",
    State.CHANGED: "it was changed since you trusted it; look into it, then: eventlog trust",
}


class Project(NamedTuple):
    """A project's file: the settings that count, and messages about those that do not."""

    path: Path
    settings: dict[str, Any]
    left_out: list[str]


def read(environ: Mapping[str, str], setting_names: frozenset[str]) -> Project | None:
    """Return what the current folder's file may set; None if there is no file. `setting_names` are all there are.

    Raises nothing for what stands there.
    """
    path = files.project_file()
    if path is None or files.is_out_of_reach(path):
        return None
    try:
        content = files.read(path, files.PROJECT_MAX_BYTES, follow=False)
        if content is None or _is_the_users(path, environ):
            return None
        state = trust.state(environ, path.parent, content.data)
        settings = files.parsed(path, content.data)
    except ConfigError as error:
        return Project(path, {}, [f"{error}; nothing of it counts"])
    if state is State.TRUSTED:
        return Project(path, settings, [])
    advice = f"{_ADVICE[state]} {files.shown(path.parent)}"
    if content.status.st_uid not in (os.geteuid(), 0):
        what = f"{files.shown(path)} belongs to another user (uid {content.status.st_uid}): nothing of it counts"
        return Project(path, {}, [f"{what}; {advice}"])
    refused = sorted(name for name in settings if name in setting_names and name not in NAMES)
    too_long = sorted(name for name in NAMES if _is_too_long(settings.get(name)))
    left_out = [f"{name} in {files.shown(path)} is longer than {_NAME_MAX_CHARS} characters" for name in too_long]
    if refused:
        what = f"{files.shown(path)} comes with the project and may only name things: {', '.join(refused)} left out"
        left_out.insert(0, f"{what}; {advice}")
    taken = {name: value for name, value in settings.items() if name not in (*refused, *too_long)}
    return Project(path, taken, left_out)


def _is_too_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > _NAME_MAX_CHARS


def _is_the_users(path: Path, environ: Mapping[str, str]) -> bool:
    """Say whether the current folder is the one of the user's own file."""
    own = files.user_file(environ)
    return own is not None and os.path.realpath(own) == os.path.realpath(path)
