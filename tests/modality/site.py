"""A site in this process: a worklist that is planned, and scanners that ask over the wire."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association as Requestor
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from broker.modality.door import admission, limits, questions
from broker.modality.metrics import ModalityMetrics
from broker.modality.server import Server
from broker.probe.datasets import to_dataset, to_values
from broker.probe.stilled import stilled
from broker.settings import Settings
from broker.store.executors import AsyncStore, Store
from broker.store.server import EmbeddedServer, find_server
from broker.tls.handshakes import Contexts
from broker.worklist.records import Facts, Order, Patient, Procedure, Step
from tests.dicom.requestor import VERIFICATION, WORKLIST, associate_rq, find_rq, titled
from tests.modality.door import receive, serving_loop
from tests.store.writing import create

STEPS = "ScheduledProcedureStepSequence"
AET = "ScheduledStationAETitle"
DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)


@dataclass(frozen=True)
class Reply:
    """What came back: the status of every response, every answer, and the last command set."""

    statuses: tuple[int, ...]
    answers: list[Dataset]
    final: Dataset

    @property
    def status(self) -> int:
        return self.statuses[-1]

    @property
    def items(self) -> list[dict[str, Any]]:
        """The answers as plain values; (0008,0005) included."""
        return [to_values(answer) for answer in self.answers]

    def values(self, keyword: str) -> list[Any]:
        """What each answer says, on the item or on its step."""
        return [
            item[keyword] if keyword in item else item[STEPS][0][keyword] for item in self.items
        ]

    @property
    def accessions(self) -> str:
        """The accession numbers in their order."""
        return " ".join(self.values("AccessionNumber"))


@dataclass
class Site:
    """A running door and how to ask it; `scanners` are kept associations by their name."""

    port: int
    store: Store
    redis: EmbeddedServer
    metrics: ModalityMetrics
    server: Server
    scanners: dict[Any, Requestor] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """How many sockets the door holds open."""
        return len(self.server._reception.connections)

    @property
    def established(self) -> list[Requestor]:
        """The kept associations that stand."""
        return [one for one in self.scanners.values() if one.is_established]

    def scanner(
        self,
        calling: str = "CT1",
        *,
        called: str = "BROKER",
        extended: bytes | None = None,
        syntax: str = IMPLICIT,
        kept: bool = True,
    ) -> Requestor:
        """A pynetdicom SCU with an association, the same one for the same words."""
        name = (calling, called, extended, syntax)
        known = self.scanners.get(name)
        if kept and known is not None and known.is_established:
            return known
        ae = AE(calling)
        ae.requested_contexts = [build_context(uid, [syntax]) for uid in (VERIFICATION, WORKLIST)]
        negotiated = []
        if extended is not None:
            item = SOPClassExtendedNegotiation()
            item.sop_class_uid = WORKLIST
            item.service_class_application_information = extended
            negotiated.append(item)
        association = ae.associate("127.0.0.1", self.port, ae_title=called, ext_neg=negotiated)
        if kept:
            self.scanners[name] = association
        return stilled(association)

    def ask(self, keys: dict[str, Any] | Dataset, calling: str = "CT1", **how: Any) -> Reply:
        """One C-FIND; the identifier as plain values, or as a data set."""
        association = self.scanner(calling, **how)
        assert association.is_established
        identifier = keys if isinstance(keys, Dataset) else to_dataset(keys)
        statuses, answers, last = [], [], Dataset()
        for last, answer in association.send_c_find(identifier, WORKLIST):
            assert "Status" in last, "no answer, or an abort"
            statuses.append(int(last.Status))
            if answer is not None:
                answers.append(answer)
        if association not in self.scanners.values():
            association.release()
        return Reply(tuple(statuses), answers, last)

    def raw(
        self, *identifiers: bytes, calling: bytes = b"CT1", syntax: str = IMPLICIT
    ) -> list[Raw]:
        """Ask with identifiers as bytes, one after the other on one association."""
        request = titled(
            associate_rq([(VERIFICATION, [syntax]), (WORKLIST, [syntax])], max_pdu=0),
            called=b"BROKER".ljust(16),
            calling=calling.ljust(16),
        )
        replies = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as peer:
            peer.sendall(request)
            receive(peer, 2)
            for number, identifier in enumerate(identifiers, 1):
                peer.sendall(find_rq(number, identifier=identifier))
                replies.append(_responses(peer))
        return replies


@dataclass(frozen=True)
class Raw:
    """Responses as bytes: their statuses, and the data sets of the answers."""

    statuses: tuple[int, ...]
    data_sets: list[bytes]
    final: Dataset

    @property
    def accessions(self) -> str:
        read = [read_implicit(data) for data in self.data_sets]
        return " ".join(str(one.AccessionNumber) for one in read)


def read_implicit(data: bytes) -> Dataset:
    """A data set as pydicom reads it."""
    return dcmread(BytesIO(data), force=True)


def _responses(peer: socket.socket) -> Raw:
    statuses: list[int] = []
    data_sets: list[bytes] = []
    stream = _values(peer)
    while True:
        command = read_implicit(next(stream))
        statuses.append(int(command.Status))
        if command.CommandDataSetType != 0x0101:
            data_sets.append(next(stream))
        if statuses[-1] not in (0xFF00, 0xFF01):
            return Raw(tuple(statuses), data_sets, command)


def _values(peer: socket.socket) -> Iterator[bytes]:
    """Whole command sets and data sets, as they come out of P-DATA-TF."""
    whole = b""
    while True:
        body = receive(peer, 4)
        while body:
            length = int.from_bytes(body[:4], "big")
            whole, control, body = whole + body[6 : 4 + length], body[5], body[4 + length :]
            if control & 2:
                yield whole
                whole = b""


@contextmanager
def private_redis() -> Iterator[EmbeddedServer]:
    """A redis-server of our own; its socket has to fit into 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="site-") as folder:
        server = EmbeddedServer(Path(folder), binary=find_server())
        server.start()
        try:
            yield server
        finally:
            server.stop(grace_s=5)


@contextmanager
def site_of(redis: EmbeddedServer, config: str, tls: Contexts | None = None) -> Iterator[Site]:
    """The door with this configuration, in a thread; it must be empty at the end."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        settings = Settings.load(Path(file.name), {})
    with serving_loop() as loop:
        yield from _site(loop, settings, redis, tls)


def _site(
    loop: asyncio.AbstractEventLoop,
    settings: Settings,
    redis: EmbeddedServer,
    tls: Contexts | None,
) -> Iterator[Site]:
    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    async def opened() -> AsyncStore:
        return AsyncStore(redis.url)

    store, metrics = run(opened()), ModalityMetrics()
    server = Server(questions(settings, store, metrics), admission(settings), limits(settings))
    try:
        _, port = run(server.start("127.0.0.1", 0, tls=tls))
        site = Site(port, Store(redis.url), redis, metrics, server)
        yield site
        for association in site.scanners.values():
            if association.is_established:
                association.release()
        site.store.close()
    finally:
        run(server.stop(0.5))
        run(store.close())


# --- what is on the list

TYPE_1 = {
    AET: "CT1",
    DATE: "20260101",
    TIME: "193000",
    "Modality": "CT",
    "PatientName": "DOE^JOHN",
    "RequestedProcedureDescription": "CT head",
}
OF_PATIENT = {
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "PatientComments",
}
OF_ORDER = {
    "AccessionNumber",
    "SpecialNeeds",
    "MedicalAlerts",
    "ReferringPhysicianName",
    "Allergies",
}
OF_STEP = {
    AET, DATE, TIME, "Modality", "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepLocation", "ScheduledProtocolCodeSequence",
    "ScheduledProcedureStepDescription", "CommentsOnTheScheduledProcedureStep",
}  # fmt: skip


def plan(
    store: Store,
    accession: str,
    *steps: dict[str, Any],
    patient_id: str = "",
    status: str = "SCHEDULED",
    **said: Any,
) -> None:
    """Put an order on the list: each of `steps` is a step, of which `said` is the default."""
    values = {**TYPE_1, "WorklistLabel": "other", **said}
    number = patient_id or f"P{accession}"
    patient = Patient(
        issuer="H",
        patient_id=number,
        facts=Facts(attributes={"PatientID": number, **_of(values, OF_PATIENT)}),
    )
    known = OF_PATIENT | OF_ORDER | OF_STEP
    procedure = {
        "RequestedProcedureID": f"R{accession}",
        "StudyInstanceUID": f"1.2.{sum(accession.encode())}.{len(accession)}",
        **{k: v for k, v in values.items() if k not in known},
    }
    order = Order(
        issuer="H",
        accession=accession,
        patient=patient.key,
        source="H",
        facts=Facts(attributes={"AccessionNumber": accession, **_of(values, OF_ORDER)}),
        procedures=(
            Procedure(
                id=f"R{accession}",
                facts=Facts(attributes=procedure),
                steps=tuple(
                    _step(f"S{accession}{n}", {**_of(values, OF_STEP), **step}, status)
                    for n, step in enumerate(steps or ({},))
                ),
            ),
        ),
    )
    known_patient = store.redis.exists("{broker}:patient:" + patient.key)
    create(store, *([] if known_patient else [patient]), order)


def _of(values: dict[str, Any], keywords: set[str]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k in keywords and v is not None}


def _step(step_id: str, values: dict[str, Any], status: str) -> Step:
    held = {"ScheduledProcedureStepID": step_id, **values}
    return Step(id=step_id, facts=Facts(attributes=held), status=status)  # type: ignore[arg-type]


def in_step(**keys: Any) -> dict[str, Any]:
    """An identifier that asks for the accession number and for these keys of the step."""
    return {"AccessionNumber": "", STEPS: [keys]}


def asked(accession: str, **keys: Any) -> dict[str, Any]:
    """An identifier for one accession number."""
    return {"AccessionNumber": accession, **keys}
