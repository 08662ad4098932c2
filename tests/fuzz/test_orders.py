"""Whatever senders do, the orders door answers what can be answered and goes on."""

from __future__ import annotations

import re
from collections import Counter
from itertools import count, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.hl7.acknowledgement import is_acknowledgement
from broker.hl7.framing import Block, Deframer
from broker.hl7.header import read_header
from broker.hl7.message import batch
from broker.hl7.refusal import NotHL7, Refusal
from broker.probe.orders import Envelope, orm_o01
from tests.doors.actors import new_order
from tests.fuzz.messages import messages, noise
from tests.fuzz.running import fuzz
from tests.orders.door import LIMITS, Door, control_ids

pytestmark = pytest.mark.peer("redis-server")
_NUMBERS = count(1)

blocks = st.builds(
    lambda before, start, raw, end: before + start + raw + end,
    noise,
    st.sampled_from([b"\x0b", b"\x0b", b"\x0b", b"", b"\x0b\x0b"]),
    messages() | st.binary(max_size=50),
    st.sampled_from([b"\x1c\r", b"\x1c\r", b"\x1c\r", b"\x1c", b"\x1c\n", b"", b"\x1c\x1c\r"]),
)
streams = st.lists(blocks, max_size=4).map(b"".join)


cuts = st.lists(st.floats(0, 1), max_size=4)


@fuzz
@given(st.lists(st.tuples(streams, cuts), min_size=1, max_size=3))
def test_every_sender_is_answered_and_nothing_breaks(
    door: Door, sent: list[tuple[bytes, list[float]]]
) -> None:
    """A good order at the end of each stream is taken, whatever came before it."""
    last = [f"LAST{next(_NUMBERS)}" for _ in sent]
    whole = [
        stream + b"\x0b" + orm_o01(new_order(), envelope=Envelope(control_id=name)) + b"\x1c\r"
        for (stream, _), name in zip(sent, last, strict=True)
    ]
    away = door.times_away
    answered = door.talk(*(_cut(stream, at) for stream, (_, at) in zip(whole, sent, strict=True)))
    assert door.broken == []
    assume(door.times_away == away)  # a machine under load
    for stream, name, payloads in zip(whole, last, answered, strict=True):
        told = control_ids(payloads)
        assert told[name] == 1
        assert _must_be_answered(stream) - told == Counter()
    assert (door.listener.connections, door.listener.held_bytes) == (0, 0)


def _cut(stream: bytes, at: list[float]) -> list[bytes]:
    cuts = [0, *sorted(int(each * len(stream)) for each in at), len(stream)]
    return [stream[start:end] for start, end in pairwise(cuts)]


def _must_be_answered(stream: bytes) -> Counter[str]:
    """MSH-10 of every message that did not ask for silence; '' for what has no header."""
    deframer = Deframer(LIMITS.max_frame_bytes)
    found = [*deframer.receive(stream), *deframer.eof()]
    expected: Counter[str] = Counter()
    for block in found:
        assert isinstance(block, Block)
        try:
            inside = batch(block.payload)
        except Refusal:
            continue
        for raw in inside:
            try:
                header = read_header(raw)
            except NotHL7:
                expected[""] += 1
                continue
            wants = header.accept_ack or header.application_ack
            if not wants and not is_acknowledgement(header):
                expected[re.sub("[\x0b\x1c]", "", header.control_id)] += 1
    return expected
