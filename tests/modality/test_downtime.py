"""Orders typed by hand while the RIS is away, and what becomes of them when it is back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.probe.orders import Envelope, Order, Patient, orm_o01
from broker.store import archive
from broker.worklist.downtime import ORDERED_SINCE, OTHER_STUDY
from broker.worklist.performing import OTHER_ACCESSION
from broker.worklist.records import TYPED
from tests.modality.conftest import Command
from tests.modality.hospital import Hospital, Modality, new_order, new_uid

pytestmark = pytest.mark.peer("redis-server")
WHY = ("--operator", "anna", "--reason", "RIS down")
STEP = "ScheduledProcedureStepSequence"


def typed(broker: Command, order: Order, *more: str) -> dict[str, Any]:
    """Type what an order will say; gives what was printed."""
    named = ("--patient", order.patient.patient_id, "--name", order.patient.name)
    person = () if "--unidentified" in more else named
    code, printed = broker(
        *("add", *person, "--accession", order.accession, "--issuer", "NORTH", "--modality", "CT"),
        *("--station", "CT1", "--description", "CT head", *WHY, "--json", *more),
    )
    assert code == 0, printed
    return dict(json.loads(printed))


def examined(hospital: Hospital, scanner: Modality, order: Order) -> str:
    """An exam of the only step of an order, from begin to end."""
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    return uid


def test_nobody_is_told_of_an_order_by_hand_before_the_ris_has_ordered_it(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order, "--set", "PatientWeight=80")
    [item] = scanner.list(order.accession)
    assert (item["PatientName"], item["PatientWeight"]) == (order.patient.name, "80")
    assert item[STEP][0]["ScheduledProcedureStepDescription"] == "CT head"
    uid = examined(hospital, scanner, order)
    assert (hospital.statuses(order), hospital.states(order)) == (["COMPLETED"], [])
    assert "typed by hand" in broker("mpps", "list")[1]
    hospital.orders(order)
    assert hospital.states(order) == ["IP", "CM"]
    assert all(order.placer.encode() in event.payload for event in hospital.queued(order))
    assert hospital.statuses(order) == ["COMPLETED"]
    flags = hospital.stored(order).flags
    assert ORDERED_SINCE in flags
    assert TYPED not in flags
    assert hospital.performed(uid).exceptions == ()
    hospital.orders(order, at=timedelta(minutes=1))
    assert hospital.states(order) == ["IP", "CM"]


def test_an_exam_that_runs_when_the_order_comes_is_told_to_its_end(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order)
    uid = hospital.begins(scanner, order)
    study = scanner.get(uid, 0x00400270).data["ScheduledStepAttributesSequence"][0]
    hospital.orders(order)
    assert hospital.states(order) == ["IP"]
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]
    assert OTHER_STUDY in hospital.stored(order).flags
    assert study["StudyInstanceUID"].encode() in hospital.queued(order)[-1].payload


def test_before_the_exam_the_ris_says_everything_and_there_is_one_line(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order)
    hospital.orders(order)
    [item] = scanner.list(order.accession)
    assert item["StudyInstanceUID"] == order.study_uid
    assert item[STEP][0]["ScheduledProcedureStepID"] == order.steps[0].step_id


def test_the_order_of_another_patient_under_its_number_is_refused(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order)
    [answer] = hospital.run(
        hospital._intake.accept(orm_o01(replace(order, patient=Patient("SOMEBODYELSE"))))
    )
    assert b"\rMSA|AR|" in answer
    assert b"205" in answer
    assert hospital.stored(order).by_hand


def test_an_unidentified_patient_is_identified_later(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order, "--unidentified")
    [item] = scanner.list(order.accession)
    assert item["PatientID"].startswith("UNKNOWN-")
    examined(hospital, scanner, order)
    person = order.patient.patient_id
    edit = ("edit", order.accession, "--patient", person, "--name", "MUSTER^MIRJAM")
    code, printed = broker(*edit, "--dry-run")
    assert (code, "would be" in printed) == (0, True)
    assert hospital.stored(order).patient == f"NORTH|{item['PatientID']}"
    assert broker(*edit, *WHY)[0] == 0
    assert hospital.stored(order).patient == f"NORTH|{person}"
    hospital.orders(order)
    assert hospital.states(order) == ["IP", "CM"]
    assert broker(*edit, *WHY)[0] == 1


def test_an_order_that_comes_under_another_number_after_the_exam_is_reconciled(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    hand = new_order()
    real = new_order(patient=hand.patient)
    typed(broker, hand)
    uid = examined(hospital, scanner, hand)
    hospital.orders(real)
    assert len(scanner.list(real.accession)) == 1
    reconcile = ("reconcile", hand.accession, real.accession)
    code, printed = broker(*reconcile, "--dry-run")
    assert code == 0, printed
    assert printed.count("ris would be told: ") == 2
    assert (hospital.statuses(real), hospital.states(real)) == (["SCHEDULED"], [])
    assert broker(*reconcile, *WHY)[0] == 0
    assert (hospital.statuses(real), hospital.states(real)) == (["COMPLETED"], ["IP", "CM"])
    assert scanner.list(real.accession) == []
    done = hospital.performed(uid)
    assert [r.order for r in done.references] == [f"NORTH|{real.accession}"]
    assert done.exceptions == ()
    assert OTHER_STUDY in hospital.stored(real).flags
    assert OTHER_ACCESSION not in hospital.stored(real).flags, "a person has just said whose it is"
    assert json.loads(broker("show", hand.accession, "--json")[1] or "[]") == []
    assert broker(*reconcile, *WHY)[0] == 1


def test_somebody_unknown_is_the_patient_of_the_order_that_is_reconciled(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    hand, real, other = new_order(), new_order(), new_order()
    typed(broker, hand, "--unidentified")
    examined(hospital, scanner, hand)
    hospital.orders(real, other)
    assert broker("reconcile", hand.accession, real.accession, *WHY)[0] == 0
    assert hospital.states(real) == ["IP", "CM"]
    assert hospital.stored(real).patient == f"NORTH|{real.patient.patient_id}"
    known = new_order()
    typed(broker, known)
    code, printed = broker("reconcile", known.accession, other.accession, *WHY)
    assert code == 1
    assert "another patient" in printed
    assert hospital.stored(known).by_hand


def test_what_is_done_without_a_scanner_is_told_when_a_ris_has_ordered_it(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    hand, real = new_order(), new_order()
    typed(broker, hand)
    hospital.orders(real)
    code, printed = broker("complete", real.accession, "--dry-run")
    assert (code, printed.count("would be told: COMPLETED")) == (0, 1)
    assert hospital.states(real) == []
    for order in (hand, real):
        assert broker("complete", order.accession, *WHY)[0] == 0
        assert scanner.list(order.accession) == []
        assert broker("complete", order.accession, *WHY)[0] == 1
    assert (hospital.states(hand), hospital.states(real)) == ([], ["CM"])
    hospital.orders(hand)
    assert (hospital.states(hand), hospital.statuses(hand)) == (["CM"], ["COMPLETED"])


def test_an_order_is_cancelled_and_reopened_by_hand(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = hospital.ordered()
    assert broker("cancel", order.accession, *WHY)[0] == 0
    assert (hospital.statuses(order), hospital.states(order)) == (["CANCELLED"], ["DC"])
    assert broker("reopen", order.accession, *WHY)[0] == 0
    assert len(scanner.list(order.accession)) == 1
    uid = examined(hospital, scanner, order)
    assert broker("reopen", order.accession, *WHY)[0] == 0
    assert len(scanner.list(order.accession)) == 1
    assert hospital.states(order) == ["DC", "IP", "CM"]
    again = hospital.begins(scanner, order)
    assert uid != again
    code, printed = broker("complete", order.accession, *WHY)
    assert (code, hospital.statuses(order)) == (1, ["STARTED"]), printed


def test_who_did_what_and_why_stays_with_the_order(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = new_order()
    typed(broker, order)
    broker("edit", order.accession, "--start", "07:15", "--operator", "ben", "--reason", "earlier")
    [shown] = json.loads(broker("show", order.accession, "--json")[1])
    history = [flag for flag in shown["flags"] if flag.startswith("by hand: ")]
    assert [each.split(" ", 4)[4] for each in history] == [
        "add by anna: RIS down",
        "edit by ben: earlier",
    ]
    assert scanner.list(order.accession)[0][STEP][0]["ScheduledProcedureStepStartTime"] == "071500"
    entries = [e for e in hospital.store.run(archive.newest(2)) if e.outcome == "by hand"]
    assert {(e.message_type, e.cause) for e in entries} == {
        ("add", "RIS down"),
        ("edit", "earlier"),
    }


def test_numbers_of_ours_are_given_where_none_is_typed(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    add = ("add", "--patient", "P1", "--issuer", "NORTH", "--modality", "CT", "--station", "CT1")
    numbers = []
    for _ in range(2):
        code, printed = broker(*add, "--description", "CT head", "--name", "DOE^JO", *WHY, "--json")
        assert code == 0, printed
        numbers += json.loads(printed)["orders"]
    assert len(set(numbers)) == 2
    assert all(number.startswith("NORTH|HAND-") for number in numbers)


def test_an_exam_without_an_order_finds_the_one_that_is_typed_and_waits_with_it(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order, listed, uid = new_order(), new_order(), new_uid()
    hospital.orders(listed)
    begun = hospital.start(scanner, listed)
    begun["ScheduledStepAttributesSequence"][0] |= {
        "StudyInstanceUID": new_uid(),
        "AccessionNumber": order.accession,
        "ReferencedStudySequence": [],
        "RequestedProcedureID": "",
        "ScheduledProcedureStepID": "",
    }
    begun["PatientID"] = order.patient.patient_id
    assert scanner.create(uid, begun).status == 0x0000
    typed(broker, order)
    assert (hospital.statuses(order), hospital.states(order)) == (["STARTED"], [])
    hospital.orders(order)
    assert hospital.states(order) == ["IP"]
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        (("--modality", "ct head"), "Modality is not what DICOM allows"),
        (("--set", "PatientWeight=heavy"), "PatientWeight is not what DICOM allows"),
        (("--set", "Nonsense=1"), "Nonsense is no attribute"),
        (("--station", "A" * 17), "ScheduledStationAETitle is too long"),
        (("--description", "a\\b"), "holds a backslash"),
        (("--start", "tomorrow"), "write YYYY-MM-DD HH:MM"),
    ],
)
def test_what_is_mistyped_is_refused_with_its_name(
    broker: Command, said: tuple[str, ...], fact: str
) -> None:
    add = ("add", "--patient", "P1", "--accession", "X1", "--issuer", "NORTH")
    usual = {"--modality": "CT", "--station": "CT1", "--description": "CT head"}
    usual = {key: value for key, value in usual.items() if key != said[0]}
    code, printed = broker(*add, *(word for pair in usual.items() for word in pair), *said, *WHY)
    assert code == 2
    assert fact in " ".join(printed.replace("│", " ").split())


def test_what_cannot_be_done_changes_nothing(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = hospital.ordered()
    person = ("--patient", order.patient.patient_id, "--issuer", "NORTH")
    rest = ("--modality", "CT", "--station", "CT1", "--description", "CT head", *WHY)
    before = hospital.stored(order)
    code, printed = broker("add", *person, "--accession", order.accession, *rest)
    assert code == 1
    assert "broker edit" in printed
    code, printed = broker("add", *person, "--accession", "NEW1", "--modality", "CT", *WHY)
    assert code == 1
    assert "ScheduledStationAETitle" in printed
    assert broker("cancel", "NOSUCHORDER", *WHY)[0] == 1
    assert broker("cancel", order.accession)[0] == 2
    assert broker("cancel", order.accession, "--reason", "long " * 50)[0] == 2
    assert broker("cancel", order.accession, "--reason", "two\nlines")[0] == 2
    assert broker("add", *rest)[0] == 2
    assert hospital.stored(order) == before
    assert hospital.says(orm_o01(order, envelope=Envelope(sent=Envelope().sent))) is None


def test_what_changes_nothing_says_what_the_order_is_instead(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = hospital.ordered()
    examined(hospital, scanner, order)
    code, printed = broker("cancel", order.accession, *WHY)
    assert (code, printed.strip()) == (1, "nothing would change: it is COMPLETED")


def test_a_modality_that_dicom_does_not_know_is_typed_with_a_warning(
    hospital: Hospital, broker: Command
) -> None:
    order = hospital.ordered()
    said = ("edit", order.accession, "--modality", "XX9", *WHY)
    code, printed = broker(*said)
    assert code == 0
    assert "warning: XX9 is no modality that DICOM knows" in printed
