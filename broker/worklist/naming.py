"""Which order, procedure and step a message names, and which of them it contradicts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from broker.worklist.changes import FILLS_GAPS, SAID, Attributes, Ranked, plain, text_of
from broker.worklist.finding import NUMBERS, STEP_ID, Known, accession_alone, identifiers, named_in
from broker.worklist.identity import order_key, order_number, universal_issuer
from broker.worklist.records import Facts, Order, Patient, Procedure, Step

_OID = re.compile(r"[0-2](\.\d+)+")


def order_named(
    known: Known, attributes: Attributes, issuer: str, *, corrects: bool = False
) -> Order | None:
    """Find the stored order: by accession number, else by filler, then by placer number alone.

    Numbers are shared and given anew: an order whose accession or order numbers contradict what is
    said is another one. Only a message that `corrects` may find, by its filler number, an order
    under another accession number, and no order of its own.
    """
    if not known.orders:
        return None
    key = order_key(attributes, issuer)
    found = known.order(key)
    if found and (found.key == key or not other_numbers(found, attributes, issuer)):
        return found
    for identifier in (*accession_alone(attributes), *named_in(attributes, issuer)):
        holders = [
            order
            for order in known.with_number(identifier)
            if _may_be(order, attributes, identifier.kind, issuer, corrects=corrects)
        ]
        if len(holders) == 1:
            return holders[0]
    return None


def _may_be(
    order: Order, attributes: Attributes, kind: str, issuer: str, *, corrects: bool
) -> bool:
    """Tell whether an order found by one kind of number can be the one that is meant."""
    if kind == "accession":
        return order.source == issuer
    other_accession = agrees(order.facts, attributes, "AccessionNumber") is False
    if kind == "filler":
        return not other_accession or (corrects and bool(order.sent))
    if kind == "appointment":
        return not (other_accession or other_numbers(order, attributes, issuer))
    return kind == "placer" and not (
        other_accession or other_numbers(order, attributes, issuer, roles=("Filler",))
    )


def of_appointment(known: Known, attributes: Attributes, issuer: str) -> list[Order]:
    """Give the orders that share an appointment, when that is all a message says of an order."""
    if not known.orders or order_key(attributes, issuer):
        return []
    wanted_ones = list(named_in(attributes, issuer))
    if {identifier.kind for identifier in wanted_ones} - {"appointment"}:
        return []
    found = (order for each in wanted_ones for order in known.with_number(each))
    return list({order.key: order for order in found}.values())


def other_numbers(
    order: Order,
    attributes: Attributes,
    issuer: str,
    roles: tuple[str, ...] = ("Filler", "Placer"),
) -> bool:
    """Tell whether a message gives an order number where the order has others, and not this one."""
    for role in roles:
        said = order_number(attributes, role, issuer)
        held = {value for kind, value in identifiers(order) if kind == role.lower()}
        if said and held and said not in held:
            return True
    return False


def same_patient(attributes: Attributes, patient: Patient) -> bool:
    """Tell whether a message is about this patient.

    An issuer that nobody said decides nothing, nor does a universal ID (an OID) beside a name.
    """
    patient_id = text_of(attributes, "PatientID").strip()
    if not patient_id:
        return True
    leaf = attributes.get("IssuerOfPatientID")
    said = plain(leaf) if not isinstance(leaf, Ranked) or leaf.rank < FILLS_GAPS else None
    return patient_id == patient.patient_id and _may_be_one(said or "", patient)


def _may_be_one(said: str, patient: Patient) -> bool:
    """Tell whether an issuer may be that of a patient; only two names, or two OIDs, tell."""
    said, known = said.strip(), patient.issuer
    if said in ("", known):
        return True
    universal = universal_issuer(patient.facts.attributes)
    if _OID.fullmatch(said) and not _OID.fullmatch(known):
        return universal in ("", said)
    return bool(_OID.fullmatch(known)) and not _OID.fullmatch(said)


def procedures_named(order: Order, attributes: Attributes) -> list[Procedure]:
    """Give the procedures of an order that nothing in the message contradicts."""
    return [p for p in order.procedures if _same_procedure(p, attributes)]


def steps_named(
    order: Order, attributes: Attributes, step_items: list[Attributes]
) -> list[tuple[Procedure, Step]]:
    """Give the steps that a cancel means: the narrowest identifier it gives decides."""
    said = [item for item in step_items if _rank(item.get(STEP_ID)) < FILLS_GAPS]
    return [
        (procedure, step)
        for procedure in procedures_named(order, attributes)
        for step in procedure.steps
        if not said or any(agrees(step.facts, item, STEP_ID) is not False for item in said)
    ]


def agrees(facts: Facts, attributes: Attributes, keyword: str) -> bool | None:
    """Compare one identifier: True, False, or None when one side does not say it well enough."""
    leaf = attributes.get(keyword)
    value, stored, rank = plain(leaf), facts.text(keyword), _rank(leaf)
    if not value or not stored or rank >= FILLS_GAPS:
        return None
    if value == stored:
        return True
    return False if rank == facts.ranks.get(keyword, SAID) else None


def _same_procedure(procedure: Procedure, attributes: Attributes) -> bool:
    for keyword in NUMBERS:
        verdict = agrees(procedure.facts, attributes, keyword)
        if verdict is not None:
            return verdict
    return True


def said_ids(items: Iterable[Attributes]) -> list[str]:
    """Give the step IDs that step items say and do not guess, '' for an item that names none."""
    return [text_of(i, STEP_ID) if _rank(i.get(STEP_ID)) < FILLS_GAPS else "" for i in items]


def _rank(leaf: Any) -> int:
    if leaf is None:
        return FILLS_GAPS
    return leaf.rank if isinstance(leaf, Ranked) else SAID
