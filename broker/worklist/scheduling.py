"""The procedure and the steps that a message names: updated where they are known, else added."""

from __future__ import annotations

from typing import Any

from broker.worklist.attributes import Kept, part, steps_of
from broker.worklist.changes import FILLS_GAPS, Attributes, Ranked, plain, text_of
from broker.worklist.finding import STEP_ID, agrees, named_in, procedures_named
from broker.worklist.identity import derived_number, derived_uid
from broker.worklist.records import OPEN, Order, Procedure, Step, StepStatus

STATUS = "ScheduledProcedureStepStatus"
SH_LENGTH = 16
_ENDED = (StepStatus.CANCELLED, StepStatus.DISCONTINUED)
_STATUSES = {status.value: status for status in StepStatus}
"""Others, like DEPARTED of a mapping, say nothing that a worklist goes by."""


def with_procedure(order: Order, attributes: Attributes, *, revive: bool) -> Order:
    """Update the procedure that the message names, or add it."""
    named = procedures_named(order, attributes)
    procedure = named[0] if named else Procedure(id=_procedure_id(order, attributes))
    number = {"RequestedProcedureID": Ranked(procedure.id, FILLS_GAPS)}
    study = derived_uid(order.issuer, order.accession, procedure.id)
    # The number goes before what is said, too: two groups may be given the same one by default.
    facts = procedure.facts.told(number).told(part(attributes, Kept.PROCEDURE))
    facts = facts.told({**number, "StudyInstanceUID": Ranked(study, FILLS_GAPS)})
    steps = procedure.steps
    for position, item in enumerate(steps_of(attributes), start=1):
        steps = _with_step(steps, procedure.id, item, position, revive=revive)
    procedure = procedure.model_copy(update={"facts": facts, "steps": steps})
    others = tuple(p for p in order.procedures if p.id != procedure.id)
    at = next((n for n, p in enumerate(order.procedures) if p.id == procedure.id), len(others))
    return order.model_copy(update={"procedures": (*others[:at], procedure, *others[at:])})


def _with_step(
    steps: tuple[Step, ...], procedure_id: str, item: Attributes, position: int, *, revive: bool
) -> tuple[Step, ...]:
    said = {k: v for k, v in item.items() if k != STATUS}
    step_id = text_of(item, STEP_ID) or _step_id(procedure_id, position)
    stored = _step_meant(steps, item, step_id, position)
    step = stored or Step(id=step_id)
    facts = step.facts.told(said).told({STEP_ID: Ranked(step.id, FILLS_GAPS)})
    status = _status(step, item.get(STATUS), new=stored is None, revive=revive)
    step = step.model_copy(update={"facts": facts, "status": status})
    if revive and stored and stored.status in _ENDED:
        # What was performed before is of an exam that is over.
        step = step.model_copy(update={"performed": {}, "otherwise": StepStatus.SCHEDULED})
    if stored is None:
        return (*steps, step)
    return tuple(step if old.id == step.id else old for old in steps)


def _step_meant(
    steps: tuple[Step, ...], item: Attributes, step_id: str, position: int
) -> Step | None:
    """Find a stored step by its ID; by its place where one side only guessed the ID."""
    for step in steps:
        if step_id in (step.id, step.facts.text(STEP_ID)):
            return step
    there = steps[position - 1] if position <= len(steps) else None
    return there if there and agrees(there.facts, item, STEP_ID) is None else None


def _status(step: Step, leaf: Any, *, new: bool, revive: bool) -> StepStatus:
    """Before the exam the message decides; a new order takes a cancelled step up again."""
    said = _STATUSES.get(plain(leaf) or "")
    guessed = isinstance(leaf, Ranked) and leaf.rank >= FILLS_GAPS
    revived = revive and step.status in _ENDED
    if said and (revived or (step.status in OPEN and not step.performed and (new or not guessed))):
        return said
    return StepStatus.SCHEDULED if revived else step.status


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
