"""What the door says of a query that is over, and what one AE did since it was written last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.dicom.dimse import CANCELLED, SUCCESS
from broker.modality.reception import Association
from broker.worklist.profile import Profile
from broker.worklist.query.matching import Query

QUERIES_AT_ONCE: Final = 4
"""Different queries of one AE that are kept apart between two flushes."""


class Told(NamedTuple):
    """One worklist query that is over, and what was sent.

    `query` is None where the identifier cannot be read. `answered` are the members (store.indexes)
    of the entries in the order in which they went out, with or without their versions.
    """

    association: Association
    profile: Profile
    identifier: bytes
    transfer_syntax: str
    query: Query | None
    status: int
    answered: Sequence[bytes]


Tell = Callable[[Told], None]


def tell_nobody(told: Told) -> None:
    """The default of who is told."""


class Asked(NamedTuple):
    """A query that is over, and when it was (epoch s)."""

    told: Told
    at: float


@dataclass(slots=True)
class Ae:
    """What one AE did since the last flush."""

    address: str
    called: str
    at: float
    queries: int = 0
    failures: int = 0
    answers: int = 0
    empty: int = 0
    streak_ended: bool = False
    asked: dict[bytes, Asked] = field(default_factory=dict)
    received: dict[bytes, float] = field(default_factory=dict)

    def hear(self, told: Told, at: float) -> None:
        """Add a query; a refused or cancelled one without answers says nothing of the list."""
        count = len(told.answered)
        self.at = at
        self.queries += 1
        if count:
            self.answers += count
            self.empty, self.streak_ended = 0, True
        elif told.status == SUCCESS:
            self.empty += 1
        elif told.status != CANCELLED:
            self.failures += 1
        self._remember(told, at)

    def settle(self, is_new: Callable[[Asked], bool] = bool) -> None:
        """Count what was answered last as received; till then a repeated list costs nothing."""
        for asked in self.asked.values():
            if is_new(asked):
                self._receive(asked)

    def follow(self, earlier: Ae, room: int) -> None:
        """Add what was noted before and could not be written, as far as there is room."""
        self.queries += earlier.queries
        self.failures += earlier.failures
        self.answers += earlier.answers
        self.empty += 0 if self.streak_ended else earlier.empty
        self.streak_ended |= earlier.streak_ended
        self.asked = dict([*earlier.asked.items(), *self.asked.items()][-QUERIES_AT_ONCE:])
        if len(earlier.received) <= room:
            self.received = {**earlier.received, **self.received}

    def _remember(self, told: Told, at: float) -> None:
        before = self.asked.pop(told.identifier, None)
        if before is None and len(self.asked) >= QUERIES_AT_ONCE:
            before = self.asked.pop(next(iter(self.asked)))
        if before is not None and before.told.answered != told.answered:
            self._receive(before)
        self.asked[told.identifier] = Asked(told, at)

    def _receive(self, asked: Asked) -> None:
        self.received.update(dict.fromkeys(asked.told.answered, asked.at))
