"""What a RIS is told of a performed step: one notice per requested procedure that it touches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes
from broker.worklist.finding import Known
from broker.worklist.mpps import SCHEDULED_ITEMS, Performed
from broker.worklist.records import Order, items

# The scheduled step comes from the stored order, never from what the scanner copied or cut.
_OF_THE_SCANNER: Final = frozenset({SCHEDULED_ITEMS, "PatientID", "Modality"})


@dataclass(frozen=True)
class Notice:
    """One status message to be: flat attributes of order, step and performed step by keyword.

    `order` is the order's mailbox.
    """

    order: str
    procedure: str
    attributes: Attributes


def notices(performed: Performed, before: Known, after: Mapping[str, Order]) -> Iterator[Notice]:
    """Give one notice per order and requested procedure of which a step changed its status.

    While a sibling still runs, or once it has told the same, the step has not changed.
    """
    told: set[tuple[str, str]] = set()
    for reference in performed.references:
        place = (reference.order, reference.procedure)
        order, stood = after.get(reference.order), before.orders.get(reference.order)
        patient = before.patients.get(order.patient) if order else None
        if not order or not stood or not patient or place in told:
            continue
        statuses = {(p.id, step.id): step.status for p, step in stood.steps()}
        for item in items(order, patient):
            step = (item.procedure.id, item.step.id)
            if step == (reference.procedure, reference.step) and item.step.status != statuses[step]:
                told.add(place)
                yield Notice(order.mailbox, reference.procedure, _flat(item.attributes, performed))


def _flat(item: Attributes, performed: Performed) -> Attributes:
    step = item[STEPS][0]
    request = {k: v for k, v in item.items() if k != STEPS}
    done = {k: v for k, v in performed.attributes.items() if k not in _OF_THE_SCANNER}
    return {**request, **step, **done}
