"""IDs that change under the same order numbers leave no dead line; left out steps follow a rule."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action, Ranked
from broker.worklist.finding import Known
from broker.worklist.policies import MissingSteps
from broker.worklist.records import StepStatus
from tests.worklist.scanning import created, references
from tests.worklist.speaking import (
    FILLER,
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

NW, XO = Action.SCHEDULE, Action.UPDATE
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
RP = "RequestedProcedureID"


def order(*ids: str, procedure: str = "R1", **said: Any) -> dict[str, Any]:
    """One group with these step IDs; its IDs are of the second place, as OBR-19 and OBR-20 are."""
    steps = [step(**{STEP_ID: Ranked(each, 1)}) for each in ids]
    return group(*steps, **{RP: Ranked(procedure, 1), FILLER: "F1", **said})


def ids(known: Known) -> list[tuple[str, str]]:
    """Procedure and step ID of every line that is open."""
    return [
        (i.attributes[RP], i.attributes[STEPS][0][STEP_ID])
        for i in listed(known)
        if i.step.status is StepStatus.SCHEDULED
    ]


def test_new_ids_of_an_update_leave_no_dead_line() -> None:
    known, applied = say(said(NW, order("S1")), XO, order("S9", procedure="R9"), by=sender(T2))
    assert ids(known) == [("R9", "S9")]
    assert applied.notes == ("renumbered",)


def test_of_two_steps_the_one_left_out_gets_the_unknown_id() -> None:
    known, _ = say(said(NW, order("S1", "S2")), XO, order("S1", "S9"), by=sender(T2))
    assert ids(known) == [("R1", "S1"), ("R1", "S9")]


def test_steps_in_groups_of_their_own_are_looked_at_together() -> None:
    known = said(NW, order("S1"), order("S2"))
    known, applied = say(known, XO, order("S2"), order("S1"), by=sender(T2))
    assert ids(known) == [("R1", "S1"), ("R1", "S2")]
    assert applied.notes == ()


def test_an_ordinary_update_corrects_the_new_id_again() -> None:
    known, _ = say(said(NW, order("S1")), XO, order("S9"), by=sender(T2))
    known, _ = say(known, XO, order("S8"), by=sender(T3))
    assert ids(known) == [("R1", "S8")]


def test_the_former_id_is_free_for_another_step() -> None:
    known, _ = say(said(NW, order("S1")), XO, order("S9"), by=sender(T2))
    known, _ = say(known, NW, order("S9", "S1"), by=sender(T3))
    assert sorted(ids(known)) == [("R1", "S1"), ("R1", "S9")]
    assert len({i.step.id for i in listed(known)}) == 2


def test_a_late_mpps_with_the_former_id_still_finds_its_step() -> None:
    known = said(NW, order("S1", "S2", StudyInstanceUID="1.2"))
    known, _ = say(known, XO, order("S9", "S2", StudyInstanceUID="1.2"), by=sender(T2))
    item = {"StudyInstanceUID": "1.2", STEP_ID: "S1"}
    performed = created(
        None,
        "1.1",
        {"PerformedProcedureStepStatus": "IN PROGRESS", "ScheduledStepAttributesSequence": [item]},
    )
    (found,) = references(performed.attributes, known.orders.values())
    assert found.step == "S1"


HEAD, NECK = (
    {"RequestedProcedureDescription": "CT head"},
    {"RequestedProcedureDescription": "CT neck"},
)


@pytest.mark.parametrize(
    ("again", "left"),
    [
        (order("S9", **HEAD), [("R1", "S9")]),
        (order("S9", procedure="R9", **HEAD), [("R9", "S9")]),
        (order("S9", **NECK), [("R1", "S1"), ("R1", "S9")]),
        (order("S9"), [("R1", "S1"), ("R1", "S9")]),
        (order("S9", **HEAD, **{FILLER: "-"}), [("R1", "S1"), ("R1", "S9")]),
        (order("S9", "S1", **HEAD), [("R1", "S1"), ("R1", "S9")]),
    ],
    ids=["step", "procedure", "another exam", "nothing written", "no filler number", "beside"],
)
def test_a_new_order_takes_the_place_only_of_what_is_certainly_the_same(
    again: dict[str, Any], left: list[tuple[str, str]]
) -> None:
    known, _ = say(said(NW, order("S1", **HEAD)), NW, again, by=sender(T2))
    assert ids(known) == left


def test_a_new_order_takes_no_place_of_an_exam_that_has_begun() -> None:
    known = reported(said(NW, order("S1", **HEAD)), StepStatus.STARTED, "IN PROGRESS")
    known, _ = say(known, NW, order("S9", **HEAD), by=sender(T2))
    assert ids(known) == [("R1", "S9")]
    assert len(listed(known)) == 2


def test_that_new_orders_only_add_is_a_setting() -> None:
    by = sender(T2, missing_steps=MissingSteps.ADD)
    known, _ = say(said(NW, order("S1", **HEAD)), NW, order("S9", **HEAD), by=by)
    assert ids(known) == [("R1", "S1"), ("R1", "S9")]


def test_an_order_number_of_several_procedures_renumbers_none() -> None:
    known = said(NW, order("S1"), order("S2", procedure="R2"))
    known, _ = say(known, XO, order("S3", procedure="R3"), by=sender(T2))
    assert ids(known) == [("R1", "S1"), ("R2", "S2"), ("R3", "S3")]


def test_a_procedure_that_the_message_names_too_keeps_its_id() -> None:
    known = said(NW, order("S1"))
    known, _ = say(known, XO, order("S9", procedure="R9"), order("S1"), by=sender(T2))
    assert sorted(ids(known)) == [("R1", "S1"), ("R9", "S9")]


def reported(known: Known, status: StepStatus, mark: str) -> Known:
    """The same, with an exam of every step that a scanner has reported."""
    marks = {"status": status, "performed": {"1.1": mark}}
    return known.with_order(only_order(known).with_steps(lambda _, s: s.model_copy(update=marks)))


def test_what_is_over_keeps_its_id() -> None:
    known = reported(said(NW, order("S1")), StepStatus.COMPLETED, "COMPLETED")
    known, _ = say(known, XO, order("S9", procedure="R9"), by=sender(T2))
    assert statuses(known) == ["COMPLETED", "SCHEDULED"]
    assert ids(known) == [("R9", "S9")]


@pytest.mark.parametrize("procedure", ["R1", "R9"])
def test_a_running_step_is_not_doubled_by_its_new_id(procedure: str) -> None:
    known = reported(said(NW, order("S1")), StepStatus.STARTED, "IN PROGRESS")
    known, applied = say(known, XO, order("S9", procedure=procedure), by=sender(T2))
    (item,) = listed(known)
    assert (item.step.id, item.step.status) == ("S1", StepStatus.STARTED)
    assert item.attributes[STEPS][0][STEP_ID] == "S9"
    assert applied.notes == ("renumbered",)


def exam(step_id: str, code: str, modality: str = "CT") -> dict[str, Any]:
    """One step with its protocol code."""
    protocol = [{"CodeValue": code, "CodingSchemeDesignator": "L"}]
    return step(ScheduledProtocolCodeSequence=protocol, Modality=modality, **{STEP_ID: step_id})


def of(*steps: dict[str, Any], **said: Any) -> dict[str, Any]:
    """One group of these steps."""
    return group(*steps, **{RP: "R1", FILLER: "F1", **said})


@pytest.mark.parametrize(
    ("third", "left"),
    [
        (exam("c", "KNEE", "MR"), ["a", "b", "c"]),
        (exam("c", "HEAD", "MR"), ["a", "b", "c"]),
        (exam("c", "KNEE"), ["a", "b", "c"]),
        (exam("c", "HEAD"), ["b", "c"]),
    ],
)
def test_a_step_gets_the_id_of_the_same_exam_only(third: dict[str, Any], left: list[str]) -> None:
    known = said(NW, of(exam("a", "HEAD"), exam("b", "NECK")))
    known, _ = say(known, XO, of(exam("b", "NECK"), third), by=sender(T2))
    assert sorted(step_id for _, step_id in ids(known)) == left


def test_without_step_codes_those_of_the_procedure_or_the_texts_tell_exams_apart() -> None:
    for keyword, head, neck in (
        ("RequestedProcedureCodeSequence", [{"CodeValue": "HEAD"}], [{"CodeValue": "NECK"}]),
        ("RequestedProcedureDescription", "CT head", "CT neck"),
    ):
        known = said(NW, order("S1", **{keyword: head}))
        same, _ = say(known, XO, order("S9", **{keyword: head}), by=sender(T2))
        other, _ = say(known, XO, order("S9", **{keyword: neck}), by=sender(T2))
        assert (len(ids(same)), len(ids(other))) == (1, 2)


def test_two_steps_that_are_missing_are_kept_and_the_new_ones_added() -> None:
    known = said(NW, order("S1", "S2"))
    known, applied = say(known, XO, order("S8", "S9"), by=sender(T2))
    assert [step_id for _, step_id in ids(known)] == ["S1", "S2", "S8", "S9"]
    assert applied.notes == ()


def test_a_late_update_renumbers_nothing() -> None:
    known, applied = say(said(NW, order("S1"), by=sender(T2)), XO, order("S9"), by=sender(T1))
    assert applied.notes == ("stale",)
    assert ids(known) == [("R1", "S1")]


@pytest.mark.parametrize(
    ("policy", "left"),
    [(MissingSteps.KEEP, ["S1", "S2"]), (MissingSteps.CANCEL, ["S1"])],
)
def test_what_becomes_of_steps_left_out_is_a_setting(policy: MissingSteps, left: list[str]) -> None:
    known = said(NW, order("S1", "S2"))
    known, _ = say(known, XO, order("S1"), by=sender(T2, missing_steps=policy))
    assert [step_id for _, step_id in ids(known)] == left


def test_steps_without_ids_leave_none_out() -> None:
    known = said(NW, group(step(), step(Modality="MR")))
    known, _ = say(known, XO, group(), by=sender(T2, missing_steps=MissingSteps.CANCEL))
    assert statuses(known) == ["SCHEDULED", "SCHEDULED"]


def test_steps_of_other_procedures_are_not_left_out() -> None:
    other = {FILLER: "F2", RP: Ranked("R2", 1)}
    known = said(NW, order("S1", "S2"), order("S5", **other))
    known, _ = say(known, XO, order("S1"), by=sender(T2, missing_steps=MissingSteps.CANCEL))
    assert ids(known) == [("R1", "S1"), ("R2", "S5")]
