"""What the self-test leaves in the store: its last result, and, while it runs, its traces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from broker.store import growth, keys, reads, recall, refused
from broker.store.archive import Archived
from broker.store.call import Call, Word
from broker.store.commit import Change, Commit, Committed, MppsChange, commit
from broker.store.executors import Store
from broker.worklist.canary import DESTINATION, MARK
from broker.worklist.finding import Identifier

LOCK_S: Final = 300
ATTEMPTS: Final = 5
LOOK_BACK_MS: Final = 60_000
LATE: Final = 3
"""How many times the usual pause a result may be old, to prove anything."""


@dataclass(frozen=True)
class Hop:
    """One hop: how long it took, and its `fault`, '' when it held; `skipped` says why it was not
    tried."""

    name: str
    ms: float
    fault: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Result:
    """What one run found, at `at` (epoch s); `last_ok` is when one held last, 0 for never."""

    at: float
    hops: tuple[Hop, ...]
    last_ok: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every hop that was tried held."""
        return bool(self.hops) and not any(hop.fault for hop in self.hops)

    def is_late(self, now: float, every_s: float | None) -> bool:
        """Whether it is too old at `now` (epoch s) to prove anything; None: none is expected."""
        return every_s is not None and now - self.at > LATE * every_s

    @property
    def failing(self) -> str:
        """The first hop that did not hold, '' when all did."""
        return next((hop.name for hop in self.hops if hop.fault), "")


@dataclass(frozen=True)
class Traces:
    """What a run puts into the store: its number, its exam, the digests of its messages."""

    number: str
    exam: str
    began_ms: int
    digests: tuple[str, ...] = field(default=())


def traces_of(number: str, exam: str, message: bytes, *, began_ms: int) -> Traces:
    """Give what a run of one order is going to leave."""
    return Traces(number, exam, began_ms, (hashlib.sha256(message).hexdigest(),))


def begin(token: str) -> Call[bool]:
    """Say that a self-test runs; False when another one does, which may take LOCK_S."""
    return Call(("SET", keys.SELFTEST_RUNS, token, "NX", "EX", LOCK_S), bool)


def end() -> Call[int]:
    """Say that it runs no more."""
    return Call(("DEL", keys.SELFTEST_RUNS), int)


def leave(traces: Traces) -> Call[bool]:
    """Note what will be left, before it is: whoever comes next removes it if we die."""
    return Call(("SET", keys.SELFTEST_TRACES, json.dumps(asdict(traces))), bool)


def left() -> Call[Traces | None]:
    """Give what a run has left that was not removed, None for nothing."""
    return Call(("GET", keys.SELFTEST_TRACES), _traces)


def keep(result: Result) -> Call[bool]:
    """Keep the result, in place of the former one."""
    return Call(("SET", keys.SELFTEST, json.dumps(asdict(result))), bool)


def last() -> Call[Result | None]:
    """Give the last result, None before the first run."""
    return Call(("GET", keys.SELFTEST), _result)


def removed(store: Store, traces: Traces, now: datetime) -> bool:
    """Remove everything that a run has left; False when something of it could not be.

    Orders are those that its message changed: of another mapping's making they have another number.
    Nothing that does not bear our mark is touched. Raises StoreUnavailable.
    """
    entries = _archived(store, traces)
    by_number = store.run(reads.orders_by([Identifier("accession", traces.number)])).known.orders
    changed = {key for _, message in entries for key in message.orders}
    boxes = sorted(key for key in changed | by_number.keys() if MARK in key)
    gone = _without_exam(store, traces.exam, now)
    gone = _without_orders(store, boxes, now) and gone
    for digest in traces.digests:
        store.run(refused.forget(digest))
    words: list[Word] = [keys.SELFTEST_TRACES] if gone else []
    words += [keys.guard(digest) for digest in traces.digests]
    words += [key for box in boxes for key in _of_mailbox(box)]
    for box in boxes:
        store.run(growth.unlist(keys.dirty(DESTINATION), box))
        store.run(Call(("HDEL", keys.troubles(DESTINATION), box), int))
    for stream_id, _ in entries:
        _unarchive(store, stream_id)
    if words:
        store.run(Call(("DEL", *words), int))
    return gone


def _of_mailbox(box: str) -> tuple[str, ...]:
    return (
        keys.outbox(DESTINATION, box),
        keys.lease(DESTINATION, box),
        keys.parked(DESTINATION, box),
        keys.sent(box),
        keys.sightings(box),
    )


def _archived(store: Store, traces: Traces) -> list[tuple[str, Archived]]:
    """Its messages: they came since it began, as far as the clocks of both agree."""
    at, found = f"{max(0, traces.began_ms - LOOK_BACK_MS)}-0", list[tuple[str, Archived]]()
    while page := store.run(recall.after(at)):
        found += [
            (entry.stream_id, entry.message)
            for entry in page
            if entry.message and entry.message.control_id == traces.number
        ]
        at = page[-1].stream_id
    return found


def _unarchive(store: Store, stream_id: str) -> None:
    raw: list[Any] = store.run(Call(("XRANGE", keys.ARCHIVE, stream_id, stream_id), list))
    for fields in (dict(_pairs(each[1])) for each in raw):
        if store.run(Call(("XDEL", keys.ARCHIVE, stream_id), int)):
            store.run(Call(("DECRBY", keys.ARCHIVE_BYTES, int(fields[b"size"])), int))


def _pairs(fields: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(fields, dict):
        return list(fields.items())
    return list(zip(fields[::2], fields[1::2], strict=True))


def _without_exam(store: Store, uid: str, now: datetime) -> bool:
    for _ in range(ATTEMPTS):
        exam, revision = store.run(reads.mpps(uid))
        if exam is None:
            return True
        change = MppsChange(revision, exam, None)
        if isinstance(store.run(commit(Commit(at=now, mpps=[change], frees=True))), Committed):
            return True
    return False


def _without_orders(store: Store, named: Sequence[str], now: datetime) -> bool:
    """Remove its orders, with patients that are only theirs."""
    for _ in range(ATTEMPTS):
        read = store.run(reads.orders(named))
        ours = list(read.known.orders.values())
        people = [p for order in ours if (p := read.known.patient(order.patient)) and MARK in p.key]
        if not ours:
            return True
        changes = [
            *(Change(read.revision(order), order, None) for order in ours),
            *(Change(read.revision(person), person, None) for person in people),
        ]
        outcome = store.run(commit(Commit(at=now, changes=changes, frees=True)))
        if isinstance(outcome, Committed):
            return True
    return False


def _traces(reply: Any) -> Traces | None:
    if not reply:
        return None
    facts = json.loads(reply)
    return Traces(**{**facts, "digests": tuple(facts["digests"])})


def _result(reply: Any) -> Result | None:
    if not reply:
        return None
    facts = json.loads(reply)
    hops = tuple(Hop(**each) for each in facts["hops"])
    return Result(facts["at"], hops, facts["last_ok"])
