"""A channel for those who need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queries.alerts.support import Channel, listening


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A webhook that writes down what it gets."""
    with listening() as made:
        yield made
