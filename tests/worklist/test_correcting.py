"""An accession number that is corrected leaves one line, whichever number leads to the order."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action, Ranked
from broker.worklist.finding import Known
from broker.worklist.mpps import COMPLETED
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
T2, T3 = "20260101120001", "20260101120002"
RP = "RequestedProcedureID"
NEW = {"AccessionNumber": "A2"}


def order(number: str = "1", step_id: str = "", **said: Any) -> dict[str, Any]:
    """An order with all its numbers; its IDs are of the second place, as OBR-19 and OBR-20 are."""
    numbers = {PLACER: f"P{number}", FILLER: f"F{number}", RP: Ranked(f"R{number}", 1)}
    steps = step(**{STEP_ID: Ranked(step_id or f"S{number}", 1)})
    return group(steps, **{"AccessionNumber": f"A{number}", **numbers, **said})


def lines(known: Known) -> list[tuple[str, str]]:
    """Accession number and step ID of every line."""
    return [
        (i.attributes["AccessionNumber"], i.attributes[STEPS][0][STEP_ID])
        for i in listed(known)
        if i.step.status is StepStatus.SCHEDULED
    ]


@pytest.mark.parametrize("filler", ["-", "F9", "F1"])
def test_an_update_found_by_its_placer_number_corrects_the_accession(filler: str) -> None:
    known, applied = say(said(NW, order()), XO, order(**NEW, **{FILLER: filler}), by=sender(T2))
    assert lines(known) == [("A2", "S1")]
    assert applied.renamed == {"HOSP|A1": "HOSP|A2"}
    known, _ = say(known, CA, {"AccessionNumber": "A1"}, by=sender(T3))
    assert statuses(known) == ["CANCELLED"]


def test_the_study_tells_it_too() -> None:
    first = order(**{FILLER: "-", RP: "-"}, StudyInstanceUID="1.2")
    known, _ = say(said(NW, first), XO, {**first, **NEW}, by=sender(T2))
    assert lines(known) == [("A2", "S1")]


def test_a_new_order_with_four_equal_identifiers_is_no_second_one() -> None:
    known, applied = say(said(NW, order()), NW, order(**NEW), by=sender(T2))
    assert lines(known) == [("A2", "S1")]
    assert applied.notes == ("renamed",)


@pytest.mark.parametrize(
    ("action", "other"),
    [
        (NW, {FILLER: "F9"}),
        (NW, {PLACER: "P9"}),
        (NW, {RP: Ranked("R9", 1)}),
        (NW, {"step_id": "S9"}),
        (XO, {FILLER: "-", RP: Ranked("R9", 1)}),
        (XO, {FILLER: "F9", "step_id": "S9"}),
        (XO, {FILLER: "F9", PLACER: "P9"}),
    ],
)
def test_a_number_that_differs_makes_another_order(action: Action, other: dict[str, Any]) -> None:
    known, _ = say(said(NW, order()), action, order(**NEW, **other), by=sender(T2))
    assert {accession for accession, _ in lines(known)} == {"A1", "A2"}


def test_orders_of_one_message_are_no_corrections_of_each_other() -> None:
    first = order(**{FILLER: "-"})
    for action in (NW, XO):
        known = said(action, first, {**first, **NEW})
        known, _ = say(known, action, first, {**first, **NEW}, by=sender(T2))
        assert len(lines(known)) == 2
        known, _ = say(said(NW, first), action, {**first, **NEW}, first, by=sender(T2))
        assert len(lines(known)) == 2


def test_an_exam_that_is_over_and_ordered_again_is_another_one() -> None:
    marks = {"status": StepStatus.COMPLETED, "performed": {"1.1": COMPLETED}}
    known = said(NW, order())
    known = known.with_order(only_order(known).with_steps(lambda _, s: s.model_copy(update=marks)))
    known, _ = say(known, NW, order(**NEW), by=sender(T2))
    assert lines(known) == [("A2", "S1")]
    assert set(known.orders) == {"HOSP|A1", "HOSP|A2"}


def test_a_late_correction_adds_no_line() -> None:
    known = said(NW, order(), by=sender(T3))
    for action in (NW, XO):
        after, applied = say(known, action, order(**NEW, **{}), by=sender(T2))
        assert (applied.notes, lines(after)) == (("stale",), [("A1", "S1")])


@pytest.mark.parametrize("action", [NW, XO])
def test_two_orders_do_not_become_one_in_silence(action: Action) -> None:
    known = said(NW, order("1"), order("2"))
    with pytest.raises(Refused, match="another accession number") as refused:
        say(known, action, order("1", **NEW), by=sender(T2))
    assert refused.value.reason is Reason.CONTRADICTION
    known, _ = say(known, CA, order("1"), by=sender(T2))
    known, _ = say(known, action, order("1", **NEW), by=sender(T3))
    assert lines(known) == [("A2", "S2"), ("A2", "S1")]


def test_a_filler_number_that_both_have_is_no_contradiction() -> None:
    shared = {FILLER: "F1"}
    known = said(NW, order("1"), order("2", **shared))
    known, _ = say(known, XO, order("2", **shared), by=sender(T2))
    assert len(lines(known)) == 2
