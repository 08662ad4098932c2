"""Open steps that a person has to see to: on nobody's list, or begun without an end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from broker.dicom.identifier import UnreadableIdentifier, decode
from broker.store import keys, reads, sightings
from broker.store.call import Call
from broker.store.executors import Store
from broker.store.indexes import STEP_MARK, member_of
from broker.store.sightings import AskedOnce, unversioned
from broker.worklist.directory import Directory
from broker.worklist.profile import Profile
from broker.worklist.query.matching import Query
from broker.worklist.records import LISTED, Item, items
from broker.worklist.unended import is_unended
from broker.worklist.unseen import Habit, Unseen, Watcher, habit, is_list, unseen

SLICE: Final = 100
TOOLS: Final = frozenset({"PROBE", "FINDSCU"})
"""Titles of test tools, which ask for everything and examine nobody."""
REMEMBERED: Final = 10_000
SHARE: Final = 0.05
"""Of the time at most so much is spent on looking."""

log = structlog.get_logger("updates")


class Found(NamedTuple):
    """A step that nobody gets, and why."""

    item: Item
    unseen: Unseen


def watchers(store: Store, directory: Directory, now: datetime) -> tuple[Watcher, ...]:
    """Give the AEs that are known: those of the directory, and those that have asked.

    `now` is in the site's zone. Raises StoreUnavailable.
    """
    profiles = {profile.title: profile for profile in directory.profiles}
    for ae in store.run(sightings.known_aes(now.timestamp())):
        if ae.title not in profiles and ae.asked and ae.title not in TOOLS:
            profiles[ae.title] = directory.stranger
    found = (
        Watcher(title, profile, tuple(_habits(store, title, profile, now)))
        for title, profile in profiles.items()
    )
    named = {profile.title for profile in directory.profiles}
    return tuple(each for each in found if each.habits or each.title in named)


def open_items(store: Store, *, at: int = 0) -> tuple[list[Item], bool]:
    """Give a slice of the open steps from place `at`, and whether there are more.

    Raises StoreUnavailable.
    """
    index = keys.starts("start")
    members = store.run(Call(("ZRANGE", index, at, at + SLICE - 1), lambda reply: list(reply)))
    wanted = {unversioned(member) for member in members}
    orders = dict.fromkeys(member.split(_MARK)[0].decode() for member in wanted)
    read = store.run(reads.orders(orders)).known if orders else None
    found: list[Item] = []
    for order in read.orders.values() if read else ():
        patient = read.patient(order.patient) if read else None
        of_it = items(order, patient) if patient else ()
        found += (item for item in of_it if member_of(item) in wanted)
    return found, len(members) == SLICE


def everywhere(store: Store) -> Iterator[Item]:
    """Give all open steps, slice by slice. Raises StoreUnavailable."""
    at, more = 0, True
    while more:
        found, more = open_items(store, at=at)
        yield from found
        at += SLICE


def seen_by_nobody(
    of: Iterable[Item], known: tuple[Watcher, ...], now: datetime
) -> Iterator[Found]:
    """Give those of these steps that no known AE can get, and why."""
    for item in of:
        if item.step.status in LISTED and (why := unseen(item.attributes, known, now.date())):
            yield Found(item, why)


class Lookout:
    """Goes through the open steps again and again, slice by slice.

    `clock` gives the time in the site's zone; `counted` is told, after each round, how many steps
    nobody gets, by reason, and how many began and have no end though they were to start longer ago
    than `within`. What is new on nobody's list is logged, so that someone can be woken by it.
    """

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock: Callable[[], datetime],
        counted: Callable[[Mapping[str, int], int], None],
        within: timedelta = timedelta(days=1),
    ) -> None:
        self._store, self._directory = store, directory
        self._clock, self._counted, self._within = clock, counted, within
        self._unended = 0
        self._at = 0
        self._watchers: tuple[Watcher, ...] = ()
        self._reasons: Counter[str] = Counter()
        self._found: set[bytes] = set()
        self._told: set[bytes] = set()

    def slice(self) -> float | None:
        """Look at some steps; gives the seconds till the next ones, None at the end of a round.

        Raises StoreUnavailable.
        """
        began, now = time.monotonic(), self._clock()
        if self._at == 0:
            self._watchers = watchers(self._store, self._directory, now)
            self._reasons, self._found, self._unended = Counter(), set(), 0
        found, more = open_items(self._store, at=self._at)
        self._unended += sum(is_unended(item, now - self._within) for item in found)
        for each in seen_by_nobody(found, self._watchers, now):
            self._reasons[each.unseen.reason] += 1
            if len(self._found) < REMEMBERED:
                self._found.add(member_of(each.item))
        self._at += SLICE
        if more:
            return (time.monotonic() - began) / SHARE
        self._tell()
        return None

    def _tell(self) -> None:
        self._at = 0
        self._counted(self._reasons, self._unended)
        if new := len(self._found - self._told):
            log.warning(
                "accepted steps are on nobody's list",
                new=new,
                steps=self._reasons.total(),
                reasons=dict(self._reasons),
                remedy="broker list --invisible",
            )
        self._told = self._found


def _habits(store: Store, title: str, profile: Profile, now: datetime) -> Iterator[Habit]:
    """The lists that an AE asks for; of one that only asks for single patients those."""
    queries = [
        (query, datetime.fromtimestamp(once.at, now.tzinfo).date())
        for once in store.run(sightings.last_asked(title))
        if (query := _query(once, profile)) is not None
    ]
    lists = [(query, day) for query, day in queries if is_list(query)]
    yield from (habit(query, day) for query, day in lists or queries)


def _query(once: AskedOnce, profile: Profile) -> Query | None:
    try:
        said = decode(once.identifier, once.transfer_syntax, assumed=profile.rules.terms)
    except UnreadableIdentifier:
        return None
    return profile.asked(Query.of(said.keys, fuzzy=once.fuzzy))


_MARK: Final = STEP_MARK.encode()
