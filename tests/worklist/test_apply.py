"""What order messages make of the records: identity, ranks, cancels, stale messages, renames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.worklist.changes import FILLS_GAPS, Action, Ranked
from broker.worklist.finding import Known, wanted
from broker.worklist.records import StepStatus
from broker.worklist.refusals import Reason, Refused
from tests.worklist.speaking import (
    FILLER,
    PLACER,
    STEP_ID,
    STEPS,
    group,
    listed,
    only_order,
    said,
    say,
    sender,
    statuses,
    step,
)

NW, XO, CA = Action.SCHEDULE, Action.UPDATE, Action.CANCEL
DC, CM, A08 = Action.DISCONTINUE, Action.COMPLETE, Action.PATIENT
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
EI = "IssuerOfAccessionNumberSequence"


def guessed(value: Any) -> Ranked:
    """What a mapping gives as a default."""
    return Ranked(value, FILLS_GAPS)


# --- one order


def test_a_new_order_becomes_one_worklist_item_with_every_identifier() -> None:
    (item,) = listed(said(NW, group()))
    held = item.attributes
    assert held["PatientID"] == "123"
    assert held["IssuerOfPatientID"] == "HOSP"
    assert held["AccessionNumber"] == "A1"
    assert held["RequestedProcedureID"] == "A1"
    assert held["StudyInstanceUID"].startswith("2.25.")
    assert held[STEPS][0][STEP_ID] == "A1"
    assert held[STEPS][0]["ScheduledProcedureStepStatus"] == "SCHEDULED"


def test_a_resend_changes_nothing_and_gives_the_same_uids() -> None:
    first = said(NW, group())
    again, applied = say(first, NW, group())
    assert again.orders == first.orders
    assert again.patients == first.patients
    assert applied.notes == ()
    assert listed(said(NW, group())) == listed(first)


def test_derived_uids_differ_between_orders_and_issuers() -> None:
    orders = [
        said(NW, group()),
        said(NW, group(AccessionNumber="A2")),
        said(NW, group(), by=sender(issuer="OTHER")),
    ]
    assert len({listed(known)[0].attributes["StudyInstanceUID"] for known in orders}) == 3


def test_absent_keeps_and_null_erases() -> None:
    known = said(NW, group(MedicalAlerts="LATEX", Allergies="NUTS"))
    known, _ = say(known, XO, group(MedicalAlerts=None))
    (item,) = listed(known)
    assert "MedicalAlerts" not in item.attributes
    assert item.attributes["Allergies"] == "NUTS"


@pytest.mark.parametrize("keyword", ["AccessionNumber", "StudyInstanceUID", "RequestedProcedureID"])
def test_null_in_an_identifier_leaves_an_order_that_can_be_found(keyword: str) -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    before = listed(known)[0].attributes
    known, _ = say(known, XO, group(**{FILLER: "F1", keyword: None}))
    (item,) = listed(known)
    assert item.attributes[keyword] == before[keyword]


# --- ranks


def test_a_default_fills_a_gap_and_overwrites_nothing() -> None:
    known = said(NW, group(SpecialNeeds=guessed("none"), PatientState="calm"))
    known, _ = say(known, XO, group(SpecialNeeds="wheelchair", PatientState=guessed("unknown")))
    assert only_order(known).facts.text("SpecialNeeds") == "wheelchair"
    assert only_order(known).facts.text("PatientState") == "calm"
    known, _ = say(known, XO, group(SpecialNeeds=guessed("none")))
    assert only_order(known).facts.text("SpecialNeeds") == "wheelchair"


@pytest.mark.parametrize(
    ("stored", "message", "expected"),
    [
        ("a", "b", "b"),
        ("a", Ranked("b", 1), "a"),
        (Ranked("a", 1), Ranked("b", 1), "b"),  # the same place corrects itself
        (Ranked("a", 1), Ranked("b", 2), "a"),
        (Ranked("a", 2), Ranked("b", 1), "b"),
        (Ranked("a", 2), "b", "b"),
        (guessed("a"), guessed("b"), "a"),  # a derived value stays, whatever it is derived from
        (Ranked("a", 1), None, ""),
    ],
)
def test_a_value_gives_way_only_to_one_from_as_good_a_place(
    stored: Any, message: Any, expected: str
) -> None:
    known, _ = say(said(NW, group(VisitComments=stored)), XO, group(VisitComments=message))
    assert only_order(known).facts.text("VisitComments") == expected


def test_after_null_a_default_may_fill_the_gap_again() -> None:
    known, _ = say(said(NW, group(VisitComments="a")), XO, group(VisitComments=None))
    known, _ = say(known, XO, group(VisitComments=guessed("b")))
    assert only_order(known).facts.text("VisitComments") == "b"


def test_a_study_uid_from_the_mapping_is_kept_even_where_it_is_derived() -> None:
    known = said(NW, group(StudyInstanceUID=guessed("1.2.9")))
    assert listed(known)[0].attributes["StudyInstanceUID"] == "1.2.9"


def test_a_study_uid_that_comes_later_takes_the_place_of_the_derived_one() -> None:
    known, _ = say(said(NW, group()), XO, group(StudyInstanceUID="1.2.9"))
    assert [item.attributes["StudyInstanceUID"] for item in listed(known)] == ["1.2.9"]
    known, _ = say(known, XO, group())
    assert [item.attributes["StudyInstanceUID"] for item in listed(known)] == ["1.2.9"]


# --- several procedures and steps under one accession number


def two() -> tuple[dict[str, Any], dict[str, Any]]:
    """Two ORC groups under one accession number, told apart by their filler numbers."""
    return group(**{FILLER: "F1"}), group(step(Modality="MR"), **{FILLER: "F2"})


def test_several_groups_of_one_accession_are_several_procedures_of_one_order() -> None:
    known = said(NW, *two())
    assert len(only_order(known).procedures) == 2
    assert len({i.attributes["RequestedProcedureID"] for i in listed(known)}) == 2
    assert len({i.attributes["StudyInstanceUID"] for i in listed(known)}) == 2
    again, _ = say(known, NW, *two())
    assert again.orders == known.orders


def test_groups_that_a_default_gives_the_same_procedure_id_stay_apart() -> None:
    first, second = ({**one, "RequestedProcedureID": guessed("A1")} for one in two())
    known = said(NW, first, second)
    assert [i.attributes[STEPS][0]["Modality"] for i in listed(known)] == ["CT", "MR"]
    assert len({i.attributes["RequestedProcedureID"] for i in listed(known)}) == 2
    again, _ = say(known, NW, first, second)
    assert again.orders == known.orders
    known, _ = say(known, CA, second)
    assert statuses(known) == ["SCHEDULED", "CANCELLED"]


def test_groups_of_one_filler_with_procedure_ids_of_their_own_stay_apart() -> None:
    groups = [group(RequestedProcedureID=rp, **{FILLER: "F1"}) for rp in ("R1", "R2")]
    known = said(NW, *groups)
    assert [p.id for p in only_order(known).procedures] == ["R1", "R2"]
    known, _ = say(known, XO, {**groups[1], "RequestedProcedureComments": "x"})
    assert [p.facts.text("RequestedProcedureComments") for p in only_order(known).procedures] == [
        "",
        "x",
    ]


def test_several_steps_of_one_group_have_one_study() -> None:
    known = said(NW, group(step(**{STEP_ID: "S1"}), step(Modality="MR", **{STEP_ID: "S2"})))
    assert [i.step.id for i in listed(known)] == ["S1", "S2"]
    assert len({i.attributes["StudyInstanceUID"] for i in listed(known)}) == 1


def test_steps_without_ids_get_ids_that_a_resend_repeats() -> None:
    message = group(step(), step(Modality="MR"))
    known, _ = say(said(NW, message), NW, message)
    assert [i.step.id for i in listed(known)] == ["A1", "A1-2"]


def test_an_update_without_step_ids_goes_to_the_steps_in_their_order() -> None:
    known = said(NW, group(step(**{STEP_ID: "S1"}), step(**{STEP_ID: "S2"})))
    known, _ = say(known, XO, group(step(Modality="MR")))
    assert [(i.step.id, i.attributes[STEPS][0]["Modality"]) for i in listed(known)] == [
        ("S1", "MR"),
        ("S2", "CT"),
    ]


def test_ids_that_come_later_do_not_double_the_step() -> None:
    """An update before the order often says less than the order."""
    known = said(XO, group(), by=sender(T1))
    full = group(step(**{STEP_ID: "S9"}), RequestedProcedureID="RP9", **{FILLER: "F9"})
    for time in (T2, T3):
        known, _ = say(known, NW, full, by=sender(time))
        (item,) = listed(known)
        assert item.attributes["RequestedProcedureID"] == "RP9"
        assert item.attributes[STEPS][0][STEP_ID] == "S9"


def test_an_accession_number_too_long_for_an_id_gives_derived_ids() -> None:
    known = said(NW, group(AccessionNumber="A" * 20))
    (item,) = listed(known)
    assert len(item.procedure.id) == 16
    assert len(item.step.id) <= 16


# --- the wrong patient


OTHER = {"PatientID": "999"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": "1.2", "AccessionNumber": "A2"}),
        ({FILLER: "F1"}, {FILLER: "F1", "AccessionNumber": "A2"}),
        ({PLACER: "P1"}, {PLACER: "P1", "AccessionNumber": "A2"}),
        ({FILLER: "F1"}, {FILLER: "F1", "AccessionNumber": "-"}),
    ],
)
@pytest.mark.parametrize("action", [NW, XO])
def test_a_number_of_another_patient_is_refused(
    first: dict[str, Any], second: dict[str, Any], action: Action
) -> None:
    known = said(NW, group(**first))
    with pytest.raises(Refused, match="belongs to another patient") as refused:
        say(known, action, group(**OTHER, **second), by=sender(T2))
    assert refused.value.reason is Reason.WRONG_PATIENT
    assert "999" not in str(refused.value)
    assert "DOE" not in str(refused.value)


@pytest.mark.parametrize("action", [CA, DC, CM])
def test_a_cancel_that_names_another_patient_is_refused(action: Action) -> None:
    with pytest.raises(Refused, match="belongs to another patient"):
        say(said(NW, group()), action, group(**OTHER))


def test_a_group_of_another_patient_refuses_the_whole_message() -> None:
    known = said(NW, group())
    with pytest.raises(Refused):
        say(known, NW, group(AccessionNumber="A2"), group(**OTHER))
    assert set(known.orders) == {"HOSP|A1"}


def test_an_issuer_that_is_a_default_is_no_other_patient() -> None:
    known = said(NW, group(IssuerOfPatientID="MPI"))
    known, _ = say(known, XO, group(IssuerOfPatientID=guessed("HOSP")), by=sender(T2))
    assert only_order(known).patient == "MPI|123"
    known, _ = say(known, XO, group(), by=sender(T2))
    assert set(known.patients) == {"MPI|123"}


def test_an_issuer_that_is_said_makes_another_patient() -> None:
    known = said(NW, group(IssuerOfPatientID="MPI"))
    with pytest.raises(Refused):
        say(known, XO, group(IssuerOfPatientID="OTHER"))


def test_the_same_accession_number_of_another_issuer_is_another_order() -> None:
    known = said(NW, group())
    known, _ = say(known, NW, group(**OTHER), by=sender(name="B|B", issuer="OTHER"))
    assert set(known.orders) == {"HOSP|A1", "OTHER|A1"}


def test_the_same_study_for_two_orders_of_one_patient_is_allowed() -> None:
    known = said(
        NW, group(StudyInstanceUID="1.2"), group(StudyInstanceUID="1.2", AccessionNumber="A2")
    )
    assert set(known.orders) == {"HOSP|A1", "HOSP|A2"}


def test_a_patient_known_by_a_merged_id_is_the_same_patient() -> None:
    known = said(NW, group())
    merged = Known(known.orders, known.patients, {"patient:HOSP|OLD": "HOSP|123"})
    after, _ = say(merged, XO, group(PatientID="OLD"))
    assert only_order(after).patient == "HOSP|123"


@pytest.mark.parametrize("missing", ["PatientID", "AccessionNumber"])
def test_a_new_order_needs_a_patient_and_an_accession_number(missing: str) -> None:
    with pytest.raises(Refused) as refused:
        said(NW, group(**{missing: "-"}))
    assert refused.value.reason in (Reason.NO_PATIENT, Reason.NO_ACCESSION)
    assert refused.value.location in ("PID-3", "ORC[1]")


# --- cancel, discontinue, complete


@pytest.mark.parametrize(
    ("action", "status"), [(CA, "CANCELLED"), (DC, "DISCONTINUED"), (CM, "COMPLETED")]
)
def test_order_control_ends_every_step_of_the_accession(action: Action, status: str) -> None:
    known, applied = say(said(NW, *two()), action, {"AccessionNumber": "A1", "PatientID": "123"})
    assert statuses(known) == [status, status]
    assert applied.notes == ()


@pytest.mark.parametrize(
    "narrow",
    [
        {FILLER: "F2"},
        {"AccessionNumber": "A1", FILLER: "F2"},
        {"AccessionNumber": "A1", PLACER: "P2"},
    ],
)
def test_a_cancel_means_the_narrowest_identifier_it_gives(narrow: dict[str, str]) -> None:
    first, second = two()
    known = said(NW, {**first, PLACER: "P1"}, {**second, PLACER: "P2"})
    known, _ = say(known, CA, narrow)
    assert statuses(known) == ["SCHEDULED", "CANCELLED"]


def test_a_cancel_of_one_step_leaves_the_other() -> None:
    known = said(NW, group(step(**{STEP_ID: "S1"}), step(**{STEP_ID: "S2"})))
    known, _ = say(known, CA, {"AccessionNumber": "A1", STEPS: [{STEP_ID: "S2"}]})
    assert statuses(known) == ["SCHEDULED", "CANCELLED"]


def test_a_cancel_of_an_unknown_step_cancels_nothing() -> None:
    known = said(NW, group(step(**{STEP_ID: "S1"}), RequestedProcedureID="R1"))
    for said_ in ({STEPS: [{STEP_ID: "S7"}]}, {"RequestedProcedureID": "R7"}):
        after, applied = say(known, CA, {"AccessionNumber": "A1", **said_})
        assert statuses(after) == ["SCHEDULED"]
        assert applied.notes == ("unknown step",)


def test_a_cancel_without_a_patient_is_applied_and_blanks_nothing() -> None:
    known, _ = say(said(NW, group(**{FILLER: "F1"})), CA, {FILLER: "F1"})
    assert statuses(known) == ["CANCELLED"]
    assert listed(known)[0].attributes["PatientName"] == "DOE^JOHN"


@pytest.mark.parametrize("action", [CA, DC, CM])
def test_a_cancel_of_an_unknown_order_is_noted(action: Action) -> None:
    known, applied = say(Known(), action, group())
    assert applied.notes == ("unknown order",)
    assert not known.orders


def running(known: Known, **update: Any) -> Known:
    """The same with its only step started."""
    order = only_order(known)
    (procedure,) = order.procedures
    started = procedure.steps[0].model_copy(update={"status": StepStatus.STARTED, **update})
    return known.with_order(
        order.model_copy(
            update={"procedures": (procedure.model_copy(update={"steps": (started,)}),)}
        )
    )


@pytest.mark.parametrize("action", [CA, DC, CM])
def test_a_running_exam_is_never_broken_only_flagged(action: Action) -> None:
    known = running(said(NW, group()), performed={"1.9": "IN PROGRESS"})
    known, applied = say(known, action, group(), by=sender(T2))
    assert statuses(known) == ["STARTED"]
    assert applied.notes == (f"{action.value} after start",)
    assert only_order(known).flags == applied.notes


def test_an_exam_that_the_ris_itself_called_started_the_ris_may_complete() -> None:
    known = said(NW, group(step(ScheduledProcedureStepStatus="STARTED")))
    known, applied = say(known, CM, group())
    assert statuses(known) == ["COMPLETED"]
    assert applied.notes == ()


def meanwhile(known: Known) -> Known:
    """The same, read by a message that was under way before all of it was written."""
    return replace(known, together=frozenset(known.orders))


def test_a_cancel_that_is_on_its_way_together_with_an_order_wins_a_tie() -> None:
    known, _ = say(said(NW, group()), CA, group())
    assert statuses(known) == ["CANCELLED"]
    known, _ = say(meanwhile(known), NW, group())
    assert statuses(known) == ["CANCELLED"]


def test_a_cancel_of_one_procedure_wins_a_tie_too() -> None:
    first, second = two()
    known, _ = say(said(NW, first, second), CA, second)
    known, _ = say(meanwhile(known), NW, first, second)
    assert statuses(known) == ["SCHEDULED", "CANCELLED"]


@pytest.mark.parametrize("again", [T1, T1[:12]])
def test_what_is_ordered_anew_after_the_answer_to_a_cancel_of_the_same_time_is_listed(
    again: str,
) -> None:
    known, _ = say(said(NW, group()), CA, group())
    known, applied = say(known, NW, group(), by=sender(again))
    assert statuses(known) == ["SCHEDULED"]
    assert applied.notes == ()


def test_what_is_newer_wins_although_a_cancel_is_on_its_way() -> None:
    known, _ = say(said(NW, group()), CA, group())
    assert statuses(say(meanwhile(known), NW, group(), by=sender(T2))[0]) == ["SCHEDULED"]


def test_a_newer_order_takes_a_cancelled_one_up_again() -> None:
    known, _ = say(said(NW, *two()), CA, {"AccessionNumber": "A1"}, by=sender(T2))
    known, _ = say(known, NW, *two(), by=sender(T3))
    assert statuses(known) == ["SCHEDULED", "SCHEDULED"]


def test_an_update_takes_nothing_up_again() -> None:
    known, _ = say(said(NW, group()), CA, group(), by=sender(T2))
    known, _ = say(known, XO, group(VisitComments="x"), by=sender(T3))
    assert statuses(known) == ["CANCELLED"]


def test_one_message_may_replace_a_procedure_by_another() -> None:
    from broker.worklist.apply import apply_all
    from broker.worklist.changes import Change

    first, second = two()
    message = [Change(CA, first, "ORC[1]"), Change(NW, second, "ORC[2]")]
    applied = apply_all(message, said(NW, first), sender(T2))
    assert statuses(applied.known) == ["CANCELLED", "SCHEDULED"]
    assert applied.notes == ()


def test_completed_is_final_for_order_messages() -> None:
    known, _ = say(said(NW, group()), CM, group(), by=sender(T2))
    for action in (NW, XO, CA, DC):
        known, _ = say(known, action, group(), by=sender(T3))
        assert statuses(known) == ["COMPLETED"]


# --- the status that a message says


def test_a_message_may_say_that_the_patient_arrived() -> None:
    known, _ = say(said(NW, group()), XO, group(step(ScheduledProcedureStepStatus="ARRIVED")))
    assert statuses(known) == ["ARRIVED"]
    known, _ = say(known, XO, group())
    assert statuses(known) == ["ARRIVED"]


def test_a_default_status_does_not_undo_the_arrival() -> None:
    scheduled = step(ScheduledProcedureStepStatus=guessed("SCHEDULED"))
    known, _ = say(
        said(NW, group(scheduled)), XO, group(step(ScheduledProcedureStepStatus="READY"))
    )
    known, _ = say(known, XO, group(scheduled))
    assert statuses(known) == ["READY"]


def test_a_status_that_no_worklist_knows_is_none() -> None:
    assert statuses(said(NW, group(step(ScheduledProcedureStepStatus="DEPARTED")))) == ["SCHEDULED"]


# --- order of arrival


def test_a_stale_message_changes_nothing() -> None:
    known = said(NW, group(VisitComments="new"), by=sender(T2))
    for action in (NW, XO, CA):
        after, applied = say(known, action, group(VisitComments="old"), by=sender(T1))
        assert applied.notes == ("stale",)
        assert after.orders == known.orders


def test_clocks_of_different_senders_are_not_compared() -> None:
    known = said(NW, group(VisitComments="a"), by=sender(T2))
    known, applied = say(known, XO, group(VisitComments="b"), by=sender(T1, name="PACS|HOSP"))
    assert applied.notes == ()
    assert only_order(known).facts.text("VisitComments") == "b"


@pytest.mark.parametrize(
    ("earlier", "later", "stale"),
    [
        ("20260101120000", "202601011200", False),  # compared to the minute
        ("202601011201", "20260101120059", True),
        ("20260101120000.200", "20260101120000.100", True),
        ("20260101120000.200", "20260101120000", False),
        ("20260101120000+0100", "20260101110000", False),  # the same instant
        ("20260101120000", "", False),
        ("20260101120000", "rubbish", False),
        ("", "20260101120000", False),
    ],
)
def test_times_are_compared_at_the_coarser_precision(earlier: str, later: str, stale: bool) -> None:
    _, applied = say(said(NW, group(), by=sender(earlier)), XO, group(), by=sender(later))
    assert applied.notes == (("stale",) if stale else ())


def test_an_unreadable_time_does_not_open_the_door_to_older_messages() -> None:
    known = said(NW, group(), by=sender(T2))
    known, _ = say(known, XO, group(), by=sender("rubbish"))
    _, applied = say(known, XO, group(), by=sender(T1))
    assert applied.notes == ("stale",)


def test_an_update_before_the_order_creates_it_and_the_late_order_is_stale() -> None:
    known, applied = say(Known(), XO, group(VisitComments="new"), by=sender(T2))
    assert applied.notes == ("created by update",)
    assert only_order(known).flags == ("created by update",)
    known, applied = say(known, NW, group(VisitComments="old"), by=sender(T1))
    assert applied.notes == ("stale",)
    assert only_order(known).facts.text("VisitComments") == "new"


# --- renames


def test_an_accession_number_assigned_later_renames_the_order() -> None:
    known = said(NW, group(AccessionNumber=guessed("X9"), **{PLACER: "P1"}))
    study = listed(known)[0].attributes["StudyInstanceUID"]
    known, applied = say(known, XO, group(AccessionNumber="A7", **{PLACER: "P1"}), by=sender(T2))
    assert applied.renamed == {"HOSP|X9": "HOSP|A7"}
    (item,) = listed(known)
    assert item.attributes["AccessionNumber"] == "A7"
    assert item.attributes["StudyInstanceUID"] == study


def test_a_corrected_accession_number_renames_the_order_of_the_same_filler() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known, applied = say(known, XO, group(AccessionNumber="A7", **{FILLER: "F1"}), by=sender(T2))
    assert applied.renamed == {"HOSP|A1": "HOSP|A7"}
    assert set(known.orders) == {"HOSP|A7"}


def test_a_message_under_the_former_number_reaches_the_order_and_does_not_name_it_back() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known, _ = say(known, XO, group(AccessionNumber="A7", **{FILLER: "F1"}), by=sender(T2))
    known, applied = say(known, XO, group(VisitComments="x"), by=sender(T3))
    assert applied.renamed == {}
    (item,) = listed(known)
    assert item.attributes["VisitComments"] == "x"
    assert item.attributes["AccessionNumber"] == "A7"
    assert item.order.accession == "A7"


def test_a_guessed_accession_number_renames_nothing() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known, applied = say(known, XO, group(AccessionNumber=guessed("X9"), **{FILLER: "F1"}))
    assert applied.renamed == {}
    assert listed(known)[0].attributes["AccessionNumber"] == "A1"


def test_an_issuer_said_once_is_not_lost_by_a_message_without_it() -> None:
    issuer = [{"LocalNamespaceEntityID": "RADIS"}]
    known = said(NW, group(**{EI: issuer}))
    known, applied = say(known, XO, group(), by=sender(T2))
    assert set(known.orders) == {"RADIS|A1"}
    assert applied.renamed == {}


def test_orders_that_share_a_placer_number_stay_two_orders() -> None:
    known = said(
        NW,
        group(**{PLACER: "P1", FILLER: "F1"}),
        group(AccessionNumber="A2", **{PLACER: "P1", FILLER: "F2"}),
        group(AccessionNumber="A3", **{PLACER: "P1"}),
    )
    assert set(known.orders) == {"HOSP|A1", "HOSP|A2", "HOSP|A3"}


def test_a_placer_number_of_several_orders_leads_an_update_to_none_of_them() -> None:
    known = said(NW, group(**{PLACER: "P1"}), group(AccessionNumber="A2", **{PLACER: "P1"}))
    with pytest.raises(Refused) as refused:
        say(known, XO, {"PatientID": "123", PLACER: "P1", STEPS: [{}]})
    assert refused.value.reason is Reason.NO_ACCESSION


# --- patients


def test_a_patient_update_shows_at_every_order_at_once() -> None:
    known = said(NW, group(), group(AccessionNumber="A2"))
    known, _ = say(known, A08, {"PatientID": "123", "PatientName": "ROE^JANE"}, by=sender(T2))
    assert [i.attributes["PatientName"] for i in listed(known)] == ["ROE^JANE", "ROE^JANE"]


def test_a_patient_update_erases_with_null_and_keeps_what_it_does_not_say() -> None:
    known = said(NW, group(PatientBirthDate="19700101", PatientSex="F"))
    known, _ = say(known, A08, {"PatientID": "123", "PatientBirthDate": None})
    held = listed(known)[0].attributes
    assert "PatientBirthDate" not in held
    assert held["PatientSex"] == "F"
    assert held["PatientName"] == "DOE^JOHN"


def test_a_patient_update_moves_the_orders_of_its_visit_only() -> None:
    known = said(
        NW,
        group(AdmissionID="V1"),
        group(AccessionNumber="A2", AdmissionID="V2"),
        group(AccessionNumber="A3"),
    )
    update = {"PatientID": "123", "AdmissionID": "V1", "CurrentPatientLocation": "WARD 3"}
    known, _ = say(known, A08, update, by=sender(T2))
    places = {key: o.facts.text("CurrentPatientLocation") for key, o in known.orders.items()}
    assert places == {"HOSP|A1": "WARD 3", "HOSP|A2": "", "HOSP|A3": ""}


def test_a_stale_patient_update_changes_nothing() -> None:
    known = said(NW, group(), by=sender(T2))
    after, applied = say(known, A08, {"PatientID": "123", "PatientName": "OLD"}, by=sender(T1))
    assert applied.notes == ("stale",)
    assert after.patients == known.patients


def test_an_order_older_than_the_patient_update_does_not_bring_the_old_name_back() -> None:
    known = said(A08, {"PatientID": "123", "PatientName": "NEW"}, by=sender(T2))
    known, _ = say(known, NW, group(PatientName="OLD"), by=sender(T1))
    assert listed(known)[0].attributes["PatientName"] == "NEW"


def test_a_patient_update_is_no_word_about_the_order() -> None:
    known = said(NW, group(), by=sender(T1))
    update = {"PatientID": "123", "CurrentPatientLocation": "WARD 3"}
    known, _ = say(known, A08, update, by=sender(T3))
    _, applied = say(known, XO, group(), by=sender(T2))
    assert applied.notes == ()


def test_an_update_of_an_unknown_patient_makes_no_worklist_item() -> None:
    known = said(A08, {"PatientID": "5", "PatientName": "X"})
    assert set(known.patients) == {"HOSP|5"}
    assert listed(known) == []


def test_a_patient_update_needs_a_patient_id() -> None:
    with pytest.raises(Refused) as refused:
        said(A08, {"PatientName": "X"})
    assert refused.value.reason is Reason.NO_PATIENT


def test_a_message_that_means_nothing_here_changes_nothing() -> None:
    known = said(NW, group())
    after, applied = say(known, Action.IGNORE, group(**OTHER))
    assert applied.notes == ("no change",)
    assert after.orders == known.orders


# --- what has to be read


def test_everything_that_a_message_may_touch_is_asked_for() -> None:
    asked = wanted(
        [group(StudyInstanceUID="1.2", **{FILLER: "F1", PLACER: "P1"})],
        "HOSP",
        orders_of_patients=False,
    )
    assert asked.orders == ("HOSP|A1",)
    assert asked.patients == ("HOSP|123",)
    assert set(asked.identifiers) == {
        ("accession", "A1"),
        ("filler", "HOSP|F1"),
        ("placer", "HOSP|P1"),
        ("study", "1.2"),
    }


# --- nothing that would answer a query with an empty type 1 key


@pytest.mark.parametrize(
    "missing",
    [
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "PatientName",
    ],
)
@pytest.mark.parametrize("action", [NW, XO])
def test_an_order_that_lacks_a_type_1_key_is_refused(missing: str, action: Action) -> None:
    """20."""
    whole = group(step()) if missing != "PatientName" else group(PatientName="-")
    whole[STEPS] = [{k: v for k, v in one.items() if k != missing} for one in whole[STEPS]]
    with pytest.raises(Refused, match=missing) as refused:
        said(action, whole)
    assert refused.value.reason is Reason.INCOMPLETE
    assert refused.value.location == "ORC[1]"


def test_what_an_earlier_message_said_need_not_be_said_again() -> None:
    bare = {"AccessionNumber": "A1", "PatientID": "123", STEPS: [{"Modality": "MR"}]}
    known, _ = say(said(NW, group()), XO, bare, by=sender(T2))
    assert listed(known)[0].attributes[STEPS][0]["Modality"] == "MR"


def test_a_renamed_order_keeps_its_mailbox() -> None:
    """Else a COMPLETED under the new number could overtake an IN PROGRESS under the old one."""
    known = said(Action.SCHEDULE, group(**{FILLER: "F1"}))
    known, _ = say(known, Action.UPDATE, group(AccessionNumber="A2", **{FILLER: "F1"}))
    [order] = known.orders.values()
    assert (order.key, order.mailbox) == ("HOSP|A2", "HOSP|A1")


def test_an_order_for_a_finished_accession_is_noted() -> None:
    """It is on nobody's list: somebody has to see that."""
    known = said(Action.SCHEDULE, group())
    known, _ = say(known, Action.COMPLETE, group())
    _, applied = say(known, Action.SCHEDULE, group(), by=sender("20260102120000"))
    assert applied.notes == ("finished",)


# --- cancelled before it was known


def test_a_cancel_ahead_of_its_order_keeps_a_late_order_off_the_list() -> None:
    """The NW was sent before the CA and took longer."""
    known, applied = say(Known(), Action.CANCEL, group(**{FILLER: "F1"}), by=sender(T2))
    assert applied.notes == ("unknown order",)
    late = Known(tombstones=applied.buried)
    known, applied = say(late, Action.SCHEDULE, group(**{FILLER: "F1"}))
    assert applied.notes == ("cancelled before", "finished")
    assert {item.step.status for item in listed(known)} == {StepStatus.CANCELLED}


def test_a_newer_order_comes_to_life_after_all() -> None:
    _, applied = say(Known(), Action.CANCEL, group(**{FILLER: "F1"}))
    known, _ = say(
        Known(tombstones=applied.buried), Action.SCHEDULE, group(**{FILLER: "F1"}), by=sender(T2)
    )
    assert len(listed(known)) == 1


def test_a_cancel_ahead_of_its_order_means_no_other_order() -> None:
    """The narrowest number that it gives decides; another sender's clock says nothing."""
    _, applied = say(Known(), Action.CANCEL, group(**{FILLER: "F1"}), by=sender(T2))
    assert list(applied.buried) == ["filler:HOSP|F1"]
    late = Known(tombstones=applied.buried)
    other, _ = say(late, Action.SCHEDULE, group(**{FILLER: "F2"}))
    stranger, _ = say(late, Action.SCHEDULE, group(**{FILLER: "F1"}), by=sender(name="X|HOSP"))
    assert len(listed(other)) == len(listed(stranger)) == 1


# --- numbers given anew, and shared


def test_an_accession_number_released_by_a_correction_serves_the_next_order() -> None:
    known = said(Action.SCHEDULE, group(**{FILLER: "F1"}))
    known, applied = say(
        known, Action.UPDATE, group(AccessionNumber="B9", **{FILLER: "F1"}), by=sender(T2)
    )
    assert applied.notes == ("renamed",)
    known, _ = say(known, Action.SCHEDULE, group(PatientID="9", **{FILLER: "F7"}), by=sender(T2))
    assert {order.accession for order in known.orders.values()} == {"A1", "B9"}


def test_a_new_order_with_a_shared_filler_number_renames_none() -> None:
    """Neither in one message nor in two; and a cancel of the one leaves the other."""
    both = [group(AccessionNumber=a, **{FILLER: "F1"}) for a in ("A1", "A2")]
    for known in (
        said(Action.SCHEDULE, *both),
        said(Action.UPDATE, *both),
        say(said(Action.SCHEDULE, both[0]), Action.SCHEDULE, both[1], by=sender(T2))[0],
    ):
        assert {order.accession for order in known.orders.values()} == {"A1", "A2"}
        known, _ = say(known, Action.CANCEL, both[0], by=sender(T2))
        states = {i.order.accession: i.step.status for i in listed(known)}
        assert states == {"A1": StepStatus.CANCELLED, "A2": StepStatus.SCHEDULED}


def test_a_step_taken_up_again_forgets_what_was_performed_before() -> None:
    """Else a wrong entry picked later would end it by the mark of the former exam."""
    known = said(Action.SCHEDULE, group())
    [order] = known.orders.values()
    ended = order.with_steps(
        lambda _, step: step.model_copy(
            update={"status": StepStatus.DISCONTINUED, "performed": {"1.2": "DISCONTINUED"}}
        )
    )
    known, _ = say(known.with_order(ended), Action.SCHEDULE, group(), by=sender("20270101"))
    [item] = listed(known)
    assert (item.step.status, item.step.performed) == (StepStatus.SCHEDULED, {})


def test_a_number_is_not_corrected_and_given_anew_in_one_message() -> None:
    """One commit would write one key twice."""
    known = said(Action.SCHEDULE, group(**{FILLER: "F1"}))
    groups = (group(AccessionNumber="B9", **{FILLER: "F1"}), group(**{FILLER: "F2"}))
    with pytest.raises(Refused) as refused:
        say(known, Action.UPDATE, *groups, by=sender(T2))
    assert refused.value.reason is Reason.CONTRADICTION
