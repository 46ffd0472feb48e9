"""Expressions that are compiled when they are first asked: most programs never have a payload that needs them."""

from __future__ import annotations

import re
from typing import Any, cast


class _LazyPattern:
    def __init__(self, pattern: bytes, flags: int) -> None:
        self._made = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        """Compile; what was asked for is an attribute from then on, and comes here no more."""
        found = getattr(re.compile(*self._made), name)
        setattr(self, name, found)
        return found


def lazily_compiled(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
    """Return what `re.compile` does, as far as its methods go."""
    return cast("re.Pattern[bytes]", _LazyPattern(pattern, flags))
