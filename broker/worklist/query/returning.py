"""What a query wants back, apart from what it is matched by: many queries share it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from broker.worklist.attributes import MATCHED, STEPS, TYPE_1
from broker.worklist.changes import Attributes
from broker.worklist.query.matching import NO_KEYS, Query, here, returned
from broker.worklist.records import BEGUN_AT

_JUDGED = MATCHED | {"ScheduledProcedureStepLocation", "WorklistLabel", BEGUN_AT}
Outline = tuple[Any, ...]


class Returned(NamedTuple):
    """A key that comes back: `always` also without a value, else where an item has it.

    `narrowed` gives what is asked of a held value; None where that is all of it. `needed`: an
    answer without a value of it is none (type 1).
    """

    keyword: str
    always: bool
    narrowed: Any = None
    needed: bool = False


def outline(query: Query) -> Outline:
    """Name what comes back: queries with the same outline get the same answer of the same item."""
    return _outline(query.top), None if query.step is None else _outline(query.step)


def _outline(keys: Attributes) -> Outline:
    return tuple((k, _inner(v)) for k, v in sorted(keys.items(), key=lambda pair: pair[0]))


def _inner(asked: Any) -> Outline | None:
    inside = asked[0] if isinstance(asked, list) and asked else None
    return _outline(inside) if isinstance(inside, dict) else None


def of_item(query: Query) -> Iterator[Returned]:
    """Give the keys of the item that come back, without the sequence of steps."""
    yield from _keys(query.top, step=False)


def of_step(query: Query) -> Iterator[Returned]:
    """Give the keys of the step that come back, where the query names them."""
    yield from _keys(query.step or {}, step=True)


def _keys(keys: Attributes, *, step: bool) -> Iterator[Returned]:
    for keyword, asked in keys.items():
        if keyword not in NO_KEYS:
            narrowed = partial(returned, keyword, asked)
            always = here(keyword, step=step)
            yield Returned(keyword, always, narrowed, always and keyword in TYPE_1)


def lacking(answer: Attributes) -> str:
    """Name the first type 1 attribute of an answer that has no value, '' where each has one."""
    steps = answer.get(STEPS) or ()
    return next((keyword for each in (answer, *steps) for keyword in _empty(each)), "")


def _empty(attributes: Attributes) -> Iterator[str]:
    for keyword, value in attributes.items():
        if keyword in TYPE_1 and not any(map(_says, value if _many(value) else (value,))):
            yield keyword


def _many(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _says(value: Any) -> bool:
    return value is not None and str(value).strip("\0 ") != ""


def matched(item: Attributes) -> Attributes:
    """Keep of an item what queries are matched by, and by what scanners do not see it."""
    kept = {k: v for k, v in item.items() if k in _JUDGED}
    kept[STEPS] = [{k: v for k, v in item[STEPS][0].items() if k in _JUDGED}]
    return kept
