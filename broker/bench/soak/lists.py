"""What a list must, may and must not hold at a moment, as everything is told at some moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from threading import Lock

from broker.bench.soak.plan import Place

FORGOTTEN_S = 60.0
"""After which an order that has left a list is not thought of any more: no query takes as long."""


@dataclass(slots=True)
class Stay:
    """When an order was acknowledged, and what takes it off the list sent and acknowledged."""

    taken: float | None = None
    leaves: float | None = None
    left: float | None = None


class Lists:
    """The orders of all lists; times are monotonic seconds. Used by several threads."""

    def __init__(self) -> None:
        self._stays: defaultdict[Place, dict[int, Stay]] = defaultdict(dict)
        self._lock = Lock()
        self.orders = set[int]()
        """All that were acknowledged."""

    def coming(self, place: Place, number: int) -> None:
        """An order is about to be sent."""
        with self._lock:
            self._stays[place].setdefault(number, Stay())

    def taken(self, place: Place, number: int, at: float) -> None:
        """It was acknowledged: it is in each answer to what is asked from now on."""
        self._stays[place][number].taken = at
        self.orders.add(number)

    def leaving(self, place: Place, number: int, at: float) -> None:
        """What takes it off the list is about to be sent."""
        self._stays[place][number].leaves = at

    def left(self, place: Place, number: int, at: float) -> None:
        """That was acknowledged: it is in no answer to what is asked from now on."""
        self._stays[place][number].left = at

    def stay(self, place: Place, number: int) -> Stay:
        """What is known of an order on a list."""
        return self._stays[place].get(number, Stay())

    def places(self) -> list[Place]:
        """Every list that an order was ever on."""
        return sorted(self._stays)

    def wrong(
        self, place: Place, found: Collection[int], *, asked: float, answered: float
    ) -> Iterator[str]:
        """Yield a word for each order that is missing, and each that must not be there."""
        with self._lock:
            stays = self._stays[place]
            gone = [n for n, s in stays.items() if s.left and s.left < asked - FORGOTTEN_S]
            for number in gone:
                del stays[number]
            known = dict(stays)
        for number in found:
            stay = known.get(number)
            if stay is None or (stay.left is not None and stay.left < asked):
                yield f"order {number} is on the list of {place.station} and must not be"
        for number, stay in known.items():
            if number not in found and _must(stay, asked, answered):
                yield f"order {number} is missing on the list of {place.station}"


def _must(stay: Stay, asked: float, answered: float) -> bool:
    is_there = stay.taken is not None and stay.taken < asked
    return is_there and (stay.leaves is None or stay.leaves > answered)
