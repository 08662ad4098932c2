"""Dates and times of an item in another zone than the site's: (0008,0201) (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from broker.worklist.attributes import START, START_DATE, START_TIME, STEPS
from broker.worklist.changes import Attributes
from broker.worklist.query.ranges import full_time

OFFSET = "TimezoneOffsetFromUTC"
PAIRS = (
    START,
    ("StudyDate", "StudyTime"),
    ("AdmittingDate", "AdmittingTime"),
    ("IssueDateOfImagingServiceRequest", "IssueTimeOfImagingServiceRequest"),
)
"""A date moves only with its time; a birth date never does."""


class Zoned(NamedTuple):
    """The site's zone, and the offset that a query is in; without one the site's own is told."""

    site: tzinfo
    asked: timezone | None = None

    def seen(self, item: Attributes) -> Attributes:
        """Give an item with its times in the zone that was asked for."""
        if self.asked is None:
            return item
        (step,) = item[STEPS]
        return {**self._moved(item), STEPS: [self._moved(step)]}

    def offset(self, item: Attributes) -> str:
        """Give (0008,0201) of an answer: the offset that its times are in, as +0100."""
        step = item[STEPS][0]
        start = _moment(step.get(START_DATE), step.get(START_TIME)) if self.asked is None else None
        where = self.asked or self.site
        return f"{(start or datetime(2000, 1, 1)).replace(tzinfo=where):%z}"[:5]  # noqa: DTZ001 - replaced

    def _moved(self, attributes: Attributes) -> Attributes:
        moved = dict(attributes)
        for date, time in PAIRS:
            start = _moment(attributes.get(date), attributes.get(time))
            if start is None:
                continue
            there = start.replace(tzinfo=self.site).astimezone(self.asked)
            moved[date] = f"{there:%Y%m%d}"
            moved[time] = f"{there:%H%M%S.%f}"[: max(4, len(str(attributes[time])))]
        return moved


def read_offset(value: object) -> timezone | None:
    """Read (0008,0201), as +0100; None when it is empty or unreadable."""
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", str(value or "").strip())
    if not found or int(found[2]) > 14 or int(found[3]) > 59:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))


def _moment(date: object, time: object) -> datetime | None:
    """Give the local time of a date with a time, None where one of them is missing."""
    if not isinstance(date, str) or not isinstance(time, str) or not time:
        return None
    try:
        return datetime.strptime(date + full_time(time), "%Y%m%d%H%M%S.%f")  # noqa: DTZ007 - local
    except ValueError:
        return None
