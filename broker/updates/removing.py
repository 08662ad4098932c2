"""Removing one record by the one way to write: none that has changed, none whose exam runs."""

from __future__ import annotations

from datetime import datetime

from broker.store import growth, keys, reads
from broker.store.commit import Change, Commit, Committed, MppsChange, commit
from broker.store.executors import Store
from broker.worklist.mpps import IN_PROGRESS, Performed
from broker.worklist.records import Order, StepStatus


def under_way(record: Order | Performed) -> bool:
    """Tell whether an exam runs: such a record is never removed, however old it is."""
    if isinstance(record, Performed):
        return record.status == IN_PROGRESS
    return any(
        step.status is StepStatus.STARTED or IN_PROGRESS in step.performed.values()
        for _, step in record.steps()
    )


def removed_order(store: Store, order: Order, read: reads.Read, now: datetime) -> bool:
    """Remove one order; False when it stays. Raises StoreUnavailable."""
    if under_way(order):
        return False
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
    if under_way(exam):
        return False
    gone = Commit(at=now, mpps=[MppsChange(revision, exam, None)], frees=True)
    return isinstance(store.run(commit(gone)), Committed)
