"""Which order, procedure and step a message names, and which of them it contradicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from broker.worklist.changes import FILLS_GAPS, SAID, Attributes, Ranked, plain, text_of
from broker.worklist.identity import order_key, order_number, patient_key, said_issuer
from broker.worklist.records import Facts, Order, Patient, Procedure, Step

PLACER = "PlacerOrderNumberImagingServiceRequest"
STEP_ID = "ScheduledProcedureStepID"
FILLER = "FillerOrderNumberImagingServiceRequest"


class Identifier(NamedTuple):
    """A number that leads to orders: accession, study, placer or filler."""

    kind: str
    value: str


@dataclass(frozen=True)
class Known:
    """What the store holds about everything that a message names, after aliases were followed.

    `tombstones` say, by name and sender, when an order was cancelled that nobody knew.
    """

    orders: Mapping[str, Order] = field(default_factory=dict)
    patients: Mapping[str, Patient] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    tombstones: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def order(self, key: str | None) -> Order | None:
        """Give an order by key or by its former key."""
        return self.orders.get(self.aliases.get(f"order:{key}", key or ""))

    def patient(self, key: str | None) -> Patient | None:
        """Give a patient by key or by a key merged away."""
        return self.patients.get(self.aliases.get(f"patient:{key}", key or ""))

    def with_order(self, order: Order) -> Known:
        """Put an order in the place of the one of the same key."""
        return replace(self, orders={**self.orders, order.key: order})

    def without_order(self, key: str) -> Known:
        """Take an order away."""
        return replace(self, orders={k: v for k, v in self.orders.items() if k != key})

    def with_patient(self, patient: Patient) -> Known:
        """Put a patient in the place of the one of the same key."""
        return replace(self, patients={**self.patients, patient.key: patient})


class Wanted(NamedTuple):
    """What to read before a message can be applied."""

    orders: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    identifiers: tuple[Identifier, ...] = ()
    orders_of_patients: bool = False
    tombstones: tuple[str, ...] = ()


def wanted(attributes: Iterable[Attributes], issuer: str, *, orders_of_patients: bool) -> Wanted:
    """Name everything that these groups of one message may touch or must be guarded against."""
    groups = list(attributes)
    orders = (order_key(group, issuer) for group in groups)
    patients = (patient_key(group, issuer) for group in groups)
    named = {i for group in groups for i in (*named_in(group, issuer), *_accession_alone(group))}
    return Wanted(
        orders=tuple(sorted({key for key in orders if key})),
        patients=tuple(sorted({key for key in patients if key})),
        identifiers=tuple(sorted(named)),
        orders_of_patients=orders_of_patients,
        tombstones=tuple(sorted({n for group in groups for n in tombstones(group, issuer)})),
    )


def named_in(attributes: Attributes, issuer: str) -> Iterator[Identifier]:
    """Give the numbers, other than the accession, by which a message names its order."""
    for role in ("Filler", "Placer"):
        number = order_number(attributes, role, issuer)
        if number:
            yield Identifier(role.lower(), number)
    study = text_of(attributes, "StudyInstanceUID")
    if study:
        yield Identifier("study", study)


def tombstones(attributes: Attributes, issuer: str) -> list[str]:
    """Give the names under which an unknown order may have been cancelled, the narrowest first."""
    numbers = {i.kind: f"{i.kind}:{i.value}" for i in named_in(attributes, issuer)}
    key = order_key(attributes, issuer)
    names = (numbers.get("filler"), f"order:{key}" if key else None, numbers.get("placer"))
    return [name for name in names if name]


def _accession_alone(attributes: Attributes) -> Iterator[Identifier]:
    accession = text_of(attributes, "AccessionNumber").strip()
    if accession and not said_issuer(attributes):
        yield Identifier("accession", accession)


def identifiers(order: Order) -> set[Identifier]:
    """Give every number that leads to a stored order."""
    found = {Identifier("accession", order.accession)}
    for procedure in order.procedures:
        found.update(named_in(procedure.facts.attributes, order.source))
    return found


def order_named(
    known: Known, attributes: Attributes, issuer: str, *, corrects: bool = False
) -> Order | None:
    """Find the stored order: by accession number, else by filler, then by placer number alone.

    Numbers are shared and given anew: an order whose accession or order numbers contradict what is
    said is another one. Only a message that `corrects` may find, by its filler number, an order
    under another accession number, and no order of its own.
    """
    key = order_key(attributes, issuer)
    found = known.order(key)
    if found and (found.key == key or not _other_numbers(found, attributes, issuer)):
        return found
    for identifier in (*_accession_alone(attributes), *named_in(attributes, issuer)):
        holders = [
            order
            for order in known.orders.values()
            if identifier in identifiers(order)
            and _may_be(order, attributes, identifier.kind, issuer, corrects=corrects)
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
    return kind == "placer" and not (
        other_accession or _other_numbers(order, attributes, issuer, roles=("Filler",))
    )


def _other_numbers(
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
    """Tell whether a message is about this patient; an issuer that nobody said decides nothing."""
    patient_id = text_of(attributes, "PatientID").strip()
    if not patient_id:
        return True
    leaf = attributes.get("IssuerOfPatientID")
    said = plain(leaf) if not isinstance(leaf, Ranked) or leaf.rank < FILLS_GAPS else None
    return patient_id == patient.patient_id and (not said or said.strip() == patient.issuer)


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
    for keyword in ("RequestedProcedureID", FILLER, PLACER, "StudyInstanceUID"):
        verdict = agrees(procedure.facts, attributes, keyword)
        if verdict is not None:
            return verdict
    return True


def _rank(leaf: Any) -> int:
    if leaf is None:
        return FILLS_GAPS
    return leaf.rank if isinstance(leaf, Ranked) else SAID
