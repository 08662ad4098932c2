"""PDUs of the DICOM upper layer (PS3.8 §9.3): a byte stream ↔ typed frames and P-DATA fragments."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum


class PduType(IntEnum):
    """The seven PDU types (PS3.8 §9.3.1)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


HEADER_BYTES = 6
P_DATA_HEADER = struct.Struct(">BxIIBB")
# What we announce and what we bear: peers are off by a header, some by more; 4 GiB is an attack.
OUR_MAX_PDU = 65_536
LARGEST_PDU = 2 * OUR_MAX_PDU
# A peer may announce any maximum; fragments smaller than this cannot carry a command set sensibly.
SMALLEST_FRAGMENT = 8
# "Unlimited" (0) still gets pieces of a size that everyone has memory for.
LARGEST_FRAGMENT = 65_536

USER = 0
PROVIDER = 2
REASON_NOT_SPECIFIED = 0
UNRECOGNISED_PDU = 1
UNEXPECTED_PDU = 2
UNEXPECTED_PARAMETER = 5
INVALID_PARAMETER = 6


class MalformedPdu(Exception):
    """What the peer sent breaks PS3.8; `reason` is the A-P-ABORT reason for it (§9.3.8)."""

    def __init__(self, fact: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(fact)
        self.fact = fact
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pdu:
    """One whole PDU; `body` is what follows its six byte header."""

    type: PduType
    body: bytes


@dataclass(frozen=True, slots=True)
class Pdv:
    """One presentation data value: a fragment of a command or data set (PS3.8 §9.3.5.1)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


class PduReader:
    """Cuts a byte stream into PDUs; holds at most one unfinished PDU of `LARGEST_PDU` bytes."""

    def __init__(self, largest: int = LARGEST_PDU) -> None:
        self._largest = largest
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """Bytes of a PDU have come and its end has not."""
        return bool(self._buffer)

    @property
    def held(self) -> int:
        """Bytes of the unfinished PDU."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        self._buffer += data

    def next(self) -> Pdu | None:
        """Return the next whole PDU, or None until more bytes come. Raises MalformedPdu.

        The length is judged as soon as the header is there, before memory is given to it.
        """
        if len(self._buffer) < HEADER_BYTES:
            # An unknown type is refused by its first byte: a port scanner need not send six.
            if self._buffer:
                _pdu_type(self._buffer[0])
            return None
        kind, length = struct.unpack_from(">BxI", self._buffer)
        pdu_type = _pdu_type(kind)
        if length > self._largest:
            raise MalformedPdu(f"a PDU of {length} bytes, at most {self._largest} are taken")
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[HEADER_BYTES:end])
        del self._buffer[:end]
        return Pdu(pdu_type, body)

    def clear(self) -> None:
        """Forget what is held: nothing that follows will be read."""
        self._buffer.clear()


def _pdu_type(value: int) -> PduType:
    try:
        return PduType(value)
    except ValueError:
        raise MalformedPdu(f"unknown PDU type 0x{value:02X}", UNRECOGNISED_PDU) from None


def encode_pdu(pdu_type: PduType, body: bytes) -> bytes:
    """Return the PDU with its header."""
    return struct.pack(">BxI", pdu_type, len(body)) + body


def associate_reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8 §9.3.4)."""
    return encode_pdu(PduType.ASSOCIATE_RJ, bytes((0, result, source, reason)))


def release_request() -> bytes:
    """Return an A-RELEASE-RQ."""
    return encode_pdu(PduType.RELEASE_RQ, bytes(4))


def release_reply() -> bytes:
    """Return an A-RELEASE-RP."""
    return encode_pdu(PduType.RELEASE_RP, bytes(4))


def abort(source: int = USER, reason: int = REASON_NOT_SPECIFIED) -> bytes:
    """Return an A-ABORT; only the provider's has a reason (PS3.8 §9.3.8)."""
    return encode_pdu(PduType.ABORT, bytes((0, 0, source, reason if source == PROVIDER else 0)))


def fragments(body: bytes) -> Iterator[Pdv]:
    """Yield the presentation data values of a P-DATA-TF body. Raises MalformedPdu."""
    offset = 0
    while offset < len(body):
        if len(body) - offset < 6:
            raise MalformedPdu("a P-DATA-TF whose last value has no header")
        length, context_id, control = struct.unpack_from(">IBB", body, offset)
        end = offset + 4 + length
        if length < 2 or end > len(body):
            raise MalformedPdu("a P-DATA-TF value whose length does not fit its PDU")
        yield Pdv(context_id, bool(control & 1), bool(control & 2), body[offset + 6 : end])
        offset = end


def data_pdus(context_id: int, command: bytes, dataset: bytes | None, max_pdu: int) -> bytes:
    """Return the P-DATA-TF PDUs of one message, none longer than the peer's `max_pdu` (0 = any).

    Command and data set never share a PDU: some old peers read only the first value of one.
    """
    room = _room(max_pdu)
    parts = _fragment(context_id, 1, command, room)
    if dataset is not None:
        parts += _fragment(context_id, 0, dataset, room)
    return b"".join(parts)


def data_pdus_of_all(
    context_id: int, command: bytes, datasets: Sequence[bytes], max_pdu: int
) -> bytes:
    """Return the P-DATA-TF PDUs of several messages with the same command, as `data_pdus` would."""
    room = _room(max_pdu)
    before = b"".join(_fragment(context_id, 1, command, room))
    last, pack = 2, P_DATA_HEADER.pack
    parts: list[bytes] = []
    for dataset in datasets:
        size = len(dataset)
        if size <= room:
            parts += (before, pack(PduType.P_DATA, size + 6, size + 2, context_id, last), dataset)
        else:
            parts += (before, *_fragment(context_id, 0, dataset, room))
    return b"".join(parts)


def _room(max_pdu: int) -> int:
    """Return how long a fragment may be; it is of even length (PS3.8 Annex E)."""
    room = min(max_pdu, LARGEST_FRAGMENT) - 6 if max_pdu else LARGEST_FRAGMENT - 6
    return max(room & ~1, SMALLEST_FRAGMENT)


def _fragment(context_id: int, command_bit: int, data: bytes, room: int) -> list[bytes]:
    parts: list[bytes] = []
    for start in range(0, len(data), room) or (0,):
        piece = data[start : start + room]
        control = command_bit | (2 if start + room >= len(data) else 0)
        header = struct.pack(
            ">BxIIBB", PduType.P_DATA, len(piece) + 6, len(piece) + 2, context_id, control
        )
        parts += (header, piece)
    return parts
