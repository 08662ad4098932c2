"""What a RIS is told when order control comes after the start of an exam: UC or UD."""

from __future__ import annotations

from collections.abc import Iterator

from broker.rollout.announcing import Notice
from broker.rollout.notices import stations_of
from broker.worklist.applied import Applied
from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes
from broker.worklist.mpps import COMPLETED, IN_PROGRESS, STATUS
from broker.worklist.records import Item, StepStatus, items


def notices(applied: Applied) -> Iterator[tuple[Notice, str]]:
    """Give a notice for each step that could not be ended, and what it is of: control and step."""
    known = applied.known
    for unable in applied.unable:
        order = known.orders[unable.order]
        if order.by_hand:
            continue
        for item in items(order, known.patients[order.patient]):
            if (item.procedure.id, item.step.id) == (unable.procedure, unable.step):
                said = _flat(item, unable.control)
                notice = Notice(order.mailbox, unable.procedure, said, stations_of(said))
                yield notice, f"{unable.control} {unable.step}"


def _flat(item: Item, control: str) -> Attributes:
    request = {k: v for k, v in item.attributes.items() if k != STEPS}
    status = COMPLETED if item.step.status is StepStatus.COMPLETED else IN_PROGRESS
    return {**request, **item.attributes[STEPS][0], STATUS: status, "OrderControl": control}
