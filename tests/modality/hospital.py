"""A hospital in this process: orders come in, scanners report over the wire, and what is queued.

One Redis, an intake, and DICOM doors that share nothing but that Redis, as processes do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from broker.dicom.dimse import decode_command
from broker.dicom.encoding import encode
from broker.dicom.negotiation import IMPLICIT_LITTLE
from broker.modality.door import handlers, overdue_of, recording_of
from broker.modality.metrics import ModalityMetrics
from broker.modality.server import Limits, Server
from broker.orders.door import intake_of
from broker.orders.metrics import OrdersMetrics
from broker.probe.datasets import Attributes, to_dataset, to_values
from broker.probe.orders import Envelope, Order, Patient, Step, omi_o23, orm_o01
from broker.probe.questions import ended_step, started_step, worklist_keys
from broker.probe.stilled import stilled
from broker.rollout.current import Current
from broker.rollout.deploying import deploy_bundle
from broker.settings import Settings
from broker.store import keys, outbox, reads
from broker.store.executors import AsyncStore, Store
from broker.store.outbox import Event
from broker.worklist.mpps import Performed
from broker.worklist.records import Order as Stored
from tests.dicom.requestor import BOTH, associate_rq, p_data, titled
from tests.modality.door import receive, serving_loop

T = TypeVar("T")
MPPS = "1.2.840.10008.3.1.2.3.3"
RETRIEVE = "1.2.840.10008.3.1.2.3.4"
WORKLIST = "1.2.840.10008.5.1.4.31"
STEPS = "ScheduledProcedureStepSequence"
ITEMS = "ScheduledStepAttributesSequence"
STATUS = "PerformedProcedureStepStatus"
SERIES = "PerformedSeriesSequence"
REASON = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 16, 9, 35, 12, tzinfo=ZONE)
_NUMBERS = count(1)


def new_order(*steps: Step, patient: Patient | None = None, **facts: Any) -> Order:
    """An order whose every number is its own."""
    n = next(_NUMBERS)
    order = Order(
        patient=patient or Patient(f"PAT{n}", f"DOE{n}^JANE"),
        accession=f"A{n}",
        procedure_id=f"RP{n}",
        study_uid=f"1.2.276.0.76.999.7.{n}",
        placer=f"PL{n}",
        filler=f"FL{n}",
        visit=f"V{n}",
        steps=steps or (Step(step_id=f"S{n}"),),
    )
    return replace(order, **facts)


def new_uid() -> str:
    """A SOP Instance UID that nobody has."""
    return f"1.2.276.0.76.999.8.{next(_NUMBERS)}"


@dataclass(frozen=True)
class Told:
    """The answer to an MPPS request, as pynetdicom has read it."""

    status: int
    comment: str
    error_id: int | None
    attributes: tuple[str, ...]
    data: Attributes

    @classmethod
    def of(cls, response: Dataset, data: Dataset | None) -> Told:
        listed = response.get("AttributeIdentifierList") or []
        tags = listed if isinstance(listed, list) or hasattr(listed, "__iter__") else [listed]
        return cls(
            int(response.Status),
            str(response.get("ErrorComment", "") or ""),
            response.get("ErrorID", None),
            tuple(keyword(tag) for tag in tags),
            to_values(data) if data is not None else {},
        )


def keyword(tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


@dataclass
class Modality:
    """A scanner with an association that it keeps."""

    title: str
    association: Association

    def create(self, uid: str | None, said: Attributes | Dataset) -> Told:
        data = said if isinstance(said, Dataset) else to_dataset(said)
        return Told.of(*self.association.send_n_create(data, MPPS, uid))

    def set(self, uid: str, said: Attributes | Dataset) -> Told:
        data = said if isinstance(said, Dataset) else to_dataset(said)
        return Told.of(*self.association.send_n_set(data, MPPS, uid))

    def get(self, uid: str, *tags: int) -> Told:
        return Told.of(*self.association.send_n_get(list(tags), RETRIEVE, uid))

    def list(self, accession: str) -> list[Attributes]:
        """The worklist entries under an accession number."""
        asked = to_dataset(worklist_keys(accession=accession))
        answers = self.association.send_c_find(asked, WORKLIST)
        return [to_values(item) for _, item in list(answers) if item is not None]


@dataclass
class Hospital:
    """Doors, store and scanners; `now` is our clock."""

    url: str
    loop: asyncio.AbstractEventLoop
    now: datetime = NOW
    ports: list[int] = field(default_factory=list)
    _servers: list[Server] = field(default_factory=list)
    _stores: list[AsyncStore] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls, url: str, mappings: Path, **settings: Any) -> Iterator[Hospital]:
        """Two DICOM doors; CT1-S is held to the letter. `mappings` are all that is loaded."""
        with serving_loop() as loop, closing(Store(url)) as store:
            hospital = cls(url, loop)
            hospital.store = store
            hospital.run(hospital._open({"mappings": str(mappings), **settings}))
            yield hospital
            hospital.run(hospital._close())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(60)

    async def _open(self, said: dict[str, Any]) -> None:
        settings = Settings.model_validate(
            {
                "redis": {"mode": "url", "url": self.url},
                "timezone": "Europe/Berlin",
                "ris": [{"name": "ris", "to": "127.0.0.1:1"}],
                "dicom": {
                    "aes": [
                        {"title": "CT1-S", "mpps": "strict"},
                        {"title": "PET1", "started_elsewhere": "show"},
                    ]
                },
                **said,
            }
        )
        deploying = partial(
            deploy_bundle, self.store, settings, by="test", at=self.now.timestamp(), always=False
        )
        await asyncio.to_thread(deploying)
        self._stores += [AsyncStore(self.url) for _ in range(2)]
        current = await Current.opened(self._stores[0], settings)
        for store in self._stores:
            metrics = ModalityMetrics()
            recording = recording_of(settings, store, current, clock=lambda: self.now)
            self.recording = recording
            self.overdue = overdue_of(settings, store, recording, metrics)
            serving = handlers(settings, store, recording, metrics)
            server = Server(serving, None, Limits(), lambda *_: None)
            _, port = await server.start("127.0.0.1", 0)
            self.ports.append(port)
            self._servers.append(server)
            self.metrics = metrics
        self._intake = intake_of(settings, self._stores[0], current, OrdersMetrics())

    async def _close(self) -> None:
        for server, store in zip(self._servers, self._stores, strict=True):
            await server.stop(0.5)
            await store.close()
        await self.loop.shutdown_default_executor()  # or closing the loop waits for its thread

    def says(self, message: bytes) -> None:
        """A message of the RIS, which is accepted."""
        [answer] = self.run(self._intake.accept(message)) or [b""]
        assert b"\rMSA|AA|" in answer, answer

    def ordered(self, *steps: Step, **facts: Any) -> Order:
        """A new order of these steps, which is accepted."""
        order = new_order(*steps, **facts)
        self.orders(order)
        return order

    def orders(self, *orders: Order, control: str = "NW", at: timedelta = timedelta()) -> None:
        """Place or change orders; `at` is how much later."""
        make = omi_o23 if len(orders[0].steps) > 1 else orm_o01
        version = "2.5.1" if make is omi_o23 else "2.3.1"
        sent = Envelope().sent + at
        for order in orders:
            self.says(make(order, control=control, envelope=Envelope(version=version, sent=sent)))

    @contextmanager
    def scanner(self, title: str = "CT1", door: int = 0) -> Iterator[Modality]:
        ae = AE(title)
        for uid in (MPPS, RETRIEVE, WORKLIST):
            ae.add_requested_context(uid)
        association = stilled(ae.associate("127.0.0.1", self.ports[door]))
        assert association.is_established
        try:
            yield Modality(title, association)
        finally:
            if association.is_established:
                association.release()
            ae.shutdown()

    def begins(self, scanner: Modality, order: Order, uid: str | None = None, **said: Any) -> str:
        """N-CREATE of the first entry of an order, which is accepted; gives the UID."""
        uid = uid or new_uid()
        told = scanner.create(uid, {**self.start(scanner, order), **said})
        assert told.status == 0x0000, told
        return uid

    def start(self, scanner: Modality, order: Order, at: int = 0) -> Attributes:
        """What a scanner says that begins the exam of an order."""
        item = scanner.list(order.accession)[at]
        return started_step(item, station_ae=scanner.title, now=self.now)

    def ended(self, uid: str, status: str = "COMPLETED", reason: str = "") -> Attributes:
        """What a scanner says that ends an exam."""
        ended = ended_step(status, uid=uid, now=self.now + timedelta(minutes=10))
        if reason:
            meaning = {"110514": "Incorrect worklist entry selected"}.get(reason, "Discontinued")
            code = {"CodeValue": reason, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning}
            ended[REASON] = [code]
        return ended

    def queued(self, order: Order) -> list[Event]:
        """What waits for the RIS about an order."""
        return self.store.run(outbox.events("ris", f"{order.patient.issuer}|{order.accession}"))

    def waiting(self) -> int:
        """Of how many orders something waits for the RIS."""
        return self.store.run(outbox.pending("ris"))

    def states(self, order: Order) -> list[str]:
        """ORC-5 of the queued messages."""
        return [hl7(event, "ORC", 5) for event in self.queued(order)]

    def stored(self, order: Order) -> Stored:
        [found] = self.store.run(
            reads.orders([f"{order.patient.issuer}|{order.accession}"])
        ).known.orders.values()
        return found

    def statuses(self, order: Order) -> list[str]:
        """The statuses of an order's steps."""
        return [step.status.value for _, step in self.stored(order).steps()]

    def performed(self, uid: str) -> Performed | None:
        return self.store.run(reads.mpps(uid))[0]

    def forget(self, uid: str) -> None:
        """What retention does when its time is over."""
        self.store.redis.delete(keys.mpps(uid), keys.mpps_received(uid))


def bare_create(port: int, calling: str, uid: str, said: Attributes) -> dict[int, bytes]:
    """N-CREATE as no library would send it; the elements of the answer's command set.

    Without anything said there is no data set.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        title = calling.ljust(16).encode()
        peer.sendall(
            titled(associate_rq([(MPPS, BOTH)]), called=b"BROKER".ljust(16), calling=title)
        )
        receive(peer, 2)
        raw = uid.encode() + b"\0" * (len(uid) % 2)
        elements = (
            (0x0002, MPPS.encode() + b"\0" * (len(MPPS) % 2)),
            (0x0100, struct.pack("<H", 0x0140)),
            (0x0110, struct.pack("<H", 1)),
            (0x0800, struct.pack("<H", 1 if said else 0x0101)),
            (0x1000, raw),
        )
        body = b"".join(struct.pack("<HHI", 0, at, len(v)) + v for at, v in elements if v)
        whole = struct.pack("<HHII", 0, 0, 4, len(body)) + body
        peer.sendall(p_data(1, whole, is_command=True))
        if said:
            peer.sendall(p_data(1, encode(said, IMPLICIT_LITTLE), is_command=False))
        return decode_command(receive(peer, 4)[6:])


def number(elements: dict[int, bytes], at: int) -> int:
    """A US element of a command set."""
    return int.from_bytes(elements[at], "little")


def hl7(event: Event, segment: str, number: int) -> str:
    """One field of a queued message."""
    for line in event.payload.decode().split("\r"):
        fields = line.split("|")
        if fields[0] == segment and len(fields) > number:
            return fields[number]
    return ""


def without(said: Attributes, *keywords: str) -> Attributes:
    """What a scanner says, less some of it."""
    return {k: v for k, v in said.items() if k not in keywords}
