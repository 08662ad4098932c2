"""What a new, changed, moved or replaced order makes of the records."""

from __future__ import annotations

from dataclasses import replace

from broker.worklist.applied import FINISHED, NO_START, STALE, Applied, Sender
from broker.worklist.attributes import START_DATE, Kept, part, steps_of
from broker.worklist.changes import (
    FILLS_GAPS,
    SAID,
    Action,
    Attributes,
    Change,
    Ranked,
    text_of,
)
from broker.worklist.correcting import order_told, refuse_taken_accession
from broker.worklist.downtime import ORDERED_SINCE, ordered_since
from broker.worklist.ending import held, resumed
from broker.worklist.finding import Known
from broker.worklist.identity import (
    accession_issuer,
    order_key,
    order_number,
    patient_key,
    said_issuer,
)
from broker.worklist.naming import steps_named
from broker.worklist.numbering import LONGEST, number_by
from broker.worklist.persons import IDENTITY, MERGED_ID, needed_key, new_patient, with_order
from broker.worklist.records import (
    ENDED,
    OPEN,
    TYPED,
    WAITING,
    Facts,
    Order,
    Patient,
    Procedure,
    Step,
    StepStatus,
)
from broker.worklist.refusals import (
    Reason,
    Refused,
    demand_type_1,
    guard_numbers,
    guard_order,
    guard_size,
)
from broker.worklist.remembering import can_wait, early_slots, foretold, remember
from broker.worklist.scheduling import lacks_start, procedures_told
from broker.worklist.staleness import is_stale
from broker.worklist.takeover import taken_over

CORRECTS = frozenset({Action.UPDATE, Action.MOVE, Action.REPLACE})
ORDERED_AGAIN = "ordered again after its end"
ENDED_BEFORE, HELD_BEFORE = "cancelled before", "held before"
BOOKED_BEFORE = "booked before"


def schedule(change: Change, known: Known, sender: Sender) -> Applied:
    """Create the order that a group names, or change it; the patient is told as well."""
    corrects = change.action in CORRECTS
    before, (known, notes) = known, taken_over(change, known, sender)
    order = order_told(known, change.attributes, sender.issuer, corrects=corrects)
    if order is None and corrects and _has_no_accession(change, sender):
        return remember(change, known, sender)
    new = order is None
    if order is None:
        change, known = _numbered(change, known, sender)
    patient = _patient_for(change, known, sender, order)
    guard_numbers(change, known, sender.issuer, patient)
    if order and sender.is_late(order.sent):
        return Applied(before, (STALE,))
    said = foretold(change, known, sender, order)
    if order and order.by_hand and not sender.by_hand and change.action is not Action.MOVE:
        change, order = ordered_since(change, order)
        notes = (*notes, ORDERED_SINCE)
    if order is None:
        order = _new_order(change, sender, patient, flags=notes)
        notes = (*notes, "created by update") if corrects else notes
    else:
        refuse_taken_accession(change, known, sender.issuer, order, corrects=corrects)
    if change.action is Action.REPLACE:
        notes = (*notes, "to be replaced")
    if said is not None:
        notes = (*notes, HELD_BEFORE if said else ENDED_BEFORE)
    given_up = known.has_given_up(patient_key(change.attributes, sender.issuer), patient)
    known = known.with_patient(with_order(patient, change.attributes, known, sender))
    told = _told(change, known, sender, order, notes)
    for slot in early_slots(change, known, sender) if new and known.tombstones else ():
        moved = replace(change, action=Action.MOVE, attributes=slot)
        made = told.known.order(order_key(change.attributes, sender.issuer))
        if made:
            told = told.then(_told(moved, told.known, sender, made, (BOOKED_BEFORE,)))
    return replace(told, notes=(*told.notes, MERGED_ID)) if given_up else told


def _has_no_accession(change: Change, sender: Sender) -> bool:
    """Tell whether an appointment has to wait for its order, of which it cannot say the number."""
    if change.numbering or order_key(change.attributes, sender.issuer):
        return False
    return can_wait(change, sender)


def _told(
    change: Change, known: Known, sender: Sender, order: Order, notes: tuple[str, ...]
) -> Applied:
    """Tell an order what a group says of it; it must leave a whole worklist item."""
    together = sender.replayed or order.key in known.together
    rival = order.sent.get(sender.name, "") if together else ""
    order, renamed = _renamed(order, change.attributes, sender, known)
    order = resumed(order, change.attributes)
    procedures = procedures_told(
        order,
        change.attributes,
        revive=lambda step: (
            _revives(change, step, rival, sender)
            and not (ORDERED_SINCE in notes and step.performed)
        ),
        slot=change.action is Action.MOVE,
    )
    order = _with_facts(order, procedures, change.attributes, notes)
    if ENDED_BEFORE in notes or HELD_BEFORE in notes:
        order = _as_foretold(order, change.attributes, sender, ends=ENDED_BEFORE in notes)
    guard_size(change, order)
    demand_type_1(change, order, known.patients[order.patient])
    if not any(step.status in OPEN for _, step in order.steps()):
        notes = (*notes, FINISHED)
        order = order if ORDERED_SINCE in notes else _flagged(order, change)
    if poorer := _ignored(change.attributes, order, known.patients[order.patient]):
        notes = (*notes, f"weaker source ignored: {', '.join(poorer)}")
    if any(map(lacks_start, steps_of(change.attributes))) and _is_guessed(order):
        notes = (*notes, NO_START)
    if renamed:
        notes = (*notes, "renamed")
        known = known.without_order(next(iter(renamed)))
    return Applied(known.with_order(order), notes, renamed)


def _flagged(order: Order, change: Change) -> Order:
    """Flag an order that is sent as new although it was performed: `broker show` tells people."""
    done = any(step.status is StepStatus.COMPLETED for _, step in order.steps())
    if change.action is not Action.SCHEDULE or not done or ORDERED_AGAIN in order.flags:
        return order
    return order.model_copy(update={"flags": (*order.flags, ORDERED_AGAIN)})


def _as_foretold(order: Order, attributes: Attributes, sender: Sender, *, ends: bool) -> Order:
    """End or hold the steps that a group means, if that was said before it came."""
    meant = steps_named(order, attributes, list(steps_of(attributes)))
    cancelled = {"status": StepStatus.CANCELLED, "ended_by": sender.name}

    def changed(procedure: Procedure, step: Step) -> Step:
        if (procedure, step) not in meant or step.status not in WAITING:
            return step
        return step.model_copy(update=cancelled) if ends else held(step)

    return order.with_steps(changed)


def _with_facts(
    order: Order,
    procedures: tuple[Procedure, ...],
    attributes: Attributes,
    notes: tuple[str, ...],
) -> Order:
    facts = order.facts.told(_said_of(order, attributes))
    flags = (*order.flags, *(note for note in notes if note not in order.flags))
    return order.altered(procedures=procedures, facts=facts, flags=flags)


def _ignored(attributes: Attributes, order: Order, patient: Patient) -> list[str]:
    """Name what was said in a poorer place only and is stored nowhere, since a better one stays."""
    above = [patient.facts, order.facts, *(procedure.facts for procedure in order.procedures)]
    poorer = [k for k, leaf in _poorer(attributes) if not _among(k, leaf, above)]
    steps = [step.facts for _, step in order.steps()]
    for item in steps_of(attributes):
        poorer += [k for k, leaf in _poorer(item) if not _among(k, leaf, steps)]
    return [keyword for keyword in dict.fromkeys(poorer) if keyword not in IDENTITY]


def _is_guessed(order: Order) -> bool:
    """Tell whether nobody has ever said when a step of an order is to begin."""
    return any(step.facts.ranks.get(START_DATE) == FILLS_GAPS for _, step in order.steps())


def _poorer(attributes: Attributes) -> list[tuple[str, Ranked]]:
    return [
        (keyword, leaf)
        for keyword, leaf in attributes.items()
        if leaf.__class__ is Ranked and SAID < leaf.rank < FILLS_GAPS
    ]


def _among(keyword: str, leaf: Ranked, stored: list[Facts]) -> bool:
    return any(facts.attributes.get(keyword) == leaf.value for facts in stored)


def _patient_for(change: Change, known: Known, sender: Sender, order: Order | None) -> Patient:
    if order:
        guard_order(change, known, sender.issuer, order)
        return known.patients[order.patient]
    key = needed_key(change.attributes, sender)
    return known.patient(key) or new_patient(change.attributes, sender)


def _new_order(change: Change, sender: Sender, patient: Patient, flags: tuple[str, ...]) -> Order:
    accession = text_of(change.attributes, "AccessionNumber").strip()
    if not accession:
        raise Refused(
            Reason.NO_ACCESSION,
            change.location,
            "no accession number, and no known order has these order numbers",
            "map AccessionNumber from the field that holds it",
        )
    issuer = accession_issuer(change.attributes, sender.issuer)
    return Order.made(
        issuer=issuer,
        accession=accession,
        patient=patient.key,
        source=sender.issuer,
        flags=(*flags, TYPED) if sender.by_hand else flags,
    )


def _numbered(change: Change, known: Known, sender: Sender) -> tuple[Change, Known]:
    """Give an order that comes without an accession number the next one of ours.

    It is remembered by the order itself, which a resend finds by its placer or filler number.
    """
    if not change.numbering or order_key(change.attributes, sender.issuer):
        return change, known
    named = any(order_number(change.attributes, r, sender.issuer) for r in ("Placer", "Filler"))
    if not (named or sender.by_hand):  # a person is told the number, and sends nothing twice
        raise Refused(
            Reason.NO_ACCESSION,
            change.location,
            "no order number by which a generated accession number could be found again",
            "send a placer or filler number",
        )
    known = known.with_given()
    number = number_by(change.numbering, known.given)
    if len(number) > LONGEST:
        raise Refused(
            Reason.NO_ACCESSION,
            change.location,
            f"the next generated number has more than {LONGEST} characters",
            "shorten what stands before its digits in the pattern of the mapping",
        )
    said = {**change.attributes, "AccessionNumber": Ranked(number, FILLS_GAPS)}
    return replace(change, attributes=said), known


def _revives(change: Change, step: Step, rival: str, sender: Sender) -> bool:
    """Tell whether a change takes up a step that was cancelled.

    A cancel that was on its way at the same time, and sent at `rival`, wins a tie. After its answer
    arrival decides: RISs write seconds or minutes, and cancel and order anew within one.

    A new order does; another slot does too for what the same sender has ended, such as a visit that
    was missed, but not for what a RIS has cancelled.
    """
    replayed = sender.replayed and not sender.force
    if step.status not in ENDED or ((rival or replayed) and not is_stale(rival, sender.sent)):
        return False
    moved = change.action is Action.MOVE and step.ended_by == sender.name
    return moved or change.action is Action.SCHEDULE


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
