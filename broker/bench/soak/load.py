"""Senders, scanners and exams at their pace, a thread each: what comes late counts as it is late.

A latency begins when a message was due, not when a busy client got round to it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from broker.bench.dicom import Association, leaf
from broker.bench.entries import asked, question
from broker.bench.exams import Exams
from broker.bench.mllp import ACCEPTED, PATIENCE_S, Conversation
from broker.bench.soak import ledger, messages
from broker.bench.soak.ledger import Ledger
from broker.bench.soak.lists import Lists
from broker.bench.soak.plan import (
    EXAM_AFTER_S,
    EXAM_S,
    SCANNERS,
    SENDERS,
    Fate,
    Kind,
    Message,
    Place,
    Plan,
)

ACCESSION, NAME = 0x0008_0050, 0x0010_0010
TRIES = 5
AGAIN_S = 0.5
LOOK_S = 0.002
CALLING = "SOAKLOOK"

Address = tuple[str, int]


class Closable(Protocol):
    """What has a connection to close."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Closable)


@dataclass
class Load:
    """What is sent to a broker from `began` to `ends` (monotonic s), and what came of it.

    `told` has for each exam's status when the scanner had its Success: the RIS may know from then.
    `renamed` has the orders whose patient an ADT has renamed.
    """

    plan: Plan
    hl7: Address
    dicom: Address
    began: float
    ends: float
    ledger: Ledger = field(default_factory=Ledger)
    lists: Lists = field(default_factory=Lists)
    told: dict[tuple[int, str], float] = field(default_factory=dict)
    renamed: set[int] = field(default_factory=set)
    _seen: SimpleQueue[tuple[Message, float] | None] = field(default_factory=SimpleQueue)
    _begun: SimpleQueue[tuple[int, float] | None] = field(default_factory=SimpleQueue)

    def start(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Start all threads; each ends by itself."""
        senders = [pool.submit(self._send, number) for number in range(SENDERS)]
        scanners = [pool.submit(self._poll, number) for number in range(SCANNERS)]
        others = (self._look_up, self._begin_exams, self._end_exams)
        return [*senders, *scanners, *map(pool.submit, others)]

    def ask(self, association: Association, place: Place) -> dict[int, str]:
        """What a list holds: the patient's name by number of the order."""
        return _found(association, question(place.day, place.station))

    # --- orders

    def _send(self, number: int) -> None:
        with closing(_Sender(self.hl7)) as sender:
            for tick, due in self._ticks(self.plan.orders):
                message = self.plan.message(tick)
                if message is not None and message.number % SENDERS == number:
                    _sleep_until(due)
                    self._say(sender, message, tick, due)
        self._seen.put(None)

    def _say(self, sender: _Sender, message: Message, tick: int, due: float) -> None:
        frame = messages.frame(message, tick, sent=datetime.now().astimezone())
        self._before(message)
        for attempt in range(TRIES):
            try:
                answer = sender.said(frame)
            except OSError as lost:
                self.ledger.wrong(ledger.MLLP, f"{type(lost).__name__}: {lost}")
                time.sleep(AGAIN_S * attempt)
                continue
            now = time.monotonic()
            self.ledger.took(ledger.MLLP, now - due)
            if ACCEPTED in answer:
                self._after(message, now)
            else:
                said = answer.partition(b"\rMSA|")[2][:200].decode(errors="replace")
                self.ledger.wrong(ledger.MLLP, f"{message.kind} {message.number}: {said}")
            return

    def _before(self, message: Message) -> None:
        """Note what is about to be sent, and which list it takes an order off."""
        if message.kind is Kind.NEW or message.fate is Fate.MOVED:
            self.lists.coming(message.place, message.number)
        if old := self._taken_off(message):
            self.lists.leaving(old, message.number, time.monotonic())

    def _after(self, message: Message, at: float) -> None:
        """Note what was acknowledged."""
        if message.kind is Kind.NEW or message.fate is Fate.MOVED:
            self.lists.taken(message.place, message.number, at)
        if old := self._taken_off(message):
            self.lists.left(old, message.number, at)
        if message.kind is Kind.PATIENT:
            self.renamed.add(message.number)
        if message.fate is Fate.LEFT:
            self._seen.put((message, at))

    def _taken_off(self, message: Message) -> Place | None:
        """The list on which the order of a message is no more after it."""
        if message.kind is Kind.CANCEL or (
            message.kind is Kind.UPDATE and message.fate is Fate.MOVED
        ):
            return self.plan.polled_of(message.number)
        return None

    # --- lists

    def _poll(self, number: int) -> None:
        """Ask for one list; every second scanner keeps its association."""
        place = self.plan.polled(number)
        hop = ledger.FRESH if number % 2 else ledger.STANDING
        with closing(self._asking(place.station)) as kept:
            for tick, due in self._ticks(self.plan.polls):
                if tick % SCANNERS != number:
                    continue
                _sleep_until(due)
                began = time.monotonic()
                try:
                    found = self.ask(kept.open(), place)
                except OSError as lost:
                    self.ledger.wrong(hop, f"{type(lost).__name__}: {lost}")
                    kept.close()
                    continue
                now = time.monotonic()
                self.ledger.took(hop, now - due)
                for words in self.lists.wrong(place, found, asked=began, answered=now):
                    self.ledger.wrong(hop, words)
                if hop == ledger.FRESH:
                    with suppress(OSError):  # it has its answer
                        kept.open().release()
                    kept.close()

    def _asking(self, calling: str) -> _Kept[Association]:
        return _Kept(lambda: Association(self.dicom, calling=calling))

    def _look_up(self) -> None:
        """Ask for an order by its accession number as soon as it is acknowledged."""
        with closing(self._asking(CALLING)) as kept:
            for message, taken in self._until_senders_end():
                identifier = asked({"AccessionNumber": f"ACC{message.number}"})
                try:
                    found = _found(kept.open(), identifier)
                except OSError as lost:
                    self.ledger.wrong(ledger.SEEN, f"{type(lost).__name__}: {lost}")
                    kept.close()
                    continue
                if list(found) == [message.number]:
                    self.ledger.took(ledger.SEEN, time.monotonic() - taken)
                else:
                    self.ledger.wrong(ledger.SEEN, f"order {message.number} is not found")

    def _until_senders_end(self) -> Iterator[tuple[Message, float]]:
        working = SENDERS
        while working:
            if (seen := self._seen.get()) is None:
                working -= 1
            else:
                yield seen

    # --- exams

    def _begin_exams(self) -> None:
        with closing(_Kept(lambda: Exams(self.dicom))) as reporter:
            for place, due in self._ticks(self.plan.mpps, EXAM_AFTER_S):
                number = self.plan.exam(place)
                _sleep_until(due)
                if self._is_taken(number):
                    self.lists.leaving(self.plan.polled_of(number), number, time.monotonic())
                    status = self._report(ledger.CREATE, reporter, number, due)
                    if status == 0:
                        self.lists.left(self.plan.polled_of(number), number, time.monotonic())
                        self._begun.put((number, due + EXAM_S))
        self._begun.put(None)

    def _end_exams(self) -> None:
        with closing(_Kept(lambda: Exams(self.dicom))) as reporter:
            while (begun := self._begun.get()) is not None:
                number, due = begun
                _sleep_until(due)
                self._report(ledger.SET, reporter, number, due)

    def _is_taken(self, number: int) -> bool:
        """Wait till an order is acknowledged; what never is has been counted where it was sent."""
        place, end = self.plan.polled_of(number), time.monotonic() + PATIENCE_S
        while self.lists.stay(place, number).taken is None:
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_S)
        return True

    def _report(self, hop: str, reporter: _Kept[Exams], number: int, due: float) -> int:
        state = "IP" if hop == ledger.CREATE else "CM"
        try:
            exams = reporter.open()
            status = exams.begin(number) if hop == ledger.CREATE else exams.end(number)
        except OSError as lost:
            self.ledger.wrong(hop, f"{type(lost).__name__}: {lost}")
            reporter.close()
            return -1
        now = time.monotonic()
        self.ledger.took(hop, now - due)
        if status:
            self.ledger.wrong(hop, f"exam {number} ended with status {status:#06x}")
        else:
            self.told[number, state] = now
        return status

    def _ticks(self, per_s: int, after_s: float = 0.0) -> Iterator[tuple[int, float]]:
        for tick in count():
            due = self.began + after_s + tick / per_s
            if due >= self.ends:
                return
            yield tick, due


def _found(association: Association, identifier: bytes) -> dict[int, str]:
    """Names by number; what is no order of ours has number 0."""
    found = {}
    for data in association.answers(identifier):
        digits = leaf(data, ACCESSION).removeprefix(b"ACC")
        found[int(digits) if digits.isdigit() else 0] = leaf(data, NAME).decode()
    return found


def _sleep_until(due: float) -> None:
    left = due - time.monotonic()
    if left > 0:
        time.sleep(left)


class _Sender:
    """One MLLP connection, opened when something is said and again when it is lost."""

    def __init__(self, address: Address) -> None:
        self._kept = _Kept(lambda: _connected(address))

    def said(self, frame: bytes) -> bytes:
        """Send, and give the answer. Raises OSError; then the next one goes over another."""
        conversation = self._kept.open()
        try:
            conversation.send(frame)
            while not conversation.answered():
                pass
        except OSError:
            self._kept.close()
            raise
        return bytes(conversation.answer)

    def close(self) -> None:
        """Close the connection."""
        self._kept.close()


class _Kept(Generic[C]):
    """A connection that is opened when it is needed, and again after it was closed."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._open: C | None = None

    def open(self) -> C:
        """The connection. Raises OSError where it cannot be opened."""
        if self._open is None:
            self._open = self._connect()
        return self._open

    def close(self) -> None:
        """Close it, if it is open."""
        if self._open is not None:
            self._open.close()
        self._open = None


def _connected(address: Address) -> Conversation:
    peer = socket.create_connection(address, PATIENCE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Conversation(peer)
