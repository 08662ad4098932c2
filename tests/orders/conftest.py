"""A whole orders door in this process, on a Redis of its own that may be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.store.server import EmbeddedServer, find_server
from tests.houses import few_mappings
from tests.orders.door import Door
from tests.orders.said import Ris

SITES = {
    "strict": "source: {validate: strict}",
    "original": "source: {ack: original}",
    "enhanced": "source: {ack: enhanced, when_store_down: AE}",
    "down": "source: {when_store_down: AR}",
    "good": "source: {groups: apply_good}",
    "polish": "source: {charset: {unlabelled: [cp1250], unknown: cp1250}}",
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that a test may stop, and starts again."""
    server = EmbeddedServer(tmp_path_factory.mktemp("redis"), binary=find_server())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some shipped mappings, and a source of each kind that is named by its MSH-3."""
    mappings = few_mappings(tmp_path_factory.mktemp("door") / "mappings", "ihe-scheduling")
    for name, source in SITES.items():
        (mappings / f"site-{name}.yaml").write_text(
            f"mapping: site-{name}\nextends: ihe-orders\n"
            f"accept: {{senders: ['{name.upper()}|*']}}\n{source}\n"
        )
    return mappings


@pytest.fixture(scope="module")
def door(redis: EmbeddedServer, sites: Path) -> Iterator[Door]:
    """A door for all these sources."""
    opened = Door(redis.url, sites)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def _ris(redis: EmbeddedServer, sites: Path) -> Iterator[Ris]:
    opened = Ris(redis.url, mappings=sites)
    yield opened
    opened.close()


@pytest.fixture
def ris(_ris: Ris) -> Ris:
    """A RIS of these sources, and an empty store."""
    return _ris.emptied()
