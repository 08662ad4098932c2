"""When an exam began and ended by the scanner's clock, in whatever form that writes it."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from broker.worklist.changes import Attributes, text_of

PAIRS: Final = (
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime"),
)
_DATE = re.compile(r"(\d{4})([-./]?)(\d{2})\2(\d{2})(.*)")
_TIME = re.compile(r"[T ]*(\d{2})(?::?(\d{2}))?(?::?(\d{2}))?(?:[.,]\d*)?.*")


def read_times(attributes: Attributes) -> Attributes:
    """Give the dates as YYYYMMDD and the times as HH, HHMM or HHMMSS; '' is what nobody can read.

    A date may carry the time that its own attribute lacks.
    """
    read: Attributes = {}
    for day, time in PAIRS:
        if day not in attributes and time not in attributes:
            continue
        read[day], rest = _date(text_of(attributes, day).strip())
        read[time] = _time(text_of(attributes, time).strip() or rest) if read[day] else ""
    return read


def ends_before_start(attributes: Attributes) -> bool:
    """Tell whether an exam has ended before it began, by the scanner's clock."""
    read = read_times(attributes)
    begin, end = (read.get(day, "") + read.get(time, "").ljust(6, "0") for day, time in PAIRS)
    return len(begin) == len(end) == 14 and end < begin


def _date(text: str) -> tuple[str, str]:
    """Read YYYYMMDD, YYYY.MM.DD, YYYY-MM-DD; what follows may be the time."""
    found = _DATE.fullmatch(text)
    if not found:
        return "", ""
    year, _, month, day, rest = found.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return "", ""
    return year + month + day, rest


def _time(text: str) -> str:
    found = _TIME.fullmatch(text)
    if not found:
        return ""
    parts = [part for part in found.groups() if part]
    limits = (23, 59, 60)
    return "".join(parts) if all(int(p) <= m for p, m in zip(parts, limits, strict=False)) else ""
