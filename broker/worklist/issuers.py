"""One issuer of patient IDs under two names: a namespace, and the universal ID said beside it."""

from __future__ import annotations

from broker.worklist.applied import Applied, Sender
from broker.worklist.changes import Change
from broker.worklist.finding import Known, separated_of
from broker.worklist.identity import parted, patient_key, universal_key
from broker.worklist.merging import with_all_of
from broker.worklist.records import Patient

TWO_NAMES = "patient known by the universal ID of the issuer"


def reconciled(change: Change, known: Known, sender: Sender) -> Applied:
    """Let the universal ID that a message gives beside a namespace lead to the same person.

    Who is known by it alone so far is the one whom the message names. A universal ID that leads to
    somebody else already is not believed: two people are never made one by it.
    """
    other = universal_key(change.attributes)
    key = patient_key(change.attributes, sender.issuer)
    if other is None or key is None or known.patient_named(other) != other:
        return Applied(known)
    if separated_of(other) in known.tombstones:
        return Applied(known)
    key = known.patient_named(key)
    goes = known.patients.get(other)
    if goes is None:
        return Applied(known.without_patient(other, {other: key}), merged={other: key})
    stays = _named(key, known.patients.get(key), goes)
    known = known.without_patient(other, {other: key}).with_patient(stays)
    for order in list(known.orders.values()):
        if order.patient == other:
            known = known.with_order(order.model_copy(update={"patient": key}))
    return Applied(known, (TWO_NAMES,), merged={other: key})


def _named(key: str, stays: Patient | None, goes: Patient) -> Patient:
    """Give the patient who has the name now: whoever had it, else the one without it."""
    if stays is not None:
        return with_all_of(stays, goes)
    issuer = parted(key)[0]
    facts = goes.facts.told({"IssuerOfPatientID": issuer})
    return goes.model_copy(update={"issuer": issuer, "facts": facts})
