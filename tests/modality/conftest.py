"""What these tests are played on, all in this process, from the barest to the whole.

`Door` (door.py) has sockets and a toy worklist: what any peer may do to a connection. `Worklist`
(worklist.py) asks without a socket. `Site` (site.py) is the door as a configuration says, over a
worklist that a test plans. `Hospital` (hospital.py) takes orders in HL7, and scanners report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from tests.doors.commands import typed
from tests.houses import few_mappings
from tests.modality.door import Opener, running
from tests.modality.hospital import Hospital, Modality
from tests.modality.site import private_redis
from tests.modality.worklist import Worklist

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedServer]:
    with private_redis() as server:
        yield server


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mappings that these tests speak by."""
    return few_mappings(tmp_path_factory.mktemp("house") / "mappings")


@pytest.fixture(scope="module")
def hospital(redis: EmbeddedServer, house: Path) -> Iterator[Hospital]:
    with Hospital.open(redis.url, house) as opened:
        yield opened


@pytest.fixture(scope="module")
def scanner(hospital: Hospital) -> Iterator[Modality]:
    """CT1, which may make mistakes."""
    with hospital.scanner() as modality:
        yield modality


@pytest.fixture(scope="module")
def strict(hospital: Hospital) -> Iterator[Modality]:
    """CT1-S, which is held to the letter."""
    with hospital.scanner("CT1-S") as modality:
        yield modality


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("store"), binary=find_server())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(redis_server: EmbeddedServer) -> Iterator[Store]:
    opened = Store(redis_server.url)
    opened.redis.flushall()
    yield opened
    opened.close()


@pytest.fixture
def worklist(redis_server: EmbeddedServer, store: Store) -> Iterator[Worklist]:
    """One process of the door, as it is after a start."""
    with Worklist(redis_server.url) as opened:
        yield opened


@pytest.fixture
def other(redis_server: EmbeddedServer, store: Store) -> Iterator[Worklist]:
    """Another process of the door over the same store."""
    with Worklist(redis_server.url) as opened:
        yield opened


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens doors and sees to it that they are closed and empty again."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(running(*args, **kwargs))


@pytest.fixture
def broker(
    hospital: Hospital,
    house: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs `broker …` on the hospital's store: exit code and what was printed."""
    monkeypatch.setenv("BROKER_REDIS__URL", hospital.url)
    monkeypatch.setenv("BROKER_MAPPINGS", str(house))
    monkeypatch.setenv("BROKER_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("BROKER_RIS", "[{name: ris, to: '127.0.0.1:1'}]")

    def run(*arguments: str) -> tuple[int, str]:
        code, said, complained = typed(capsys, *arguments)
        return code, said + complained

    return run
