"""What must not be applied, and why: wrong patients and orders that are not whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from broker.worklist.attributes import ROWS, STEPS
from broker.worklist.changes import Change
from broker.worklist.finding import Known, identifiers, named_in, same_patient
from broker.worklist.identity import patient_key
from broker.worklist.records import Order, Patient, items


class Reason(StrEnum):
    """Why a change is refused."""

    WRONG_PATIENT = "wrong patient"
    NO_PATIENT = "no patient"
    NO_ACCESSION = "no accession"
    INCOMPLETE = "incomplete"
    CONTRADICTION = "contradiction"


class Refused(Exception):
    """A change that must not be applied; says the fact and the remedy, never patient data."""

    def __init__(self, reason: Reason, location: str, fact: str, remedy: str) -> None:
        super().__init__(f"{location}: {fact}; {remedy}")
        self.reason, self.location, self.fact, self.remedy = reason, location, fact, remedy


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
    named = set(named_in(change.attributes, issuer))
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


def refuse_number_game(change: Change, known: Known, renamed: Mapping[str, str]) -> None:
    """Refuse a message that takes an accession number from one order and gives it to another."""
    if renamed.keys() & (known.orders.keys() | set(renamed.values())):
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
    worklist = list(items(order, patient))
    if not worklist:
        yield STEPS
    for item in worklist:
        held = {**item.attributes, **item.attributes[STEPS][0]}
        yield from (k for k, row in ROWS.items() if row.returned == "1" and not held.get(k))
