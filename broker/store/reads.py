"""What can be read: everything a message names, the candidates of a query, single records."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from broker.store import indexes, keys, stored
from broker.store.call import Call, pairs, script, text, texts
from broker.store.commit import ABSENT
from broker.store.stored import REVISION_LENGTH, versioned
from broker.worklist.finding import Identifier, Known, Wanted
from broker.worklist.mpps import Performed
from broker.worklist.query.narrowing import ALL_ORDERS, Narrowing
from broker.worklist.records import Order, Patient
from broker.worklist.staleness import OURS, is_stale

R = TypeVar("R", Order, Patient, Performed)
SLICE = 200
"""Steps or orders read at once, so that a long list lets others through."""
STEP_MARK = indexes.STEP_MARK.encode()


@dataclass(frozen=True)
class Read:
    """What was read, and the revision of each record by its Redis key.

    `unreadable` names the records that this program cannot read, for instance a newer one's. What
    was `guessed` was not read at all: the commit has to find that nothing is there. `exams` are the
    performed steps that wait for an order of these numbers, by SOP Instance UID. `astray` are the
    names (kind:key) with an alias that leads to no record.
    """

    known: Known
    revisions: dict[str, str]
    unreadable: tuple[str, ...] = ()
    guessed: bool = False
    exams: Mapping[str, Performed] = field(default_factory=dict)
    astray: frozenset[str] = frozenset()

    def revision(self, record: Order | Patient) -> str:
        """Give the revision at which a record was read, ABSENT when it was not there."""
        key = keys.order(record.key) if isinstance(record, Order) else keys.patient(record.key)
        return self.revisions.get(key, ABSENT)

    def exam_revision(self, exam: Performed) -> str:
        """Give the revision at which a performed step was read."""
        return self.revisions[keys.mpps(exam.sop_instance_uid)]

    def written_since(self, newest: str | None, first: Read) -> frozenset[str]:
        """Name the orders that others wrote while a message was under way.

        They are newer than what was the `newest` when it began to wait for its turn (None: it had
        not to), or than its `first` read.
        """
        return frozenset(
            order.key
            for order in self.known.orders.values()
            if (newest is not None and self.revision(order) > newest)
            or self.revision(order) != first.revision(order)
        )

    def written_elsewhere(self, since: str, own: Container[str]) -> frozenset[str]:
        """Name the orders that another process wrote last, for a message that came after `since`.

        `since` is an instant of ours, `own` are the revisions of this process.
        """
        return frozenset(
            order.key
            for order in self.known.orders.values()
            if is_stale(since, order.sent.get(OURS, "")) and self.revision(order) not in own
        )


@dataclass(frozen=True)
class Members:
    """A slice of an index: which open steps, in which versions, by start; `rest` is what follows.

    `count` is how many an index by start holds in all from here on.
    """

    found: list[bytes]
    count: int = 0
    rest: Narrowing | None = None


class Stood(NamedTuple):
    """A step in an index: the order's key, member without versions, and versions as they stood.

    Of all that an order has the member is only its key.
    """

    order: str
    member: bytes
    versions: bytes


def stood(member: bytes) -> Stood:
    """Take a member of an index apart."""
    step, _, versions = member.rpartition(b"@")
    return Stood(step.partition(STEP_MARK)[0].decode(), step, versions)


@dataclass(frozen=True)
class Raw:
    """Orders with their patients, as they lie in the store; `patients` lacks what is gone."""

    orders: list[tuple[bytes, bytes]]
    patients: dict[bytes, bytes]


def lookup(wanted: Wanted) -> Call[Read]:
    """Read everything that a message names: by key, by number, and the patients of the orders."""
    return Call((json.dumps(wanted._asdict()),), _read, script("lookup"), about=wanted)


NOTHING = Read(Known(), {}, guessed=True)
"""What is there of an order that nobody has heard of."""


def orders_by(identifiers: Iterable[Identifier]) -> Call[Read]:
    """Read the orders that numbers lead to."""
    return lookup(Wanted((), (), tuple(sorted(identifiers)), False))


def orders(order_keys: Iterable[str]) -> Call[Read]:
    """Read orders and their patients by key."""
    return lookup(Wanted(tuple(order_keys), (), (), False))


def patients(patient_keys: Iterable[str]) -> Call[Read]:
    """Read patients by key."""
    return lookup(Wanted((), tuple(patient_keys), (), False))


def members(narrowing: Narrowing, at_most: int = SLICE) -> Call[Members]:
    """Name the open steps that may answer a query, `at_most` or as many as start at one moment.

    Raises ValueError for one of several stations or modalities, which are read each by itself.
    """
    kind, value, low, high, after, ended, also = narrowing
    if also:
        raise ValueError("several indexes are not read as one")
    return Call(
        (kind, value, low, high, after, int(ended), at_most),
        lambda reply: _members(reply, narrowing),
        script("members"),
    )


def whole(narrowing: Narrowing, at_most: int) -> Call[Members]:
    """Name all open steps that an index by start holds within its bounds, at one moment.

    None is named, only counted, where they are more than `at_most`.
    """
    index = keys.starts(narrowing.kind, narrowing.value)
    return Call(
        ("ZRANGEBYSCORE", index, narrowing.low, narrowing.high, "LIMIT", 0, at_most + 1),
        lambda found: Members(found if len(found) <= at_most else [], len(found)),
    )


def counted(narrowing: Narrowing) -> Call[Members]:
    """Count the open steps that an index by start holds within its bounds."""
    index = keys.starts(narrowing.kind, narrowing.value)
    return Call(
        ("ZCOUNT", index, narrowing.low, narrowing.high), lambda count: Members([], int(count))
    )


def starting(narrowing: Narrowing, at_most: int) -> list[Call[dict[bytes, int]]]:
    """Name the open steps of each station or modality with their starts, one more than `at_most`.

    They may lie in several of these indexes.
    """
    bounds = (narrowing.low, narrowing.high, "WITHSCORES", "LIMIT", 0, at_most + 1)
    return [
        Call(("ZRANGEBYSCORE", keys.starts(narrowing.kind, value), *bounds), _starts)
        for value in (narrowing.value, *narrowing.also)
    ]


def _starts(found: list[bytes]) -> dict[bytes, int]:
    return dict(zip(found[::2], map(int, found[1::2]), strict=True))


def records(order_keys: Sequence[bytes]) -> Call[Raw]:
    """Read orders with their patients at one moment, and leave them as they are; at least one."""
    return Call(tuple(order_keys), _raw, script("records"))


def names(after: str, at_most: int) -> Call[list[bytes]]:
    """Give folded names, each with a NUL and its patient's key, in order behind the one `after`."""
    low = f"({after}" if after else "-"
    return Call(("ZRANGEBYLEX", keys.NAMES, low, "+", "LIMIT", 0, at_most), list)


def mpps(sop_instance_uid: str) -> Call[tuple[Performed | None, str]]:
    """Read a performed step with its revision; a repeat of what it holds is a Success."""
    return Call(("GET", keys.mpps(sop_instance_uid)), _mpps, promised=True)


def remembered(digest: str) -> Call[bytes | None]:
    """Read the answer that a message with this digest got, None when it was never taken."""
    return Call(("GET", keys.guard(digest)), lambda reply: reply)


def open_steps() -> Call[int]:
    """Count the open steps."""
    return Call(("ZCARD", keys.starts("start")), int)


def exceptions() -> Call[int]:
    """Count the performed steps that a person should look at."""
    return Call(("ZCARD", keys.EXCEPTIONS), int)


def due(index: str, *, before: float, limit: int) -> Call[list[str]]:
    """Give the members of a sorted set with a score below `before`, lowest first."""
    return Call(("ZRANGEBYSCORE", index, "-inf", f"({before}", "LIMIT", 0, limit), texts)


def ping() -> Call[bool]:
    """Ask for a sign of life."""
    return Call(("PING",), bool)


def writable() -> Call[bool]:
    """Ask for a sign of life that a full, read-only or loading Redis cannot give."""
    return Call(("SET", f"{keys.PREFIX}writable", "1", "EX", 60), bool)


def _read(reply: list[Any]) -> Read:
    found, order_revisions, unread = _records(reply[0], stored.order)
    people, patient_revisions, unread_people = _records(reply[1], stored.patient)
    aliases = {asked: text(actual) for asked, actual in pairs(reply[2])}
    tombstones = {name: json.loads(sent) for name, sent in pairs(reply[3])}
    given, given_revision = _given(reply[4])
    exams, exam_revisions, unread_exams = _records(reply[5], stored.performed)
    return Read(
        Known(found, people, aliases, tombstones, given),
        {keys.order(key): revision for key, revision in order_revisions.items()}
        | {keys.patient(key): revision for key, revision in patient_revisions.items()}
        | {keys.mpps(uid): revision for uid, revision in exam_revisions.items()}
        | {keys.GIVEN: given_revision},
        (*unread, *unread_people, *unread_exams, *_empty(reply[0]), *_empty(reply[1])),
        exams=exams,
        astray=frozenset(texts(reply[6])),
    )


def _empty(reply: list[Any]) -> Iterator[str]:
    """Name records without content: taken for absent ones they would make every commit conflict."""
    return (key for key, raw in pairs(reply) if not raw)


def _members(reply: list[Any], narrowing: Narrowing) -> Members:
    count, found, following = reply[0], reply[1], text(reply[2])
    rest = None
    if following:
        by_name = narrowing.kind == "name"
        low = narrowing.low if by_name else following
        rest = narrowing._replace(low=low, after=following if by_name else "")
    elif narrowing.kind == ALL_ORDERS:
        rest = narrowing._replace(kind="closed", low=0)
    return Members(found, int(count), rest)


def _raw(reply: list[Any]) -> Raw:
    orders, patients = reply
    return Raw(
        list(zip(orders[::2], orders[1::2], strict=True)),
        {key: raw for key, raw in zip(patients[::2], patients[1::2], strict=True) if raw},
    )


def _records(
    reply: list[Any], read: Callable[[bytes], R]
) -> tuple[dict[str, R], dict[str, str], tuple[str, ...]]:
    """Read key, value pairs; one that cannot be read is named and must not end the others."""
    records: dict[str, R] = {}
    revisions: dict[str, str] = {}
    unreadable = []
    for key, raw in pairs(reply):
        try:
            if raw:
                records[key], revisions[key] = versioned(raw, read)
        except ValueError:
            unreadable.append(key)
    return records, revisions, tuple(unreadable)


def _given(raw: bytes) -> tuple[int, str]:
    if not raw:
        return 0, ABSENT
    return int(raw[REVISION_LENGTH:]), raw[:REVISION_LENGTH].decode()


def _mpps(raw: bytes | None) -> tuple[Performed | None, str]:
    if raw is None:
        return None, ABSENT
    return versioned(raw, stored.performed)
