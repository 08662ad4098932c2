"""What a message has made of the records, as the one commit that writes it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.store import keys
from broker.store.archive import Archived
from broker.store.commit import Change, Commit, Guard, MppsChange, members, value
from broker.store.outbox import Event
from broker.store.reads import Read
from broker.worklist.apply import Applied
from broker.worklist.finding import Wanted, leads
from broker.worklist.mpps import Performed
from broker.worklist.reconciling import awaited
from broker.worklist.records import Order


@dataclass(frozen=True)
class Keeping:
    """How long remembered answers and cancels ahead of orders stay, and aliases of former keys."""

    guard: timedelta
    alias: timedelta


def changed(read: Read, applied: Applied) -> list[Change]:
    """Give every order that is not as read, and every patient: an unchanged one must be as read."""
    orders = [
        Change(read.revision(before or order), before, order)
        for _, before, order in _orders(read, applied)
    ]
    return [*orders, *_taken_away(read, applied), *_patients(read, applied)]


def order_keys(read: Read, applied: Applied) -> tuple[str, ...]:
    """Name the orders that are not as read."""
    return tuple(key for key, _, _ in _orders(read, applied))


def consequences(
    wanted: Wanted,
    read: Read,
    applied: Applied,
    *,
    at: datetime,
    keep: Keeping,
    guard: tuple[str, bytes] | None = None,
    archived: Archived | None = None,
    events: Sequence[Event] = (),
    refused_in_part: str = "",
    exams: Sequence[Performed] = (),
) -> Commit:
    """Build the commit: what was not there when it was read must still not be there.

    `guard` is the digest of the message and the answer to remember; `exams` are those that have
    found their order now.
    """
    guard_s = int(keep.guard.total_seconds())
    given = applied.known.given
    return Commit(
        at=at,
        changes=changed(read, applied),
        mpps=list(_linked(read, exams)),
        given=(read.revisions[keys.GIVEN], given) if given != read.known.given else None,
        aliases=[
            *(("order", old, new) for old, new in applied.renamed.items()),
            *(("patient", old, new) for old, new in applied.merged.items()),
        ],
        alias_keep_s=int(keep.alias.total_seconds()),
        tombstones=[*applied.buried.items(), *applied.heard.items()],
        tombstone_keep_s=guard_s,
        guard=Guard(*guard, guard_s) if guard else None,
        archived=archived,
        events=events,
        refused_in_part=refused_in_part,
        empty=list(_empty(wanted, read)),
        unchanged=list(_unchanged(wanted, read, applied)),
    )


def _linked(read: Read, exams: Sequence[Performed]) -> Iterator[MppsChange]:
    for exam in exams:
        before = read.exams[exam.sop_instance_uid]
        yield MppsChange(read.exam_revision(before), before, exam)


def _empty(wanted: Wanted, read: Read) -> Iterator[str]:
    """Give what led nowhere when it was read, and must lead nowhere still."""
    held = {i for order in read.known.orders.values() for i in leads(order)}
    yield from (keys.numbers(*i) for i in wanted.identifiers if i not in held)
    yield from (keys.tombstone(n) for n in wanted.tombstones if n not in read.known.tombstones)
    waited_for = {i for exam in read.exams.values() for i in awaited(exam)}
    yield from (keys.unlinked(*i) for i in wanted.exams if i not in waited_for)
    yield from _unheard_of(read, "order", wanted.orders, read.known.orders)
    yield from _unheard_of(read, "patient", wanted.patients, read.known.patients)


def _unheard_of(
    read: Read, kind: str, names: Sequence[str], there: Container[str]
) -> Iterator[str]:
    """Give where a name without a record would lead if another message made or merged it now."""
    for name in names:
        if name in there:
            continue
        yield keys.order(name) if kind == "order" else keys.patient(name)
        if f"{kind}:{name}" not in read.known.aliases and f"{kind}:{name}" not in read.astray:
            yield keys.alias(kind, name)


def _unchanged(wanted: Wanted, read: Read, applied: Applied) -> Iterator[tuple[str, str]]:
    """Give what no other message may have changed since it was read, beside the records.

    A patient that goes has no more orders than were moved: one that came meanwhile would be of
    nobody.
    """
    for name in wanted.tombstones:
        if name in read.known.tombstones:
            yield keys.tombstone(name), value(read.known.tombstones[name])
    for key in read.known.patients.keys() - applied.known.patients.keys():
        mine = [order for order in read.known.orders.values() if order.patient == key]
        yield keys.orders_of(key), members(len(mine))


def _orders(read: Read, applied: Applied) -> Iterator[tuple[str, Order | None, Order]]:
    former = {new: old for old, new in applied.renamed.items()}
    for key, order in applied.known.orders.items():
        before = read.known.orders.get(former.get(key, key))
        if order is not before:
            yield key, before, order


def _taken_away(read: Read, applied: Applied) -> Iterator[Change]:
    for key in read.known.orders.keys() - applied.known.orders.keys() - applied.renamed.keys():
        order = read.known.orders[key]
        yield Change(read.revision(order), order, None)


def _patients(read: Read, applied: Applied) -> Iterator[Change]:
    for key, patient in applied.known.patients.items():
        yield Change(read.revision(patient), read.known.patients.get(key), patient)
    for key, patient in read.known.patients.items():
        if key not in applied.known.patients:
            yield Change(read.revision(patient), patient, None)
