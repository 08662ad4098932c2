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
MPPS_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
IMPLICIT_LITTLE = str(ImplicitVRLittleEndian)
EXPLICIT_LITTLE = str(ExplicitVRLittleEndian)

# Registered form: the UUID-derived root of PS3.5 Annex B.2, so that no organisation is needed.
IMPLEMENTATION_CLASS = "2.25.180116391437523406229837016420311190423"
IMPLEMENTATION_VERSION = "BROKER"

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
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
MOST_CONTEXTS = 128  # their IDs are the odd numbers of one byte (PS3.8 §9.3.2.2)
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

    `max_pdu` is what the peer can take (0 = any size); `application_context` names the protocol
    that it speaks, '' where it does not say. `extended` is SOP class → application
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
    application_context: str = ""


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
CALLING_AE_ELSEWHERE = Rejection(1, 1, 3, "calling AE title not from its address")
CALLING_AE_UNPROVEN = Rejection(1, 1, 3, "calling AE title not that of its certificate")
LIMIT_REACHED = Rejection(2, 3, 2, "local limit exceeded")
APPLICATION_CONTEXT_UNKNOWN = Rejection(1, 1, 2, "application context name not supported")
PROTOCOL_VERSION_UNKNOWN = Rejection(1, 2, 2, "protocol version not supported")


@dataclass(frozen=True, slots=True)
class Policy:
    """Which AE titles may be called (None is any), and how a title has to be written.

    `odd_titles`: padding with NUL, 8-bit and control characters are no reason to refuse;
    `any_case`: titles are compared without regard to case.
    """

    called_ae: frozenset[str] | None = None
    odd_titles: bool = True
    any_case: bool = True

    def judge(self, request: AssociationRequest) -> Rejection | None:
        """Return why `request` is refused, or None."""
        if not request.protocol_version & 1:
            return PROTOCOL_VERSION_UNKNOWN
        if request.application_context != APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_UNKNOWN
        called, calling = request.raw_titles[:16], request.raw_titles[16:32]
        if not self._named(request.called_ae) or not self._well_formed(called):
            return CALLED_AE_UNKNOWN
        return None if self._well_formed(calling) else CALLING_AE_UNKNOWN

    def _named(self, title: str) -> bool:
        if self.called_ae is None or title in self.called_ae:
            return True
        return self.any_case and title.upper() in {known.upper() for known in self.called_ae}

    def _well_formed(self, raw: bytes) -> bool:
        return self.odd_titles or all(0x20 <= byte < 0x7F for byte in raw)


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
    `rejected` counts contexts; `fuzzy` and `zoned` are what was agreed on for worklist queries.
    """

    contexts: Mapping[int, tuple[str, str]]
    max_pdu: int
    rejected: int
    answer: bytes
    fuzzy: bool = False
    zoned: bool = False


Negotiated = tuple[AssociationRequest, Agreement]


def negotiated(body: bytes, services: Services | None = None) -> Negotiated:
    """Read the body of an A-ASSOCIATE-RQ, and agree; whether it is let in is no question here.

    The same bytes always give the same. Raises MalformedPdu.
    """
    request = read_request(body)
    return request, agree(request, services or Services())


def read_request(body: bytes) -> AssociationRequest:
    """Read the body of an A-ASSOCIATE-RQ; unknown items are skipped. Raises MalformedPdu."""
    if len(body) < FIXED_BYTES:
        raise MalformedPdu(f"an A-ASSOCIATE-RQ of {len(body)} bytes")
    contexts: list[Proposal] = []
    application_context, user_information = "", b""
    for kind, item in _items(body[FIXED_BYTES:]):
        if kind == CONTEXT_RQ_ITEM:
            contexts.append(_proposal(item))
        elif kind == APPLICATION_CONTEXT_ITEM:
            application_context = _word(item[4:])
        elif kind == USER_INFORMATION_ITEM:
            user_information = item[4:]
    if not contexts:
        raise MalformedPdu("an A-ASSOCIATE-RQ without presentation contexts")
    if len(contexts) > MOST_CONTEXTS:
        raise MalformedPdu(f"an A-ASSOCIATE-RQ with {len(contexts)} presentation contexts")
    if len({context.context_id for context in contexts}) < len(contexts):
        raise MalformedPdu("an A-ASSOCIATE-RQ with two presentation contexts of the same ID")
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
        application_context=application_context,
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
    body += _item(APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT.encode()) + items
    extension = _worklist_extension(request, accepted)
    body += _item(USER_INFORMATION_ITEM, _user_information(extension))
    answer = encode_pdu(PduType.ASSOCIATE_AC, body)
    rejected = len(request.contexts) - len(accepted)
    fuzzy, zoned = extension[2:3] == b"\1", extension[3:4] == b"\1"
    return Agreement(accepted, request.max_pdu, rejected, answer, fuzzy, zoned)


@dataclass(frozen=True, slots=True)
class Accepting:
    """What a peer has accepted of what we proposed: context IDs, and its largest PDU (0 = any)."""

    contexts: tuple[int, ...]
    max_pdu: int


def associate_request(
    proposals: Mapping[int, tuple[str, str]], *, calling: str, called: str
) -> bytes:
    """Return an A-ASSOCIATE-RQ; a proposal is abstract and transfer syntax by context ID."""
    body = struct.pack(">Hxx", 1)
    body += called.encode("latin-1").ljust(16) + calling.encode("latin-1").ljust(16) + bytes(32)
    body += _item(APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT.encode())
    for number, (abstract, transfer) in proposals.items():
        syntaxes = _item(ABSTRACT_SYNTAX_ITEM, abstract.encode())
        syntaxes += _item(TRANSFER_SYNTAX_ITEM, transfer.encode())
        body += _item(CONTEXT_RQ_ITEM, struct.pack(">Bxxx", number) + syntaxes)
    body += _item(USER_INFORMATION_ITEM, _user_information(b""))
    return encode_pdu(PduType.ASSOCIATE_RQ, body)


def read_acceptance(body: bytes) -> Accepting:
    """Read the body of an A-ASSOCIATE-AC. Raises MalformedPdu."""
    contexts: list[int] = []
    max_pdu = 0
    for kind, item in _items(body[FIXED_BYTES:]):
        if kind == CONTEXT_AC_ITEM and len(item) >= 8 and item[6] == ACCEPTANCE:
            contexts.append(item[4])
        elif kind == USER_INFORMATION_ITEM:
            inside = [part for inner, part in _items(item[4:]) if inner == MAXIMUM_LENGTH_ITEM]
            max_pdu = _max_pdu(inside)
    return Accepting(tuple(contexts), max_pdu)


def _choose(proposal: Proposal, services: Services) -> tuple[int, str]:
    """Return result and transfer syntax of one context: the first of ours that is offered."""
    ours = services.syntaxes.get(proposal.abstract_syntax)
    if ours is None:
        return ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT_LITTLE
    for syntax in ours:
        if syntax in proposal.transfer_syntaxes:
            return ACCEPTANCE, syntax
    return TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT_LITTLE


def _user_information(extension: bytes) -> bytes:
    """Return our user items; asynchronous operations, roles and identity stay at the defaults."""
    user = _item(MAXIMUM_LENGTH_ITEM, struct.pack(">I", OUR_MAX_PDU))
    user += _item(IMPLEMENTATION_CLASS_ITEM, IMPLEMENTATION_CLASS.encode())
    user += _item(IMPLEMENTATION_VERSION_ITEM, IMPLEMENTATION_VERSION.encode())
    if extension:
        uid = MODALITY_WORKLIST.encode()
        user += _item(EXTENDED_NEGOTIATION_ITEM, struct.pack(">H", len(uid)) + uid + extension)
    return user


def _worklist_extension(
    request: AssociationRequest, accepted: Mapping[int, tuple[str, str]]
) -> bytes:
    """Return our answer to an extended negotiation of the worklist, b"" to none (PS3.4 K.5.1).

    As many bytes as offered, 3 or 4: two that are constant, fuzzy matching of person names, time
    zone adjustment. Each is agreed on where it is wanted.
    """
    offered = request.extended.get(MODALITY_WORKLIST)
    if offered is None or not any(syntax == MODALITY_WORKLIST for syntax, _ in accepted.values()):
        return b""
    wanted = bytes(byte == 1 for byte in (offered + b"\0\0\0")[2:4])
    return (b"\1\1" + wanted)[: max(3, min(len(offered), 4))]


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
