"""The procedure and the steps that a message names: updated where they are known, else added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.worklist.attributes import START_DATE, START_TIME, STATUS, Kept, part, steps_of
from broker.worklist.changes import FILLS_GAPS, Attributes, Ranked, plain, text_of
from broker.worklist.finding import STEP_ID, named_in
from broker.worklist.identity import derived_number, derived_uid
from broker.worklist.naming import agrees, procedures_named, said_ids
from broker.worklist.records import (
    ENDED,
    OPEN,
    STATUSES,
    TAKEN_OVER,
    WAITING,
    Order,
    Procedure,
    Step,
    StepStatus,
)

SH_LENGTH = 16
SLOT = frozenset(
    {
        START_DATE,
        START_TIME,
        "ScheduledStationAETitle",
        "ScheduledStationName",
        "ScheduledProcedureStepLocation",
        "ScheduledPerformingPhysicianName",
    }
)
"""What an appointment says of all its steps: when, where and with whom."""
Revives = Callable[[Step], bool]


def procedures_told(
    order: Order, attributes: Attributes, *, revive: Revives, slot: bool = False
) -> tuple[Procedure, ...]:
    """Give the procedures of an order with the one that the message names updated, or added.

    A new `slot` without a step of its own is that of every step of the procedures that are named.
    """
    named = procedures_named(order, attributes)
    items = list(steps_of(attributes))
    if slot and len(items) == 1 and not any(said_ids(items)):
        order = _with_slot(order, {p.id for p in named}, items[0], revive)
        named = procedures_named(order, attributes)
    procedure = named[0] if named else Procedure.made(id=_procedure_id(order, attributes))
    number = {"RequestedProcedureID": Ranked(procedure.id, FILLS_GAPS)}
    # The number goes before what is said, too: two groups may be given the same one by default.
    facts = procedure.facts.told(number, part(attributes, Kept.PROCEDURE))
    if not facts.attributes.keys() >= {"RequestedProcedureID", "StudyInstanceUID"}:
        facts = facts.told({**number, "StudyInstanceUID": _study(order, procedure)})
    steps = procedure.steps
    for position, item in enumerate(items, start=1):
        steps = _with_step(steps, procedure.id, item, position, revive=revive)
    procedure = procedure.altered(facts=facts, steps=steps)
    others = tuple(p for p in order.procedures if p.id != procedure.id)
    at = next((n for n, p in enumerate(order.procedures) if p.id == procedure.id), len(others))
    return (*others[:at], procedure, *others[at:])


def lacks_start(item: Attributes) -> bool:
    """Tell whether a message says no start of a step: it has the default of the mapping."""
    start = item.get(START_DATE)
    return start.__class__ is Ranked and start.rank >= FILLS_GAPS


def _study(order: Order, procedure: Procedure) -> Ranked:
    # A scanner may still hold the entry of the one whose number this was: not the same study.
    own = (order.patient,) if TAKEN_OVER in order.flags else ()
    return Ranked(derived_uid(order.issuer, order.accession, procedure.id, *own), FILLS_GAPS)


def _with_slot(order: Order, procedures: set[str], item: Attributes, revive: Revives) -> Order:
    def moved(procedure: Procedure, step: Step) -> Step:
        again = revive(step)
        if procedure.id not in procedures or not (again or step.status in WAITING):
            return step
        step = step.model_copy(update={"facts": step.facts.told(item, only=SLOT)})
        return taken_up(step) if again else step

    return order.with_steps(moved)


def taken_up(step: Step) -> Step:
    """Schedule an ended step again; what was performed before is of an exam that is over."""
    fresh = {"performed": {}, "otherwise": StepStatus.SCHEDULED, "ended_by": "", "begun_at": ()}
    return step.model_copy(update={"status": StepStatus.SCHEDULED, **fresh})


def _with_step(
    steps: tuple[Step, ...], procedure_id: str, item: Attributes, position: int, *, revive: Revives
) -> tuple[Step, ...]:
    said = {k: v for k, v in item.items() if k != STATUS}
    step_id = text_of(item, STEP_ID) or _step_id(procedure_id, position)
    stored = _step_meant(steps, item, step_id, position)
    step = stored or Step.made(id=_unused(step_id, steps, procedure_id))
    if stored and stored.status in ENDED and revive(stored):
        step = taken_up(stored)
    facts = step.facts.told(said, {STEP_ID: Ranked(step.id, FILLS_GAPS)})
    status = _status(step, item.get(STATUS), new=step is not stored)
    step = step.altered(facts=facts, status=status)
    if stored is None:
        return (*steps, step)
    return tuple(step if old.id == step.id else old for old in steps)


def _step_meant(
    steps: tuple[Step, ...], item: Attributes, step_id: str, position: int
) -> Step | None:
    """Find a stored step by its ID; by its place where one side only guessed the ID."""
    for step in steps:
        if step_id == step.facts.text(STEP_ID):
            return step
    for step in steps:
        # A step that was renumbered keeps the ID by which MPPS know it; its former number is free.
        if step_id == step.id and agrees(step.facts, item, STEP_ID) is not False:
            return step
    there = steps[position - 1] if position <= len(steps) else None
    return there if there and agrees(there.facts, item, STEP_ID) is None else None


def _unused(step_id: str, steps: tuple[Step, ...], procedure_id: str) -> str:
    if all(step_id != step.id for step in steps):
        return step_id
    return derived_number("SP", procedure_id, step_id, str(len(steps) + 1))


def _status(step: Step, leaf: Any, *, new: bool) -> StepStatus:
    """Before the exam the message decides; what is held waits till it is released."""
    said = STATUSES.get(plain(leaf) or "")
    guessed = isinstance(leaf, Ranked) and leaf.rank >= FILLS_GAPS
    open_yet = step.status in OPEN - {StepStatus.HELD} and not step.performed
    return said if said and open_yet and (new or not guessed) else step.status


def _procedure_id(order: Order, attributes: Attributes) -> str:
    said = text_of(attributes, "RequestedProcedureID")
    if said and all(said != procedure.id for procedure in order.procedures):
        return said
    if not order.procedures and len(order.accession) <= SH_LENGTH:
        return order.accession
    number = next((i.value for i in named_in(attributes, "")), str(len(order.procedures) + 1))
    return derived_number("RP", order.issuer, order.accession, number)


def _step_id(procedure_id: str, position: int) -> str:
    if position == 1:
        return procedure_id
    numbered = f"{procedure_id}-{position}"
    fits = len(numbered) <= SH_LENGTH
    return numbered if fits else derived_number("SP", procedure_id, str(position))
