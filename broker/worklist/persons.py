"""What is said about a patient: every open step of that one shows it, nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.worklist.applied import STALE, Applied, Sender
from broker.worklist.attributes import START_DATE, STEPS, Kept, keeper, part, steps_of
from broker.worklist.changes import (
    FILLS_GAPS,
    OF_PATIENTS,
    Action,
    Attributes,
    Change,
    Ranked,
    plain,
    text_of,
)
from broker.worklist.finding import Known, heard_of
from broker.worklist.identity import PRIOR, patient_key
from broker.worklist.naming import agrees
from broker.worklist.policies import PatientFrom
from broker.worklist.records import OPEN, Order, Patient, Step, StepStatus
from broker.worklist.refusals import Reason, Refused
from broker.worklist.staleness import is_credible, is_stale, newest

VISIT = "AdmissionID"
OF_ONE_ORDER = {STEPS, "AccessionNumber", "IssuerOfAccessionNumberSequence"}
"""What a patient message says to no order: it would lead several of them to one number."""
IDENTITY = frozenset({"PatientID", "IssuerOfPatientID", PRIOR})
HEADER = frozenset(
    {
        *IDENTITY,
        "IssuerOfPatientIDQualifiersSequence",
        "OtherPatientIDsSequence",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
    }
)
"""What is kept of a patient without orders. Hospitals tell of everybody; the rest comes with the
order. Without the name an order that is older than a correction would bring the old one back."""
ADT = "ADT"
"""Among the clocks of senders that of all patient messages: no sender has this name."""
MERGED_ID = "patient ID merged before"


def reaches_orders(change: Change) -> bool:
    """Tell whether a patient message is about orders too: a name is the patient's alone."""
    if change.action is not Action.PATIENT:
        return change.action in OF_PATIENTS
    return any(keeper(keyword) is Kept.ORDER for keyword in change.attributes if keyword != STEPS)


def needed_key(attributes: Attributes, sender: Sender) -> str:
    """Give the key of the patient that a message must name. Raises Refused."""
    key = patient_key(attributes, sender.issuer)
    if key is None:
        raise Refused(
            Reason.NO_PATIENT, "PID-3", "no patient ID", "send an identifier that the mapping reads"
        )
    return key


def new_patient(attributes: Attributes, sender: Sender) -> Patient:
    """Make a patient that has had no order yet."""
    issuer = text_of(attributes, "IssuerOfPatientID").strip() or sender.issuer
    patient_id = text_of(attributes, "PatientID").strip()
    return Patient.made(issuer=issuer, patient_id=patient_id, slim=True)


def with_order(patient: Patient, attributes: Attributes, known: Known, sender: Sender) -> Patient:
    """Tell a patient what the PID of an order says; from now on all of it is kept.

    What is late, or says an ID that was given up, or what patient messages alone may say, only
    fills gaps.
    """
    said = demographics(patient, attributes)
    if sender.is_late(known.heard(patient)):
        # Nobody erased what a slim record never kept.
        kept = HEADER - {"PatientName"} if patient.slim else said.keys() - {"PatientName"}
        said = _only_gaps({k: v for k, v in said.items() if k not in kept})
        return patient.model_copy(update={"facts": patient.facts.told(said), "slim": False})
    if known.has_given_up(patient_key(attributes, sender.issuer), patient):
        facts = patient.facts.told(_only_gaps(said))
        return patient.model_copy(update={"facts": facts, "slim": False})
    if _adt_counts(patient, known, sender):
        said = _beside_adt(patient, said)
    return _told(patient, said, sender)


def _adt_counts(patient: Patient, known: Known, sender: Sender) -> bool:
    """Tell whether the word of patient messages comes before that of this order.

    Clocks of two senders are compared only where both can be right; else the last word counts.
    """
    if not patient.by_adt or sender.policies.patient_from is PatientFrom.ADT:
        return patient.by_adt
    heard = known.heard(patient)
    older = is_credible(sender.sent, sender.received) and is_stale(sender.sent, heard.get(ADT, ""))
    return not sender.force and (older or (sender.replayed and sender.is_before(heard)))


def _beside_adt(patient: Patient, said: Attributes) -> Attributes:
    """Give what an order says that patient messages have not said, nor erased."""
    theirs = _of_adt(patient)
    erased = set(patient.told_by_adt) - patient.facts.attributes.keys()
    return {
        **{k: v for k, v in said.items() if k not in theirs},
        **_only_gaps({k: v for k, v in said.items() if k in theirs - erased}),
    }


def _of_adt(patient: Patient) -> frozenset[str]:
    """Give what patient messages have said; without orders a patient has nothing else."""
    return frozenset(patient.told_by_adt) or HEADER & patient.facts.attributes.keys()


def first_word(attributes: Attributes, sender: Sender) -> Patient:
    """Make a patient of whom a patient message speaks first."""
    return _by_adt(new_patient(attributes, sender), attributes, sender)


def update_patient(change: Change, known: Known, sender: Sender) -> Applied:
    """Apply a patient message to the patient and to the open orders of the visit it names."""
    key = needed_key(change.attributes, sender)
    stored = known.patient(key)
    if stored and sender.is_late(known.heard(stored)):
        return Applied(known, (STALE,))
    if stored is None:
        told = first_word(change.attributes, sender)
        return Applied(_of_visit(change.attributes, known, told).with_patient(told))
    given_up = known.has_given_up(key, stored)
    told = (_in_gaps if given_up else _by_adt)(stored, change.attributes, sender)
    visited = _of_visit(change.attributes, known, told)
    notes = (MERGED_ID,) if given_up else ()
    if told.model_copy(update={"sent": stored.sent}) != stored:
        return Applied(visited.with_patient(told), notes)
    heard = _adt_heard(known.heard(stored), sender)
    silent = {heard_of(stored.key): heard} if heard and not given_up else {}
    unchanged = () if visited.orders != known.orders else ("unchanged",)
    return Applied(visited, (*notes, *unchanged), heard=silent)


def arrive(change: Change, known: Known, sender: Sender) -> Applied:
    """Note that the patient is here: steps of the visit are ARRIVED, else those of that day."""
    return _attend(change, known, sender, {StepStatus.SCHEDULED: StepStatus.ARRIVED}, _of_day)


def depart(change: Change, known: Known, sender: Sender) -> Applied:
    """Note that the patient is gone, or never came: what has not begun is SCHEDULED again."""
    back = {StepStatus.ARRIVED: StepStatus.SCHEDULED, StepStatus.READY: StepStatus.SCHEDULED}
    return _attend(change, known, sender, back, lambda _attributes, _step: True)


def _attend(
    change: Change,
    known: Known,
    sender: Sender,
    statuses: dict[StepStatus, StepStatus],
    without_visit: Callable[[Attributes, Step], bool],
) -> Applied:
    """Give steps another status: all of the visit that is named, of orders of no visit some."""
    applied = update_patient(change, known, sender)
    if STALE in applied.notes:
        return applied
    after = applied.known
    person = after.patient_named(needed_key(change.attributes, sender))
    for order in list(after.orders.values()):
        visit = _same_visit(order, change.attributes)
        if order.patient != person or visit is False:
            continue

        def attended(_: object, step: Step, visit: bool | None = visit) -> Step:
            meant = visit or without_visit(change.attributes, step)
            status = statuses.get(step.status) if meant and not step.performed else None
            return step.model_copy(update={"status": status}) if status else step

        changed = order.with_steps(attended)
        if changed != order:
            after = after.with_order(changed)
    moved = after.orders != applied.known.orders
    notes = tuple(note for note in applied.notes if not (moved and note == "unchanged"))
    return replace(applied, known=after, notes=notes)


def _of_day(attributes: Attributes, step: Step) -> bool:
    """Tell whether a step is of the day that the message tells of; without one every step is."""
    days = [text_of(item, START_DATE) for item in steps_of(attributes)]
    return not any(days) or step.facts.text(START_DATE) in days


def _of_visit(attributes: Attributes, known: Known, patient: Patient) -> Known:
    """Tell the open orders of the visit what is said of it.

    Without a visit number it is of the only visit that the patient's open orders name; where they
    name several, nobody can say which, and only orders of no visit are told.
    """
    visit = part({k: v for k, v in attributes.items() if k not in OF_ONE_ORDER}, Kept.ORDER)
    unnamed = not text_of(visit, VISIT)
    orders = [o for o in known.orders.values() if o.patient == patient.key and _open(o)]
    one_visit = len({o.facts.text(VISIT) for o in orders} - {""}) < 2
    for order in orders if visit else ():
        same = _same_visit(order, visit)
        if not (same or (unnamed and (same is None or one_visit))):
            continue
        facts = order.facts.told(visit)
        if facts != order.facts:
            known = known.with_order(order.model_copy(update={"facts": facts}))
    return known


def _same_visit(order: Order, said: Attributes) -> bool | None:
    """Tell whether an order is of the visit that a message names; None when nobody can say.

    A message without a visit says nothing of an order that names one: that may be another.
    """
    if order.facts.text(VISIT) and not text_of(said, VISIT):
        return False
    return agrees(order.facts, said, VISIT)


def _open(order: Order) -> bool:
    return any(step.status in OPEN for _, step in order.steps())


def demographics(patient: Patient, attributes: Attributes) -> Attributes:
    """Give what is said of a patient, with the ID and the issuer by which this one is known."""
    said = {k: v for k, v in part(attributes, Kept.PATIENT).items() if k not in IDENTITY}
    return {"PatientID": patient.patient_id, "IssuerOfPatientID": patient.issuer or None, **said}


def _by_adt(patient: Patient, attributes: Attributes, sender: Sender) -> Patient:
    said = _said_of(patient, attributes)
    theirs = _of_adt(patient) if patient.by_adt else frozenset()
    told = () if patient.slim else tuple(sorted((theirs | said.keys()) - IDENTITY))
    sent = _adt_heard(patient.sent, sender)
    facts = patient.facts.told(said)
    update = {"facts": facts, "sent": sent, "by_adt": True, "told_by_adt": told}
    return patient.model_copy(update=update)


def _in_gaps(patient: Patient, attributes: Attributes, _sender: Sender) -> Patient:
    """Tell a patient what is said of an ID that was given up: perhaps that of somebody else."""
    facts = patient.facts.told(_only_gaps(_said_of(patient, attributes)))
    return patient.model_copy(update={"facts": facts})


def _said_of(patient: Patient, attributes: Attributes) -> Attributes:
    said = demographics(patient, attributes)
    return {k: v for k, v in said.items() if k in HEADER} if patient.slim else said


def _adt_heard(heard: Mapping[str, str], sender: Sender) -> dict[str, str]:
    """Remember when a patient message was sent; among other clocks only if that can be right."""
    times = sender.stamped(heard)
    return newest(times, ADT, sender.sent) if is_credible(sender.sent, sender.received) else times


def _only_gaps(said: Attributes) -> Attributes:
    return {k: Ranked(plain(v), FILLS_GAPS) for k, v in said.items() if plain(v) is not None}


def _told(patient: Patient, said: Attributes, sender: Sender) -> Patient:
    facts, sent = patient.facts.told(said), sender.stamped(patient.sent)
    return patient.altered(facts=facts, sent=sent, slim=False)
