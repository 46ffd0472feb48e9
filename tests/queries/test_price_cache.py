"""What the price list said is kept between processes, for as long as it is the same price list."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.queries.cost import price_cache, prices, rates
from eventlog.queries.cost.price_cache import Name, PriceCache
from eventlog.queries.cost.rates import Key, Rate

OPUS = Name("anthropic", "claude-opus-4-5", "standard")
ONE = (
    rates.rate_of(
        {"input": Decimal("0.000000000001"), "output": Decimal("12.50")}, matched="a:b", version="v 1", band="standard"
    ),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that rates are made from."""
    path = tmp_path / "data.py"
    path.write_text("prices")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where rates are kept; the folder is not there yet."""
    return tmp_path / "cache" / "eventlog" / "prices.json"


def saved(path: Path, source: Path, known: dict[Name, tuple[Rate, ...]]) -> None:
    kept = PriceCache(path, [source])
    for name, rates_ in known.items():
        kept.add(name, rates_)
    kept.save()


def test_rates_come_back_as_they_were(path: Path, source: Path) -> None:
    """Every rate of the library, to the last digit; also that a name has none."""
    listed = tuple(prices.library_rates(Key(None, "anthropic", "claude-sonnet-4-5", None)))
    assert len(listed) > 1
    unknown = Name(None, "no-such-model", "batch")
    saved(path, source, {OPUS: ONE, Name("p", "m", "standard"): listed, unknown: ()})
    found = PriceCache(path, [source])
    assert [found.get(name) for name in (OPUS, Name("p", "m", "standard"), unknown)] == [ONE, listed, ()]
    assert found.get(Name(None, "claude-opus-4-5", "standard")) is None
    assert [oct(each.stat().st_mode & 0o777) for each in (path, path.parent)] == ["0o600", "0o700"]


def test_another_price_list_is_asked_anew(path: Path, source: Path) -> None:
    """Of another size, of another time, or from another place; and what it says replaces what was known."""
    saved(path, source, {OPUS: ONE})
    as_it_was = source.stat()
    source.write_text("other prices")
    assert PriceCache(path, [source]).get(OPUS) is None
    source.write_text("prices")
    assert PriceCache(path, [source]).get(OPUS) is None
    os.utime(source, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    assert PriceCache(path, [source]).get(OPUS) == ONE
    other = source.rename(source.with_name("moved.py"))
    saved(path, other, {Name(None, "m", "standard"): ()})
    assert PriceCache(path, [other]).get(OPUS) is None


NONE = [b"", b"{", b"[]", b'{"made_from": 1}', b"\xff\x00", b'{"made_from":[],"entries":[]}', b'{"x":' + b"[" * 10**6]


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_a_file_that_is_none_is_replaced(path: Path, source: Path, text: bytes) -> None:
    """Torn, or of something else."""
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    kept = PriceCache(path, [source])
    assert kept.get(OPUS) is None
    kept.add(OPUS, ONE)
    kept.save()
    assert PriceCache(path, [source]).get(OPUS) == ONE


@pytest.mark.parametrize("price", ["NaN", "Infinity", "1e30", "-1", "0.0000000000001"])
def test_a_price_that_is_none_is_not_believed(path: Path, source: Path, price: str) -> None:
    """Somebody edited the file: sums of costs would fail."""
    saved(path, source, {OPUS: ONE})
    path.write_text(path.read_text().replace("12.5", price))
    assert price in path.read_text()
    assert PriceCache(path, [source]).get(OPUS) is None


def test_a_pipe_in_its_place_is_not_waited_for(path: Path, source: Path) -> None:
    """And replaced."""
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    saved(path, source, {OPUS: ONE})
    assert PriceCache(path, [source]).get(OPUS) == ONE


@pytest.mark.parametrize("case", ["a file in the way", "no home", "nothing to be made from", "it is gone"])
def test_where_nothing_can_be_kept_nothing_is(path: Path, source: Path, case: str) -> None:
    """Nobody is told, since the answer is the same."""
    if case == "a file in the way":
        path.parent.parent.write_text("")
    made_from = {"nothing to be made from": [], "it is gone": [source, source / "gone"]}.get(case, [source])
    kept = PriceCache(None if case == "no home" else path, made_from)
    kept.add(OPUS, ONE)
    kept.save()
    assert not path.exists()


def test_it_stays_small(path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that came last are kept; what is too long to be a name never is; nothing is left beside the file."""
    monkeypatch.setattr(price_cache, "NAMES_MAX", 3)
    names = [Name(None, f"m{number}", "standard") for number in range(5)]
    saved(path, source, {**dict.fromkeys(names, ONE), Name(None, "m" * 1000, "standard"): ONE})
    found = PriceCache(path, [source])
    assert [found.get(name) for name in names] == [None, None, ONE, ONE, ONE]
    assert path.stat().st_size < 2000
    assert list(path.parent.iterdir()) == [path]


_PROGRAM = """
import sys
from eventlog.queries.cost import prices
from eventlog.queries.cost.rates import Key
before = prices.library_rates(Key(None, "anthropic", "claude-opus-4-5", None))
prices.save_cache()
print("genai_prices.data" in sys.modules, before[0].input, before[0].version)
"""


def test_the_library_is_loaded_once_for_a_name() -> None:
    """In the first process; the second has the same rates without it, and one with a folder of its own loads it."""
    said = []
    for cache in ("", "", "elsewhere"):
        settings = {"XDG_CACHE_HOME": str(Path(os.environ["HOME"], cache))} if cache else {}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], env={**os.environ, **settings}, capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        said.append(done.stdout.split(" ", 1))
    assert [loaded for loaded, _ in said] == ["True", "False", "True"]
    assert {rate for _, rate in said} == {f"5 {prices.version()}\n"}
    assert price_cache.default_path() == Path(os.environ["HOME"], ".cache", "eventlog", "prices.json")


def test_it_depends_on_the_library_and_on_what_is_made_of_it() -> None:
    """Its data, its version, and our own rules."""
    names = {path.name for path in prices.sources()}
    assert {"data.py", "types.py", "prices.py", "rates.py", "genai_prices-0.2.3.dist-info"} <= names
