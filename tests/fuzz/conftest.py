"""A whole orders door in this process, on a Redis of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.store.server import EmbeddedServer, find_server
from tests.orders.door import Door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Listener, intake and shipped mappings over a private redis-server."""
    server = EmbeddedServer(tmp_path_factory.mktemp("fuzz"), binary=find_server())
    server.start()
    opened = Door(server.url)
    yield opened
    opened.close()
    server.stop()
