"""What a person decides of an exam: of which order it is, of which not, that nothing is left."""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.worklist.finding import Known
from broker.worklist.linking import Moment, moments_of
from broker.worklist.mpps import DISCONTINUED, IN_PROGRESS, REASON, STATUS, Performed, Reference
from broker.worklist.performing import DOUBTS, WRONG_ENTRY, ExamRules, withdrawn
from broker.worklist.reconciling import BY_HAND, TYPED_ORDER, UNLINKED, UNLINKED_BY_HAND, marked
from broker.worklist.records import Order

_BY_MISTAKE: Final = {
    "CodeValue": WRONG_ENTRY,
    "CodingSchemeDesignator": "DCM",
    "CodeMeaning": "Incorrect worklist entry selected",
}


class Impossible(Exception):
    """What cannot be done with this exam, and why."""


class Corrected(NamedTuple):
    """An exam as it shall be, and what comes of it for the records."""

    exam: Performed
    moments: tuple[Moment, ...]


def link(
    exam: Performed, order: Order, step_id: str, known: Known, rules: ExamRules, who: str
) -> Corrected:
    """Say of which step of an order an exam is; an only one needs no ID. Raises Impossible."""
    if exam.references:
        raise Impossible("it is linked already: unlink it first")
    steps = [(p, s) for p, s in order.steps() if step_id in ("", s.id)]
    if len(steps) != 1:
        ids = ", ".join(step.id for _, step in order.steps())
        raise Impossible(f"say which step with --step: the order has {ids}")
    [(procedure, step)] = steps
    evidence = f"{BY_HAND}{who}"
    reference = Reference(order=order.key, procedure=procedure.id, step=step.id, evidence=evidence)
    left = tuple(e for e in exam.exceptions if e not in UNLINKED | DOUBTS | {UNLINKED_BY_HAND})
    linked = exam.model_copy(update={"references": (reference,), "exceptions": left})
    linked = marked(linked, (order,))
    return Corrected(linked, tuple(moments_of(linked, known, rules)))


def unlink(exam: Performed, known: Known) -> Corrected:
    """Say that an exam is not of its steps: they are what they were. Raises Impossible.

    A RIS hears what it hears when an entry was selected by mistake. Nothing is linked by itself
    any more.
    """
    if not exam.references:
        raise Impossible("it is linked to nothing")
    after = known
    for key in dict.fromkeys(reference.order for reference in exam.references):
        if key in known.orders:
            after = after.with_order(withdrawn(known.orders[key], exam))
    attributes = {**exam.attributes, STATUS: DISCONTINUED, REASON: [_BY_MISTAKE]}
    told = exam.model_copy(update={"status": DISCONTINUED, "attributes": attributes})
    others = tuple(e for e in exam.exceptions if e not in UNLINKED | DOUBTS | {TYPED_ORDER})
    free = exam.model_copy(update={"references": (), "exceptions": (*others, UNLINKED_BY_HAND)})
    return Corrected(free, (Moment(told, known, after),))


def close(exam: Performed, status: str, known: Known, rules: ExamRules) -> Corrected:
    """Say that nothing is left to do; `status` ends one that still runs. Raises Impossible."""
    if exam.status == IN_PROGRESS and not status:
        raise Impossible("it is in progress: say with --as how it has ended")
    if exam.status != IN_PROGRESS and status:
        raise Impossible(f"it is {exam.status} already")
    if exam.closed and not exam.exceptions:
        raise Impossible("it is closed already")
    closed = exam.model_copy(update={"exceptions": (), "closed": True})
    if not status:
        return Corrected(closed, ())
    told = closed.model_copy(update={"status": status})
    return Corrected(closed, tuple(moments_of(told, known, rules))[1:])
