"""What a RIS is told of a performed step: one notice per requested procedure that it touches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from broker.rollout.announcing import Notice
from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes, text_of
from broker.worklist.device_times import read_times
from broker.worklist.finding import Known
from broker.worklist.mpps import (
    COMPLETED,
    DISCONTINUED,
    IN_PROGRESS,
    OBJECTS,
    REASON,
    STATUS,
    Performed,
    series_of,
)
from broker.worklist.records import Item, Order, Patient, Step, StepStatus, items
from broker.worklist.requirements import is_fixed

_STATES: Final = {StepStatus.STARTED: IN_PROGRESS, StepStatus.COMPLETED: COMPLETED}
"""What a step is told to be; of any other an exam was broken off."""
INSTANCE: Final = "PerformedProcedureStepSOPInstanceUID"
MOST_ITEMS: Final = 20
MOST_LEVELS: Final = 3
MOST_LETTERS: Final = 1024
_ENDS: Final = {
    StepStatus.COMPLETED: COMPLETED,
    StepStatus.DISCONTINUED: DISCONTINUED,
    StepStatus.CANCELLED: DISCONTINUED,
}
"""What a step is told to be that a person has ended."""


def notices(
    performed: Performed, before: Known, after: Mapping[str, Order], *, progress: bool = False
) -> Iterator[Notice]:
    """Give one notice per order and requested procedure of which a step changed its status.

    While a sibling still runs, or once it has told the same, the step has not changed; what was
    appended to a finished step is told of when it ends. With `progress` the request said something
    new of an exam that goes on: a notice of that, where nothing has changed.
    """
    told: set[tuple[str, str]] = set()
    for reference in performed.references:
        place = (reference.order, reference.procedure)
        order, stood = after.get(reference.order), before.orders.get(reference.order)
        patient = before.patients.get(order.patient) if order else None
        if not order or not stood or not patient or place in told or order.by_hand:
            continue
        steps = {(p.id, step.id): step for p, step in stood.steps()}
        for item in items(order, patient):
            step = (item.procedure.id, item.step.id)
            if step != (reference.procedure, reference.step):
                continue
            changed = item.step.status != steps[step].status or _is_appended(item.step, performed)
            if changed or progress:
                told.add(place)
                attributes = _flat(item, performed)
                yield Notice(
                    order.mailbox,
                    reference.procedure,
                    attributes,
                    stations_of(attributes) | {performed.station},
                    progress=not changed,
                )


def of_endings(order: Order, stood: Order | None, patient: Patient) -> Iterator[Notice]:
    """Give a notice for each step that has ended without an exam, and `stood` otherwise before."""
    was = {(p.id, s.id): s.status for p, s in stood.steps()} if stood else {}
    for item in items(order, patient) if not order.by_hand else ():
        status = _ENDS.get(item.step.status)
        place = (item.procedure.id, item.step.id)
        if status and not item.step.performed and was.get(place) != item.step.status:
            request = {k: v for k, v in item.attributes.items() if k != STEPS}
            told = {**request, **item.attributes[STEPS][0], STATUS: status}
            yield Notice(order.mailbox, item.procedure.id, told, stations_of(told))


def _is_appended(step: Step, performed: Performed) -> bool:
    running = IN_PROGRESS in step.performed.values()
    finished = step.status is StepStatus.COMPLETED and performed.status == COMPLETED
    return finished and not running and len(step.performed) > 1


def stations_of(attributes: Attributes) -> frozenset[str]:
    """Name the AE that has performed a step, else those that it is scheduled for."""
    said = attributes.get("PerformedStationAETitle") or attributes.get("ScheduledStationAETitle")
    return frozenset(said if isinstance(said, list) else [str(said)] if said else [])


def _flat(item: Item, performed: Performed) -> Attributes:
    """The event of a notice: order, step and what the scanner did, and what the step is now."""
    step = item.attributes[STEPS][0]
    request = {k: v for k, v in item.attributes.items() if k != STEPS}
    # Order and patient are the stored ones, never what the scanner has copied, cut or typed.
    done = {
        keyword: _bounded(value)
        for keyword, value in performed.attributes.items()
        if keyword.startswith("Performed")
        or not (is_fixed(keyword) or keyword in request or keyword in step)
    }
    status = _STATES.get(item.step.status, DISCONTINUED)
    if status != DISCONTINUED:  # a sibling was broken off, the step was not
        done.pop(REASON, None)
    counted = {INSTANCE: performed.sop_instance_uid, **_counts(performed)}
    return {
        **request,
        **step,
        **done,
        **counted,
        **read_times(performed.attributes),
        STATUS: status,
    }


def _counts(performed: Performed) -> Attributes:
    """Count series and objects, and name all protocol codes, for which DICOM has no one word.

    Of an exam that has ended none is a number as well.
    """
    attributes = performed.attributes
    codes = attributes.get("PerformedProtocolCodeSequence") or []
    named = [text_of(each, "CodeValue") for each in codes[:MOST_ITEMS] if isinstance(each, dict)]
    told: Attributes = {}
    if any(named):
        told["PerformedProtocolCodeValues"] = ", ".join(filter(None, named))
    series, objects = series_of(attributes)
    if series or performed.status != IN_PROGRESS:
        told["NumberOfPerformedSeries"] = str(series)
        told["NumberOfPerformedInstances"] = str(objects)
    return told


def _bounded(value: Any, depth: int = 0) -> Any:
    """Cut down what has no end: an exam of a thousand series is told by their number."""
    if isinstance(value, dict):
        if depth > MOST_LEVELS:
            return {}
        return {k: _bounded(v, depth) for k, v in value.items() if k not in OBJECTS}
    if isinstance(value, list):
        return [_bounded(each, depth + 1) for each in value[:MOST_ITEMS]]
    return value[:MOST_LETTERS] if isinstance(value, str) else value
