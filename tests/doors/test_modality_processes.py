"""Two modality processes on one port: every scanner sees what was acknowledged before it asked."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.bench.dicom import PENDING, Association
from broker.dicom.encoding import encode
from broker.dicom.negotiation import IMPLICIT_LITTLE
from broker.probe.orders import Step, orm_o01
from broker.probe.scanner import worklist_keys
from tests.doors.actors import CONFIG, Broker, Line, accepted, new_order, until

pytestmark = pytest.mark.peer("redis-server")

DICOM = "dicom: {listen: '127.0.0.1:0'"
ROUNDS = 60
EACH = 3
"""Associations that each process has at least."""
OUT_OF_RESOURCES = 0xA700
ESTABLISHED = "01"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Two processes behind each of the two doors."""
    assert DICOM in CONFIG
    with Broker(CONFIG.replace(DICOM, f"{DICOM}, processes: 2")).started() as running:
        yield running


@pytest.fixture
def scanners(broker: Broker) -> Iterator[list[Association]]:
    """Open associations, some with each process: which one takes a connection is the kernel's."""
    opened: list[Association] = []
    try:
        while min(associated(broker)) < EACH:
            assert len(opened) < 100, "one process takes all connections"
            opened.append(Association(broker.dicom))
        yield opened
    finally:
        for each in opened:
            each.close()


def associated(broker: Broker) -> list[int]:
    """How many connections each modality process has at the DICOM port."""
    local = f":{broker.dicom.port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    ours = {row[9] for row in rows if row[1].endswith(local) and row[3] == ESTABLISHED}
    held = Counter[int]()
    doors = sorted(broker.children("door modality"))
    assert len(doors) == 2
    for pid in doors:
        links = [entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()]
        held[pid] = len(ours.intersection(re.findall(r"socket:\[(\d+)\]", " ".join(links))))
    return [held[pid] for pid in doors]


def of_station(title: str) -> bytes:
    return encode(worklist_keys(station_ae=title), IMPLICIT_LITTLE)


def ask(scanner: Association, identifier: bytes) -> tuple[int, int]:
    """The number of answers, and the final status."""
    scanner.begin(identifier)
    statuses = scanner.statuses()
    while not statuses or statuses[-1] in PENDING:
        statuses += scanner.statuses()
    return len(statuses) - 1, statuses[-1]


def test_an_acknowledged_order_is_in_the_next_answer_of_every_process(
    broker: Broker, scanners: list[Association]
) -> None:
    """New orders and cancels in turn, with nothing waited for but the acknowledgement."""
    identifier, listed = of_station("TWINS"), 0
    with Line(broker.hl7) as ris:
        for number in range(ROUNDS):
            order = new_order(Step(station_ae="TWINS", step_id=f"TWINS{number}"))
            assert ris.send(orm_o01(order)).code == "AA"
            listed += 1
            assert {ask(each, identifier) for each in scanners} == {(listed, 0)}
            if number % 3 == 0:
                assert ris.send(orm_o01(order, control="CA", status="CA")).code == "AA"
                listed -= 1
                assert {ask(each, identifier) for each in scanners} == {(listed, 0)}


def test_while_redis_is_gone_every_query_ends_with_the_right_status(
    broker: Broker, scanners: list[Association]
) -> None:
    """A700, never an empty list; afterwards the same associations go on."""
    accepted(broker.hl7, orm_o01(new_order(Step(station_ae="GONE"))))
    identifier, told = of_station("GONE"), list[tuple[int, int]]()
    over = threading.Event()

    def poll(number: int) -> None:
        while not over.is_set():
            told.append(ask(scanners[number], identifier))
            time.sleep(0.01)

    polling = [threading.Thread(target=poll, args=(n,)) for n in range(len(scanners))]
    for each in polling:
        each.start()
    try:
        for _ in range(2):
            answered_by_all(told, scanners)
            (server,) = broker.children("redis-server")
            broker.kill("redis-server")
            until(lambda gone=server: broker.children("redis-server") - {gone}, "another Redis")
        answered_by_all(told, scanners)
    finally:
        over.set()
        for each in polling:
            each.join()
    assert set(told) <= {(1, 0), (0, OUT_OF_RESOURCES)}
    assert (0, OUT_OF_RESOURCES) in told
    with closing(Association(broker.dicom)) as newcomer:
        assert ask(newcomer, identifier) == (1, 0)


def answered_by_all(told: list[tuple[int, int]], scanners: list[Association]) -> None:
    """Wait until as many answers more have come as there are scanners."""
    since = len(told)
    until(lambda: told[since:].count((1, 0)) > len(scanners), "answers")
