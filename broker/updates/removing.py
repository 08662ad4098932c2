"""Removing one record by the one way to write, unless it has changed since it was read."""

from __future__ import annotations

from datetime import datetime

from broker.store import growth, keys, reads
from broker.store.commit import Change, Commit, Committed, MppsChange, commit
from broker.store.executors import Store
from broker.worklist.records import Order


def removed_order(store: Store, order: Order, read: reads.Read, now: datetime) -> bool:
    """Remove one order; False when it has changed. Raises StoreUnavailable."""
    change = Change(read.revision(order), order, None)
    outcome = store.run(commit(Commit(at=now, changes=[change], frees=True)))
    return isinstance(outcome, Committed)


def removed_exam(store: Store, uid: str, now: datetime) -> bool:
    """Remove one performed step, or its place in the list. Raises StoreUnavailable."""
    try:
        exam, revision = store.run(reads.mpps(uid))
    except ValueError:  # a newer version's, which will remove it
        store.run(growth.put_off(keys.MPPS_BY_TIME, uid, at=now.timestamp()))
        return False
    if exam is None:
        return bool(store.run(growth.unlist(keys.MPPS_BY_TIME, uid)))
    gone = Commit(at=now, mpps=[MppsChange(revision, exam, None)], frees=True)
    return isinstance(store.run(commit(gone)), Committed)
