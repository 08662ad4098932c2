"""Which orders a cancel, a hold or a release means: all that it names, and never one by a guess."""

from __future__ import annotations

from broker.worklist.attributes import steps_of
from broker.worklist.changes import Action, Attributes, Change, text_of
from broker.worklist.finding import STEP_ID, Identifier, Known, named_in
from broker.worklist.identity import number_issuer, order_key, order_number, patient_key
from broker.worklist.naming import agrees, order_named, said_ids
from broker.worklist.records import OPEN, Order
from broker.worklist.refusals import Reason, Refused

BY_NUMBER = frozenset(
    {
        Action.CANCEL,
        Action.NO_SHOW,
        Action.DISCONTINUE,
        Action.COMPLETE,
        Action.REOPEN,
        Action.HOLD,
        Action.RELEASE,
    }
)
"""What names an order, and says nothing else of it."""
ROLES = ("Filler", "Placer")
PROCEDURE_ID = "RequestedProcedureID"


def is_by_patient(change: Change) -> bool:
    """Tell whether a message names a procedure or step of a patient, and no order."""
    if change.action not in BY_NUMBER:
        return False
    return not (
        text_of(change.attributes, "AccessionNumber").strip()
        or any(named_in(change.attributes, ""))
    )


def orders_meant(change: Change, known: Known, issuer: str) -> list[Order]:
    """Give the orders that a message means, none when it means an unknown one.

    A placer number alone means every order that has it, since one is for all of a placer's group.
    Raises Refused where nothing is named, or several that are not one.
    """
    if is_by_patient(change):
        return _of_patient(change, known, issuer)
    _refuse_contradiction(change, known, issuer)
    order = order_named(known, change.attributes, issuer)
    if order:
        return [order]
    return _of_placer(change, known, issuer) or _namesake(change.attributes, known, issuer)


def _of_patient(change: Change, known: Known, issuer: str) -> list[Order]:
    """Find the one order of a patient that has the procedure or step."""
    if not text_of(change.attributes, PROCEDURE_ID) and not any(_step_ids(change.attributes)):
        raise Refused(
            Reason.NO_NUMBER,
            change.location,
            "no accession, placer, filler or appointment number, and no procedure or step ID",
            "name the order by one of them, in a field that the mapping reads",
        )
    key = patient_key(change.attributes, issuer)
    if key is None:
        raise Refused(
            Reason.NO_PATIENT,
            "PID-3",
            "a procedure or step ID alone, and no patient ID",
            "send an accession or order number, or the patient",
        )
    patient = known.patient_named(key)
    found = [
        order
        for order in known.orders.values()
        if (order.patient, order.source) == (patient, issuer) and _has_ids(order, change.attributes)
    ]
    if len(found) > 1:
        raise _ambiguous(change, "several orders of this patient have this procedure or step ID")
    return found


def _has_ids(order: Order, attributes: Attributes) -> bool:
    procedure_id, wanted = text_of(attributes, PROCEDURE_ID), set(_step_ids(attributes))
    return any(
        (not procedure_id or agrees(procedure.facts, attributes, PROCEDURE_ID) is True)
        and (not wanted or step.facts.text(STEP_ID) in wanted)
        for procedure, step in order.steps()
    )


def _step_ids(attributes: Attributes) -> list[str]:
    return [step_id for step_id in said_ids(steps_of(attributes)) if step_id]


def _refuse_contradiction(change: Change, known: Known, issuer: str) -> None:
    """Refuse numbers of which one is of this open order and another of that."""
    accession = known.order(order_key(change.attributes, issuer))
    found = [{accession.key}] if accession and _is_open(accession) else []
    for identifier in named_in(change.attributes, issuer):
        found.append({o.key for o in known.with_number(identifier) if _is_open(o)})
    found = [keys for keys in found if keys]
    if found and not set.intersection(*found):
        raise _ambiguous(change, "its numbers are of different orders")


def _is_open(order: Order) -> bool:
    return any(step.status in OPEN for _, step in order.steps())


def _of_placer(change: Change, known: Known, issuer: str) -> list[Order]:
    number = order_number(change.attributes, "Placer", issuer)
    narrower = order_number(change.attributes, "Filler", issuer)
    if not number or narrower or order_key(change.attributes, issuer):
        return []
    found = list(known.with_number(Identifier("placer", number)))
    named = known.patient(patient_key(change.attributes, issuer))
    mine = [order for order in found if named and order.patient == named.key] or found
    if len({order.patient for order in mine}) > 1:
        raise _ambiguous(change, "this placer number is of orders of several patients")
    return mine


def _namesake(attributes: Attributes, known: Known, issuer: str) -> list[Order]:
    """Find the only order of a sender that has a number where one side names its namespace."""
    found = [
        order
        for order in known.orders.values()
        if order.source == issuer and _is_namesake(order, attributes)
    ]
    return found if len(found) == 1 else []


def _is_namesake(order: Order, attributes: Attributes) -> bool:
    if agrees(order.facts, attributes, "AccessionNumber") is False:
        return False
    verdicts = [_same_number(order, attributes, role) for role in ROLES]
    return True in verdicts and False not in verdicts


def _same_number(order: Order, attributes: Attributes, role: str) -> bool | None:
    keyword = f"{role}OrderNumberImagingServiceRequest"
    said, issuer = text_of(attributes, keyword).strip(), number_issuer(attributes, role)
    held = [p.facts for p in order.procedures if p.facts.text(keyword)]
    if not said or not held:
        return None
    return any(
        facts.text(keyword).strip() == said
        and number_issuer(facts.attributes, role)
        in ("", issuer or number_issuer(facts.attributes, role))
        for facts in held
    )


def _ambiguous(change: Change, fact: str) -> Refused:
    return Refused(
        Reason.AMBIGUOUS,
        change.location,
        fact,
        "name the order by its accession or filler number, with the patient",
    )
