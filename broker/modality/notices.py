"""What a RIS is told of a performed step: one notice per requested procedure that it touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes
from broker.worklist.finding import Known
from broker.worklist.mpps import SCHEDULED_ITEMS, Performed
from broker.worklist.records import items

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


def notices(performed: Performed, known: Known) -> Iterator[Notice]:
    """Give one notice per order and requested procedure, in the order of the references."""
    told: set[tuple[str, str]] = set()
    for reference in performed.references:
        order = known.orders.get(reference.order)
        patient = known.patients.get(order.patient) if order else None
        if order is None or patient is None or (reference.order, reference.procedure) in told:
            continue
        told.add((reference.order, reference.procedure))
        for item in items(order, patient):
            if (item.procedure.id, item.step.id) == (reference.procedure, reference.step):
                attributes = _flat(item.attributes, performed)
                yield Notice(order.mailbox, item.procedure.id, attributes)


def _flat(item: Attributes, performed: Performed) -> Attributes:
    step = item[STEPS][0]
    request = {k: v for k, v in item.items() if k != STEPS}
    done = {k: v for k, v in performed.attributes.items() if k not in _OF_THE_SCANNER}
    return {**request, **step, **done}
