"""The XML of an audit message (PS3.15 A.5.1): elements in the order of the schema."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.etree import ElementTree as Xml

DCM: Final = "DCM"
RFC3881: Final = "RFC-3881"
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ADDRESS: Final = re.compile(r"[0-9.]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: of DICOM, unless another system is named."""

    value: str
    meaning: str
    system: str = DCM

    def under(self, parent: Xml.Element, name: str) -> None:
        """Write it as an element."""
        said = {"csd-code": self.value, "codeSystemName": self.system, "originalText": self.meaning}
        Xml.SubElement(parent, name, said)


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part: a device, a system or a process. `titles` are its AE titles."""

    user: str
    requestor: bool
    role: Code | None = None
    address: str = ""
    titles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Object:
    """What it was about. `kind` and `role` are the type codes (1/1 patient, 2/3 study or query)."""

    identifier: str
    id_type: Code
    kind: str
    role: str
    name: str = ""
    query: bytes | None = None
    details: tuple[tuple[str, bytes], ...] = ()
    mpps: str = ""
    accessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One audit message; `action` is C, R, U, D or E, `outcome` 0, 4, 8 or 12."""

    event: Code
    action: str
    at: datetime
    outcome: str
    participants: Sequence[Participant]
    objects: Sequence[Object] = ()
    types: Iterable[Code] = ()
    description: str = ""


def written(message: Message, source: str, site: str) -> bytes:
    """Write a message of `source`, an application of `site`, in UTF-8 and one line."""
    root = Xml.Element("AuditMessage")
    _event(root, message)
    for participant in message.participants:
        _participant(root, participant)
    at = {"AuditEnterpriseSiteID": _clean(site)} if site else {}
    origin = Xml.SubElement(root, "AuditSourceIdentification", {**at, "AuditSourceID": source})
    Xml.SubElement(origin, "AuditSourceTypeCode", {"csd-code": "4"})
    for each in message.objects:
        _object(root, each)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=False))


def _event(root: Xml.Element, message: Message) -> None:
    identification = Xml.SubElement(
        root,
        "EventIdentification",
        {
            "EventActionCode": message.action,
            "EventDateTime": message.at.isoformat(timespec="milliseconds"),
            "EventOutcomeIndicator": message.outcome,
        },
    )
    message.event.under(identification, "EventID")
    for each in message.types:
        each.under(identification, "EventTypeCode")
    if message.description:
        described = Xml.SubElement(identification, "EventOutcomeDescription")
        described.text = _clean(message.description)


def _participant(root: Xml.Element, who: Participant) -> None:
    said = {"UserID": _clean(who.user) or "unknown"}
    if who.titles:
        said["AlternativeUserID"] = _clean(f"AETITLES={';'.join(who.titles)}")
    said["UserIsRequestor"] = "true" if who.requestor else "false"
    if who.address:
        said["NetworkAccessPointID"] = _clean(who.address)
        said["NetworkAccessPointTypeCode"] = "2" if _ADDRESS.fullmatch(who.address) else "1"
    element = Xml.SubElement(root, "ActiveParticipant", said)
    if who.role is not None:
        who.role.under(element, "RoleIDCode")


def _object(root: Xml.Element, what: Object) -> None:
    said = {
        "ParticipantObjectID": _clean(what.identifier) or "unknown",
        "ParticipantObjectTypeCode": what.kind,
        "ParticipantObjectTypeCodeRole": what.role,
    }
    element = Xml.SubElement(root, "ParticipantObjectIdentification", said)
    what.id_type.under(element, "ParticipantObjectIDTypeCode")
    if what.query is not None:
        Xml.SubElement(element, "ParticipantObjectQuery").text = _base64(what.query)
    else:
        Xml.SubElement(element, "ParticipantObjectName").text = _clean(what.name)
    for kind, value in what.details:
        Xml.SubElement(element, "ParticipantObjectDetail", type=kind, value=_base64(value))
    if what.mpps or what.accessions:
        described = Xml.SubElement(element, "ParticipantObjectDescription")
        if what.mpps:
            Xml.SubElement(described, "MPPS", UID=_clean(what.mpps))
        for number in what.accessions:
            Xml.SubElement(described, "Accession", Number=_clean(number))


def _base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _clean(text: str) -> str:
    """The text without what XML cannot hold, and in one line."""
    return " ".join(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text).split())
