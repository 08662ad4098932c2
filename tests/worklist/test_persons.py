"""Patient messages: slim records, visits, arrivals, whose word counts, what is nothing new."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from broker.worklist.changes import Action, Attributes
from broker.worklist.finding import Known
from broker.worklist.policies import PatientFrom
from tests.worklist.speaking import group, listed, said, say, sender, statuses, step

NW, XO, A08 = Action.SCHEDULE, Action.UPDATE, Action.PATIENT
A10, A11 = Action.ARRIVE, Action.DEPART
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
ADDRESS = {"PatientAddress": "FERN LANE 4"}


def person(**said: Any) -> Attributes:
    return {"PatientID": "123", "PatientName": "DOE^JOHN", **said}


def name(known: Known) -> str:
    return str(listed(known)[0].attributes["PatientName"])


def test_of_a_patient_without_orders_only_the_header_is_kept() -> None:
    known = said(A08, person(PatientSex="M", PatientBirthDate="19700101", **ADDRESS))
    (patient,) = known.patients.values()
    assert patient.slim
    assert set(patient.facts.attributes) == {
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientSex",
        "PatientBirthDate",
    }


@pytest.mark.parametrize("sent", [T1, T3])
def test_an_order_brings_what_a_patient_without_orders_lacked(sent: str) -> None:
    known = said(A08, person(PatientName="NEW"), by=sender(T2))
    known, _ = say(known, NW, group(PatientName="OLD", **ADDRESS), by=sender(sent))
    held = listed(known)[0].attributes
    assert held["PatientAddress"] == "FERN LANE 4"
    assert held["PatientName"] == ("NEW" if sent == T1 else "OLD")


def test_after_the_first_order_all_of_a_patient_message_is_kept() -> None:
    known, _ = say(said(NW, group()), A08, person(**ADDRESS), by=sender(T2))
    assert listed(known)[0].attributes["PatientAddress"] == "FERN LANE 4"


def test_what_a_patient_message_erased_an_older_order_does_not_bring_back() -> None:
    known = said(A08, person(PatientBirthDate=None), by=sender(T2))
    known, _ = say(known, NW, group(PatientBirthDate="19700101"), by=sender(T1))
    assert "PatientBirthDate" not in listed(known)[0].attributes


def test_a_message_that_says_nothing_new_changes_no_record() -> None:
    known = said(NW, group())
    after, applied = say(known, A08, person(), by=sender(T2))
    after, applied = say(after, A08, person(), by=sender(T3))
    assert applied.notes == ("unchanged",)
    (patient,) = after.patients.values()
    first = say(known, A08, person(), by=sender(T2))[0]
    assert patient == next(iter(first.patients.values()))
    assert applied.heard == {"patient:HOSP|123": {"RIS|HOSP": T3, "ADT": T3}}


@pytest.mark.parametrize("order", list(permutations([0, 1, 2])))
def test_messages_in_any_order_end_with_the_newest_name(order: tuple[int, ...]) -> None:
    """Also where the newest one only repeats the oldest: then nothing of it was stored."""
    told = [(T1, "DOE^JOHN"), (T2, "WRONG"), (T3, "DOE^JOHN")]
    known = said(NW, group(), by=sender("20260101110000"))
    for at in order:
        sent, said_name = told[at]
        known, _ = say(known, A08, person(PatientName=said_name), by=sender(sent))
    assert name(known) == "DOE^JOHN"


@pytest.mark.parametrize(
    ("policy", "shown"), [(PatientFrom.ANY, "FROM^ORDER"), (PatientFrom.ADT, "FROM^ADT")]
)
def test_whether_an_order_corrects_a_patient_is_a_setting(policy: PatientFrom, shown: str) -> None:
    known = said(A08, person(PatientName="FROM^ADT"), by=sender(T1, name="ADT|HOSP"))
    by = sender(T2, patient_from=policy)
    known, _ = say(known, NW, group(PatientName="FROM^ORDER", **ADDRESS), by=by)
    known, _ = say(known, XO, group(PatientName="FROM^ORDER"), by=sender(T3, patient_from=policy))
    assert name(known) == shown
    assert listed(known)[0].attributes["PatientAddress"] == "FERN LANE 4"


def test_orders_correct_a_patient_of_whom_no_patient_message_spoke() -> None:
    policy = {"patient_from": PatientFrom.ADT}
    known = said(NW, group(), by=sender(T1, **policy))
    known, _ = say(known, XO, group(PatientName="ROE^ANN"), by=sender(T2, **policy))
    assert name(known) == "ROE^ANN"


T0 = "20260101110000"


def of_two_senders(sent: str, *, received: str = T3, **told: Any) -> Known:
    """An order, its patient corrected by ADT at T2, then another order that says the old name."""
    known = said(NW, group(PatientAddress="MILL LANE 1"), by=sender(T0))
    adt = sender(T2, name="ADT|HOSP", received=received)
    known, _ = say(known, A08, person(PatientName="NEW^NAME", PatientSex=None), by=adt)
    second = group(AccessionNumber="A2", **told)
    return say(known, NW, second, by=sender(sent, received=received))[0]


def test_an_order_older_than_a_correction_by_another_sender_does_not_take_it_back() -> None:
    known = of_two_senders(T1, PatientSex="M", **ADDRESS)
    (first, _) = (item.attributes for item in listed(known))
    assert first["PatientName"] == "NEW^NAME"
    assert "PatientSex" not in first  # it was erased
    assert first["PatientAddress"] == "FERN LANE 4"  # patient messages never spoke of it


def test_a_correction_that_said_nothing_new_counts_as_well() -> None:
    known = said(NW, group(), by=sender(T0))
    adt = {"name": "ADT|HOSP"}
    known, _ = say(known, A08, person(), by=sender(T0, **adt))
    known, applied = say(known, A08, person(), by=sender(T2, **adt))
    assert applied.notes == ("unchanged",)
    known, _ = say(known, NW, group(AccessionNumber="A2", PatientName="OLD"), by=sender(T1))
    assert name(known) == "DOE^JOHN"


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (T3, T3),  # newer than the correction
        (T2, T3),  # a tie
        ("", T3),  # no clock
        (T1, "20260101115400"),  # ADT's is more than five minutes ahead
    ],
)
def test_without_two_clocks_that_can_be_right_the_last_word_counts(
    sent: str, received: str
) -> None:
    assert name(of_two_senders(sent, received=received)) == "DOE^JOHN"


def test_a_person_may_force_an_order_on_a_correction() -> None:
    known = of_two_senders(T1)
    known, _ = say(known, NW, group(PatientName="FORCED"), by=sender(T1, force=True))
    assert name(known) == "FORCED"


def test_of_a_correction_before_the_first_order_an_older_order_changes_nothing() -> None:
    known = said(A08, person(PatientName="NEW"), by=sender(T2, name="ADT|HOSP"))
    known, _ = say(known, NW, group(PatientName="OLD", PatientSex="F"), by=sender(T1))
    assert name(known) == "NEW"
    assert listed(known)[0].attributes["PatientSex"] == "F"


def test_a_message_without_a_visit_is_of_the_only_one_that_orders_name() -> None:
    known = said(NW, group(AdmissionID="V1"), group(AccessionNumber="A2"))
    known, _ = say(known, A08, person(CurrentPatientLocation="WARD 3"), by=sender(T2))
    assert [i.attributes.get("CurrentPatientLocation") for i in listed(known)] == ["WARD 3"] * 2


def test_a_message_without_a_visit_leaves_orders_of_several_visits_alone() -> None:
    known = said(
        NW,
        group(AdmissionID="V1"),
        group(AccessionNumber="A2", AdmissionID="V2"),
        group(AccessionNumber="A3"),
    )
    known, _ = say(known, A08, person(CurrentPatientLocation="WARD 3"), by=sender(T2))
    told = [item.attributes.get("CurrentPatientLocation") for item in listed(known)]
    assert told == [None, None, "WARD 3"]


# --- arrivals


def of_two_visits() -> Known:
    """A step of visit V1 today, one of V2 today, one of no visit today and one tomorrow."""
    tomorrow = step(ScheduledProcedureStepStartDate="20260102")
    return said(
        NW,
        group(AdmissionID="V1"),
        group(AccessionNumber="A2", AdmissionID="V2"),
        group(AccessionNumber="A3"),
        group(tomorrow, AccessionNumber="A4"),
    )


TODAY = {"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "20260101"}]}


def test_an_arrival_means_the_visit_and_else_the_day() -> None:
    known, _ = say(of_two_visits(), A10, person(AdmissionID="V1", **TODAY), by=sender(T2))
    assert statuses(known) == ["ARRIVED", "SCHEDULED", "ARRIVED", "SCHEDULED"]


def test_an_arrival_that_names_neither_means_all_that_are_of_no_visit() -> None:
    known, applied = say(of_two_visits(), A10, person(), by=sender(T2))
    assert statuses(known) == ["SCHEDULED", "SCHEDULED", "ARRIVED", "ARRIVED"]
    assert applied.notes == ()


def arrived() -> Known:
    known, _ = say(of_two_visits(), A10, person(AdmissionID="V1"), by=sender(T1))
    return say(known, A10, person(AdmissionID="V2"), by=sender(T2))[0]


def test_a_departure_takes_an_arrival_back_and_ends_nothing() -> None:
    known, _ = say(arrived(), A11, person(AdmissionID="V2"), by=sender(T3))
    assert statuses(known) == ["ARRIVED", "SCHEDULED", "SCHEDULED", "SCHEDULED"]


def test_a_departure_without_a_visit_undoes_no_arrival_of_a_visit() -> None:
    known, _ = say(arrived(), A11, person(), by=sender(T3))
    assert statuses(known) == ["ARRIVED", "ARRIVED", "SCHEDULED", "SCHEDULED"]


def test_a_late_arrival_changes_nothing() -> None:
    known, _ = say(of_two_visits(), A11, person(), by=sender(T3))
    known, applied = say(known, A10, person(), by=sender(T2))
    assert applied.notes == ("stale",)
    assert statuses(known) == ["SCHEDULED"] * 4


def test_an_arrival_of_somebody_unknown_makes_no_worklist_item() -> None:
    assert listed(said(A10, person())) == []
