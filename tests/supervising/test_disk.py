"""A disk that fills up: writes are refused, reads go on, all resumes by itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from broker.store import reserve
from tests.doors.actors import CONFIG, Broker

pytestmark = pytest.mark.peer("redis-server")


def test_a_disk_with_room_is_no_reason(tmp_path):
    """'' means that writes may go on; the remedy names the setting."""
    assert reserve.shortage(tmp_path, 1) == ""
    assert "redis.disk_reserve" in reserve.shortage(tmp_path, 2**62)


@pytest.fixture
def full() -> Iterator[Broker]:
    """A broker that wants more free disk than there is."""
    with Broker(CONFIG + "redis: {disk_reserve: 4000000GiB}\n").started() as broker:
        yield broker


def test_r18_nothing_is_acknowledged_while_the_disk_is_nearly_full(full):
    """The connection is closed without an answer, and the worklist is still served."""
    with socket.create_connection(full.hl7, timeout=20) as peer:
        peer.sendall(b"\x0b" + ORDER + b"\x1c\r")
        assert peer.recv(1000) == b""
    assert full.scanner.find({"PatientName": ""}) == []


ORDER = b"MSH|^~\\&|RIS|N|B|N|20260316||ORM^O01|1|P|2.3.1\rPID|1||7^^^N||ROE^ANN\r"
