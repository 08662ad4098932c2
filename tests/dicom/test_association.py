"""What an association means to its acceptor: requests, cancels, its end, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_RELEASE_RP, P_DATA_TF

from broker.dicom.association import (
    Accepted,
    Acceptor,
    CancelReceived,
    Event,
    NotEstablished,
    ProtocolFault,
    Rejected,
    Released,
    RequestReceived,
    Sizes,
)
from broker.dicom.dimse import Response
from broker.dicom.negotiation import CALLED_AE_UNKNOWN, Policy
from tests.dicom.requestor import (
    RELEASE_RQ,
    VERIFICATION,
    WORKLIST,
    associate_rq,
    cancel_rq,
    echo_rq,
    find_rq,
    p_data,
    pdu,
)

RQ = associate_rq()
IDENTIFIER = b"\x10\x00\x20\x00\x00\x00\x00\x00"


def anybody() -> Acceptor:
    return Acceptor(Policy().judge)


def established() -> Acceptor:
    acceptor = anybody()
    acceptor.receive(RQ)
    return acceptor


def byte_by_byte(acceptor: Acceptor, data: bytes) -> list[Event]:
    return [event for byte in data for event in acceptor.receive(bytes((byte,)))]


def test_a_pdu_of_4_gib_is_refused_by_its_header() -> None:
    """Memory is never given to a length that a peer only claims."""
    for acceptor in (anybody(), established()):
        (event,) = acceptor.receive(b"\x01\x00\xff\xff\xff\xff")
        assert isinstance(event, ProtocolFault)
        assert (acceptor.unfinished, acceptor.held) == (False, 0)


def test_several_pdus_in_one_read_are_taken_in_order() -> None:
    """Association, two requests and a release at once."""
    events = anybody().receive(RQ + echo_rq(1) + echo_rq(2) + RELEASE_RQ)
    assert [type(e) for e in events] == [Accepted, RequestReceived, RequestReceived, Released]
    assert [e.request.message_id for e in events if isinstance(e, RequestReceived)] == [1, 2]


def test_a_release_is_answered_at_once() -> None:
    """With the A-RELEASE-RP that pynetdicom understands."""
    (event,) = established().receive(RELEASE_RQ)
    A_RELEASE_RP().decode(event.reply)
    assert event.reply[0] == 6


def test_a_refused_association_gets_the_three_codes_of_its_reason() -> None:
    """RJ 1/1/7 for a called AE title that is not ours."""
    acceptor = Acceptor(Policy(called_ae=frozenset({"OTHER"})).judge)
    (event,) = acceptor.receive(RQ)
    assert isinstance(event, Rejected)
    assert event.rejection is CALLED_AE_UNKNOWN
    read = A_ASSOCIATE_RJ()
    read.decode(event.reply)
    assert (read.result, read.source, read.reason_diagnostic) == (1, 1, 7)


def test_a_request_in_many_fragments_is_one_request() -> None:
    """The identifier of a C-FIND cut in pieces of one byte."""
    acceptor = established()
    (event,) = byte_by_byte(acceptor, find_rq(7, identifier=IDENTIFIER, parts=8))
    assert isinstance(event, RequestReceived)
    assert event.request.kind == "C-FIND"
    assert event.request.message_id == 7
    assert event.request.sop_class == WORKLIST
    assert event.request.dataset == IDENTIFIER
    assert not acceptor.unfinished


def test_a_request_without_message_id_is_a_request() -> None:
    """A real radiography system sends such ones (hazard 7)."""
    (event,) = established().receive(find_rq(None, identifier=IDENTIFIER))
    assert isinstance(event, RequestReceived)
    assert event.request.message_id is None


def test_a_cancel_names_the_request_it_is_for() -> None:
    """C-CANCEL is no request of its own and gets no response."""
    assert established().receive(cancel_rq(9)) == [CancelReceived(9)]


@pytest.mark.parametrize(
    "odd",
    [
        p_data(99, b"", is_command=True),  # a context that was never accepted
        p_data(1, b"", is_command=True),  # an empty command set
        p_data(1, b"\0" * 11, is_command=True),  # no command field
        p_data(1, b"\0\0\0\1\xff\xff\xff\x7f", is_command=True),  # an element longer than all
        p_data(1, b"abcd", is_command=False),  # a data set that no command announced
        p_data(1, b"x" * 65_537, is_command=True, is_last=False),  # a command set without end
        find_rq(identifier=b"")[:-12] + find_rq(),  # a command where a data set is due
        find_rq()[:-12] + p_data(1, b"", is_command=False),  # the context changes on the way
        pdu(4, b"\0\0\0\1\1"),  # a value shorter than its header
        pdu(4, b"\0\0\0\xff\1\3abc"),  # a value longer than its PDU
    ],
)
def test_a_message_that_makes_no_sense_aborts_its_association_only(odd: bytes) -> None:
    """There is nothing to answer such a peer with but an abort."""
    events = established().receive(odd)
    assert [type(e) for e in events] == [ProtocolFault]


def test_a_data_set_above_the_limit_of_its_kind_is_refused_on_the_way() -> None:
    """The identifier of a C-FIND may have 100 bytes here."""
    acceptor = Acceptor(Policy().judge, sizes=Sizes({"C-FIND": 100}))
    acceptor.receive(RQ)
    assert [type(e) for e in acceptor.receive(find_rq(identifier=bytes(100)))] == [RequestReceived]
    assert [type(e) for e in acceptor.receive(find_rq(identifier=bytes(102)))] == [ProtocolFault]


def test_half_a_pdu_and_half_a_message_are_unfinished() -> None:
    """The door sets its deadline by this."""
    acceptor = established()
    assert not acceptor.unfinished
    acceptor.receive(find_rq()[:20])
    assert acceptor.unfinished
    acceptor.receive(find_rq()[20:-12])
    assert acceptor.unfinished  # the PDU is whole, the message is not
    acceptor.receive(find_rq()[-12:])
    assert not acceptor.unfinished
    acceptor.receive(b"\x04")
    acceptor.abort()
    assert not acceptor.unfinished


@pytest.mark.parametrize("max_pdu", [0, 1, 20, 128, 129, 4096, 16384, 100_000])
def test_no_pdu_is_longer_than_the_peer_said(max_pdu: int) -> None:
    """0 is any size; what is too small for anything gets the smallest pieces that work."""
    acceptor = anybody()
    acceptor.receive(associate_rq(max_pdu=max_pdu))
    (event,) = acceptor.receive(find_rq(3, identifier=IDENTIFIER))
    assert isinstance(event, RequestReceived)
    data_set = bytes(range(256)) * 300
    sent = acceptor.respond(event.request, Response(0xFF00, data_set))
    received = b""
    while sent:
        length = int.from_bytes(sent[2:6], "big")
        assert length <= (max(max_pdu, 14) if max_pdu else 65_536)
        read = P_DATA_TF()
        read.decode(sent[: 6 + length])
        for value in read.presentation_data_value_items:
            if not value.presentation_data_value[0] & 1:
                received += value.presentation_data_value[1:]
        sent = sent[6 + length :]
    assert received == data_set


def test_nothing_can_be_sent_where_no_association_stands() -> None:
    """A response after the peer has gone is the caller's mistake, and an error."""
    acceptor = established()
    (event,) = acceptor.receive(echo_rq())
    assert isinstance(event, RequestReceived)
    acceptor.lost()
    with pytest.raises(NotEstablished):
        acceptor.respond(event.request, Response(0))
    with pytest.raises(NotEstablished):
        acceptor.release()
    assert acceptor.abort() == b""
    assert acceptor.receive(RQ) == []


def test_an_abort_of_ours_is_sent_once() -> None:
    """And what the peer sends after it is not looked at."""
    acceptor = established()
    assert acceptor.abort()[0] == 7
    assert acceptor.abort() == b""
    assert acceptor.receive(echo_rq()) == []


CONVERSATION = (
    RQ + echo_rq(1) + find_rq(2, identifier=IDENTIFIER, parts=3) + cancel_rq(2) + RELEASE_RQ
)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=20))
def test_any_chunking_of_a_conversation_is_the_same_conversation(cuts: list[int]) -> None:
    """TCP keeps no boundaries."""
    places = [0, *sorted(cuts), len(CONVERSATION)]
    chunks = [CONVERSATION[a:b] for a, b in pairwise(places)]
    acceptor = anybody()
    events = [event for chunk in chunks for event in acceptor.receive(chunk)]
    assert events == anybody().receive(CONVERSATION)
    assert [type(event) for event in events] == [
        Accepted,
        RequestReceived,
        RequestReceived,
        CancelReceived,
        Released,
    ]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise(noise: bytes) -> None:
    """Neither before nor inside an association, nor as the body of a well-formed PDU."""
    anybody().receive(noise)
    established().receive(noise)
    anybody().receive(pdu(1, noise))
    anybody().receive(RQ[:74] + noise)
    established().receive(pdu(4, noise))
    established().receive(p_data(1, noise, is_command=True))


@settings(deadline=None)
@given(st.integers(74, len(RQ) - 1), st.binary(min_size=1, max_size=8))
def test_no_damage_to_an_association_request_raises(place: int, damage: bytes) -> None:
    """Malformed items end in a rejection, an abort or an acceptance, never in an exception."""
    events = anybody().receive((RQ[:place] + damage + RQ[place + len(damage) :])[: len(RQ)])
    assert all(isinstance(e, Accepted | Rejected | ProtocolFault) for e in events)


def test_the_verification_context_alone_is_enough() -> None:
    """C-ECHO on a context of its own."""
    acceptor = anybody()
    acceptor.receive(associate_rq([(VERIFICATION, ["1.2.840.10008.1.2"])]))
    assert acceptor.established
