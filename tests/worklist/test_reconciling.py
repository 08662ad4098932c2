"""The levels by which an exam is matched to a step, and what each must not do."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.worklist.changes import Action, Attributes
from broker.worklist.finding import Known
from broker.worklist.linking import linked
from broker.worklist.mpps import IN_PROGRESS, SCHEDULED_ITEMS, STATUS, Performed
from broker.worklist.performing import ExamRules
from broker.worklist.reconciling import (
    NOT_FOUND,
    OF_ANOTHER,
    PARTLY_FOUND,
    Candidates,
    Level,
    Matching,
    narrowing,
    reconciled,
)
from tests.worklist.speaking import STEP_ID, group, said, statuses, step

GUESSING = Matching(levels=(Level.STUDY, Level.ACCESSION, Level.PATIENT))
BEGAN = datetime(2026, 1, 1, 20, 15)  # noqa: DTZ001 - the site's


def exam(*items: Attributes, station: str = "CT1", patient: str = "123") -> Performed:
    """An exam in progress; without an item it says nothing of what was scheduled."""
    attributes: dict[str, Any] = {
        STATUS: IN_PROGRESS,
        "PatientID": patient,
        "PerformedStationAETitle": station,
        SCHEDULED_ITEMS: list(items),
    }
    return Performed(sop_instance_uid="1.9", status=IN_PROGRESS, attributes=attributes)


def found(
    known: Known, one: Performed, matching: Matching = GUESSING, at: Any = BEGAN
) -> list[str]:
    among = Candidates(tuple(known.orders.values()), known.patients, at)
    return [r.evidence for r in reconciled(one, among, matching).references]


def test_the_one_step_that_waits_for_a_patient_here_and_now_is_found_if_the_site_says_so() -> None:
    known = said(Action.SCHEDULE, group())
    assert found(known, exam()) == ["patient ID, station and time"]
    assert found(known, exam(), Matching()) == []


@pytest.mark.parametrize(
    "other",
    [
        exam(station="CT2"),
        exam(patient="999"),
        exam(patient=""),
        exam({"AccessionNumber": "A9"}),  # perhaps an order that has not come yet
    ],
)
def test_patient_station_and_time_must_all_agree_and_no_other_order_be_named(
    other: Performed,
) -> None:
    assert found(said(Action.SCHEDULE, group()), other) == []


@pytest.mark.parametrize(("hours", "matched"), [(11, True), (-11, True), (13, False), (-13, False)])
def test_a_step_of_another_time_is_not_taken(hours: int, matched: bool) -> None:
    known = said(Action.SCHEDULE, group())
    assert bool(found(known, exam(), at=BEGAN + timedelta(hours=hours))) == matched


def test_of_two_steps_that_wait_for_a_patient_none_is_taken() -> None:
    known = said(Action.SCHEDULE, group(step(**{STEP_ID: "1"}), step(**{STEP_ID: "2"})))
    assert found(known, exam()) == []


def test_levels_count_in_the_order_of_the_site_and_only_those() -> None:
    known = said(
        Action.SCHEDULE,
        group(StudyInstanceUID="1.2"),
        group(StudyInstanceUID="1.3", AccessionNumber="A2"),
    )
    both = exam({"StudyInstanceUID": "1.2", "AccessionNumber": "A2"})
    assert found(known, both) == ["study UID"]
    assert found(known, both, Matching((Level.ACCESSION, Level.STUDY))) == ["accession number"]
    assert found(known, exam({"StudyInstanceUID": "1.2"}), Matching((Level.ACCESSION,))) == []


def test_where_to_look_is_said_only_if_the_site_wants_it() -> None:
    place = narrowing(exam(), BEGAN, GUESSING)
    assert place
    assert (place.kind, place.value) == ("station", "CT1")
    assert (place.low, place.high) == (20260101081500, 20260102081500)
    assert narrowing(exam(), BEGAN, Matching()) is None
    assert narrowing(exam(patient=""), BEGAN, GUESSING) is None


def test_of_a_group_the_rest_waits_and_is_linked_when_its_order_comes() -> None:
    first = said(Action.SCHEDULE, group(StudyInstanceUID="1.2"))
    items = ({"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": "1.3"})
    among = Candidates(tuple(first.orders.values()), first.patients, BEGAN)
    one = reconciled(exam(*items), among, Matching())
    assert (len(one.references), one.exceptions) == (1, (PARTLY_FOUND,))
    later = said(Action.SCHEDULE, group(StudyInstanceUID="1.3", AccessionNumber="A2"))
    [made] = linked(later, [one], ExamRules())
    assert [r.order for r in made.exam.references] == ["HOSP|A1", "HOSP|A2"]
    assert made.exam.exceptions == ()
    assert statuses(made.moments[-1].after) == ["STARTED"]


def test_an_exam_that_waits_is_not_given_to_an_order_by_a_guess() -> None:
    waits = exam().model_copy(update={"exceptions": (NOT_FOUND,)})
    assert linked(said(Action.SCHEDULE, group()), [waits], ExamRules(GUESSING)) == []


@pytest.mark.parametrize(
    ("accession", "patient", "why"),
    [
        ("A1", "999", (NOT_FOUND, OF_ANOTHER)),
        ("a1", "999", (NOT_FOUND, OF_ANOTHER)),
        ("A9", "999", (NOT_FOUND,)),
        ("", "999", (NOT_FOUND,)),
        ("A1", "123", ()),
        ("A1", "", ()),
    ],
)
def test_an_exam_under_the_number_of_another_patient_says_so(
    accession: str, patient: str, why: tuple[str, ...]
) -> None:
    known = said(Action.SCHEDULE, group())
    among = Candidates(tuple(known.orders.values()), known.patients, BEGAN)
    one = exam({"AccessionNumber": accession}, patient=patient)
    assert reconciled(one, among, Matching()).exceptions == why


def test_an_exam_that_was_under_the_number_of_another_patient_is_linked_when_its_order_comes() -> (
    None
):
    waits = exam({"AccessionNumber": "A1"}, patient="999")
    waits = waits.model_copy(update={"exceptions": (NOT_FOUND, OF_ANOTHER)})
    [made] = linked(said(Action.SCHEDULE, group(PatientID="999")), [waits], ExamRules())
    assert made.exam.exceptions == ()
