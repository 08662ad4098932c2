"""The actors' other halves: a pynetdicom server that answers as told, and a listening RIS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from broker.probe.address import Address
from broker.probe.ris import Sink, listening
from broker.probe.scanner import MPPS, STEP, VERIFICATION, WORKLIST, to_dataset

ITEM: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "AccessionNumber": "ACC1",
    "PatientName": "Müller^Jörg",
    "PatientID": "P1",
    "StudyInstanceUID": "1.2.3",
    "RequestedProcedureID": "RP1",
    "MedicalAlerts": ["LATEX", "IODINE"],
    "PatientWeight": "",
    "ReferencedStudySequence": [],
    STEP: [
        {"Modality": "CT", "ScheduledProcedureStepID": "SPS1", "ScheduledStationAETitle": "CT1"}
    ],
}


@dataclass
class Peer:
    """A pynetdicom SCP that notes what it is asked and answers as told."""

    items: list[dict[str, Any]] = field(default_factory=lambda: [ITEM])
    end: int = 0x0000
    created: dict[str, Dataset] = field(default_factory=dict)
    changed: list[tuple[str, Dataset]] = field(default_factory=list)
    identifiers: list[Dataset] = field(default_factory=list)
    on_report: Callable[[str], Any] | None = None
    done_hides: bool = False
    address: Address = field(default=Address("127.0.0.1", 0))

    def find(self, event: evt.Event) -> Iterator[tuple[Any, Dataset | None]]:
        self.identifiers.append(event.identifier)
        for item in self.items:
            yield 0xFF00, to_dataset(item)
        end = Dataset()
        end.Status = self.end
        if self.end:
            end.ErrorComment = "store away"
        yield end, None

    def create(self, event: evt.Event) -> tuple[Any, Dataset | None]:
        uid = event.request.AffectedSOPInstanceUID
        if uid in self.created:
            return 0x0111, None
        self.created[uid] = event.attribute_list
        self.report("IN PROGRESS")
        return 0x0000, event.attribute_list

    def set(self, event: evt.Event) -> tuple[Any, Dataset | None]:
        uid = event.request.RequestedSOPInstanceUID
        if uid not in self.created:
            return 0x0112, None
        self.changed.append((uid, event.modification_list))
        refusal = Dataset()
        refusal.Status = 0x0110
        refusal.ErrorID = 0xA710
        refusal.ErrorComment = "no longer be updated"
        finals = ("COMPLETED", "DISCONTINUED")
        done = [u for u, d in self.changed if u == uid and d.PerformedProcedureStepStatus in finals]
        if len(done) > 1:
            return refusal, None
        self.report(event.modification_list.PerformedProcedureStepStatus)
        return 0x0000, event.modification_list

    def report(self, status: str) -> None:
        """What the scanner did, told to whoever wants to know; a done step may leave the list."""
        if self.done_hides and status != "IN PROGRESS":
            self.items = []
        if self.on_report is not None:
            self.on_report(status)

    def reset(self) -> None:
        """As new, at the same address."""
        self.items, self.end = [ITEM], 0x0000
        self.on_report, self.done_hides = None, False
        for noted in (self.created, self.changed, self.identifiers):
            noted.clear()


@pytest.fixture(scope="session")
def listening_peer() -> Iterator[Peer]:
    """One server for all tests: pynetdicom needs half a second to shut one down."""
    peer = Peer()
    ae = AE("BROKER")
    for sop_class in (VERIFICATION, WORKLIST, MPPS):
        ae.add_supported_context(sop_class)
    handlers = [
        (evt.EVT_C_FIND, peer.find),
        (evt.EVT_N_CREATE, peer.create),
        (evt.EVT_N_SET, peer.set),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.address = Address("127.0.0.1", server.server_address[1])
    yield peer
    server.shutdown()


@pytest.fixture
def peer(listening_peer: Peer) -> Peer:
    listening_peer.reset()
    return listening_peer


@pytest.fixture
def sink() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture
def item() -> dict[str, Any]:
    return dict(ITEM)
