"""Two records of one person become one (A40, A18, A34, A47): orders move, the old ID leads on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.worklist.applied import Applied, Sender
from broker.worklist.changes import FILLS_GAPS, Change, Ranked
from broker.worklist.finding import Known, separated_of
from broker.worklist.identity import prior_keys
from broker.worklist.persons import IDENTITY, first_word, needed_key
from broker.worklist.records import Order, Patient
from broker.worklist.refusals import Reason, Refused


def merge(change: Change, known: Known, sender: Sender) -> Applied:
    """Merge the prior patients of one PID and MRG pair into the patient of the PID.

    A merge is never late: it says nothing that a newer message could have said otherwise.
    """
    key = needed_key(change.attributes, sender)
    priors = prior_keys(change.attributes, sender.issuer)
    if not priors:
        raise Refused(
            Reason.NO_PATIENT,
            "MRG-1",
            "no prior patient ID of a type that the mapping reads",
            "send in MRG-1 the identifier that is given up, as its type says one of PID-3 (not SS)",
        )
    result = Applied(known)
    for candidates in priors:
        result = result.then(_merged(candidates, key, change, result.known, sender))
    return result


class Separated(NamedTuple):
    """The survivor of a merge that was undone, before and after; its orders stay its own.

    No message says which of them are the other one's: a person has to.
    """

    before: Patient
    after: Patient
    orders: tuple[Order, ...]


def separated(key: str, known: Known) -> Separated | None:
    """Undo the merge of a patient key into another one; None when it was not merged."""
    survivor = known.patient(key)
    if survivor is None or not known.has_given_up(key, survivor):
        return None
    former = tuple(each for each in survivor.former if each != key)
    mine = [order for order in known.orders.values() if order.patient == survivor.key]
    orders = tuple(sorted(mine, key=lambda order: order.key))
    return Separated(survivor, survivor.model_copy(update={"former": former}), orders)


def _merged(
    candidates: Sequence[str], key: str, change: Change, known: Known, sender: Sender
) -> Applied:
    prior = _known_among(candidates, known)
    if prior == key:
        return Applied(known, ("merge of a patient with itself",))
    survivor, given_up = known.patient_named(key), known.patient_named(prior)
    if survivor == given_up and survivor == prior:
        raise Refused(
            Reason.CIRCULAR,
            "MRG-1",
            "the surviving patient was merged into the other one before",
            "send the merge with the ID that is in use as the surviving one",
        )
    if survivor == given_up:
        return Applied(known, ("merged before",))
    if sender.replayed and not sender.force and separated_of(prior) in known.tombstones:
        return Applied(known, ("separated since",))
    return _joined(survivor, prior, given_up, change, known, sender)


def _known_among(candidates: Sequence[str], known: Known) -> str:
    for key in candidates:
        if known.patient(key) or known.patient_named(key) != key:
            return key
    return candidates[0]


def _joined(
    survivor: str, prior: str, given_up: str, change: Change, known: Known, sender: Sender
) -> Applied:
    goes = known.patients.get(given_up)
    stays = known.patients.get(survivor) or first_word(change.attributes, sender)
    former = dict.fromkeys((*stays.former, prior, given_up, *(goes.former if goes else ())))
    former.pop(stays.key, None)
    stays = stays.model_copy(update={"former": tuple(former)})
    if goes:
        stays = with_all_of(stays, goes)
    merged = {old: stays.key for old in former}
    known = known.without_patient(given_up, merged).with_patient(stays)
    for order in list(known.orders.values()):
        if order.patient == given_up:
            known = known.with_order(order.model_copy(update={"patient": stays.key}))
    return Applied(known, ("merged",), merged=merged)


def with_all_of(stays: Patient, goes: Patient) -> Patient:
    """Fill gaps of a patient of whom little is known; a merge corrects nothing by itself."""
    if not stays.slim:
        return stays
    held = {
        keyword: Ranked(value, FILLS_GAPS)
        for keyword, value in goes.facts.attributes.items()
        if keyword not in IDENTITY
    }
    return stays.model_copy(update={"facts": stays.facts.told(held), "slim": goes.slim})
