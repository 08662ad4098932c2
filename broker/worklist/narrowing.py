"""Which index leads a query to the fewest candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.worklist.matching import START_DATE, START_TIME, Query, fold
from broker.worklist.ranges import (
    FIRST_DATE,
    FIRST_TIME,
    LAST_DATE,
    LAST_TIME,
    Range,
    date_range,
    time_range,
)

NUMBERS = (
    ("AccessionNumber", "accession"),
    ("StudyInstanceUID", "study"),
)


@dataclass(frozen=True)
class Narrowing:
    """One index to read: by number, patient ID, name prefix, or start within an index of steps.

    `low` and `high` are starts as YYYYMMDDHHMM; they bound the start index of kind `start`,
    `station` or `modality`.
    """

    kind: str
    value: str = ""
    low: int = 0
    high: int = int("9" * 12)


def narrow(query: Query) -> Narrowing:
    """Choose the index: a number first, then station or modality by start, then the name."""
    step = query.step or {}
    for keyword, kind in NUMBERS:
        if number := _single(query.top.get(keyword)):
            return Narrowing(kind, number)
    if patient_id := _single(query.top.get("PatientID")):
        return Narrowing("patient_id", patient_id)
    low, high = _starts(
        date_range(_single(step.get(START_DATE), wild=True)),
        time_range(_single(step.get(START_TIME), wild=True)),
    )
    if station := _single(step.get("ScheduledStationAETitle")):
        return Narrowing("station", station, low, high)
    prefix = name_prefix(query.top.get("PatientName"))
    if prefix and low == 0:
        return Narrowing("name", prefix)
    if modality := _single(step.get("Modality")):
        return Narrowing("modality", modality, low, high)
    return Narrowing("start", "", low, high)


def name_prefix(key: Any) -> str:
    """Give the folded letters before the first wildcard or delimiter of a PN key."""
    name = fold(_single(key, wild=True))
    if "=" in name:
        return ""
    for at, letter in enumerate(name):
        if letter in "*?^":
            return name[:at].strip()
    return name.strip()


def _starts(dates: Range | None, times: Range | None) -> tuple[int, int]:
    if dates is None:
        return 0, int("9" * 12)
    period = times is not None and not times.single and not dates.single
    low = dates.low + (times.low if times and period else FIRST_TIME)
    high = dates.high + (times.high if times and period else LAST_TIME)
    return score(low[:8], low[8:]), score(high[:8], high[8:])


def score(date: str, time: str) -> int:
    """Give a start as the number YYYYMMDDHHMM; no date counts as the first one."""
    minutes = (time.replace(":", "") + "0000")[:4]
    digits = (date or FIRST_DATE) + minutes
    return int(digits) if digits.isdigit() else int(LAST_DATE + "0000")


def _single(key: Any, *, wild: bool = False) -> str:
    """Give a key's one value, '' when it is universal, several or (unless `wild`) a pattern."""
    if isinstance(key, list):
        key = key[0] if len(key) == 1 and isinstance(key[0], str) else ""
    text = (key or "").strip()
    return "" if not wild and ("*" in text or "?" in text) else text
