"""What can be read: everything a message names, the candidates of a query, single records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from broker.store import keys
from broker.store.call import Call, pairs, script, text, texts
from broker.store.commit import ABSENT, REVISION_LENGTH
from broker.worklist.finding import Identifier, Known, Wanted
from broker.worklist.mpps import Performed
from broker.worklist.narrowing import Narrowing
from broker.worklist.records import Order, Patient

R = TypeVar("R", Order, Patient, Performed)
SLICE = 200
"""Orders read at once for a query, so that a long list lets others through."""


@dataclass(frozen=True)
class Read:
    """What was read, and the revision of each record by its Redis key.

    `unreadable` names the records that this program cannot read, for instance a newer one's.
    """

    known: Known
    revisions: dict[str, str]
    unreadable: tuple[str, ...] = ()

    def revision(self, record: Order | Patient) -> str:
        """Give the revision at which a record was read, ABSENT when it was not there."""
        key = keys.order(record.key) if isinstance(record, Order) else keys.patient(record.key)
        return self.revisions.get(key, ABSENT)


@dataclass(frozen=True)
class Candidates:
    """Order keys in the order of the index, and the records of the first of them.

    `unreadable` names the records that this program cannot read, for instance a newer one's.
    """

    found: list[str]
    known: Known
    unreadable: tuple[str, ...] = ()


def lookup(wanted: Wanted) -> Call[Read]:
    """Read everything that a message names: by key, by number, and the patients of the orders."""
    return Call((json.dumps(wanted._asdict()),), _read, script("lookup"))


def orders_by(identifiers: Iterable[Identifier]) -> Call[Read]:
    """Read the orders that numbers lead to."""
    return lookup(Wanted((), (), tuple(sorted(identifiers)), False))


def orders(order_keys: Iterable[str]) -> Call[Read]:
    """Read orders and their patients by key."""
    return lookup(Wanted(tuple(order_keys), (), (), False))


def candidates(narrowing: Narrowing) -> Call[Candidates]:
    """Read what may answer a query, in one round trip."""
    words = (narrowing.kind, narrowing.value, narrowing.low, narrowing.high, SLICE)
    return Call(words, _candidates, script("candidates"))


def mpps(sop_instance_uid: str) -> Call[tuple[Performed | None, str]]:
    """Read a performed step with its revision."""
    return Call(("GET", keys.mpps(sop_instance_uid)), _mpps)


def remembered(digest: str) -> Call[bytes | None]:
    """Read the answer that a message with this digest got, None when it was never taken."""
    return Call(("GET", keys.guard(digest)), lambda reply: reply)


def open_steps() -> Call[int]:
    """Count the open steps."""
    return Call(("ZCARD", keys.starts("start")), int)


def due(index: str, *, before: float, limit: int) -> Call[list[str]]:
    """Give the members of a sorted set with a score below `before`, lowest first."""
    return Call(("ZRANGEBYSCORE", index, "-inf", f"({before}", "LIMIT", 0, limit), texts)


def ping() -> Call[bool]:
    """Ask for a sign of life."""
    return Call(("PING",), bool)


def writable() -> Call[bool]:
    """Ask for a sign of life that a full, read-only or loading Redis cannot give."""
    return Call(("SET", f"{keys.PREFIX}writable", "1", "EX", 60), bool)


def _versioned(raw: bytes, load: Callable[[bytes], R]) -> tuple[R, str]:
    return load(raw[REVISION_LENGTH:]), raw[:REVISION_LENGTH].decode()


def _read(reply: list[Any]) -> Read:
    found, order_revisions, unread = _records(reply[0], Order)
    people, patient_revisions, unread_people = _records(reply[1], Patient)
    aliases = {asked: text(actual) for asked, actual in pairs(reply[2])}
    tombstones = {name: json.loads(sent) for name, sent in pairs(reply[3])}
    return Read(
        Known(found, people, aliases, tombstones),
        {keys.order(key): revision for key, revision in order_revisions.items()}
        | {keys.patient(key): revision for key, revision in patient_revisions.items()},
        unread + unread_people,
    )


def _candidates(reply: list[Any]) -> Candidates:
    found, _, unread = _records(reply[1], Order)
    people, _, unread_people = _records(reply[2], Patient)
    return Candidates(texts(reply[0]), Known(found, people), unread + unread_people)


def _records(
    reply: list[Any], model: type[R]
) -> tuple[dict[str, R], dict[str, str], tuple[str, ...]]:
    """Read key, value pairs; one that cannot be read is named and must not end the others."""
    records: dict[str, R] = {}
    revisions: dict[str, str] = {}
    unreadable = []
    for key, raw in pairs(reply):
        try:
            if raw:
                records[key], revisions[key] = _versioned(raw, model.model_validate_json)
        except ValidationError:
            unreadable.append(key)
    return records, revisions, tuple(unreadable)


def _mpps(raw: bytes | None) -> tuple[Performed | None, str]:
    if raw is None:
        return None, ABSENT
    return _versioned(raw, Performed.model_validate_json)
