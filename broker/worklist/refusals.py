"""What must not be applied, and why: wrong patients and orders that are not whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from broker.worklist.attributes import STEPS, TYPE_1
from broker.worklist.changes import Change
from broker.worklist.finding import Known, named_in
from broker.worklist.identity import patient_key
from broker.worklist.naming import same_patient
from broker.worklist.records import Order, Patient

MOST_STEPS = 200


class Reason(StrEnum):
    """Why a change is refused."""

    WRONG_PATIENT = "wrong patient"
    NO_PATIENT = "no patient"
    NO_ACCESSION = "no accession"
    INCOMPLETE = "incomplete"
    CONTRADICTION = "contradiction"
    CIRCULAR = "circular"
    BEGUN = "begun"
    TOO_MANY = "too many"
    NO_NUMBER = "no number"
    AMBIGUOUS = "ambiguous"


class Refused(Exception):
    """A change that must not be applied; says the fact and the remedy, never patient data."""

    def __init__(self, reason: Reason, location: str, fact: str, remedy: str) -> None:
        super().__init__(f"{location}: {fact}; {remedy}")
        self.reason, self.location, self.fact, self.remedy = reason, location, fact, remedy

    def within(self, group: str) -> Refused:
        """Return the same with a place that tells which of several groups it is about."""
        kind, _, number = group.partition("[")
        if not number or "[" in self.location:
            return self
        segment, _, field = self.location.partition("-")
        place = f"{segment}[{number}-{field}" if kind == "PID" else group
        return Refused(self.reason, place, self.fact, self.remedy)


def guard_size(change: Change, order: Order | None = None) -> None:
    """Refuse a group, or the order that it makes, with more steps than any exam has.

    Each is held against every other: their number must not be the sender's to choose.
    """
    said = len(change.attributes.get(STEPS) or ())
    has = sum([len(procedure.steps) for procedure in order.procedures]) if order else 0
    if max(said, has) > MOST_STEPS:
        raise Refused(
            Reason.TOO_MANY,
            change.location,
            f"more than {MOST_STEPS} steps under one accession number",
            "send orders under accession numbers of their own",
        )


def guard_order(change: Change, known: Known, issuer: str, order: Order) -> None:
    """Refuse a message about an order of another patient (never merge two people)."""
    named = known.patient(patient_key(change.attributes, issuer))
    if named and named.key == order.patient:
        return
    holder = known.patients[order.patient]
    if not same_patient(change.attributes, holder):
        raise _wrong_patient("accession, filler or placer number")


def guard_numbers(change: Change, known: Known, issuer: str, patient: Patient) -> None:
    """Refuse a study UID or order number that an order of another patient already has."""
    if not known.orders:
        return
    for number in named_in(change.attributes, issuer):
        if any(order.patient != patient.key for order in known.with_number(number)):
            raise _wrong_patient("study UID, order number or appointment")


def _wrong_patient(number: str) -> Refused:
    return Refused(
        Reason.WRONG_PATIENT,
        "PID-3",
        f"this {number} belongs to another patient",
        "send the right patient ID, or cancel the order under the wrong one first; "
        "merge (A40) only two IDs of one person",
    )


def refuse_number_game(change: Change, known: Known, renamed: Mapping[str, str]) -> None:
    """Refuse a message that takes an accession number from one order and gives it to another."""
    if renamed and renamed.keys() & (known.orders.keys() | set(renamed.values())):
        raise Refused(
            Reason.CONTRADICTION,
            change.location,
            "an accession number is corrected and used anew in one message",
            "send the correction first, then the other order",
        )


def demand_type_1(change: Change, order: Order, patient: Patient) -> None:
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
    steps = list(order.steps())
    if not steps:
        yield STEPS
    for procedure, step in steps:
        held = {
            **patient.facts.attributes,
            **order.facts.attributes,
            **procedure.facts.attributes,
            **step.facts.attributes,
        }
        yield from (keyword for keyword in TYPE_1 if not held.get(keyword))
