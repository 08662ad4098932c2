"""What one calling AE gets: which steps it sees, and by which rule it does not see another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, timedelta, tzinfo
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from broker.worklist.attributes import START_DATE, STEPS
from broker.worklist.canary import AE as CANARY
from broker.worklist.canary import is_canary
from broker.worklist.changes import Attributes
from broker.worklist.form import formed, in_capitals, with_extra
from broker.worklist.query.criteria import glob
from broker.worklist.query.matching import Query
from broker.worklist.query.ranges import FIRST_DATE, LAST_DATE
from broker.worklist.query.zoned import Zoned
from broker.worklist.records import BEGUN_AT, StepStatus
from broker.worklist.rules import Rules

STATION, STATUS = "ScheduledStationAETitle", "ScheduledProcedureStepStatus"
_STARTED = (StepStatus.STARTED.value,)
LOCATION, LABEL = "ScheduledProcedureStepLocation", "WorklistLabel"


class Rule(StrEnum):
    """The rules by which an AE does not see a step, in the order in which they are asked."""

    CANARY = "canary"
    STATUS = "status"
    OWN_STATION = "own station"
    STATION = "station"
    MODALITY = "modality"
    LOCATION = "location"
    LABEL = "label"
    PAST = "past"
    AHEAD = "ahead"


class Hidden(NamedTuple):
    """Why an AE does not see a step: the rule, what the step has, and what the rule lets through.

    Nothing in it tells of the patient. `allowed` of `status` are the statuses that are hidden, of
    `past` and `ahead` the first and last date (YYYYMMDD) that are seen.
    """

    rule: Rule
    held: tuple[str, ...]
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        held = ", ".join(self.held) or "nothing"
        return PHRASES[self.rule].format(held=held, allowed=", ".join(self.allowed))


PHRASES = {
    Rule.CANARY: "only BROKER_CANARY sees the broker's own test order, and nothing but it",
    Rule.STATUS: "its status {held} is hidden",
    Rule.OWN_STATION: "it is scheduled for {held}, and this AE sees only what is for {allowed}",
    Rule.STATION: "it is scheduled for {held}, and this AE sees only {allowed}",
    Rule.MODALITY: "its modality is {held}, and this AE sees only {allowed}",
    Rule.LOCATION: "its location is {held}, and this AE sees only {allowed}",
    Rule.LABEL: "its label is {held}, and this AE sees only {allowed}",
    Rule.PAST: "it starts on {held}, and this AE sees nothing before {allowed}",
    Rule.AHEAD: "it starts on {held}, and this AE sees nothing after {allowed}",
}


class Window(NamedTuple):
    """The first and last start date, YYYYMMDD, that an AE sees."""

    first: str = FIRST_DATE
    last: str = LAST_DATE


@dataclass(frozen=True, eq=False)
class Profile:
    """One AE of the directory, or all that are not in it (title '').

    `titles` are its title and aliases, `shared` those of its group with them. Compared and hashed
    by identity: the directory keeps one of each, and caches may use it as their key. `site` is the
    zone that its times are in.
    """

    title: str = ""
    rules: Rules = field(default_factory=Rules)
    titles: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    site: tzinfo = UTC

    def window(self, today: date) -> Window:
        """Give the start dates that it sees on this day of the site."""
        past, ahead = self.rules.past_days, self.rules.ahead_days
        return Window(
            FIRST_DATE if past is None else _day(today, -past),
            LAST_DATE if ahead is None else _day(today, ahead),
        )

    def asked(self, query: Query) -> Query:
        """Give the query as it is meant: with what the AE gets unasked, and for its whole group.

        Scanners have their own title built into their queries, and know of no group.
        """
        query = with_extra(query, self.rules)
        if self.rules.upper_keys:
            query = in_capitals(query)
        if self.rules.state_timezone and query.zone is None:
            query = replace(query, zone=Zoned(self.site))
        step = query.step or {}
        station = step.get(STATION)
        if len(self.shared) < 2 or not isinstance(station, str):
            return query
        if _plain(station) not in {_plain(title) for title in self.titles}:
            return query
        return query.with_keys(query.top, {**step, STATION: sorted(self.shared)})

    def formed(self, answer: Attributes) -> Attributes:
        """Give an answer (`Query.answer`) in the form that this AE gets."""
        return formed(answer, self.rules)

    def hidden(self, item: Attributes, today: date, *, any_status: bool = False) -> Hidden | None:
        """Give the first rule that hides a worklist item, or None.

        `any_status`: the query asks for a status by itself (`Query.asks_for_status`), which
        overrides the list of hidden ones.
        """
        if is_canary(item) is not (self.title == CANARY):
            return Hidden(Rule.CANARY, _values(item.get("AccessionNumber")), ())
        step = item[STEPS][0]
        held, begun_at = _values(step.get(STATUS)), step.get(BEGUN_AT)
        listed = any_status or (begun_at and self._is_elsewhere(held, _values(begun_at)))
        if not listed and held and held[0] in self._hidden:
            return Hidden(Rule.STATUS, held, self.rules.hide)
        for rule, read, allowed, lets_through in self._filters:
            held = _values(read(item))
            if not any(lets_through(_plain(value)) for value in held):
                return Hidden(rule, held, allowed)
        return self._outside(step, today)

    def _is_elsewhere(self, status: tuple[str, ...], begun_at: tuple[str, ...]) -> bool:
        """A step that began at one AE need not vanish from another one that has its own part."""
        if self.rules.started_elsewhere == "hide" or not begun_at or status != _STARTED:
            return False
        own = {_plain(title) for title in self.shared | self.titles}
        return own.isdisjoint(map(_plain, begun_at))

    def _outside(self, step: Attributes, today: date) -> Hidden | None:
        """A step without a date, which no order leaves behind, is in every window."""
        if self.rules.past_days is None and self.rules.ahead_days is None:
            return None
        start, window = _values(step.get(START_DATE)), self.window(today)
        if start and start[0] < window.first:
            return Hidden(Rule.PAST, start, (window.first,))
        if start and start[0] > window.last:
            return Hidden(Rule.AHEAD, start, (window.last,))
        return None

    @cached_property
    def _hidden(self) -> frozenset[StepStatus]:
        return frozenset(self.rules.hide)

    @cached_property
    def _filters(self) -> tuple[_Filter, ...]:
        rules = self.rules
        own = tuple(sorted(self.shared or self.titles)) if rules.own_station else ()
        wanted = (
            (Rule.OWN_STATION, _of_step(STATION), own),
            (Rule.STATION, _of_step(STATION), rules.stations),
            (Rule.MODALITY, _of_step("Modality"), rules.modalities),
            (Rule.LOCATION, _of_step(LOCATION), rules.locations),
            (Rule.LABEL, lambda item: item.get(LABEL), rules.labels),
        )
        return tuple(
            _Filter(rule, read, allowed, _any_of(allowed))
            for rule, read, allowed in wanted
            if allowed
        )


class _Filter(NamedTuple):
    rule: Rule
    read: Callable[[Attributes], Any]
    allowed: tuple[str, ...]
    lets_through: Callable[[str], bool]


def _of_step(keyword: str) -> Callable[[Attributes], Any]:
    return lambda item: item[STEPS][0].get(keyword)


def _any_of(allowed: Iterable[str]) -> Callable[[str], bool]:
    """A test of one value against what is let through, `*` and `?` being wildcards."""
    plain = {_plain(value) for value in allowed}
    patterns = tuple(value for value in plain if "*" in value or "?" in value)
    return lambda value: value in plain or any(glob(pattern, value) for pattern in patterns)


def _values(held: Any) -> tuple[str, ...]:
    if held.__class__ is str:  # as most are
        return (held,) if held else ()
    values: Sequence[Any] = held if isinstance(held, list | tuple) else [held]
    return tuple(str(value) for value in values if value not in (None, ""))


def _plain(text: str) -> str:
    """Compare what people type without regard to case and padding."""
    return text.strip("\0 ").casefold()


def _day(today: date, days: int) -> str:
    try:
        return f"{today + timedelta(days=days):%Y%m%d}"
    except OverflowError:
        return FIRST_DATE if days < 0 else LAST_DATE


EVERYTHING = Profile()
"""The profile of an AE of which nothing is said."""
