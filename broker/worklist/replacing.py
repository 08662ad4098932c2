"""An order that takes the place of another one, which its message may name (ORC-8 of RO)."""

from __future__ import annotations

from dataclasses import replace

from broker.worklist.applied import Applied, Sender
from broker.worklist.changes import Action, Attributes, Change
from broker.worklist.ending import end
from broker.worklist.finding import REPLACED, Known, named_in, replaced
from broker.worklist.ordering import schedule


def schedule_instead(change: Change, known: Known, sender: Sender) -> Applied:
    """Schedule a new order and end the one that it replaces, or neither.

    The old one is of the same patient. One that nobody knows yet is remembered as ended.
    """
    if REPLACED not in change.attributes:
        return schedule(change, known, sender)
    itself = set(named_in(change.attributes, sender.issuer))
    result = Applied(known)
    for former in replaced(change.attributes):
        if set(named_in(former, sender.issuer)) - itself:
            old = replace(change, action=Action.CANCEL, attributes=_of_same_person(former, change))
            result = result.then(end(old, result.known, sender))
    said = {keyword: leaf for keyword, leaf in change.attributes.items() if keyword != REPLACED}
    return result.then(schedule(replace(change, attributes=said), result.known, sender))


def _of_same_person(former: Attributes, change: Change) -> Attributes:
    person = ("PatientID", "IssuerOfPatientID")
    return {**{k: change.attributes[k] for k in person if k in change.attributes}, **former}
