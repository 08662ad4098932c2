"""By which numbers a message names orders, what to read for it, and what was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from broker.worklist.changes import Attributes, plain, text_of
from broker.worklist.identity import (
    OF_ROLE,
    joined,
    order_key,
    order_number,
    patient_key,
    prior_keys,
    said_issuer,
    universal_key,
)
from broker.worklist.records import Order, Patient
from broker.worklist.staleness import newest

PLACER = "PlacerOrderNumberImagingServiceRequest"
STEP_ID = "ScheduledProcedureStepID"
FILLER = "FillerOrderNumberImagingServiceRequest"
REPLACED = "ReplacedOrdersSequence"
APPOINTMENTS = ("FillerAppointmentID", "PlacerAppointmentID")
ROLES = (("Filler", "filler"), ("Placer", "placer"))
"""Whose number of an order it is, and the kind of such a number, the narrowest first."""
NUMBERS = ("RequestedProcedureID", FILLER, PLACER, "StudyInstanceUID", *APPOINTMENTS)
"""What tells one requested procedure from another, the narrowest first."""


class Identifier(NamedTuple):
    """A number that leads to orders: accession, study, placer, filler or appointment."""

    kind: str
    value: str


class Numbers(dict[Identifier, dict[str, Order]]):
    """Where numbers lead, or led: to orders by key; whoever asks looks whether they still do.

    So that it only grows, and every state of the records within one message can share it: a
    message of many groups asks for each of their numbers. Orders are `unread` till somebody asks,
    which a message of one group does only once. `as_read` are those of the store: what a message
    makes of them has numbers of its own.
    """

    def __init__(self, unread: Iterable[Order], *, as_read: bool = False) -> None:
        super().__init__()
        self.unread, self.as_read = list(unread), as_read

    def holders(self, identifier: Identifier) -> Mapping[str, Order]:
        """Give the orders to which a number leads, or has led, by key."""
        for order in self.unread:
            for number in identifiers(order):
                self.setdefault(number, {})[order.key] = order
        self.unread.clear()
        return self.get(identifier, {})


@dataclass(frozen=True)
class Known:
    """What the store holds about everything that a message names, after aliases were followed.

    `tombstones` say, by name and sender, when an order was cancelled that nobody knew, and when a
    patient was spoken of without anything new; `given` is how many accession numbers were generated
    so far. `together` are the orders that another message changed while this one was under way.
    `spoken` are the keys by which the message at hand names its orders.
    """

    orders: Mapping[str, Order] = field(default_factory=dict)
    patients: Mapping[str, Patient] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    tombstones: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    given: int = 0
    together: frozenset[str] = frozenset()
    spoken: frozenset[str] = frozenset()

    @cached_property
    def numbers(self) -> Numbers:
        """The numbers of all orders; what is made of a changed copy takes them over."""
        return Numbers(self.orders.values(), as_read=True)

    def with_number(self, identifier: Identifier) -> Iterator[Order]:
        """Give the orders to which a number leads."""
        for key, had in self.numbers.holders(identifier).items():
            order = self.orders.get(key)
            if order is had or (order and identifier in identifiers(order)):
                yield order

    def order(self, key: str | None) -> Order | None:
        """Give an order by key or by its former key."""
        return self.orders.get(self.aliases.get(f"order:{key}", key or ""))

    def patient(self, key: str | None) -> Patient | None:
        """Give a patient by key or by a key merged away."""
        return self.patients.get(self.patient_named(key or ""))

    def patient_named(self, key: str) -> str:
        """Give the key under which a patient is known now."""
        return self.aliases.get(f"patient:{key}", key)

    def has_given_up(self, key: str | None, patient: Patient) -> bool:
        """Tell whether a key was merged into that of a patient; its issuer's other name was not."""
        if not key or key == patient.key or self.patient_named(key) != patient.key:
            return False
        return key != universal_key(patient.facts.attributes)

    def heard(self, patient: Patient) -> Mapping[str, str]:
        """Give when each sender last spoke of a patient, also without anything new."""
        silent = self.tombstones.get(heard_of(patient.key), {})
        times = dict(patient.sent)
        for sender, sent in silent.items():
            times = newest(times, sender, sent)
        return times

    def with_order(self, order: Order) -> Known:
        """Put an order in the place of the one of the same key."""
        return self.with_both(order, None)

    def with_both(self, order: Order, patient: Patient | None) -> Known:
        """Put an order in the place of the one of the same key, and its patient likewise."""
        patients = {**self.patients, patient.key: patient} if patient else self.patients
        changed = self._holding({**self.orders, order.key: order}, patients)
        changed.numbers.unread.append(order)
        return changed

    def without_order(self, key: str) -> Known:
        """Take an order away."""
        return self._holding({k: v for k, v in self.orders.items() if k != key}, self.patients)

    def with_patient(self, patient: Patient) -> Known:
        """Put a patient in the place of the one of the same key."""
        return self._holding(self.orders, {**self.patients, patient.key: patient})

    def without_patient(self, key: str, merged: Mapping[str, str]) -> Known:
        """Take a patient away; `merged` says where its keys lead from now on."""
        patients = {k: v for k, v in self.patients.items() if k != key}
        aliases = {**self.aliases, **{f"patient:{old}": new for old, new in merged.items()}}
        return self._holding(self.orders, patients, aliases)

    def with_given(self) -> Known:
        """Count one more generated number."""
        return self._holding(self.orders, self.patients, given=self.given + 1)

    def _holding(
        self,
        orders: Mapping[str, Order],
        patients: Mapping[str, Patient],
        aliases: Mapping[str, str] | None = None,
        given: int | None = None,
    ) -> Known:
        changed = object.__new__(Known)  # a frozen one takes six times as long, four a message
        changed.__dict__.update(self.__dict__, orders=orders, patients=patients)
        if aliases is not None:
            changed.__dict__["aliases"] = aliases
        if given is not None:
            changed.__dict__["given"] = given
        numbers = self.numbers
        changed.__dict__["numbers"] = Numbers(orders.values()) if numbers.as_read else numbers
        return changed


class Wanted(NamedTuple):
    """What to read before a message can be applied.

    `universal` are those of `patients` that have another name by which the message means them.
    `exams` are the numbers for which an exam may wait that was done before its order came.
    """

    orders: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    identifiers: tuple[Identifier, ...] = ()
    orders_of_patients: bool = False
    tombstones: tuple[str, ...] = ()
    given: bool = False
    universal: tuple[str, ...] = ()
    exams: tuple[Identifier, ...] = ()

    @property
    def names(self) -> frozenset[object]:
        """Everything that a message names: two without a common one have nothing to do."""
        given = ("given",) if self.given else ()
        return frozenset(
            (*self.orders, *self.patients, *self.identifiers, *self.tombstones, *given)
        )


def wanted(
    attributes: Iterable[Attributes],
    issuer: str,
    *,
    orders_of_patients: bool,
    given: bool = False,
    namesakes: bool = False,
) -> Wanted:
    """Name everything that these groups of one message may touch or must be guarded against.

    With `namesakes` an order is also looked up that has a number without the namespace.
    """
    orders, patients, universal = set[str](), set[str](), set[str]()
    buried, named, exams = set[str](), set[Identifier](), set[Identifier]()
    for group in _with_replaced(attributes):
        key, numbers = order_key(group, issuer), list(named_in(group, issuer))
        priors = [each for keys in prior_keys(group, issuer) for each in keys]
        if key:
            orders.add(key)
        if patient := patient_key(group, issuer):
            patients.add(patient)
        patients.update(priors)
        if other := universal_key(group):
            universal.add(other)
            buried.add(separated_of(other))
        buried.update(map(separated_of, priors))
        buried.update(_tombstones(key, numbers))
        named.update(numbers)
        exams.update([number for number in numbers if number.kind == "study"])
        if accession := text_of(group, "AccessionNumber").strip():
            alone = Identifier("accession", accession)
            exams.add(alone)
            if not said_issuer(group):
                named.add(alone)
        if namesakes:
            named.update(bare_numbers(group, issuer))
    return Wanted(
        orders=tuple(sorted(orders)),
        patients=tuple(sorted(patients | universal)),
        identifiers=tuple(sorted(named)),
        orders_of_patients=orders_of_patients,
        tombstones=tuple(sorted(buried | {heard_of(key) for key in patients})),
        given=given,
        universal=tuple(sorted(universal)),
        exams=tuple(sorted(exams)),
    )


def replaced(attributes: Attributes) -> list[Attributes]:
    """Give what a message says of each order whose place its order takes."""
    return plain(attributes.get(REPLACED)) or []


def _with_replaced(attributes: Iterable[Attributes]) -> Iterator[Attributes]:
    for group in attributes:
        yield group
        yield from replaced(group)


def separated_of(patient: str) -> str:
    """Name what is remembered of a patient whose merge a person has undone."""
    return f"separated:{patient}"


def heard_of(patient: str) -> str:
    """Name what is remembered of messages that said nothing new of a patient."""
    return f"patient:{patient}"


def named_in(attributes: Attributes, issuer: str) -> Iterator[Identifier]:
    """Give the numbers, other than the accession, by which a message names its order.

    Appointments are numbered by the source: neither DICOM nor the smaller scheduling systems name
    an issuer of them.
    """
    for role, kind in ROLES:
        number = order_number(attributes, role, issuer)
        if number:
            yield Identifier(kind, number)
    study = text_of(attributes, "StudyInstanceUID")
    if study:
        yield Identifier("study", study)
    for keyword in APPOINTMENTS:
        if keyword in attributes and (appointment := text_of(attributes, keyword).strip()):
            yield Identifier("appointment", joined(issuer, keyword[0], appointment))


def tombstones(attributes: Attributes, issuer: str) -> list[str]:
    """Give the names under which an unknown order may have been cancelled, the narrowest first."""
    return _tombstones(order_key(attributes, issuer), list(named_in(attributes, issuer)))


def _tombstones(key: str | None, named: list[Identifier]) -> list[str]:
    names = [f"{kind}:{value}" for kind, value in named if kind != "study"]
    if key:  # after the filler number, before that of the placer and appointments
        names.insert(1 if named and named[0].kind == "filler" else 0, f"order:{key}")
    return names


def accession_alone(attributes: Attributes) -> Iterator[Identifier]:
    """Give the accession number where nobody is said to have issued it."""
    accession = text_of(attributes, "AccessionNumber").strip()
    if accession and not said_issuer(attributes):
        yield Identifier("accession", accession)


def identifiers(order: Order) -> set[Identifier]:
    """Give every number that leads to a stored order."""
    found = {Identifier("accession", order.accession)}
    for procedure in order.procedures:
        found.update(named_in(procedure.facts.attributes, order.source))
    return found


def leads(order: Order) -> set[Identifier]:
    """Give every number by which an order is looked up: those without their namespace too."""
    found = identifiers(order)
    for procedure in order.procedures:
        found.update(bare_numbers(procedure.facts.attributes, order.source))
    return found


def bare_numbers(attributes: Attributes, issuer: str) -> Iterator[Identifier]:
    """Give placer and filler numbers as if they were said without a namespace."""
    for role, kind in ROLES:
        number = text_of(attributes, OF_ROLE[role][0]).strip()
        if number:
            yield Identifier(kind, joined(issuer, number))
