"""Regular expressions that are compiled at their first use: most programs never have a payload that needs them."""

from __future__ import annotations

import re
from typing import Any, cast


class _LazyPattern:
    def __init__(self, pattern: bytes, flags: int) -> None:
        self._made = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        """Compile the pattern, and store its attribute here, so that the next access does not call this."""
        attribute = getattr(re.compile(*self._made), name)
        setattr(self, name, attribute)
        return attribute


def lazily_compiled(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
    """Return a pattern with the methods and attributes of `re.compile(pattern, flags)`, compiled at its first use."""
    return cast("re.Pattern[bytes]", _LazyPattern(pattern, flags))
