"""What arrives and never becomes a message leaves its beginning in the archive."""

from __future__ import annotations

import pytest

from broker.hl7.acknowledgement import read_acknowledgement
from broker.store import archive
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from tests.orders.door import Door
from tests.orders.said import PID, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")


def order(accession: str) -> bytes:
    return hl7("ORM^O01", PID, orc(placer=accession, filler=accession), obr(accession))


def archived(redis: EmbeddedServer) -> list[tuple[str, str]]:
    store = Store(redis.url)
    found = [(each.outcome, each.cause) for each in store.run(archive.newest(3))]
    store.close()
    return found


@pytest.fixture
def emptied(redis: EmbeddedServer, door: Door) -> Door:
    store = Store(redis.url)
    store.redis.flushall()
    store.close()
    return door


def test_a_message_broken_off_by_the_next_one_is_archived_and_the_next_is_answered(
    redis: EmbeddedServer, emptied: Door
) -> None:
    torn, whole = order("T1"), order("T2")
    before = emptied.events["torn"]
    ((answer,),) = emptied.talk([b"\x0b" + torn[:200] + b"\x0b" + whole + b"\x1c\r"])
    assert read_acknowledgement(answer).code == "AA"
    assert sorted(archived(redis)) == [("applied", ""), ("ignored", "torn")]
    assert emptied.events["torn"] == before + 1


@pytest.mark.parametrize("around", [b"junk %b more\r", b"INFO\r%b"], ids=["between", "at the end"])
def test_a_message_outside_of_any_block_is_archived(
    redis: EmbeddedServer, emptied: Door, around: bytes
) -> None:
    stream = around % order("T3") + b"\x0b" + order("T4") + b"\x1c\r" + around % order("T5")
    ((answer,),) = emptied.talk([stream])
    assert read_acknowledgement(answer).code == "AA"
    lost = [("ignored", "unframed")] * 2
    assert sorted(archived(redis)) == [("applied", ""), *lost]


def test_noise_without_a_message_is_only_counted(redis: EmbeddedServer, emptied: Door) -> None:
    emptied.talk([b"GET / HTTP/1.1\r\n\r\n"])
    assert archived(redis) == []
