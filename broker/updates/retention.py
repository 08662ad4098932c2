"""Removing what has outlived its time, slice by slice; bounds and names are in store.growth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from broker.settings import Keep
from broker.store import archive, growth, held, keys, reads
from broker.store.commit import Change, Commit, Committed, Conflict, commit
from broker.store.executors import Store
from broker.store.indexes import is_open
from broker.worklist.finding import Wanted
from broker.worklist.records import Order, StepStatus

SLICE = 25
"""Records removed before others get their turn."""
ARCHIVE_SLICE = 100

log = structlog.get_logger("updates")


class Retention:
    """Removes a slice of everything at each call; `clock` gives the time in the site's zone."""

    def __init__(self, store: Store, keep: Keep, clock: Callable[[], datetime]) -> None:
        self._store, self._keep, self._clock = store, keep, clock

    def slice(self) -> bool:
        """Remove some of what is due; True when there is more. Raises StoreUnavailable."""
        now = self._clock()
        steps = (self._archive, self._dead, self._held, self._mpps)
        of_records = (self._closed, self._past, self._idle)
        return any([step(now) for step in (*steps, *of_records)])

    def _archive(self, now: datetime) -> bool:
        before_ms = int((now - self._keep.messages).timestamp() * 1000)
        trim = archive.trim(
            before_ms=before_ms, max_bytes=self._keep.message_bytes, at_most=ARCHIVE_SLICE
        )
        return self._store.run(trim) == ARCHIVE_SLICE

    def _dead(self, now: datetime) -> bool:
        before_ms = int((now - self._keep.dead).timestamp() * 1000)
        self._store.run(growth.trim_dead(before_ms=before_ms))
        return False

    def _held(self, now: datetime) -> bool:
        """Messages whose code nobody has assigned: they were accepted, so the log tells of it."""
        before = (now - self._keep.past).timestamp()
        due = self._store.run(reads.due(keys.HELD_BY_TIME, before=before, limit=SLICE))
        for digest in due:
            self._store.run(held.forget(digest))
            self._store.run(growth.unlist(keys.HELD_BY_TIME, digest))
        if due:
            log.warning("messages with unmapped codes given up", messages=len(due))
        return len(due) == SLICE

    def _mpps(self, now: datetime) -> bool:
        before = (now - self._keep.past).timestamp()
        return self._store.run(growth.forget_mpps(before=before, at_most=SLICE)) == SLICE

    def _closed(self, now: datetime) -> bool:
        """Orders whose last step was completed, discontinued or cancelled long ago."""
        before = (now - self._keep.completed).timestamp()
        due = self._store.run(reads.due(keys.CLOSED, before=before, limit=SLICE))
        read = self._store.run(reads.orders(due))
        removed = 0
        for key in due:
            order = read.known.orders.get(key)
            if order is None:
                removed += self._store.run(growth.unlist(keys.CLOSED, key))
            elif not is_open(order):
                removed += self._remove_order(order, read, now)
        return removed == SLICE

    def _past(self, now: datetime) -> bool:
        """Orders that nobody performed, long after their start and after their last message.

        An exam that never ended protects its order as long as its performed step is kept.
        """
        before = (now - self._keep.past).timestamp()
        due = self._store.run(reads.due(keys.UNPERFORMED, before=before, limit=SLICE))
        read = self._store.run(reads.orders(due))
        for key in due:
            order = read.known.orders.get(key)
            if order is None:
                self._store.run(growth.unlist(keys.UNPERFORMED, key))
            elif self._runs(order):
                self._store.run(growth.put_off(keys.UNPERFORMED, key, at=now.timestamp()))
            else:
                self._remove_order(order, read, now)
        return len(due) == SLICE

    def _runs(self, order: Order) -> bool:
        performed = [
            uid
            for _, step in order.steps()
            if step.status is StepStatus.STARTED
            for uid in step.performed
        ]
        return bool(performed) and self._store.run(growth.any_mpps(performed))

    def _idle(self, now: datetime) -> bool:
        """Patients who have no orders any more, or never had one."""
        before = (now - self._keep.patients).timestamp()
        due = self._store.run(reads.due(keys.IDLE, before=before, limit=SLICE))
        read = self._store.run(reads.lookup(Wanted((), tuple(due), (), False)))
        removed = 0
        for key in due:
            patient = read.known.patients.get(key)
            if patient is None:
                removed += self._store.run(growth.unlist(keys.IDLE, key))
                continue
            change = Change(read.revision(patient), patient, None)
            orders = keys.orders_of(key)
            gone = Commit(at=now, changes=[change], empty=[orders], frees=True)
            outcome = self._store.run(commit(gone))
            if isinstance(outcome, Conflict) and outcome.key == orders:
                removed += self._store.run(growth.unlist(keys.IDLE, key))
            removed += isinstance(outcome, Committed)
        return removed == SLICE

    def _remove_order(self, order: Order, read: reads.Read, now: datetime) -> bool:
        """Remove one order, unless it has changed since it was read."""
        change = Change(read.revision(order), order, None)
        outcome = self._store.run(commit(Commit(at=now, changes=[change], frees=True)))
        return isinstance(outcome, Committed)
