"""Answers: who gets which, in what form; read back by python-hl7 as an independent peer."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import hl7
import pytest

from broker.hl7.acknowledgement import (
    Acknowledgement,
    acknowledge,
    answers,
    is_acknowledgement,
    read_acknowledgement,
)
from broker.hl7.header import Header, read_header
from broker.hl7.refusal import Location, NotHL7, Refusal

NOW = datetime(2026, 3, 16, 10, 15, 0, tzinfo=UTC)
CONTENT = Refusal("patient has no identifier", code="101", location=Location("PID", 1, 3))
STORE_DOWN = Refusal("store cannot be written", code="207", remedy="send again later")
UNSUPPORTED = Refusal(
    "message type is not mapped", code="200", location=Location("MSH", 1, 9, 1, 1)
)


def header(accept: str = "", application: str = "", **parts: str) -> Header:
    given = {"version": "2.3.1", "charset": "", "id": "MSG1", "kind": "ORM^O01"} | parts
    line = (
        f"MSH|^~\\&|RIS^1.2^ISO|NORTH|BROKER|HOSP|20260316||{given['kind']}|{given['id']}|T|"
        f"{given['version']}|||{accept}|{application}||{given['charset']}\r"
    )
    return read_header(line.encode("latin-1"))


def sent(
    whom: Header | None, refusal: Refusal | None = None, *, stored: bool = True
) -> list[bytes]:
    own = (f"OWN{number}" for number in count(1))
    return answers(whom, refusal, stored=stored, control_ids=own, now=NOW)


def codes(payloads: list[bytes]) -> list[str]:
    return [str(hl7.parse(one.decode("latin-1")).segment("MSA")[1]) for one in payloads]


TAKEN = (None, True)
BAD = (CONTENT, True)
NOT_STORED = (STORE_DOWN, False)
UNKNOWN = (UNSUPPORTED, True)


@pytest.mark.parametrize(
    ("accept", "application", "taken", "bad", "not_stored", "unknown"),
    [
        # MSH-15, MSH-16: stored and good, stored and bad, not stored, header unacceptable
        ("", "", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("AL", "NE", ["CA"], ["CA"], ["CE"], ["CR"]),
        ("NE", "AL", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("AL", "AL", ["CA", "AA"], ["CA", "AE"], ["CE"], ["CR"]),
        ("ER", "ER", [], ["AE"], ["CE"], ["CR"]),
        ("NE", "NE", [], [], [], []),
        ("SU", "ER", ["CA"], ["CA", "AE"], ["AR"], ["AR"]),
        ("ER", "NE", [], [], ["CE"], ["CR"]),
        ("SU", "SU", ["CA", "AA"], ["CA"], [], []),
        ("AL", "ER", ["CA"], ["CA", "AE"], ["CE"], ["CR"]),
        ("AL", "SU", ["CA", "AA"], ["CA"], ["CE"], ["CR"]),
        ("AL", "", ["CA"], ["CA"], ["CE"], ["CR"]),
        ("", "AL", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("al", "ne", ["CA"], ["CA"], ["CE"], ["CR"]),
        ("??", "NE", ["CA"], ["CA"], ["CE"], ["CR"]),
    ],
)
def test_the_sender_gets_the_answers_it_asked_for(
    accept: str,
    application: str,
    taken: list[str],
    bad: list[str],
    not_stored: list[str],
    unknown: list[str],
) -> None:
    """Statement 85, and the combinations that it leaves out."""
    whom = header(accept, application)
    for (refusal, stored), expected in (
        (TAKEN, taken),
        (BAD, bad),
        (NOT_STORED, not_stored),
        (UNKNOWN, unknown),
    ):
        assert codes(sent(whom, refusal, stored=stored)) == expected


def test_an_answer_is_addressed_to_the_sender() -> None:
    """Applications swapped with all their components, version and processing id echoed, own id."""
    (payload,) = sent(header(version="2.5.1", charset="UNICODE UTF-8"))
    assert payload == (
        b"MSH|^~\\&|BROKER|HOSP|RIS^1.2^ISO|NORTH|20260316101500+0000||ACK^O01^ACK|OWN1|T|2.5.1"
        b"||||||UNICODE UTF-8\rMSA|AA|MSG1\r"
    )


def test_each_answer_has_its_own_control_id() -> None:
    """The application answer is a new message."""
    first, second = sent(header("AL", "AL"))
    assert (read_header(first).control_id, read_header(second).control_id) == ("OWN1", "OWN2")
    assert read_acknowledgement(second).control_id == "MSG1"


@pytest.mark.parametrize(
    ("version", "kind", "answered"),
    [
        ("2.3.1", "ORM^O01", "ACK"),
        ("2.4", "ADT^A08", "ACK^A08^ACK"),
        ("2.5", "ORM", "ACK"),
        ("", "ORM^O01", "ACK"),
    ],
)
def test_the_type_of_the_answer_follows_the_version(version: str, kind: str, answered: str) -> None:
    """MSH-9 with event and structure from 2.4."""
    (payload,) = sent(header(version=version, kind=kind))
    assert read_header(payload).field(9) == answered


def test_errors_are_told_in_the_form_of_2_3_1() -> None:
    """ERR-1 with code as subcomponents, MSA-3 and MSA-6; statement 87."""
    (payload,) = sent(header(), CONTENT)
    assert payload.split(b"\r")[1:] == [
        b"MSA|AE|MSG1|patient has no identifier|||101^Required field missing^HL70357",
        b"ERR|PID^1^3^101&Required field missing&HL70357",
        b"",
    ]


def test_errors_are_told_in_the_form_of_2_5() -> None:
    """ERR-2 place, ERR-3 code, ERR-4 severity, ERR-7 remedy, ERR-8 text."""
    deep = Refusal("too long", code="102", location=Location("OBR", 2, 18, 1, 1), remedy="cut it")
    (payload,) = sent(header(version="2.5.1"), deep)
    assert payload.split(b"\r")[1:] == [
        b"MSA|AE|MSG1|too long",
        b"ERR||OBR^2^18^1^1|102^Data type error^HL70357|E|||cut it|too long",
        b"",
    ]


@pytest.mark.parametrize("version", ["2.3.1", "2.5.1"])
def test_an_error_without_place_is_told_too(version: str) -> None:
    """The store has no field number."""
    (payload,) = sent(header(version=version), STORE_DOWN, stored=False)
    parsed = hl7.parse(payload.decode())
    assert str(parsed.segment("MSA")[1]) == "AR"
    assert "207" in str(parsed.segment("ERR"))


def test_several_errors_are_told_at_once() -> None:
    """A repetition each before 2.5, a segment each since."""
    for version, expected in (("2.3.1", [2]), ("2.5.1", [1, 1])):
        payload = acknowledge(
            header(version=version), "E", errors=[CONTENT, UNSUPPORTED], control_id="1", now=NOW
        )
        found = [one for one in payload.split(b"\r") if one.startswith(b"ERR")]
        assert [one.count(b"~") + 1 for one in found] == expected


def test_what_is_not_hl7_is_answered_with_our_own_header() -> None:
    """Statement 89: AR although there is nobody to address."""
    (payload,) = sent(None, NotHL7("block does not start with MSH"), stored=False)
    parsed = hl7.parse(payload.decode())
    assert str(parsed.segment("MSA")[1]) == "AR"
    assert str(parsed.segment("MSH")[3]) == "BROKER"
    assert str(parsed.segment("MSH")[10]) == "OWN1"
    assert read_acknowledgement(payload) == Acknowledgement(
        "AR", "", "block does not start with MSH"
    )


@pytest.mark.parametrize("control_id", ["", "x" * 60, "a\\T\\b^c~d", "Grün", " 7 "])
def test_the_control_id_comes_back_byte_for_byte(control_id: str) -> None:
    """MSA-2 is what the sender compares."""
    (payload,) = sent(header(id=control_id))
    (msa,) = [one for one in payload.split(b"\r") if one.startswith(b"MSA")]
    assert msa == b"MSA|AA" + (b"|" + control_id.encode("latin-1") if control_id else b"")


def test_the_sender_is_answered_with_its_own_separators() -> None:
    """It may know no others."""
    whom = read_header(b"MSH#$*%@#OLD#M#MWL#M#20260316##ORM$O01#1|0#P#2.3\r")
    (payload,) = sent(whom, Refusal("a #1 problem", code="102", location=Location("PID", 1, 3)))
    assert payload.startswith(b"MSH#$*%@#MWL#M#OLD#M#")
    assert b"MSA#AE#1|0#a %F%1 problem" in payload
    assert b"ERR#PID$1$3$102@Data type error@HL70357\r" in payload


def test_our_words_are_written_in_the_character_set_of_the_message() -> None:
    """And what does not fit becomes a question mark, never an exception."""
    refusal = Refusal("Gerät fehlt", code="103")
    for codec, expected in (
        ("utf-8", "Gerät".encode()),
        ("latin-1", b"Ger\xe4t"),
        ("ascii", b"Ger?t"),
    ):
        (payload,) = answers(
            header(), refusal, stored=True, control_ids=iter(["1"]), now=NOW, codec=codec
        )
        assert expected in payload


@pytest.mark.parametrize("kind", ["ACK", "ACK^O01", "ORR^O02", "MCF"])
def test_an_answer_is_never_answered(kind: str) -> None:
    """Somebody wired our answers back to us."""
    whom = header(kind=kind)
    assert is_acknowledgement(whom)
    assert sent(whom) == sent(whom, UNSUPPORTED) == []
    assert not is_acknowledgement(header())


def test_success_that_was_not_stored_is_our_bug() -> None:
    """Never a false AA."""
    with pytest.raises(ValueError, match="stored"):
        sent(header(), stored=False)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"MSH|^~\\&|RIS\rMSA|AA|77\r", Acknowledgement("AA", "77", "")),
        (b"MSH|^~\\&|RIS\r\nMSA|AE|77|bad \\T\\ sad\r\n", Acknowledgement("AE", "77", "bad & sad")),
        (b"MSH|^~\\&|RIS\nMSA|CR|77\nERR|||207^down", Acknowledgement("CR", "77", "down")),
        (
            b"MSH|^~\\&|R\rMSA|AE|1\rERR||PID^1|101|E||||no id\r",
            Acknowledgement("AE", "1", "no id"),
        ),
        (b"MSH|^~\\&|R\rMSA|AE|1\rERR|PID^1^3\r", Acknowledgement("AE", "1", "PID^1^3")),
        ("MSH|^~\\&|R\rMSA|AE|1|Gerät\r".encode(), Acknowledgement("AE", "1", "Gerät")),
        ("MSH|^~\\&|R\rMSA|AE|1|Gerät\r".encode("latin-1"), Acknowledgement("AE", "1", "Gerät")),
        (b"\xef\xbb\xbfMSH#$*%@#R\rmsa#aa#1\r", Acknowledgement("AA", "1", "")),
        (b"MSH|^~\\&|R\rMSA\r", Acknowledgement("", "", "")),
    ],
)
def test_a_peers_answer_is_read(raw: bytes, expected: Acknowledgement) -> None:
    """Code, id and the words that there are."""
    assert read_acknowledgement(raw) == expected


@pytest.mark.parametrize("raw", [b"", b"OK", b"MSH|^~\\&|R\rPID|1\r"])
def test_what_answers_nothing_is_said_so(raw: bytes) -> None:
    """No MSH or no MSA."""
    with pytest.raises(NotHL7):
        read_acknowledgement(raw)
