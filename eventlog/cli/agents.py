"""What the coding agents of this machine wrote, imported before a command that asks about it answers.

`eventlog.config.Resolved.wants_agents` decides when. What is read is said once, with how to switch it off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.cli.main import progress_bar, say
from eventlog.cli.text import counted, printable
from eventlog.config import Config, files
from eventlog.errors import EventlogError
from eventlog.importers import sources
from eventlog.importers.engine import Imported, Importer, importing
from eventlog.importers.recognition import Recognition, title
from eventlog.importers.sources import Source
from eventlog.process import root_files

#: In the root: the sources of which it was said that they are read, a name in each line.
_INTRODUCED = "agents.introduced"
_INTRODUCED_MAX_BYTES = 64 * 1024
#: An import of so much takes long enough for a progress bar.
_SHOWN_BYTES = 4 * 1024 * 1024


#: What runs beside an import: of a root, for as long as its `with` block does.
Beside = Callable[[str], AbstractContextManager[None]]


class Agent(NamedTuple):
    """A coding agent that was found on this machine: where it keeps its files, and which there are."""

    source: Source
    folders: list[Path]
    paths: list[Path]


def bring_in(settings: Config, beside: Beside) -> bool:
    """Import what is new of the coding agents of this machine; return whether there was anything.

    Where there is much to import, that runs within `beside`. It says what went wrong, and raises nothing: the question
    is answered all the same.
    """
    try:
        done = _import(settings, list(agents_here()), beside)
    except (EventlogError, OSError) as error:
        say(printable(f"note: what is new of coding agents was not imported: {error}"))
        return False
    if done.failures:
        failed = counted(len(done.failures), "file")
        say(printable(f"note: {failed} of coding agents could not be read to the end, such as {done.failures[0]}"))
    return done.events > 0


def agents_here() -> Iterator[Agent]:
    """Yield the coding agents that have files on this machine."""
    for source in sources.all_sources():
        folders = [folder for folder in source.default_folders() if folder.is_dir()]
        paths = source.find(folders) if folders else []
        if paths:
            yield Agent(source, folders, paths)


def _import(settings: Config, agents: Sequence[Agent], beside: Beside) -> Imported:
    done = Imported()
    with ExitStack() as stack:
        waiting: list[tuple[Importer, Path]] = []
        for agent in agents:
            format_ = agent.source.format(workspace=None, agent=None)
            importer = stack.enter_context(importing(msgspec.structs.replace(settings, strict=True), format_))
            waiting += [(importer, path) for path in _new(importer, agent)]
        if waiting:
            introduce(settings.root, agents)
        sizes = [_size(path) for _, path in waiting]
        total = sum(sizes)
        if total >= _SHOWN_BYTES:
            stack.enter_context(beside(settings.root))
        with progress_bar("importing") as progress:
            for (importer, path), read in zip(waiting, accumulate(sizes), strict=True):
                done.add(importer.run(path))
                if total >= _SHOWN_BYTES:
                    progress(read, total)
    return done


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone; its import says so
        return 0


def _new(importer: Importer, agent: Agent) -> list[Path]:
    """Return the files that have something new, and are not those of another program."""
    recognition = Recognition(agent.source)
    changed = [path for path in agent.paths if not importer.has_all_of(path)]
    return [path for path in changed if recognition.other(path) is None]


def introduce(root: str, agents: Sequence[Agent]) -> None:
    """Say once for each agent that its files are read."""
    with open(root_files.open_lock(Path(root, _INTRODUCED)), "r+b", buffering=0) as file:
        before = file.read(_INTRODUCED_MAX_BYTES).decode(errors="replace").split()
        new = [agent for agent in agents if agent.source.name not in before]
        if not new:
            return
        file.write("".join(f"{agent.source.name}\n" for agent in new).encode())
    lines = [
        f"  {title(agent.source)}: {counted(len(agent.paths), agent.source.noun)} in {_places(agent.folders)}"
        for agent in new
    ]
    user_file = files.user_file(os.environ)
    switch = "EVENTLOG_IMPORT_AGENTS=false" + (f", or import_agents = false in\n{user_file}" if user_file else "")
    say("\n".join(["note: this reads what coding agents wrote on this machine:", *map(printable, lines)]))
    say(f"It is copied to {root}.\nTo switch that off: {switch}")


def _places(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
