"""The settings file of Claude Code, with hooks and a status line of ours in it.

All that is not ours stays as it is, to the character. Before something of ours is first written, the file is copied
to `settings.json.before-eventlog`; when the last of ours is taken out, and nothing else was changed, that copy
comes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import eventlog
from eventlog.cli import json_edit
from eventlog.errors import ConfigError
from eventlog.process import root_files

#: When Claude Code runs our hook. Not those whose output it waits for (WorktreeCreate), or that come for each part
#: of an answer; and none that a version of early 2026 does not know, which would refuse the whole file.
EVENTS = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "PostToolUseFailure",
    "Notification", "SubagentStart", "SubagentStop", "PreCompact", "Stop", "SessionEnd",
)  # fmt: skip
_HOOK_TIMEOUT_S = 30
#: Claude Code waits for a hook that it posts.
_POST_TIMEOUT_S = 5
KEY_VARIABLE = "EVENTLOG_KEY"
#: Where a server takes what hooks are told.
HOOK_ADDRESS = "/v1/hooks/claude-code"
_BACKUP_SUFFIX = ".before-eventlog"
_MAX_BYTES = 16 * 1024 * 1024
_BOM = "\ufeff"
#: Parts of the paths of environments that uvx and pipx run make for one call.
_TEMPORARY = ("/uv/archive-v", "/uv/environments-v", "/pipx/.cache/")


class Change(NamedTuple):
    """What was done to a settings file; `backup` is the copy of what it was before, if one was made."""

    path: Path
    is_changed: bool
    backup: Path | None = None


def user_file() -> Path:
    """Return the path of the user's settings file, which may not exist."""
    named = os.environ.get("CLAUDE_CONFIG_DIR", "").split(",")[0].strip()
    return (Path(named).expanduser() if named else Path.home() / ".claude") / "settings.json"


def project_file() -> Path:
    """Return the path of the settings file of the project in the current folder, which may not exist."""
    return Path.cwd() / ".claude" / "settings.json"


def temporary_installation() -> str | None:
    """Return a warning where this installation will go away, and with it what a command line names."""
    if not any(part in sys.executable for part in _TEMPORARY):
        return None
    return (
        f"warning: {sys.executable} is a temporary installation, as uvx makes it; when it is cleaned away, this ends. "
        "Install it for good (uv tool install 'agent-eventlog[index]'), and do this again"
    )


def command(name: str, root: str | None) -> str:
    """Return the command line that does `eventlog NAME` without loading more than it must."""
    program = str(Path(eventlog.__file__).with_name("__main__.py"))
    option = [] if root is None else ["--root", os.path.abspath(root)]
    return shlex.join([sys.executable, "-I", "-S", program, name, *option])


def local_hook(root: str | None) -> dict[str, object]:
    """Return the hook that writes to the log of this machine, in the background."""
    return {"type": "command", "command": command("hook", root), "async": True, "timeout": _HOOK_TIMEOUT_S}


def remote_hook(url: str) -> dict[str, object]:
    """Return the hook that posts to a server, with the key that the environment of Claude Code has."""
    headers = {"Authorization": f"Bearer ${KEY_VARIABLE}"}
    return {
        "type": "http", "url": url.rstrip("/") + HOOK_ADDRESS, "headers": headers,
        "allowedEnvVars": [KEY_VARIABLE], "timeout": _POST_TIMEOUT_S,
    }  # fmt: skip


def install_hooks(path: Path, hook: dict[str, object]) -> Change:
    """Write a hook for each of EVENTS. Raises ConfigError, OSError."""

    def edit(text: str) -> str:
        for event in EVENTS:
            if hook in _hooks_of(text, event):
                continue
            text = _without_hooks(text, event)  # of another installation
            hooks = json_edit.member(text, _top(text), "hooks")
            if hooks is None:
                text = json_edit.added(text, _top(text), {}, "hooks")
                hooks = json_edit.member(text, _top(text), "hooks")
            assert hooks is not None
            groups = json_edit.member(text, hooks.value, event)
            if groups is None:
                text = json_edit.added(text, hooks.value, [{"hooks": [hook]}], event)
            else:
                text = json_edit.added(text, groups.value, {"hooks": [hook]})
        return text

    return _install(path, edit)


def uninstall_hooks(path: Path) -> Change:
    """Take out all hooks of ours. Raises ConfigError, OSError."""
    return _uninstall(path, _without_all_hooks)


def hooked_events(path: Path) -> list[str]:
    """Return the events that have a hook of ours, in the order of the file. Raises ConfigError."""
    text = _read(path)
    return [] if text is None else [event for event in _hook_events(text) if _hooks_of(text, event)]


def install_status_line(path: Path, root: str | None) -> Change:
    """Write our status line. Raises ConfigError where there is another one, and OSError."""

    def edit(text: str) -> str:
        text = _without_status_line(text)
        other = json_edit.member(text, _top(text), "statusLine")
        if other is not None:
            raise ConfigError(
                f"{path} has another status line: {text[other.value : other.end]}; "
                "remove it first, or call `eventlog statusline` from it"
            )
        return json_edit.added(text, _top(text), {"type": "command", "command": ours}, "statusLine")

    ours = command("statusline", root)
    return _install(path, lambda text: text if _status_line_command(text) == ours else edit(text))


def uninstall_status_line(path: Path) -> Change:
    """Take out our status line; another one stays. Raises ConfigError, OSError."""
    return _uninstall(path, _without_status_line)


# -- what is ours ----------------------------------------------------------------------------


def _is_ours(value: object, name: str) -> bool:
    """Say whether a command line is `command(name)`, of whatever installation."""
    try:
        words = shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        return False
    return any(program.endswith("eventlog/__main__.py") and word == name for program, word in pairwise(words))


def _top(text: str) -> int:
    return text.index("{")


def _hook_events(text: str) -> list[str]:
    hooks = json_edit.member(text, _top(text), "hooks")
    return [] if hooks is None else [entry.name for entry in json_edit.entries(text, hooks.value)]


def _our_hooks(text: str, event: str) -> Iterator[tuple[int, json_edit.Entry, int, json_edit.Entry]]:
    """Yield each hook of ours: the list of groups and its group, the group's list of hooks and the hook in it."""
    hooks = json_edit.member(text, _top(text), "hooks")
    groups = None if hooks is None else json_edit.member(text, hooks.value, event)
    for group in [] if groups is None else json_edit.entries(text, groups.value):
        inner = json_edit.member(text, group.value, "hooks") if text[group.value] == "{" else None
        if groups is None or inner is None or text[inner.value] != "[":
            continue
        for hook in json_edit.entries(text, inner.value):
            url = _member_of(text, hook, "url")
            is_posted = isinstance(url, str) and url.endswith(HOOK_ADDRESS)
            if is_posted or _is_ours(_member_of(text, hook, "command"), "hook"):
                yield groups.value, group, inner.value, hook


def _hooks_of(text: str, event: str) -> list[object]:
    return [json.loads(text[hook.value : hook.end]) for *_, hook in _our_hooks(text, event)]


def _member_of(text: str, entry: json_edit.Entry, name: str) -> object:
    value = json.loads(text[entry.value : entry.end])
    return value.get(name) if isinstance(value, dict) else None


def _without_hooks(text: str, event: str) -> str:
    """Return the settings without our hooks for an event, and without the groups that these leave empty."""
    while (ours := next(_our_hooks(text, event), None)) is not None:
        groups, group, inner, hook = ours
        is_alone = len(json_edit.entries(text, inner)) == 1
        text = json_edit.removed(text, groups, group) if is_alone else json_edit.removed(text, inner, hook)
    return text


def _without_all_hooks(text: str) -> str:
    for event in _hook_events(text):
        if not _hooks_of(text, event):
            continue
        text = _without_hooks(text, event)
        hooks = json_edit.member(text, _top(text), "hooks")
        assert hooks is not None
        groups = json_edit.member(text, hooks.value, event)
        if groups is not None and not json_edit.entries(text, groups.value):
            text = json_edit.removed(text, hooks.value, groups)
            hooks = json_edit.member(text, _top(text), "hooks")
        if hooks is not None and not json_edit.entries(text, hooks.value):
            text = json_edit.removed(text, _top(text), hooks)
    return text


def _status_line_command(text: str) -> object:
    entry = json_edit.member(text, _top(text), "statusLine")
    return None if entry is None else _member_of(text, entry, "command")


def _without_status_line(text: str) -> str:
    entry = json_edit.member(text, _top(text), "statusLine")
    is_ours = entry is not None and _is_ours(_status_line_command(text), "statusline")
    return json_edit.removed(text, _top(text), entry) if is_ours and entry is not None else text


def _has_ours(text: str) -> bool:
    return _without_status_line(_without_all_hooks(text)) != text


# -- the file --------------------------------------------------------------------------------


def _install(path: Path, edit: Callable[[str], str]) -> Change:
    before = _read(path)
    text = edit("{}\n" if before is None else before)
    if text == before:
        return Change(path, is_changed=False)
    backup = None
    if before is not None and not _has_ours(before):
        backup = _backup_of(path)
        root_files.replace_file(backup, before.encode(), mode=_mode(path))
    _write(path, text, before)
    return Change(path, is_changed=True, backup=backup)


def _uninstall(path: Path, edit: Callable[[str], str]) -> Change:
    before = _read(path)
    text = None if before is None else edit(before)
    if text is None or before is None or text == before:
        return Change(path, is_changed=False)
    backup = _backup_of(path)
    original = None if _has_ours(text) else _read(backup)
    if original is not None and _meaning(original) == _meaning(text):
        text = original
    if original is None and not _has_ours(text) and _parsed(text) == {}:
        os.unlink(path.resolve())  # there was none before
    else:
        _write(path, text, before)
    if text == original:
        with contextlib.suppress(OSError):
            backup.unlink()
    return Change(path, is_changed=True)


def _meaning(text: str) -> object:
    """Return the settings without empty hooks, which mean nothing."""
    settings = _parsed(text)
    if isinstance(settings.get("hooks"), dict):
        settings["hooks"] = {event: groups for event, groups in settings["hooks"].items() if groups}
    return {name: value for name, value in settings.items() if name != "hooks" or value}


def _backup_of(path: Path) -> Path:
    return path.with_name(path.name + _BACKUP_SUFFIX)


def _read(path: Path) -> str | None:
    """Return the text of a settings file; None if there is none. Raises ConfigError for one that cannot be edited."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path} is not a file")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = data.decode()
        settings = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}; nothing was changed. Mend it, and try again") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} is not an object of JSON; nothing was changed. Mend it, and try again")
    hooks = settings.get("hooks", {})
    if not isinstance(hooks, dict) or not all(isinstance(groups, list) for groups in hooks.values()):
        raise ConfigError(
            f"{path}: `hooks` is not an object of lists, as in Claude Code; nothing was changed. Mend it, and try again"
        )
    return text


def _parsed(text: str) -> Any:
    return json.loads(text.removeprefix(_BOM), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return 0o600


def _write(path: Path, text: str, before: str | None) -> None:
    """Replace the file, unless it has changed meanwhile. A link to it stays one. Raises ConfigError, OSError."""
    assert isinstance(_parsed(text), dict)
    if _read(path) != before:
        raise ConfigError(f"{path} was changed by another program just now; try again")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_files.replace_file(path.resolve(), text.encode(), mode=_mode(path))
