"""Dates and times as matching keys: single values, ranges, and the two of them as one period."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})$")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?$")
FIRST_DATE, LAST_DATE = "00000000", "99999999"
FIRST_TIME, LAST_TIME = "000000.000000", "235959.999999"


class Range(NamedTuple):
    """Both ends included, in full precision; `single` when the key was no range."""

    low: str
    high: str
    single: bool


def date_range(key: str) -> Range | None:
    """Read a DA key (PS3.4 C.2.2.2.1, C.2.2.2.5); None when it is universal or unreadable.

    A day that no calendar has is unreadable by itself; as an end of a range it is a bound.
    """
    if key.strip() in ("", "*"):
        return None
    whole = _DATE.match(key.strip())
    if whole:
        day = "".join(whole.groups())
        return Range(day, day, True) if _is_day(day) else None
    low, dash, high = key.strip().partition("-")
    first, last = _DATE.match(low.strip()), _DATE.match(high.strip())
    if not dash or not (first or last):
        return None
    return Range(
        "".join(first.groups()) if first else FIRST_DATE,
        "".join(last.groups()) if last else LAST_DATE,
        False,
    )


def around(dates: Range) -> Range:
    """Give the dates with a day more at either end: those that may be meant in another zone."""
    return Range(_moved(dates.low, -1), _moved(dates.high, 1), dates.single)


def _moved(day: str, days: int) -> str:
    try:
        return f"{date.fromisoformat(day) + timedelta(days=days):%Y%m%d}"
    except (ValueError, OverflowError):  # an open end, or none of the calendar
        return day


def time_range(key: str) -> Range | None:
    """Read a TM key; a partial upper end means the whole of that minute or second."""
    text = key.strip()
    if text in ("", "*"):
        return None
    low, dash, high = text.partition("-")
    first, last = _time(low, "000000.000000"), _time(high, "005959.999999")
    if not dash:
        return Range(first, first, True) if first and _is_of_day(first) else None
    if not (first or last):
        return None
    return Range(first or FIRST_TIME, last or LAST_TIME, False)


def full_time(value: str) -> str:
    """Give a stored TM in full precision, so that 1930 equals 193000."""
    return _time(value, "000000.000000") or FIRST_TIME


def within(date: str, time: str, dates: Range | None, times: Range | None) -> bool:
    """Match a start against both keys; two ranges are one period (Table K.6-1, (0040,0003))."""
    if not date:
        return dates is None and times is None
    moment = full_time(time)
    if dates and times and not dates.single and not times.single:
        return dates.low + times.low <= date + moment <= dates.high + times.high
    return (dates is None or dates.low <= date <= dates.high) and (
        times is None or times.low <= moment <= times.high
    )


def _is_day(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def _is_of_day(moment: str) -> bool:
    """Tell whether a day has this time, a leap second included (PS3.5 TM)."""
    return moment[:2] < "24" and moment[2:4] < "60" and moment[4:6] <= "60"


def _time(text: str, rest: str) -> str:
    found = _TIME.match(text.strip())
    if not found:
        return ""
    hours, minutes, seconds, fraction = found.groups()
    # An upper end without seconds is the end of that minute, one without a fraction is the end
    # of that second: '-1800' includes 18:00:30 (PS3.4 is silent; PS3.5 TM is a span of time).
    return "".join(
        (
            hours,
            minutes or rest[2:4],
            seconds or rest[4:6],
            ".",
            (fraction or rest[7:]).ljust(6, "0"),
        )
    )
