"""Which index entries a record has: the difference of two records is what a commit changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from broker.store import keys
from broker.store.call import Word
from broker.worklist.attributes import START_DATE, START_TIME
from broker.worklist.finding import leads
from broker.worklist.mpps import IN_PROGRESS, NEVER_ENDED, Performed
from broker.worklist.query.criteria import fold_name
from broker.worklist.query.narrowing import score
from broker.worklist.reconciling import awaited
from broker.worklist.records import OPEN, Item, Order, Patient

STEP_MARK = "\x1f"
"""Between order, procedure and step of a member, and between its places."""


class Entry(NamedTuple):
    """A member of an index. All are sorted sets: a small one takes half of what a set does."""

    key: str
    member: str
    score: int = 0


class Place(NamedTuple):
    """Where an open step stands: its member, and START␟index␟index… as of `keys.starts`.

    A member is ORDER␟PROCEDURE␟STEP; in the indexes its versions follow (see commit.lua).
    """

    member: str
    indexes: str


def of_order(order: Order | None) -> set[Entry]:
    """Give the index entries of an order: its numbers and its patient. Its steps have `places`."""
    if order is None:
        return set()
    member = order.key
    entries = {Entry(keys.numbers(kind, value), member) for kind, value in leads(order)}
    entries.add(Entry(keys.orders_of(order.patient), member))
    return entries


def stays(before: object, after: object) -> bool:
    """Tell whether an order has the entries that it had: it shares all that they come from.

    So it is with nearly every exam, which changes the steps.
    """
    return (
        isinstance(before, Order)
        and isinstance(after, Order)
        and (before.issuer, before.accession) == (after.issuer, after.accession)
        and (before.patient, before.source) == (after.patient, after.source)
        and len(before.procedures) == len(after.procedures)
        and all(
            a.facts is b.facts for a, b in zip(after.procedures, before.procedures, strict=True)
        )
    )


def of_patient(patient: Patient | None) -> set[Entry]:
    """Give every index entry of a patient: the patient ID, and each group of the name.

    Nobody looks for a patient without orders.
    """
    if patient is None or patient.slim:
        return set()
    entries = {Entry(keys.patient_ids(patient.patient_id), patient.key)}
    for group in patient.facts.text("PatientName").split("="):
        if group.strip("^ "):
            entries.add(Entry(keys.NAMES, f"{fold_name(group)}\0{patient.key}"))
    return entries


def member_of(item: Item) -> bytes:
    """Name a worklist item as the indexes of open steps do: ORDER␟PROCEDURE␟STEP."""
    return STEP_MARK.join((item.order.key, item.procedure.id, item.step.id)).encode()


def of_performed(performed: Performed | None) -> set[Entry]:
    """Give every index entry of a performed step: what it waits for, that it runs, who looks."""
    if performed is None:
        return set()
    uid = performed.sop_instance_uid
    entries = set[Entry]()
    entries.update(Entry(keys.unlinked(*lead), uid) for lead in awaited(performed))
    watched = not (performed.closed or NEVER_ENDED in performed.exceptions)
    if performed.status == IN_PROGRESS and watched:
        entries.add(Entry(keys.RUNNING, uid, int(performed.changed)))
    if performed.exceptions:
        entries.add(Entry(keys.EXCEPTIONS, uid, int(performed.began)))
    return entries


def changes(before: set[Entry], after: set[Entry]) -> Iterator[tuple[Word, ...]]:
    """Give the commands that turn one set of entries into the other."""
    for key, member, _ in before - after:
        yield ("ZREM", key, member)
    yield from adding(after - before)


def adding(entries: set[Entry]) -> Iterator[tuple[Word, ...]]:
    """Give the commands that put entries where none of them is yet."""
    for entry in entries:
        yield ("ZADD", entry.key, entry.score, entry.member)


def is_open(order: Order) -> bool:
    """Tell whether an order still has a step that may be, or is being, performed."""
    return any([step.status in OPEN for _, step in order.steps()])


def last_start(order: Order) -> int:
    """Give the latest start of an order's steps in epoch seconds, 0 when none has one.

    The zone does not matter to those who count in days.
    """
    starts = [_epoch(step.facts.text(START_DATE)) for _, step in order.steps()]
    return max(starts, default=0)


@lru_cache(maxsize=1024)
def _epoch(date: str) -> int:
    try:
        return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def places(order: Order) -> Iterator[Place]:
    """Give the place of each open step: in the index of all, of its stations, of its modalities."""
    for procedure, step in order.steps():
        if step.status not in OPEN:
            continue
        start = score(step.facts.text(START_DATE), step.facts.text(START_TIME))
        names = [f"{start}", "start"]
        for kind, keyword in (("station", "ScheduledStationAETitle"), ("modality", "Modality")):
            held = step.facts.attributes.get(keyword) or ""
            values = {each.strip() for each in held} if isinstance(held, list) else {held.strip()}
            names += [f"{kind}:{each}" for each in sorted(values) if each]
        member = STEP_MARK.join((order.key, procedure.id, step.id))
        yield Place(member, STEP_MARK.join(names))
