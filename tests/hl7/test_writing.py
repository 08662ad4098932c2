"""Values to text, judged by reading it again with ours and with python-hl7."""

from __future__ import annotations

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hl7.header import Separators
from broker.hl7.message import parse
from broker.hl7.writing import Component, Line, Repeated, Verbatim, escape, write

MSH: Line = ("MSH", {3: "BROKER", 9: ["ORM", "O01"], 10: "1", 11: "P", 12: "2.3.1"})


def test_a_message_is_written_segment_by_segment() -> None:
    """MSH-1 and MSH-2 by themselves, empty ends trimmed, CR at the end of each."""
    pid: Line = ("PID", {3: Repeated([["7", "", "", ["H", "1.2", "ISO"]], ["8"]]), 5: ["DOE", ""]})
    assert write([MSH, pid, ("ORC", {1: "SC", 9: ""}), ("ZZZ", {})]) == (
        "MSH|^~\\&|BROKER||||||ORM^O01|1|P|2.3.1\rPID|||7^^^H&1.2&ISO~8||DOE\rORC|SC\rZZZ\r"
    )


def test_unusual_separators_are_written_and_escaped() -> None:
    """The sender's own, when it is answered."""
    separators = Separators("#", "$", "*", "%", "@")
    found = write([("MSH", {3: "A#B"}), ("NTE", {3: "5 % $ ^"})], separators)
    assert found == "MSH#$*%@#A%F%B\rNTE###5 %E% %S% ^\r"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b^c~d&e\\f", "a\\F\\b\\S\\c\\R\\d\\T\\e\\E\\f"),
        ("\\F\\", "\\E\\F\\E\\"),
        ("one\ntwo\r\nthree\rfour", "one\\.br\\two\\.br\\three\\.br\\four"),
        ("\x0b\x1c\x1b", "\\X0B\\\\X1C\\\\X1B\\"),
        ('""', '""'),
        ("", ""),
    ],
)
def test_what_would_break_a_message_is_escaped(text: str, written: str) -> None:
    """Separators, the escape itself first, line ends, MLLP's own bytes."""
    assert escape(text) == written


def test_verbatim_text_is_not_escaped_again() -> None:
    """It is HL7 already."""
    assert write([("MSH", {3: Verbatim("RIS^1.2^ISO")})]) == "MSH|^~\\&|RIS^1.2^ISO\r"


@pytest.mark.parametrize("lines", [[], [("PID", {1: "1"})]])
def test_a_message_without_header_is_our_bug(lines: list[Line]) -> None:
    """ValueError, not a strange message."""
    with pytest.raises(ValueError, match="MSH"):
        write(lines)


VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_back(components: list[str]) -> None:
    """By us: any text survives one round trip, trailing empties aside."""
    value: list[Component] = [*components, "end"]
    note = parse(write([MSH, ("NTE", {3: value, 4: "end"})])).first("NTE")
    assert note is not None
    assert note.repetitions(3)[0].components() == [*components, "end"]
    assert note.repetitions(4)[0].text() == "end"


def test_an_independent_reader_reads_the_same() -> None:
    """python-hl7 as the peer."""
    found = hl7.parse(write([MSH, ("PID", {3: ["7", "", "", "H"], 5: ["O&Neill|", "J^"]})]))
    assert str(found.segment("MSH")[9]) == "ORM^O01"
    assert found.unescape(found.extract_field("PID", 1, 5, 1, 1)) == "O&Neill|"
    assert found.unescape(found.extract_field("PID", 1, 5, 1, 2)) == "J^"
