"""Answers: who gets which, in what form; read back by python-hl7 as an independent peer."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import hl7
import pytest

from broker.hl7.acknowledgement import (
    Acknowledgement,
    Mode,
    acknowledge,
    answers,
    is_acknowledgement,
    read_acknowledgement,
)
from broker.hl7.header import Header, read_header
from broker.hl7.refusal import Location, NotHL7, Refusal, shortened

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
        ("AL", "NE", ["CA"], ["CE"], ["CE"], ["CR"]),
        ("NE", "AL", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("AL", "AL", ["CA", "AA"], ["CA", "AE"], ["CE"], ["CR"]),
        ("ER", "ER", [], ["AE"], ["CE"], ["CR"]),
        ("NE", "NE", [], [], [], []),
        ("SU", "ER", ["CA"], ["CA", "AE"], ["AR"], ["AR"]),
        ("ER", "NE", [], ["CE"], ["CE"], ["CR"]),
        ("SU", "SU", ["CA", "AA"], [], [], []),
        ("SU", "NE", ["CA"], [], [], []),
        ("NE", "ER", [], ["AE"], ["AR"], ["AR"]),
        ("NE", "SU", ["AA"], [], [], []),
        ("AL", "ER", ["CA"], ["CA", "AE"], ["CE"], ["CR"]),
        ("AL", "SU", ["CA", "AA"], ["CE"], ["CE"], ["CR"]),
        ("AL", "", ["CA"], ["CE"], ["CE"], ["CR"]),
        ("", "AL", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("al", "ne", ["CA"], ["CE"], ["CE"], ["CR"]),
        ("??", "NE", ["CA"], ["CE"], ["CE"], ["CR"]),
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
        b"MSA|AE|MSG1|PID-3: patient has no identifier|||101^Required field missing^HL70357",
        b"ERR|PID^1^3^101&Required field missing&HL70357&&PID-3: patient has no identifier&L",
        b"",
    ]


def test_errors_are_told_in_the_form_of_2_5() -> None:
    """ERR-2 place, ERR-3 code, ERR-4 severity, ERR-7 rule, ERR-8 all of it in one sentence."""
    place = Location("OBR", 2, 18, 1, 1)
    deep = Refusal("too long", code="102", location=place, remedy="cut it", rule="ris.yaml:7")
    (payload,) = sent(header(version="2.5.1"), deep)
    assert payload.split(b"\r")[1:] == [
        b"MSA|AE|MSG1|OBR[2]-18: too long (ris.yaml:7)",
        b"ERR||OBR^2^18^1^1|102^Data type error^HL70357|E|||ris.yaml:7|"
        b"OBR[2]-18: too long; cut it (ris.yaml:7)",
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
        "AR", "", "block does not start with MSH", "200"
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
    assert b"MSA#AE#1|0#PID-3: a %F%1 problem" in payload
    assert b"ERR#PID$1$3$102@Data type error@HL70357@@PID-3: a %F%1 problem@L\r" in payload


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("UNICODE UTF-8", "Gerät".encode()),
        ("8859/1", b"Ger\xe4t"),
        ("~ISO IR87", b"Ger?t"),
        ("", b"Ger?t"),
    ],
)
def test_our_words_are_written_in_the_character_set_of_the_message(
    label: str, expected: bytes
) -> None:
    """And what does not fit becomes a question mark, never an exception."""
    (payload,) = sent(header(charset=label), Refusal("Gerät fehlt", code="103"))
    assert expected in payload
    assert read_header(payload).field(18) == label


@pytest.mark.parametrize("label", ["KLINGON", "UNICODE UTF-16", "8859/1~KLINGON"])
def test_a_character_set_that_nobody_knows_is_not_echoed(label: str) -> None:
    """The answer is ASCII and says nothing else."""
    (payload,) = sent(header(charset=label), Refusal("no such set", code="103"))
    assert payload.isascii()
    assert read_header(payload).field(18) == ""


def modes(mode: Mode, whom: Header, refusal: Refusal | None = None) -> list[str]:
    own = (f"OWN{number}" for number in count(1))
    return codes(answers(whom, refusal, stored=True, control_ids=own, now=NOW, mode=mode))


def test_a_source_that_is_said_to_be_original_gets_one_application_answer() -> None:
    """Whatever MSH-15 and MSH-16 say: some systems fill them and cannot read the answer."""
    for accept, application in (("", ""), ("AL", "AL"), ("NE", "NE"), ("ER", "NE")):
        assert modes("original", header(accept, application)) == ["AA"]
        assert modes("original", header(accept, application), CONTENT) == ["AE"]


@pytest.mark.parametrize(("version", "errors"), [("2.3.1", []), ("2.5.1", ["I"])])
def test_what_the_sender_should_know_goes_with_aa(version: str, errors: list[str]) -> None:
    """ERR-4 of severity I (information) exists from 2.5 on."""
    own = (f"OWN{number}" for number in count(1))
    whom = header(version=version)
    (raw,) = answers(whom, None, stored=True, control_ids=own, now=NOW, note="no such | order")
    answer = read_acknowledgement(raw)
    assert (answer.code, answer.text) == ("AA", "no such | order")
    parsed = hl7.parse(raw.decode())
    assert [str(each[4]) for each in parsed if str(each[0]) == "ERR"] == errors


def test_a_refusal_outweighs_what_else_there_is_to_say() -> None:
    own = (f"OWN{number}" for number in count(1))
    (raw,) = answers(header(), CONTENT, stored=True, control_ids=own, now=NOW, note="no such order")
    assert "no such order" not in read_acknowledgement(raw).text


def test_a_source_that_is_said_to_be_enhanced_gets_an_accept_answer() -> None:
    """Empty MSH-15 and MSH-16 mean AL and NE; filled ones mean what they say."""
    assert modes("enhanced", header()) == ["CA"]
    assert modes("enhanced", header(), CONTENT) == ["CE"]
    assert modes("enhanced", header(), UNSUPPORTED) == ["CR"]
    assert modes("enhanced", header("NE", "AL")) == ["AA"]


def test_a_long_fact_gives_way_to_its_place_and_rule_in_80_characters() -> None:
    """MSA-3 is an ST of 80, ERR-8 a TX of 250: the rule's line is in both."""
    refusal = Refusal(
        "x" * 300, code="102", location=Location("OBR", 12, 24), remedy="y" * 99, rule="a.yaml:58"
    )
    assert refusal.summary == f"OBR[12]-24: {'x' * 53}... (a.yaml:58)"
    assert len(refusal.summary) == 80
    assert len(refusal.sentence) == 250
    assert refusal.sentence.endswith(" (a.yaml:58)")


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
        (b"MSH|^~\\&|RIS\nMSA|CR|77\nERR|||207^down", Acknowledgement("CR", "77", "down", "207")),
        (
            b"MSH|^~\\&|R\rMSA|AE|1\rERR||PID^1|101|E||||no id\r",
            Acknowledgement("AE", "1", "no id", "101"),
        ),
        (
            b"MSH|^~\\&|R\rMSA|AE|1|no\rERR|OBR^1^4^204&Unknown key\r",
            Acknowledgement("AE", "1", "no", "204"),
        ),
        (
            b"MSH|^~\\&|R\rMSA|AE|1|no|||103^Table\r",
            Acknowledgement("AE", "1", "no", "103"),
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


@pytest.mark.parametrize("version", ["2.3.1", "2.5.1", "2.10", ""])
@pytest.mark.parametrize("application", ["RIS", "R\x0bS", "R\x1cS", "A&B\\T\\", "", "Ä"])
@pytest.mark.parametrize("control_id", ["1", "M\x0b2", "", "a^b"])
def test_senders_with_like_headers_get_the_same_answer_but_for_time_and_numbers(
    version: str, application: str, control_id: str
) -> None:
    line = f"MSH|^~\\&|{application}|N|B|H|20260316||ORM^O01|{control_id}|P|{version}||||||8859/1\r"
    whom = read_header(line.encode("latin-1"))
    first, later = (
        acknowledge(whom, "A", control_id=f"OWN{second}", now=NOW.replace(second=second))
        for second in (11, 12)
    )
    shown = control_id.replace("\x0b", "").encode()
    assert first.endswith(b"\rMSA|AA" + (b"|" + shown if shown else b"") + b"\r")
    assert not {0x0B, 0x1C} & set(first)
    assert later == first.replace(b"101511+", b"101512+").replace(b"OWN11", b"OWN12")
    echoed = application.replace("\x0b", "").replace("\x1c", "").encode("latin-1")
    assert first.split(b"|")[4] == echoed


@pytest.mark.parametrize(
    ("text", "room", "kept"),
    [
        ("no such station in the table", 28, "no such station in the table"),
        ("no such station in the table", 27, "no such station in the..."),
        ("no such station, and none like it", 20, "no such station..."),
        ("no such station in the table", 18, "no such station..."),
        ("unintelligible", 8, "unint..."),
        ("no such station", 2, ".."),
        ("no such station", -4, ""),
    ],
)
def test_what_is_too_long_for_a_field_is_cut_at_a_word(text: str, room: int, kept: str) -> None:
    assert shortened(text, room) == kept
