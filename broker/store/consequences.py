"""What a message has made of the records, as the one commit that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.store import keys
from broker.store.archive import Archived
from broker.store.commit import Change, Commit, Guard
from broker.store.reads import Read
from broker.worklist.apply import Applied
from broker.worklist.finding import Wanted, identifiers
from broker.worklist.records import Order


@dataclass(frozen=True)
class Keeping:
    """How long remembered answers and cancels ahead of orders stay, and aliases of former keys."""

    guard: timedelta
    alias: timedelta


def changed(read: Read, applied: Applied) -> list[Change]:
    """Give every order that is not as read, and every patient: an unchanged one must be as read."""
    return [*_orders(read, applied), *_patients(read, applied)]


def order_keys(changes: list[Change]) -> tuple[str, ...]:
    """Name the orders that were written."""
    return tuple(c.after.key for c in changes if isinstance(c.after, Order))


def consequences(
    wanted: Wanted,
    read: Read,
    applied: Applied,
    *,
    at: datetime,
    keep: Keeping,
    guard: tuple[str, bytes] | None = None,
    archived: Archived | None = None,
) -> Commit:
    """Build the commit: what was not there when it was read must still not be there.

    `guard` is the digest of the message and the answer to remember.
    """
    held = {i for order in read.known.orders.values() for i in identifiers(order)}
    guard_s = int(keep.guard.total_seconds())
    return Commit(
        at=at,
        changes=changed(read, applied),
        aliases=[("order", old, new) for old, new in applied.renamed.items()],
        alias_keep_s=int(keep.alias.total_seconds()),
        tombstones=list(applied.buried.items()),
        tombstone_keep_s=guard_s,
        guard=Guard(*guard, guard_s) if guard else None,
        archived=archived,
        empty=[
            *(keys.numbers(*i) for i in wanted.identifiers if i not in held),
            *(keys.tombstone(n) for n in wanted.tombstones if n not in read.known.tombstones),
        ],
    )


def _orders(read: Read, applied: Applied) -> Iterator[Change]:
    former = {new: old for old, new in applied.renamed.items()}
    for key, order in applied.known.orders.items():
        before = read.known.orders.get(former.get(key, key))
        if order is not before:
            yield Change(read.revision(before or order), before, order)


def _patients(read: Read, applied: Applied) -> Iterator[Change]:
    for key, patient in applied.known.patients.items():
        yield Change(read.revision(patient), read.known.patients.get(key), patient)
