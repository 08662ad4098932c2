"""Identifiers as nobody should send them: each has its answer and costs little; Redis may go."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from broker.store.line import ANSWER_S
from broker.store.server import EmbeddedServer
from tests.dicom.requestor import associate_rq, echo_rq, find_rq
from tests.modality.door import receive, status
from tests.modality.site import Site, plan, private_redis, site_of

pytestmark = pytest.mark.peer("redis-server")

CONFIG = "timezone: Europe/Berlin\n"
STEPS, ITEM = 0x00400100, 0xFFFEE000
ACCESSION, PATIENT_ID, NAME = 0x00080050, 0x00100020, 0x00100010
STATION, DATE = 0x00400001, 0x00400002
UNDEFINED = 0xFFFFFFFF


def element(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """An element in Implicit VR Little Endian, its length as claimed."""
    size = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, size) + value


def step(*keys: bytes) -> bytes:
    """A step sequence of one item."""
    return element(STEPS, element(ITEM, b"".join(keys)))


def deep(levels: int) -> bytes:
    """Step sequences within each other."""
    data = b""
    for _ in range(levels):
        data = element(STEPS, element(ITEM, data))
    return data


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A of CT1, B of MR1, C with a name in Latin-1."""
    with private_redis() as redis, site_of(redis, CONFIG) as site:
        plan(site.store, "A")
        plan(site.store, "B", **{"ScheduledStationAETitle": "MR1", "Modality": "MR"})
        plan(site.store, "C", PatientName="MÜLLER^JÖRG", ScheduledProcedureStepStartDate="20260102")
        yield site


BACK = element(ACCESSION)
GOOD: dict[str, tuple[bytes, str]] = {
    "zeros behind it": (BACK + element(PATIENT_ID, b"PB") + bytes(99), "B"),
    "zeros behind an item": (BACK + step(element(STATION, b"MR1 "), bytes(6)), "B"),
    "the same key twice": (BACK + element(PATIENT_ID, b"PA") + element(PATIENT_ID, b"PB"), "B"),
    "a list of 5,000 patients": (BACK + element(PATIENT_ID, b"X\\" * 5000 + b"PB"), "B"),
    "a list of 5,000 stations": (BACK + step(element(STATION, b"X\\" * 5000 + b"MR1 ")), "B"),
    "a date of 10,000 digits": (BACK + step(element(DATE, b"2" * 10_000)), "A B C"),
    "a name of nothing but stars": (BACK + element(NAME, b"*" * 10_000), "A B C"),
    "a name that a slow matcher never ends with": (BACK + element(NAME, b"*A" * 30 + b"!"), ""),
    "15 levels": (BACK + deep(15), "A B C"),
}
BAD = {
    "q16 cut off within a value": element(PATIENT_ID, b"P1", 255),
    "q16 cut off within an item": element(STEPS, element(ITEM, b"", 99)),
    "q16 a sequence without its end": element(STEPS, element(ITEM, b"", UNDEFINED), UNDEFINED),
    "q18 3,000 levels": deep(3000),
    "14,000 elements and a half": element(PATIENT_ID) * 14_000 + b"\x10",
    "zeros and no end": bytes(120_000) + b"\x08",
    "a VR that is none": b"\x08\0\x50\0SH\0\0" + b"\x10\0\x20\0l!\x02\0PB",
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_odd_is_understood(site: Site, case: str) -> None:
    """And soon: nothing here costs more than its length."""
    identifier, expected = GOOD[case]
    began = time.process_time()
    (reply,) = site.raw(identifier)
    assert reply.statuses[-1] == 0x0000
    assert reply.accessions == expected
    assert time.process_time() - began < 6


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a900_with_a_comment_and_the_association_lives(
    site: Site, case: str
) -> None:
    """Without a value in the comment, and soon."""
    began = time.process_time()
    wrong, right = site.raw(BAD[case], BACK + element(PATIENT_ID, b"PB"))
    assert wrong.statuses == (0xA900,)
    assert 0 < len(wrong.final.ErrorComment) <= 64
    assert right.accessions == "B"
    assert time.process_time() - began < 15


# Redis goes and comes back


def killed(redis: EmbeddedServer) -> Callable[[], None]:
    """Kill it; what is returned starts it again."""
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    redis.stop(grace_s=5)
    return redis.start


def hung(redis: EmbeddedServer) -> Callable[[], None]:
    """Stop it in its tracks; what is returned lets it go on."""
    pid = redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def connected(site: Site) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    peer.sendall(associate_rq())
    receive(peer, 2)
    return peer


def answers(peer: socket.socket) -> list[int]:
    """The statuses of one query."""
    peer.sendall(find_rq(1, identifier=BACK))
    found = [status(peer)]
    while found[-1] == 0xFF00:
        found.append(status(peer))
    return found


@pytest.mark.parametrize("gone", [killed, hung])
def test_q39_kept_associations_get_a700_together_and_then_their_list_again(
    gone: Callable[[EmbeddedServer], Callable[[], None]],
) -> None:
    """Each query has a final status, on the association that it came on, before and after."""
    with private_redis() as redis, site_of(redis, CONFIG) as site:
        plan(site.store, "A")
        kept = [connected(site) for _ in range(5)]
        assert [answers(peer) for peer in kept] == [[0xFF00, 0x0000]] * 5
        back = gone(redis)
        try:
            began = time.monotonic()
            for peer in kept:
                peer.sendall(find_rq(7, identifier=BACK))
            assert [status(peer) for peer in kept] == [0xA700] * 5
            assert time.monotonic() - began < len(kept) * ANSWER_S  # not one after the other
            for peer in kept:
                peer.sendall(echo_rq(8))
                assert status(peer) == 0x0000
        finally:
            back()
        end = time.monotonic() + 30
        while answers(kept[0]) != [0xFF00, 0x0000]:
            assert time.monotonic() < end
        assert [answers(peer) for peer in kept] == [[0xFF00, 0x0000]] * 5
        for peer in kept:
            peer.close()
