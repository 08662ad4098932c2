"""Which index entries a record has: the difference of two records is what a commit changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from broker.store import keys
from broker.store.call import Word
from broker.worklist.finding import identifiers
from broker.worklist.matching import START_DATE, START_TIME, fold
from broker.worklist.narrowing import score
from broker.worklist.records import OPEN, Order, Patient

STEP_MARK = "\x1f"


class Entry(NamedTuple):
    """A member of an index; no score means a set."""

    key: str
    member: str
    score: int | None = None


def of_order(order: Order | None) -> set[Entry]:
    """Give every index entry of an order: its numbers, its patient, and its open steps by start."""
    if order is None:
        return set()
    entries = {Entry(keys.numbers(*number), order.key) for number in identifiers(order)}
    entries.add(Entry(keys.orders_of(order.patient), order.key))
    entries.update(_of_steps(order))
    return entries


def of_patient(patient: Patient | None) -> set[Entry]:
    """Give every index entry of a patient: the patient ID, and each group of the name."""
    if patient is None:
        return set()
    entries = {Entry(keys.patient_ids(patient.patient_id), patient.key)}
    for group in patient.facts.text("PatientName").split("="):
        if group.strip("^ "):
            entries.add(Entry(keys.NAMES, f"{fold(group.strip())}\0{patient.key}", 0))
    return entries


def changes(before: set[Entry], after: set[Entry]) -> Iterator[tuple[Word, ...]]:
    """Give the commands that turn one set of entries into the other."""
    for entry in sorted(before - after, key=lambda e: (e.key, e.member)):
        yield ("ZREM" if entry.score is not None else "SREM", entry.key, entry.member)
    for entry in sorted(after - before, key=lambda e: (e.key, e.member)):
        if entry.score is None:
            yield ("SADD", entry.key, entry.member)
        else:
            yield ("ZADD", entry.key, entry.score, entry.member)


def is_open(order: Order) -> bool:
    """Tell whether an order still has a step that may be, or is being, performed."""
    return any(step.status in OPEN for _, step in order.steps())


def last_start(order: Order) -> int:
    """Give the latest start of an order's steps in epoch seconds, 0 when none has one.

    The zone does not matter to those who count in days.
    """
    starts = (_epoch(step.facts.text(START_DATE)) for _, step in order.steps())
    return max(starts, default=0)


def _epoch(date: str) -> int:
    try:
        return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def _of_steps(order: Order) -> Iterator[Entry]:
    for procedure, step in order.steps():
        if step.status not in OPEN:
            continue
        start = score(step.facts.text(START_DATE), step.facts.text(START_TIME))
        member = STEP_MARK.join((order.key, procedure.id, step.id))
        yield Entry(keys.starts("start"), member, start)
        for kind, keyword in (("station", "ScheduledStationAETitle"), ("modality", "Modality")):
            held = step.facts.attributes.get(keyword) or []
            for value in held if isinstance(held, list) else [held]:
                yield Entry(keys.starts(kind, value.strip()), member, start)
