"""What a requestor sends, built by pynetdicom, or by hand where it must be odd."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import build_context

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
BOTH = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
Offer = tuple[str, Iterable[str]]


def associate_rq(
    offers: Iterable[Offer] = ((VERIFICATION, BOTH), (WORKLIST, BOTH), (MPPS, BOTH)),
    *,
    max_pdu: int = 16384,
    extended: bytes | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ with the contexts 1, 3, 5 …"""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "CT1"
    primitive.called_ae_title = "BROKER"
    contexts = [build_context(uid, list(syntaxes)) for uid, syntaxes in offers]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    if extended is not None:
        extension = SOPClassExtendedNegotiation()
        extension.sop_class_uid = WORKLIST
        extension.service_class_application_information = extended
        primitive.user_information.append(extension)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def titled(request: bytes, *, called: bytes, calling: bytes) -> bytes:
    """The same request with these 16 byte titles, whatever is in them."""
    return request[:10] + called + calling + request[42:]


def with_user_item(request: bytes, kind: int, data: bytes) -> bytes:
    """The same request with one more item in its User Information, which must come last."""
    item = struct.pack(">BxH", kind, len(data)) + data
    start = request.rindex(b"\x51\x00\x00\x04") - 4
    (length,) = struct.unpack_from(">H", request, start + 2)
    body = request[6 : start + 2] + struct.pack(">H", length + len(item)) + request[start + 4 :]
    body += item
    return struct.pack(">BxI", 1, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    """Any PDU."""
    return struct.pack(">BxI", kind, len(body)) + body


RELEASE_RQ = pdu(5, bytes(4))
RELEASE_RP = pdu(6, bytes(4))
ABORT = pdu(7, bytes((0, 0, 0, 0)))


def command(**values: object) -> bytes:
    """A command set by pydicom, group length included."""
    elements = Dataset()
    for keyword, value in values.items():
        setattr(elements, keyword, value)
    body = implicit(elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def raw_command(elements: Mapping[int, bytes]) -> bytes:
    """A command set of these values, which pydicom might not want to write."""
    body = b"".join(struct.pack("<HHI", 0, e, len(value)) + value for e, value in elements.items())
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def implicit(data_set: Dataset) -> bytes:
    """A data set in Implicit VR Little Endian, by pydicom."""
    return encoded(data_set, explicit=False)


def encoded(data_set: Dataset, *, explicit: bool) -> bytes:
    """A data set as pydicom writes it."""
    data = encode(data_set, not explicit, True)
    assert data is not None
    return data


def p_data(context_id: int, data: bytes, *, is_command: bool, is_last: bool = True) -> bytes:
    """One P-DATA-TF of one value."""
    control = is_command | is_last << 1
    return pdu(4, struct.pack(">IBB", len(data) + 2, context_id, control) + data)


def echo_rq(message_id: int | None = 1, context_id: int = 1) -> bytes:
    """A C-ECHO-RQ."""
    values: dict[str, object] = {
        "AffectedSOPClassUID": VERIFICATION,
        "CommandField": 0x30,
        "CommandDataSetType": 0x0101,
    }
    if message_id is not None:
        values["MessageID"] = message_id
    return p_data(context_id, command(**values), is_command=True)


def find_rq(
    message_id: int | None = 1, context_id: int = 3, identifier: bytes = b"", parts: int = 1
) -> bytes:
    """A C-FIND-RQ for the worklist; its identifier comes in `parts` fragments."""
    values: dict[str, object] = {
        "AffectedSOPClassUID": WORKLIST,
        "CommandField": 0x20,
        "Priority": 0,
        "CommandDataSetType": 1,
    }
    if message_id is not None:
        values["MessageID"] = message_id
    sent = p_data(context_id, command(**values), is_command=True)
    size = max(1, -(-len(identifier) // parts))
    for start in range(0, max(1, len(identifier)), size):
        piece = identifier[start : start + size]
        last = start + size >= len(identifier)
        sent += p_data(context_id, piece, is_command=False, is_last=last)
    return sent


def cancel_rq(message_id: int, context_id: int = 3) -> bytes:
    """A C-CANCEL-RQ."""
    values = {
        "CommandField": 0x0FFF,
        "MessageIDBeingRespondedTo": message_id,
        "CommandDataSetType": 0x0101,
    }
    return p_data(context_id, command(**values), is_command=True)


def n_set(instance: str, context_id: int = 5) -> bytes:
    """An N-SET-RQ of a performed procedure step, with an empty data set."""
    elements = {
        0x0003: MPPS.encode() + b"\0",
        0x0100: b"\x20\x01",
        0x0110: b"\1\0",
        0x0800: b"\1\0",
        0x1001: instance.encode("latin-1"),
    }
    sent = p_data(context_id, raw_command(elements), is_command=True)
    return sent + p_data(context_id, b"", is_command=False)
