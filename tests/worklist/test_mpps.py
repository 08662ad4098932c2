"""Performed steps: the transition table of PS3.4 F.7.2, what they refer to, what steps become."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist import mpps
from broker.worklist.changes import Action, Attributes
from broker.worklist.finding import Known
from broker.worklist.mpps import COMPLETED, DISCONTINUED, IN_PROGRESS, MppsRefused, Performed
from broker.worklist.performing import OTHER_PATIENT, advanced
from broker.worklist.reconciling import followed, leads
from tests.worklist.scanning import changed, created, references
from tests.worklist.speaking import (
    FILLER,
    STEP_ID,
    group,
    listed,
    said,
    say,
    sender,
    statuses,
    step,
)

WRONG_ENTRY = [{"CodeValue": "110514", "CodingSchemeDesignator": "DCM"}]
OTHER_REASON = [{"CodeValue": "110513", "CodingSchemeDesignator": "DCM"}]


def meant(
    study: str = "", step_id: str = "", accession: str = "", procedure: str = ""
) -> Attributes:
    """One item of the Scheduled Step Attributes Sequence."""
    return {
        "StudyInstanceUID": study,
        "AccessionNumber": accession,
        "RequestedProcedureID": procedure,
        "ScheduledProcedureStepID": step_id,
    }


def report(status: str, *items: Attributes, **said_: Any) -> Attributes:
    """The attributes of an N-CREATE or N-SET."""
    return {mpps.STATUS: status, mpps.SCHEDULED_ITEMS: list(items), **said_}


def start(known: Known, uid: str, *items: Attributes, **said_: Any) -> tuple[Known, Performed]:
    """N-CREATE."""
    performed = created(None, uid, report(IN_PROGRESS, *items, **said_))
    found = references(performed.attributes, known.orders.values())
    performed = performed.model_copy(update={"references": found})
    return moved(known, performed), performed


def end(known: Known, performed: Performed, status: str, **said_: Any) -> Known:
    """N-SET."""
    return moved(known, changed(performed, {mpps.STATUS: status, **said_}))


def moved(known: Known, performed: Performed) -> Known:
    """Let the orders follow a performed step."""
    for order in known.orders.values():
        known = known.with_order(advanced(order, performed))
    return known


def item_of(known: Known, at: int = 0) -> Attributes:
    """What a scanner copies from the worklist into its MPPS."""
    held = listed(known)[at]
    return meant(
        held.attributes["StudyInstanceUID"],
        held.attributes["ScheduledProcedureStepSequence"][0][STEP_ID],
        held.attributes["AccessionNumber"],
        held.attributes["RequestedProcedureID"],
    )


# --- the table


@pytest.mark.parametrize(
    "status", ["", COMPLETED, DISCONTINUED, "IN_PROGRESS", "in progress", "STARTED"]
)
def test_a_step_is_created_in_progress_or_not_at_all(status: str) -> None:
    """39."""
    with pytest.raises(MppsRefused) as refused:
        created(None, "1.9", report(status))
    assert (refused.value.status, refused.value.error_id) == (0x0106, None)


def test_a_step_is_created_once() -> None:
    """40."""
    performed = created(None, "1.9", report(IN_PROGRESS))
    assert performed.status == IN_PROGRESS
    with pytest.raises(MppsRefused) as refused:
        created(performed, "1.9", report(IN_PROGRESS))
    assert refused.value.status == 0x0111


@pytest.mark.parametrize("status", ["", IN_PROGRESS, COMPLETED, DISCONTINUED, "FOO"])
def test_an_unknown_step_cannot_be_set(status: str) -> None:
    """43."""
    with pytest.raises(MppsRefused) as refused:
        changed(None, report(status))
    assert refused.value.status == 0x0112


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        ("", IN_PROGRESS),
        (IN_PROGRESS, IN_PROGRESS),
        (COMPLETED, COMPLETED),
        (DISCONTINUED, DISCONTINUED),
    ],
)
def test_a_running_step_goes_on_or_ends(asked: str, after: str) -> None:
    performed = changed(created(None, "1.9", report(IN_PROGRESS)), {mpps.STATUS: asked})
    assert performed.status == after
    assert performed.attributes[mpps.STATUS] == after


@pytest.mark.parametrize("asked", ["FOO", "IN_PROGRESS", "completed", "SCHEDULED"])
def test_a_running_step_takes_no_other_status(asked: str) -> None:
    with pytest.raises(MppsRefused) as refused:
        changed(created(None, "1.9", report(IN_PROGRESS)), {mpps.STATUS: asked})
    assert refused.value.status == 0x0106


@pytest.mark.parametrize("final", [COMPLETED, DISCONTINUED])
@pytest.mark.parametrize("asked", ["", IN_PROGRESS, COMPLETED, DISCONTINUED, "FOO"])
def test_a_final_step_takes_nothing_more(final: str, asked: str) -> None:
    """46."""
    ended = changed(created(None, "1.9", report(IN_PROGRESS)), {mpps.STATUS: final})
    with pytest.raises(MppsRefused) as refused:
        changed(ended, {mpps.STATUS: asked})
    assert refused.value.status == 0x0110
    assert refused.value.error_id == 0xA710
    assert refused.value.comment == "Performed Procedure Step Object may no longer be updated"


def test_comments_fit_into_an_error_comment() -> None:
    running = created(None, "1.9", report(IN_PROGRESS))
    for stored, asked in ((None, "FOO"), (running, "FOO"), (running, IN_PROGRESS)):
        with pytest.raises(MppsRefused) as refused:
            created(stored, "1.9", report(asked))
        assert len(refused.value.comment) <= 64
    for former in (None, running, changed(running, {mpps.STATUS: COMPLETED})):
        with pytest.raises(MppsRefused) as refused:
            changed(former, {mpps.STATUS: "FOO"})
        assert len(refused.value.comment) <= 64


def test_a_set_leaves_the_patient_and_the_scheduled_step_as_they_were() -> None:
    """47."""
    first = created(None, "1.9", report(IN_PROGRESS, meant("1.2"), PatientID="1", Modality="CT"))
    after = changed(first, report("", meant("1.3"), PatientID="2", Modality="MR"))
    assert after.attributes == first.attributes


def test_a_set_adds_what_was_empty_and_keeps_what_it_does_not_say() -> None:
    first = created(
        None, "1.9", report(IN_PROGRESS, PerformedStationName="X", PerformedProcedureStepEndDate="")
    )
    after = changed(first, {mpps.STATUS: COMPLETED, "PerformedProcedureStepEndDate": "20260101"})
    assert after.attributes["PerformedStationName"] == "X"
    assert after.attributes["PerformedProcedureStepEndDate"] == "20260101"


# --- references


def two_steps() -> Known:
    """One order, two steps S1 and S2 of one procedure."""
    return said(Action.SCHEDULE, group(step(**{STEP_ID: "S1"}), step(**{STEP_ID: "S2"})))


def found(known: Known, *items: Attributes, **said_: Any) -> list[tuple[str, str]]:
    """Order and step of each reference."""
    attributes = report(IN_PROGRESS, *items, **said_)
    return [(r.order, r.step) for r in references(attributes, known.orders.values())]


def test_a_step_is_found_by_study_and_step_id() -> None:
    known = two_steps()
    study = item_of(known)["StudyInstanceUID"]
    assert found(known, meant(study, "S2")) == [("HOSP|A1", "S2")]
    assert found(known, meant(study)) == []  # two of them, and nothing to tell
    assert found(known, meant(study, "S9")) == []


def test_a_step_is_found_by_accession_number_where_the_study_is_the_scanners_own() -> None:
    known = two_steps()
    assert found(known, meant("9.9.9", "S1", "A1")) == [("HOSP|A1", "S1")]
    assert found(known, meant("", "S1", "A1")) == [("HOSP|A1", "S1")]
    assert found(known, meant("9.9.9", "S1", "")) == []
    assert found(known, meant("9.9.9", "", "")) == []


def test_the_only_step_of_an_order_needs_no_step_id() -> None:
    known = said(Action.SCHEDULE, group(StudyInstanceUID="1.2"))
    assert found(known, meant("1.2")) == [("HOSP|A1", "A1")]
    assert found(known, meant("", "", "A1")) == [("HOSP|A1", "A1")]
    assert found(known, meant("1.2", "typed by hand")) == [("HOSP|A1", "A1")]


def test_the_study_outweighs_a_contradicting_accession_number() -> None:
    """56."""
    known = said(
        Action.SCHEDULE,
        group(StudyInstanceUID="1.2"),
        group(StudyInstanceUID="1.3", AccessionNumber="A2"),
    )
    assert found(known, meant("1.2", "", "A2")) == [("HOSP|A1", "A1")]


def test_equal_step_ids_of_two_procedures_are_told_apart_by_the_procedure() -> None:
    known = said(
        Action.SCHEDULE,
        *(
            group(step(**{STEP_ID: "1"}), StudyInstanceUID="1.2", RequestedProcedureID=rp)
            for rp in ("R1", "R2")
        ),
    )
    attributes = report(IN_PROGRESS, meant("1.2", "1", "A1", "R2"))
    (one,) = references(attributes, known.orders.values())
    assert (one.procedure, one.step) == ("R2", "1")
    assert found(known, meant("1.2", "1", "A1")) == []


def test_orders_of_one_study_are_told_apart_by_the_accession_number() -> None:
    known = said(
        Action.SCHEDULE,
        *(
            group(step(**{STEP_ID: "1"}), StudyInstanceUID="1.2", AccessionNumber=a)
            for a in ("A1", "A2")
        ),
    )
    assert found(known, meant("1.2", "1", "A2")) == [("HOSP|A2", "1")]


def test_the_accession_number_of_another_patient_is_another_facilitys() -> None:
    known = said(Action.SCHEDULE, group())
    assert found(known, meant("", "", "A1"), PatientID="123") == [("HOSP|A1", "A1")]
    assert found(known, meant("", "", "A1"), PatientID="999") == []


def test_an_unscheduled_step_refers_to_nothing() -> None:
    """52."""
    known = said(Action.SCHEDULE, group())
    after, performed = start(known, "1.9", meant("9.9"))
    assert performed.references == ()
    assert after.orders == known.orders
    assert found(known) == []
    assert found(known, {}) == []


def test_the_numbers_of_every_item_lead_to_orders() -> None:
    attributes = report(IN_PROGRESS, meant("1.2", "S1", " A1 "), meant("1.3"), {})
    assert leads(attributes) == {("study", "1.2"), ("study", "1.3"), ("accession", "A1")}
    assert leads({}) == set()


# --- what becomes of scheduled steps


def test_a_step_starts_and_completes() -> None:
    """38, 44."""
    known = said(Action.SCHEDULE, group())
    known, performed = start(known, "1.9", item_of(known))
    assert statuses(known) == ["STARTED"]
    assert statuses(end(known, performed, COMPLETED)) == ["COMPLETED"]
    assert statuses(end(known, performed, "")) == ["STARTED"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [(WRONG_ENTRY, "SCHEDULED"), (OTHER_REASON, "DISCONTINUED"), ([], "DISCONTINUED")],
)
def test_a_discontinued_step_ends_unless_the_wrong_entry_was_selected(
    reason: list[Attributes], status: str
) -> None:
    """37, 49, 50."""
    known = said(Action.SCHEDULE, group())
    known, performed = start(known, "1.9", item_of(known))
    assert statuses(end(known, performed, DISCONTINUED, **{mpps.REASON: reason})) == [status]


def test_a_completed_step_with_that_reason_is_completed() -> None:
    known = said(Action.SCHEDULE, group())
    known, performed = start(known, "1.9", item_of(known))
    assert statuses(end(known, performed, COMPLETED, **{mpps.REASON: WRONG_ENTRY})) == ["COMPLETED"]


def test_after_a_wrong_selection_the_patient_has_still_arrived() -> None:
    known = said(Action.SCHEDULE, group(step(ScheduledProcedureStepStatus="ARRIVED")))
    known, performed = start(known, "1.9", item_of(known))
    assert statuses(end(known, performed, DISCONTINUED, **{mpps.REASON: WRONG_ENTRY})) == [
        "ARRIVED"
    ]


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_after_a_wrong_selection_a_cancelled_step_is_still_cancelled(cancelled_first: bool) -> None:
    """A scanner shows an old list, or the cancel comes while the wrong entry is selected."""
    known = said(Action.SCHEDULE, group())
    later = sender("20260101130000")
    if cancelled_first:
        known, _ = say(known, Action.CANCEL, group(), by=later)
    known, performed = start(known, "1.9", item_of(known))
    if not cancelled_first:
        known, _ = say(known, Action.CANCEL, group(), by=later)
    assert statuses(known) == ["STARTED"]
    after = end(known, performed, DISCONTINUED, **{mpps.REASON: WRONG_ENTRY})
    assert statuses(after) == ["CANCELLED"]


def test_a_group_step_moves_every_step_it_names() -> None:
    """51."""
    known = said(
        Action.SCHEDULE,
        group(**{FILLER: "F1"}),
        group(AccessionNumber="A2", **{FILLER: "F2"}),
        group(AccessionNumber="A3", **{FILLER: "F3"}),
    )
    known, performed = start(known, "1.9", item_of(known, 0), item_of(known, 1))
    assert statuses(known) == ["STARTED", "STARTED", "SCHEDULED"]
    assert statuses(end(known, performed, COMPLETED)) == ["COMPLETED", "COMPLETED", "SCHEDULED"]


def test_the_same_item_twice_is_one_reference() -> None:
    known = said(Action.SCHEDULE, group())
    assert len(found(known, item_of(known), item_of(known))) == 1


def test_of_several_performed_steps_the_running_one_decides() -> None:
    """55."""
    known = said(Action.SCHEDULE, group())
    known, first = start(known, "1.1", item_of(known))
    known, second = start(known, "1.2", item_of(known))
    known = end(known, first, COMPLETED)
    assert statuses(known) == ["STARTED"]
    assert statuses(end(known, second, DISCONTINUED)) == ["COMPLETED"]
    wrong = end(known, second, DISCONTINUED, **{mpps.REASON: WRONG_ENTRY})
    assert statuses(wrong) == ["COMPLETED"]


def test_an_exam_may_be_appended_to_a_finished_step() -> None:
    """54."""
    known = said(Action.SCHEDULE, group())
    item = item_of(known)
    known, first = start(known, "1.1", item)
    known = end(known, first, COMPLETED)
    known, second = start(known, "1.2", item)
    assert statuses(known) == ["COMPLETED"]
    assert statuses(end(known, second, COMPLETED)) == ["COMPLETED"]
    assert statuses(end(known, second, DISCONTINUED)) == ["COMPLETED"]


def test_a_discontinued_exam_may_be_taken_up_again() -> None:
    known = said(Action.SCHEDULE, group())
    known, first = start(known, "1.1", item_of(known))
    known = end(known, first, DISCONTINUED)
    known, second = start(known, "1.2", item_of(known))
    assert statuses(known) == ["STARTED"]
    assert statuses(end(known, second, COMPLETED)) == ["COMPLETED"]


def test_an_exam_ends_though_its_order_got_another_number_meanwhile() -> None:
    known = said(Action.SCHEDULE, group(**{FILLER: "F1"}))
    known, performed = start(known, "1.9", item_of(known))
    rename = group(AccessionNumber="A7", **{FILLER: "F1"})
    known, _ = say(known, Action.UPDATE, rename, by=sender("20260101130000"))
    assert statuses(known) == ["STARTED"]
    performed = followed(performed, known.aliases)
    assert statuses(end(known, performed, COMPLETED)) == ["COMPLETED"]


def test_an_update_during_the_exam_does_not_list_the_step_again() -> None:
    known = said(Action.SCHEDULE, group())
    known, _ = start(known, "1.9", item_of(known))
    later = group(step(ScheduledProcedureStepStatus="SCHEDULED"))
    for action in (Action.SCHEDULE, Action.UPDATE):
        known, _ = say(known, action, later, by=sender("20260101130000"))
        assert statuses(known) == ["STARTED"]


def test_an_exam_under_another_patient_id_is_taken_and_flagged() -> None:
    """The study UID says which step it was; a person has to look at who lay on the table."""
    known = said(Action.SCHEDULE, group())
    known, _ = start(known, "1.9", item_of(known), PatientID="SOMEONEELSE")
    [order] = known.orders.values()
    assert order.flags == (OTHER_PATIENT,)
    assert statuses(known) == ["STARTED"]
