"""Why a worklist item answers a query or does not: key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.changes import Attributes
from broker.worklist.query.matching import Query

BOTH = f"{START_DATE} and {START_TIME}"
"""Two ranges are one period (Table K.6-1), which may match where neither does alone."""


class Verdict(NamedTuple):
    """One key that asks for something: what it asks, what the item has, whether that matches.

    Both are as they were said and stored, so they may tell of the patient.
    """

    keyword: str
    asked: str
    held: str
    matches: bool


def verdicts(query: Query, item: Attributes) -> tuple[Verdict, ...]:
    """Put each key of a query to an item by itself, as the query would."""
    return tuple(_verdicts(query, item))


def _verdicts(query: Query, item: Attributes) -> Iterator[Verdict]:
    said = query.asks_for()
    seen = query.zone.seen(item) if query.zone else item
    for keyword, key in query.top.items():
        if keyword in said:
            alone = query.with_keys({keyword: key}, None)
            yield Verdict(keyword, _text(key), _text(seen.get(keyword)), alone.matches(item))
    keys, step = query.step or {}, seen[STEPS][0]
    period = {START_DATE, START_TIME} <= said
    for keyword, key in keys.items():
        if keyword in said and not (period and keyword in (START_DATE, START_TIME)):
            alone = query.with_keys({}, {keyword: key})
            yield Verdict(keyword, _text(key), _text(step.get(keyword)), alone.matches(item))
    if period:
        both = {START_DATE: keys[START_DATE], START_TIME: keys[START_TIME]}
        asked = f"{_text(both[START_DATE])} {_text(both[START_TIME])}"
        held = f"{_text(step.get(START_DATE))} {_text(step.get(START_TIME))}".strip()
        yield Verdict(BOTH, asked, held, query.with_keys({}, both).matches(item))


def _text(value: Any) -> str:
    """A value as one line: several by backslash, of a sequence its items."""
    if isinstance(value, list):
        return "\\".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items() if v not in ("", [], None))
    return "" if value is None else str(value)
