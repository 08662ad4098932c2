"""The one way to write: preconditions, records, index changes, archive and outbox, all or none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from broker.store import archive, dead, held, indexes, keys, outbox
from broker.store.call import Call, Word, script
from broker.store.executors import StoreUnavailable
from broker.store.stored import written
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

ABSENT = ""
MOST_REFUSED: Final = 20_000
"""Messages that may be listed as refused, the oldest give way: each takes some 250 bytes."""


def members(count: int) -> str:
    """Say that a set must have so many members."""
    return f"members:{count}"


def value(times: Mapping[str, str]) -> str:
    """Say that a tombstone must hold these times."""
    return f"value:{json.dumps(times)}"


@dataclass(frozen=True)
class Guard:
    """Makes a repeat harmless: who asks again with these bytes gets `answer` again."""

    digest: str
    answer: bytes
    keep_s: int

    def __post_init__(self) -> None:
        _for_a_while(self.keep_s)


@dataclass(frozen=True)
class Change:
    """An order or patient as it was read (None: absent) and as it shall be (None: removed)."""

    revision: str
    before: Order | Patient | None
    after: Order | Patient | None


@dataclass(frozen=True)
class MppsChange:
    """A performed step as it was read and as it shall be (None: removed).

    `received` is the data set of the request, empty where it was none that changed the step; one
    from another store brings the `newest` besides.
    """

    revision: str
    before: Performed | None
    after: Performed | None
    received: bytes = b""
    newest: bytes = b""


@dataclass(frozen=True)
class Commit:
    """Everything that one message, request or purge changes; `at` is when, for the bounds.

    A message that is guarded waits no longer: it has been judged. `given` is the count of generated
    numbers, after the revision at which it was read.

    `empty` are keys that must not be there, `unchanged` further ones and what they must hold:
    `members` or `value`.
    `undone` are aliases that lead on no more: kind and former key. `refused_in_part` is the digest
    of a message that is archived here and listed among those that could not be applied.
    `placed` are orders, after their revision, whose steps the indexes do not hold yet.
    What comes from another store keeps, where it can, its place: `archived_as` is the stream ID,
    `letters` are dead letters as plain values.
    `frees` lets it through while writes are refused because the disk is nearly full.
    """

    at: datetime
    changes: Sequence[Change] = ()
    mpps: Sequence[MppsChange] = ()
    given: tuple[str, int] | None = None
    aliases: Sequence[tuple[str, str, str]] = ()
    undone: Sequence[tuple[str, str]] = ()
    alias_keep_s: int = 0
    tombstones: Sequence[tuple[str, dict[str, str]]] = ()
    tombstone_keep_s: int = 0
    guard: Guard | None = None
    held: held.Waiting | None = None
    archived: archive.Archived | None = None
    archived_as: str = "*"
    letters: Sequence[Mapping[str, Any]] = ()
    refused_in_part: str = ""
    frees: bool = False
    placed: Sequence[tuple[str, Order]] = ()
    events: Sequence[outbox.Event] = ()
    empty: Sequence[str] = field(default=())
    unchanged: Sequence[tuple[str, str]] = field(default=())

    def __post_init__(self) -> None:
        if self.aliases:
            _for_a_while(self.alias_keep_s)


@dataclass(frozen=True)
class Committed:
    """Everything was written, as durably as this Redis is set up to be."""

    revision: str


@dataclass(frozen=True)
class Conflict:
    """A record changed since it was read; nothing was written."""

    key: str


@dataclass(frozen=True)
class Repeat:
    """This message was answered before; nothing was written."""

    answer: bytes


def _for_a_while(seconds: int) -> None:
    """Refuse what Redis would refuse in the middle of the script, after the first writes."""
    if seconds < 1:
        raise ValueError(f"must be kept for at least a second, not {seconds}")


def commit(wanted: Commit) -> Call[Committed | Conflict | Repeat]:
    """Build the one call that writes."""
    guard = wanted.guard
    expected: list[Word] = []
    absent: list[Word] = []
    for key, revision in _preconditions(wanted):
        if revision == ABSENT:
            absent.append(key)
        else:
            expected += [key, revision]
    changes = [each for each in wanted.changes if each.before is None or each.before != each.after]
    records = list(_records(wanted, changes))
    commands = list(_commands(wanted, changes))
    words: list[Word] = [int(wanted.frees)]
    words += [guard.keep_s if guard else 0, guard.answer if guard else b""]
    words += [wanted.refused_in_part, MOST_REFUSED]
    words += [len(expected) // 2, *expected]
    words += [len(absent) + len(wanted.empty), *absent, *wanted.empty]
    words += [len(records), *(word for pair in records for word in pair)]
    words += _places(wanted, changes)
    words.append(len(commands))
    for command in commands:
        words += [len(command), *command]
    named = keys.guard(guard.digest) if guard else ""
    return Call(
        tuple(words), outcome_of, script("commit"), (keys.PREFIX, named), wanted, promised=True
    )


def _preconditions(wanted: Commit) -> Iterator[tuple[str, str]]:
    if wanted.given:
        yield keys.GIVEN, wanted.given[0]
    for change in wanted.changes:
        former = _key(change.before) if change.before is not None else ""
        key = _key(change.after) if change.after is not None else ""
        if former:
            yield former, change.revision
        if key and key != former:
            yield key, ABSENT
    for exam in wanted.mpps:
        yield keys.mpps(_uid(exam)), exam.revision
    yield from ((keys.order(order.key), revision) for revision, order in wanted.placed)
    yield from wanted.unchanged


def _records(wanted: Commit, changes: Sequence[Change]) -> Iterator[tuple[str, str | bytes]]:
    if wanted.given:
        yield keys.GIVEN, f"{wanted.given[1]}"
    for change in changes:
        former = _key(change.before) if change.before is not None else ""
        key = _key(change.after) if change.after is not None else ""
        if former and key != former:
            yield former, ""
        if change.after is not None:
            yield key, written(change.after)
    for exam in wanted.mpps:
        yield keys.mpps(_uid(exam)), written(exam.after) if exam.after else ""


def _places(wanted: Commit, changes: Sequence[Change]) -> Iterator[Word]:
    """Give the patients that change, since their steps stand anew, and the steps of the orders."""
    patients = [c.after.key for c in changes if isinstance(c.after, Patient)]
    yield len(patients)
    yield from patients
    leaving = [c.before for c in changes if isinstance(c.before, Order)]
    entering = [c.after for c in changes if isinstance(c.after, Order)]
    for orders in (leaving, [*entering, *(order for _, order in wanted.placed)]):
        places = [(o.patient, *place) for o in orders for place in indexes.places(o)]
        yield len(places)
        for place in places:
            yield from place


def _commands(wanted: Commit, changes: Sequence[Change]) -> Iterator[tuple[Word, ...]]:
    now = int(wanted.at.timestamp())
    for change in changes:
        if not indexes.stays(change.before, change.after):
            yield from indexes.changes(_entries(change.before), _entries(change.after))
    for _, order in wanted.placed:
        yield from indexes.changes(set(), indexes.of_order(order))
    yield from _bounds(changes, now)
    for kind, former, key in wanted.aliases:
        yield ("SET", keys.alias(kind, former), key, "EX", wanted.alias_keep_s)
    for kind, former in wanted.undone:
        yield ("DEL", keys.alias(kind, former))
    for name, sent in wanted.tombstones:
        yield ("SET", keys.tombstone(name), json.dumps(sent), "EX", wanted.tombstone_keep_s)
    for exam in wanted.mpps:
        yield from _of_exam(exam, now)
    if wanted.held:
        yield from held.adding(wanted.held)
        yield ("HDEL", keys.REFUSED, wanted.held.digest)
        yield ("ZREM", keys.REFUSED_BY_TIME, wanted.held.digest)
    if wanted.archived:
        yield from archive.adding(wanted.archived, wanted.archived_as)
    for letter in wanted.letters:
        yield from dead.burying(letter)
    for event in wanted.events:
        yield from outbox.adding(event)
    yield from outbox.waking(wanted.events)


def _of_exam(exam: MppsChange, now: int) -> Iterator[tuple[Word, ...]]:
    uid = _uid(exam)
    before, after = indexes.of_performed(exam.before), indexes.of_performed(exam.after)
    yield from indexes.changes(before, after)
    if exam.received:
        which = "created" if exam.before is None else "newest"
        yield ("HSET", keys.mpps_received(uid), which, zlib.compress(exam.received))
    if exam.newest:
        yield ("HSET", keys.mpps_received(uid), "newest", zlib.compress(exam.newest))
    if exam.before is None:
        yield ("ZADD", keys.MPPS_BY_TIME, now, uid)
    elif exam.after is None:
        yield ("DEL", keys.mpps_received(uid))
        yield ("ZREM", keys.MPPS_BY_TIME, uid)


def _uid(exam: MppsChange) -> str:
    either = exam.after or exam.before
    return either.sop_instance_uid if either else ""


def _bounds(changes: Sequence[Change], now: int) -> Iterator[tuple[Word, ...]]:
    """Keep the lists from which retention removes: closed, unperformed, patients without orders.

    Whoever removes idle patients asks again, in the commit, whether there are orders.
    """
    served, left, come = set(), set(), set()
    for before, after in ((change.before, change.after) for change in changes):
        if isinstance(before, Order):
            left.add(before.patient)
        if isinstance(after, Order):
            served.add(after.patient)
        elif before is None and after is not None:
            come.add(after.key)
    for patient in left - served:
        yield ("ZADD", keys.IDLE, "NX", now, patient)
    for change in changes:
        if isinstance(change.before or change.after, Order):
            yield from _open_or_closed(change, now)
        elif change.after is None and change.before is not None:
            yield ("ZREM", keys.IDLE, change.before.key)
        elif change.after is not None and change.after.key not in served:
            yield (
                "ZADD",
                keys.IDLE,
                "NX" if change.before is None else "XX",
                now,
                change.after.key,
            )
    if busy := served - left - come:
        yield ("ZREM", keys.IDLE, *busy)


def _open_or_closed(change: Change, now: int) -> Iterator[tuple[Word, ...]]:
    """Keep an order on the list of those with an open step, or on that of the others."""
    before, after = change.before, change.after
    lists = [
        (keys.UNPERFORMED if indexes.is_open(each) else keys.CLOSED, each.key)
        for each in (before, after)
        if isinstance(each, Order)
    ]
    if isinstance(before, Order) and (len(lists) == 1 or lists[0] != lists[1]):
        yield ("ZREM", *lists[0])
    if isinstance(after, Order):
        start = indexes.last_start(after) if lists[-1][0] == keys.UNPERFORMED else 0
        yield ("ZADD", lists[-1][0], max(now, start), after.key)


def _entries(record: Order | Patient | None) -> set[indexes.Entry]:
    return indexes.of_order(record) if isinstance(record, Order) else indexes.of_patient(record)


def _key(record: Order | Patient) -> str:
    return keys.order(record.key) if isinstance(record, Order) else keys.patient(record.key)


def outcome_of(reply: list[Any]) -> Committed | Conflict | Repeat:
    """Read what a script that writes has answered."""
    kind, value = reply[0], reply[1]
    if kind == b"committed":
        return Committed(value.decode())
    if kind == b"conflict":
        return Conflict(value.decode())
    if kind == b"repeat":
        return Repeat(value)
    raise StoreUnavailable(f"writes are refused: {value.decode()}")
