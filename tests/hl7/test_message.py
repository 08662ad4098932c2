"""Text to segments, fields, repetitions, components; whatever comes is read or refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hl7.charsets import decode
from broker.hl7.header import read_header
from broker.hl7.message import NULL, Segment, batch, groups, parse
from broker.hl7.message.segments import REPETITION_LIMIT
from broker.hl7.refusal import NotHL7, Refusal

CORPUS = Path(__file__).parents[1] / "corpus"
MSH = "MSH|^~\\&|RIS|H|MWL|R|20260316||ORM^O01|1|P|2.3.1\r"


def segment(line: str, codec: str = "utf-8") -> Segment:
    found = parse(MSH + line + "\r", codec).segments[-1]
    assert found.raw == line
    return found


def text(value: str, codec: str = "utf-8") -> str:
    return segment("NTE|" + value, codec).repetitions(1)[0].text()


def test_fields_are_counted_as_hl7_counts_them() -> None:
    """MSH-1 is the separator, MSH-2 is one value although full of separators."""
    msh = parse(MSH).segments[0]
    assert [one.text() for one in msh.repetitions(1)] == ["|"]
    assert [one.raw for one in msh.repetitions(2)] == ["^~\\&"]
    assert msh.repetitions(3)[0].text() == "RIS"
    assert msh.repetitions(9)[0].components() == ["ORM", "O01"]


def test_components_and_subcomponents_are_reached_by_number() -> None:
    """0 takes the whole, other numbers count from 1."""
    name = segment("PID|1||9||Aue&von der&Aue^Jürgen^K").repetitions(5)[0]
    assert name.text() == "Aue&von der&Aue^Jürgen^K"
    assert name.text(1) == "Aue&von der&Aue"
    assert name.text(1, 2) == "von der"
    assert name.text(2) == name.text(2, 1) == "Jürgen"
    assert (name.text(4), name.text(2, 2), name.text(9, 9)) == ("", "", "")
    assert name.subcomponents(1) == ["Aue", "von der", "Aue"]
    assert name.subcomponents(9) == [""]


def test_a_plain_value_is_its_own_first_component() -> None:
    """HL7: a simple type may become complex later."""
    value = segment("OBR|1|P1").repetitions(2)[0]
    assert value.text() == value.text(1) == value.text(1, 1) == "P1"


def test_repetitions_keep_their_places() -> None:
    """An empty one between is one too."""
    found = segment("PID|1||A~~C").repetitions(3)
    assert [(one.index, one.text()) for one in found] == [(1, "A"), (2, ""), (3, "C")]


def test_an_empty_field_has_no_repetitions_and_null_has_one() -> None:
    """Unchanged as against erase."""
    pid = segment('PID|1||""||^""|')
    assert pid.repetitions(2) == pid.repetitions(99) == []
    assert pid.repetitions(3)[0].text() == NULL
    assert (pid.repetitions(5)[0].text(1), pid.repetitions(5)[0].text(2)) == ("", NULL)


def test_repetitions_are_bounded() -> None:
    """2,000 PID-3 cost as much as 100."""
    assert len(segment("PID|1||" + "~".join("x" * 2000)).repetitions(3)) == REPETITION_LIMIT


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("A\\T\\B", "A&B"),
        ("\\F\\\\S\\\\R\\\\T\\\\E\\", "|^~&\\"),
        ("Knie\\.br\\nüchtern", "Knie\nnüchtern"),
        ("a\\.sp\\b\\.sp3\\c\\.ce\\d\\.sp +1\\e", "a\nb\nc\nd\ne"),
        ("\\.in+5\\a\\.ti-2\\b\\.fi\\c\\.nf\\d\\.sk2\\e", "abcd e"),
        ("\\H\\wichtig\\N\\!", "wichtig!"),
        ("x\\X0D0A\\y", "x\r\ny"),
        ("Z\\XC3AB\\", "Zë"),
        ("Z\\XC3\\\\XAB\\", "Zë"),
        ("Z\\Xc3aB\\", "Zë"),
        ("\\ZVIP\\", "\\ZVIP\\"),
        ("C:\\x", "C:\\x"),
        ("C:\\temp\\x", "C:\\temp\\x"),
        ("1\\2", "1\\2"),
        ("\\XZZ\\", "\\XZZ\\"),
        ("\\X1\\", "\\X1\\"),
        ("ends in \\", "ends in \\"),
        ("C:\\x\\T\\y", "C:\\x&y"),
        ("\\E\\T\\E\\", "\\T\\"),
        ("\\C2842\\a\\M2442\\b", "ab"),
    ],
)
def test_escapes_become_what_they_mean_once(sent: str, meant: str) -> None:
    """After splitting, once, and what is no escape stays."""
    assert text(sent) == meant


@pytest.mark.parametrize(
    ("codec", "sent", "meant"),
    [
        ("iso8859_1", "B\\XFC\\rgi", "Bürgi"),
        ("iso8859_2", "\\XA9\\", "Š"),
        ("utf-8", "B\\XFC\\rgi", "Bürgi"),
        ("utf-8", "\\X81\\", "\x81"),
    ],
)
def test_hexadecimal_escapes_are_in_the_character_set_of_the_message(
    codec: str, sent: str, meant: str
) -> None:
    """With Windows as the way out where the bytes do not fit."""
    assert text(sent, codec) == meant


def test_an_escaped_separator_splits_nothing() -> None:
    """Italian D&Angelò."""
    name = segment("PID|1||9||D\\T\\Angelò^Niccolò").repetitions(5)[0]
    assert name.components() == ["D&Angelò", "Niccolò"]
    assert name.subcomponents(1) == ["D&Angelò"]


def test_unusual_separators_are_followed_in_escapes_too() -> None:
    """`%` escapes, and `\\` is only a letter."""
    found = parse("MSH#$*%@#A#B\rPID#1##7$x*8##R%S%E$\\T\\\r").segments[1]
    assert [one.text(1) for one in found.repetitions(3)] == ["7", "8"]
    assert found.repetitions(5)[0].components() == ["R$E", "\\T\\"]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\r\n\r\n", " \x0c\r", "\r\x00"])
def test_segments_end_as_senders_end_them(end: str) -> None:
    """CR, LF, CRLF, blank lines between."""
    found = parse(end.join([MSH.rstrip("\r"), "PID|1", "ORC|NW", "OBR|1|P1"]) + end)
    assert [one.name for one in found.segments] == ["MSH", "PID", "ORC", "OBR"]


def test_a_line_feed_inside_text_is_text() -> None:
    """With CR as the end an LF ends nothing, unless a segment name follows."""
    found = parse(MSH + "NTE|1||first\nsecond and PID\r\nOBX|1\nOBX|2\r")
    assert [one.name for one in found.segments] == ["MSH", "NTE", "OBX", "OBX"]
    assert found.segments[1].repetitions(3)[0].text() == "first\nsecond and PID"


def test_segments_of_one_name_are_numbered() -> None:
    """ERR-2 counts that way."""
    found = parse(MSH + "OBX|1\rNTE|1\rOBX|2\r")
    assert [one.sequence for one in found.all("OBX")] == [1, 2]
    assert found.first("OBX") is found.all("OBX")[0]
    assert (found.first("ZDS"), found.all("ZDS")) == (None, [])


def test_odd_segments_are_kept() -> None:
    """A name without fields, lower case, garbage: nothing vanishes, nothing is mistaken."""
    found = parse(MSH + "ORC\rpid|1||7\rPIDgarbage\r  PV1|1\r")
    assert [one.name for one in found.segments] == ["MSH", "ORC", "PID", "PIDGARBAGE", "PV1"]


@pytest.mark.parametrize("raw", ["", "PID|1", "MSH", "MSHELL", "FHS|^~\\&|"])
def test_text_without_header_is_no_message(raw: str) -> None:
    """AR 200."""
    with pytest.raises(NotHL7):
        parse(raw)


def test_too_many_segments_are_refused() -> None:
    """5,000 is the limit, blank lines aside."""
    assert len(parse(MSH + "NTE|1\r" * 4_999 + "\r" * 100).segments) == 5_000
    with pytest.raises(Refusal, match="5000 segments"):
        parse(MSH + "NTE|1\r" * 5_000)
    with pytest.raises(Refusal, match="5000 segments"):
        parse(MSH + "\r" * 100_000)


def test_too_many_fields_are_refused_at_their_segment() -> None:
    """2,000 is the limit: a million of them take longer to split than a hundred orders."""
    assert parse(MSH + "NTE" + "|x" * 2_000 + "\r").first("NTE") is not None
    with pytest.raises(Refusal, match="2000 fields") as refused:
        parse(MSH + "NTE|1\rNTE" + "|x" * 2_001 + "\r")
    assert (refused.value.code, f"{refused.value.location}") == ("100", "NTE^2")


def test_what_follows_ten_thousand_escapes_of_a_field_is_left_as_sent() -> None:
    """It is longer than any attribute, and costs nothing."""
    read = segment("NTE|1||" + "\\T\\" * 300_000).repetitions(3)[0].text()
    assert read == "&" * 10_000 + "\\T\\" * 290_000


@pytest.mark.parametrize("raw", [MSH.rstrip("\r") + "||more\r", MSH + "DSC|more\r"])
def test_a_fragment_is_not_taken_for_a_message(raw: str) -> None:
    """MSH-14 or DSC-1: half an order is refused, statement 93."""
    with pytest.raises(Refusal, match="continuation"):
        parse(raw)
    assert parse(MSH + "DSC|\r").first("DSC") is not None


def test_representations_hold_no_values() -> None:
    """They end up in logs and tracebacks."""
    pid = segment("PID|1||SECRET")
    assert "SECRET" not in repr(pid) + repr(pid.repetitions(3))


@given(st.text(max_size=200))
def test_any_text_after_a_header_is_read_or_refused(tail: str) -> None:
    """No input makes the reader fail in another way."""
    for one in parse(MSH + tail).segments:
        for number in range(4):
            for value in one.repetitions(number):
                value.text(), value.components(), value.subcomponents(1)


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.hl7")), ids=lambda file: file.stem)
def test_the_corpus_is_read_without_loss(file: Path) -> None:
    """Every segment of every vendor, in order."""
    raw = file.read_bytes()
    found = decode(raw, read_header(raw))
    parsed = parse(found.text, found.codec)
    assert "\r".join(one.raw for one in parsed.segments) == found.text.rstrip("\r")
    assert len(groups(parsed)) == len(parsed.all("ORC"))


def test_text_escapes_of_the_corpus_are_read() -> None:
    """24: \\XE4\\ is ä in 8859/1."""
    raw = (CORPUS / "24_orm_zsegments_long_text_23.hl7").read_bytes()
    found = decode(raw, read_header(raw))
    texts = [
        value.text()
        for one in parse(found.text, found.codec).segments
        if one.name != "MSH"
        for number in range(1, 50)
        for value in one.repetitions(number)
    ]
    assert any("ä" in value for value in texts)
    assert not any("\\X" in value or "\\.br" in value for value in texts)


@given(
    st.one_of(
        st.binary(max_size=120),
        st.binary(max_size=120).map(lambda tail: MSH.encode() + tail),
        st.binary(max_size=30).map(lambda part: b"MSH|^~\\&|A|B|C|D|||E|" + part + b"|P|2.5\r"),
        st.binary(max_size=12).map(lambda part: b"MSH" + part + b"\rPID|1\r"),
    )
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Header, batch, character set, parsing: nothing but a Refusal is ever raised."""
    with suppress(Refusal):
        for one in batch(raw):
            header = read_header(one)
            found = decode(one, header)
            groups(parse(found.text, found.codec))
