"""What a change makes of the records: one function an action, refusals by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from broker.worklist.attributes import ROWS, STEPS, Kept, part, steps_of
from broker.worklist.changes import FILLS_GAPS, Action, Attributes, Change, Ranked, plain, text_of
from broker.worklist.finding import (
    Known,
    agrees,
    identifiers,
    named_in,
    order_named,
    procedures_named,
    same_patient,
    steps_named,
)
from broker.worklist.identity import (
    accession_issuer,
    derived_number,
    derived_uid,
    order_key,
    patient_key,
    said_issuer,
)
from broker.worklist.mpps import IN_PROGRESS
from broker.worklist.records import (
    OPEN,
    Order,
    Patient,
    Procedure,
    Step,
    StepStatus,
    items,
)
from broker.worklist.staleness import is_stale, newest

SH_LENGTH = 16
STATUS, STEP_ID = "ScheduledProcedureStepStatus", "ScheduledProcedureStepID"
_STATUSES: dict[str, StepStatus] = {status.value: status for status in StepStatus}
"""Others, like DEPARTED of a mapping, say nothing that a worklist goes by."""


@dataclass(frozen=True)
class Sender:
    """Who sent a message: its name (MSH-3|MSH-4), its issuer, and when by its clock (MSH-7)."""

    name: str
    issuer: str
    sent: str


class Reason(StrEnum):
    """Why a change is refused."""

    WRONG_PATIENT = "wrong patient"
    NO_PATIENT = "no patient"
    NO_ACCESSION = "no accession"
    INCOMPLETE = "incomplete"


class Refused(Exception):
    """A change that must not be applied; says the fact and the remedy, never patient data."""

    def __init__(self, reason: Reason, location: str, fact: str, remedy: str) -> None:
        super().__init__(f"{location}: {fact}; {remedy}")
        self.reason, self.location, self.fact, self.remedy = reason, location, fact, remedy


@dataclass(frozen=True)
class Applied:
    """The records after a change, and what was odd about it (notes are fixed words)."""

    known: Known
    notes: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)


def apply_all(changes: Iterable[Change], known: Known, sender: Sender) -> Applied:
    """Apply the groups of one message in their order: all of them or, by Refused, none."""
    result, groups = Applied(known), list(changes)
    for change in groups:
        step = _ACTIONS[change.action](change, result.known, sender)
        result = Applied(step.known, result.notes + step.notes, {**result.renamed, **step.renamed})
    if any(change.action is Action.PATIENT for change in groups):
        return result
    return replace(result, known=_dated(known, result.known, sender))


def _dated(before: Known, after: Known, sender: Sender) -> Known:
    """Remember when orders were spoken of: at last, lest one group of a message outdate another."""
    for key, order in after.orders.items():
        if order is not before.orders.get(key):
            sent = newest(order.sent, sender.name, sender.sent)
            after = after.with_order(order.model_copy(update={"sent": sent}))
    return after


def _schedule(change: Change, known: Known, sender: Sender) -> Applied:
    attributes = change.attributes
    order = order_named(known, attributes, sender.issuer)
    known_sent = order.sent.get(sender.name, "") if order else ""
    patient = _patient_for(change, known, sender, order)
    _guard(change, known, sender, patient)
    if order is None:
        order = _new_order(change, sender, patient)
        notes = ("created by update",) if change.action is Action.UPDATE else ()
    elif is_stale(sender.sent, known_sent):
        return Applied(known, ("stale",))
    else:
        notes = ()
    patient = _told(patient, attributes, sender)
    known = known.with_patient(patient)
    order, renamed = _renamed(order, attributes, sender, known)
    order = _with_procedure(order, attributes, revive=_newer(change, known_sent, sender))
    order = order.model_copy(
        update={
            "facts": order.facts.told(_said_of(order, attributes)),
            "flags": _flagged(order.flags, notes),
        }
    )
    _demand_type_1(change, order, patient)
    if not _open(order):
        notes = (*notes, "finished")
    if renamed:
        known = known.without_order(next(iter(renamed)))
    return Applied(known.with_order(order), notes, renamed)


def _stop(status: StepStatus) -> Callable[[Change, Known, Sender], Applied]:
    """End steps by order control; a running exam is never broken, only flagged."""

    def stop(change: Change, known: Known, sender: Sender) -> Applied:
        order = order_named(known, change.attributes, sender.issuer)
        if order is None:
            return Applied(known, ("unknown order",))
        _guard_order(change, known, sender, order)
        if is_stale(sender.sent, order.sent.get(sender.name, "")):
            return Applied(known, ("stale",))
        meant = steps_named(order, change.attributes, list(steps_of(change.attributes)))
        if not meant:
            return Applied(known, ("unknown order",))
        running = {(p.id, step.id) for p, step in meant if _runs(step, status)}
        ended = {(p.id, step.id) for p, step in meant if step.status in OPEN} - running
        notes = (f"{change.action.value} after start",) if running else ()
        order = _with_status(order, ended, {"status": status})
        order = _with_status(order, running, {"otherwise": status}).model_copy(
            update={"flags": _flagged(order.flags, notes)}
        )
        return Applied(known.with_order(order), notes)

    return stop


def _update_patient(change: Change, known: Known, sender: Sender) -> Applied:
    key = patient_key(change.attributes, sender.issuer)
    if key is None:
        raise Refused(
            Reason.NO_PATIENT, "PID-3", "no patient ID", "send an identifier that the mapping reads"
        )
    patient = known.patient(key) or _new_patient(change.attributes, sender)
    if is_stale(sender.sent, patient.sent.get(sender.name, "")):
        return Applied(known, ("stale",))
    known = known.with_patient(_told(patient, change.attributes, sender))
    visit = part(change.attributes, Kept.ORDER)
    for order in list(known.orders.values()) if visit else ():
        if order.patient == patient.key and _open(order) and _same_visit(order, visit):
            facts = order.facts.told(visit)
            known = known.with_order(order.model_copy(update={"facts": facts}))
    return Applied(known)


def _ignore(_change: Change, known: Known, _sender: Sender) -> Applied:
    return Applied(known, ("no change",))


_ACTIONS: dict[Action, Callable[[Change, Known, Sender], Applied]] = {
    Action.SCHEDULE: _schedule,
    Action.UPDATE: _schedule,
    Action.CANCEL: _stop(StepStatus.CANCELLED),
    Action.DISCONTINUE: _stop(StepStatus.DISCONTINUED),
    Action.COMPLETE: _stop(StepStatus.COMPLETED),
    Action.PATIENT: _update_patient,
    Action.IGNORE: _ignore,
}


# --- patients


def _patient_for(change: Change, known: Known, sender: Sender, order: Order | None) -> Patient:
    if order:
        _guard_order(change, known, sender, order)
        return known.patients[order.patient]
    key = patient_key(change.attributes, sender.issuer)
    if key is None:
        raise Refused(
            Reason.NO_PATIENT, "PID-3", "no patient ID", "send an identifier that the mapping reads"
        )
    return known.patient(key) or _new_patient(change.attributes, sender)


def _new_patient(attributes: Attributes, sender: Sender) -> Patient:
    issuer = text_of(attributes, "IssuerOfPatientID").strip() or sender.issuer
    return Patient(issuer=issuer, patient_id=text_of(attributes, "PatientID").strip())


def _told(patient: Patient, attributes: Attributes, sender: Sender) -> Patient:
    if is_stale(sender.sent, patient.sent.get(sender.name, "")):
        return patient
    said = part(attributes, Kept.PATIENT)
    said.pop("PatientID", None)
    said.pop("IssuerOfPatientID", None)
    identity = {"PatientID": patient.patient_id, "IssuerOfPatientID": patient.issuer or None}
    return patient.model_copy(
        update={
            "facts": patient.facts.told({**identity, **said}),
            "sent": newest(patient.sent, sender.name, sender.sent),
        }
    )


def _guard_order(change: Change, known: Known, sender: Sender, order: Order) -> None:
    """Refuse a message about an order of another patient (never merge two people)."""
    named = known.patient(patient_key(change.attributes, sender.issuer))
    if named and named.key == order.patient:
        return
    holder = known.patients[order.patient]
    if not same_patient(change.attributes, holder):
        raise _wrong_patient("accession, filler or placer number")


def _guard(change: Change, known: Known, sender: Sender, patient: Patient) -> None:
    """Refuse a study UID or order number that an order of another patient already has."""
    named = set(named_in(change.attributes, sender.issuer))
    for order in known.orders.values():
        if order.patient != patient.key and named & identifiers(order):
            raise _wrong_patient("study UID, filler or placer number")


def _wrong_patient(number: str) -> Refused:
    return Refused(
        Reason.WRONG_PATIENT,
        "PID-3",
        f"this {number} belongs to another patient",
        "merge the patients (A40) or send the order under a number of its own",
    )


# --- orders


def _new_order(change: Change, sender: Sender, patient: Patient) -> Order:
    accession = text_of(change.attributes, "AccessionNumber").strip()
    if not accession:
        raise Refused(
            Reason.NO_ACCESSION,
            change.location,
            "no accession number, and no known order has these order numbers",
            "map AccessionNumber from the field that holds it",
        )
    issuer = accession_issuer(change.attributes, sender.issuer)
    return Order(issuer=issuer, accession=accession, patient=patient.key, source=sender.issuer)


def _newer(change: Change, known: str, sender: Sender) -> bool:
    """Tell whether a change may take up what was cancelled: the cancel wins a tie."""
    return change.action is Action.SCHEDULE and (not known or is_stale(known, sender.sent))


def _said_of(order: Order, attributes: Attributes) -> Attributes:
    """Give what is said about the request; neither a former accession number nor none is."""
    said = part(attributes, Kept.ORDER)
    if text_of(said, "AccessionNumber").strip() != order.accession:
        said.pop("AccessionNumber", None)
        said.pop("IssuerOfAccessionNumberSequence", None)
    return said


def _demand_type_1(change: Change, order: Order, patient: Patient) -> None:
    """Refuse an order that would answer a query with an empty type 1 attribute (Table K.6-1)."""
    missing = next(_missing(order, patient), None)
    if missing:
        raise Refused(
            Reason.INCOMPLETE,
            change.location,
            f"{missing} is in no message of this order",
            "send the whole order, or map the field that holds it",
        )


def _missing(order: Order, patient: Patient) -> Iterator[str]:
    worklist = list(items(order, patient))
    if not worklist:
        yield STEPS
    for item in worklist:
        held = {**item.attributes, **item.attributes[STEPS][0]}
        yield from (k for k, row in ROWS.items() if row.returned == "1" and not held.get(k))


def _renamed(
    order: Order, attributes: Attributes, sender: Sender, known: Known
) -> tuple[Order, dict[str, str]]:
    """Follow an accession number that was assigned or corrected later; the old one is an alias."""
    key = order_key(attributes, sender.issuer)
    leaf = attributes.get("AccessionNumber")
    guessed = isinstance(leaf, Ranked) and leaf.rank > order.facts.ranks.get("AccessionNumber", 0)
    accession = text_of(attributes, "AccessionNumber").strip()
    poorer = accession == order.accession and not said_issuer(attributes)
    if key is None or key == order.key or known.order(key) is order or guessed or poorer:
        return order, {}
    issuer = accession_issuer(attributes, sender.issuer)
    renamed = order.model_copy(
        update={"accession": accession, "issuer": issuer, "first_key": order.mailbox}
    )
    return renamed, {order.key: renamed.key}


def _with_procedure(order: Order, attributes: Attributes, *, revive: bool) -> Order:
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
    revived = revive and step.status in (StepStatus.CANCELLED, StepStatus.DISCONTINUED)
    if said and (revived or (step.status in OPEN and not step.performed and (new or not guessed))):
        return said
    return StepStatus.SCHEDULED if revived else step.status


def _runs(step: Step, ending: StepStatus) -> bool:
    """Tell whether an exam runs that order control must not end; the scanner alone ends its own."""
    by_scanner = IN_PROGRESS in step.performed.values()
    return step.status is StepStatus.STARTED and (by_scanner or ending is not StepStatus.COMPLETED)


def _with_status(order: Order, named: set[tuple[str, str]], update: dict[str, StepStatus]) -> Order:
    procedures = tuple(
        procedure.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(update=update) if (procedure.id, step.id) in named else step
                    for step in procedure.steps
                )
            }
        )
        for procedure in order.procedures
    )
    return order.model_copy(update={"procedures": procedures})


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


def _open(order: Order) -> bool:
    return any(step.status in OPEN for _, step in order.steps())


def _same_visit(order: Order, visit: Attributes) -> bool:
    return agrees(order.facts, visit, "AdmissionID") is not False


def _flagged(flags: tuple[str, ...], notes: tuple[str, ...]) -> tuple[str, ...]:
    return (*flags, *(note for note in notes if note not in flags))
