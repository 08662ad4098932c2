"""C3 to C42, as far as characters and headers go: from bytes to what a scanner is shown."""

from __future__ import annotations

import time
from typing import Any

import pytest

from broker.probe.orders import Envelope, Order, orm_o01
from broker.probe.scanner import worklist_keys
from tests.doors.actors import Broker, Line, accepted, new_order, only, send, step_of, until
from tests.doors.test_refusals import edited, nothing_of

pytestmark = pytest.mark.peer("redis-server")


def labelled(order: Order, label: str, name: bytes) -> bytes:
    message = orm_o01(order, envelope=Envelope(charset=label, codec="latin-1"))
    return edited(message, ("PID", 5, name))


def shown(broker: Broker, order: Order, *more: str) -> dict[str, Any]:
    """The one entry, with further keys returned, as a scanner that reads UTF-8 sees it."""
    asked = worklist_keys(accession=order.accession) | dict.fromkeys(more, "")
    (item,) = broker.scanner.find(asked)
    return item


def name_of(broker: Broker, message: bytes, order: Order) -> str:
    accepted(broker.hl7, message)
    return str(shown(broker, order)["PatientName"])


def test_c03_a_wrong_utf8_label_is_repaired_and_flagged_once(broker: Broker) -> None:
    source = f"LIAR{time.monotonic_ns()}"
    for _ in range(3):
        order = new_order()
        message = labelled(order, "UNICODE UTF-8", "Größler^Änne".encode("latin-1"))
        message = edited(message, ("MSH", 3, source.encode()))
        assert name_of(broker, message, order) == "Größler^Änne"
    warned = [line for line in broker.log().splitlines() if "tell its owner" in line]
    assert 1 <= len([line for line in warned if source in line]) <= 2  # one for each process
    assert "MSH-18 does not fit the bytes" in broker.archived(1)[0].cause
    name = "broker_orders_mislabelled_total"
    until(lambda: broker.metric(name, source=f"{source}|NORTH") == 3, "counted")


def test_c03_one_broken_character_does_not_spoil_the_others(broker: Broker) -> None:
    """A system that cuts text by bytes leaves half a character somewhere."""
    order = new_order()
    message = labelled(order, "UNICODE UTF-8", "Åkerström^Märta".encode())
    message = edited(message, ("OBR", 13, "Allergie gegen Nüsse".encode()[:16]))
    assert name_of(broker, message, order) == "Åkerström^Märta"


def test_c04_characters_that_hold_separators_shift_no_field(broker: Broker) -> None:
    order = new_order()
    assert name_of(broker, labelled(order, "GB 18030-2000", "珅^王".encode("gb18030")), order) == (
        "珅^王"
    )
    assert only(broker, order)["PatientBirthDate"] == order.patient.birth_date


def test_c05_japanese_names_are_three_groups(broker: Broker) -> None:
    order = new_order()
    name = "IGARASHI^ATSUSHI^^^^^L^A~五十嵐^厚^^^^^L^I~いがらし^あつし^^^^^L^P"
    message = labelled(order, "~ISO IR87", name.encode("iso2022_jp"))
    found = name_of(broker, message, order)
    assert found == "IGARASHI^ATSUSHI=五十嵐^厚=いがらし^あつし"


def test_c06_a_euro_sign_of_8859_15_is_one(broker: Broker) -> None:
    order = new_order()
    assert name_of(broker, labelled(order, "8859/15", b"\xbcUVRE^\xa4"), order) == "ŒUVRE^€"


def test_c07_an_unknown_label_is_refused_by_default(broker: Broker) -> None:
    """A source may name a codec instead: `charset: {unknown: cp1250}`."""
    answer = send(broker.hl7, labelled(new_order(), "KLINGON", b"DOE"))
    assert (answer.code, "MSH^1^18^103" in answer.error) == ("AE", True)


def test_c08_custom_separators_are_followed_and_answered_in(broker: Broker) -> None:
    order = new_order()
    usual, own = b"|^~\\&", b"#$*%@"
    message = orm_o01(order).translate(bytes.maketrans(usual, own))
    with Line(broker.hl7) as line:
        line.write(b"\x0b" + message + b"\x1c\r")
        answer = line.answer().raw
    assert answer.startswith(b"MSH#$*%@#BROKER#")
    assert b"MSA#AA#" in answer
    assert only(broker, order)["PatientName"] == order.patient.name.replace("$", "^")


@pytest.mark.parametrize("encoding", [b"^~\\", b"^~", b"^~\\&#"])
def test_c09_msh_2_may_be_short_or_have_a_fifth(broker: Broker, encoding: bytes) -> None:
    order = new_order()
    accepted(broker.hl7, edited(orm_o01(order), ("MSH", 2, encoding)))
    only(broker, order)


@pytest.mark.parametrize("version", [b"2.9", b"9.9", b"", b"2.3.2", b"2.5^DEU&&HL70399"])
def test_c10_and_s86_versions_that_nobody_knows_are_read(broker: Broker, version: bytes) -> None:
    order = new_order()
    accepted(broker.hl7, edited(orm_o01(order), ("MSH", 12, version)))
    only(broker, order)


def test_c11_an_unknown_trigger_is_refused_with_201(broker: Broker) -> None:
    order = new_order()
    answer = send(broker.hl7, edited(orm_o01(order), ("MSH", 9, b"ADT^A99")))
    assert (answer.code, "MSH^1^9^201" in answer.error) == ("AR", True)
    nothing_of(broker, order)


def test_c12_a_header_alone_is_refused_with_the_reason(broker: Broker) -> None:
    answer = send(broker.hl7, orm_o01(new_order()).split(b"\r")[0] + b"\r")
    assert answer.code == "AE"
    assert "the message has no order" in answer.error


def test_c13_without_a_control_id_the_answer_has_none(broker: Broker) -> None:
    order = new_order()
    with Line(broker.hl7) as line:
        line.write(b"\x0b" + edited(orm_o01(order), ("MSH", 10, b"")) + b"\x1c\r")
        assert b"\rMSA|AA\r" in line.answer().raw
    only(broker, order)
    assert "MSH-10 is empty" in broker.archived(1)[0].cause


def test_a_control_id_without_end_comes_back_whole_and_is_cut_in_logs_and_lists(
    broker: Broker,
) -> None:
    control_id = f"LONG{time.monotonic_ns()}" + "x" * 8_000
    message = edited(orm_o01(new_order()), ("MSH", 10, control_id.encode()))
    with Line(broker.hl7) as line:
        line.write(b"\x0b" + message + b"\x1c\r")
        assert control_id.encode() in line.answer().raw
    assert broker.archived(1)[0].control_id == control_id[:64]
    until(lambda: control_id[:64] in broker.log(), "logged")
    assert control_id[:65] not in broker.log()


def test_a_header_of_over_16_kib_is_refused_to_whom_it_names(broker: Broker) -> None:
    message = edited(orm_o01(new_order()), ("MSH", 10, b"KNOWN"), ("MSH", 21, b"x" * 20_000))
    answer = send(broker.hl7, message)
    assert (answer.code, answer.control_id) == ("AE", "KNOWN")
    assert "longer than 16 KiB; send a shorter MSH segment" in answer.error


def test_the_archive_says_what_the_answer_said(broker: Broker) -> None:
    """104 came with 2.7: before, the wire says 102, and so do log, list and metric."""
    for version, code in (("2.3.1", "102"), ("2.5.1", "102"), ("2.7", "104")):
        message = orm_o01(new_order(), envelope=Envelope(version=version))
        answer = send(broker.hl7, edited(message, ("OBR", 18, b"ABCDEFGHIJKLMNOPQ")))
        assert (answer.code, code in answer.error) == ("AE", True)
        assert broker.archived(1)[0].cause.startswith(f"AE {code} OBR^1^18: ")


@pytest.mark.parametrize(
    ("segment", "number", "value", "said"),
    [
        ("PID", 3, b"^^^NORTH^PI", "PID-3: PatientID is missing"),
        ("OBR", 18, b"^RIS", "OBR-18: AccessionNumber is missing"),
        ("MSH", 9, b"MDM^T02", "send ADT, OMG, OMI, ORM, ORU, SIU, or"),
        ("MSH", 9, b"ORU^R99", r"send ORU\S\R01, or"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_would_be_right(
    broker: Broker, segment: str, number: int, value: bytes, said: str
) -> None:
    answer = send(broker.hl7, edited(orm_o01(new_order()), (segment, number, value)))
    assert said in answer.error


def test_a_sender_is_named_in_its_own_character_set(broker: Broker) -> None:
    facility = f"KÖLN{time.monotonic_ns()}"
    message = orm_o01(new_order(), envelope=Envelope(facility=facility, charset="8859/1"))
    with Line(broker.hl7) as line:
        line.write(b"\x0b" + message.decode().encode("latin-1") + b"\x1c\r")
        assert facility.encode("latin-1") in line.answer().raw
    assert broker.archived(1)[0].source.endswith(f"|{facility}")


def test_an_iso_2022_switch_that_is_not_taken_back_is_mended_and_flagged(broker: Broker) -> None:
    order = new_order()
    message = labelled(order, "ASCII~ISO IR87", b"\x1b$B;3ED^Taro")
    assert name_of(broker, edited(message, ("MSH", 12, b"2.5")), order) == "山田^Taro"
    assert only(broker, order)["PatientBirthDate"] == order.patient.birth_date
    assert "ISO 2022 was not switched back" in broker.archived(1)[0].cause


def test_utf8_under_a_latin1_label_is_repaired_and_flagged(broker: Broker) -> None:
    order = new_order()
    assert name_of(broker, labelled(order, "8859/1", "Müller^Jörg".encode()), order) == (
        "Müller^Jörg"
    )
    assert "read as utf-8" in broker.archived(1)[0].cause


def test_c15_the_same_control_id_with_another_body_is_another_message(broker: Broker) -> None:
    orders = [new_order(), new_order()]
    for order in orders:
        accepted(broker.hl7, orm_o01(order, envelope=Envelope(control_id="SAME")))
    for order in orders:
        only(broker, order)


def test_c24_an_accession_number_is_matched_as_it_is_written(broker: Broker) -> None:
    order = new_order()
    odd = f"A/1 ?[x]:{{{order.accession[-4:]}}}"
    accepted(broker.hl7, edited(orm_o01(order), ("OBR", 18, odd.encode())))
    (item,) = broker.scanner.find(worklist_keys(patient_id=order.patient.patient_id))
    assert item["AccessionNumber"] == odd


@pytest.mark.parametrize(
    ("segment", "number", "place"),
    [("PID", 3, "PID^1^3"), ("OBR", 18, "OBR^1^18"), ("ORC", 2, "ORC^1^2")],
)
@pytest.mark.parametrize("escape", [b"\\E\\", b"\\X00\\", b"\\X0D0A\\"])
@pytest.mark.parametrize("control", ["NW", "CA"])
def test_c24_an_identifier_that_dicom_cannot_hold_is_refused_and_never_becomes_another(
    broker: Broker, segment: str, number: int, place: str, escape: bytes, control: str
) -> None:
    """Rewritten, V\\3 would be V/3: another patient, whose name would be shown for both."""
    order = new_order()
    fields = {"PID": order.patient.patient_id, "OBR": order.accession, "ORC": order.placer}
    own = fields[segment].encode()
    odd = own[:2] + escape + own[3:] + (b"^^^NORTH^PI" if segment == "PID" else b"")
    answer = send(broker.hl7, edited(orm_o01(order, control=control), (segment, number, odd)))
    assert (answer.code, place in answer.error, "102" in answer.error) == ("AE", True, True)
    assert "identifiers are never rewritten" in answer.error
    nothing_of(broker, order)


def test_invisible_characters_make_no_name_look_like_another(broker: Broker) -> None:
    order = new_order()
    name = "EOD\u202e\u200b^JA\u2066NE\u200d"
    message = edited(orm_o01(order), ("PID", 5, name.encode()))
    accepted(broker.hl7, edited(message, ("OBR", 13, "Pa\u202eck".encode())))
    item = only(broker, order)
    assert (item["PatientName"], item["MedicalAlerts"]) == ("EOD^JANE", "Pack")


def test_c36_what_would_break_a_name_is_taken_out(broker: Broker) -> None:
    order = new_order()
    name = rb"O=NEIL\S\X\E\Y^A\X0D0A\B\X1B\C"
    found = name_of(broker, edited(orm_o01(order), ("PID", 5, name)), order)
    assert found == "O NEIL X Y^A B C"


def test_c37_a_document_in_an_observation_is_passed_over_at_little_cost(broker: Broker) -> None:
    order = new_order()
    document = b"OBX|9|ED|PDF^Report||^application^pdf^Base64^" + b"QUJD" * 50_000 + b"\r"
    before = broker.processor_s("door orders")
    accepted(broker.hl7, orm_o01(order) + document)
    assert broker.processor_s("door orders") - before < 1
    only(broker, order)
    assert len(broker.archived(1)[0].raw) < 20_000


def test_c38_two_thousand_patient_ids_are_bounded(broker: Broker) -> None:
    order = new_order()
    ids = b"~".join(b"X%d^^^OTHER^XX" % n for n in range(2000))
    message = edited(orm_o01(order), ("PID", 3, order.patient.patient_id.encode() + b"~" + ids))
    accepted(broker.hl7, message)
    item = shown(broker, order, "OtherPatientIDsSequence")
    assert item["PatientID"] == order.patient.patient_id


def test_c39_a_long_description_is_cut_to_64_characters_without_controls(broker: Broker) -> None:
    order = new_order()
    text = (b"CT head\\.br\\and neck, " * 15).strip(b", ")
    code = b"CTH^" + text + b"^L"
    accepted(broker.hl7, edited(orm_o01(order), ("OBR", 4, code), ("OBR", 44, code)))
    description = only(broker, order)["RequestedProcedureDescription"]
    assert description.startswith("CT head and neck, CT head")
    assert 60 <= len(description) <= 64
    assert description.isprintable()


@pytest.mark.parametrize(
    ("start", "date", "clock"),
    [
        (b"202001011930", "20200101", "193000"),
        (b"202607011930+1400", "20260701", "073000"),
        (b"202601011930+0100", "20260101", "193000"),
        (b"20260701", "20260701", "000000"),
    ],
)
def test_c40_odd_starts_become_the_site_s_time(
    broker: Broker, start: bytes, date: str, clock: str
) -> None:
    order = new_order()
    accepted(broker.hl7, edited(orm_o01(order), ("ORC", 7, b"^^^" + start)))
    step = step_of(only(broker, order))
    assert step["ScheduledProcedureStepStartDate"] == date
    assert step["ScheduledProcedureStepStartTime"] == clock


@pytest.mark.parametrize(
    "start",
    [b"202603172500", b"202699999999", b"tomorrow", b"202603171060", b"202603171000+9900"],
)
def test_c40_a_start_that_is_no_time_is_refused_at_its_place(broker: Broker, start: bytes) -> None:
    order = new_order()
    answer = send(broker.hl7, edited(orm_o01(order), ("ORC", 7, b"^^^" + start)))
    assert (answer.code, "ORC^1^7^102" in answer.error) == ("AE", True)
    nothing_of(broker, order)


def test_c40_without_a_start_the_message_s_own_time_stands_in(broker: Broker) -> None:
    order = new_order()
    message = edited(orm_o01(order), ("ORC", 7, b""), ("OBR", 27, b""), ("OBR", 36, b""))
    accepted(broker.hl7, edited(message, ("MSH", 7, b"20260316081500")))
    step = step_of(only(broker, order))
    assert step["ScheduledProcedureStepStartDate"] == "20260316"
    assert step["ScheduledProcedureStepStartTime"] == "081500"


def test_c41_a_section_is_no_modality_but_its_code_may_be(broker: Broker) -> None:
    order = new_order()
    answer = send(broker.hl7, edited(orm_o01(order), ("OBR", 24, b"RAD")))
    assert (answer.code, "OBR^1^24^103" in answer.error) == ("AE", True)
    assert "is not in table 'modality'" in answer.error


def test_c42_control_characters_reach_no_attribute(broker: Broker) -> None:
    order = new_order()
    message = edited(
        orm_o01(order),
        ("OBR", 13, rb"Pa\X1B\ck\X00\s\X7F\x" + b"\x1b\x07y"),
        ("PID", 5, b"DOE\x1b^JO\x00HN"),
    )
    accepted(broker.hl7, message)
    item = only(broker, order)
    assert all(item[word].isprintable() for word in ("MedicalAlerts", "PatientName"))
    assert item["PatientName"] == "DOE^JO HN"
