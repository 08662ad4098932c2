"""Messages that could not be applied, and their groups by cause."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.store.archive import Archived
    from broker.store.call import Call
    from broker.store.executors import Store
    from broker.store.recall import Entry
    from broker.store.refused import Listed

SLICE = 200
_CAUSE = re.compile(
    r"(?P<code>A[ER] \d+) (?:(?P<segment>[A-Z][A-Z0-9]{2})(?:\^\d+(?:\^(?P<field>\d+)[\d^]*)?)?: )?"
    r"(?P<fact>.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Letter:
    """A message that could not be applied, with the entry that says why, for the last time.

    One that is `superseded` was followed by another one of its sender about the same orders.
    """

    listed: Listed
    entry: Entry
    message: Archived = field(repr=False)
    superseded: bool = False

    @property
    def stream_id(self) -> str:
        return self.entry.stream_id

    @property
    def names(self) -> frozenset[str]:
        """Every ID by which it is known."""
        return frozenset({self.listed.first, self.listed.last, self.message.replay_of})


@dataclass(frozen=True)
class Group:
    """Messages of one cause: code and place of the answer, fact, remedy and rule."""

    code: str
    location: str
    fact: str
    superseded: bool
    letters: tuple[Letter, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """A short name that stays as long as the cause is the same."""
        said = "\0".join((self.code, self.location, self.fact, *self.superseded * ("superseded",)))
        return hashlib.sha256(said.encode()).hexdigest()[:6]


def letters(store: Store) -> list[Letter]:
    """Every message that could not be applied, those refused last at the end.

    Raises StoreUnavailable.
    """
    from broker.store import recall, refused

    listed = {each.last: each for each in store.run(refused.listed())}
    ids = list(listed)
    slices = (ids[at : at + SLICE] for at in range(0, len(ids), SLICE))
    return [letter for each in slices for letter in _read(store, recall.named(each), listed)]


def _read(store: Store, asked: Call[list[Entry]], listed: dict[str, Listed]) -> list[Letter]:
    from broker.orders.superseding import identifiers, is_superseded
    from broker.store import recall
    from broker.store.reads import orders_by

    found = [
        Letter(listed[entry.stream_id], entry, entry.message)
        for entry in store.run(asked)
        if entry.message
    ]
    numbers = {number for each in found for number in identifiers(each.message)}
    known = store.run(orders_by(numbers)).known
    return [
        replace(
            each,
            superseded=is_superseded(
                each.message, recall.place(each.listed.first)[0] / 1000, known
            ),
        )
        for each in found
    ]


def in_turn(found: Iterable[Letter]) -> list[Letter]:
    """Put messages in the order in which they came first."""
    from broker.store import recall

    return sorted(found, key=lambda each: recall.place(each.listed.first))


def grouped(found: Iterable[Letter]) -> list[Group]:
    """Groups by cause, the largest first."""
    by_cause: dict[tuple[str, str, str, bool], list[Letter]] = {}
    for letter in found:
        cause = (*_cause(letter.message.cause), letter.superseded)
        by_cause.setdefault(cause, []).append(letter)
    groups = [Group(*cause, tuple(each)) for cause, each in by_cause.items()]
    return sorted(groups, key=lambda group: -len(group.letters))


def _cause(said: str) -> tuple[str, str, str]:
    """Code, place and the rest of a refusal; which segment of its name it was is no matter."""
    found = _CAUSE.fullmatch(said)
    if not found:
        return "", "", said
    place = "-".join(filter(None, (found["segment"], found["field"])))
    return found["code"], place, found["fact"]
