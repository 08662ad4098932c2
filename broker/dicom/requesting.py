"""The requestor's part of an association (PS3.8 §9.2), as far as N-CREATE and N-SET need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pynetdicom.dsutils import decode, encode

from broker.dicom.dimse import (
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    COMMAND_FIELD,
    DATASET_TYPE,
    ERROR_COMMENT,
    ERROR_ID,
    FIELDS,
    MAX_COMMAND_BYTES,
    MESSAGE_ID,
    MESSAGE_ID_RESPONDED_TO,
    NO_DATASET,
    REQUESTED_SOP_CLASS,
    REQUESTED_SOP_INSTANCE,
    RESPONSE_BIT,
    STATUS,
    MalformedMessage,
    command_set,
    decode_command,
    number_of,
)
from broker.dicom.negotiation import (
    EXPLICIT_LITTLE,
    FIXED_BYTES,
    IMPLICIT_LITTLE,
    Accepting,
    associate_request,
    read_acceptance,
)
from broker.dicom.pdu import MalformedPdu, Pdu, PduReader, PduType, data_pdus, fragments

SYNTAXES: Final = {1: IMPLICIT_LITTLE, 3: EXPLICIT_LITTLE}
"""A presentation context for each, so that a data set can go as it came."""
REJECTIONS: Final[Mapping[tuple[int, int], str]] = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "it does not know our AE title",
    (1, 7): "it is not called so",
    (2, 1): "no reason given by its provider",
    (2, 2): "protocol version not supported",
    (3, 1): "temporarily congested",
    (3, 2): "local limit exceeded",
}
"""By source and reason (PS3.8 Table 9-21)."""


class NotAssociated(Exception):
    """There is no association, or there is none any more; the text says why."""


@dataclass(frozen=True)
class Answered:
    """The response to a request: status, Error ID (None without one) and Error Comment."""

    status: int
    error_id: int | None = None
    comment: str = ""


class Requestor:
    """One association as its requestor: what to send, and what the bytes that come mean."""

    def __init__(self, sop_class: str, *, calling: str, called: str) -> None:
        self._sop_class, self._calling, self._called = sop_class, calling, called
        self._reader = PduReader()
        self._agreed: Accepting | None = None
        self._message_id = 0
        self._command = bytearray()

    def associate(self) -> bytes:
        """Give the A-ASSOCIATE-RQ."""
        proposals = {number: (self._sop_class, syntax) for number, syntax in SYNTAXES.items()}
        return associate_request(proposals, calling=self._calling, called=self._called)

    @property
    def established(self) -> bool:
        """Whether requests may be sent."""
        return self._agreed is not None

    def receive(self, data: bytes) -> list[Answered]:
        """Take what came: at first the acceptance, then answers. Raises NotAssociated."""
        self._reader.feed(data)
        answers: list[Answered] = []
        try:
            while (arrived := self._reader.next()) is not None:
                answers += self._take(arrived)
        except MalformedPdu as broken:
            raise NotAssociated(f"it does not speak DICOM: {broken.fact}") from broken
        return answers

    def request(self, kind: str, instance: str, dataset: bytes, syntax: str) -> bytes:
        """Give an N-CREATE or N-SET with a data set encoded in `syntax`.

        It goes byte for byte where the peer takes that syntax, else in the other one.
        Raises NotAssociated.
        """
        if self._agreed is None:
            raise NotAssociated("no association")
        number = _context_for(syntax, self._agreed.contexts)
        data = dataset
        if SYNTAXES[number] != syntax:
            data = transcoded(dataset, syntax, SYNTAXES[number])
        self._message_id = self._message_id % 0xFFFF + 1
        creates = kind == "N-CREATE"
        command = command_set(
            {
                AFFECTED_SOP_CLASS if creates else REQUESTED_SOP_CLASS: self._sop_class,
                COMMAND_FIELD: FIELDS[kind],
                MESSAGE_ID: self._message_id,
                DATASET_TYPE: 0x0001 if data else NO_DATASET,
                AFFECTED_SOP_INSTANCE if creates else REQUESTED_SOP_INSTANCE: instance,
            }
        )
        return data_pdus(number, command, data or None, self._agreed.max_pdu)

    def _take(self, arrived: Pdu) -> list[Answered]:
        if self._agreed is None:
            self._agreed = _accepted(arrived)
            return []
        if arrived.type is PduType.ABORT:
            raise NotAssociated("it has aborted the association")
        if arrived.type is PduType.RELEASE_RQ:
            raise NotAssociated("it has released the association")
        if arrived.type is not PduType.P_DATA:
            raise NotAssociated(f"it sends {arrived.type.name} where a response is due")
        return self._answers(arrived)

    def _answers(self, arrived: Pdu) -> list[Answered]:
        found = []
        for fragment in fragments(arrived.body):
            if not fragment.is_command:
                continue  # a response may bring attributes, which nobody needs
            self._command += fragment.data
            if len(self._command) > MAX_COMMAND_BYTES:
                raise MalformedMessage("a command set of more than 64 KiB")
            if fragment.is_last:
                found += self._read(bytes(self._command))
                self._command.clear()
        return found

    def _read(self, raw: bytes) -> list[Answered]:
        elements = decode_command(raw)
        if not (number_of(elements, COMMAND_FIELD) or 0) & RESPONSE_BIT:
            raise MalformedMessage("a request where a response is due")
        if number_of(elements, MESSAGE_ID_RESPONDED_TO) != self._message_id:
            raise MalformedMessage("the response to another request")
        comment = elements.get(ERROR_COMMENT, b"").decode("latin-1").strip("\0 ")
        status = number_of(elements, STATUS)
        if status is None:
            raise MalformedMessage("a response without a status")
        return [Answered(status, number_of(elements, ERROR_ID), comment)]


def transcoded(dataset: bytes, syntax: str, wanted: str) -> bytes:
    """Write a data set in another transfer syntax; both are little endian. Raises NotAssociated."""
    read = decode(BytesIO(dataset), syntax == IMPLICIT_LITTLE, True)
    written = encode(read, wanted == IMPLICIT_LITTLE, True)
    if written is None:
        raise NotAssociated("the data set cannot be written in a transfer syntax that it takes")
    return written


def _context_for(syntax: str, accepted: Sequence[int]) -> int:
    mine = [number for number in accepted if SYNTAXES.get(number) == syntax]
    return (mine or list(accepted))[0]


def _accepted(arrived: Pdu) -> Accepting:
    if arrived.type is PduType.ASSOCIATE_RJ:
        _, _, source, reason = (*arrived.body, 0, 0, 0, 0)[:4]
        why = REJECTIONS.get((source, reason), f"source {source}, reason {reason}")
        raise NotAssociated(f"association rejected: {why}")
    if arrived.type is PduType.ABORT:
        raise NotAssociated("it has aborted the association")
    if arrived.type is not PduType.ASSOCIATE_AC or len(arrived.body) < FIXED_BYTES:
        raise NotAssociated("it does not answer an association request")
    agreed = read_acceptance(arrived.body)
    if not agreed.contexts:
        raise NotAssociated("it takes no MPPS")
    return agreed
