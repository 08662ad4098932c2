"""Which steps no known AE can get, and what is nearest to letting one of them get it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.canary import is_canary
from broker.worklist.changes import Attributes, text_of
from broker.worklist.profile import LOCATION, STATION, STATUS, Profile, Rule
from broker.worklist.query.explaining import verdicts
from broker.worklist.query.matching import Query
from broker.worklist.query.ranges import FIRST_DATE, date_range

ASKED: Final = {
    STATION: "station",
    "Modality": "modality",
    LOCATION: "location",
    "ScheduledStationName": "station name",
}
"""Keys by which a scanner says where it stands; others ask for a patient, and change each time."""

OF_A_LIST: Final = frozenset({*ASKED, START_DATE, START_TIME, STATUS})


class Habit(NamedTuple):
    """What an AE asks for whoever the patient is: one query a key, and the days around today.

    `first` is the day, counted from the one on which it asked, before which it asks for nothing.
    """

    keys: tuple[Query, ...]
    first: int | None


class Watcher(NamedTuple):
    """A known AE: its profile, and its habits as far as it has asked."""

    title: str
    profile: Profile
    habits: tuple[Habit, ...]


class Unseen(NamedTuple):
    """Why nobody gets a step: the AE that is nearest, the rule or key, and both in words.

    `reason` is a `profile.Rule` or one of `ASKED`; nothing in it tells of the patient.
    """

    aet: str
    reason: str
    why: str


class _Miss(NamedTuple):
    reason: str
    why: str


def is_list(query: Query) -> bool:
    """Tell whether a query asks for whoever comes, and not for a patient or an order."""
    return query.asks_for() <= OF_A_LIST


def habit(query: Query, asked_on: date) -> Habit:
    """Give what of a query is an AE's habit; `asked_on` is the day of the site when it asked."""
    step = query.step or {}
    said = query.asks_for()
    keys = tuple(query.with_keys({}, {k: step[k]}) for k in ASKED if k in said and k in step)
    first = None
    if START_DATE in said and (days := date_range(_one(step.get(START_DATE)))):
        first = _days_from(asked_on, days.low)
    return Habit(keys, first)


def unseen(item: Attributes, watchers: Iterable[Watcher], today: date) -> Unseen | None:
    """Give why nobody gets a step, None when somebody can; the day of one that is ahead comes."""
    if is_canary(item):
        return None  # it is for nobody else
    nearest: tuple[tuple[int, float, str], Unseen] | None = None
    station = text_of(item[STEPS][0], STATION)
    for watcher in watchers:
        misses = tuple(_misses(item, watcher, today))
        if not misses:
            return None
        alike = SequenceMatcher(None, station, watcher.title).ratio()
        place = (len(misses), -alike, watcher.title)
        if nearest is None or place < nearest[0]:
            why = "; ".join(miss.why for miss in misses)
            nearest = place, Unseen(watcher.title, misses[0].reason, why)
    return nearest[1] if nearest else None


def _misses(item: Attributes, watcher: Watcher, today: date) -> Iterator[_Miss]:
    """What keeps a step from an AE: its rules, then the habit that comes nearest."""
    hidden = watcher.profile.hidden(item, today, any_status=True)
    if hidden and hidden.rule is not Rule.AHEAD:
        yield _Miss(hidden.rule.value, str(hidden))
    if watcher.habits:
        by_habit = (list(_missed(item, habit, today)) for habit in watcher.habits)
        yield from min(by_habit, key=len)


def _missed(item: Attributes, habit: Habit, today: date) -> Iterator[_Miss]:
    for query in habit.keys:
        for verdict in verdicts(query, item) if not query.matches(item) else ():
            held = verdict.held or "nothing"
            why = f"its {ASKED[verdict.keyword]} is {held}, and this AE asks for {verdict.asked}"
            yield _Miss(ASKED[verdict.keyword], why)
    if habit.first is not None:
        start, first = text_of(item[STEPS][0], START_DATE), today + timedelta(days=habit.first)
        if start and start < f"{first:%Y%m%d}":
            why = f"it starts on {start}, and this AE asks for nothing before {first:%Y%m%d}"
            yield _Miss(Rule.PAST.value, why)


def _one(key: object) -> str:
    first = key[0] if isinstance(key, list) and key else key
    return first if isinstance(first, str) else ""


def _days_from(asked_on: date, low: str) -> int | None:
    if low == FIRST_DATE:
        return None
    try:
        return (date.fromisoformat(low) - asked_on).days
    except ValueError:
        return None
