"""Removing what has outlived its time, slice by slice; bounds and names are in store.growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import structlog

from broker.settings import Keep
from broker.store import archive, dead, growth, held, keys, reads, recall, refused
from broker.store.commit import Change, Commit, Committed, Conflict, commit
from broker.store.executors import Store
from broker.store.indexes import is_open
from broker.updates.auditing import Record, Told, told_to_nobody
from broker.updates.purging import Candidate, Wish, candidates
from broker.updates.removing import removed_exam, removed_order, under_way
from broker.worklist.finding import Wanted
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

SLICE = 25
"""Records removed before others get their turn."""
ALL = 10**9


class Bound(NamedTuple):
    """What a list by time holds, and the key of `keep` that bounds it."""

    what: str
    keep: str


BOUNDS: dict[str, Bound] = {
    keys.HELD_BY_TIME: Bound("held message", "past"),
    keys.MPPS_BY_TIME: Bound("performed step", "past"),
    keys.CLOSED: Bound("order", "completed"),
    keys.UNPERFORMED: Bound("order", "past"),
    keys.IDLE: Bound("patient", "patients"),
}
"""What goes by the time since when it stands on a list: closed, last scheduled, last heard of."""
ARCHIVE_SLICE = 100
Count = Callable[[str, int], None]

log = structlog.get_logger("updates")


class Retention:
    """Removes a slice of everything at each call; `clock` gives the time in the site's zone.

    `removed` is told what went and how many of it, `kept` what stays since an exam runs, `told`
    which records went.
    """

    def __init__(
        self,
        store: Store,
        keep: Keep,
        clock: Callable[[], datetime],
        removed: Count = lambda what, count: None,  # noqa: ARG005 - counts nothing
        kept: Count = lambda what, count: None,  # noqa: ARG005 - counts nothing
        told: Told = told_to_nobody,
    ) -> None:
        self._store, self._keep, self._clock = store, keep, clock
        self._removed, self._kept, self._told = removed, kept, told

    def slice(self) -> bool:
        """Remove some of what is due; True when there is more. Raises StoreUnavailable."""
        now = self._clock()
        steps = (self._archive, self._dead, self._held, self._refused, self._mpps)
        of_records = (self._closed, self._past, self._idle)
        return any([step(now) for step in (*steps, *of_records)])

    def _archive(self, now: datetime) -> bool:
        before_ms = int((now - self._keep.messages).timestamp() * 1000)
        trim = archive.trim(
            before_ms=before_ms, max_bytes=self._keep.message_bytes, at_most=ARCHIVE_SLICE
        )
        gone = self._store.run(trim)
        self._gone("messages", gone)
        return gone == ARCHIVE_SLICE

    def _dead(self, now: datetime) -> bool:
        before_ms = int((now - self._keep.dead).timestamp() * 1000)
        gone = self._store.run(dead.expire(before_ms=before_ms, at_most=ARCHIVE_SLICE))
        self._gone("dead letters", gone)
        return gone == ARCHIVE_SLICE

    def _held(self, now: datetime) -> bool:
        """Messages whose code nobody has assigned: they were accepted, so the log tells of it."""
        due = self._listed(keys.HELD_BY_TIME, now)
        for digest in due:
            self._store.run(held.forget(digest))
            self._store.run(growth.unlist(keys.HELD_BY_TIME, digest))
        self._gone("held messages", len(due))
        if due:
            log.warning("messages with unmapped codes given up", messages=len(due))
        return len(due) == SLICE

    def _refused(self, now: datetime) -> bool:
        """Refused messages that the archive has no more: nothing is left to show or replay."""
        oldest_ms = self._store.run(recall.oldest_ms())
        before = now.timestamp() * 1000 if oldest_ms is None else oldest_ms
        due = self._store.run(reads.due(keys.REFUSED_BY_TIME, before=before, limit=SLICE))
        for digest in due:
            self._store.run(refused.forget(digest))
        self._gone("refused messages", len(due))
        return len(due) == SLICE

    def _mpps(self, now: datetime) -> bool:
        """Performed steps whose N-CREATE was long ago, also those without a scheduled step."""
        due, removed, kept = self._listed(keys.MPPS_BY_TIME, now), 0, 0
        gone: list[Performed] = []
        for uid in due:
            exam = self._exam(uid)
            if exam is not None and under_way(exam):
                kept += self._put_off(keys.MPPS_BY_TIME, uid, now)
            elif removed_exam(self._store, uid, now):
                removed += 1
                gone += [exam] if exam else []
        self._gone("performed steps", removed, gone)
        return removed + kept == SLICE

    def _closed(self, now: datetime) -> bool:
        """Orders whose last step was completed, discontinued or cancelled long ago."""
        return self._orders(keys.CLOSED, now)

    def _past(self, now: datetime) -> bool:
        """Orders that nobody performed, long after their start and after their last message."""
        return self._orders(keys.UNPERFORMED, now)

    def _orders(self, index: str, now: datetime) -> bool:
        due = self._listed(index, now)
        read, kept = self._store.run(reads.orders(due)), 0
        gone: list[Order] = []
        for key in due:
            order = read.known.orders.get(key)
            if order is None:
                kept += self._store.run(growth.unlist(index, key))
            elif under_way(order):
                kept += self._put_off(index, key, now)
            elif is_open(order) == (index == keys.UNPERFORMED) and removed_order(
                self._store, order, read, now
            ):
                gone.append(order)
        self._gone("orders", len(gone), gone)
        return len(gone) + kept == SLICE

    def _put_off(self, index: str, member: str, now: datetime) -> int:
        """Look at it again after the same time: an exam that runs keeps its records."""
        self._store.run(growth.put_off(index, member, at=now.timestamp()))
        self._kept(BOUNDS[index].what, 1)
        return 1

    def _gone(self, what: str, count: int, records: Sequence[Record] = ()) -> None:
        self._removed(what, count)
        if count:
            self._told(what, count, records)

    def _exam(self, uid: str) -> Performed | None:
        with suppress(ValueError):  # a newer version's: whoever removes it will find out
            return self._store.run(reads.mpps(uid))[0]
        return None

    def _idle(self, now: datetime) -> bool:
        """Patients who have no orders any more, or never had one."""
        due = self._listed(keys.IDLE, now)
        read = self._store.run(reads.lookup(Wanted((), tuple(due), (), False)))
        unlisted, gone = 0, list[Patient]()
        for key in due:
            patient = read.known.patients.get(key)
            if patient is None:
                unlisted += self._store.run(growth.unlist(keys.IDLE, key))
                continue
            change = Change(read.revision(patient), patient, None)
            orders = keys.orders_of(key)
            removal = Commit(at=now, changes=[change], empty=[orders], frees=True)
            outcome = self._store.run(commit(removal))
            if isinstance(outcome, Conflict) and outcome.key == orders:
                unlisted += self._store.run(growth.unlist(keys.IDLE, key))
            elif isinstance(outcome, Committed):
                gone.append(patient)
        self._gone("patients", len(gone), gone)
        return unlisted + len(gone) == SLICE

    def _listed(self, index: str, now: datetime, limit: int = SLICE) -> list[str]:
        """Name what has stood on a list for longer than its bound."""
        before = now - getattr(self._keep, BOUNDS[index].keep)
        return self._store.run(reads.due(index, before=before.timestamp(), limit=limit))

    def due(self) -> Iterator[Candidate]:
        """Name what would be removed now, and remove nothing. Raises StoreUnavailable."""
        now = self._clock()
        messages = now - self._keep.messages
        yield from candidates(self._store, Wish(messages=messages))
        parked_ms = (now - self._keep.dead).timestamp() * 1000
        letters = reads.due(keys.DEAD_LETTERS_BY_TIME, before=parked_ms, limit=ALL)
        for name in self._store.run(letters):
            yield Candidate("dead letter", name, "keep.dead")
        for index, bound in BOUNDS.items():
            for name in self._listed(index, now, limit=ALL):
                if self._may_go(index, name):
                    yield Candidate(bound.what, name, f"keep.{bound.keep}")

    def _may_go(self, index: str, name: str) -> bool:
        if index == keys.MPPS_BY_TIME:
            exam = self._exam(name)
            return exam is None or not under_way(exam)
        if index not in (keys.CLOSED, keys.UNPERFORMED):
            return True
        order = self._store.run(reads.orders([name])).known.orders.get(name)
        return bool(order and not under_way(order))
