"""What orders say of themselves and of patients: C2 to C35 of the hazards, statements 63 to 84.

C1 is test_corpus.py, C30 to C32 are with the patients (test_patients.py), C19 and C34 with order
control (test_order_control.py), C43 with appointments (test_scheduling.py); characters and headers
are in test_hostile_content.py.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from broker.probe.orders import Envelope, Order, Patient, Step, omi_o23, orm_o01
from tests.doors.actors import (
    Answer,
    Broker,
    accepted,
    find,
    new_order,
    of_accession,
    only,
    send,
    step_of,
    until,
)
from tests.doors.test_refusals import edited

pytestmark = [
    pytest.mark.peer("redis-server"),
    # pydicom counts the padding of a text of 64 characters as its 65th.
    pytest.mark.filterwarnings("ignore:The value length"),
]

_NUMBERS = count(1)


def text(order: Order, *fields: tuple[str, int, str], **more: Any) -> bytes:
    """A message about an order with other fields."""
    message = orm_o01(order, **more)
    return edited(message, *((name, number, said.encode()) for name, number, said in fields))


def shown(broker: Broker, *fields: tuple[str, int, str], **more: Any) -> dict[str, Any]:
    """The entry of a new order with other fields."""
    order = new_order()
    accepted(broker.hl7, text(order, *fields, **more))
    return only(broker, order)


def refused(broker: Broker, message: bytes, code: str, condition: str) -> Answer:
    answer = send(broker.hl7, message)
    assert answer.code == code, answer.raw
    assert condition in answer.error
    return answer


# --- studies


def test_c02_and_s66_the_study_uid_of_zds_is_in_the_answer(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    assert only(broker, order)["StudyInstanceUID"] == order.study_uid


def test_s66_without_zds_a_study_uid_is_made_and_a_resend_has_the_same(broker: Broker) -> None:
    order = new_order()
    without = orm_o01(order).partition(b"ZDS|")[0]
    accepted(broker.hl7, without)
    made = only(broker, order)["StudyInstanceUID"]
    accepted(broker.hl7, edited(without, ("MSH", 10, b"AGAIN" + order.accession.encode())))
    assert only(broker, order)["StudyInstanceUID"] == made


# --- resends and order


def test_c14_and_s67_a_resend_has_the_same_answer_and_no_second_effect(broker: Broker) -> None:
    order = new_order()
    message = orm_o01(order)
    first, again = send(broker.hl7, message), send(broker.hl7, message)
    assert first.raw == again.raw
    only(broker, order)


def at(hour: int, version: str = "2.3.1") -> Envelope:
    return Envelope(sent=Envelope().sent.replace(hour=hour), version=version)


def test_c16_an_update_before_its_order_creates_it_and_the_late_order_changes_nothing(
    broker: Broker,
) -> None:
    order = new_order()
    update = text(order, ("OBR", 13, "new"), control="XO", envelope=at(9))
    accepted(broker.hl7, update, text(order, ("OBR", 13, "old"), envelope=at(8)))
    assert only(broker, order)["MedicalAlerts"] == "new"


def test_c17_a_cancel_before_its_order_stays_in_force(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, control="CA", envelope=at(9)))
    accepted(broker.hl7, orm_o01(order, envelope=at(8)))
    assert of_accession(broker, order) == []


def test_c18_an_older_message_after_a_newer_is_taken_and_changes_nothing(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, text(order, ("OBR", 13, "new"), envelope=at(9)))
    accepted(broker.hl7, text(order, ("OBR", 13, "old"), control="XO", envelope=at(8)))
    assert only(broker, order)["MedicalAlerts"] == "new"


@pytest.mark.parametrize(
    ("form", "version"), [(orm_o01, "2.3.1"), (omi_o23, "2.5.1")], ids=["ORC-7.4", "TQ1-7"]
)
def test_s68_an_update_moves_what_is_not_said_stays_and_null_erases(
    broker: Broker, form: Callable[..., bytes], version: str
) -> None:
    order = new_order()
    said = [("OBR", 13, b"latex"), ("OBR", 16, b"7^ROE^ANN")]
    accepted(broker.hl7, edited(form(order, envelope=at(8, version)), *said))
    before = only(broker, order)
    moved = replace(order, start=datetime(2026, 3, 17, 14, 30, tzinfo=UTC))
    update = form(moved, control="XO", envelope=at(9, version))
    accepted(broker.hl7, edited(update, ("OBR", 13, b'""'), ("OBR", 16, b"")))
    after = only(broker, order)
    assert (after["MedicalAlerts"], after["RequestingPhysician"]) == ("", "ROE^ANN")
    step = step_of(after)
    assert step["ScheduledProcedureStepStartDate"] == "20260317"
    assert step["ScheduledProcedureStepStartTime"] == "143000"
    for keyword in ("StudyInstanceUID", "RequestedProcedureID", "PatientName"):
        assert after[keyword] == before[keyword]


@pytest.mark.parametrize("control", ["CA", "DC"])
def test_s69_a_cancelled_order_is_gone_and_of_an_unknown_one_it_is_noted(
    broker: Broker, control: str
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at(8)))
    accepted(broker.hl7, orm_o01(order, control=control, status="CA", envelope=at(9)))
    assert of_accession(broker, order) == []
    before = broker.metric("broker_orders_unknown_total")
    answer = send(broker.hl7, orm_o01(new_order(), control=control, status="CA"))
    assert answer.code == "AA"
    assert b"no such order is known; remembered for when it comes" in answer.raw
    assert broker.archived(1)[0].cause == "unknown order"
    until(lambda: broker.metric("broker_orders_unknown_total") > before, "the count")


# --- numbers


def test_c20_and_s64_two_ipc_are_two_steps_of_one_study(broker: Broker) -> None:
    order = new_order(Step(step_id="C20-1"), Step(step_id="C20-2"))
    accepted(broker.hl7, omi_o23(order))
    found = of_accession(broker, order)
    assert {step_of(item)["ScheduledProcedureStepID"] for item in found} == {"C20-1", "C20-2"}
    assert {item["StudyInstanceUID"] for item in found} == {order.study_uid}


def test_s65_two_orders_of_one_message_are_two_entries(broker: Broker) -> None:
    first = new_order()
    second = new_order(patient=first.patient)
    accepted(broker.hl7, orm_o01(first, second))
    assert only(broker, first)["StudyInstanceUID"] == first.study_uid
    assert only(broker, second)["StudyInstanceUID"] == second.study_uid


def test_c21_an_entry_for_two_stations_is_seen_by_both(broker: Broker) -> None:
    order = new_order(Step(step_id=f"C21-{next(_NUMBERS)}", station_ae="C21A~C21B"))
    accepted(broker.hl7, omi_o23(order))
    for station in ("C21A", "C21B"):
        found = find(broker, station_ae=station)
        assert [item["AccessionNumber"] for item in found] == [order.accession]


def test_c22_without_an_accession_number_a_resend_gets_the_same(broker: Broker) -> None:
    order = new_order()
    envelope = Envelope(application="NEXUSRIS")
    message = text(order, ("OBR", 18, ""), envelope=envelope)
    again = edited(message, ("MSH", 10, b"C22" + order.accession.encode()))
    accepted(broker.hl7, message, again)
    (item,) = find(broker, patient_id=order.patient.patient_id)
    assert 0 < len(item["AccessionNumber"]) <= 16


def test_c23_and_s76_a_number_too_long_is_refused_with_its_place_and_never_cut(
    broker: Broker,
) -> None:
    order = new_order()
    refused(broker, text(order, ("OBR", 18, "A" * 20)), "AE", "OBR^1^18")
    assert find(broker, patient_id=order.patient.patient_id) == []


@pytest.mark.parametrize("uid", ["1.2.03", "1." + "2" * 70, "1.2.", "abc"])
def test_c25_a_study_uid_that_is_none_is_refused_or_replaced(broker: Broker, uid: str) -> None:
    order = new_order(study_uid=uid)
    answer = send(broker.hl7, orm_o01(order))
    if answer.code == "AA":
        assert only(broker, order)["StudyInstanceUID"].startswith("2.25.")
    else:
        assert "ZDS" in answer.error


# --- patients


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("1957", ""),  # S83: 1970 is no day
        ("195708", ""),
        ("00000000", ""),
        ("060Y", ""),
        ("12.08.1957", ""),
        ("17991231", ""),
        ("19570812000000+0100", "19570812"),
        ('""', ""),
    ],
)
def test_c26_and_s83_a_birth_date_is_a_day_or_empty(broker: Broker, said: str, day: str) -> None:
    assert shown(broker, ("PID", 7, said))["PatientBirthDate"] == day


def test_c27_null_clears_and_empty_keeps_what_is_known_of_a_patient(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at(8)))
    said = (("PID", 7, '""'), ("PID", 8, ""))
    accepted(broker.hl7, text(order, *said, control="XO", envelope=at(9)))
    item = only(broker, order)
    assert (item["PatientBirthDate"], item["PatientSex"]) == ("", "F")


def test_c28_an_identifier_that_is_null_is_none(broker: Broker) -> None:
    number = f"C28{next(_NUMBERS)}"
    said = f'{number}^^^NORTH^PI~""^^^NLX^PPN~^^^HC'
    assert shown(broker, ("PID", 3, said))["PatientID"] == number


def test_c29_a_social_security_number_is_no_patient_id(broker: Broker) -> None:
    number = f"C29{next(_NUMBERS)}"
    ids = f"999-12-0001^^^SSA^SS~E1^^^EPI^EPI~{number}^^^NORTH^MRN"
    item = shown(broker, ("PID", 3, ids), ("PID", 19, "000-00-0000"))
    assert item["PatientID"] == number
    refused(broker, text(new_order(), ("PID", 3, "999-12-0001^^^SSA^SS")), "AE", "PID^1^3")


def test_s78_the_other_ids_of_a_patient_come_along(broker: Broker) -> None:
    order = new_order()
    said = f"1{order.patient.patient_id}^^^NORTH^MR~2^^^B^PI"
    accepted(broker.hl7, text(order, ("PID", 3, said)))
    item = only(broker, order)
    assert item["PatientID"] == f"1{order.patient.patient_id}"
    assert item["IssuerOfPatientID"] == "NORTH"


def test_c33_two_connections_with_the_same_new_patient_make_one(broker: Broker) -> None:
    patient = new_order().patient
    orders = [new_order(patient=patient) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda order: send(broker.hl7, orm_o01(order)), orders))
    assert {answer.code for answer in answers} == {"AA"}
    assert len(find(broker, patient_id=patient.patient_id)) == 8


def test_c35_a_cancel_without_a_patient_reaches_its_order(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at(8)))
    head = "MSH|^~\\&|PROBERIS|NORTH|MWL|R|20260316100000||ORM^O01|"
    cancel = f"{head}C35{order.accession}|P|2.3\rORC|CA|{order.placer}\rOBR||{order.placer}\r"
    accepted(broker.hl7, cancel.encode())
    assert of_accession(broker, order) == []


def test_s77_the_parts_of_a_name_are_put_in_the_order_of_dicom(broker: Broker) -> None:
    order = new_order(patient=Patient(f"S77{next(_NUMBERS)}", "DOE^JOHN^Q^JR^DR^MD"))
    accepted(broker.hl7, orm_o01(order))
    assert only(broker, order)["PatientName"] == "DOE^JOHN^Q^DR^JR MD"


# --- what a whole order says


@pytest.mark.parametrize(
    ("start", "shown_as"),
    [
        ("19990101080000", "19990101"),
        ("202603162330+1400", "20260316"),
        ("202601011930+0100", "20260101"),  # S84
        ("", "20260316"),
    ],
)
def test_c40_and_s84_a_start_is_the_sites_time_and_none_is_that_of_the_message(
    broker: Broker, start: str, shown_as: str
) -> None:
    item = shown(broker, ("ORC", 7, f"^^^{start}"), ("OBR", 27, f"^^^{start}"))
    assert step_of(item)["ScheduledProcedureStepStartDate"] == shown_as


def test_s79_escapes_come_out_as_what_they_mean(broker: Broker) -> None:
    item = shown(broker, ("OBR", 13, "A\\T\\B \\E\\ C\\.br\\D"))
    assert item["MedicalAlerts"] == "A&B / C D"


def test_s63_an_order_of_ihe_is_taken_and_its_entry_is_whole(broker: Broker) -> None:
    order = new_order()
    answer = send(broker.hl7, orm_o01(order, envelope=Envelope(control_id="S63")))
    assert (answer.code, answer.control_id) == ("AA", "S63")
    item = only(broker, order)
    assert item["RequestedProcedureID"] == order.procedure_id
    assert step_of(item)["ScheduledProcedureStepID"] == order.steps[0].step_id
    assert item["AdmissionID"] == order.visit
