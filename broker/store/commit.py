"""The one way to write: preconditions, records, index changes, archive and outbox, all or none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker.store import archive, held, indexes, keys, outbox
from broker.store.call import Call, Word, script
from broker.store.executors import StoreUnavailable
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

ABSENT = ""
REVISION_LENGTH = 12


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
    """A performed step as it was read and as it shall be, with the data set as received."""

    revision: str
    before: Performed | None
    after: Performed
    received: bytes


@dataclass(frozen=True)
class Commit:
    """Everything that one message, request or purge changes; `at` is when, for the bounds.

    A message that is guarded waits no longer: it has been judged.

    `frees` lets it through while writes are refused because the disk is nearly full.
    """

    at: datetime
    changes: Sequence[Change] = ()
    mpps: MppsChange | None = None
    aliases: Sequence[tuple[str, str, str]] = ()
    alias_keep_s: int = 0
    tombstones: Sequence[tuple[str, dict[str, str]]] = ()
    tombstone_keep_s: int = 0
    guard: Guard | None = None
    held: held.Waiting | None = None
    archived: archive.Archived | None = None
    frees: bool = False
    events: Sequence[outbox.Event] = ()
    empty: Sequence[str] = field(default=())

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
    expected = list(_preconditions(wanted))
    records = list(_records(wanted))
    commands = list(_commands(wanted))
    words: list[Word] = [int(wanted.frees)]
    words += [guard.keep_s if guard else 0, guard.answer if guard else b""]
    words += [len(expected), *(word for pair in expected for word in pair)]
    words += [len(records), *(word for pair in records for word in pair)]
    words.append(len(commands))
    for command in commands:
        words += [len(command), *command]
    named = keys.guard(guard.digest) if guard else ""
    return Call(tuple(words), _outcome, script("commit"), (keys.PREFIX, named))


def _preconditions(wanted: Commit) -> Iterator[tuple[str, str]]:
    for change in wanted.changes:
        if change.before is not None:
            yield _key(change.before), change.revision
        if change.after is not None and (
            change.before is None or _key(change.after) != _key(change.before)
        ):
            yield _key(change.after), ABSENT
    if wanted.mpps:
        yield keys.mpps(wanted.mpps.after.sop_instance_uid), wanted.mpps.revision
    for key in wanted.empty:
        yield key, "empty"


def _records(wanted: Commit) -> Iterator[tuple[str, str]]:
    for change in wanted.changes:
        if change.after == change.before:
            continue
        if change.before is not None and (
            change.after is None or _key(change.after) != _key(change.before)
        ):
            yield _key(change.before), ""
        if change.after is not None:
            yield _key(change.after), change.after.model_dump_json()
    if wanted.mpps:
        after = wanted.mpps.after
        yield keys.mpps(after.sop_instance_uid), after.model_dump_json()


def _commands(wanted: Commit) -> Iterator[tuple[Word, ...]]:
    now = int(wanted.at.timestamp())
    for change in wanted.changes:
        yield from indexes.changes(_entries(change.before), _entries(change.after))
    for change in sorted(wanted.changes, key=_turn):
        yield from _bounds(change, now)
    for kind, former, key in wanted.aliases:
        yield ("SET", keys.alias(kind, former), key, "EX", wanted.alias_keep_s)
    for name, sent in wanted.tombstones:
        yield ("SET", keys.tombstone(name), json.dumps(sent), "EX", wanted.tombstone_keep_s)
    if wanted.mpps:
        uid = wanted.mpps.after.sop_instance_uid
        which = "created" if wanted.mpps.before is None else "newest"
        yield ("HSET", keys.mpps_received(uid), which, zlib.compress(wanted.mpps.received))
        if wanted.mpps.before is None:
            yield ("ZADD", keys.MPPS_BY_TIME, now, uid)
    if wanted.held:
        yield from held.adding(wanted.held)
    if wanted.archived:
        yield from archive.adding(wanted.archived)
    for event in wanted.events:
        yield from outbox.adding(event)


def _turn(change: Change) -> int:
    """Patients that come, then orders, then patients that go: an order says who is idle."""
    if isinstance(change.after or change.before, Order):
        return 1
    return 0 if change.after else 2


def _bounds(change: Change, now: int) -> Iterator[tuple[Word, ...]]:
    """Keep the lists from which retention removes: closed, unperformed, patients without orders."""
    before, after = change.before, change.after
    if before == after:
        return
    if isinstance(before, Order):
        yield ("ZREM", keys.CLOSED, before.key)
        yield ("ZREM", keys.UNPERFORMED, before.key)
        # Whoever removes idle patients asks again, in the commit, whether there are orders.
        yield ("ZADD", keys.IDLE, "NX", now, before.patient)
    if isinstance(before, Patient) and after is None:
        yield ("ZREM", keys.IDLE, before.key)
    if isinstance(after, Order):
        if indexes.is_open(after):
            yield ("ZADD", keys.UNPERFORMED, max(now, indexes.last_start(after)), after.key)
        else:
            yield ("ZADD", keys.CLOSED, now, after.key)
        yield ("ZREM", keys.IDLE, after.patient)
    if isinstance(after, Patient) and before is None:
        yield ("ZADD", keys.IDLE, now, after.key)
    elif isinstance(after, Patient):
        yield ("ZADD", keys.IDLE, "XX", now, after.key)


def _entries(record: Order | Patient | None) -> set[indexes.Entry]:
    return indexes.of_order(record) if isinstance(record, Order) else indexes.of_patient(record)


def _key(record: Order | Patient) -> str:
    return keys.order(record.key) if isinstance(record, Order) else keys.patient(record.key)


def _outcome(reply: list[Any]) -> Committed | Conflict | Repeat:
    kind, value = reply[0], reply[1]
    if kind == b"committed":
        return Committed(value.decode())
    if kind == b"conflict":
        return Conflict(value.decode())
    if kind == b"repeat":
        return Repeat(value)
    raise StoreUnavailable(f"writes are refused: {value.decode()}")
