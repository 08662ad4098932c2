"""Orders that end, wait or go on by order control; a running exam is never broken, only flagged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from broker.worklist.applied import STALE, Applied, Sender, Unable
from broker.worklist.attributes import START_DATE, START_TIME, STATUS, steps_of
from broker.worklist.changes import Action, Attributes, Change, text_of
from broker.worklist.finding import Known
from broker.worklist.meant import orders_meant
from broker.worklist.mpps import IN_PROGRESS
from broker.worklist.naming import steps_named
from broker.worklist.policies import AfterStart
from broker.worklist.query.narrowing import score
from broker.worklist.records import ENDED, LISTED, OPEN, Order, Procedure, Step, StepStatus
from broker.worklist.refusals import Reason, Refused, guard_order
from broker.worklist.remembering import remember
from broker.worklist.scheduling import taken_up

Found = list[tuple[Procedure, Step]]
REFUSALS: Mapping[Action, str] = {Action.CANCEL: "UC", Action.DISCONTINUE: "UD"}
"""What a RIS is told of a step that cannot be ended any more (HL7 table 0119)."""
ENDS: Mapping[Action, StepStatus] = {
    Action.CANCEL: StepStatus.CANCELLED,
    Action.NO_SHOW: StepStatus.CANCELLED,
    Action.DISCONTINUE: StepStatus.DISCONTINUED,
    Action.COMPLETE: StepStatus.COMPLETED,
}


DONE_BY_AGE = "taken for done: long ago, by a modality without MPPS"
"""The flag of an order that nobody has said to be done."""
RESUMES = LISTED | {"RELEASED"}
"""What takes back a hold by status, said as Scheduled Procedure Step Status by a mapping."""


def end(change: Change, known: Known, sender: Sender) -> Applied:
    """End the steps that a message means; of an unknown order the end is remembered."""
    return _each(change, known, sender, _ended)


def hold(change: Change, known: Known, sender: Sender) -> Applied:
    """Take steps off the list until they are released; those held by a status by another one."""
    by_status = any(text_of(i, STATUS) == StepStatus.HELD for i in steps_of(change.attributes))
    return _turn(change, known, sender, partial(held, by_status=by_status))


def resumed(order: Order, attributes: Attributes) -> Order:
    """Put on the list again what a status has held, where a message says another one of it."""
    items = list(steps_of(attributes))
    if not (order.procedures and any(text_of(item, STATUS) in RESUMES for item in items)):
        return order
    meant = steps_named(order, attributes, items)
    return order.with_steps(
        lambda p, step: _released(step) if step.held_by_status and (p, step) in meant else step
    )


def release(change: Change, known: Known, sender: Sender) -> Applied:
    """Put steps that were held back on the list, as what they were before."""
    return _turn(change, known, sender, _released)


def reopen(change: Change, known: Known, sender: Sender) -> Applied:
    """Put steps that have ended, or wait, on the list again; an exam that runs is not touched."""
    if not orders_meant(change, known, sender.issuer):
        return Applied(known, ("unknown order",))
    return _turn(change, known, sender, _reopened)


def done_by_age(order: Order, is_due: Callable[[str, int], bool]) -> Order:
    """Take steps for done that wait, by modality and start, and that no scanner has begun."""

    def ended(_: Procedure, step: Step) -> Step:
        start = score(step.facts.text(START_DATE), step.facts.text(START_TIME))
        waits = step.status in LISTED and not step.performed
        if not (waits and is_due(step.facts.text("Modality"), start)):
            return step
        return step.model_copy(update={"status": StepStatus.COMPLETED})

    after = order.with_steps(ended)
    if after.procedures == order.procedures:
        return order
    return after.altered(flags=(*(f for f in order.flags if f != DONE_BY_AGE), DONE_BY_AGE))


def _reopened(step: Step) -> Step:
    ended = step.status in ENDED or step.status is StepStatus.COMPLETED
    return taken_up(step) if ended else _released(step)


Ending = Callable[[Change, Sender, Order, Found], tuple[Order, tuple[str, ...], tuple[Unable, ...]]]


def _each(change: Change, known: Known, sender: Sender, change_of: Ending) -> Applied:
    """Change every order that a message means; of an unknown one it is remembered."""
    orders = orders_meant(change, known, sender.issuer)
    if not orders:
        return remember(change, known, sender)
    result = Applied(known)
    for order in [each for each in orders if _steps(change, each)] or orders[:1]:
        result = result.then(_among(change, result.known, sender, order, change_of))
    return result


def _steps(change: Change, order: Order) -> Found:
    return steps_named(order, change.attributes, list(steps_of(change.attributes)))


def _among(
    change: Change, known: Known, sender: Sender, order: Order, change_of: Ending
) -> Applied:
    """Change the steps that a message means, unless it is late or about another patient."""
    guard_order(change, known, sender.issuer, order)
    if sender.is_late(order.sent):
        return Applied(known, (STALE,))
    meant = _steps(change, order)
    if not meant:
        return Applied(known, ("unknown step",))
    order, notes, unable = change_of(change, sender, order, meant)
    flags = (*order.flags, *(note for note in notes if note not in order.flags))
    order = order.model_copy(update={"flags": flags})
    return Applied(known.with_order(order), notes, unable=unable)


def _ended(
    change: Change, sender: Sender, order: Order, meant: Found
) -> tuple[Order, tuple[str, ...], tuple[Unable, ...]]:
    status = ENDS[change.action]
    running = [step for _, step in meant if _runs(step, status)]
    control = REFUSALS.get(change.action, "")
    begun = [pair for pair in meant if control and _has_begun(pair[1], status)]
    if begun and sender.policies.after_start is AfterStart.REFUSE:
        raise Refused(
            Reason.BEGUN, change.location, "the exam has begun", "end it at the scanner instead"
        )
    notes = (f"{change.action.value} after start",) if running or begun else ()
    if change.action is Action.NO_SHOW and not running:
        notes = ("no show",)

    def ended(procedure: Procedure, step: Step) -> Step:
        if (procedure, step) not in meant or step.status not in OPEN:
            return step
        if step in running:
            return step.model_copy(update={"otherwise": status})
        return step.model_copy(update={"status": status, "ended_by": sender.name})

    unable = tuple(Unable(order.key, procedure.id, step.id, control) for procedure, step in begun)
    return order.with_steps(ended), notes, unable


def _runs(step: Step, ending: StepStatus) -> bool:
    """Tell whether an exam runs that order control must not end; the scanner alone ends its own."""
    by_scanner = IN_PROGRESS in step.performed.values()
    return step.status is StepStatus.STARTED and (by_scanner or ending is not StepStatus.COMPLETED)


def _has_begun(step: Step, ending: StepStatus) -> bool:
    return _runs(step, ending) or step.status is StepStatus.COMPLETED


def _turn(change: Change, known: Known, sender: Sender, turned: Callable[[Step], Step]) -> Applied:
    def change_of(
        change: Change, _: Sender, order: Order, meant: Found
    ) -> tuple[Order, tuple[str, ...], tuple[Unable, ...]]:
        after = order.with_steps(lambda p, step: turned(step) if (p, step) in meant else step)
        runs = any(step.status is StepStatus.STARTED for _, step in meant)
        notes = (f"{change.action.value} after start",) if runs else ()
        return after, notes, ()

    return _each(change, known, sender, change_of)


def held(step: Step, *, by_status: bool = False) -> Step:
    """Give a step that waits, if it is on the list; order control outweighs a status."""
    if step.status is StepStatus.HELD and not by_status:
        return step.model_copy(update={"held_by_status": False})
    if step.status not in LISTED:
        return step
    update = {"otherwise": step.status, "held_by_status": by_status}
    return step.model_copy(update={"status": StepStatus.HELD, **update})


def _released(step: Step) -> Step:
    if step.status is not StepStatus.HELD:
        return step
    former = step.otherwise if step.otherwise in LISTED else StepStatus.SCHEDULED
    return step.model_copy(update={"status": former, "held_by_status": False})
