"""What an object of somebody else's code offers as plain data: SDKs' answers have `model_dump` or `to_dict`.

The methods are looked up on the type. A mock, a proxy or a remote object has every attribute that it is
asked for, each of which is one more of its kind, and so on without end.
"""

from __future__ import annotations

import math
from typing import Any

_METHODS = ("model_dump", "to_dict")
#: A table or a data set with more cells than this is not turned into a dict, which takes seconds and gigabytes.
CELLS_MAX = 10_000


def offers(value: object) -> bool:
    """Say whether there is something to ask for that costs little."""
    kind = type(value)
    return any(callable(getattr(kind, method, None)) for method in _METHODS) and not _is_large(value)


def offered(value: Any) -> Any:
    """Return what it says of itself, where it `offers` that. Raises whatever its code raises."""
    kind = type(value)
    method = next(method for method in _METHODS if callable(getattr(kind, method, None)))
    return getattr(value, method)()


def _is_large(value: Any) -> bool:
    """Only what has a length can be a table; SDKs' answers have none."""
    if not hasattr(type(value), "__len__"):
        return False
    try:
        shape = getattr(value, "shape", None)
        cells = math.prod(shape) if isinstance(shape, tuple) else len(value)
        return bool(cells > CELLS_MAX)
    except Exception:  # noqa: BLE001 - its own code; whoever cannot say how long it is, is not asked for more
        return True
