"""What a person wants gone, by what it means: status and scheduled time, never when it came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

from broker.store import archive, indexes, keys, reads, recall
from broker.store.call import Call, texts
from broker.store.executors import Store
from broker.updates.removing import removed_exam, removed_order, under_way
from broker.worklist.records import ENDED, Order, StepStatus

OVER: Final = ENDED | {StepStatus.COMPLETED}
MAY_GO: Final = frozenset(StepStatus) - {StepStatus.STARTED}
"""A step in progress is never touched, nor is anything else of its order."""
SLICE: Final = 200
ALL_BYTES: Final = 2**62


@dataclass(frozen=True)
class Wish:
    """Orders all of whose steps have one of `statuses` and start before a day; and what else.

    `messages` and `performed` are the times before which archived messages came and performed steps
    were created. None means none of them.
    """

    statuses: frozenset[StepStatus] = OVER
    scheduled: date | None = None
    messages: datetime | None = None
    performed: datetime | None = None


class Candidate(NamedTuple):
    """One record that a wish means; `why` says what speaks for it, without patient data."""

    what: str
    key: str
    why: str


def candidates(store: Store, wish: Wish) -> Iterator[Candidate]:
    """Name all that a wish means. Raises StoreUnavailable."""
    if wish.scheduled:
        yield from _orders(store, wish)
    if wish.performed:
        yield from _exams(store, wish.performed)
    if wish.messages:
        yield from _messages(store, wish.messages)


def removed(store: Store, wish: Wish, candidate: Candidate, now: datetime) -> bool:
    """Remove a candidate, unless it has changed and is meant no more. Raises StoreUnavailable."""
    if candidate.what == "order":
        read = store.run(reads.orders([candidate.key]))
        order = read.known.orders.get(candidate.key)
        return bool(order and _why(order, wish) and removed_order(store, order, read, now))
    if candidate.what == "performed step":
        return removed_exam(store, candidate.key, now)
    before_ms = recall.place(candidate.key)[0] + 1
    trim = archive.trim(before_ms=before_ms, max_bytes=ALL_BYTES, at_most=1)  # the oldest first
    return store.run(trim) > 0


def _orders(store: Store, wish: Wish) -> Iterator[Candidate]:
    for index in (keys.CLOSED, keys.UNPERFORMED):
        for names in _pages(store, index):
            read = store.run(reads.orders(names))
            for name in names:
                order = read.known.orders.get(name)
                if order and (why := _why(order, wish)):
                    yield Candidate("order", name, why)


def _why(order: Order, wish: Wish) -> str:
    """Say by what an order is meant, '' when it is not: one without a start never is."""
    statuses = {step.status for _, step in order.steps()}
    start = indexes.last_start(order)
    if not statuses or not statuses <= wish.statuses & MAY_GO or not start or not wish.scheduled:
        return ""
    if under_way(order) or start >= _midnight(wish.scheduled).timestamp():
        return ""
    return f"{', '.join(sorted(statuses))}, {datetime.fromtimestamp(start, UTC):%Y-%m-%d}"


def _exams(store: Store, before: datetime) -> Iterator[Candidate]:
    due = reads.due(keys.MPPS_BY_TIME, before=before.timestamp(), limit=10**9)
    for uid in store.run(due):
        exam, _ = store.run(reads.mpps(uid))
        if exam and not under_way(exam):
            yield Candidate("performed step", uid, exam.status)


def _messages(store: Store, before: datetime) -> Iterator[Candidate]:
    last = "0-0"
    while page := store.run(recall.after(last)):
        for entry in page:
            if entry.stored_ms >= before.timestamp() * 1000:
                return
            outcome = entry.message.outcome if entry.message else "unreadable"
            yield Candidate("message", entry.stream_id, outcome)
        last = page[-1].stream_id


def _pages(store: Store, index: str) -> Iterator[list[str]]:
    """Give the members of a sorted set, some at a time; what moves meanwhile may be missed."""
    at = 0
    while page := store.run(Call(("ZRANGE", index, at, at + SLICE - 1), texts)):
        yield page
        at += SLICE


def _midnight(day: date) -> datetime:
    """Its beginning, as `last_start` counts it."""
    return datetime.combine(day, time(), UTC)
