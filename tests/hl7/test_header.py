"""The MSH line: read from bytes, whatever comes before it and whatever is odd in it."""

from __future__ import annotations

import pytest

from broker.hl7.header import Separators, read_header
from broker.hl7.refusal import Location, NotHL7, Refusal

MSH = (
    b"MSH|^~\\&|RIS^1.2^ISO|NORTH|BROKER|HOSP|20260316101500+0100|sec|OMI^O23^OMI_O23|MSG 0001|P^T|"
    b"2.5^DEU&&HL70399|||AL|NE||8859/1~ISO IR87"
)


def test_every_named_field_is_read() -> None:
    """Names of table 2-MSH; the namespace of an HD stands for the whole."""
    header = read_header(MSH + b"\rPID|1\r")
    assert header.sender == "RIS|NORTH"
    assert (header.receiving_application, header.receiving_facility) == ("BROKER", "HOSP")
    assert header.sent == "20260316101500+0100"
    assert (header.message_type, header.trigger, header.structure) == ("OMI", "O23", "OMI_O23")
    assert header.control_id == "MSG 0001"
    assert (header.processing_id, header.version) == ("P", "2.5")
    assert (header.accept_ack, header.application_ack) == ("AL", "NE")
    assert header.charsets == ("8859/1", "ISO IR87")


def test_whole_fields_are_kept_as_sent() -> None:
    """What is echoed in an answer is echoed byte for byte."""
    header = read_header(MSH)
    assert header.field(3) == "RIS^1.2^ISO"
    assert header.field(1) == "|"
    assert header.field(2) == "^~\\&"
    assert header.field(99) == ""


@pytest.mark.parametrize(
    "before", [b"", b"\xef\xbb\xbf", b"\r\n", b"\x00\x00", b"  ", b"\r\n\xef\xbb\xbf\n"]
)
def test_what_peers_put_before_the_header_is_skipped(before: bytes) -> None:
    """A byte order mark, blank lines, NULs."""
    assert read_header(before + MSH).control_id == "MSG 0001"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_the_line_ends_where_the_segment_ends(end: bytes) -> None:
    """CR, LF or both."""
    assert read_header(MSH + end + b"PID|1").charsets == ("8859/1", "ISO IR87")


def test_unusual_separators_are_read() -> None:
    """MSH#$*%@ is as good as any."""
    header = read_header(b"MSH#$*%@#OLD#M#MWL#M#20260316##ORM$O01#10#P#2.3\r")
    assert header.separators == Separators("#", "$", "*", "%", "@")
    assert (header.message_type, header.trigger) == ("ORM", "O01")


@pytest.mark.parametrize("given", [b"^~\\", b"^~", b"^", b"", b"^~\\&#"])
def test_a_short_or_long_list_of_separators_is_completed(given: bytes) -> None:
    """MSH-2 of 0 to 5 characters."""
    header = read_header(b"MSH|" + given + b"|RIS|H|MWL|R|20260316||ORM^O01|11|P|2.3\r")
    assert header.separators == Separators()
    assert header.control_id == "11"


@pytest.mark.parametrize("version", [b"", b"2.9", b"9.9", b"2.3.2", b"2.5^DEU&&HL70399"])
def test_any_version_is_read(version: bytes) -> None:
    """Versions route nothing here."""
    header = read_header(b"MSH|^~\\&|A|B|C|D|||ADT^A08|1|P|" + version)
    assert header.version == version.decode().split("^")[0]


def test_a_short_header_has_empty_fields() -> None:
    """Nothing is required to be able to answer."""
    header = read_header(b"MSH|^~\\&\r")
    assert (header.message_type, header.control_id, header.charsets) == ("", "", ())


def test_a_lower_case_header_is_read() -> None:
    """Seen in the field."""
    assert read_header(b"msh|^~\\&|a|b|||||orm^o01|7\r").message_type == "ORM"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01\x02\xff\xfe",
        b"PID|1||4711\r",
        b"MSHELL",
        b"MSH",
        b"MSH\r",
        "MSH|^~\\&|A".encode("utf-16-le"),
        "MSH|^~\\&|A".encode("utf-16"),
        b"GET / HTTP/1.1\r\n",
        b"MSH|^^\\&|A\r",
    ],
)
def test_what_is_no_hl7_is_refused_as_such(raw: bytes) -> None:
    """AR 200, and the caller can still answer it."""
    with pytest.raises(NotHL7) as refused:
        read_header(raw)
    assert (refused.value.acknowledgement, refused.value.code) == ("AR", "200")


def test_a_header_that_is_too_long_is_read_as_far_as_it_may_be() -> None:
    found = read_header(b"MSH|^~\\&|A|B|||||ORM^O01|77|P|2.5|" + b"x" * 20_000 + b"\rPID|1")
    assert (found.is_cut, found.control_id, len(found.field(13))) == (True, "77", 16_350)
    assert not read_header(b"MSH|^~\\&|A\r").is_cut


@pytest.mark.parametrize(
    ("label", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("", "utf-8"), ("8859/1", "latin-1"), ("", "cp1252")],
)
def test_names_of_senders_are_text_and_what_is_echoed_is_bytes(label: str, codec: str) -> None:
    line = f"MSH|^~\\&|RÖNTGEN|KÖLN^1.2^ISO|||||ORM^O01|1|P|2.5||||||{label}\r".encode(codec)
    found = read_header(line)
    assert found.sender == "RÖNTGEN|KÖLN"
    assert found.field(4).encode("latin-1") == "KÖLN^1.2^ISO".encode(codec)


def test_a_refusal_names_place_fact_and_remedy() -> None:
    """One line for logs and people."""
    place = Location("PID", 1, 3)
    refusal = Refusal("no ID", code="101", location=place, remedy="send it", rule="ris.yaml:9")
    assert str(refusal) == "AE 101 PID^1^3: no ID - send it (ris.yaml:9)"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (Location("PID"), "PID^1"),
        (Location("OBR", 2, 18), "OBR^2^18"),
        (Location("PID", 1, 3, 2, 1), "PID^1^3^2^1"),
        (Location("PID", 1, 3, 0, 4), "PID^1^3^0^4"),
    ],
)
def test_a_location_is_written_as_hl7_writes_it(location: Location, text: str) -> None:
    """ERL without its trailing empties."""
    assert str(location) == text


def test_the_code_decides_the_kind_of_refusal() -> None:
    """1xx is content (AE), 2xx rejection (AR); a caller may know better."""
    assert Refusal("a", code="102").acknowledgement == "AE"
    assert Refusal("a", code="207").acknowledgement == "AR"
    assert Refusal("a", code="204", acknowledgement="AE").acknowledgement == "AE"
