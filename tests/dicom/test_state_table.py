"""The acceptor against PS3.8 Table 9-10 as pynetdicom has it: every state and event of its part.

Each PDU is fed whole, byte by byte, and with rubbish before and behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu import A_ABORT_RQ

from broker.dicom.association import (
    TRANSITIONS,
    Aborted,
    Accepted,
    Acceptor,
    Event,
    NotEstablished,
    ProtocolFault,
    Rejected,
    Released,
    RequestReceived,
    State,
)
from broker.dicom.dimse import DimseRequest, Response
from broker.dicom.negotiation import CALLED_AE_UNKNOWN, Policy
from broker.dicom.pdu import PduType
from tests.dicom.requestor import (
    ABORT,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    associate_rq,
    echo_rq,
    p_data,
    pdu,
)

RQ = associate_rq()
REQUEST = DimseRequest("C-ECHO", 1, VERIFICATION, "", 0, None, 1, "1.2.840.10008.1.2", VERIFICATION)
USER, PROVIDER = 0, 2


def acceptor_in(state: str) -> Acceptor:
    """An acceptor that has come to this state by what a peer and we did."""
    acceptor = Acceptor(Policy().judge)
    if state == "Sta2":
        return acceptor
    acceptor.receive(RQ)
    if state in ("Sta7", "Sta10"):
        acceptor.release()
    if state in ("Sta10", "Sta13"):
        acceptor.receive(RELEASE_RQ)
    assert acceptor.state == state
    return acceptor


# The events of Table 9-10 that are PDUs, as a peer may send them.
PDUS = {
    "Evt3": (PduType.ASSOCIATE_AC, [pdu(2, bytes(68))]),
    "Evt4": (PduType.ASSOCIATE_RJ, [pdu(3, bytes(4))]),
    "Evt6": (PduType.ASSOCIATE_RQ, [RQ]),
    "Evt10": (PduType.P_DATA, [echo_rq()]),
    "Evt12": (PduType.RELEASE_RQ, [RELEASE_RQ, pdu(5, b"")]),
    "Evt13": (PduType.RELEASE_RP, [RELEASE_RP]),
    "Evt16": (PduType.ABORT, [ABORT, pdu(7, b""), pdu(7, b"\0\0\2\1more")]),
    "Evt19": (None, [b"\x47ET / HTTP/1.1\r\n", b"\0", b"\x08\0\0\0\0\4abcd", b"\xff" * 99]),
}
# What each action of Tables 9-6 to 9-9 comes to: event told, next state, PDU sent.
OUTCOMES = {
    "AE-6": (Accepted, "Sta6", 2),  # with AE-7: the local user answers at once, Sta3 is passed
    "DT-2": (RequestReceived, "Sta6", None),
    "AR-2": (Released, "Sta13", 6),  # with AR-4: Sta8 is passed
    "AR-3": (Released, "Sta1", None),
    "AR-6": (None, "Sta7", None),  # no user of ours asks for a release while it wants data
    "AR-8": (None, "Sta10", None),
    "AR-10": (Released, "Sta13", 6),  # with AR-4: Sta12 is passed
    "AA-1": (ProtocolFault, "Sta13", 7),
    "AA-2": (Aborted, "Sta1", None),
    "AA-3": (Aborted, "Sta1", None),
    "AA-6": (None, "Sta13", None),
    "AA-7": (ProtocolFault, "Sta13", 7),
    "AA-8": (ProtocolFault, "Sta13", 7),
}
STATES = ("Sta2", "Sta6", "Sta7", "Sta10", "Sta13")
CASES = [
    pytest.param(state, event, raw, id=f"{state} {event} {number}")
    for state in STATES
    for event, (_, samples) in PDUS.items()
    for number, raw in enumerate(samples)
]


def byte_by_byte(acceptor: Acceptor, data: bytes) -> list[Event]:
    return [event for byte in data for event in acceptor.receive(bytes((byte,)))]


def abort_of(sent: bytes) -> tuple[int, int]:
    """Source and reason of an A-ABORT, as pynetdicom reads them."""
    read = A_ABORT_RQ()
    read.decode(sent)
    return int(read.source), int(read.reason_diagnostic)


def aborts_as_it_should(state: str, event: str, sent: bytes) -> bool:
    """AA-1 is the service user's abort and has no reason; AA-7 and AA-8 are the provider's."""
    if state == "Sta2":
        return abort_of(sent) == (USER, 0)
    return abort_of(sent) == (PROVIDER, 1 if event == "Evt19" else 2)


@pytest.mark.parametrize(("state", "event", "raw"), CASES)
@pytest.mark.parametrize("feed", [Acceptor.receive, byte_by_byte])
def test_each_pdu_in_each_state_does_what_the_standard_says(
    state: str, event: str, raw: bytes, feed: Callable[[Acceptor, bytes], list[Event]]
) -> None:
    """Whole and byte by byte it is the same."""
    told, after, sent = OUTCOMES[TRANSITION_TABLE[event, state]]
    acceptor = acceptor_in(state)
    events = feed(acceptor, raw)
    assert [type(each) for each in events] == ([] if told is None else [told])
    assert acceptor.state == after
    replies = b"".join(each.reply for each in events)
    assert replies[:1] == (b"" if sent is None else bytes((sent,)))
    if sent == 7:
        assert aborts_as_it_should(state, event, replies)
    assert acceptor.unfinished is False
    assert acceptor.held == 0


@pytest.mark.parametrize(("state", "event", "raw"), CASES)
def test_rubbish_behind_a_pdu_ends_the_association_and_nothing_is_held(
    state: str, event: str, raw: bytes
) -> None:
    """One abort at most comes of it, however much rubbish follows."""
    acceptor = acceptor_in(state)
    events = acceptor.receive(raw + b"\xff\xfe\xfd" * 1000)
    assert acceptor.state in ("Sta1", "Sta13")
    assert sum(isinstance(each, ProtocolFault) for each in events) <= 1
    assert acceptor.held == 0
    assert acceptor.receive(b"\xff" * 1000) == []


@pytest.mark.parametrize(("state", "event", "raw"), CASES)
def test_rubbish_before_a_pdu_is_an_abort_and_the_pdu_is_not_looked_at(
    state: str, event: str, raw: bytes
) -> None:
    """What follows a lost frame cannot be trusted."""
    for feed in (Acceptor.receive, byte_by_byte):
        acceptor = acceptor_in(state)
        (only,) = feed(acceptor, b"\r\n" + raw)
        assert isinstance(only, ProtocolFault)
        assert aborts_as_it_should(state, "Evt19", only.reply)
        assert acceptor.state == "Sta13"
        assert feed(acceptor, raw) == []


# What we may do ourselves: PDU sent, next state.
OURS = {
    "DT-1": (4, "Sta6"),
    "AR-1": (5, "Sta7"),
    "AA-1": (7, "Sta13"),
    "AA-2": (None, "Sta1"),
    "AA-4": (None, "Sta1"),
    "AA-5": (None, "Sta1"),
    "AR-5": (None, "Sta1"),
}
DOING: dict[str, Callable[[Acceptor], bytes | None]] = {
    "Evt9": lambda acceptor: acceptor.respond(REQUEST, Response(0)),
    "Evt11": Acceptor.release,
    "Evt15": Acceptor.abort,
    "Evt17": Acceptor.lost,
    "Evt18": Acceptor.lost,  # ARTIM is the door's deadline, which closes without a word
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", DOING)
def test_what_we_do_in_each_state_is_what_the_table_allows(state: str, event: str) -> None:
    """Where the table has an empty cell nothing is sent and the state stays."""
    acceptor = acceptor_in(state)
    action = TRANSITION_TABLE.get((event, state))
    if action is None and event in ("Evt9", "Evt11"):
        with pytest.raises(NotEstablished):
            DOING[event](acceptor)
        assert acceptor.state == state
        return
    sent = DOING[event](acceptor)
    if action is None:
        assert not sent
        return
    kind, after = OURS[action]
    assert (sent or b"")[:1] == (b"" if kind is None else bytes((kind,)))
    assert acceptor.state == after
    if kind == 7:
        assert sent is not None
        assert abort_of(sent) == (USER, 0)


def test_a_request_that_we_refuse_is_rejected_and_its_close_awaited() -> None:
    """Sta2, Evt6 and Evt8: AE-6 and AE-8."""
    assert TRANSITION_TABLE["Evt8", "Sta3"] == "AE-8"
    acceptor = Acceptor(Policy(called_ae=frozenset({"OTHER"})).judge)
    assert acceptor.receive(RQ) == [
        Rejected(acceptor_request(), CALLED_AE_UNKNOWN, pdu(3, b"\0\1\1\7"))
    ]
    assert acceptor.state == "Sta13"


def acceptor_request() -> object:
    (accepted,) = Acceptor(Policy().judge).receive(RQ)
    assert isinstance(accepted, Accepted)
    return accepted.request


def test_our_table_has_every_row_of_the_standards_and_no_other() -> None:
    """A state without an answer would be a crash on the wire; the names of the actions agree."""
    assert {str(state) for state in TRANSITIONS} == set(STATES)
    for state, row in TRANSITIONS.items():
        assert set(row) == {*PduType, None}
        for event, (kind, _) in PDUS.items():
            assert str(row[kind]).split(", ")[0] == TRANSITION_TABLE[event, str(state)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"\x09", 1),
        (RQ, 2),
        (pdu(3, bytes(4)), 2),
        (b"\x04\0\xff\xff\xff\xff", 6),
        (pdu(4, b"\0"), 6),
        (p_data(99, b"", is_command=True), 6),
        (p_data(1, b"", is_command=False), 6),
    ],
)
def test_the_reason_of_an_abort_says_what_was_wrong(broken: bytes, reason: int) -> None:
    """PS3.8 §9.3.8: 1 unrecognized PDU, 2 unexpected PDU, 6 invalid parameter value."""
    (fault,) = acceptor_in("Sta6").receive(broken)
    assert isinstance(fault, ProtocolFault)
    assert abort_of(fault.reply) == (PROVIDER, reason)


def test_sta13_ends_with_the_door() -> None:
    """Nothing of ours is sent there any more."""
    acceptor = acceptor_in("Sta13")
    assert acceptor.abort() == b""
    assert acceptor.state is State.AWAITING_CLOSE
