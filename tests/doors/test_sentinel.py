"""More than one machine: Redis with Sentinel, two of each door, and what is killed under load.

Machine and machine are two `broker run`, each with orders, modality and updates.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle
from typing import Any

import pytest

from broker.probe.address import Address, Unreachable
from broker.probe.orders import Order, Step, orm_o01
from broker.probe.ris import Sink, listening
from broker.probe.scanner import QueryFailed, Scanner, new_uid, worklist_keys
from broker.store import metrics, reads
from broker.store.executors import Store
from tests.doors.actors import Broker, Closed, Line, new_order, only, send, until
from tests.store.watched import Watched

pytestmark = pytest.mark.peer("redis-server")

ROLES = ("--role", "orders,modality,updates")
OUTAGE_S = 5.0
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time


@dataclass
class Load:
    """Senders, scanners and queries that go to the other machine whenever one fails them."""

    hl7: list[Address]
    dicom: list[Address]
    accepted: list[Order] = field(default_factory=list)
    begun: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    longest: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("AA", "MPPS", "C-FIND"), 0.0)
    )
    missing: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        work: list[Callable[[], None]] = [self._order, self._order, self._examine, self._look]
        with ThreadPoolExecutor(len(work)) as pool:
            running = [pool.submit(each) for each in work]
            try:
                yield
            finally:
                self.stop.set()
        for each in running:
            each.result()

    def more(self, orders: int, exams: int) -> None:
        """Wait until so many more are accepted and ended."""
        goals = len(self.accepted) + orders, len(self.ended) + exams
        until(
            lambda: len(self.accepted) >= goals[0] and len(self.ended) >= goals[1],
            f"{orders} more orders and {exams} more exams",
        )

    def _order(self) -> None:
        places = cycle(self.hl7)
        while not self.stop.is_set():
            order = new_order(Step(station_ae="HA1"))
            message = orm_o01(order)

            def accepted(message: bytes = message) -> bool:
                with Line(next(places), 5) as line:
                    answer = line.send(message)
                assert answer.code == "AA", answer.raw
                return True

            self._insisting("AA", accepted)
            self.accepted.append(order)

    def _examine(self) -> None:
        scanners, done = self._scanners("HA1"), 0
        while not self.stop.is_set():
            if done < len(self.accepted):
                self._exam(scanners, self.accepted[done])
                done += 1
            time.sleep(0.01)

    def _exam(self, scanners: Iterator[Scanner], order: Order) -> None:
        accession, uid = order.accession, new_uid()
        asked = worklist_keys(accession=accession)
        found = self._insisting("C-FIND", lambda: next(scanners).find(asked))
        if not found:
            self.missing.append(accession)
            return
        start = lambda: next(scanners).mpps_start(found[0], uid=uid, now=NOW) == 0  # noqa: E731
        if self._insisting("MPPS", start):
            self.begun[accession] = uid
        if self._insisting("MPPS", lambda: next(scanners).mpps_complete(uid, now=NOW) == 0):
            self.ended[accession] = uid

    def _look(self) -> None:
        scanners = self._scanners("HA2")
        while not self.stop.is_set():
            self._insisting("C-FIND", lambda: next(scanners).find(worklist_keys()) is not None)
            time.sleep(0.1)

    def _scanners(self, calling: str) -> Iterator[Scanner]:
        return cycle([Scanner(place, calling=calling, deadline_s=4.0) for place in self.dicom])

    def _insisting(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask again until it is given; how long that took at most is kept."""
        began, given = time.monotonic(), None
        while time.monotonic() - began < 30:
            with suppress(OSError, Closed, Unreachable, QueryFailed):
                if given := ask():
                    break
            time.sleep(0.05)
        self.longest[what] = max(self.longest[what], time.monotonic() - began)
        return given


@pytest.fixture(scope="module")
def ris() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    group = Watched()
    try:
        yield group.start()
    finally:
        group.end()


@pytest.fixture(scope="module")
def machines(watched: Watched, ris: Sink) -> Iterator[list[Broker]]:
    config = (
        f"redis: {watched.settings}\ntimezone: Europe/Berlin\n"
        "hl7: {listen: '127.0.0.1:0'}\ndicom: {listen: '127.0.0.1:0'}\n"
        f"ris: [{{name: ris, to: '{ris.address}', ack_timeout_s: 2}}]\n"
    )
    brokers = [Broker(config), Broker(config)]
    try:
        for broker in brokers:
            broker.launch(*ROLES)
        for broker in brokers:
            broker.ready()
        yield brokers
    finally:
        for broker in brokers:
            broker.end()


def test_what_no_replica_has_is_answered_neither_aa_nor_success(
    watched: Watched, machines: list[Broker]
) -> None:
    here = machines[0]
    order, later, uid = new_order(), orm_o01(new_order()), new_uid()
    until(lambda: answered(here, orm_o01(order)) == "AA", "replicas")
    item = only(here, order)
    with watched.alone():
        assert answered(here, later) == ""
        assert here.scanner.mpps_start(item, uid=uid, now=NOW) == 0x0110
        assert here.scanner.find(worklist_keys()), "queries go on"
    until(lambda: answered(here, later) == "AA", "AA to the very same message")
    until(lambda: here.scanner.mpps_start(item, uid=uid, now=NOW) == 0, "Success to the same exam")
    with closing(Store(watched.url)) as store:
        for door in ("orders", "modality"):
            until(lambda door=door: shortfalls(store, door) >= 1, f"the count of {door}")


def shortfalls(store: Store, door: str) -> float:
    """What the processes of a door have counted."""
    published = store.run(metrics.published()).items()
    doors = [taken for name, taken in published if name.startswith(f"{door}:")]
    counted = [each for each in metrics.summed(doors) if each.name == "broker_store_shortfalls"]
    return sum(sample.value for family in counted for sample in family.samples)


def answered(broker: Broker, message: bytes) -> str:
    """The code of the answer, empty where the connection is closed without one."""
    try:
        return send(broker.hl7, message).code
    except (OSError, Closed):
        return ""


def test_a_killed_master_and_killed_doors_lose_nothing_that_was_promised(
    watched: Watched,
    machines: list[Broker],
    ris: Sink,
    record_property: Callable[[str, object], None],
) -> None:
    here, there = machines
    load = Load([here.hl7, there.hl7], [here.dicom, there.dicom])
    with load.running():
        load.more(20, 5)
        watched.signal(watched.master(), signal.SIGKILL)
        load.more(40, 10)
        here.kill("door modality")
        load.more(20, 5)
        there.kill("door orders")
        load.more(20, 5)
    store = Store(watched.url)
    keys = {f"NORTH|{order.accession}" for order in load.accepted}
    lost = keys - set(store.run(reads.orders(sorted(keys))).known.orders)
    assert not lost
    assert not load.missing, "what was answered AA is in the next answer"
    for accession, uid in load.begun.items():
        stored, _ = store.run(reads.mpps(uid))
        assert stored is not None
        assert stored.status == ("COMPLETED" if accession in load.ended else "IN PROGRESS")
    store.close()
    until(lambda: all(told(ris, each) == ["IP", "CM"] for each in load.ended), "IP and CM of each")
    figures = {f"outage {what}": round(seconds, 2) for what, seconds in load.longest.items()}
    figures |= {"orders": len(keys), "lost": len(lost), "exams": len(load.ended)}
    for name, figure in figures.items():
        record_property(name, figure)
    print(figures)
    assert load.longest["C-FIND"] <= OUTAGE_S


def told(ris: Sink, accession: str) -> list[str]:
    """The states that a RIS was told of an order; what came twice counts by its first."""
    first: dict[str, Any] = {}
    for each in list(ris.received):
        if each.field("OBR", 18) == accession:
            former = first.setdefault(each.field("MSH", 10), each)
            assert former.text == each.text
    return [each.field("ORC", 5) for each in first.values()]
