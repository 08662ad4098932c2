"""HL7 time stamps (TS, DTM) as DICOM dates and times (standards: HL7 2.A, PS3.5 6.2 DA and TM)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

STAMP = re.compile(r"(\d{8})(?:(\d\d)(\d\d)?(\d\d)?(?:\.\d+)?)?([+-](?:0\d|1[0-4])[0-5]\d)?")
END_OF_DAY = re.compile(r"(\d{8})24(?:00){0,2}(?:\.0+)?([+-]\d{4})?")
OLDEST_YEAR = 1800  # what is older is a slip of the keys (hazards 2.2)
DAYS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def date_of(text: str) -> str:
    """YYYYMMDD as written, or '' for anything that is not a whole, possible day."""
    return "" if text[8:9].isalpha() else _day(text[:8])


@lru_cache(maxsize=4096)  # the days of appointments, and many of birth
def _day(day: str) -> str:
    if len(day) != 8 or not (day.isascii() and day.isdigit()):
        return ""
    year, month, number = int(day[:4]), int(day[4:6]), int(day[6:])
    if not (1 <= month <= 12 and 1 <= number <= DAYS[month]) or year < OLDEST_YEAR:
        return ""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return "" if month == 2 and number == 29 and not leap else day


@lru_cache(maxsize=1024)  # appointments begin at the same few times of a day
def time_of(text: str) -> str:
    """HHMMSS, seconds filled up with zeros, or '' when there is no possible time of day."""
    match = STAMP.fullmatch(text.strip())
    if not match or match[2] is None:
        return ""
    hour, minute, second = match[2], match[3] or "00", match[4] or "00"
    possible = hour < "24" and minute < "60" and second <= "60"
    return f"{hour}{minute}{second}" if possible else ""


def of_next_day(text: str) -> str:
    """The end of a day, 24:00, as the midnight that begins the next; all else as it is."""
    if text[8:10] != "24" or not (match := END_OF_DAY.fullmatch(text.strip())):
        return text
    if not date_of(match[1]):
        return text
    try:
        after = datetime.strptime(match[1], "%Y%m%d") + timedelta(days=1)  # noqa: DTZ007 - a day
    except OverflowError:
        return text
    return f"{after:%Y%m%d}000000{match[2] or ''}"


def offset_of(text: str) -> tzinfo | None:
    """The zone that a time stamp carries, or None."""
    if text.isdigit():
        return None
    match = STAMP.fullmatch(text.strip())
    return _zone(match[5]) if match and match[5] else None


def _zone(offset: str) -> tzinfo:
    shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return timezone(-shift if offset[0] == "-" else shift)


def offset_text(text: str, assumed: tzinfo | None) -> str:
    """The offset of a time stamp as DICOM writes it: its own, or that of the sender's zone."""
    match = STAMP.fullmatch(text.strip())
    if not match:
        return ""
    if match[5]:
        return match[5]
    clock = time_of(text)
    if assumed is None or not clock or not date_of(match[1]):
        return ""
    moment = datetime.strptime(match[1] + clock[:4], "%Y%m%d%H%M").replace(tzinfo=assumed)
    return moment.strftime("%z")[:5]


@lru_cache(maxsize=64)  # date and time of one stamp are two attributes
def to_zone(text: str, assumed: tzinfo | None, site: tzinfo | None) -> str:
    """The time stamp in the site's zone and without an offset; '' when it cannot be read.

    `assumed` is the zone of stamps that carry none; None means that they are the site's own time.
    A day without a time stays the day it says.
    """
    text = of_next_day(text)
    if assumed is None and len(text) in (12, 14) and text.isascii() and text.isdigit():
        possible = date_of(text) and text[8:10] < "24" and text[10:12] < "60" and text[12:] <= "60"
        return f"{text:0<14}" if possible else ""
    match = STAMP.fullmatch(text.strip())
    if not match or not date_of(match[1]):
        return ""
    if match[2] is None:
        return match[1]
    clock = time_of(text)
    zone = _zone(match[5]) if match[5] else assumed
    if not clock or zone is None or site is None:
        return match[1] + clock if clock else ""
    # Second 60 is a leap second: no calendar has it, the next minute is what a scanner can show.
    seconds = int(clock[4:])
    moment = datetime.strptime(match[1] + clock[:4], "%Y%m%d%H%M").replace(tzinfo=zone)
    try:
        return (moment + timedelta(seconds=seconds)).astimezone(site).strftime("%Y%m%d%H%M%S")
    except OverflowError:
        return ""  # the last hours of the year 9999
