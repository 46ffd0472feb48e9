"""The templates of pages, and how values are written in them: as the commands write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from eventlog.cli.text import counted
from eventlog.queries.text import units

_FOLDER = resources.files("eventlog.server.web") / "templates"
#: Texts that are longer are folded.
_LINE_CHARS = 160
_BAR_WIDTH = 1000


def money(amount: str | None, unpriced: int = 0) -> str:
    """Return an amount of USD: `$0.0113`, with a `+` where calls without a price are not in it."""
    return units.spent(None if amount is None else Decimal(amount), unpriced)


def when(moment: str | None) -> Markup:
    """Return a time as an element that a script may show in the zone of the reader."""
    if not moment:
        return Markup("")
    at = datetime.fromisoformat(moment).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


def ago(moment: str | None, now: datetime) -> str:
    """Return how long ago a time was: `5m`."""
    return units.age((now - datetime.fromisoformat(moment)).total_seconds()) if moment else ""


def first_line(text: object) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= _LINE_CHARS else line[: _LINE_CHARS - 1] + "…"


def is_long(text: object) -> bool:
    """Say whether a text is more than its first line."""
    return len(str(text or "")) > _LINE_CHARS or "\n" in str(text or "")


def pretty(value: object) -> str:
    """Return JSON over several lines; a text that is JSON is laid out, too."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def address(path: str, **parameters: object) -> str:
    """Return an address with its query; parameters that are None or empty are left out."""
    given = {name: value for name, value in parameters.items() if value not in (None, "", [])}
    return path + (f"?{urlencode(given, doseq=True)}" if given else "")


def segment(text: object) -> str:
    """Return an id as a part of a path."""
    return quote(str(text), safe="")


def share(part: float | str | None, whole: float | str | None) -> int:
    """Return a share as a width in an SVG of _BAR_WIDTH."""
    if not part or not whole or float(whole) <= 0:
        return 0
    return max(1, min(_BAR_WIDTH, round(float(part) / float(whole) * _BAR_WIDTH)))


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: (_FOLDER / name).read_text(encoding="utf-8")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(
    money=money,
    tokens=units.tokens,
    duration=units.duration,
    when=when,
    ago=ago,
    first_line=first_line,
    pretty=pretty,
    segment=segment,
    size=units.size,
    tojson_text=pretty,
)
ENVIRONMENT.tests["long"] = is_long
ENVIRONMENT.globals.update(address=address, counted=counted, share=share)


def render(name: str, **context: Any) -> str:
    """Return a page."""
    return ENVIRONMENT.get_template(name).render(context)
