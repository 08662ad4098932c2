"""Which index leads a query to the fewest candidates."""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.worklist.attributes import START_DATE, START_TIME
from broker.worklist.query.criteria import fold, fold_name, spans
from broker.worklist.query.matching import Query
from broker.worklist.query.ranges import (
    FIRST_DATE,
    FIRST_TIME,
    LAST_DATE,
    LAST_TIME,
    Range,
    around,
)

NUMBERS = (
    ("AccessionNumber", "accession"),
    ("StudyInstanceUID", "study"),
)


LAST = int("9" * 14)
MOST_UNITED = 20
"""Stations or modalities of one query that are looked up each by itself."""


class Narrowing(NamedTuple):
    """One index to read: by number, patient ID, name, or start within an index of steps.

    `low` and `high` are starts as YYYYMMDDHHMMSS; they bound the start index of kind `start`,
    `station` or `modality`. A `name` is given by its first letters, `names` by letters somewhere in
    it; `after` is the last name that was read. `also` are further stations or modalities. `patient`
    is a key, for who has come from a name.
    `ended`: numbers and names shall lead to steps that are done as well.
    """

    kind: str
    value: str = ""
    low: int | str = 0
    high: int = LAST
    after: str = ""
    ended: bool = False
    also: tuple[str, ...] = ()


ALL_ORDERS = "unperformed"
"""Every order there is, those with an open step first: where steps that are done are asked for."""
BY_START = frozenset({"start", "station", "modality"})
"""Indexes whose members come in the order of the answers."""


def settles(query: Query, narrowing: Narrowing) -> bool:
    """Tell whether all that stands in an index within its bounds answers the query."""
    led = {
        "station": {"ScheduledStationAETitle", START_DATE},
        "modality": {"Modality", START_DATE},
        "start": {START_DATE},
    }
    asked = query.asks_for()
    if narrowing.also or not asked <= led.get(narrowing.kind, set()):
        return False
    if START_DATE in asked and not _single((query.step or {}).get(START_DATE), wild=True):
        return False  # several dates: between them lie others
    # Who has no date, or none that can be read, stands at one of the ends.
    bounded = int(narrowing.low) > 0 and narrowing.high < score(LAST_DATE, "")
    return bounded if START_DATE in asked else True


def narrow(query: Query, *, ended: bool = False) -> Narrowing:
    """Choose the index: a number first, then station or modality by start, then the name.

    `ended`: steps that are done are asked for, and none of the indexes by start has them.
    """
    step = query.step or {}
    for keyword, kind in NUMBERS:
        if number := _single(query.top.get(keyword)):
            return Narrowing(kind, number, ended=ended)
    if patient_id := _single(query.top.get("PatientID")):
        return Narrowing("patient_id", patient_id, ended=ended)
    dates = _all_of(spans("DA", step.get(START_DATE)))
    times = spans("TM", step.get(START_TIME))
    low, high = _starts(
        around(dates) if dates and query.zone and query.zone.asked else dates,
        times[0] if len(times) == 1 else None,
    )
    station, *others = _several(step.get("ScheduledStationAETitle"))
    if station and not ended:
        return Narrowing("station", station, low, high, also=tuple(others))
    prefix = "" if query.fuzzy else name_prefix(query.top.get("PatientName"))
    if prefix and (low == 0 or ended):
        return Narrowing("name", prefix, ended=ended)
    letters = "" if query.fuzzy else name_letters(query.top.get("PatientName"))
    if letters and (low == 0 or ended):
        return Narrowing("names", letters, ended=ended)
    if ended:
        return Narrowing(ALL_ORDERS, ended=True)
    modality, *others = _several(step.get("Modality"))
    if modality:
        return Narrowing("modality", modality, low, high, also=tuple(others))
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


def name_letters(key: Any) -> str:
    """Give the longest run of folded letters without a wildcard in one group of a PN key."""
    name = fold_name(_single(key, wild=True))
    if "=" in name:
        return ""
    return max(name.replace("?", "*").split("*"), key=len)


def _all_of(dates: list[Range]) -> Range | None:
    """Give the dates from the first to the last one; several are no period with a time."""
    if len(dates) < 2:
        return dates[0] if dates else None
    return Range(min(each.low for each in dates), max(each.high for each in dates), single=True)


def _starts(dates: Range | None, times: Range | None) -> tuple[int, int]:
    if dates is None:
        return 0, LAST
    period = times is not None and not times.single and not dates.single
    low = dates.low + (times.low if times and period else FIRST_TIME)
    high = dates.high + (times.high if times and period else LAST_TIME)
    return score(low[:8], low[8:]), score(high[:8], high[8:])


def score(date: str, time: str) -> int:
    """Give a start as the number YYYYMMDDHHMMSS; no date counts as the first one."""
    seconds = (time.replace(":", "").partition(".")[0] + "000000")[:6]
    digits = (date or FIRST_DATE) + seconds
    return int(digits) if digits.isdigit() else int(LAST_DATE + "000000")


def _single(key: Any, *, wild: bool = False) -> str:
    """Give a key's one value, '' when it is universal, several or (unless `wild`) a pattern."""
    if isinstance(key, list):
        key = key[0] if len(key) == 1 and isinstance(key[0], str) else ""
    text = (key or "").strip()
    return "" if not wild and ("*" in text or "?" in text) else text


def _several(key: Any) -> list[str]:
    """Give the values of a key of which any will do, [''] where one of them is no plain value."""
    values = key if isinstance(key, list) else [key]
    plain = list(dict.fromkeys(map(_single, values)))
    return plain if all(plain) and len(plain) <= MOST_UNITED else [""]
