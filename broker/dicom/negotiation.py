"""Association negotiation (PS3.8 §9.3.2-3, PS3.7 Annex D): what a peer asks for, what it gets."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.dicom.pdu import OUR_MAX_PDU, MalformedPdu, PduType, associate_reject, encode_pdu

VERIFICATION = "1.2.840.10008.1.1"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
IMPLICIT_LITTLE = str(ImplicitVRLittleEndian)
EXPLICIT_LITTLE = str(ExplicitVRLittleEndian)

# Registered form: the UUID-derived root of PS3.5 Annex B.2, so that no organisation is needed.
IMPLEMENTATION_CLASS = "2.25.180116391437523406229837016420311190423"
IMPLEMENTATION_VERSION = "BROKER"

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
APPLICATION_CONTEXT_ITEM = 0x10
CONTEXT_RQ_ITEM = 0x20
CONTEXT_AC_ITEM = 0x21
ABSTRACT_SYNTAX_ITEM = 0x30
TRANSFER_SYNTAX_ITEM = 0x40
USER_INFORMATION_ITEM = 0x50
MAXIMUM_LENGTH_ITEM = 0x51
IMPLEMENTATION_CLASS_ITEM = 0x52
IMPLEMENTATION_VERSION_ITEM = 0x55
EXTENDED_NEGOTIATION_ITEM = 0x56
FIXED_BYTES = 68
ACCEPTANCE = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

# pynetdicom reads and writes these items too, but its decoders raise, warn and log tracebacks on
# bytes that peers really send, cannot echo an 8-bit AE title, and cost 0.3 ms an association.
# It judges ours in the tests instead.


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context as proposed (PS3.8 §9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ. AE titles are without padding, 8-bit ones read as Latin-1.

    `max_pdu` is what the peer can take (0 = any size); `extended` is SOP class → application
    information; `raw_titles` is echoed in the answer.
    """

    called_ae: str
    calling_ae: str
    protocol_version: int
    max_pdu: int
    contexts: tuple[Proposal, ...]
    extended: Mapping[str, bytes]
    implementation_class: str
    implementation_version: str
    raw_titles: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """The three fields of an A-ASSOCIATE-RJ (PS3.8 Table 9-21) and the words for our log."""

    result: int
    source: int
    reason: int
    fact: str

    def encode(self) -> bytes:
        """Return the A-ASSOCIATE-RJ PDU."""
        return associate_reject(self.result, self.source, self.reason)


CALLED_AE_UNKNOWN = Rejection(1, 1, 7, "called AE title not recognized")
CALLING_AE_UNKNOWN = Rejection(1, 1, 3, "calling AE title not recognized")
LIMIT_REACHED = Rejection(2, 3, 2, "local limit exceeded")
PROTOCOL_VERSION_UNKNOWN = Rejection(1, 2, 2, "protocol version not supported")


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may associate: None is anybody. Titles are compared without regard to case."""

    called_ae: frozenset[str] | None = None
    calling_ae: frozenset[str] | None = None

    def judge(self, request: AssociationRequest) -> Rejection | None:
        """Return why `request` is refused, or None."""
        if not request.protocol_version & 1:
            return PROTOCOL_VERSION_UNKNOWN
        if not _listed(request.called_ae, self.called_ae):
            return CALLED_AE_UNKNOWN
        if not _listed(request.calling_ae, self.calling_ae):
            return CALLING_AE_UNKNOWN
        return None


def _listed(title: str, titles: frozenset[str] | None) -> bool:
    return titles is None or title.upper() in {known.upper() for known in titles}


@dataclass(frozen=True, slots=True)
class Services:
    """The SOP classes that we provide and the transfer syntaxes of each, most wanted first."""

    syntaxes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: dict.fromkeys(
            (VERIFICATION, MODALITY_WORKLIST, MODALITY_PERFORMED_PROCEDURE_STEP),
            (IMPLICIT_LITTLE, EXPLICIT_LITTLE),
        )
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides hold to: context ID → (abstract syntax, transfer syntax), and our answer.

    `max_pdu` is the peer's (0 = any); `answer` is the A-ASSOCIATE-AC PDU;
    `rejected` counts contexts.
    """

    contexts: Mapping[int, tuple[str, str]]
    max_pdu: int
    rejected: int
    answer: bytes


def read_request(body: bytes) -> AssociationRequest:
    """Read the body of an A-ASSOCIATE-RQ; unknown items are skipped. Raises MalformedPdu."""
    if len(body) < FIXED_BYTES:
        raise MalformedPdu(f"an A-ASSOCIATE-RQ of {len(body)} bytes")
    contexts: list[Proposal] = []
    user_information = b""
    for kind, item in _items(body[FIXED_BYTES:]):
        if kind == CONTEXT_RQ_ITEM:
            contexts.append(_proposal(item))
        elif kind == USER_INFORMATION_ITEM:
            user_information = item[4:]
    if not contexts:
        raise MalformedPdu("an A-ASSOCIATE-RQ without presentation contexts")
    user: dict[int, list[bytes]] = {}
    for kind, item in _items(user_information):
        user.setdefault(kind, []).append(item)
    return AssociationRequest(
        called_ae=_ae_title(body[4:20]),
        calling_ae=_ae_title(body[20:36]),
        protocol_version=int.from_bytes(body[:2], "big"),
        max_pdu=_max_pdu(user.get(MAXIMUM_LENGTH_ITEM, [])),
        contexts=tuple(contexts),
        extended=dict(_extended(user.get(EXTENDED_NEGOTIATION_ITEM, []))),
        implementation_class=_first_word(user.get(IMPLEMENTATION_CLASS_ITEM, [])),
        implementation_version=_first_word(user.get(IMPLEMENTATION_VERSION_ITEM, [])),
        raw_titles=body[4:FIXED_BYTES],
    )


def agree(request: AssociationRequest, services: Services) -> Agreement:
    """Accept the known contexts, reject the others one by one, and answer."""
    accepted: dict[int, tuple[str, str]] = {}
    items = b""
    for proposal in request.contexts:
        result, transfer_syntax = _choose(proposal, services)
        if result == ACCEPTANCE:
            accepted[proposal.context_id] = (proposal.abstract_syntax, transfer_syntax)
        # Of a rejected context the transfer syntax is not significant (PS3.8 Table 9-18).
        syntax = _item(TRANSFER_SYNTAX_ITEM, transfer_syntax.encode())
        head = struct.pack(">BBBB", proposal.context_id, 0, result, 0)
        items += _item(CONTEXT_AC_ITEM, head + syntax)
    # The reserved fields after the titles are echoed too, as received (PS3.8 Table 9-17).
    body = struct.pack(">Hxx", 1) + request.raw_titles
    body += _item(APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT) + items
    body += _item(USER_INFORMATION_ITEM, _user_information(request, accepted))
    answer = encode_pdu(PduType.ASSOCIATE_AC, body)
    return Agreement(accepted, request.max_pdu, len(request.contexts) - len(accepted), answer)


def _choose(proposal: Proposal, services: Services) -> tuple[int, str]:
    """Return result and transfer syntax of one context: the first of ours that is offered."""
    ours = services.syntaxes.get(proposal.abstract_syntax)
    if ours is None:
        return ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT_LITTLE
    for syntax in ours:
        if syntax in proposal.transfer_syntaxes:
            return ACCEPTANCE, syntax
    return TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT_LITTLE


def _user_information(
    request: AssociationRequest, accepted: Mapping[int, tuple[str, str]]
) -> bytes:
    """Return our user items; asynchronous operations, roles and identity stay at the defaults."""
    user = _item(MAXIMUM_LENGTH_ITEM, struct.pack(">I", OUR_MAX_PDU))
    user += _item(IMPLEMENTATION_CLASS_ITEM, IMPLEMENTATION_CLASS.encode())
    user += _item(IMPLEMENTATION_VERSION_ITEM, IMPLEMENTATION_VERSION.encode())
    if MODALITY_WORKLIST in request.extended and _has(accepted, MODALITY_WORKLIST):
        user += _worklist_extension(request.extended[MODALITY_WORKLIST])
    return user


def _has(accepted: Mapping[int, tuple[str, str]], sop_class: str) -> bool:
    return any(abstract_syntax == sop_class for abstract_syntax, _ in accepted.values())


def _worklist_extension(offered: bytes) -> bytes:
    """Return our extended negotiation item: as many bytes as offered, at most 4 (PS3.4 K.5.1).

    Bytes 1 and 2 are constant; fuzzy person names (3) and time zone adjustment (4) are not done.
    """
    uid = MODALITY_WORKLIST.encode()
    answer = b"\x01\x01\x00\x00"[: max(3, len(offered))]
    return _item(EXTENDED_NEGOTIATION_ITEM, struct.pack(">H", len(uid)) + uid + answer)


def _proposal(item: bytes) -> Proposal:
    """Read one presentation context item; an odd UID is kept, and will be none of ours."""
    if len(item) < 8:
        raise MalformedPdu("a presentation context item without an ID")
    abstract_syntax, transfer_syntaxes = "", []
    for kind, sub_item in _items(item[8:]):
        if kind == ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = _word(sub_item[4:])
        elif kind == TRANSFER_SYNTAX_ITEM:
            transfer_syntaxes.append(_word(sub_item[4:]))
    return Proposal(item[4], abstract_syntax, tuple(transfer_syntaxes))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, whole item) of a run of items (PS3.8 §9.3.1). Raises MalformedPdu."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < 4:
            raise MalformedPdu("an association item without a whole header")
        kind, length = struct.unpack_from(">BxH", data, offset)
        end = offset + 4 + length
        if end > len(data):
            raise MalformedPdu(f"association item 0x{kind:02X} runs past its end")
        yield kind, data[offset:end]
        offset = end


def _item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(data)) + data


def _ae_title(raw: bytes) -> str:
    """Strip blanks and NUL, which some devices pad with; 8-bit titles are taken too.

    Control characters become question marks: titles are written to logs.
    """
    title = raw.decode("latin-1").strip("\0 ")
    return "".join(letter if letter.isprintable() else "?" for letter in title)


def _max_pdu(items: list[bytes]) -> int:
    if not items:
        return 0
    if len(items[0]) != 8:
        raise MalformedPdu("a Maximum Length item that is not of 4 bytes")
    return int.from_bytes(items[0][4:], "big")


def _first_word(items: list[bytes]) -> str:
    return _word(items[0][4:]) if items else ""


def _word(raw: bytes) -> str:
    """Read a UID or a name; some devices pad them, though not on the network (PS3.8 Annex F)."""
    return raw[:64].decode("latin-1").strip("\0 ")


def _extended(items: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield SOP class and application information of each item (PS3.7 D.3.3.5)."""
    for item in items:
        length = int.from_bytes(item[4:6], "big")
        if len(item) < 6 + length:
            raise MalformedPdu("an extended negotiation item whose UID runs past its end")
        yield _word(item[6 : 6 + length]), item[6 + length :]
