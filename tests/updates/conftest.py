"""A private Redis, a RIS that listens, and the updates door as real processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from broker.probe.ris import Sink, listening
from broker.settings import Destination
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from broker.updates.door import way_to
from broker.updates.drain import Attempt, Drain
from tests.houses import few_mappings
from tests.modality.hospital import Hospital
from tests.updates.actors import Door, Job, Reports, quick


@pytest.fixture
def sink() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture
def report(store: Store) -> Reports:
    return Reports(store)


@pytest.fixture
def drain(store: Store) -> Iterator[Job]:
    made: list[Drain] = []

    def make(
        target: Destination, observe: Callable[[Attempt], None] = lambda _: None, **pace: Any
    ) -> Drain:
        job = Drain(
            target,
            way_to(target),
            store,
            nudge=lambda: None,
            stop=Flag(),
            pace=quick(**pace),
            observe=observe,
        )
        made.append(job)
        return job

    yield make
    for job in made:
        job.close()


@pytest.fixture
def door(server: EmbeddedServer, store: Store) -> Iterator[Door]:
    door = Door(server.url)
    yield door
    door.stop()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Doors that tell one RIS and two SCPs what scanners do, one of them only what CT2 does."""
    mappings = few_mappings(tmp_path_factory.mktemp("gate") / "mappings")
    folder = Path(tempfile.mkdtemp(prefix="gate-"))
    server = EmbeddedServer(folder, binary=find_server())
    server.start()
    nowhere = "127.0.0.1:1"
    scps = [{"name": "pacs", "to": nowhere}, {"name": "dose", "to": nowhere, "aes": ["CT2"]}]
    ris = [{"name": "ris", "to": nowhere}]
    with Hospital.open(server.url, mappings, ris=ris, updates={"forward": scps}) as opened:
        yield opened
    server.stop(grace_s=5)
    shutil.rmtree(folder)
