"""What was sent for the wrong patient and cancelled comes back under the right one."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action
from broker.worklist.finding import Known
from broker.worklist.records import TAKEN_OVER, StepStatus
from broker.worklist.refusals import Refused
from tests.worklist.speaking import FILLER, PLACER, group, listed, only_order, said, say, sender

NW, XO, CA = Action.SCHEDULE, Action.UPDATE, Action.CANCEL
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
NUMBERS = {PLACER: "P1", FILLER: "F1"}
RIGHT = {"PatientID": "999", "PatientName": "ROE^JANE"}


def cancelled(**said_: Any) -> Known:
    """An order of patient 123 that was cancelled before anything happened."""
    known = said(NW, group(**NUMBERS, **said_), by=sender(T1))
    return say(known, CA, NUMBERS, by=sender(T2))[0]


@pytest.mark.parametrize("changed", [{}, {PLACER: "P9", FILLER: "F9"}, {"AccessionNumber": "A2"}])
def test_a_cancelled_order_gives_its_numbers_to_the_right_patient(changed: dict[str, Any]) -> None:
    known, applied = say(cancelled(), NW, group(**RIGHT, **{**NUMBERS, **changed}), by=sender(T3))
    (item,) = listed(known)
    assert (item.attributes["PatientName"], item.step.status) == ("ROE^JANE", StepStatus.SCHEDULED)
    assert applied.notes == (TAKEN_OVER,)
    assert only_order(known).flags == (TAKEN_OVER,)


def test_the_study_is_not_the_one_of_the_wrong_patient() -> None:
    known = cancelled()
    wrong = listed(known)[0].attributes["StudyInstanceUID"]
    known, _ = say(known, NW, group(**RIGHT, **NUMBERS), by=sender(T3))
    assert listed(known)[0].attributes["StudyInstanceUID"] != wrong
    again, _ = say(known, NW, group(**RIGHT, **NUMBERS), by=sender(T3))
    assert again.orders == known.orders


def performed(known: Known, status: StepStatus) -> Known:
    """The same, with an exam that a scanner has reported."""
    marks = {"status": status, "performed": {"1.9": status.value}}
    return known.with_order(only_order(known).with_steps(lambda _, s: s.model_copy(update=marks)))


@pytest.mark.parametrize(
    "known",
    [
        said(NW, group(**NUMBERS), by=sender(T1)),
        performed(cancelled(), StepStatus.STARTED),
        performed(cancelled(), StepStatus.COMPLETED),
        performed(cancelled(), StepStatus.DISCONTINUED),
    ],
    ids=["open", "started", "completed", "broken off"],
)
def test_what_is_open_or_has_begun_gives_nothing_up(known: Known) -> None:
    with pytest.raises(Refused, match="belongs to another patient") as refused:
        say(known, NW, group(**RIGHT, **NUMBERS), by=sender(T3))
    assert "right patient ID" in refused.value.remedy
    assert "only two IDs of one person" in refused.value.remedy


def test_an_order_older_than_the_cancel_and_an_update_take_nothing_over() -> None:
    for action, sent in ((NW, T1), (XO, T3)):
        with pytest.raises(Refused):
            say(cancelled(), action, group(**RIGHT, **NUMBERS), by=sender(sent))


def test_a_late_cancel_of_the_wrong_patient_does_not_reach_the_right_one() -> None:
    known, _ = say(cancelled(), NW, group(**RIGHT, **NUMBERS), by=sender(T3))
    known, applied = say(known, CA, NUMBERS, by=sender(T2))
    assert applied.notes == ("stale",)
    assert listed(known)[0].step.status is StepStatus.SCHEDULED
