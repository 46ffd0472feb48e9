"""One server for the tests of a module that need no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.running import Running, serving
from tests.server.support_streams import CLIENTS, Framing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the usual settings, on a root of this module's."""
    with serving(tmp_path_factory.mktemp("server") / "root") as running:
        yield running


@pytest.fixture(params=CLIENTS, ids=["sse", "ws"])
def framing(request: pytest.FixtureRequest) -> Framing:
    """Each framing of the stream in turn."""
    client: Framing = request.param
    return client
