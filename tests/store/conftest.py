"""A private redis-server for the tests of this room, emptied for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The server that the broker itself would start."""
    server = EmbeddedServer(tmp_path_factory.mktemp("store"), binary=find_server())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(redis_server: EmbeddedServer) -> Iterator[Store]:
    """An empty store."""
    opened = Store(redis_server.url)
    opened.redis.flushall()
    yield opened
    opened.close()
