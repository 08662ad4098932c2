"""Short words for tests: what a sender says, and what becomes of the records."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from broker.worklist.apply import Applied, Sender, apply_all
from broker.worklist.changes import Action, Attributes, Change
from broker.worklist.finding import Known
from broker.worklist.policies import Policies
from broker.worklist.records import Item, Order, items
from broker.worklist.staleness import instant

STEPS = "ScheduledProcedureStepSequence"
PLACER = "PlacerOrderNumberImagingServiceRequest"
FILLER = "FillerOrderNumberImagingServiceRequest"
STEP_ID = "ScheduledProcedureStepID"


def sender(
    sent: str = "20260101120000",
    name: str = "RIS|HOSP",
    issuer: str = "HOSP",
    *,
    force: bool = False,
    received: str = "",
    replayed: bool = False,
    **policies: Any,
) -> Sender:
    """A RIS, the time of its message, and what its site has decided."""
    at = instant(sent, UTC)
    return Sender(name, issuer, at, Policies(**policies), force, received, replayed)


def group(*steps: Attributes, **said: Any) -> Attributes:
    """One ORC group of an order A1 of patient 123; a None that is said erases, '-' leaves out."""
    attributes: Attributes = {
        "PatientID": "123",
        "PatientName": "DOE^JOHN",
        "AccessionNumber": "A1",
        **said,
        STEPS: list(steps) or [step()],
    }
    return {keyword: value for keyword, value in attributes.items() if value != "-"}


def step(**said: Any) -> Attributes:
    """One scheduled step without an ID of its own."""
    return {
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": "20260101",
        "ScheduledProcedureStepStartTime": "1930",
        "Modality": "CT",
        **said,
    }


def say(
    known: Known, action: Action, *groups: Attributes, by: Sender | None = None
) -> tuple[Known, Applied]:
    """Apply one message; gives what is known after it, aliases as the store would read them."""
    message = [
        Change(action, attributes, f"ORC[{number}]") for number, attributes in enumerate(groups, 1)
    ]
    applied = apply_all(message, known, by or sender())
    after = applied.known
    aliases = {**after.aliases, **{f"order:{old}": new for old, new in applied.renamed.items()}}
    remembered = {**known.tombstones, **applied.buried, **applied.heard}
    return Known(after.orders, after.patients, aliases, remembered), applied


def said(action: Action, *groups: Attributes, by: Sender | None = None) -> Known:
    """Apply one message to an empty store."""
    return say(Known(), action, *groups, by=by)[0]


def only_order(known: Known) -> Order:
    """The one order that is known."""
    (order,) = known.orders.values()
    return order


def listed(known: Known) -> list[Item]:
    """Every worklist item of every order, in the order of the records."""
    return [
        item
        for order in known.orders.values()
        for item in items(order, known.patients[order.patient])
    ]


def statuses(known: Known) -> list[str]:
    """The status of every step."""
    return [item.step.status.value for item in listed(known)]
