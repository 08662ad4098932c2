"""Which orders a cancel, a hold or a release means, and what names none."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action
from broker.worklist.finding import Known
from broker.worklist.refusals import Reason, Refused
from tests.worklist.speaking import (
    FILLER,
    PLACER,
    STEP_ID,
    STEPS,
    group,
    only_order,
    said,
    say,
    sender,
    statuses,
    step,
)

NW, CA, HD = Action.SCHEDULE, Action.CANCEL, Action.HOLD
T2 = "20260101120001"
PLACERS, FILLERS = "OrderPlacerIdentifierSequence", "OrderFillerIdentifierSequence"
HIS = [{"LocalNamespaceEntityID": "HIS"}]
PROCEDURE = "RequestedProcedureID"


def two(first: dict[str, Any], second: dict[str, Any]) -> Known:
    """Two orders, A1 and A2."""
    known = said(NW, group(**first))
    return say(known, NW, group(AccessionNumber="A2", **second))[0]


def cancelled(known: Known, **cancel: Any) -> tuple[list[str], tuple[str, ...]]:
    """What becomes of the steps when a message that says only this cancels."""
    after, applied = say(known, CA, cancel, by=sender(T2))
    return statuses(after), applied.notes


def refused(known: Known, **cancel: Any) -> Reason:
    """Why a cancel is refused."""
    with pytest.raises(Refused) as found:
        say(known, CA, cancel, by=sender(T2))
    return found.value.reason


# --- a placer number of several orders


@pytest.mark.parametrize("who", [{}, {"PatientID": "123"}])
def test_a_placer_number_of_several_orders_cancels_them_all(who: dict[str, str]) -> None:
    known = two({PLACER: "PG"}, {PLACER: "PG"})
    assert cancelled(known, **{PLACER: "PG"}, **who) == (["CANCELLED", "CANCELLED"], ())


def test_a_shared_placer_number_holds_and_releases_all_too() -> None:
    known, _ = say(two({PLACER: "PG"}, {PLACER: "PG"}), HD, {PLACER: "PG"}, by=sender(T2))
    assert statuses(known) == ["HELD", "HELD"]


def test_of_a_shared_placer_number_a_procedure_id_means_its_own_order() -> None:
    known = two({PLACER: "PG", PROCEDURE: "R1"}, {PLACER: "PG", PROCEDURE: "R2"})
    assert cancelled(known, **{PLACER: "PG", PROCEDURE: "R2"}) == (["SCHEDULED", "CANCELLED"], ())


def test_a_shared_placer_number_with_an_accession_number_means_one_order() -> None:
    known = two({PLACER: "PG"}, {PLACER: "PG"})
    assert cancelled(known, AccessionNumber="A2", **{PLACER: "PG"})[0] == ["SCHEDULED", "CANCELLED"]


def test_a_shared_placer_number_of_another_patient_is_refused() -> None:
    known = two({PLACER: "PG"}, {PLACER: "PG"})
    assert refused(known, PatientID="999", **{PLACER: "PG"}) is Reason.WRONG_PATIENT


# --- contradictions


@pytest.mark.parametrize(
    "cancel",
    [{PLACER: "P1", FILLER: "F2"}, {"AccessionNumber": "A1", FILLER: "F2"}],
    ids=["placer and filler", "accession and filler"],
)
def test_a_cancel_whose_numbers_are_of_two_orders_is_refused(cancel: dict[str, str]) -> None:
    known = two({PLACER: "P1", FILLER: "F1"}, {PLACER: "P2", FILLER: "F2"})
    assert refused(known, **cancel) is Reason.AMBIGUOUS


def test_a_number_that_an_ended_order_still_has_contradicts_nothing() -> None:
    known = two({PLACER: "P1", FILLER: "F1"}, {PLACER: "P2"})
    known, _ = say(known, Action.COMPLETE, {"AccessionNumber": "A1"})
    again = {"AccessionNumber": "A2", PLACER: "P2", FILLER: "F1"}
    assert cancelled(known, **again) == (["COMPLETED", "CANCELLED"], ())


# --- no order number at all


@pytest.mark.parametrize("who", [{}, {"PatientID": "123"}, {"PatientID": "123", STEPS: [{}]}])
def test_a_cancel_that_names_no_order_is_refused(who: dict[str, Any]) -> None:
    assert refused(said(NW, group()), **who) is Reason.NO_NUMBER


@pytest.mark.parametrize("cancel", [{PROCEDURE: "R2"}, {STEPS: [{STEP_ID: "S2"}]}])
def test_a_procedure_or_step_id_alone_is_of_the_patient(cancel: dict[str, Any]) -> None:
    one, other = ({PROCEDURE: f"R{n}", STEPS: [step(**{STEP_ID: f"S{n}"})]} for n in (1, 2))
    known = said(NW, {**group(), **one})
    known, _ = say(known, NW, {**group(AccessionNumber="A2"), **other})
    assert cancelled(known, PatientID="123", **cancel) == (["SCHEDULED", "CANCELLED"], ())
    assert cancelled(known, PatientID="999", **cancel)[1] == ("unknown order",)
    assert refused(known, **cancel) is Reason.NO_PATIENT


def test_a_procedure_id_of_two_orders_of_the_patient_is_refused() -> None:
    known = two({PROCEDURE: "R1"}, {PROCEDURE: "R1"})
    assert refused(known, PatientID="123", **{PROCEDURE: "R1"}) is Reason.AMBIGUOUS


# --- numbers without their namespace


@pytest.mark.parametrize(("number", "space"), [(PLACER, PLACERS), (FILLER, FILLERS)])
@pytest.mark.parametrize("spaced_first", [True, False])
def test_a_number_without_namespace_is_its_only_namesake(
    number: str, space: str, spaced_first: bool
) -> None:
    plain: dict[str, Any] = {number: "N4"}
    spaced = {number: "N4", space: HIS}
    stored, cancel = (spaced, plain) if spaced_first else (plain, spaced)
    assert cancelled(said(NW, group(**stored)), **cancel) == (["CANCELLED"], ())


def test_namesakes_of_two_namespaces_are_told_apart() -> None:
    other = [{"LocalNamespaceEntityID": "LAB"}]
    known = two({PLACER: "N4", PLACERS: HIS}, {PLACER: "N4", PLACERS: other})
    assert cancelled(known, **{PLACER: "N4"}) == (["SCHEDULED", "SCHEDULED"], ("unknown order",))
    assert cancelled(known, **{PLACER: "N4", PLACERS: other})[0] == ["SCHEDULED", "CANCELLED"]
    third = [{"LocalNamespaceEntityID": "PACS"}]
    assert cancelled(known, **{PLACER: "N4", PLACERS: third})[1] == ("unknown order",)


def test_a_namesake_with_another_filler_number_is_not_meant() -> None:
    known = said(NW, group(**{PLACER: "N4", PLACERS: HIS, FILLER: "F1"}))
    assert cancelled(known, **{PLACER: "N4", FILLER: "F9"})[1] == ("unknown order",)


def test_of_a_known_order_an_unknown_step_is_told() -> None:
    known = said(NW, group(**{FILLER: "F1", PROCEDURE: "R1"}))
    assert cancelled(known, **{FILLER: "F1", PROCEDURE: "R9"}) == (["SCHEDULED"], ("unknown step",))
    assert only_order(known).flags == ()
