"""The self-test: an order of our own through all doors, over the wire as everybody's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from broker.hl7.refusal import Refusal
from broker.probe.address import Address, Unreachable
from broker.probe.orders import Envelope, Order, Patient, Step, orm_o01
from broker.probe.ris import Sender, Sink, accepted
from broker.probe.scanner import SUCCESS, Attributes, QueryFailed, Scanner, new_uid, worklist_keys
from broker.probe.secure import Secure
from broker.settings import Settings
from broker.store import outbox, reads, selftest
from broker.store.executors import Store, StoreUnavailable
from broker.store.selftest import Hop, Result, Traces
from broker.tls.credentials import Unusable, client_context
from broker.worklist import canary
from broker.worklist.finding import Identifier

LOOK_S = 0.02
STATUS_MESSAGES = 2
"""IP and CM."""
NO_RIS = "no RIS is told of anything"
NOT_RUN = "nobody sends to the self-test: say selftest.every, and start the broker anew"
NO_TLS = "no listener without TLS: say selftest.tls, with the ca of its certificate"


class Faulty(Exception):
    """A hop came out other than it shall; says what, and what to do."""


class Busy(Exception):
    """Another self-test runs."""


_FAULTS = (Faulty, Unreachable, Unusable, QueryFailed, Refusal, OSError, StoreUnavailable)
"""What a broker that is ill may do to us; anything else is a bug."""


def run(settings: Settings, store: Store, clock: Callable[[], datetime]) -> Result:
    """Send the order all the way, remove it, and keep what was found. `clock` is in site time.

    What a run that died has left is removed first. Raises Busy, StoreUnavailable.
    """
    if not store.run(selftest.begin(uuid4().hex)):
        raise Busy
    try:
        if before := store.run(selftest.left()):
            selftest.removed(store, before, clock())
        result = _result(settings, store, clock)
        store.run(selftest.keep(result))
    finally:
        store.run(selftest.end())
    return result


def _result(settings: Settings, store: Store, clock: Callable[[], datetime]) -> Result:
    at = clock().timestamp()
    trip = _Trip(settings, store, clock)
    store.run(selftest.leave(trip.traces))
    hops: list[Hop] = []
    try:
        with closing(trip):
            for name, hop in trip.hops():
                hops.append(_timed(name, hop))
                if hops[-1].fault:
                    break
    finally:
        hops.append(_timed("removed", lambda: _remove(store, trip.traces, clock())))
    found = Result(at, tuple(hops))
    before = store.run(selftest.last())
    last_ok = at if found.ok else before.last_ok if before else 0.0
    return Result(at, found.hops, last_ok)


def _remove(store: Store, traces: Traces, now: datetime) -> str:
    if not selftest.removed(store, traces, now):
        raise Faulty("its records kept changing; the next run removes them")
    return ""


def _timed(name: str, hop: Callable[[], str]) -> Hop:
    """Try one hop; what it returns says why it was not tried."""
    began, fault, skipped = time.monotonic(), "", ""
    try:
        skipped = hop()
    except _FAULTS as trouble:
        fault = f"{trouble}" or type(trouble).__name__
    return Hop(name, round((time.monotonic() - began) * 1000, 1), fault, skipped)


@dataclass
class _Trip:
    settings: Settings
    store: Store
    clock: Callable[[], datetime]
    number: str = field(default_factory=lambda: canary.MARK + uuid4().hex[:4].upper())
    uid: str = field(default_factory=new_uid)
    sink: Sink = field(default_factory=Sink)
    listens: bool = False
    item: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = self.clock()
        application, _, facility = self.settings.selftest.sender.partition("|")
        order = Order(
            patient=Patient(self.number, "CANARY^BROKER", issuer=canary.MARK),
            accession=self.number,
            procedure_id=self.number,
            study_uid=new_uid(),
            placer=self.number,
            filler=self.number,
            visit=self.number,
            start=now,
            steps=(Step(step_id=self.number, station_ae=canary.AE, station_name=canary.AE),),
        )
        envelope = Envelope(self.number, application, facility, sent=now)
        self.message = orm_o01(order, envelope=envelope)
        began_ms = int(now.timestamp() * 1000)
        self.traces = selftest.traces_of(self.number, self.uid, self.message, began_ms=began_ms)
        self._deadline_s = self.settings.selftest.deadline.total_seconds()

    def hops(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "orders", self.send
        yield "store", self.look_up
        yield "modality", self.ask
        yield "begin", self.begin
        yield "complete", self.complete
        yield "updates", self.hear

    def close(self) -> None:
        if self.listens:
            self.sink.stop()

    def send(self) -> str:
        listeners = self.settings.hl7.listeners
        plain = [each.listen for each in listeners if not each.tls]
        to = self.settings.selftest.orders or (*plain, listeners[0].listen)[0]
        secure = None if plain else self._secure()
        with Sender(_here(to), deadline_s=self._deadline_s, secure=secure) as sender:
            answer = sender.send(self.message)[-1]
        if not accepted(answer):
            remedy = "see `broker log`; selftest.sender says as whom it is sent"
            raise Faulty(f"the order was answered {answer.code}: {answer.text}; {remedy}")
        return ""

    def look_up(self) -> str:
        read = self.store.run(reads.orders_by([Identifier("accession", self.number)]))
        if not read.known.orders:
            remedy = "does the mapping of selftest.sender make another of it, or hold it?"
            raise Faulty(f"no order has its accession number; {remedy}")
        return ""

    def ask(self) -> str:
        items = self._scanner().find(worklist_keys(accession=self.number))
        if len(items) != 1:
            raise Faulty(f"the list has {len(items)} lines, not one; see `broker why`")
        self.item = items[0]
        return ""

    def begin(self) -> str:
        if self.settings.ris and self.settings.selftest.every:
            self.sink.start(*self.settings.selftest.sink)
            self.listens = True
        scanner = self._scanner()
        _good(scanner.mpps_start(self.item, uid=self.uid, now=self.clock()))
        return ""

    def complete(self) -> str:
        _good(self._scanner().mpps_complete(self.uid, now=self.clock()))
        return ""

    def hear(self) -> str:
        if not self.listens:
            return NOT_RUN if self.settings.ris else NO_RIS
        deadline_s = self._deadline_s
        messages = self.sink.wait_for(STATUS_MESSAGES, deadline_s=deadline_s)
        if any(self.number not in each.text for each in messages):
            raise Faulty("a message of another order arrived; is selftest.sink somebody's port?")
        until = time.monotonic() + deadline_s
        while self.store.run(outbox.pending(canary.DESTINATION)):
            if time.monotonic() > until:
                raise Faulty("the acknowledgement was not taken; see the log of the updates door")
            time.sleep(LOOK_S)
        return ""

    def _scanner(self) -> Scanner:
        dicom = self.settings.dicom
        secure = None if dicom.plain else self._secure()
        own = dicom.tls.listen if dicom.tls and secure else dicom.listen
        to = self.settings.selftest.modality or own
        return Scanner(
            _here(to), dicom.ae_title, canary.AE, deadline_s=self._deadline_s, secure=secure
        )

    def _secure(self) -> Secure:
        """How we speak to who speaks nothing but TLS. Raises Faulty, Unusable."""
        if (tls := self.settings.selftest.tls) is None:
            raise Faulty(NO_TLS)
        return Secure(client_context(tls), tls.server_name)


def _good(status: int) -> None:
    if status != SUCCESS:
        raise Faulty(f"the broker answered {status}; see the log of the modality door")


def _here(address: tuple[str, int]) -> Address:
    """Where to call what listens everywhere."""
    host, port = address
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - never bound
