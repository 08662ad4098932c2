"""The round trip as a story in Steps: order, worklist, MPPS, status messages, empty worklist."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broker.hl7.refusal import Refusal
from broker.probe.address import Unreachable
from broker.probe.orders import Envelope, Order, orm_o01
from broker.probe.ris import Received, Sender, Sink, accepted, listening
from broker.probe.scanner import (
    SUCCESS,
    Attributes,
    QueryFailed,
    Scanner,
    Status,
    new_uid,
    worklist_keys,
)
from broker.probe.throwaway import NotReady, Running, log_tail, throwaway_broker

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Shown:
    """What a step has to show: HL7, worklist items, a note; `took_ms` where timed apart."""

    message: str = ""
    items: list[Attributes] | None = None
    note: str = ""
    took_ms: float | None = None


@dataclass(frozen=True)
class Step:
    """One hop of the story; it holds when there is no fault."""

    flow: str
    title: str
    shown: Shown
    took_ms: float
    fault: str = ""

    @property
    def holds(self) -> bool:
        return not self.fault


class Unexpected(Exception):
    """A hop came out other than the story says."""

    def __init__(self, fact: str, shown: Shown | None = None) -> None:
        super().__init__(fact)
        self.shown = shown or Shown()


# What a peer may do to us; anything else is a bug of the demo and keeps its traceback.
_FAULTS = (Unexpected, Unreachable, QueryFailed, NotReady, Refusal, TimeoutError)


def play(clock: Clock, *, deadline_s: float = 10.0) -> Generator[Step, None, None]:
    """The whole story against a throw-away broker; ends after the first step that does not hold."""
    with ExitStack() as stack:
        sink = stack.enter_context(listening())
        running: list[Running] = []

        def start() -> Shown:
            running.append(stack.enter_context(throwaway_broker(sink.address)))
            return Shown(note=f"HL7 {running[0].hl7}, DICOM {running[0].dicom}")

        step = _step("broker", "A throw-away broker starts", start)
        yield step
        if step.holds:
            for hop in round_trip(running[0], sink, clock, deadline_s=deadline_s):
                yield hop if hop.holds else _with_log(hop, running[0])


def _with_log(step: Step, broker: Running) -> Step:
    """A step that failed, with what the broker said last: its folder is about to go."""
    tail = log_tail(broker.log)
    return replace(step, fault=f"{step.fault}\nThe broker's log ends:\n{tail}") if tail else step


def round_trip(
    broker: Running, sink: Sink, clock: Clock, *, deadline_s: float = 10.0
) -> Iterator[Step]:
    """The story against a running broker whose RIS is `sink`; ends after the first fault.

    `clock` gives the site's local time.
    """
    scanner = Scanner(broker.dicom, calling="CT1", deadline_s=deadline_s)
    order = Order(start=clock() + timedelta(minutes=15))
    trip = _RoundTrip(broker, sink, scanner, order, clock, deadline_s)
    for flow, title, hop in trip.hops():
        step = _step(flow, title, hop)
        yield step
        if not step.holds:
            return


def _step(flow: str, title: str, hop: Callable[[], Shown]) -> Step:
    began = time.monotonic()
    fault = ""
    try:
        shown = hop()
    except _FAULTS as error:
        shown = getattr(error, "shown", Shown())
        fault = str(error)
    took_ms = (time.monotonic() - began) * 1000 if shown.took_ms is None else shown.took_ms
    return Step(flow, title, shown, took_ms, fault)


@dataclass
class _RoundTrip:
    broker: Running
    sink: Sink
    scanner: Scanner
    order: Order
    clock: Clock
    deadline_s: float
    uid: str = field(default_factory=new_uid)
    item: Attributes = field(default_factory=dict)
    reported_s: float = 0.0

    def hops(self) -> Iterator[tuple[str, str, Callable[[], Shown]]]:
        yield "RIS → broker", "The RIS orders a CT", self.tell_order
        yield "broker → RIS", "The broker keeps it and says so", self.send_order
        yield "scanner → broker", "The scanner asks for today's list", self.ask
        yield "scanner → broker", "The scanner begins (MPPS N-CREATE)", self.begin
        yield "broker → RIS", "The RIS hears: in progress", lambda: self.hear(1, "IP")
        yield "scanner → broker", "The scanner is done (MPPS N-SET)", self.complete
        yield "broker → RIS", "The RIS hears: completed", lambda: self.hear(2, "CM")
        yield "scanner → broker", "The scanner asks again: nothing left to do", self.ask_again

    def tell_order(self) -> Shown:
        return Shown(message=self._order_message().decode(), took_ms=0.0)

    def send_order(self) -> Shown:
        with Sender(self.broker.hl7, deadline_s=self.deadline_s) as sender:
            began = time.monotonic()
            answer = sender.send(self._order_message())[-1]
            took_ms = (time.monotonic() - began) * 1000
        text = f"MSA|{answer.code}|{answer.control_id}" + (f"|{answer.text}" if answer.text else "")
        shown = Shown(message=text, took_ms=took_ms)
        if not accepted(answer):
            raise Unexpected(f"the order was answered {answer.code}, not AA", shown)
        return shown

    def ask(self) -> Shown:
        items = self.scanner.find(self._todays_list())
        shown = Shown(items=items, note="a new association included")
        if [item.get("AccessionNumber") for item in items] != [self.order.accession]:
            raise Unexpected(f"the list has {len(items)} lines, not just the order", shown)
        if items[0].get("PatientName") != self.order.patient.name:
            raise Unexpected("the patient's name on the list is not that of the order", shown)
        self.item = items[0]
        return shown

    def begin(self) -> Shown:
        self.reported_s = time.monotonic()
        status = self.scanner.mpps_start(self.item, uid=self.uid, now=self.clock())
        return _success(status, f"IN PROGRESS, {self.uid}")

    def complete(self) -> Shown:
        self.reported_s = time.monotonic()
        return _success(self.scanner.mpps_complete(self.uid, now=self.clock()), "COMPLETED")

    def hear(self, count: int, order_status: str) -> Shown:
        """Wait for the status message; timed from the scanner's request to its arrival."""
        message = self.sink.wait_for(count, deadline_s=self.deadline_s)[count - 1]
        took_ms = (message.monotonic_s - self.reported_s) * 1000
        shown = Shown(
            message=message.text, took_ms=took_ms, note="from the scanner's request to the RIS"
        )
        said = (message.field("ORC", 1), message.field("ORC", 5), _filler(message))
        if said != ("SC", order_status, self.order.filler):
            raise Unexpected(f"ORC-1, -5 and -3 are {said}, not SC and {order_status}", shown)
        return shown

    def ask_again(self) -> Shown:
        shown = Shown(items=self.scanner.find(self._todays_list()))
        if shown.items:
            raise Unexpected("the finished step is still on the list", shown)
        return shown

    def _order_message(self) -> bytes:
        return orm_o01(self.order, envelope=Envelope(control_id="DEMO000001", sent=self.clock()))

    def _todays_list(self) -> Attributes:
        return worklist_keys(modality="CT", date=f"{self.order.start:%Y%m%d}")


def _filler(message: Received) -> str:
    return message.field("ORC", 3).split("^")[0]


def _success(status: Status, note: str) -> Shown:
    shown = Shown(note=f"{note}: status {status}")
    if status != SUCCESS:
        raise Unexpected(f"the broker answered {status}, not 0x0000", shown)
    return shown
