"""What a change makes of the records: one function an action, refusals by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from broker.worklist.attributes import Kept, part, steps_of
from broker.worklist.changes import Action, Attributes, Change, Ranked, text_of
from broker.worklist.finding import Known, agrees, order_named, steps_named, tombstones
from broker.worklist.identity import accession_issuer, order_key, patient_key, said_issuer
from broker.worklist.mpps import IN_PROGRESS
from broker.worklist.records import OPEN, Order, Patient, Procedure, Step, StepStatus
from broker.worklist.refusals import (
    Reason,
    Refused,
    demand_type_1,
    guard_numbers,
    guard_order,
    refuse_number_game,
)
from broker.worklist.scheduling import with_procedure
from broker.worklist.staleness import is_stale, newest


@dataclass(frozen=True)
class Sender:
    """Who sent a message: its name (MSH-3|MSH-4), its issuer, and when by its clock (MSH-7)."""

    name: str
    issuer: str
    sent: str


@dataclass(frozen=True)
class Applied:
    """The records after a change, and what was odd about it (notes are fixed words).

    `buried` names what was cancelled before it was known, with the time by each sender's clock.
    """

    known: Known
    notes: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    buried: dict[str, dict[str, str]] = field(default_factory=dict)


def apply_all(changes: Iterable[Change], known: Known, sender: Sender) -> Applied:
    """Apply the groups of one message in their order: all of them or, by Refused, none."""
    result, groups = Applied(known), list(changes)
    for change in groups:
        step = _ACTIONS[change.action](change, result.known, sender)
        result = Applied(
            step.known,
            result.notes + step.notes,
            {**result.renamed, **step.renamed},
            {**result.buried, **step.buried},
        )
        refuse_number_game(change, result.known, result.renamed)
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
    corrects = change.action is Action.UPDATE
    order = order_named(known, attributes, sender.issuer, corrects=corrects)
    known_sent = order.sent.get(sender.name, "") if order else ""
    notes: tuple[str, ...] = ()
    patient = _patient_for(change, known, sender, order)
    guard_numbers(change, known, sender.issuer, patient)
    if order is None:
        order = _new_order(change, sender, patient)
        notes = ("created by update",) if change.action is Action.UPDATE else ()
        notes += ("cancelled before",) if _buried(change, known, sender) else ()
    elif is_stale(sender.sent, known_sent):
        return Applied(known, ("stale",))
    patient = _told(patient, attributes, sender)
    known = known.with_patient(patient)
    order, renamed = _renamed(order, attributes, sender, known)
    order = with_procedure(order, attributes, revive=_newer(change, known_sent, sender))
    if "cancelled before" in notes:
        cancelled = {"status": StepStatus.CANCELLED}
        order = order.with_steps(lambda _, step: step.model_copy(update=cancelled))
    order = order.model_copy(
        update={
            "facts": order.facts.told(_said_of(order, attributes)),
            "flags": _flagged(order.flags, notes),
        }
    )
    demand_type_1(change, order, patient)
    if not _open(order):
        notes = (*notes, "finished")
    if renamed:
        notes = (*notes, "renamed")
        known = known.without_order(next(iter(renamed)))
    return Applied(known.with_order(order), notes, renamed)


def _stop(status: StepStatus) -> Callable[[Change, Known, Sender], Applied]:
    """End steps by order control; a running exam is never broken, only flagged."""

    def stop(change: Change, known: Known, sender: Sender) -> Applied:
        order = order_named(known, change.attributes, sender.issuer)
        if order is None:
            return _bury(change, known, sender)
        guard_order(change, known, sender.issuer, order)
        if is_stale(sender.sent, order.sent.get(sender.name, "")):
            return Applied(known, ("stale",))
        meant = steps_named(order, change.attributes, list(steps_of(change.attributes)))
        if not meant:
            return Applied(known, ("unknown order",))
        running = [step for _, step in meant if _runs(step, status)]
        notes = (f"{change.action.value} after start",) if running else ()

        def ended(procedure: Procedure, step: Step) -> Step:
            if (procedure, step) not in meant or step.status not in OPEN:
                return step
            return step.model_copy(
                update={"otherwise": status} if step in running else {"status": status}
            )

        order = order.with_steps(ended).model_copy(update={"flags": _flagged(order.flags, notes)})
        return Applied(known.with_order(order), notes)

    return stop


def _bury(change: Change, known: Known, sender: Sender) -> Applied:
    """Remember the end of an order that nobody knows yet, lest a late NW bring it to life."""
    names = tombstones(change.attributes, sender.issuer)[:1]
    told = {n: newest(dict(known.tombstones.get(n, {})), sender.name, sender.sent) for n in names}
    return Applied(known, ("unknown order",), buried={n: sent for n, sent in told.items() if sent})


def _buried(change: Change, known: Known, sender: Sender) -> bool:
    """Tell whether this sender has cancelled an order before it came: the cancel wins a tie."""
    ends = (
        known.tombstones.get(name, {}).get(sender.name, "")
        for name in tombstones(change.attributes, sender.issuer)
    )
    return any(end and not is_stale(end, sender.sent) for end in ends)


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
    Action.REFUSE: _ignore,  # the mapping has answered it before anything comes here
}


# --- patients


def _patient_for(change: Change, known: Known, sender: Sender, order: Order | None) -> Patient:
    if order:
        guard_order(change, known, sender.issuer, order)
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


def _runs(step: Step, ending: StepStatus) -> bool:
    """Tell whether an exam runs that order control must not end; the scanner alone ends its own."""
    by_scanner = IN_PROGRESS in step.performed.values()
    return step.status is StepStatus.STARTED and (by_scanner or ending is not StepStatus.COMPLETED)


def _open(order: Order) -> bool:
    return any(step.status in OPEN for _, step in order.steps())


def _same_visit(order: Order, visit: Attributes) -> bool:
    return agrees(order.facts, visit, "AdmissionID") is not False


def _flagged(flags: tuple[str, ...], notes: tuple[str, ...]) -> tuple[str, ...]:
    return (*flags, *(note for note in notes if note not in flags))
