"""What happened in a door, as plain facts; made a message when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from broker.audit.schema import RFC3881, Code, Message, Object, Participant

APPLICATION: Final = Code("110150", "Application")
SOURCE: Final = Code("110153", "Source Role ID")
DESTINATION: Final = Code("110152", "Destination Role ID")
STARTED: Final = Code("110120", "Application Start")
STOPPED: Final = Code("110121", "Application Stop")
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
STUDY: Final = Code("110180", "Study Instance UID")
SOP_CLASS: Final = Code("110181", "SOP Class UID")
NODE: Final = Code("110182", "Node ID")
PATIENT_NUMBER: Final = Code("2", "Patient Number", RFC3881)
NOMINAL, MINOR, SERIOUS = "0", "4", "8"
WORKLIST: Final = "1.2.840.10008.5.1.4.31"
LARGEST_QUERY: Final = 20_000
"""Bytes of an identifier that a message holds: receivers take 32,768 octets at least (RFC 5425)."""
MOST_PATIENTS: Final = 50
CREATED: Final = {"NW", "A01", "A04", "A05", "A28", "S12", "SC"}
ENDED: Final = {"CA", "DC", "OC", "A11", "A38", "S15", "S17"}


@dataclass(frozen=True, slots=True)
class Us:
    """The broker in a message: its AE title, the name of its host, its process and role."""

    title: str
    host: str
    process: str

    def participant(self, role: Code | None, *, requestor: bool = False) -> Participant:
        """The broker as one who took part."""
        return Participant(self.process, requestor, role, self.host, (self.title,))


class Event(Protocol):
    """Anything that happened."""

    def message(self, us: Us) -> Message:
        """Make the audit message of it."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A door has opened or closed (A.5.3.1)."""

    at: datetime
    started: bool

    def message(self, us: Us) -> Message:
        """Application Activity."""
        kind = STARTED if self.started else STOPPED
        who = [us.participant(APPLICATION)]
        code = Code("110100", "Application Activity")
        return Message(code, "E", self.at, NOMINAL, who, types=[kind])


@dataclass(frozen=True, slots=True)
class Query:
    """A scanner has asked for the worklist (A.5.3.10)."""

    at: datetime
    calling: str
    called: str
    address: str
    identifier: bytes
    transfer_syntax: str
    status: int

    def message(self, us: Us) -> Message:
        """Query; one that is too long for a receiver is told without its identifier."""
        scanner = Participant(self.calling, True, SOURCE, self.address, (self.calling,))
        syntax = (("TransferSyntax", self.transfer_syntax.encode()),)
        what = Object(WORKLIST, SOP_CLASS, "2", "3", query=self.identifier, details=syntax)
        outcome = NOMINAL if self.status in (0, 0xFE00) else MINOR
        who = [scanner, us.participant(DESTINATION)]
        code = Code("110112", "Query")
        return Message(code, "E", self.at, outcome, who, [what], description=_status(self.status))


@dataclass(frozen=True, slots=True)
class Exam:
    """A scanner has reported an exam, or wanted to (A.5.3.9); `said` are its attributes."""

    at: datetime
    calling: str
    address: str
    kind: str
    uid: str
    status: int
    said: Mapping[str, Any]

    def message(self, us: Us) -> Message:
        """Procedure Record."""
        scanner = Participant(self.calling, True, SOURCE, self.address, (self.calling,))
        steps = self.said.get("ScheduledStepAttributesSequence") or [{}]
        studies = dict.fromkeys(str(step.get("StudyInstanceUID") or "") for step in steps)
        numbers = dict.fromkeys(str(step.get("AccessionNumber") or "") for step in steps)
        accessions = tuple(filter(None, numbers))
        what = [
            Object(study, STUDY, "2", "3", mpps=self.uid, accessions=accessions)
            for study in studies
        ]
        name = self.said.get("PatientName", "")
        what.append(_patient(str(self.said.get("PatientID") or ""), str(name or "")))
        action = "C" if self.kind == "N-CREATE" else "U"
        outcome = NOMINAL if self.status in (0, 0x0107, 0x0116) else MINOR
        who = [scanner, us.participant(DESTINATION)]
        code = Code("110111", "Procedure Record")
        return Message(code, action, self.at, outcome, who, what, description=_status(self.status))


@dataclass(frozen=True, slots=True)
class Order:
    """A message of a RIS was taken or refused: of a patient (A.5.3.8), or of orders (A.5.3.7)."""

    at: datetime
    sender: str
    address: str
    kind: str
    refused: bool
    raw: bytes
    accessions: tuple[str, ...]

    def message(self, us: Us) -> Message:
        """Patient Record for ADT, Order Record for everything else."""
        ris = Participant(self.sender, True, SOURCE, self.address)
        segments = list(_segments(self.raw))
        what = [_patient(*_identity(fields)) for fields in segments if fields[0] == "PID"]
        what = what[:MOST_PATIENTS] or [_patient("", "")]
        of_patients = self.kind.startswith("ADT")
        if self.accessions and not of_patients:
            what.append(Object("unknown", STUDY, "2", "3", accessions=self.accessions))
        code = Code("110110", "Patient Record") if of_patients else Code("110109", "Order Record")
        outcome = MINOR if self.refused else NOMINAL
        who = [ris, us.participant(DESTINATION)]
        said = "refused" if self.refused else ""
        return Message(
            code, _action(self.kind, segments), self.at, outcome, who, what, description=said
        )


@dataclass(frozen=True, slots=True)
class Alarm:
    """A peer that did not prove to be who it has to be (A.5.3.11)."""

    at: datetime
    who: str
    address: str
    fact: str

    def message(self, us: Us) -> Message:
        """Security Alert."""
        peer = Participant(self.who or self.address, True, None, self.address)
        what = Object(self.address, NODE, "2", "13", name=self.who)
        code = Code("110113", "Security Alert")
        who = [us.participant(APPLICATION), peer]
        kinds = [NODE_AUTHENTICATION]
        return Message(code, "E", self.at, SERIOUS, who, [what], types=kinds, description=self.fact)


def _patient(identifier: str, name: str) -> Object:
    return Object(identifier, PATIENT_NUMBER, "1", "1", name=name)


def _status(status: int) -> str:
    return "" if status == 0 else f"status {status:04X}"


def _segments(raw: bytes) -> Iterator[list[str]]:
    """Each segment as its fields; of MSH the separators are one of them."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    start = text.find("MSH")
    separator = text[start + 3 : start + 4] if start >= 0 else "|"
    for line in text.replace("\n", "\r").split("\r"):
        yield line.split(separator or "|")


def patients_of(raw: bytes) -> tuple[str, ...]:
    """Give the patient IDs that a message names."""
    named = (_identity(fields)[0] for fields in _segments(raw) if fields[0] == "PID")
    return tuple(dict.fromkeys(filter(None, named)))


def _identity(fields: list[str]) -> tuple[str, str]:
    """PID-3.1 and PID-5 of a segment; components are not taken apart further."""
    number = fields[3].partition("~")[0].partition("^")[0] if len(fields) > 3 else ""
    return number, fields[5].partition("~")[0] if len(fields) > 5 else ""


def _action(kind: str, segments: list[list[str]]) -> str:
    """C, U or D, by order control (ORC-1) or by the trigger event."""
    controls = {fields[1] for fields in segments if fields[0] == "ORC" and len(fields) > 1}
    said = controls or {kind.partition("^")[2]}
    if said <= CREATED:
        return "C"
    return "D" if said <= ENDED else "U"
