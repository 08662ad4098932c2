"""A private Redis, a RIS that listens, and the updates door as real processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from broker.probe.ris import Sink
from broker.settings import Ris
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from broker.updates.drain import Attempt, Drain
from tests.updates.actors import Door, Job, Reports, quick


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="broker-updates-"))
    server = EmbeddedServer(folder, binary=find_server())
    server.start()
    yield server
    server.stop(grace_s=5)
    shutil.rmtree(folder)


@pytest.fixture
def store(server: EmbeddedServer) -> Iterator[Store]:
    store = Store(server.url)
    store.redis.flushall()
    yield store
    store.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    sink.start()
    yield sink
    sink.stop()


@pytest.fixture
def report(store: Store) -> Reports:
    return Reports(store)


@pytest.fixture
def drain(store: Store) -> Iterator[Job]:
    made: list[Drain] = []

    def make(
        target: Ris, observe: Callable[[Attempt], None] = lambda _: None, **pace: Any
    ) -> Drain:
        job = Drain(
            target,
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
