"""Appointments: booked, moved, missed and cancelled by their own numbers alone."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action
from broker.worklist.finding import Known, wanted
from broker.worklist.query.matching import Query
from broker.worklist.refusals import Reason, Refused
from tests.worklist.speaking import (
    FILLER,
    STEPS,
    group,
    listed,
    said,
    say,
    sender,
    statuses,
    step,
)

NW, XO, CA = Action.SCHEDULE, Action.UPDATE, Action.CANCEL
S13, S26 = Action.MOVE, Action.NO_SHOW
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
START = "ScheduledProcedureStepStartDate"
APPOINTMENT = {"FillerAppointmentID": "APF9"}
MOVED = {START: "20260105", "ScheduledStationAETitle": "CT2"}


def booked(*steps: dict[str, Any], **more: Any) -> Known:
    return said(NW, group(*steps, **{FILLER: "F1", **APPOINTMENT, **more}))


def slot(**said: Any) -> dict[str, Any]:
    """A message that knows of no order."""
    return {"PatientID": "123", **APPOINTMENT, STEPS: [{**MOVED, **said}]}


def slots(known: Known) -> list[tuple[str, str]]:
    steps = [i.attributes[STEPS][0] for i in listed(known)]
    return [(each[START], each["ScheduledStationAETitle"]) for each in steps]


def test_an_appointment_moves_by_its_own_number_and_stays_one_line() -> None:
    before = listed(booked())[0].attributes
    known, applied = say(booked(), S13, slot(), by=sender(T2))
    assert slots(known) == [("20260105", "CT2")]
    assert applied.notes == ()
    assert listed(known)[0].attributes["StudyInstanceUID"] == before["StudyInstanceUID"]


def test_the_number_leads_to_the_order_in_the_store() -> None:
    asked = wanted([slot()], "HOSP", orders_of_patients=False)
    assert [(i.kind, i.value) for i in asked.identifiers] == [("appointment", "HOSP|F|APF9")]


def test_numbers_of_placer_and_filler_are_not_confused() -> None:
    other = {"PatientID": "123", "PlacerAppointmentID": "APF9", STEPS: [MOVED]}
    with pytest.raises(Refused) as refused:
        say(booked(), S13, other, by=sender(T2))
    assert refused.value.reason is Reason.NO_ACCESSION


def test_another_sources_appointment_is_another_one() -> None:
    with pytest.raises(Refused):
        say(booked(), S13, slot(), by=sender(T2, name="B|B", issuer="B"))


def test_no_scanner_can_ask_for_the_number() -> None:
    (item,) = listed(booked())
    assert item.attributes["FillerAppointmentID"] == "APF9"
    query = Query.of({"AccessionNumber": "", STEPS: [{}]})
    assert "FillerAppointmentID" not in str(query.answer(item.attributes))


def test_a_slot_without_a_step_of_its_own_is_that_of_every_step() -> None:
    known, _ = say(booked(step(), step(Modality="MR")), S13, slot(), by=sender(T2))
    assert slots(known) == [("20260105", "CT2")] * 2
    assert [i.attributes[STEPS][0]["Modality"] for i in listed(known)] == ["CT", "MR"]


def test_an_appointment_of_several_orders_moves_and_ends_them_all() -> None:
    known, _ = say(booked(), NW, group(AccessionNumber="A2", **{FILLER: "F2", **APPOINTMENT}))
    known, _ = say(known, S13, slot(), by=sender(T2))
    assert slots(known) == [("20260105", "CT2")] * 2
    known, _ = say(known, CA, {"PatientID": "123", **APPOINTMENT}, by=sender(T3))
    assert statuses(known) == ["CANCELLED", "CANCELLED"]


def test_a_cancelled_appointment_leaves_the_list_and_another_slot_brings_it_back() -> None:
    known, _ = say(booked(), CA, {"PatientID": "123", **APPOINTMENT}, by=sender(T2))
    assert statuses(known) == ["CANCELLED"]
    known, _ = say(known, S13, slot(), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_a_cancelled_appointment_is_booked_again_within_one_tick_of_the_clock() -> None:
    known, _ = say(booked(), CA, {"PatientID": "123", **APPOINTMENT}, by=sender(T2))
    known, _ = say(known, S13, slot(), by=sender(T2))
    assert statuses(known) == ["SCHEDULED"]


def test_a_patient_who_did_not_come_is_off_the_list_till_there_is_another_slot() -> None:
    known, applied = say(booked(), S26, {"PatientID": "123", **APPOINTMENT}, by=sender(T2))
    assert statuses(known) == ["CANCELLED"]
    assert applied.notes == ("no show",)
    known, _ = say(known, S13, slot(), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_another_slot_does_not_bring_back_what_a_ris_has_cancelled() -> None:
    known, _ = say(booked(), CA, group(), by=sender(T2, name="RIS2|HOSP"))
    known, _ = say(known, S13, slot(), by=sender(T3))
    assert statuses(known) == ["CANCELLED"]


def test_a_cancel_before_the_booking_keeps_a_late_booking_off_the_list() -> None:
    known, applied = say(Known(), CA, {"PatientID": "123", **APPOINTMENT}, by=sender(T2))
    assert applied.buried == {"appointment:HOSP|F|APF9": {"RIS|HOSP": T2}}
    late = group(**{FILLER: "F1", **APPOINTMENT})
    assert statuses(say(known, NW, late, by=sender(T1))[0]) == ["CANCELLED"]


def test_a_cancel_before_the_booking_of_a_known_order_counts_too() -> None:
    order = said(NW, group(**{FILLER: "F1"}), by=sender(T1, name="RIS2|HOSP"))
    known, _ = say(order, CA, {"PatientID": "123", **APPOINTMENT}, by=sender(T2))
    late = {**slot(), FILLER: "F1"}
    known, applied = say(known, S13, late, by=sender(T1))
    assert statuses(known) == ["CANCELLED"]
    assert applied.notes == ("cancelled before", "finished")
    known, _ = say(known, S13, slot(), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_a_late_move_changes_nothing() -> None:
    known, _ = say(booked(), S13, slot(), by=sender(T3))
    known, applied = say(known, S13, slot(**{START: "20260109"}), by=sender(T2))
    assert applied.notes == ("stale",)
    assert slots(known) == [("20260105", "CT2")]


def test_an_order_gets_its_appointment_later() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known, _ = say(known, S13, {**slot(), FILLER: "F1"}, by=sender(T2))
    known, _ = say(known, S13, slot(**{START: "20260109"}), by=sender(T3))
    assert slots(known) == [("20260109", "CT2")]


def test_an_appointment_of_another_patient_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        say(booked(), S13, {**slot(), "PatientID": "999"}, by=sender(T2))
    assert refused.value.reason is Reason.WRONG_PATIENT
