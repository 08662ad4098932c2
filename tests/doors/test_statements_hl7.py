"""HL7 inbound, acceptance statements 76 to 94: from bytes to answers and to what a scanner sees.

95 needs a store that fails: tests/orders/test_answers.py.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from broker.hl7.header import read_header
from broker.probe.orders import Envelope, omi_o23, orm_o01
from tests.doors.actors import Broker, Line, accepted, find, new_order, only, send, step_of
from tests.doors.test_hostile_content import labelled, name_of, shown
from tests.doors.test_refusals import edited, nothing_of

pytestmark = pytest.mark.peer("redis-server")


def fields(raw: bytes, name: str) -> list[str]:
    segments = raw.decode().split("\r")
    return next(each for each in segments if each.startswith(name)).split("|")


@pytest.mark.parametrize("message_type", [orm_o01, omi_o23])
def test_statement_76_a_long_accession_number_is_refused_and_never_cut(
    broker: Broker, message_type: Any
) -> None:
    order = new_order(accession="A" * 17)
    answer = send(broker.hl7, message_type(order))
    place = "IPC^1^1" if message_type is omi_o23 else "OBR^1^18"
    assert (answer.code, place in answer.error) == ("AE", True)
    assert "identifiers are never cut" in answer.error
    assert find(broker, patient_id=order.patient.patient_id) == []


@pytest.mark.parametrize(
    ("name", "shown_as"),
    [
        (b"DOE^JOHN^Q^JR^DR^MD", "DOE^JOHN^Q^DR^JR MD"),
        (b"Aue&von der&Aue^J\xc3\xbcrgen", "Aue^Jürgen"),
        (b"&von der&Aue^J\xc3\xbcrgen", "von der Aue^Jürgen"),
        (b"ALIAS^A^^^^^A~LEGAL^L^^^^^L", "LEGAL^L"),
        (b"DOE, JANE", "DOE^JANE"),
        (b'DOE^JANE^""^^', "DOE^JANE"),
    ],
)
def test_statement_77_names_come_in_the_order_of_dicom(
    broker: Broker, name: bytes, shown_as: str
) -> None:
    order = new_order()
    assert name_of(broker, edited(orm_o01(order), ("PID", 5, name)), order) == shown_as


def test_statement_77_a_name_of_more_than_64_characters_loses_its_least_part(
    broker: Broker,
) -> None:
    order = new_order()
    long = b"F" * 30 + b"^" + b"G" * 20 + b"^" + b"M" * 12 + b"^JR^DR^MD"
    found = name_of(broker, edited(orm_o01(order), ("PID", 5, long)), order)
    assert found == f"{'F' * 30}^{'G' * 20}^{'M' * 12}"


def test_statement_78_the_hospital_s_own_number_is_the_patient_id(broker: Broker) -> None:
    order = new_order()
    number = order.patient.patient_id.encode()
    ids = b"999-41-2210^^^SSA^SS~" + number + b"^^^A&1.2&ISO^MR~2^^^B^PI"
    accepted(broker.hl7, edited(orm_o01(order), ("PID", 3, ids)))
    item = shown(broker, order, "OtherPatientIDsSequence")
    assert (item["PatientID"], item["IssuerOfPatientID"]) == (number.decode(), "A")
    assert [each["PatientID"] for each in item["OtherPatientIDsSequence"]] == ["2"]


def test_statement_79_escapes_become_what_dicom_may_hold(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, edited(orm_o01(order), ("OBR", 13, rb"A\T\B \E\ C\.br\D")))
    assert only(broker, order)["MedicalAlerts"] == "A&B / C D"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("8859/1", b"J\xfcrgen"),
        ("UNICODE UTF-8", "Jürgen".encode()),
        ("", b"J\xfcrgen"),
        ("", "Jürgen".encode()),
        ("8859/1", rb"J\XFC\rgen"),
        ("UNICODE UTF-8", rb"J\XC3BC\rgen"),
        ("CP1252", b"J\xfcrgen"),
        ("8859/1", "Jürgen – x".encode("cp1252")),
    ],
)
def test_statement_80_umlauts_come_through(broker: Broker, label: str, name: bytes) -> None:
    order = new_order()
    found = name_of(broker, labelled(order, label, name), order)
    assert found.startswith("Jürgen")


@pytest.mark.parametrize(
    ("label", "codec", "name"),
    [
        ("8859/2", "iso8859_2", "Šťastná^Růžena"),
        ("8859/5", "iso8859_5", "Иванов^Пётр"),
        ("8859/7", "iso8859_7", "Ελένη^Ζωή"),
        ("8859/9", "iso8859_9", "Işık^Çağla"),
        ("CP1250", "cp1250", "Żółć^Łucja"),
        ("WINDOWS-1251", "cp1251", "Ёжиков^Её"),
        ("KS X 1001", "euc_kr", "김^희중"),
        ("BIG-5", "big5", "許^功蓋"),
        ("CNS 11643-1992", "", "許^功蓋"),
        ("GB 18030-2000", "gb18030", "王^小东"),
        ("ISO IR14", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ],
)
def test_statement_80_every_set_of_table_0211_reaches_the_scanner(
    broker: Broker, label: str, codec: str, name: str
) -> None:
    order = new_order()
    cns = b"\xdd\xc2^\xc5\xfc\xea\xe4"  # 許^功蓋 of CNS 11643 plane 1, as EUC-TW
    raw = name.encode(codec) if codec else cns
    assert name_of(broker, labelled(order, label, raw), order) == name


def test_statement_81_separators_inside_kanji_separate_nothing(broker: Broker) -> None:
    order = new_order()
    name = "五^厚慈".encode("iso2022_jp")
    assert b"^" in name.replace(b"\x1b(B^\x1b$B", b"")
    assert name_of(broker, labelled(order, "~ISO IR87", name), order) == "五^厚慈"


def test_statement_82_an_unknown_set_is_refused_at_msh_18(broker: Broker) -> None:
    message = orm_o01(new_order(), envelope=Envelope(version="2.5.1", charset="FOO"))
    answer = send(broker.hl7, message)
    assert (answer.code, fields(answer.raw, "ERR")[2]) == ("AE", "MSH^1^18")
    assert fields(answer.raw, "ERR")[3].startswith("103^")
    utf16 = send(broker.hl7, edited(message, ("MSH", 18, b"UNICODE UTF-16")))
    assert (utf16.code, fields(utf16.raw, "ERR")[3].split("^")[0]) == ("AR", "102")


@pytest.mark.parametrize(
    ("sent", "shown_as"),
    [
        (b"1970", ""),
        (b"197003", ""),
        (b"19700101120000+0100", "19700101"),
        (b"00000000", ""),
        (b"060Y", ""),
        (b"12.08.1957", ""),
        (b"17000101", ""),
        (b"20230229", ""),
        (b"20240229", "20240229"),
    ],
)
def test_statement_83_a_birth_date_is_a_whole_day_or_none(
    broker: Broker, sent: bytes, shown_as: str
) -> None:
    order = new_order()
    accepted(broker.hl7, edited(orm_o01(order), ("PID", 7, sent)))
    assert only(broker, order)["PatientBirthDate"] == shown_as


@pytest.mark.parametrize(
    ("start", "date", "clock"),
    [
        (b"202601011930+0100", "20260101", "193000"),
        (b"202601012330-0500", "20260102", "053000"),
        (b"20260701120000Z", "", ""),
        (b"20260701120000+0000", "20260701", "140000"),
    ],
)
def test_statement_84_zones_become_the_site_s_time(
    broker: Broker, start: bytes, date: str, clock: str
) -> None:
    order = new_order()
    message = edited(orm_o01(order), ("ORC", 7, b"^^^" + start))
    if not date:
        assert send(broker.hl7, message).code == "AE"
        return
    accepted(broker.hl7, message)
    step = step_of(only(broker, order))
    assert step["ScheduledProcedureStepStartDate"] == date
    assert step["ScheduledProcedureStepStartTime"] == clock


def test_statement_86_unknown_types_and_events_are_rejected(broker: Broker) -> None:
    for kind, code in ((b"XYZ^Z01", "200"), (b"ADT^A99", "201"), (b"", "200")):
        answer = send(broker.hl7, edited(orm_o01(new_order()), ("MSH", 9, kind)))
        assert (answer.code, f"^{code}&" in answer.error) == ("AR", True), kind


def test_statement_87_a_missing_id_is_named_in_either_form(broker: Broker) -> None:
    old, new = (
        send(
            broker.hl7,
            edited(orm_o01(new_order(), envelope=Envelope(version=version)), ("PID", 3, b"")),
        )
        for version in ("2.3.1", "2.5.1")
    )
    assert (old.code, new.code) == ("AE", "AE")
    assert fields(old.raw, "ERR")[1].startswith("PID^1^3^101&Required field missing&HL70357")
    assert fields(new.raw, "ERR")[2:5] == ["PID^1^3", "101^Required field missing^HL70357", "E"]
    rule = r"ihe-orders\.yaml:\d+"
    assert re.fullmatch(rf"PID-3: PatientID is missing \({rule}\)", fields(old.raw, "MSA")[3])
    assert re.fullmatch(
        rf"PID-3: PatientID is missing; fill the field, or .+ \({rule}\)",
        fields(new.raw, "ERR")[8],
    )


def test_statement_88_an_answer_is_a_message_of_ours_to_the_sender(broker: Broker) -> None:
    message = orm_o01(new_order(), envelope=Envelope(control_id="MINE", version="2.5.1"))
    asked, answer = read_header(message), read_header(send(broker.hl7, message).raw)
    assert [answer.field(n) for n in (3, 4, 5, 6)] == [asked.field(n) for n in (5, 6, 3, 4)]
    assert answer.field(9) == "ACK^O01^ACK"
    assert answer.control_id not in ("", "MINE")
    assert [answer.field(n) for n in (11, 12, 18)] == [asked.field(n) for n in (11, 12, 18)]


def test_statement_89_what_is_no_message_is_rejected_and_an_ack_is_not_answered(
    broker: Broker,
) -> None:
    with Line(broker.hl7) as line:
        assert line.send(b"nonsense").code == "AR"
        line.write(b"\x0bMSH|^~\\&|A|B|C|D|20260316||ACK|1|P|2.3.1\rMSA|AA|1\r\x1c\r")
        assert line.send(orm_o01(new_order(), envelope=Envelope(control_id="N"))).control_id == "N"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r"])
def test_statement_90_segments_end_as_senders_end_them(broker: Broker, end: bytes) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order).replace(b"\r", end))
    only(broker, order)


def test_statement_91_a_message_without_its_last_cr_is_whole(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order).rstrip(b"\r"))
    only(broker, order)


@pytest.mark.parametrize(
    "fragment",
    [
        lambda m: edited(m, ("MSH", 14, b"CONT-1")),
        lambda m: m + b"DSC|CONT-1|F\r",
        lambda m: m.replace(b"\rORC", b"\rADD|rest of PID\rORC"),
    ],
    ids=["MSH-14", "DSC", "ADD"],
)
def test_statement_93_a_fragment_is_refused_whole(broker: Broker, fragment: Any) -> None:
    order = new_order()
    answer = send(broker.hl7, fragment(orm_o01(order)))
    assert (answer.code, "200" in answer.error) == ("AR", True)
    nothing_of(broker, order)


def test_statement_94_sequence_numbers_are_passed_over(broker: Broker) -> None:
    order = new_order()
    with Line(broker.hl7) as line:
        for number in (b"5", b"0", b"-1"):
            raw = line.send(edited(orm_o01(order), ("MSH", 13, number))).raw
            assert len(fields(raw, "MSA")) == 3  # no MSA-4
