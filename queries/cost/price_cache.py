"""What the price list said, kept between processes: to load it takes longer than most questions.

    $XDG_CACHE_HOME/eventlog/prices.json, else ~/.cache/eventlog/prices.json

It holds the rates of some names of models, and what they were made from: the files of the library and of this
package, by size and time of change. Where any of these is another, all of it is forgotten. The file may be deleted
at any time; one that cannot be read or written is done without. It is of the user, not of a root: it says nothing of
a log but the names of models.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.queries.cost.rates import Rate, counted

#: More than a user's programs name, and few enough to be read in a few milliseconds.
NAMES_MAX = 500
_BYTES_MAX = 2 * 1024**2
#: Longer ones are no names; logs may hold anything.
_NAME_CHARS_MAX = 200


class Name(msgspec.Struct, frozen=True):
    """What the library is asked for: a provider, a model, and a service tier as `rates.tier_name` has it."""

    provider: str | None
    model: str
    tier: str


class _Entry(msgspec.Struct, frozen=True):
    name: Name
    rates: tuple[Rate, ...]


class _File(msgspec.Struct, frozen=True):
    made_from: list[tuple[str, int, int]]
    entries: list[_Entry]


class Remembered:
    """Rates by name in a file, for as long as the files in `made_from` stay what they are. Nothing here raises.

    Without a path, or where there is nothing to be made from, it remembers nothing.
    """

    def __init__(self, path: Path | None, made_from: Iterable[Path]) -> None:
        self._made_from = _state(made_from)
        self._path = path if self._made_from else None
        self._known = dict(self._read())
        self._is_new = False

    def _read(self) -> Iterator[tuple[Name, tuple[Rate, ...]]]:
        if self._path is None:
            return
        try:
            found = msgspec.json.decode(_own_bytes(self._path), type=_File)
        except (OSError, ValueError, RecursionError):  # not there yet, torn by a power cut, or of another version
            return
        if found.made_from == self._made_from and all(_is_exact(rate) for each in found.entries for rate in each.rates):
            yield from ((entry.name, entry.rates) for entry in found.entries)

    def get(self, name: Name) -> tuple[Rate, ...] | None:
        """Return the rates of a name; None where they are not known."""
        return self._known.get(name)

    def add(self, name: Name, rates: tuple[Rate, ...]) -> None:
        """Remember the rates of a name, and forget those of the oldest where there are many; `save` makes it last."""
        if self._path is not None and len(name.model) + len(name.provider or "") + len(name.tier) <= _NAME_CHARS_MAX:
            while len(self._known) >= NAMES_MAX:
                self._known.pop(next(iter(self._known)), None)
            self._known[name] = rates
            self._is_new = True

    def save(self) -> None:
        """Write the file, if there is anything new."""
        if self._path is None or not self._is_new:
            return
        self._is_new = False
        text = msgspec.json.encode(_File(self._made_from, [_Entry(*each) for each in list(self._known.items())]))
        if len(text) < _BYTES_MAX:
            with contextlib.suppress(OSError):
                _replace(self._path, text)


def _own_bytes(path: Path) -> bytes:
    """Return what is in a file; nothing where it is none of the user's own, or is more than that."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not be waited for
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return b""
        return file.read(_BYTES_MAX)


def _is_exact(rate: Rate) -> bool:
    """Say whether a rate is one that costs are counted with: somebody may have edited the file."""
    prices = (rate.input, rate.cache_read, rate.cache_write_5m, rate.cache_write_1h, rate.output, rate.reasoning)
    return all(price is None or counted(price) is not None for price in (*prices, rate.request))


def _replace(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _state(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of files; nothing where one cannot be looked at."""
    try:
        return [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in files]
    except OSError:
        return []


def default_path() -> Path | None:
    """Return where the file is; None for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(cache, "eventlog", "prices.json")
    return path if path.is_absolute() else None
