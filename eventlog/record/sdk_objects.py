"""Objects of SDKs as plain data: their responses have `model_dump` or `to_dict`.

The methods are looked up on the type: a mock, a proxy or a remote object has every attribute that is asked for,
and each attribute is another such object, without end.
"""

from __future__ import annotations

import math
from typing import Any

_METHODS = ("model_dump", "to_dict")
#: A table with more cells than this is not turned into a dict, which would take seconds and gigabytes.
CELLS_MAX = 10_000


def offers(value: object) -> bool:
    """Say whether an object has one of these methods, and is small enough to call it."""
    kind = type(value)
    return any(callable(getattr(kind, method, None)) for method in _METHODS) and not _is_large(value)


def offered(value: Any) -> Any:
    """Return an object as plain data, usually a dict, if it `offers` that. Raises what the object raises."""
    kind = type(value)
    method = next(method for method in _METHODS if callable(getattr(kind, method, None)))
    return getattr(value, method)()


def _is_large(value: Any) -> bool:
    """Say whether a table is too large. SDKs' responses have no length."""
    if not hasattr(type(value), "__len__"):
        return False
    try:
        shape = getattr(value, "shape", None)
        cells = math.prod(shape) if isinstance(shape, tuple) else len(value)
        return bool(cells > CELLS_MAX)
    except Exception:  # noqa: BLE001 - the object's own code; without a length it counts as too large
        return True
