"""Procedure and step IDs that change under the same order numbers, and steps that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from broker.worklist.attributes import steps_of
from broker.worklist.changes import FILLS_GAPS, SAID, Attributes, plain, text_of
from broker.worklist.finding import FILLER, NUMBERS, STEP_ID
from broker.worklist.naming import agrees, said_ids
from broker.worklist.records import OPEN, WAITING, Order, Procedure, Step, StepStatus

PROCEDURE_ID = "RequestedProcedureID"


CODES = ("ScheduledProtocolCodeSequence", "RequestedProcedureCodeSequence")
DESCRIPTIONS = ("ScheduledProcedureStepDescription", "RequestedProcedureDescription")


class Named(NamedTuple):
    """The steps of one procedure that a message names: by ID what it says of each, all in all."""

    procedure: Procedure
    ids: dict[str, Attributes]


def renumbered(
    order: Order, groups: Sequence[Attributes], *, certain: bool = False
) -> tuple[Order, tuple[str, ...]]:
    """Give procedures and steps the IDs that an update has for them, and notes about it.

    An order number means one procedure: a new ID beside it is the procedure's new ID. Where an
    update leaves out one known step of a procedure and gives one unknown one of the same exam, that
    is the same step, also while it runs. What is over, and what the message names otherwise, keeps
    its ID.

    A new order may be a second one: it has to be `certain` that it is the same, by the filler
    number, the modality, and what is written of the exam, of which nothing has begun.
    """
    after = order
    for group in groups:
        after = _procedure_renumbered(after, group, groups, certain=certain)
    for named in _named(after, groups):
        after = _steps_renumbered(after, named, certain=certain)
    return after, ("renumbered",) if after != order else ()


def left_out(order: Order, groups: Sequence[Attributes]) -> Order:
    """Cancel the waiting steps of the procedures that a message names without naming them."""
    gone = {
        (named.procedure.id, step.id)
        for named in _named(order, groups)
        for step in named.procedure.steps
        if _waits(step) and _id(step) not in named.ids
    }

    def cancelled(procedure: Procedure, step: Step) -> Step:
        if (procedure.id, step.id) not in gone:
            return step
        return step.model_copy(update={"status": StepStatus.CANCELLED})

    return order.with_steps(cancelled) if gone else order


def _procedure_renumbered(
    order: Order, group: Attributes, groups: Iterable[Attributes], *, certain: bool
) -> Order:
    said = text_of(group, PROCEDURE_ID)
    if not said or any(said == p.facts.text(PROCEDURE_ID) for p in order.procedures):
        return order
    spoken = {text_of(each, PROCEDURE_ID) for each in groups}
    meant = [p for p in order.procedures if _has_number(p, group)]
    if len(meant) != 1 or _id_of(meant[0]) in spoken or not all(map(_goes_on, meant[0].steps)):
        return order
    if agrees(meant[0].facts, group, PROCEDURE_ID) is not False:
        return order  # the ID was a guess: an ordinary update says the real one
    if certain and not all(
        _is_certain(meant[0], step, {**group, **item})
        for step in meant[0].steps
        for item in steps_of(group)
    ):
        return order
    facts = meant[0].facts.told({PROCEDURE_ID: group[PROCEDURE_ID]})
    changed = meant[0].model_copy(update={"facts": facts})
    procedures = tuple(changed if p is meant[0] else p for p in order.procedures)
    return order.model_copy(update={"procedures": procedures})


def _has_number(procedure: Procedure, group: Attributes) -> bool:
    """Tell whether the narrowest order number, or appointment, that is said names a procedure."""
    for keyword in NUMBERS[1:]:
        verdict = agrees(procedure.facts, group, keyword)
        if verdict is not None:
            return verdict
    return False


def _named(order: Order, groups: Sequence[Attributes]) -> list[Named]:
    """Give the procedures of which a message names every step by an ID that it says."""
    found = []
    for procedure in order.procedures:
        meant = [g for g in groups if _is_of(order, procedure, g)]
        items = [{**group, **item} for group in meant for item in steps_of(group)]
        ids = said_ids(items)
        if ids and all(ids):  # else it names some by their place
            found.append(Named(procedure, dict(zip(ids, items, strict=True))))
    return found


def _is_of(order: Order, procedure: Procedure, group: Attributes) -> bool:
    verdict = agrees(procedure.facts, group, PROCEDURE_ID)
    if verdict is not None:
        return verdict
    return len(order.procedures) == 1 or _has_number(procedure, group)


def _is_certain(procedure: Procedure, step: Step, said: Attributes) -> bool:
    """Tell whether what a new order says is of this step, though neither ID is the same."""
    held = {**procedure.facts.attributes, **step.facts.attributes}
    if not _waits(step) or agrees(procedure.facts, said, FILLER) is not True:
        return False
    alike = (*CODES, *DESCRIPTIONS)
    return _same(held, said, "Modality") and any(_same(held, said, keyword) for keyword in alike)


def _same(held: Attributes, said: Attributes, keyword: str) -> bool:
    return bool(_text(held, keyword)) and _text(held, keyword) == _text(said, keyword)


def _steps_renumbered(order: Order, named: Named, *, certain: bool) -> Order:
    steps = named.procedure.steps
    held = {_id(step) for step in steps}
    missing = [s for s in steps if _goes_on(s) and not _guessed(s) and _id(s) not in named.ids]
    unknown = [item for step_id, item in named.ids.items() if step_id not in held]
    if (len(missing), len(unknown)) != (1, 1):
        return order
    (former,), (said,) = missing, unknown
    if not _is_same_exam(named.procedure, former, said):
        return order
    if certain and not _is_certain(named.procedure, former, said):
        return order

    def changed(procedure: Procedure, step: Step) -> Step:
        if (procedure.id, step.id) != (named.procedure.id, former.id):
            return step
        return step.model_copy(update={"facts": step.facts.told({STEP_ID: said[STEP_ID]})})

    return order.with_steps(changed)


def _is_same_exam(procedure: Procedure, step: Step, said: Attributes) -> bool:
    """Tell whether modality and code agree, or what is written where one side has no code."""
    held = {**procedure.facts.attributes, **step.facts.attributes}
    if _differs(held, said, "Modality"):
        return False
    for keywords in (CODES, DESCRIPTIONS):
        for keyword in keywords:
            if _text(held, keyword) and _text(said, keyword):
                return not _differs(held, said, keyword)
    return True


def _differs(held: Attributes, said: Attributes, keyword: str) -> bool:
    one, other = _text(held, keyword), _text(said, keyword)
    return bool(one and other and one != other)


def _text(attributes: Attributes, keyword: str) -> str:
    if keyword not in CODES:
        return text_of(attributes, keyword).strip()
    codes = plain(attributes.get(keyword)) or [{}]
    return text_of(codes[0], "CodeValue").strip()


def _guessed(step: Step) -> bool:
    return step.facts.ranks.get(STEP_ID, SAID) >= FILLS_GAPS


def _goes_on(step: Step) -> bool:
    return step.status in OPEN


def _waits(step: Step) -> bool:
    return step.status in WAITING and not step.performed


def _id(step: Step) -> str:
    return step.facts.text(STEP_ID) or step.id


def _id_of(procedure: Procedure) -> str:
    return procedure.facts.text(PROCEDURE_ID) or procedure.id
