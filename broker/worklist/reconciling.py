"""Which scheduled steps an MPPS is of: level by level, each with the evidence that decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from broker.worklist.attributes import START_DATE, START_TIME
from broker.worklist.changes import Attributes, text_of
from broker.worklist.finding import Identifier
from broker.worklist.identity import parted
from broker.worklist.mpps import SCHEDULED_ITEMS, Performed, Reference
from broker.worklist.query.narrowing import Narrowing, score
from broker.worklist.records import WAITING, Order, Patient, Procedure, Step

People = Mapping[str, Patient]
NOBODY: People = {}
STATION = "PerformedStationAETitle"

NOT_FOUND = "no scheduled step found"
PARTLY_FOUND = "not every scheduled step found"
OF_ANOTHER = "its accession number is of another patient"
"""Why no step was found: the number was typed wrongly at the scanner, or the patient was."""
UNLINKED_BY_HAND = "a person has unlinked it"
TYPED_ORDER = "its order was typed by hand: no RIS is told yet"
BY_HAND = "by hand: "
"""How the evidence of a reference begins that a person has made; who it was follows."""
UNLINKED = frozenset({NOT_FOUND, PARTLY_FOUND, OF_ANOTHER})


class Level(StrEnum):
    """By what a scheduled item is matched; the first level that leaves one step decides."""

    STUDY = "study"
    ACCESSION = "accession"
    PATIENT = "patient"


@dataclass(frozen=True)
class Matching:
    """Which levels a site wants, in this order.

    `window` is how far the start of a step may be from that of the exam, for level patient.
    """

    levels: tuple[Level, ...] = (Level.STUDY, Level.ACCESSION)
    window: timedelta = timedelta(hours=12)


STANDARD = Matching()


@dataclass(frozen=True)
class Candidates:
    """The orders among which to look, with their patients; `at` is when the exam began, if known.

    `at` is by our clock, local to the site: those of scanners say 1980.
    """

    orders: Iterable[Order]
    people: People = field(default_factory=dict)
    at: datetime | None = None


def leads(attributes: Attributes) -> set[Identifier]:
    """Give the numbers of an N-CREATE by which the orders it belongs to can be read."""
    found = set[Identifier]()
    for item in attributes.get(SCHEDULED_ITEMS) or ():
        asked = _Asked.of(item)
        found.update(Identifier("study", study) for study in asked.studies)
        # Typed by hand at the scanner, where there is no upper case unless one asks for it.
        found.update(
            Identifier("accession", accession)
            for accession in {asked.accession, asked.accession.upper()}
            if accession
        )
    return found


def narrowing(performed: Performed, at: datetime, matching: Matching) -> Narrowing | None:
    """Say where to look for a step of this patient at this station, if the site wants that."""
    station = station_of(performed)
    named = Level.PATIENT in matching.levels and _patient_id(performed.attributes)
    if not named or not station:
        return None
    low, high = at - matching.window, at + matching.window
    return Narrowing("station", station, _score(low), _score(high))


def reconciled(performed: Performed, among: Candidates, matching: Matching = STANDARD) -> Performed:
    """Give an MPPS the steps that it is of; what is not found is an exception."""
    known = list(among.orders)
    items = performed.attributes.get(SCHEDULED_ITEMS) or [{}]
    found: dict[tuple[str, str, str], Reference] = {}
    missed: list[Attributes] = []
    for item in items:
        reference = _matched(item, performed, known, among, matching)
        if reference is None:
            missed.append(item)
            continue
        found.setdefault((reference.order, reference.procedure, reference.step), reference)
    facts = [PARTLY_FOUND if found else NOT_FOUND] if missed else []
    if any(_is_of_another(item, performed, known, among.people) for item in missed):
        facts.append(OF_ANOTHER)
    others = (e for e in performed.exceptions if e not in UNLINKED)
    return performed.altered(references=tuple(found.values()), exceptions=(*others, *facts))


def followed(performed: Performed, aliases: Mapping[str, str]) -> Performed:
    """Let the references follow orders that got another accession number since."""
    moved = tuple(
        r.altered(order=aliases.get(f"order:{r.order}", r.order)) for r in performed.references
    )
    return performed.altered(references=moved)


def station_of(performed: Performed) -> str:
    """Give the AE title of the station of an exam, that of the caller where it says none."""
    return text_of(performed.attributes, STATION).strip() or performed.station


def is_unlinked(performed: Performed) -> bool:
    """Tell whether an exam waits for an order, which may come later."""
    return not UNLINKED.isdisjoint(performed.exceptions)


def awaited(performed: Performed) -> set[Identifier]:
    """Give the numbers of the orders that an exam waits for, {} where it waits for none.

    One of an order that was typed by hand waits till the RIS has ordered it.
    """
    if is_unlinked(performed):
        return leads(performed.attributes)
    if TYPED_ORDER not in performed.exceptions:
        return set()
    orders = (Identifier("accession", parted(r.order)[-1]) for r in performed.references)
    return leads(performed.attributes) | set(orders)


def marked(performed: Performed, orders: Iterable[Order]) -> Performed:
    """Give an exam of an order that was typed by hand as one that waits for the RIS's."""
    named = {reference.order for reference in performed.references}
    waits = any(order.by_hand and order.key in named for order in orders)
    if not waits or TYPED_ORDER in performed.exceptions:
        return performed
    return performed.altered(exceptions=(*performed.exceptions, TYPED_ORDER))


def same_person(order: Order, attributes: Attributes, people: People) -> bool:
    """Tell whether an MPPS may be of the patient of an order, also by an ID merged away since."""
    patient_id, patient = _patient_id(attributes), people.get(order.patient)
    keys = (order.patient, *(patient.former if patient else ()))
    return not patient_id or any(parted(key)[-1] == patient_id for key in keys)


def names_other_accession(performed: Performed, order: Order) -> bool:
    """Tell whether the study was that of an order, and the accession number is that of none of it.

    Both come from the worklist, so that one of them was typed, or left from the exam before. A
    number that the RIS has corrected meanwhile was that of the order.
    """
    items = performed.attributes.get(SCHEDULED_ITEMS) or ()
    studies = {p.facts.text("StudyInstanceUID") for p in order.procedures}
    of_study = [a for a in map(_Asked.of, items) if studies.intersection(a.studies)]
    said = {asked.accession.upper() for asked in of_study if asked.accession}
    first = parted(order.first_key)[-1] if order.first_key else order.accession
    return bool(said) and said.isdisjoint({order.accession.upper(), first.upper()})


Found = tuple[Order, Procedure, Step]


class _Asked(NamedTuple):
    """What one scheduled item says; in a group the first study may be the scanner's own."""

    studies: tuple[str, ...]
    accession: str
    procedure: str
    step: str

    @classmethod
    def of(cls, item: Attributes) -> _Asked:
        # The studies that were scheduled stand here where one of the scanner's own is above them
        # (PS3.4 F.7.2.1.2 note 2).
        references = item.get("ReferencedStudySequence") or ()
        named = (
            text_of(item, "StudyInstanceUID"),
            *(text_of(each, "ReferencedSOPInstanceUID") for each in references),
        )
        return cls(
            tuple(dict.fromkeys(study.strip() for study in named if study.strip())),
            text_of(item, "AccessionNumber").strip(),
            text_of(item, "RequestedProcedureID").strip(),
            text_of(item, "ScheduledProcedureStepID").strip(),
        )


def _matched(
    item: Attributes,
    performed: Performed,
    known: list[Order],
    among: Candidates,
    matching: Matching,
) -> Reference | None:
    asked = _Asked.of(item)
    for level in matching.levels:
        if level is Level.STUDY:
            found = _by_study(asked, known)
        else:
            theirs = [o for o in known if same_person(o, performed.attributes, among.people)]
            found = (
                _by_accession(asked, theirs)
                if level is Level.ACCESSION
                else _by_patient(asked, theirs, performed, among.at, matching.window)
            )
        if found:
            order, procedure, step = found
            evidence = _evidence(level, asked, found)
            return Reference(
                order=order.key, procedure=procedure.id, step=step.id, evidence=evidence
            )
    return None


def _by_study(asked: _Asked, orders: list[Order]) -> Found | None:
    for study in asked.studies:
        of_study = [
            (order, procedure, step)
            for order in orders
            for procedure, step in order.steps()
            if procedure.facts.text("StudyInstanceUID") == study
        ]
        if of_study:
            return _narrowed(of_study, asked)
    return None


def _by_accession(asked: _Asked, orders: list[Order]) -> Found | None:
    """Without an issuer an accession number may be another facility's: these are the patient's."""
    for accession in dict.fromkeys((asked.accession, asked.accession.upper())):
        of_accession = [
            (order, procedure, step)
            for order in orders
            if accession and accession == order.accession
            for procedure, step in order.steps()
        ]
        if of_accession:
            return _narrowed(of_accession, asked)
    return None


def _is_of_another(
    item: Attributes, performed: Performed, orders: list[Order], people: People
) -> bool:
    """Tell whether the accession number is known, and every order of it is of somebody else."""
    said = _Asked.of(item).accession
    named = [o for o in orders if said and o.accession in (said, said.upper())]
    return bool(named) and not any(same_person(o, performed.attributes, people) for o in named)


def _by_patient(
    asked: _Asked,
    orders: list[Order],
    performed: Performed,
    at: datetime | None,
    window: timedelta,
) -> Found | None:
    """The one step that waits for this patient at this station now.

    An accession number means another order, perhaps one that has not come yet.
    """
    if asked.accession or at is None or not _patient_id(performed.attributes):
        return None
    station = station_of(performed)
    waiting = [
        (order, procedure, step)
        for order in orders
        for procedure, step in order.steps()
        if step.status in WAITING
        and station in _values(step.facts.attributes.get("ScheduledStationAETitle"))
        and _within(step, at, window)
    ]
    return waiting[0] if len(waiting) == 1 else None


def _narrowed(found: list[Found], asked: _Asked) -> Found | None:
    """Take the one step that the accession, procedure and step ID leave; of several, none."""
    if asked.accession:
        found = [f for f in found if asked.accession == f[0].accession] or found
    if asked.procedure:
        found = [f for f in found if asked.procedure in _ids(f[1], "RequestedProcedureID")] or found
    if asked.step:
        exact = [f for f in found if asked.step in _ids(f[2], "ScheduledProcedureStepID")]
        found = exact or found
    return found[0] if len(found) == 1 else None


def _evidence(level: Level, asked: _Asked, found: Found) -> str:
    """Say which numbers agreed; of a patient with one step here, that this was all."""
    order, procedure, step = found
    if level is Level.PATIENT:
        return "patient ID, station and time"
    agreed = {
        "study UID": procedure.facts.text("StudyInstanceUID") in asked.studies,
        "accession number": asked.accession.upper() == order.accession.upper(),
        "procedure ID": asked.procedure in _ids(procedure, "RequestedProcedureID"),
        "step ID": asked.step in _ids(step, "ScheduledProcedureStepID"),
    }
    return ", ".join(what for what, agrees in agreed.items() if agrees)


def _ids(holder: Procedure | Step, keyword: str) -> tuple[str, str]:
    return holder.id, holder.facts.text(keyword)


def _patient_id(attributes: Attributes) -> str:
    return text_of(attributes, "PatientID").strip()


def _values(held: Any) -> tuple[str, ...]:
    values = held if isinstance(held, list) else [held or ""]
    return tuple(str(value).strip() for value in values)


def _within(step: Step, at: datetime, window: timedelta) -> bool:
    start = score(step.facts.text(START_DATE), step.facts.text(START_TIME))
    try:
        begins = datetime.strptime(f"{start:014d}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(begins - at.replace(tzinfo=UTC)) <= window


def _score(at: datetime) -> int:
    return int(f"{at:%Y%m%d%H%M%S}")
