"""A cancelled order that never began gives its numbers up to the order of another patient."""

from __future__ import annotations

from broker.worklist.applied import Sender
from broker.worklist.changes import Action, Change
from broker.worklist.finding import Known, named_in
from broker.worklist.identity import patient_key
from broker.worklist.naming import order_named, same_patient
from broker.worklist.records import ENDED, TAKEN_OVER, Order


def taken_over(change: Change, known: Known, sender: Sender) -> tuple[Known, tuple[str, ...]]:
    """Take away what was cancelled and has the numbers of a new order of somebody else.

    That is how an order gets to the right patient that was sent for the wrong one. What is open,
    has begun, or was cancelled later than this message was sent, keeps its numbers.
    """
    if change.action is not Action.SCHEDULE or not known.orders:
        return known, ()
    key = patient_key(change.attributes, sender.issuer)
    if key and known.patients.keys() == {known.patient_named(key)}:
        return known, ()  # there is nobody else
    numbers = named_in(change.attributes, sender.issuer)
    holders = {order.key: order for number in numbers for order in known.with_number(number)}
    found = order_named(known, change.attributes, sender.issuer)
    if found:
        holders[found.key] = found
    gone = [
        order
        for order in holders.values()
        if _never_began(order)
        and not sender.is_late(order.sent)
        and _is_of_another(order, change, known, sender)
    ]
    for order in gone:
        known = known.without_order(order.key)
    return known, (TAKEN_OVER,) if gone else ()


def _never_began(order: Order) -> bool:
    return all(step.status in ENDED and not step.performed for _, step in order.steps())


def _is_of_another(order: Order, change: Change, known: Known, sender: Sender) -> bool:
    key = patient_key(change.attributes, sender.issuer)
    if key is None or known.patient_named(key) == order.patient:
        return False
    return not same_patient(change.attributes, known.patients[order.patient])
