"""Sources: the programs whose files `eventlog import` reads, each declared in one place.

    files ──find──→ records ──format──→ envelopes ──→ log        the writing half: a `Source`, declared here
    rows of its event types ──selects──→ llm_calls, sessions, …  the reading half: `Source.views` says where it is

The halves are apart since only the index needs DuckDB; one module may hold both. A source is in the registry because
it is in `_BUILT_IN`, because an installed distribution names it under the entry point group `eventlog.sources`,
or because a program called `register`. docs/sources.md shows how to add one.

What an entry point names and cannot be loaded is left out, and so are entry points that cannot be read; `left_out`
says so: a broken package of somebody else must not stop the index of everybody.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from eventlog.errors import ImportFailed, InvalidSource
from eventlog.format import control, schemas
from eventlog.format.envelope import Envelope
from eventlog.importers import discovery

T = TypeVar("T")

#: The group of entry points; the value of one is `module:NAME` of a Source.
ENTRY_POINTS = "eventlog.sources"
_BUILT_IN = ("eventlog.importers.claude_code:SOURCE", "eventlog.importers.codex:SOURCE")
#: Views name event types, and a store of one workspace reads those names out of them.
_NAME = re.compile(r"[a-z][a-z_]{0,99}", re.ASCII)
_COMMAND = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
#: `eventlog import jsonl`, which is for files of any program, and `eventlog import agents`, which is for all sources.
_TAKEN_COMMANDS = frozenset({"agents", "jsonl"})


class Format(Protocol):
    """How records of a foreign file become envelopes.

    One that also has `rotates = True` reads logs: other content under the same name is another source then, and not
    the same one written anew (eventlog.importers.identity).
    """

    #: The importer's name and all options that change the envelopes: an import with other options begins anew.
    #: No two sets of options have one key. Example: `claude_code workspace=acme agent=`.
    key: str
    #: Whose the events are.
    workspace: str | None
    agent: str | None

    def source_name(self, path: Path) -> str:
        """Return what identifies a file wherever it lies, such as a session id; it goes into the ids."""

    def envelopes(self, data: bytes, source: str, occurrence: int) -> Sequence[Envelope]:
        """Return the events of a record: JSON as it stands in the file, which `source_name` calls `source`.

        `occurrence` counts from 0 how often the same bytes came before in this file. The envelopes depend on these
        three and on the options alone: an import may go on in the middle of a file. Raises InvalidEvent with the
        reason, or what msgspec raises for a record that is not a JSON object.
        """


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A program whose files become events: the writing half.

    name            what its calls carry in the column `source` of the views, such as `claude_code`
    command         of `eventlog import`, such as `claude-code`
    help            of that command; the first sentence stands in the list of commands
    event_types     of its events: lower case and underscores; no foreign file may claim them
    format          makes the Format of an import: `format(workspace="acme", agent=None)`
    default_folders returns where the program keeps its files; folders that do not exist are passed over
    patterns        of the names of its files, at any depth below a folder: `("*.jsonl", "*.jsonl.zst")`
    noun            for one of its files in messages: `transcript`
    recognises      says of a line, decoded from JSON, whether this program alone writes such lines; another source
                    refuses its files then (eventlog.importers.recognition). None where no line shows it
    without_copies  leaves out of some files those that are copies of others, such as `[old, new]` → `[new]`; None where
                    the program makes none
    preview         yields what a line says in few words, as `user: hello`, for `eventlog tail`; None: the line as it is
    views           where the reading half is, an eventlog.indexer.views.sources.SourceViews: `module:NAME`; None
                    without one
    version         to be raised when promoted columns or selects of the reading half change: indexes that were made
                    with a lower one are rebuilt from the log
    """

    name: str
    command: str
    help: str
    event_types: tuple[str, ...]
    format: Callable[..., Format]
    default_folders: Callable[[], Sequence[Path]]
    patterns: tuple[str, ...]
    noun: str = "file"
    recognises: Callable[[Any], bool] | None = None
    without_copies: Callable[[Sequence[Path]], Sequence[Path]] | None = None
    preview: Callable[[dict[str, Any]], Iterable[str]] | None = None
    views: str | None = None
    version: int = 1

    def find(self, paths: Sequence[Path], unreadable: list[str] | None = None) -> list[Path]:
        """Return this source's files under some files and folders, sorted.

        Adds a message to `unreadable` for each folder that cannot be read. Raises ImportFailed for a path that is
        neither a file nor a folder.
        """
        files: set[Path] = set()
        problems = [] if unreadable is None else unreadable
        for path in paths:
            if path.is_dir():
                files.update(discovery.files_below(path, self.patterns, problems))
            elif path.is_file():
                files.add(path)
            else:
                problem = "is neither a file nor a folder" if path.exists() else "does not exist"
                raise ImportFailed(f"{path} {problem}; name a {self.noun} or a folder of them")
        return sorted(files if self.without_copies is None else self.without_copies(sorted(files)))


_registered: list[Source] = []


def register(source: Source) -> Source:
    """Add a source to those of this process; return it.

    Raises InvalidSource where a name, a command or an event type is not one, or is taken.
    """
    _check(source, all_sources())
    _registered.append(source)
    return source


def all_sources() -> list[Source]:
    """Return the sources of this process: built in, of installed distributions, and registered, in this order.

    Entry points that cannot be loaded are left out.
    """
    return [*_installed().sources, *_registered]


def is_built_in(source: Source) -> bool:
    """Return whether a source comes with eventlog."""
    return any(source is each for each in _built_in())


def event_types() -> list[str]:
    """Return the event types of all sources."""
    return [event_type for source in all_sources() for event_type in source.event_types]


def preview(event_type: str, payload: bytes) -> str | None:
    """Return an imported line in few words, such as `user: hello`; None for one of which no source knows any."""
    of_line = next((source.preview for source in all_sources() if event_type in source.event_types), None)
    if of_line is None:
        return None
    try:
        line = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return "  ".join(filter(None, of_line(line))) if isinstance(line, dict) else None


def left_out() -> list[LeftOut]:
    """Return the entry points that are left out since they cannot be read, or not loaded, sorted by their values.

    Reading halves are loaded when an index needs them: one that is broken is among these after that.
    """
    return list(_installed().left_out.values())


def load_views(source: Source, kind: type[T]) -> T | None:
    """Return the reading half of a source; None where it has none, or is left out.

    Raises InvalidSource where that of a source that no entry point names cannot be loaded.
    """
    installed = _installed()
    point = installed.points.get(source.name)
    if source.views is None or (point is not None and point.value in installed.left_out):
        return None
    try:
        return load(source.views, kind)
    except InvalidSource as error:
        if point is None:
            raise
        installed.left_out[point.value] = _left_out(point, f"its views {error}")
        return None


def load(reference: str, kind: type[T]) -> T:
    """Return the object that `module:NAME` refers to. Raises InvalidSource where there is none of this kind."""
    module, _, name = reference.partition(":")
    try:
        loaded = operator.attrgetter(name)(importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may call sys.exit
        raise InvalidSource(f"{reference} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(loaded, kind):
        raise InvalidSource(f"{reference} is a {type(loaded).__name__}, not a {kind.__name__}")
    return loaded


# -- of installed distributions ------------------------------------------------------------


class LeftOut(NamedTuple):
    """An entry point that is left out: what is wrong with it, and what to try."""

    fact: str
    advice: str

    def __str__(self) -> str:
        return f"{self.fact}; {self.advice}"


class _Installed(NamedTuple):
    sources: tuple[Source, ...]
    #: By the names of their sources.
    points: dict[str, EntryPoint]
    #: By the values of the entry points; what cannot be read, by the package.
    left_out: dict[str, LeftOut]


@functools.cache
def _built_in() -> tuple[Source, ...]:
    return tuple(load(reference, Source) for reference in _BUILT_IN)


@functools.cache
def _installed() -> _Installed:
    sources = list(_built_in())
    installed = _Installed((), {}, {})
    for point in sorted(_points(installed.left_out), key=lambda point: point.value):
        try:
            if not point.pattern.fullmatch(point.value):
                raise InvalidSource(f"{point.value} is not module:NAME")
            source = load(f"{point.module}:{point.attr}", Source)  # without the extras that a value may end in
            _check(source, sources)
        except Exception as error:  # noqa: BLE001 - whatever a package of somebody else holds
            installed.left_out[point.value] = _left_out(point, str(error))
        else:
            sources.append(source)
            installed.points[source.name] = point
    return installed._replace(sources=tuple(sources))


def _points(left_out: dict[str, LeftOut]) -> list[EntryPoint]:
    """Return the entry points of all distributions that can be read; the others are added to `left_out`."""
    with contextlib.suppress(
        Exception
    ):  # one file is malformed, in whatever way, and the error does not say whose it is
        return list(entry_points(group=ENTRY_POINTS))
    found: dict[str | int, Sequence[EntryPoint]] = {}
    for number, distribution in enumerate(distributions()):
        name = _name_of(distribution)
        key = number if name is None else re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue  # another version, later on the path: nothing is imported from there
        try:
            found[key] = distribution.entry_points.select(group=ENTRY_POINTS)
        except Exception as error:  # noqa: BLE001
            found[key] = ()
            package = name or "a package"
            left_out[package] = LeftOut(
                f"the entry points of {package} are left out: they cannot be read: {type(error).__name__}: {error}",
                f"upgrade, reinstall or remove {name or 'it'}",
            )
    return [point for points in found.values() for point in points]


def _name_of(distribution: Distribution | None) -> str | None:
    """Return the name of a distribution; None where its metadata has none, or cannot be read."""
    try:
        return None if distribution is None else distribution.metadata["Name"]
    except Exception:  # noqa: BLE001 - a warning as an error, or whatever its files hold
        return None


def _left_out(point: EntryPoint, reason: str) -> LeftOut:
    distribution = _name_of(point.dist)
    package = distribution or "the package that has it"
    return LeftOut(
        f"the source that {distribution or 'a package'} names as {point.name!r} ({point.value}) is left out: {reason}",
        f"upgrade, reinstall or remove {package}",
    )


def _check(source: Source, others: Sequence[Source]) -> None:
    for field in ("event_types", "patterns"):
        texts = getattr(source, field)
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise InvalidSource(f"source {source.name!r}: its {field} are to be a tuple of texts, such as ('toy',)")
    if source.version < 1:
        raise InvalidSource(f"source {source.name!r}: its version is to be 1 or more")
    for name in (source.name, *source.event_types):
        if not _NAME.fullmatch(name):
            raise InvalidSource(f"source {source.name!r}: {name!r} is not a name; use lower case and underscores")
    if not _COMMAND.fullmatch(source.command) or source.command in _TAKEN_COMMANDS:
        raise InvalidSource(f"source {source.name!r}: its command cannot be called {source.command!r}; choose another")
    for event_type in source.event_types:
        if event_type in control.WRITERS or event_type in control.RECORDED or event_type in schemas.RESERVED:
            raise InvalidSource(
                f"source {source.name!r}: the event type {event_type!r} is eventlog's own; choose another"
            )
    for other in others:
        shared = set(source.event_types) & set(other.event_types)
        for kind, value in (
            ("name", source.name if source.name == other.name else None),
            ("command", source.command if source.command == other.command else None),
            ("event type", min(shared, default=None)),
        ):
            if value is not None:
                raise InvalidSource(
                    f"source {source.name!r}: the {kind} {value!r} is taken by the source {other.name!r}; "
                    "choose another, or register it once only"
                )
