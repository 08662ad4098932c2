"""The one way to write: preconditions, records, index changes, archive and outbox, all or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from broker.store import archive, dead, held, indexes, keys, outbox
from broker.store.call import Call, Word, script
from broker.store.executors import StoreUnavailable
from broker.store.packing import packed
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
    guard, keyed = wanted.guard, [_keyed(change) for change in wanted.changes]
    changed = [each for each in keyed if each.before is None or each.before != each.after]
    expected, absent = _preconditions(wanted, keyed)
    records = _records(wanted, changed)
    words: list[Word] = [int(wanted.frees)]
    words += (guard.keep_s, guard.answer) if guard else (0, b"")
    words += (wanted.refused_in_part, MOST_REFUSED)
    words += (len(expected) // 2, *expected)
    words += (len(absent) + len(wanted.empty), *absent, *wanted.empty)
    words += (len(records) // 2, *records)
    words += _places(wanted, changed)
    commands = list(_commands(wanted, changed))
    words.append(len(commands))
    for command in commands:
        words.append(len(command))
        words += command
    named = keys.guard(guard.digest) if guard else ""
    return Call(
        tuple(words), outcome_of, script("commit"), (keys.PREFIX, named), wanted, promised=True
    )


class _Keyed(NamedTuple):
    """A change with the keys of Redis at which its record was and will be, '' for none."""

    former: str
    key: str
    revision: str
    before: Order | Patient | None
    after: Order | Patient | None


def _keyed(change: Change) -> _Keyed:
    before, after = change.before, change.after
    former = _key(before) if before is not None else ""
    key = _key(after) if after is not None else ""
    return _Keyed(former, key, change.revision, before, after)


def _preconditions(wanted: Commit, keyed: Sequence[_Keyed]) -> tuple[list[Word], list[Word]]:
    """Give what has to be as it was read, each with its revision, and what must not be there."""
    asked: list[tuple[str, str]] = []
    if wanted.given:
        asked.append((keys.GIVEN, wanted.given[0]))
    for former, key, revision, _, _ in keyed:
        if former:
            asked.append((former, revision))
        if key and key != former:
            asked.append((key, ABSENT))
    asked += [(keys.mpps(_uid(exam)), exam.revision) for exam in wanted.mpps]
    asked += [(keys.order(order.key), revision) for revision, order in wanted.placed]
    asked += wanted.unchanged
    expected, absent = list[Word](), list[Word]()
    for key, revision in asked:
        if revision == ABSENT:
            absent.append(key)
        else:
            expected += (key, revision)
    return expected, absent


def _records(wanted: Commit, changed: Sequence[_Keyed]) -> list[Word]:
    """Give the key and the value of each record, '' for one that goes."""
    words: list[Word] = []
    if wanted.given:
        words += (keys.GIVEN, f"{wanted.given[1]}")
    for former, key, _, _, after in changed:
        if former and key != former:
            words += (former, "")
        if after is not None:
            words += (key, written(after))
    for exam in wanted.mpps:
        words += (keys.mpps(_uid(exam)), written(exam.after) if exam.after else "")
    return words


def _places(wanted: Commit, changed: Sequence[_Keyed]) -> list[Word]:
    """Give the patients that change, since their steps stand anew, and the steps of the orders."""
    patients = [each.after.key for each in changed if isinstance(each.after, Patient)]
    leaving = [each.before for each in changed if isinstance(each.before, Order)]
    entering = [each.after for each in changed if isinstance(each.after, Order)]
    entering += [order for _, order in wanted.placed]
    words: list[Word] = [len(patients), *patients]
    for orders in (leaving, entering):
        at, count = len(words), 0
        for order in orders:
            for place in indexes.places(order):
                words += (order.patient, *place)
                count += 1
        words.insert(at, count)
    return words


def _commands(wanted: Commit, changed: Sequence[_Keyed]) -> Iterator[tuple[Word, ...]]:
    now = int(wanted.at.timestamp())
    for change in changed:
        if change.before is None:
            yield from indexes.adding(_entries(change.after))
        elif not indexes.stays(change.before, change.after):
            yield from indexes.changes(_entries(change.before), _entries(change.after))
    for _, order in wanted.placed:
        yield from indexes.adding(indexes.of_order(order))
    yield from _bounds(changed, now)
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
        yield ("HSET", keys.mpps_received(uid), which, packed(exam.received, "record"))
    if exam.newest:
        yield ("HSET", keys.mpps_received(uid), "newest", packed(exam.newest, "record"))
    if exam.before is None:
        yield ("ZADD", keys.MPPS_BY_TIME, now, uid)
    elif exam.after is None:
        yield ("DEL", keys.mpps_received(uid))
        yield ("ZREM", keys.MPPS_BY_TIME, uid)


def _uid(exam: MppsChange) -> str:
    either = exam.after or exam.before
    return either.sop_instance_uid if either else ""


def _bounds(changed: Sequence[_Keyed], now: int) -> Iterator[tuple[Word, ...]]:
    """Keep the lists from which retention removes: closed, unperformed, patients without orders.

    Whoever removes idle patients asks again, in the commit, whether there are orders.
    """
    left = {each.before.patient for each in changed if isinstance(each.before, Order)}
    served = {each.after.patient for each in changed if isinstance(each.after, Order)}
    come = set()
    for patient in left - served:
        yield ("ZADD", keys.IDLE, "NX", now, patient)
    for _, _, _, before, after in changed:
        if isinstance(before or after, Order):
            yield from _open_or_closed(before, after, now)
        elif after is not None:
            if before is None:
                come.add(after.key)
            if after.key not in served:
                yield ("ZADD", keys.IDLE, "NX" if before is None else "XX", now, after.key)
        elif before is not None:
            yield ("ZREM", keys.IDLE, before.key)
    if busy := served - left - come:
        yield ("ZREM", keys.IDLE, *busy)


def _open_or_closed(
    before: Order | Patient | None, after: Order | Patient | None, now: int
) -> Iterator[tuple[Word, ...]]:
    """Keep an order on the list of those with an open step, or on that of the others."""
    left = _list_of(before) if isinstance(before, Order) else None
    if not isinstance(after, Order):
        if left:
            yield ("ZREM", *left)
        return
    entered = _list_of(after)
    if left and left != entered:
        yield ("ZREM", *left)
    start = indexes.last_start(after) if entered[0] == keys.UNPERFORMED else 0
    yield ("ZADD", entered[0], max(now, start), after.key)


def _list_of(order: Order) -> tuple[str, str]:
    return keys.UNPERFORMED if indexes.is_open(order) else keys.CLOSED, order.key


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
