"""Rules made ready for a shape of message give what the rules themselves give, whatever is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.charsets import decode
from broker.hl7.header import read_header
from broker.hl7.message import groups, parse
from broker.hl7.refusal import Refusal
from broker.mapping.bundle import Bundle
from broker.mapping.loading import load
from broker.mapping.running.applying import Inbound, Source, changes, outcomes
from broker.mapping.running.ready import MOST_KEPT
from broker.mapping.running.shapes import MOST_SHAPES
from broker.mapping.values.evaluation import Evaluation, Watch
from broker.settings import shipped_mappings

CORPUS = Path(__file__).parents[1] / "corpus"
FOLDER = shipped_mappings()
NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SOURCES = (
    Source("RIS|NORTH", "NORTH"),
    Source("EPIC|WEST", "WEST", ZoneInfo("America/New_York")),
)
BUNDLE = load(FOLDER, examples=False)
"""One for all tests: what earlier messages left behind must not show."""


CONDITIONS = """
mapping: conditions
format: 1
extends: ihe-orders
accept: {messages: [ORM^O01]}
tables:
  known: {rows: {CTABD: CT}, on_miss: hold}
let:
  kind: OBR-4 | lookup(known)
  named: PID-5[.7 = M and .1 matches 'W.*'] ?? PID-9[not .7 valued or .7 in (D, L)] ?? PID-5
attributes:
  AdmissionID: {from: [{from: PV1-19, when: PV1-2 = I}, PID-18, {from: PV1-50, when: kind valued}]}
  PatientState: {from: [{from: OBR-12.2, when: kind = CT}, OBR-12]}
  MedicalAlerts: {from: [{from: OBR-13 | upper, when: ORC-1 = NW}, {from: OBR-13, when: PV1-2 = I}]}
  PatientBirthName: named | person
  PatientMotherBirthName: PID-6[.1 valued] ?? PID-9 | person
  PatientReligiousPreference: named | part(2)
  EthnicGroup: PID-3[.5 != MR] ?? PID-4[.1 valued] | part(4, 1)
  InstitutionAddress: {from: ORC-22, when: kind valued}
  MilitaryRank: PID-3[.5 = MR] | part(1) | left(3)
  IssuerOfAccessionNumberSequence: PID-3[.1 = '4711'] | authority
  ReferringPhysicianName: PV1-8[.1 valued] ?? PV1-7 | clinician
  RequestedProcedureCodeSequence: (OBR-44 | code('99LOCAL')) ?? (OBR-4 | code('99LOCAL'))
  OrderPlacerIdentifierSequence: (ORC-2 ?? OBR-2 | issuer) ?? (ORC-3 ?? OBR-3 | issuer)
"""
"""An overlay whose rules ask before they read, choose repetitions, and share what is chosen."""


@pytest.fixture(scope="module")
def conditions(tmp_path_factory: pytest.TempPathFactory) -> Inbound:
    path = tmp_path_factory.mktemp("mappings") / "conditions.yaml"
    path.write_text(CONDITIONS, encoding="utf-8")
    bundle = load(path, examples=False)
    return next(each for each in bundle.inbound if each.name == "conditions")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return decode(raw, read_header(raw)).text
    except Refusal:
        return raw.decode("latin-1")


MESSAGES = [
    text
    for path in (*sorted(CORPUS.glob("*.hl7")), *sorted((FOLDER / "examples").glob("*.hl7")))
    if (text := _text(path)).lstrip("\ufeff\r\n ").startswith("MSH")
]


def result(inbound: Inbound, source: Source, text: str, watch: Watch | None) -> list[Any]:
    """Everything that can be told of a message: changes, lines, warnings, and the refusal."""
    found: list[Any] = []
    try:
        worked = outcomes(inbound, source, parse(text), received=NOW, site_zone=BERLIN, watch=watch)
        found += [(each.change, each.line, each.warnings) for each in worked]
    except Refusal as refusal:
        facts = (refusal.code, refusal.location, refusal.text, refusal.remedy)
        found.append((*facts, refusal.acknowledgement))
    return found


def assert_same(inbound: Inbound, source: Source, text: str) -> None:
    """A mapping says the same when ready, when ready for the second time, and explained."""
    explained = result(inbound, source, text, Watch())
    assert result(inbound, source, text, None) == explained
    assert result(inbound, source, text, None) == explained


def test_messages_of_vendors_and_examples_come_out_the_same() -> None:
    assert len(MESSAGES) > 30
    for text, inbound, source in product(MESSAGES, BUNDLE.inbound, SOURCES):
        assert_same(inbound, source, text)


def test_conditions_and_choices_come_out_the_same(conditions: Inbound) -> None:
    for text in MESSAGES:
        assert_same(conditions, SOURCES[0], text)


@pytest.mark.parametrize(
    "field", ["^", "A^~B^RIS", "^~B^RIS", "^RIS", "A^RIS", "A^RIS~B^X", "A", "~"]
)
def test_an_issuer_that_is_remembered_is_that_of_the_field(inbound: Inbound, field: str) -> None:
    """The number is no part of what is remembered; which repetition speaks still counts."""
    for said in ("A1^RIS", field, "B^RIS"):
        assert_same(inbound, SOURCES[0], ORDER.replace("|A1|", f"|{said}|"))


@pytest.mark.parametrize("procedure", ["^CT abdomen", "", "CTABD^CT abdomen^L", "^", "A~^B"])
def test_a_field_of_which_nothing_comes_leaves_the_next_its_turn(
    conditions: Inbound, procedure: str
) -> None:
    """Also where it was the last one of an earlier message, and is remembered for it."""
    order = ORDER.replace("||||CT\r", f"||||CT{'|' * 20}^CT of the abdomen\r")
    for said in ("", procedure, "CTABD^CT abdomen^L"):
        assert_same(conditions, SOURCES[0], order.replace("CTABD^CT abdomen^L", said))
        numbered = order.replace("ORC|NW|A1|F1", f"ORC|NW|{said}|F1^RIS")
        assert_same(conditions, SOURCES[0], numbered)
        assert_same(conditions, SOURCES[0], numbered.replace("|A1|F1|", f"|{said}|F1^LAB|"))


def test_a_number_of_which_only_separators_are_left_is_none(inbound: Inbound) -> None:
    """Its issuer is that of the next place, whatever is remembered of numbers without one."""
    for placer in ("A1", "^", "A1^RIS", "^^", "A1"):
        order = ORDER.replace("|A1|F1|", f"|{placer}|F1|", 1)
        assert_same(inbound, SOURCES[0], order.replace("OBR|1|A1|", "OBR|1|B1^LAB|"))


def test_other_separators_make_other_values_of_the_same_text() -> None:
    """What was remembered of one message is no answer for one that is delimited otherwise."""
    for text, swapped in product(MESSAGES, ("^!", "&$", "~;", "\\/")):
        for inbound in BUNDLE.inbound:
            other = text.replace(swapped[0], swapped[1])
            assert_same(inbound, SOURCES[0], other)
            head, rest = other[:8], text[8:]
            assert_same(inbound, SOURCES[0], head + rest)


PIECES = st.one_of(
    st.text(alphabet='AZ09~^&\\|" .,-+\x01\u00a0äß日', max_size=20),
    st.sampled_from(
        [
            *('""', "", "^", "~", "&", "A^B^C", "A~B", 'A^""^C', "\\T\\", "20260316", "19991340"),
            *("20260316093000", "202603160930+0100", "X" * 17, "Y" * 65, "CT", "1.2.3", " A "),
            *("A^B^C^D^E^F", "4711^^^N^MR", "4711^^^N^MR~12^^^X^SS", "DOE^J~DOE^J^^^^^M"),
            *(
                "^~B^RIS",
                "A^~B^RIS",
                "^RIS",
                "A^RIS~B^X",
                "ROE^^^^^^M~W^A^^^^^M",
                "4711^^^N&1.2&ISO^PI",
            ),
            *("ROE&v&R^ANN", "DOE, JANE", "A&B^C", "SC", "XO", "CA", "NW"),
        ]
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A message with some of its fields replaced, and perhaps a segment left out or sent twice."""
    lines = [
        line for line in draw(st.sampled_from(MESSAGES)).replace("\n", "\r").split("\r") if line
    ]
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        fields = lines[number].split("|")
        at = draw(st.integers(1 if number else 2, max(2, len(fields) + 2)))
        fields += [""] * (at + 1 - len(fields))
        fields[at] = draw(PIECES)
        lines[number] = "|".join(fields)
    chosen = draw(st.integers(1, 30))
    if chosen < len(lines):
        lines[chosen : chosen + 1] = [lines[chosen]] * draw(st.sampled_from((0, 1, 2)))
    return "\r".join(lines) + "\r"


@given(mutated(), st.sampled_from(BUNDLE.inbound), st.sampled_from(SOURCES))
@settings(max_examples=400, deadline=None)
def test_any_message_comes_out_the_same(
    conditions: Inbound, text: str, inbound: Inbound, source: Source
) -> None:
    try:
        parse(text)
    except Refusal:
        return
    assert_same(inbound, source, text)
    assert_same(conditions, source, text)


ORDER = (
    "MSH|^~\\&|RIS|NORTH|MWL|N|20260316074502||ORM^O01|1|P|2.3.1\r"
    "PID|1||4711^^^NORTH^MR||ROE^ANN||19570131|F\r"
    "ORC|NW|A1|F1||||^^^20260316100000\r"
    "OBR|1|A1|F1|CTABD^CT abdomen^L||||||||||||7^OZ^SEYMA||ACC1|RP1|SPS1||||CT\r"
)


@pytest.fixture
def inbound(bundle: Bundle) -> Inbound:
    return bundle.accepting(read_header(ORDER.encode()))


def mapped(inbound: Inbound, text: str) -> dict[str, Any]:
    [change] = changes(inbound, SOURCES[0], parse(text), received=NOW, site_zone=BERLIN)
    return change.attributes


def test_what_one_change_is_given_is_its_own(inbound: Inbound) -> None:
    """Codes are remembered; who changes an attribute must not change the next order's."""
    first = mapped(inbound, ORDER)
    second = mapped(inbound, ORDER)
    for each in (first, second, mapped(inbound, ORDER)):
        codes = each["RequestedProcedureCodeSequence"]
        items = getattr(codes, "value", codes)
        assert items == [
            {"CodeValue": "CTABD", "CodingSchemeDesignator": "L", "CodeMeaning": "CT abdomen"}
        ]
        items[0]["CodeMeaning"] = "spoilt"
        items.append({})


def test_shapes_and_texts_that_are_remembered_are_bounded(inbound: Inbound) -> None:
    """A peer that never sends the same twice fills no memory."""
    for number in range(MOST_SHAPES + 10):
        filled = "|".join("X" if number >> bit & 1 else "" for bit in range(11))
        message = groups(parse(f"{ORDER}ZDS|1.2.3\rPV1|1|{filled}\r"))[0]
        inbound.shapes.rules_for(Evaluation(message))
    assert len(inbound.shapes) <= MOST_SHAPES
    for number in range(MOST_KEPT + 10):
        changed = ORDER.replace("OZ^SEYMA", f"OZ{number}^SEYMA")
        assert mapped(inbound, changed)["RequestingPhysician"] == f"OZ{number}^SEYMA"
    for number in range(MOST_KEPT + 10):
        mapped(inbound, ORDER.replace("F1||||", f"F1||X{number}||"))
    assert 0 < len(inbound.actions) <= MOST_KEPT


def test_a_decision_that_is_remembered_is_that_of_the_codes(inbound: Inbound) -> None:
    for status in ("", "CM", "CA", "", '""', "CM^x", "~CM", "\\F\\", "CM"):
        for code in ("NW", "SC", "XO", "CA", "??", "NW"):
            text = ORDER.replace("ORC|NW|A1|F1||", f"ORC|{code}|A1|F1||{status}")
            assert_same(inbound, SOURCES[0], text)
