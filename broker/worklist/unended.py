"""Steps that have begun, should have ended long ago, and have no end: a person has to say it."""

from __future__ import annotations

from datetime import datetime

from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.canary import is_canary
from broker.worklist.changes import text_of
from broker.worklist.query.narrowing import score
from broker.worklist.records import Item, StepStatus


def is_unended(item: Item, before: datetime) -> bool:
    """Tell whether a step is STARTED that was to start before a time of the site."""
    if item.step.status is not StepStatus.STARTED or is_canary(item.attributes):
        return False
    step = item.attributes[STEPS][0]
    start = score(text_of(step, START_DATE), text_of(step, START_TIME))
    return start < score(f"{before:%Y%m%d}", f"{before:%H%M%S}")
