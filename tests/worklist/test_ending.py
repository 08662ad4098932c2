"""Cancels after the start, holds and releases, replaced orders, what is forced."""

from __future__ import annotations

import pytest

from broker.worklist.apply import apply_all
from broker.worklist.changes import Action, Change
from broker.worklist.finding import Known
from broker.worklist.policies import AfterStart
from broker.worklist.records import StepStatus
from broker.worklist.refusals import Reason, Refused
from tests.worklist.speaking import FILLER, group, listed, only_order, said, say, sender, statuses

NW, XO, CA, DC = Action.SCHEDULE, Action.UPDATE, Action.CANCEL, Action.DISCONTINUE
HD, RL, CM = Action.HOLD, Action.RELEASE, Action.COMPLETE
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"


def begun(status: StepStatus = StepStatus.STARTED, mpps: str = "IN PROGRESS") -> Known:
    """An order whose exam has begun, by MPPS."""
    known = said(NW, group())
    marks = {"status": status, "performed": {"1.1": mpps}}
    order = only_order(known).with_steps(lambda _, step: step.model_copy(update=marks))
    return known.with_order(order)


@pytest.mark.parametrize(("action", "control"), [(CA, "UC"), (DC, "UD")])
def test_a_cancel_after_the_start_is_flagged_and_the_ris_is_told(
    action: Action, control: str
) -> None:
    known, applied = say(begun(), action, group(), by=sender(T2))
    assert statuses(known) == ["STARTED"]
    assert only_order(known).flags == (f"{action.value} after start",)
    assert [unable.control for unable in applied.unable] == [control]


def test_a_cancel_after_the_end_is_told_as_well() -> None:
    known, applied = say(begun(StepStatus.COMPLETED, "COMPLETED"), CA, group(), by=sender(T2))
    assert statuses(known) == ["COMPLETED"]
    assert [unable.control for unable in applied.unable] == ["UC"]


def test_a_cancel_after_the_start_may_be_refused() -> None:
    with pytest.raises(Refused) as refused:
        say(begun(), CA, group(), by=sender(T2, after_start=AfterStart.REFUSE))
    assert refused.value.reason is Reason.BEGUN


@pytest.mark.parametrize("action", [CA, DC, CM])
def test_in_time_nobody_is_told(action: Action) -> None:
    _, applied = say(said(NW, group()), action, group(), by=sender(T2))
    assert applied.unable == ()


def test_a_completion_while_the_scanner_works_is_no_refusal() -> None:
    known, applied = say(begun(), CM, group(), by=sender(T2))
    assert applied.unable == ()
    assert statuses(known) == ["STARTED"]


# --- hold and release


def test_a_hold_takes_a_step_off_the_list_and_a_release_brings_it_back() -> None:
    known, _ = say(said(NW, group()), HD, group(), by=sender(T2))
    assert statuses(known) == ["HELD"]
    known, _ = say(known, RL, group(), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_a_patient_who_had_arrived_is_still_there_after_the_release() -> None:
    known = said(NW, group())
    arrived = {"status": StepStatus.ARRIVED}
    order = only_order(known).with_steps(lambda _, step: step.model_copy(update=arrived))
    known, _ = say(known.with_order(order), HD, group(), by=sender(T2))
    known, _ = say(known, RL, group(), by=sender(T3))
    assert statuses(known) == ["ARRIVED"]


def test_an_update_of_what_is_held_does_not_release_it() -> None:
    known, _ = say(said(NW, group()), HD, group(), by=sender(T2))
    known, _ = say(known, XO, group(MedicalAlerts="LATEX"), by=sender(T3))
    assert statuses(known) == ["HELD"]


def test_a_held_step_can_be_cancelled() -> None:
    known, _ = say(said(NW, group()), HD, group(), by=sender(T2))
    known, _ = say(known, CA, group(), by=sender(T3))
    assert statuses(known) == ["CANCELLED"]


@pytest.mark.parametrize("action", [HD, RL])
def test_a_hold_does_nothing_to_a_running_exam_or_an_unknown_order(action: Action) -> None:
    known, applied = say(begun(), action, group(), by=sender(T2))
    assert statuses(known) == ["STARTED"]
    assert applied.notes == (f"{action.value} after start",)
    _, applied = say(Known(), action, group())
    assert applied.notes == ("unknown order",)


def test_a_hold_ahead_of_its_order_is_remembered_till_it_is_released() -> None:
    ahead, applied = say(Known(), HD, group(**{FILLER: "F1"}), by=sender(T2))
    assert applied.notes == ("unknown order",)
    known, applied = say(ahead, NW, group(**{FILLER: "F1"}), by=sender(T1))
    assert applied.notes == ("held before",)
    assert statuses(known) == ["HELD"]
    known, _ = say(known, RL, group(**{FILLER: "F1"}), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_a_hold_that_was_sent_before_its_order_says_nothing_of_it() -> None:
    ahead, _ = say(Known(), HD, group(**{FILLER: "F1"}), by=sender(T1))
    assert statuses(say(ahead, NW, group(**{FILLER: "F1"}), by=sender(T2))[0]) == ["SCHEDULED"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((HD, RL), "SCHEDULED"),
        ((RL, HD), "HELD"),
        ((HD, CA), "CANCELLED"),
        ((CA, HD), "CANCELLED"),
        ((CA, RL), "CANCELLED"),
    ],
)
def test_of_what_was_said_ahead_an_end_stays_and_else_the_last_word_counts(
    words: tuple[Action, Action], expected: str
) -> None:
    known = Known()
    for word, sent in zip(words, (T2, T3), strict=True):
        known, _ = say(known, word, group(**{FILLER: "F1"}), by=sender(sent))
    assert statuses(say(known, NW, group(**{FILLER: "F1"}), by=sender(T1))[0]) == [expected]


def test_a_late_update_does_not_bring_back_what_was_cancelled_ahead() -> None:
    known, _ = say(Known(), CA, group(**{FILLER: "F1"}), by=sender(T3))
    known, _ = say(known, NW, group(**{FILLER: "F1"}), by=sender(T1))
    known, _ = say(known, NW, group(**{FILLER: "F1"}), by=sender(T2))
    assert statuses(known) == ["CANCELLED"]
    known, _ = say(known, NW, group(**{FILLER: "F1"}), by=sender(T3))
    assert statuses(known) == ["SCHEDULED"]


def test_what_was_cancelled_ahead_is_every_procedure_of_the_order() -> None:
    ahead, _ = say(Known(), CA, {"AccessionNumber": "A1"}, by=sender(T2))
    first, second = (group(**{FILLER: f"F{n}"}) for n in (1, 2))
    assert statuses(say(ahead, NW, first, second, by=sender(T1))[0]) == ["CANCELLED", "CANCELLED"]


# --- replace


def replaced(known: Known, *changes: Change, sent: str = T2) -> Known:
    applied = apply_all(changes, known, sender(sent))
    return Known(applied.known.orders, applied.known.patients)


def test_of_a_replace_pair_the_old_order_goes_and_the_new_one_comes() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    old = Change(Action.REPLACE, group(**{FILLER: "F1"}), "ORC[1]")
    new = Change(NW, group(AccessionNumber="A2", **{FILLER: "F9"}), "ORC[2]")
    known = replaced(known, old, new)
    assert {o.accession: o.procedures[0].steps[0].status for o in known.orders.values()} == {
        "A1": "CANCELLED",
        "A2": "SCHEDULED",
    }


def test_a_replace_pair_under_one_accession_number_leaves_one_line() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    old = Change(Action.REPLACE, group(**{FILLER: "F1"}), "ORC[1]")
    known = replaced(known, old, Change(NW, group(**{FILLER: "F9"}), "ORC[2]"))
    assert sorted(statuses(known)) == ["CANCELLED", "SCHEDULED"]


def test_a_replaced_order_whose_replacement_does_not_come_stays() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known = replaced(known, Change(Action.REPLACE, group(**{FILLER: "F1"}), "ORC[1]"))
    assert statuses(known) == ["SCHEDULED"]


# --- force


def test_what_is_forced_is_applied_although_it_is_late() -> None:
    known = said(NW, group(MedicalAlerts="NEW"), by=sender(T3))
    late = group(MedicalAlerts="OLD")
    assert say(known, XO, late, by=sender(T1))[1].notes == ("stale",)
    known, _ = say(known, XO, late, by=sender(T1, force=True))
    assert listed(known)[0].attributes["MedicalAlerts"] == "OLD"
    assert only_order(known).sent == {"RIS|HOSP": T3}


def test_a_forced_order_outweighs_a_cancel_that_came_before_it() -> None:
    known = say(Known(), CA, group(**{FILLER: "F1"}), by=sender(T2))[0]
    assert statuses(say(known, NW, group(**{FILLER: "F1"}), by=sender(T1))[0]) == ["CANCELLED"]
    forced = sender(T1, force=True)
    assert statuses(say(known, NW, group(**{FILLER: "F1"}), by=forced)[0]) == ["SCHEDULED"]
