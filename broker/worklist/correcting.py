"""An accession number that is corrected: the same exam is known, under another one."""

from __future__ import annotations

from broker.worklist.attributes import steps_of
from broker.worklist.changes import Attributes, Change
from broker.worklist.finding import STEP_ID, Known, named_in
from broker.worklist.identity import order_key, patient_key
from broker.worklist.naming import agrees, order_named, other_numbers, said_ids
from broker.worklist.records import OPEN, Order, Procedure, StepStatus
from broker.worklist.refusals import Reason, Refused


def order_told(
    known: Known, attributes: Attributes, issuer: str, *, corrects: bool
) -> Order | None:
    """Find the order that a message tells of, also where it corrects the accession number.

    An update corrects that of the one order of the patient with its placer number and its procedure
    ID or study; a new order only where placer, filler, procedure and step ID are all the same.
    """
    found = order_named(known, attributes, issuer, corrects=corrects)
    if found or not known.orders:
        return found
    key = patient_key(attributes, issuer)
    same = [
        order
        for its_key, order in known.orders.items()
        if its_key not in known.spoken
        and (key is None or known.patient_named(key) == order.patient)
        and any(_is_same(order, p, attributes, issuer, corrects) for p in order.procedures)
    ]
    return same[0] if len(same) == 1 else None


def refuse_taken_accession(
    change: Change, known: Known, issuer: str, order: Order, *, corrects: bool
) -> None:
    """Refuse to tell an order what is said of another one, which would be on the list twice."""
    if order.key != order_key(change.attributes, issuer):
        return
    if not other_numbers(order, change.attributes, issuer):
        return
    others = known.without_order(order.key)
    other = order_told(others, change.attributes, issuer, corrects=corrects)
    if other is None or other.patient != order.patient or other.key in known.spoken:
        return
    if any(step.status in OPEN for _, step in other.steps()):
        raise Refused(
            Reason.CONTRADICTION,
            change.location,
            "these order numbers are of an order with another accession number, and this accession"
            " number is of an order with other order numbers",
            "cancel the order under its former accession number first, then send it anew",
        )


def _is_same(
    order: Order, procedure: Procedure, attributes: Attributes, issuer: str, corrects: bool
) -> bool:
    """Tell whether a message speaks of a procedure that is known under another accession number."""
    held = dict(named_in(procedure.facts.attributes, order.source))
    said = dict(named_in(attributes, issuer))
    if not said.get("placer") or said["placer"] != held.get("placer"):
        return False
    same_id = agrees(procedure.facts, attributes, "RequestedProcedureID")
    same_steps = _has_steps(procedure, attributes)
    filler, known_filler = said.get("filler"), held.get("filler")
    if not corrects:
        over = any(step.status is StepStatus.COMPLETED for step in procedure.steps)
        return bool(filler and filler == known_filler and same_id and same_steps and not over)
    study = agrees(procedure.facts, attributes, "StudyInstanceUID")
    other_filler = bool(filler and known_filler and filler != known_filler)
    if study and not (other_filler and same_id is False):
        return True
    # Procedure IDs may be unique within a request only: then more has to agree.
    return bool(same_id and (same_steps or not (other_filler or study is False)))


def _has_steps(procedure: Procedure, attributes: Attributes) -> bool:
    said = said_ids(steps_of(attributes))
    held = {step.facts.text(STEP_ID) for step in procedure.steps}
    return bool(said) and set(said) <= held
