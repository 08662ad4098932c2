"""RP and RO in messages of their own: the old order goes when the new one names it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.changes import Action
from broker.worklist.finding import Known, wanted
from broker.worklist.records import StepStatus
from broker.worklist.refusals import Refused
from tests.worklist.speaking import FILLER, PLACER, group, listed, only_order, said, say, sender

NW, RP = Action.SCHEDULE, Action.REPLACE
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"
OLD = {PLACER: "P1", FILLER: "F1"}
NEW = {"AccessionNumber": "A2", PLACER: "P2", FILLER: "F2"}


def ro(*former: dict[str, Any], **said_: Any) -> dict[str, Any]:
    """The new order, which names what it replaces."""
    return group(**{**NEW, "ReplacedOrdersSequence": list(former) or [OLD], **said_})


def lines(known: Known) -> list[str]:
    """Accession number of every line that is listed."""
    return [i.order.accession for i in listed(known) if i.step.status is StepStatus.SCHEDULED]


def test_what_shall_be_replaced_is_flagged_and_stays_listed_till_its_replacement_comes() -> None:
    known, applied = say(said(NW, group(**OLD), by=sender(T1)), RP, group(**OLD), by=sender(T2))
    assert applied.notes == ("to be replaced",)
    assert only_order(known).flags == ("to be replaced",)
    assert lines(known) == ["A1"]
    known, _ = say(known, NW, ro(), by=sender(T3))
    assert lines(known) == ["A2"]


@pytest.mark.parametrize("former", [OLD, {PLACER: "P1"}, {FILLER: "F1"}])
def test_a_new_order_that_names_the_old_one_replaces_it(former: dict[str, str]) -> None:
    known, applied = say(said(NW, group(**OLD), by=sender(T1)), NW, ro(former), by=sender(T2))
    assert (lines(known), applied.notes) == (["A2"], ())
    assert "ReplacedOrdersSequence" not in str(known.orders)


def test_under_one_accession_only_the_old_procedure_goes() -> None:
    known = said(NW, group(**OLD), by=sender(T1))
    known, _ = say(known, NW, ro(AccessionNumber="A1"), by=sender(T2))
    assert [(i.attributes[FILLER], i.step.status.value) for i in listed(known)] == [
        ("F1", "CANCELLED"),
        ("F2", "SCHEDULED"),
    ]


def test_an_order_that_names_itself_replaces_nothing() -> None:
    known = said(NW, group(**OLD), by=sender(T1))
    known, _ = say(known, NW, ro(NEW), by=sender(T2))
    assert lines(known) == ["A1", "A2"]


def test_the_old_order_stays_where_the_new_one_is_refused() -> None:
    known = said(NW, group(**OLD), by=sender(T1))
    for bad in (ro(PatientID="999"), ro(AccessionNumber="-")):
        with pytest.raises(Refused):
            say(known, NW, bad, by=sender(T2))


def test_a_late_old_order_does_not_appear_beside_its_replacement() -> None:
    known, _ = say(Known(), NW, ro(), by=sender(T2))
    known, _ = say(known, NW, group(**OLD), by=sender(T1))
    assert lines(known) == ["A2"]


def test_the_old_order_is_asked_for() -> None:
    asked = wanted([ro()], "HOSP", orders_of_patients=False)
    assert {("filler", "HOSP|F1"), ("placer", "HOSP|P1")} <= set(asked.identifiers)
    assert "filler:HOSP|F1" in asked.tombstones
