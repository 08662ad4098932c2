"""Whatever bytes come, they give a value or a refusal, and DICOM gets what it may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hl7.acknowledgement import answers, is_acknowledgement, read_acknowledgement
from broker.hl7.charsets import decode
from broker.hl7.framing import Block, Deframer
from broker.hl7.header import read_header
from broker.hl7.message import batch, parse
from broker.hl7.refusal import NotHL7, Refusal
from broker.mapping.bundle import Bundle
from broker.mapping.loading import load
from broker.mapping.running.applying import changes
from broker.mapping.standards.dictionaries import vr_of
from broker.mapping.standards.judging import refuse_invalid
from broker.mapping.trials.trying import try_message, unranked
from broker.settings import shipped_mappings
from broker.worklist.applied import Applied, Sender
from broker.worklist.apply import apply_all, apply_at_length
from broker.worklist.changes import Change
from broker.worklist.finding import Known
from broker.worklist.refusals import Refused
from tests.fuzz.messages import CORPUS, messages, noise
from tests.fuzz.running import fuzz

NOW = datetime(2026, 3, 16, 10, 15, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")
MODES = ("auto", "original", "enhanced")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
CONTROL_IN_LONG_TEXT = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")
LENGTHS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "UI": 64, "ST": 1024, "LT": 10240, "DA": 8}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load(shipped_mappings())


@fuzz
@given(st.lists(st.binary(max_size=60) | messages() | noise, max_size=6), st.data())
def test_any_stream_gives_the_same_blocks_however_it_is_cut(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(parts)
    whole, pieces = Deframer(4096), Deframer(4096)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    expected = [*whole.receive(stream), *whole.eof()]
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += pieces.receive(stream[start:end])
        assert pieces.held <= 4096
    assert [*found, *pieces.eof()] == expected
    assert all(len(one.payload) <= 4096 for one in expected if isinstance(one, Block))


@fuzz
@given(messages())
def test_the_short_way_of_a_first_order_leads_where_the_long_one_does(
    bundle: Bundle, raw: bytes
) -> None:
    try:
        header = read_header(raw)
        source, decoded = bundle.source(header), decode(raw, header)
        said = parse(decoded.text, decoded.codec)
        inbound = bundle.accepting(header)
        groups = changes(inbound, source, said, received=NOW, site_zone=ZONE)
    except Refusal:
        return
    by = Sender("RIS", source.issuer, "20260316101500", source.policies)
    short, long = (_made(how, groups, by) for how in (apply_all, apply_at_length))
    assert short == long


def _made(how: Callable[..., Applied], groups: Sequence[Change], by: Sender) -> object:
    try:
        applied = how(groups, Known(), by)
    except (Refused, Refusal) as refused:
        return f"{refused}"
    records = (*applied.known.orders.values(), *applied.known.patients.values())
    return applied, [record.model_dump_json() for record in records]


@fuzz
@given(messages() | st.binary(max_size=200))
def test_any_block_is_messages_or_a_refusal(raw: bytes) -> None:
    with suppress(Refusal):
        assert batch(raw)


@fuzz
@given(messages())
def test_any_message_is_decoded_and_split_or_refused(raw: bytes) -> None:
    refused: Refusal | None = None
    try:
        header = read_header(raw)
        decoded = decode(raw, header)
        parse(decoded.text, decoded.codec)
    except Refusal as refusal:
        refused = refusal
    assert refused is None or (len(refused.summary) <= 80 and len(refused.sentence) <= 250)


@fuzz
@given(messages(), st.sampled_from(MODES), st.booleans())
def test_any_header_gets_answers_that_can_be_read(raw: bytes, mode: Any, refused: bool) -> None:
    try:
        header = read_header(raw)
    except NotHL7:
        return
    refusal = Refusal("no", code="102", rule="x.yaml:1") if refused else None
    own = iter(["1", "2"])
    for payload in answers(header, refusal, stored=True, control_ids=own, now=NOW, mode=mode):
        assert not is_acknowledgement(header)
        assert not re.search(rb"[\x0b\x1c]", payload)
        echoed = re.sub("[\x0b\x1c]", "", header.control_id)
        assert read_acknowledgement(payload).control_id == echoed


@fuzz
@given(messages())
def test_any_message_is_judged_by_hl7apy_or_passes(raw: bytes) -> None:
    """What hl7apy itself breaks on must not break a strict source."""
    with suppress(Refusal):
        header = read_header(raw)
        decoded = decode(raw, header)
        refuse_invalid(parse(decoded.text, decoded.codec))


@fuzz
@given(messages())
def test_any_message_becomes_attributes_that_dicom_may_hold(bundle: Bundle, raw: bytes) -> None:
    trial = try_message(bundle, raw, received=NOW, site_zone=ZONE, explain=False)
    for outcome in trial.outcomes:
        for keyword, value in _leaves(unranked(outcome.change.attributes)):
            _fits(keyword, value)
    if trial.refusal:
        _quotes_nothing(trial.refusal, raw)


def _leaves(attributes: dict[str, Any]) -> Any:
    for keyword, value in attributes.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _leaves(each)
            elif each is not None:
                yield keyword, str(each)


def _fits(keyword: str, value: str) -> None:
    vr = vr_of(keyword)
    assert len(value) <= LENGTHS.get(vr, 1 << 20), keyword
    if vr in ("LT", "ST", "UT", "UC"):
        assert not CONTROL_IN_LONG_TEXT.search(value), keyword
    else:
        assert "\\" not in value, keyword
        assert not CONTROL.search(value), keyword
    if vr == "PN":
        assert all(len(group) <= 64 and group.count("^") <= 4 for group in value.split("="))


def _quotes_nothing(refusal: Refusal, raw: bytes) -> None:
    """No name of the corpus is in a refusal: it goes over the wire and into logs."""
    said = f"{refusal} {refusal.summary} {refusal.sentence}"
    for name in ("Jürgen", "MARLOWE", "ESTHER", "Brontë", "QUILL", "4711023"):
        assert name not in said


def test_the_corpus_itself_is_read(bundle: Bundle) -> None:
    """The fuzz begins with messages that mean something."""
    found = [
        try_message(bundle, raw, received=NOW, site_zone=ZONE, explain=False) for raw in CORPUS
    ]
    assert sum(trial.refusal is None and bool(trial.outcomes) for trial in found) >= len(CORPUS) / 2
