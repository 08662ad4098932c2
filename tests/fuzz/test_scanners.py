"""Whatever scanners do, the modality door answers what can be answered and goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from tests.fuzz.dicom import cut, streams
from tests.fuzz.running import fuzz
from tests.fuzz.scanners import ScannersDoor
from tests.modality.site import plan

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def scanners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScannersDoor]:
    """A door whose list has one entry."""
    server = EmbeddedServer(tmp_path_factory.mktemp("fuzz"), binary=find_server())
    server.start()
    store = Store(server.url)
    plan(store, "A1", PatientName="MÜLLER^JÖRG")
    store.close()
    opened = ScannersDoor(server.url)
    yield opened
    opened.close()
    server.stop()


@fuzz
@given(streams, st.lists(st.floats(0, 1), max_size=3))
def test_no_peer_breaks_anything_and_the_next_scanner_has_its_list(
    scanners: ScannersDoor, stream: bytes, at: list[float]
) -> None:
    """Through worklist, MPPS and echo, to the store and back; nothing is left of it."""
    scanners.talk(cut(stream, at))
    assert scanners.broken == []
    assert scanners.is_well()
