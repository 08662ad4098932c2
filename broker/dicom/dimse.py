"""DIMSE: command sets (PS3.7 §9, §10, Annex E) ↔ values, P-DATA fragments → messages."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.dicom.pdu import MalformedPdu, Pdv

SUCCESS = 0x0000
OPTIONAL_ATTRIBUTES = 0x0001
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_DOES_NOT_MATCH = 0xA900
UNABLE_TO_PROCESS = 0xC001
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_OBJECT_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211

RESPONSE_BIT = 0x8000
CANCEL = 0x0FFF
KINDS: Mapping[int, str] = {
    0x0001: "C-STORE",
    0x0010: "C-GET",
    0x0020: "C-FIND",
    0x0021: "C-MOVE",
    0x0030: "C-ECHO",
    0x0100: "N-EVENT-REPORT",
    0x0110: "N-GET",
    0x0120: "N-SET",
    0x0130: "N-ACTION",
    0x0140: "N-CREATE",
    0x0150: "N-DELETE",
    CANCEL: "C-CANCEL",
}
FIELDS = {kind: code for code, kind in KINDS.items()}
# Only consulted when (0000,0800) Command Data Set Type is missing.
CARRIES_DATASET = frozenset({"C-STORE", "C-FIND", "C-GET", "C-MOVE", "N-SET", "N-CREATE"})
NO_DATASET = 0x0101

GROUP_LENGTH = 0x0000
AFFECTED_SOP_CLASS = 0x0002
REQUESTED_SOP_CLASS = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
DATASET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
ERROR_ID = 0x0903
AFFECTED_SOP_INSTANCE = 0x1000
REQUESTED_SOP_INSTANCE = 0x1001
ATTRIBUTE_LIST = 0x1005

MAX_COMMAND_BYTES = 64 * 1024


class MalformedMessage(MalformedPdu):
    """A command set or its fragments cannot be understood; no answer is possible, only an abort."""


@dataclass(frozen=True, slots=True)
class DimseRequest:
    """One request as it came; `message_id` is None when the peer sent none (it is answered as 0).

    `sop_class` falls back to the presentation context's abstract syntax; `dataset` is encoded in
    `transfer_syntax`; `attribute_list` holds the tags of (0000,1005), N-GET only.
    """

    kind: str
    message_id: int | None
    sop_class: str
    sop_instance: str
    priority: int
    dataset: bytes | None
    context_id: int
    transfer_syntax: str
    abstract_syntax: str
    attribute_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """One response; `dataset` is already encoded in the request's transfer syntax.

    `error_comment` is cut at 64 characters (LO); `offending` and `attribute_list` are tags;
    `sop_instance` defaults to the request's for N-services.
    """

    status: int
    dataset: bytes | None = None
    error_comment: str = ""
    error_id: int | None = None
    offending: tuple[int, ...] = ()
    sop_instance: str = ""
    attribute_list: tuple[int, ...] = ()

    @property
    def pending(self) -> bool:
        """More responses follow (PS3.7 Annex C.1.3)."""
        return self.status in (PENDING, PENDING_UNSUPPORTED_KEYS)


@dataclass(frozen=True, slots=True)
class Answers:
    """Pending responses that go out together: one status, and a data set each, as in `Response`."""

    status: int
    datasets: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Cancel:
    """A C-CANCEL-RQ for the request that had this Message ID."""

    message_id: int


def encode_response(request: DimseRequest, response: Response) -> bytes:
    """Return the command set of `response` to `request`, group length included (PS3.7 §6.3.1)."""
    by_type = request.kind.startswith("N-")
    instance = response.sop_instance or (request.sop_instance if by_type else "")
    elements = [
        _uid(AFFECTED_SOP_CLASS, request.sop_class),
        _us(COMMAND_FIELD, FIELDS[request.kind] | RESPONSE_BIT),
        _us(MESSAGE_ID_RESPONDED_TO, request.message_id or 0),
        _us(DATASET_TYPE, NO_DATASET if response.dataset is None else 0x0001),
        _us(STATUS, response.status),
        _tags(OFFENDING_ELEMENT, response.offending),
        _text(ERROR_COMMENT, response.error_comment[:64]),
        b"" if response.error_id is None else _us(ERROR_ID, response.error_id),
        _uid(AFFECTED_SOP_INSTANCE, instance),
        _tags(ATTRIBUTE_LIST, response.attribute_list),
    ]
    body = b"".join(elements)
    return _element(GROUP_LENGTH, struct.pack("<I", len(body))) + body


def command_set(values: Mapping[int, int | str]) -> bytes:
    """Return a command set of these elements of group 0000, group length included."""
    body = b"".join(
        _us(element, value) if isinstance(value, int) else _uid(element, value)
        for element, value in sorted(values.items())
    )
    return _element(GROUP_LENGTH, struct.pack("<I", len(body))) + body


def decode_command(data: bytes) -> dict[int, bytes]:
    """Return the raw values of group 0000 by element number (Implicit VR LE, PS3.7 §6.3.1)."""
    elements: dict[int, bytes] = {}
    offset = 0
    while offset + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, offset)
        offset += 8
        if length > len(data) - offset:
            raise MalformedMessage(f"command element ({group:04X},{element:04X}) runs past its end")
        if group == 0:
            elements[element] = data[offset : offset + length]
        offset += length
    if COMMAND_FIELD not in elements:
        raise MalformedMessage("a command set without Command Field (0000,0100)")
    return elements


@dataclass(slots=True)
class Assembler:
    """P-DATA fragments of one association → messages; holds at most one unfinished message.

    `contexts` gives (abstract syntax, transfer syntax) of each accepted context; `max_dataset`
    bounds the bytes of one data set by request kind, key '' being the default.
    """

    contexts: Mapping[int, tuple[str, str]]
    max_dataset: Mapping[str, int]
    _context_id: int | None = None
    _command: bytearray = field(default_factory=bytearray)
    _elements: dict[int, bytes] = field(default_factory=dict)
    _dataset: bytearray = field(default_factory=bytearray)

    @property
    def unfinished(self) -> bool:
        """A message has begun and not ended."""
        return self._context_id is not None

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._command) + len(self._dataset)

    def receive(self, fragment: Pdv) -> DimseRequest | Cancel | None:
        """Take one fragment; return the message that it completes. Raises MalformedMessage."""
        if self._context_id is None:
            if fragment.context_id not in self.contexts:
                raise MalformedMessage("a fragment on a presentation context that is not accepted")
            self._context_id = fragment.context_id
        elif fragment.context_id != self._context_id:
            raise MalformedMessage("a message changes its presentation context on the way")
        if fragment.is_command:
            return self._take_command(fragment)
        return self._take_dataset(fragment)

    def _take_command(self, fragment: Pdv) -> DimseRequest | Cancel | None:
        if self._elements:
            raise MalformedMessage("a command where the data set of another message is due")
        if len(self._command) + len(fragment.data) > MAX_COMMAND_BYTES:
            raise MalformedMessage("a command set of more than 64 KiB")
        self._command += fragment.data
        if not fragment.is_last:
            return None
        self._elements = decode_command(bytes(self._command))
        return None if _announces_dataset(self._elements) else self._finish(None)

    def _take_dataset(self, fragment: Pdv) -> DimseRequest | Cancel | None:
        if not self._elements:
            raise MalformedMessage("a data set without a command before it")
        limit = self.max_dataset.get(_kind(self._elements), self.max_dataset.get("", 0))
        if len(self._dataset) + len(fragment.data) > limit:
            raise MalformedMessage(f"a data set of more than {limit} bytes")
        self._dataset += fragment.data
        return self._finish(bytes(self._dataset)) if fragment.is_last else None

    def _finish(self, dataset: bytes | None) -> DimseRequest | Cancel:
        message = _message(self._elements, dataset, self._context_id or 0, self.contexts)
        self._context_id, self._elements = None, {}
        self._command, self._dataset = bytearray(), bytearray()
        return message


def _message(
    elements: Mapping[int, bytes],
    dataset: bytes | None,
    context_id: int,
    contexts: Mapping[int, tuple[str, str]],
) -> DimseRequest | Cancel:
    kind = _kind(elements)
    if kind == "C-CANCEL":
        return Cancel(number_of(elements, MESSAGE_ID_RESPONDED_TO) or 0)
    abstract_syntax, transfer_syntax = contexts[context_id]
    return DimseRequest(
        kind=kind,
        message_id=number_of(elements, MESSAGE_ID),
        sop_class=_uid_of(elements, AFFECTED_SOP_CLASS, REQUESTED_SOP_CLASS) or abstract_syntax,
        sop_instance=_uid_of(elements, AFFECTED_SOP_INSTANCE, REQUESTED_SOP_INSTANCE),
        priority=number_of(elements, PRIORITY) or 0,
        dataset=dataset,
        context_id=context_id,
        transfer_syntax=transfer_syntax,
        abstract_syntax=abstract_syntax,
        attribute_list=_tags_of(elements.get(ATTRIBUTE_LIST, b"")),
    )


def _kind(elements: Mapping[int, bytes]) -> str:
    code = number_of(elements, COMMAND_FIELD)
    kind = KINDS.get(code) if code is not None else None
    if kind is None:
        raise MalformedMessage(f"command field {code if code is None else hex(code)} is no request")
    return kind


def _announces_dataset(elements: Mapping[int, bytes]) -> bool:
    announced = number_of(elements, DATASET_TYPE)
    if announced is None:
        return _kind(elements) in CARRIES_DATASET
    return announced != NO_DATASET


def number_of(elements: Mapping[int, bytes], element: int) -> int | None:
    """Return the US value of `element`, tolerating other lengths than 2."""
    value = elements.get(element, b"")
    return int.from_bytes(value[:2], "little") if value else None


def _uid_of(elements: Mapping[int, bytes], *candidates: int) -> str:
    for candidate in candidates:
        value = elements.get(candidate, b"").decode("latin-1").strip("\0 ")
        if value:
            return value
    return ""


def _tags_of(value: bytes) -> tuple[int, ...]:
    whole = len(value) // 4 * 4
    return tuple(
        group << 16 | element for group, element in struct.iter_unpack("<HH", value[:whole])
    )


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _us(element: int, value: int) -> bytes:
    return _element(element, struct.pack("<H", value))


def _uid(element: int, value: str) -> bytes:
    if not value:
        return b""
    raw = value.encode("latin-1", "replace")
    return _element(element, raw + b"\0" * (len(raw) % 2))


def _text(element: int, value: str) -> bytes:
    """Encode an LO in the default repertoire: a command set has no Specific Character Set."""
    if not value:
        return b""
    raw = value.encode("ascii", "replace")
    return _element(element, raw + b" " * (len(raw) % 2))


def _tags(element: int, tags: tuple[int, ...]) -> bytes:
    if not tags:
        return b""
    return _element(element, b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags))
