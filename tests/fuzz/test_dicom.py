"""Whatever peers send gives events, little is held, and data sets are read or refused."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from broker.dicom.association import (
    Accepted,
    Acceptor,
    Event,
    ProtocolFault,
    Rejected,
    RequestReceived,
    Sizes,
    State,
)
from broker.dicom.dictionary import UnencodableValue
from broker.dicom.dimse import MAX_COMMAND_BYTES, Response
from broker.dicom.encoding import charset_for, encode
from broker.dicom.identifier import Identifier, UnreadableIdentifier, decode
from broker.dicom.negotiation import Policy
from broker.dicom.pdu import LARGEST_PDU, PduReader, PduType, fragments
from tests.fuzz.dicom import EXPLICIT, IMPLICIT, cut, data_sets, streams
from tests.fuzz.running import fuzz

DATA_SET = 4096
MOST_HELD = LARGEST_PDU + 6 + DATA_SET + MAX_COMMAND_BYTES
REASONS = {0: (0,), 2: (0, 1, 2, 4, 5, 6)}  # of an A-ABORT, by source (PS3.8 §9.3.8)
places = st.lists(st.floats(0, 1), max_size=6)


def acceptor() -> Acceptor:
    return Acceptor(Policy().judge, sizes=Sizes({"": DATA_SET}))


@fuzz
@given(streams, places)
def test_any_stream_is_the_same_events_however_it_is_cut(stream: bytes, at: list[float]) -> None:
    """And whatever it was, little is held, and each reply is one PDU that PS3.8 allows there."""
    whole, pieces = acceptor(), acceptor()
    expected = whole.receive(stream)
    found = []
    for piece in cut(stream, at):
        found += pieces.receive(piece)
        assert pieces.held <= MOST_HELD
    assert found == expected
    assert (pieces.state, pieces.held, pieces.unfinished) == (
        whole.state,
        whole.held,
        whole.unfinished,
    )
    for event in expected:
        judge_reply(event)
    if whole.state is State.CLOSED:
        assert whole.held == 0


def judge_reply(event: Event) -> None:
    if not event.reply:
        return
    reader = PduReader()
    reader.feed(event.reply)
    sent = reader.next()
    assert sent is not None
    assert not reader.unfinished
    if isinstance(event, ProtocolFault):
        source, reason = sent.body[2:4]
        assert reason in REASONS[source]
        assert len(event.fact) < 100
        assert event.fact.isprintable()
    if isinstance(event, Accepted):
        assert sent.type is PduType.ASSOCIATE_AC
        assert sent.body[4:36] == event.request.raw_titles[:32]
    if isinstance(event, Rejected):
        assert sent.body[1:] == b"\1\2\2"  # the only rule of this policy: protocol version 1


@fuzz
@given(streams, data_sets)
def test_any_request_can_be_answered_within_the_peers_maximum(stream: bytes, answer: bytes) -> None:
    """With a data set or without, in pieces that reassemble to it."""
    peer = acceptor()
    most = 0
    for event in peer.receive(stream):
        if isinstance(event, Accepted):
            most = event.agreement.max_pdu
        if isinstance(event, RequestReceived) and peer.established:
            judge_response(peer.respond(event.request, Response(0xFF00, answer)), answer, most)
            judge_response(peer.respond(event.request, Response(0xA700, None, "é" * 99)), b"", most)


def judge_response(sent: bytes, answer: bytes, most: int) -> None:
    reader = PduReader()
    reader.feed(sent)
    received = b""
    while pdu := reader.next():
        assert len(pdu.body) <= (max(most, 14) if most else 65_536)
        (value,) = fragments(pdu.body)
        received += b"" if value.is_command else value.data
    assert not reader.unfinished
    assert received == answer


@fuzz
@given(data_sets | st.binary(max_size=200), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_any_data_set_is_read_or_refused_and_what_is_read_can_be_written(
    data: bytes, syntax: str
) -> None:
    """A refusal is short enough for an Error Comment and holds no value."""
    read = read_or_fact(data, syntax)
    if isinstance(read, str):
        assert len(read) <= 64
        assert read.isascii()
        return
    with suppress(UnencodableValue):
        charset = charset_for(read.keys, read.charset)
        again = decode(encode(read.keys, syntax, charset), syntax)
        assert set(again.keys) == set(read.keys)
        assert not again.unknown


def read_or_fact(data: bytes, syntax: str) -> Identifier | str:
    try:
        return decode(data, syntax)
    except UnreadableIdentifier as refused:
        return refused.fact
