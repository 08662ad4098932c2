"""What is sent when, by rule: so that for every order it can be told on which list it must be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum, StrEnum, auto
from typing import Final, NamedTuple

from broker.bench.exams import FIRST

END: Final = 10 * FIRST
"""Of the numbers of orders, which have six digits."""
MOST_BEFORE: Final = 32_000
"""Orders that are there before a soak begins; they have the last numbers."""
SENDERS: Final = 5
"""Connections; what is said of one order goes over one of them, which keeps its order."""
SCANNERS: Final = 10
OTHER_STATIONS: Final = 40
OTHER_DAYS: Final = 10
LAG: Final = 20
"""Cycles after which an order is moved, changed, cancelled, its patient renamed."""
EXAM_AFTER_S: Final = 5.0
"""From an order to its N-CREATE."""
EXAM_S: Final = 3.0
"""From N-CREATE to N-SET."""


class Kind(StrEnum):
    """What a message does."""

    NEW = "NW"
    UPDATE = "XO"
    CANCEL = "CA"
    PATIENT = "A08"


class Fate(Enum):
    """What becomes of an order; the first three are on a list that is polled till then."""

    EXAMINED = auto()
    CANCELLED = auto()
    MOVED = auto()
    """To a station that nobody polls."""
    CHANGED = auto()
    """It begins at another time."""
    RENAMED = auto()
    """Its patient has another name."""
    LEFT = auto()
    """Nothing."""


CYCLE: Final = (
    (Kind.NEW, Fate.EXAMINED),
    (Kind.NEW, Fate.CANCELLED),
    (Kind.NEW, Fate.MOVED),
    (Kind.UPDATE, Fate.MOVED),
    (Kind.NEW, Fate.CHANGED),
    (Kind.CANCEL, Fate.CANCELLED),
    (Kind.NEW, Fate.RENAMED),
    (Kind.UPDATE, Fate.CHANGED),
    (Kind.NEW, Fate.LEFT),
    (Kind.PATIENT, Fate.RENAMED),
)
"""The messages of a cycle: an order is spoken of again LAG cycles later."""
FATES: Final = tuple(fate for kind, fate in CYCLE if kind is Kind.NEW)


class Place(NamedTuple):
    """One list: a station's of a day."""

    station: str
    day: date


class Message(NamedTuple):
    """One message about the order of this number; `place` is where it stands from now on."""

    kind: Kind
    number: int
    fate: Fate
    place: Place


@dataclass(frozen=True)
class Plan:
    """So many messages, polls and exams a second; there are no more exams than cycles."""

    orders: int
    polls: int
    mpps: int
    today: date

    def message(self, tick: int) -> Message | None:
        """The message of a tick; None where its order was not sent yet."""
        cycle, place = divmod(tick, len(CYCLE))
        kind, fate = CYCLE[place]
        cycle -= LAG * (kind is not Kind.NEW)
        if cycle < 0:
            return None
        polled = kind is not Kind.UPDATE and self._is_polled(cycle, fate)
        station = self.polled(cycle) if polled else self._elsewhere(cycle)
        return Message(kind, number_of(cycle, fate), fate, station)

    def exam(self, count: int) -> int:
        """The number of the order that is examined as the `count`th, from 0."""
        return number_of(self._cycle_of_exam(count), Fate.EXAMINED)

    def polled(self, number: int) -> Place:
        """A list that is polled, one of SCANNERS."""
        return Place(f"SOAK{number % SCANNERS}", self.today)

    def polled_of(self, number: int) -> Place:
        """The list on which an order is at first that is examined, cancelled or moved."""
        return self.polled((number - FIRST) // len(FATES))

    def _elsewhere(self, cycle: int) -> Place:
        day = 1 + cycle // OTHER_STATIONS % OTHER_DAYS
        return Place(f"CT{cycle % OTHER_STATIONS}", self.today + timedelta(days=day))

    def _is_polled(self, cycle: int, fate: Fate) -> bool:
        if fate is Fate.EXAMINED:
            return self._is_examined(cycle)
        return fate in (Fate.CANCELLED, Fate.MOVED)

    def _is_examined(self, cycle: int) -> bool:
        first = -(-cycle * len(CYCLE) * self.mpps // self.orders)
        return self._cycle_of_exam(first) == cycle

    def _cycle_of_exam(self, count: int) -> int:
        return count * self.orders // (len(CYCLE) * self.mpps)


def number_of(cycle: int, fate: Fate) -> int:
    """The number of an order."""
    return FIRST + len(FATES) * cycle + FATES.index(fate)


def most_minutes(orders: int) -> int:
    """How long the six digits of order numbers last."""
    numbers = END - MOST_BEFORE - FIRST - len(CYCLE)
    return numbers * len(CYCLE) // (len(FATES) * orders * 60)
