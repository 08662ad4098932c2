"""What becomes of scheduled steps when exams begin, end, are broken off or were not of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from broker.worklist.changes import text_of
from broker.worklist.finding import Known
from broker.worklist.mpps import COMPLETED, DISCONTINUED, IN_PROGRESS, REASON, Performed
from broker.worklist.reconciling import (
    BY_HAND,
    NOBODY,
    STANDARD,
    Matching,
    People,
    names_other_accession,
    same_person,
    station_of,
)
from broker.worklist.records import Order, Step, StepStatus

WRONG_ENTRY: Final = "110514"
"""Incorrect worklist entry selected (CID 9300): the exam was not of this step at all."""

OTHER_PATIENT = "MPPS names another patient ID"
OTHER_ACCESSION = "MPPS names another accession number"
WRONGLY_SELECTED = "selected by mistake at the scanner"
AFTER_CANCEL = "performed after it was cancelled"
DOUBTS: Final = frozenset({OTHER_PATIENT, OTHER_ACCESSION, WRONGLY_SELECTED, AFTER_CANCEL})
"""What is odd about an exam of which the order is known: flags it, and a person looks at it."""


class Ending(StrEnum):
    """What a step is after its exam was broken off: on the list again, cancelled, discontinued."""

    REOPEN = "reopen"
    CANCEL = "cancel"
    KEEP = "keep"


class NeverEnded(StrEnum):
    """What becomes of the step of an exam that does not end: a person looks, or it is ended."""

    FLAG = "flag"
    DISCONTINUE = "discontinue"
    COMPLETE = "complete"


REASONS: Final[Mapping[str, Ending]] = {
    WRONG_ENTRY: Ending.REOPEN,
    "110500": Ending.CANCEL,  # Doctor canceled procedure
    "110502": Ending.CANCEL,  # Incorrect procedure ordered
    "110503": Ending.CANCEL,  # Patient allergic to media/contrast
    "110504": Ending.CANCEL,  # Patient died
    "110507": Ending.REOPEN,  # Patient did not arrive
    "110510": Ending.CANCEL,  # Duplicate order
    "110511": Ending.CANCEL,  # Nursing unit cancel
    "110512": Ending.CANCEL,  # Incorrect side ordered
}
"""By reason code (CID 9300); a code that is not here, and none at all, is `keep`."""


@dataclass(frozen=True)
class ExamRules:
    """What a site has decided: how steps are found, what the reason of an end means."""

    matching: Matching = STANDARD
    reasons: Mapping[str, Ending] = field(default_factory=lambda: REASONS)


def advanced(
    order: Order,
    performed: Performed,
    people: People = NOBODY,
    reasons: Mapping[str, Ending] = REASONS,
) -> Order:
    """Record a performed step with the scheduled steps that it refers to.

    What a person has said himself to be of an order does not contradict it.
    """
    named = [r for r in performed.references if r.order == order.key]
    mine = {(r.procedure, r.step) for r in named}
    if not mine:
        return order
    ending = ending_of(performed, reasons)
    after = order.with_steps(
        lambda p, step: _performed(step, performed, ending) if (p.id, step.id) in mine else step
    )
    judged = any(r.evidence.startswith(BY_HAND) for r in named)
    doubts = () if judged else _doubts(order, performed, people)
    return after.altered(flags=tuple(dict.fromkeys((*order.flags, *doubts))))


def doubted(performed: Performed, known: Known) -> Performed:
    """Give an exam as one to look at where it contradicts its orders, as they were before it.

    Not of what a person has closed, or said himself to be of an order.
    """
    if performed.closed:
        return performed
    found = dict.fromkeys(performed.exceptions)
    for key in {r.order for r in performed.references if not r.evidence.startswith(BY_HAND)}:
        if order := known.order(key):
            found |= dict.fromkeys(_doubts(order, performed, known.patients))
    more = len(found) > len(performed.exceptions)
    return performed.altered(exceptions=tuple(found)) if more else performed


def _doubts(order: Order, performed: Performed, people: People) -> Iterator[str]:
    mine = {(r.procedure, r.step) for r in performed.references if r.order == order.key}
    odd = {
        OTHER_PATIENT: not same_person(order, performed.attributes, people),
        OTHER_ACCESSION: names_other_accession(performed, order),
        WRONGLY_SELECTED: selected_wrongly(performed),
        AFTER_CANCEL: any(
            step.status is StepStatus.CANCELLED and (p.id, step.id) in mine
            for p, step in order.steps()
        ),
    }
    return (doubt for doubt, raised in odd.items() if raised)


def status_of(then: NeverEnded) -> str:
    """Give what an exam that does not end is taken for, '' where a person decides."""
    ends = {NeverEnded.DISCONTINUE: DISCONTINUED, NeverEnded.COMPLETE: COMPLETED}
    return ends.get(then, "")


def ending_of(performed: Performed, reasons: Mapping[str, Ending]) -> Ending | None:
    """Look up what the reason of an exam that was broken off means; None of any other exam."""
    if performed.status != DISCONTINUED:
        return None
    codes = [text_of(code, "CodeValue") for code in performed.attributes.get(REASON) or ()]
    return next((reasons[code] for code in codes if code in reasons), Ending.KEEP)


def selected_wrongly(performed: Performed) -> bool:
    """Tell whether the operator had picked the wrong worklist entry."""
    codes = performed.attributes.get(REASON) or []
    return performed.status == DISCONTINUED and any(
        text_of(code, "CodeValue") == WRONG_ENTRY for code in codes
    )


def withdrawn(order: Order, performed: Performed) -> Order:
    """Take a performed step off the scheduled steps that it was said to be of."""
    mine = {(r.procedure, r.step) for r in performed.references if r.order == order.key}
    return order.with_steps(
        lambda p, step: _without(step, performed) if (p.id, step.id) in mine else step
    )


def _performed(step: Step, performed: Performed, ending: Ending | None) -> Step:
    marks = {**step.performed, performed.sop_instance_uid: performed.status}
    if ending is Ending.REOPEN:
        marks.pop(performed.sop_instance_uid)
    if not step.performed and step.status is not StepStatus.STARTED:
        step = step.altered(otherwise=step.status)
    status = _status(step, marks.values())
    if status is StepStatus.DISCONTINUED and ending is Ending.CANCEL:
        status = StepStatus.CANCELLED
    begun_at = _others(step, performed)
    if performed.sop_instance_uid in marks:
        begun_at = (*begun_at, station_of(performed))
    return step.altered(performed=marks, status=status, begun_at=begun_at)


def _status(step: Step, performed: Iterable[str]) -> StepStatus:
    """Of several performed steps of one scheduled step the running one decides, then the best.

    What was finished stays so while more is appended to it.
    """
    if step.status is StepStatus.COMPLETED:
        return StepStatus.COMPLETED
    states = set(performed)
    for state, status in (
        (IN_PROGRESS, StepStatus.STARTED),
        (COMPLETED, StepStatus.COMPLETED),
        (DISCONTINUED, StepStatus.DISCONTINUED),
    ):
        if state in states:
            return status
    return step.otherwise if step.status is StepStatus.STARTED else step.status


def _without(step: Step, performed: Performed) -> Step:
    marks = {k: v for k, v in step.performed.items() if k != performed.sop_instance_uid}
    begun = step.altered(status=StepStatus.STARTED)
    status, begun_at = _status(begun, marks.values()), _others(step, performed)
    return step.altered(performed=marks, status=status, begun_at=begun_at)


def _others(step: Step, performed: Performed) -> tuple[str, ...]:
    return tuple(ae for ae in step.begun_at if ae != station_of(performed))
