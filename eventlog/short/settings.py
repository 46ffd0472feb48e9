"""The root, where nothing but the command line, EVENTLOG_DIR or the default decides about it."""

from __future__ import annotations

import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def environment() -> dict[str, str]:
    """Return the environment of this process, as `os.environ` has it."""
    return {
        name.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
        for name, value in os.environ.items()
    }


def plain_root(root_option: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the root of a command: `root_option`, else $EVENTLOG_DIR, else the default.

    None where anything else may have a say, or where the path needs a closer look: a settings file, another
    variable, a relative path. Then eventlog.config decides.
    """
    home, settings = environ.get("HOME", ""), environ.get("XDG_CONFIG_HOME", "")
    own = f"{settings if settings.startswith('/') else f'{home}/.config'}/eventlog/eventlog.toml"
    others = any(name.startswith("EVENTLOG_") for name in environ.keys() - {"EVENTLOG_DIR"})
    if not home.startswith("/") or others or "_EVENTLOG_COMPLETE" in environ:
        return None
    if _may_exist("eventlog.toml") or _may_exist(own):
        return None
    root = root_option if root_option is not None else environ.get("EVENTLOG_DIR")
    if root is None:
        root = f"{environ.get('XDG_STATE_HOME') or f'{home}/.local/state'}/eventlog"
    return root if _is_tidy(root) else None


def _is_tidy(path: str) -> bool:
    """Say whether a path is absolute and has no parts that mean something else than a name."""
    return path.startswith("/") and path.isprintable() and {"", ".", ".."}.isdisjoint(path[1:].split("/"))


def _may_exist(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True
