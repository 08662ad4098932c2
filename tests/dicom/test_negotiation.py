"""Association negotiation: what a peer asks for and what it gets, judged by pynetdicom."""

from __future__ import annotations

import struct

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.presentation import build_context, negotiate_as_acceptor

from broker.dicom.negotiation import (
    CALLED_AE_UNKNOWN,
    CALLING_AE_UNKNOWN,
    PROTOCOL_VERSION_UNKNOWN,
    AssociationRequest,
    Policy,
    Services,
    agree,
    read_request,
)
from broker.dicom.pdu import MalformedPdu
from tests.dicom.requestor import (
    BOTH,
    MPPS,
    VERIFICATION,
    WORKLIST,
    Offer,
    associate_rq,
    titled,
    with_user_item,
)

MANY: list[Offer] = [
    (VERIFICATION, BOTH),
    (WORKLIST, [ImplicitVRLittleEndian]),
    (WORKLIST, [ExplicitVRLittleEndian]),
    (WORKLIST, [ExplicitVRBigEndian]),
    (WORKLIST, [DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian]),
    (MPPS, BOTH),
    ("1.2.840.10008.1.20.1", BOTH),  # Storage Commitment
    ("1.2.840.10008.5.1.4.34.6.3", BOTH),  # UPS Pull
    ("1.2.840.10008.5.1.4.32.1", BOTH),  # General Purpose Worklist
    *[(f"1.2.840.10008.5.1.4.1.1.{n}", BOTH) for n in range(1, 12)],
]


def read(pdu: bytes) -> AssociationRequest:
    return read_request(pdu[6:])


def answer(pdu: bytes) -> A_ASSOCIATE_AC:
    """Our A-ASSOCIATE-AC as pynetdicom understands it."""
    decoded = A_ASSOCIATE_AC()
    decoded.decode(agree(read(pdu), Services()).answer)
    return decoded


def test_twenty_contexts_are_judged_one_by_one_as_pynetdicom_judges_them() -> None:
    """Case Q33: unknown classes, Big Endian and Deflated are rejected, the rest stands."""
    pdu = associate_rq(MANY)
    requested = A_ASSOCIATE_RQ()
    requested.decode(pdu)
    theirs, _ = negotiate_as_acceptor(
        requested.to_primitive().presentation_context_definition_list,
        [build_context(uid, list(BOTH)) for uid in (VERIFICATION, WORKLIST, MPPS)],
    )
    ours = answer(pdu).presentation_context
    assert len(ours) == 20
    assert [(c.context_id, c.result) for c in ours] == [(c.context_id, c.result) for c in theirs]
    accepted = {c.context_id: c.transfer_syntax for c in ours if c.result == 0}
    assert accepted == {c.context_id: c.transfer_syntax[0] for c in theirs if c.result == 0}
    agreement = agree(read(pdu), Services())
    assert agreement.contexts == {
        c.context_id: (c.abstract_syntax, c.transfer_syntax[0]) for c in theirs if c.result == 0
    }
    assert agreement.rejected == 20 - len(agreement.contexts)


@pytest.mark.parametrize(
    ("offered", "returned"),
    [
        (b"\x01\x01\x01", b"\x01\x01\x01"),
        (b"\x01\x01\x01\x01", b"\x01\x01\x01\x01"),
        (b"\x01\x01\x00\x01", b"\x01\x01\x00\x01"),
        (b"\x01\x01\x00", b"\x01\x01\x00"),
        (b"\x01\x01\x01\x00\x01\x01\x01", b"\x01\x01\x01\x00"),
        (b"\x01\x01\x02\xff", b"\x01\x01\x00\x00"),
        (b"\x01", b"\x01\x01\x00"),
    ],
)
def test_extended_negotiation_agrees_on_what_was_wanted(offered: bytes, returned: bytes) -> None:
    """PS3.4 K.5.1: as many bytes as offered, at most four; fuzzy names, time zone adjustment."""
    agreement = agree(read(associate_rq(extended=offered)), Services())
    assert agreement.fuzzy == (returned[2:3] == b"\x01")
    assert agreement.zoned == (returned[3:4] == b"\x01")
    user = answer(associate_rq(extended=offered)).user_information
    assert user is not None
    assert [item.service_class_application_information for item in user.ext_neg] == [returned]
    assert [item.uid for item in user.ext_neg] == [WORKLIST]


def test_without_extended_negotiation_none_is_returned() -> None:
    """Nor for a worklist context that was rejected."""
    offers = [(VERIFICATION, BOTH), (WORKLIST, [ExplicitVRBigEndian])]
    for pdu in (associate_rq(), associate_rq(offers, extended=b"\x01\x01\x01")):
        user = answer(pdu).user_information
        assert user is not None
        assert not user.ext_neg


def test_we_name_our_implementation_and_our_maximum() -> None:
    """Both are mandatory in an A-ASSOCIATE-AC."""
    user = answer(associate_rq()).user_information
    assert user is not None
    assert user.maximum_length == 65536
    assert user.implementation_class_uid.is_valid
    assert user.implementation_version_name == "BROKER"


@pytest.mark.parametrize("max_pdu", [0, 4096, 2**32 - 1])
def test_the_peers_maximum_is_kept(max_pdu: int) -> None:
    """0 is without limit."""
    assert read(associate_rq(max_pdu=max_pdu)).max_pdu == max_pdu


@pytest.mark.parametrize(
    ("called", "calling", "titles"),
    [
        (b"BROKER".ljust(16), b"CT1".ljust(16), ("BROKER", "CT1")),
        (b"BROKER".ljust(16, b"\0"), b"CT1\0".ljust(16), ("BROKER", "CT1")),
        (b" BROKER".ljust(16), b"  CT 1 ".ljust(16), ("BROKER", "CT 1")),
        (b"R\xd6NTGEN".ljust(16), b"\xff" * 16, ("RÖNTGEN", "ÿ" * 16)),
        (b" " * 16, b"\0" * 16, ("", "")),
        (b"A\nB".ljust(16), b"\x1b[2J".ljust(16), ("A?B", "?[2J")),
    ],
)
def test_ae_titles_are_read_whatever_they_are_padded_with(
    called: bytes, calling: bytes, titles: tuple[str, str]
) -> None:
    """Case Q31; the answer echoes the 64 bytes as they came."""
    pdu = titled(associate_rq(), called=called, calling=calling)
    request = read(pdu)
    assert (request.called_ae, request.calling_ae) == titles
    assert agree(request, Services()).answer[10:74] == pdu[10:74]


def test_who_may_associate_is_a_policy() -> None:
    """Any title by default; a list may have several, and does not look at case unless told to."""
    request = read(associate_rq())
    assert Policy().judge(request) is None
    former = frozenset({"broker", "FORMER"})
    assert Policy(former).judge(request) is None
    assert Policy(former, any_case=False).judge(request) is CALLED_AE_UNKNOWN
    assert Policy(frozenset({"OTHER"})).judge(request) is CALLED_AE_UNKNOWN
    assert (CALLED_AE_UNKNOWN.encode()[6:], CALLING_AE_UNKNOWN.encode()[6:]) == (
        b"\0\1\1\7",
        b"\0\1\1\3",
    )


@pytest.mark.parametrize("odd", [b"CT1".ljust(16, b"\0"), "CTÄ".encode("latin-1").ljust(16)])
def test_a_title_of_odd_bytes_is_refused_where_the_policy_says_so(odd: bytes) -> None:
    plain = b"BROKER".ljust(16)
    calling = read(titled(associate_rq(), called=plain, calling=odd))
    called = read(titled(associate_rq(), called=odd, calling=plain))
    for request, refusal in ((calling, CALLING_AE_UNKNOWN), (called, CALLED_AE_UNKNOWN)):
        assert Policy().judge(request) is None
        assert Policy(odd_titles=False).judge(request) is refusal


def test_another_protocol_version_is_refused() -> None:
    """Bit 0 is version 1; others may be set beside it (PS3.8 Table 9-11)."""
    pdu = associate_rq()
    assert Policy().judge(read(pdu[:6] + b"\0\2" + pdu[8:])) is PROTOCOL_VERSION_UNKNOWN
    assert Policy().judge(read(pdu[:6] + b"\0\3" + pdu[8:])) is None


@pytest.mark.parametrize("name", [b"1.2.840.10008.3.1.1.9", b"\0" * 21])
def test_another_application_context_is_refused(name: bytes) -> None:
    """PS3.8 Table 9-21, reason 2 of the service user; blanks around ours are forgiven."""
    ours = b"1.2.840.10008.3.1.1.1"
    rejection = Policy().judge(read(associate_rq().replace(ours, name, 1)))
    assert rejection is not None
    assert rejection.encode()[6:] == b"\0\1\1\2"
    padded = struct.pack(">BxH", 0x10, len(ours) + 1) + ours + b"\0"
    body = associate_rq()[6:].replace(struct.pack(">BxH", 0x10, len(ours)) + ours, padded, 1)
    assert Policy().judge(read_request(body)) is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0x58, b"\1\0\0\4user\0\0"),  # User Identity
        (0x58, b"\xff\xff\xff\xff\xff"),  # a broken one
        (0x53, b"\0\5\0\5"),  # Asynchronous Operations Window
        (0x54, b"\0\7" + b"1.2.3.4" + b"\1\1"),  # Role Selection
        (0x77, b"who knows"),
    ],
)
def test_user_items_that_we_do_not_use_are_skipped(kind: int, data: bytes) -> None:
    """Case Q34; PS3.8 §9.3.1: items of unrecognized types shall be ignored."""
    pdu = with_user_item(associate_rq(), kind, data)
    user = answer(pdu).user_information
    assert user is not None
    assert len(user.user_data) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        associate_rq()[6:60],
        associate_rq()[6:74],
        associate_rq()[6:-1],
        with_user_item(associate_rq(), 0x51, b"")[6:].replace(b"\x51\0\0\4", b"\x51\0\0\3"),
        with_user_item(associate_rq(), 0x56, b"\0\xff1.2")[6:],
        associate_rq()[6:74] + struct.pack(">BxH", 0x20, 2) + b"\1\0",
        associate_rq()[6:74] + (struct.pack(">BxH", 0x20, 4) + bytes(4)) * 129,
        associate_rq()[6:74] + (struct.pack(">BxH", 0x20, 4) + b"\1\0\0\0") * 2,
    ],
)
def test_a_request_whose_items_do_not_fit_is_malformed(body: bytes) -> None:
    """That association is aborted, and nothing else happens."""
    with pytest.raises(MalformedPdu):
        read_request(body)


def test_a_context_with_an_odd_uid_is_rejected_alone() -> None:
    """A UID that is none is not ours; the others stand."""
    pdu = associate_rq([("1.2.840.10008.9.9.9", BOTH), (WORKLIST, BOTH)])
    pdu = pdu.replace(b"1.2.840.10008.9.9.9", b"\xff.2.840.\0x008.9.9.9")
    assert list(agree(read(pdu), Services()).contexts) == [3]
