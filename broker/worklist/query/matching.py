"""Does a worklist item answer a query, and with which attributes (PS3.4 K.2.2, K.6.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cached_property
from typing import Any

from broker.worklist.attributes import (
    MATCHED,
    ROWS,
    START,
    START_DATE,
    START_TIME,
    STATUS,
    STEPS,
    Kept,
)
from broker.worklist.changes import Attributes
from broker.worklist.query.criteria import (
    SPANNED,
    Test,
    criterion,
    spans,
    vr_of,
)
from broker.worklist.query.ranges import Range, within
from broker.worklist.query.zoned import OFFSET, Zoned, read_offset

__all__ = [
    "NO_KEYS",
    "Query",
    "here",
    "returned",
]

NO_KEYS = frozenset({"QueryRetrieveLevel", OFFSET})
"""Sent by habit, and no keys of this SOP Class: they ask for nothing."""


@dataclass(frozen=True)
class Query:
    """What a scanner asks: keys on the item, keys on its step, and which of them come back.

    `fuzzy`: names are matched fuzzily, `zone`: dates and times are in another zone than the site's,
    or theirs is told. Both only where it was negotiated, or an AE wants it.
    """

    top: Attributes
    step: Attributes | None
    fuzzy: bool = False
    zone: Zoned | None = None

    @classmethod
    def of(cls, keys: Attributes, *, fuzzy: bool = False, zone: tzinfo | None = None) -> Query:
        """Read an identifier's keys; of several step items (illegal) the first is used.

        `zone` is the site's, where time zone adjustment was negotiated.
        """
        items = keys.get(STEPS)
        top = {keyword: value for keyword, value in keys.items() if keyword != STEPS}
        step = None if items is None else items[0] if items else {}
        offset = read_offset(keys.get(OFFSET)) if zone else None
        return cls(top, step, fuzzy, Zoned(zone, offset) if zone and offset else None)

    @cached_property
    def _tests(self) -> tuple[tuple[str, Test], ...]:
        """The keys of the item that say something, each with its test of a stored value."""
        return tuple(self._compiled(self.top, step=False))

    @cached_property
    def _step_tests(self) -> tuple[tuple[str, Test], ...]:
        return tuple(self._compiled(self.step or {}, step=True))

    @cached_property
    def _start(self) -> tuple[list[Range], list[Range]]:
        """The start dates and the start times that are asked for; none is any."""
        step = self.step or {}
        return spans("DA", step.get(START_DATE)), spans("TM", step.get(START_TIME))

    def _compiled(self, keys: Attributes, *, step: bool) -> Iterator[tuple[str, Test]]:
        for keyword, key in keys.items():
            if keyword in MATCHED and here(keyword, step=step) and keyword not in START:
                test = criterion(keyword, key, fuzzy=self.fuzzy)
                if test is not None:
                    yield keyword, test

    def with_keys(self, top: Attributes, step: Attributes | None) -> Query:
        """Give the same query with other keys."""
        return replace(self, top=top, step=step)

    def asks_for(self) -> frozenset[str]:
        """Name the keys that are matched and are not universal."""
        said = {keyword for keyword, _ in (*self._tests, *self._step_tests)}
        return frozenset(said).union(
            key for key, ranges in zip(START, self._start, strict=True) if ranges
        )

    def asks_for_status(self) -> bool:
        """Tell whether it names the statuses it wants, which overrides what an AE does not see."""
        return STATUS in self.asks_for()

    def takes_status(self, status: str) -> bool:
        """Tell whether a step of this status could match."""
        return all(test(status) for keyword, test in self._step_tests if keyword == STATUS)

    def supported(self) -> bool:
        """Tell whether every key exists here and is matched (else pending is FF01, Table K.4-1)."""
        return all(
            _taken(k, v, step=False) for k, v in self.top.items() if k not in NO_KEYS
        ) and all(_taken(k, v, step=True) for k, v in (self.step or {}).items())

    def passed_over(self) -> list[str]:
        """Name the keys that say something nobody can read: they match everything."""
        return [keyword for keyword, key in self._matched() if _unreadable(keyword, key)]

    def backwards(self) -> list[str]:
        """Name the keys whose only range ends before it begins: they match nothing.

        A time may: with a range of dates it is one period, from the one day to the other.
        """
        dates, _ = self._start
        night = bool(dates) and not dates[0].single
        return [
            keyword
            for keyword, key in self._matched()
            if _is_backwards(keyword, key) and not (night and keyword == START_TIME)
        ]

    def _matched(self) -> Iterator[tuple[str, Any]]:
        """The keys that are matched where they stand, with what they say."""
        for step, keys in ((False, self.top), (True, self.step or {})):
            for keyword, key in keys.items():
                if keyword in MATCHED and here(keyword, step=step):
                    yield keyword, key

    def matches(self, item: Attributes) -> bool:
        """Match every key that we match; the step's keys must meet in the one step."""
        item = self.zone.seen(item) if self.zone else item
        step = item[STEPS][0]
        if not all(test(item.get(keyword)) for keyword, test in self._tests):
            return False
        if not all(test(step.get(keyword)) for keyword, test in self._step_tests):
            return False
        date, time = step.get(START_DATE, ""), step.get(START_TIME, "")
        dates, times = self._start
        if len(dates) <= 1 and len(times) <= 1:
            return within(date, time, *(dates or (None,)), *(times or (None,)))
        return any(within(date, time, each, None) for each in dates or (None,)) and any(
            within(date, time, None, each) for each in times or (None,)
        )

    def answer(self, item: Attributes) -> Attributes:
        """Give only what was asked; a known attribute without a value comes back empty."""
        zone = self.zone
        item = zone.seen(item) if zone else item
        answer = {
            k: returned(k, v, item.get(k))
            for k, v in self.top.items()
            if (k in item or here(k, step=False)) and k not in NO_KEYS
        }
        if zone:
            answer[OFFSET] = zone.offset(item)
        if self.step is not None:
            step = item[STEPS][0]
            asked = self.step or dict.fromkeys((*_WHOLE_STEP, *step), "")
            answer[STEPS] = [
                {
                    k: returned(k, v, step.get(k))
                    for k, v in asked.items()
                    if k in step or here(k, step=True)
                }
            ]
        return answer


_WHOLE_STEP = tuple(
    keyword
    for keyword, row in ROWS.items()
    if row.kept == "step" and row.returned in ("1", "1C", "2")
)


def here(keyword: str, *, step: bool) -> bool:
    """Tell whether a key exists at this level: Modality means a step's, never the request's."""
    return keyword in ROWS and (ROWS[keyword].kept is Kept.STEP) == step


def _taken(keyword: str, key: Any, *, step: bool) -> bool:
    """Tell whether a key is answered as it is meant: who asks for a value gets it, or nothing."""
    if not here(keyword, step=step):
        return False
    return keyword in MATCHED or criterion(keyword, key) is None


def returned(keyword: str, asked: Any, held: Any) -> Any:
    """Narrow a held value to what was asked: of a sequence only the attributes of its key item."""
    if vr_of(keyword) != "SQ":
        return "" if held is None else held
    wanted = asked[0] if isinstance(asked, list) and asked else {}
    if not wanted or not isinstance(held, list):  # what is no sequence is the encoder's to refuse
        return held or []
    return [
        {k: returned(k, v, item.get(k)) for k, v in wanted.items() if k in item}
        for item in held or []
    ]


def _unreadable(keyword: str, key: Any) -> bool:
    """Tell whether a date or time says something that nobody can read."""
    vr = vr_of(keyword)
    said = "".join(map(str, key)) if isinstance(key, list) else str(key or "")
    return vr in SPANNED and bool(said.strip(" *")) and not spans(vr, key)


def _is_backwards(keyword: str, key: Any) -> bool:
    """Tell whether all that is asked for of a date or time ends before it begins."""
    vr = vr_of(keyword)
    wanted = spans(vr, key) if vr in SPANNED else []
    return bool(wanted) and all(span.high < span.low for span in wanted)
