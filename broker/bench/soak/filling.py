"""What is there before a soak begins: a worklist, and all that the modality door keeps of it.

A door keeps answers within bounds of bytes, and stays full once it is. Filled at the pace of a soak
it would grow for half an hour, and look like a leak; filled before, whatever grows is one. What is
ordered and asked is what the soak does: what comes then is as large as what goes for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime

from broker.bench.dicom import Association
from broker.bench.entries import asked, question
from broker.bench.find import load_frames
from broker.bench.soak import messages
from broker.bench.soak.plan import END, Fate, Kind, Message, Place
from broker.bench.timings import MeasurementFailed

STATIONS = 8
"""Of a list each: none is as long as the most answers that a query may have."""
DIFFERENT = 8_000
"""Queries of which each is another one: what they are matched by is more than a door may keep."""


def fill(hl7: tuple[str, int], dicom: tuple[str, int], count: int, *, now: datetime) -> None:
    """Order so much that no soak speaks of, and ask for all of it twice."""
    today = now.date()
    load_frames(hl7, _orders(count, today, now))
    with closing(Association(dicom)) as association:
        for station in [f"FULL{number}" for number in range(STATIONS)] * 2:
            found = len(association.answers(question(today, station)))
            if not count // STATIONS <= found <= count // STATIONS + 1:
                raise MeasurementFailed(f"the list of {station} has {found} entries")
        for number in _numbers(count)[:DIFFERENT]:
            association.answers(asked({"AccessionNumber": f"ACC{number}"}))
        association.release()


def _orders(count: int, today: date, now: datetime) -> Iterator[bytes]:
    for number in _numbers(count):
        place = Place(f"FULL{number % STATIONS}", today)
        yield messages.frame(Message(Kind.NEW, number, Fate.LEFT, place), -number, sent=now)


def _numbers(count: int) -> range:
    """The last of the numbers: as many digits as those of the soak, which begins with the first."""
    return range(END - count, END)
