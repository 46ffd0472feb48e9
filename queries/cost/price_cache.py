"""A cache of rates between processes, since loading the price library takes longer than most queries.

    $XDG_CACHE_HOME/eventlog/prices.json, else ~/.cache/eventlog/prices.json

The file holds the rates of models by name, and the source files that they were made from: those of the library and of
this package, by size and modification time. If any of these changes, the whole cache is discarded. The file may be
deleted at any time; if it cannot be read or written, there is no cache. It belongs to the user, not to a root: all it
says about a log is the names of models.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.process import root_files
from eventlog.queries.cost.rates import Rate, exact

#: More than the programs of a user name, and few enough to read in a few milliseconds.
NAMES_MAX = 500
_BYTES_MAX = 2 * 1024**2
#: Longer names are not cached; a log may hold anything.
_NAME_CHARS_MAX = 200


class Name(msgspec.Struct, frozen=True):
    """The key of an entry: a provider, a model, and a tier and a place by `rates.tier_name` and `rates.geo_name`."""

    provider: str | None
    model: str
    tier: str
    geo: str = "global"


class _Entry(msgspec.Struct, frozen=True):
    name: Name
    rates: tuple[Rate, ...]


class _File(msgspec.Struct, frozen=True):
    made_from: list[tuple[str, int, int]]
    entries: list[_Entry]


class PriceCache:
    """Rates by name in a file, valid as long as the `sources` do not change. Methods never raise.

    Without a path, or without sources, nothing is cached.
    """

    def __init__(self, path: Path | None, sources: Iterable[Path]) -> None:
        self._made_from = _state(sources)
        self._path = path if self._made_from else None
        self._rates = dict(self._read())
        self._has_changed = False

    def _read(self) -> Iterator[tuple[Name, tuple[Rate, ...]]]:
        if self._path is None:
            return
        try:
            file = msgspec.json.decode(_own_bytes(self._path), type=_File)
        except (OSError, ValueError, RecursionError):  # missing, torn by a power cut, or of another version
            return
        if file.made_from == self._made_from and all(_is_exact(rate) for entry in file.entries for rate in entry.rates):
            yield from ((entry.name, entry.rates) for entry in file.entries)

    def get(self, name: Name) -> tuple[Rate, ...] | None:
        """Return the cached rates of a name; None if there is no entry."""
        return self._rates.get(name)

    def add(self, name: Name, rates: tuple[Rate, ...]) -> None:
        """Add the rates of a name in memory, and remove the oldest entry of a full cache; `save` writes the file."""
        if self._path is not None and _chars(name) <= _NAME_CHARS_MAX:
            while len(self._rates) >= NAMES_MAX:
                self._rates.pop(next(iter(self._rates)), None)
            self._rates[name] = rates
            self._has_changed = True

    def save(self) -> None:
        """Write the file, if an entry was added."""
        if self._path is None or not self._has_changed:
            return
        self._has_changed = False
        text = msgspec.json.encode(_File(self._made_from, [_Entry(*item) for item in list(self._rates.items())]))
        if len(text) < _BYTES_MAX:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                root_files.replace_file(self._path, text)


def _chars(name: Name) -> int:
    return sum(len(part or "") for part in msgspec.structs.astuple(name))


def _own_bytes(path: Path) -> bytes:
    """Return the first _BYTES_MAX bytes of a regular file of this user; nothing of another file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not be waited for
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return b""
        return file.read(_BYTES_MAX)


def _is_exact(rate: Rate) -> bool:
    """Return whether all prices of a rate are in their normal form: somebody may have edited the file."""
    prices = (rate.input, rate.cache_read, rate.cache_write_5m, rate.cache_write_1h, rate.output, rate.reasoning)
    return all(price is None or exact(price) is not None for price in (*prices, rate.request, rate.web_search))


def _state(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size and modification time (ns) of files; nothing if one of them cannot be read."""
    try:
        return [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    except OSError:
        return []


def default_path() -> Path | None:
    """Return the path of the file; None for a user without a home folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(cache, "eventlog", "prices.json")
    return path if path.is_absolute() else None
