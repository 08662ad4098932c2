"""The first word about an order: nothing is stored that it could contradict, so it is as it says.

Gives what `ordering.schedule` makes of such a message, for a third of its time, and leaves to it
whatever has to be weighed, noted or refused. Nearly every new order is of one step and plain.
"""

from __future__ import annotations

from typing import Any

from broker.worklist.applied import Sender
from broker.worklist.attributes import STATUS, STEPS, TYPE_1, Kept, kept_apart, part
from broker.worklist.changes import FILLS_GAPS, SAID, Action, Attributes, Change, Ranked, text_of
from broker.worklist.finding import REPLACED, STEP_ID, Known
from broker.worklist.identity import accession_issuer, derived_uid, patient_key, universal_key
from broker.worklist.persons import IDENTITY, demographics, new_patient, with_order
from broker.worklist.policies import MissingSteps
from broker.worklist.records import OPEN, STATUSES, Facts, Order, Patient, Procedure, Step
from broker.worklist.scheduling import SH_LENGTH, lacks_start

PROCEDURE_ID, STUDY = "RequestedProcedureID", "StudyInstanceUID"


def first_word(change: Change, known: Known, sender: Sender) -> Known | None:
    """Give the records with the order that a plain message schedules, None of any other one."""
    said = change.attributes
    if not _is_plain(change, known, sender):
        return None
    accession = text_of(said, "AccessionNumber").strip()
    patient = _patient(said, known, sender)
    procedure = _procedure(said, accession, sender) if accession else None
    if patient is None or procedure is None:
        return None
    facts = Facts.first(part(said, Kept.ORDER))
    if not _is_whole(patient, facts, procedure):
        return None
    order = Order.made(
        issuer=accession_issuer(said, sender.issuer),
        accession=accession,
        patient=patient.key,
        source=sender.issuer,
        facts=facts,
        procedures=(procedure,),
        sent=sender.stamped({}),
    )
    return known.with_both(order, patient)


def _is_plain(change: Change, known: Known, sender: Sender) -> bool:
    """Tell whether nothing but the message itself decides what becomes of it."""
    said = change.attributes
    return (
        change.action is Action.SCHEDULE
        and not (known.orders or known.tombstones or known.aliases)
        and not (change.refused or change.numbering or sender.by_hand)
        and sender.policies.missing_steps is not MissingSteps.CANCEL
        and len(said.get(STEPS) or ()) == 1
        and REPLACED not in said
        and kept_apart(said) == (STEPS,)
        and universal_key(said) is None
    )


def _patient(said: Attributes, known: Known, sender: Sender) -> Patient | None:
    key = patient_key(said, sender.issuer)
    if key is None:
        return None
    if patient := known.patients.get(key):
        poorer = any(_is_poorer(said[k]) for k in part(said, Kept.PATIENT).keys() - IDENTITY)
        return None if poorer else with_order(patient, said, known, sender)
    patient = new_patient(said, sender)
    facts = Facts.first(demographics(patient, said))
    return patient.altered(facts=facts, sent=sender.stamped({}), slim=False)


def _procedure(said: Attributes, accession: str, sender: Sender) -> Procedure | None:
    own, name = part(said, Kept.PROCEDURE), text_of(said, PROCEDURE_ID)
    if not name and len(accession) > SH_LENGTH:
        return None
    name = name or accession
    step = _step(said[STEPS][0], name)
    if step is None:
        return None
    if PROCEDURE_ID not in said or _is_guess(said[PROCEDURE_ID]):
        own = {PROCEDURE_ID: "", **own} | {PROCEDURE_ID: Ranked(name, FILLS_GAPS)}
    facts = Facts.first(own)
    if _stands_on_others(own) or PROCEDURE_ID not in facts.attributes:
        return None
    if STUDY not in facts.attributes:
        if STUDY in said:
            return None
        study = derived_uid(accession_issuer(said, sender.issuer), accession, name)
        facts = facts.with_guess(STUDY, study)
    return Procedure.made(id=name, facts=facts, steps=(step,))


def _step(item: Attributes, procedure_id: str) -> Step | None:
    leaf = item.get(STATUS)
    if _is_poorer(leaf) or lacks_start(item):
        return None
    name = text_of(item, STEP_ID) or procedure_id
    facts = Facts.first({k: v for k, v in item.items() if k != STATUS})
    if STEP_ID not in facts.attributes:
        if _stands_on_others(item) or STEP_ID in item:
            return None
        facts = facts.with_guess(STEP_ID, name)
    said = leaf.value if leaf.__class__ is Ranked else leaf
    status = STATUSES.get(said or "")
    return Step.made(id=name, facts=facts, **({"status": status} if status else {}))


def _is_whole(patient: Patient, facts: Facts, procedure: Procedure) -> bool:
    """Tell whether an order has all type 1 attributes (Table K.6-1) and may be performed."""
    (step,) = procedure.steps
    held = {
        **patient.facts.attributes,
        **facts.attributes,
        **procedure.facts.attributes,
        **step.facts.attributes,
    }
    return step.status in OPEN and all(map(held.get, TYPE_1))


def _stands_on_others(said: Attributes) -> bool:
    """Tell whether a default was worked out from what the message says, which has to hold still."""
    return any(leaf.__class__ is Ranked and leaf.stands_on for leaf in said.values())


def _is_poorer(leaf: Any) -> bool:
    return leaf.__class__ is Ranked and SAID < leaf.rank < FILLS_GAPS


def _is_guess(leaf: Any) -> bool:
    return leaf.__class__ is Ranked and leaf.rank >= FILLS_GAPS and leaf.stands_on is None
