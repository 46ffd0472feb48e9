"""Usage objects as plain data: SDKs' objects become dicts. eventlog.format.usage reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from eventlog.format.usage_dialects import ITERATIONS_END
from eventlog.record import sdk_objects


def as_dict(usage: object) -> dict[str, Any] | None:
    """Return a usage object (a mapping, or an SDK's object) as a dict; None for anything else. Never raises."""
    try:
        plain = _plain(usage, _DEPTH_MAX, [_VALUES_MAX])
    except Exception:  # noqa: BLE001 - the object's own code, on the agent's path
        return None
    return plain if isinstance(plain, dict) else None


#: Usage objects are small. Anything larger (somebody passes the client) is cut, so that it costs no time.
_DEPTH_MAX = 4  # the usage, its iterations, one of them, the durations of its cache writes
_ITEMS_MAX = ITERATIONS_END
_VALUES_MAX = 1_000


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """Return plain data: SDKs' objects (pydantic, protobuf, dataclasses, plain classes) become dicts."""
    if value is None or isinstance(value, str | int | float):
        return value
    left[0] -= 1
    if left[0] < 0:
        depth = 0
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        return [_plain(item, depth - 1, left) for item in value[:_ITEMS_MAX]] if depth else []
    elif isinstance(value, type):
        return str(value)
    else:
        if sdk_objects.offers(value):
            if not depth:
                return {}
            offered = sdk_objects.offered(value)
            # Anything but a mapping may be another such object, without end.
            return _plain(offered, depth if isinstance(offered, Mapping) else depth - 1, left)
        names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", None)
        if names is None:
            names = [name for name in getattr(value, "__dict__", {}) if not name.startswith("_")]
        if not names:
            return str(value)[:_ITEMS_MAX]
        pairs = ((name, getattr(value, name, None)) for name in names)
    return {str(name): _plain(item, depth - 1, left) for name, item in islice(pairs, _ITEMS_MAX)} if depth else {}
