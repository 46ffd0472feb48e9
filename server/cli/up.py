"""`eventlog up` and `eventlog service`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from eventlog.cli.agents import agents_here, introduce
from eventlog.cli.main import EXIT_FAILED, Group, is_dumb, resolve_root, resolved, root_option, say, tell
from eventlog.cli.text import printable
from eventlog.config import Mode
from eventlog.errors import ConfigError
from eventlog.process import root_files
from eventlog.server import board, systemd
from eventlog.server import up as ups
from eventlog.server.board import Board
from eventlog.server.cli.serve import listening_arguments, listening_options
from eventlog.server.supervisor import Child, Supervisor

_NO_IMPORT = click.option("--no-import", is_flag=True, help="Do not import what coding agents write here.")
_VERIFY_S = 30


@click.command()
@listening_options
@_NO_IMPORT
@click.option("--detach", is_flag=True, help="Run in the background, and print its pid and its log file.")
@click.option("--log-file", metavar="FILE", type=click.Path(path_type=Path), help="Write there, not to the terminal.")
@click.option("--stop", "stopping", is_flag=True, help="End the one that runs on this root.")
@root_option
def up(
    no_import: bool,
    detach: bool,
    log_file: Path | None,
    stopping: bool,
    root: str | None,
    **_: Any,
) -> int:
    """Run all that this machine needs, until Ctrl-C.

    The index is kept up to date, alerts are checked, sessions of the coding agents here are imported, and the server
    serves: each in a process of its own, which is started again when it ends. Prints what they print, and a status
    line for each. The options are those of `eventlog serve`. See `eventlog docs server`.

    \b
    Example:
      eventlog up
      eventlog up --detach && eventlog up --stop
    """
    folder = Path(resolve_root(root))
    if stopping:
        pid = ups.stop(folder)
        tell(f"stopped pid {pid}" if pid is not None else f"no `eventlog up` runs on {folder}")
        return 0 if pid is not None else EXIT_FAILED
    options = listening_arguments()
    if detach:
        return _detach(folder, options, no_import=no_import, log=(log_file or folder / ups.LOG_NAME).absolute())
    with ups.hold_lock(folder):
        _run(folder, options, imports=not no_import and _wants_agents(root), log_file=log_file)
    return 0


def _wants_agents(root: str | None) -> bool:
    """Say whether to import from coding agents: unless a setting says no. What they are is said once for a root."""
    settings = resolved(root).config
    if settings.import_agents is False or settings.mode is Mode.OFF:
        return False
    introduce(settings.root, list(agents_here()))
    return True


def _run(folder: Path, options: Sequence[str], *, imports: bool, log_file: Path | None) -> None:
    shown: Board
    if log_file is not None:
        shown = board.Plain(board.LogFile(log_file).write)
    elif sys.stdout.isatty() and not is_dumb():
        shown = board.Terminal(sys.stdout, lambda: supervisor.children)
    else:
        shown = board.Plain(board.flushed(sys.stdout))

    def on_change(child: Child) -> None:
        shown.print_change(child)
        systemd.notify(f"STATUS={printable(ups.status_of(supervisor.children))}")

    supervisor = Supervisor(
        ups.parts_of(str(folder), serve_options=options, imports=imports),
        on_line=shown.print_line,
        on_change=on_change,
        on_ready=lambda: systemd.notify("READY=1"),
    )
    if log_file is None:
        say(f"supervising {folder} with pid {os.getpid()}; stop with Ctrl-C")
    supervisor.run()


def _detach(folder: Path, options: Sequence[str], *, no_import: bool, log: Path) -> int:
    with ups.hold_lock(folder):  # raises where one runs; the one in the background takes it then
        before = log.stat().st_size if log.exists() else 0
    arguments = ["up", *options, *(["--no-import"] if no_import else []), f"--log-file={log}", f"--root={folder}"]
    pid, is_ready = ups.start_in_background(arguments, log)
    with open(log, "rb") as file:
        file.seek(before)
        tell(file.read(board.LOG_MAX_BYTES).decode("utf-8", "replace").rstrip())
    tell(f"pid {pid}, log file {log}; stop it with: eventlog up --stop --root {shlex.quote(str(folder))}")
    if not is_ready:
        say(f"warning: not all parts work after {ups.START_S:g} s; it goes on trying, see {log}")
        return EXIT_FAILED
    return 0


# -- service ---------------------------------------------------------------------------------


@click.group(cls=Group)
def service() -> None:
    """Have systemd run `eventlog up`.

    \b
    Example:
      eventlog service install
    """


@service.command()
@listening_options
@_NO_IMPORT
@click.option("--name", default="eventlog", show_default=True, help="The name of the unit, for several roots.")
@root_option
def install(no_import: bool, name: str, root: str | None, **_: Any) -> int:
    """Write a systemd user unit for `eventlog up`.

    The options are those of `eventlog serve`. Nothing is started; what to do next is printed.

    \b
    Example:
      eventlog service install --port 4318
    """
    if not systemd.NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: use letters, digits, and _.- in between")
    folder = Path(resolve_root(root)).absolute()
    arguments = ["up", *listening_arguments(), *(["--no-import"] if no_import else []), f"--root={folder}"]
    command = [os.path.abspath(sys.executable), "-P", "-m", "eventlog", *arguments]
    variables = {"EVENTLOG_CONFIG": os.path.abspath(os.environ["EVENTLOG_CONFIG"])} if _has_file() else {}
    text = systemd.unit(command, description=f"eventlog up on {folder}", environment=variables)
    path = systemd.user_folder(os.environ) / f"{name}.service"
    _check_ours(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    root_files.replace_file(path, text.encode(), mode=0o644)
    tell(f"written: {path}")
    problem = _problem(path)
    if problem is not None:
        say(printable(f"warning: systemd does not accept it: {problem}"))
        return EXIT_FAILED
    tell(
        f"next: systemctl --user daemon-reload && systemctl --user enable --now {name}\n"
        f"its output: journalctl --user -u {name}\n"
        "to run it when you are not logged in: loginctl enable-linger"
    )
    return 0


def _has_file() -> bool:
    return bool(os.environ.get("EVENTLOG_CONFIG"))


def _check_ours(path: Path) -> None:
    """Raise ConfigError for a file of that name that somebody else has written."""
    try:
        is_ours = path.read_bytes().startswith(systemd.MARK.encode())
    except FileNotFoundError:
        return
    if not is_ours:
        raise ConfigError(f"{path} is not from `eventlog service install`; move it away, or give another --name")


def _problem(path: Path) -> str | None:
    """Return what `systemd-analyze verify` says against a unit; None if it is fine, or where there is no systemd."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="eventlog-") as folder:
        environment = {"XDG_RUNTIME_DIR": folder, **os.environ}  # a user who is not logged in has none
        try:
            done = subprocess.run(
                [program, "--user", "verify", str(path)],
                env=environment, capture_output=True, text=True, timeout=_VERIFY_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    # What it only ignores, such as a wrong type, is no error for its exit code.
    is_fine = done.returncode == 0 and path.name not in done.stderr
    return None if is_fine else done.stderr.strip() or f"exit code {done.returncode}"
