"""What the trail hears of what `keep` removes: numbers where records went, else how many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from broker.audit.deeds import EXAM, ORDER, PATIENT, Deed
from broker.audit.trail import Silence, Trail
from broker.worklist.identity import parted
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

Record = Order | Patient | Performed
Told = Callable[[str, int, Sequence[Record]], None]
EVENTS: Final = {"patients": PATIENT, "performed steps": EXAM}
"""All else are orders, or messages about them."""


def told_to_nobody(what: str, count: int, records: Sequence[Record]) -> None:
    """Tell nobody."""


def removed_by(trail: Trail | Silence) -> Told:
    """Give what notes that so many of something went, and which records."""
    if isinstance(trail, Silence):
        return told_to_nobody

    def told(what: str, count: int, records: Sequence[Record]) -> None:
        patients = (_patient(each) for each in records if not isinstance(each, Performed))
        accessions = tuple(each.accession for each in records if isinstance(each, Order))
        exams = tuple(each.sop_instance_uid for each in records if isinstance(each, Performed))
        said = (f"keep: {count} {what}", tuple(dict.fromkeys(patients)), accessions, exams)
        trail.note(Deed(datetime.now(UTC), "", EVENTS.get(what, ORDER), "D", *said))

    return told


def _patient(record: Order | Patient) -> str:
    return parted(record.patient if isinstance(record, Order) else record.key)[1]
