"""What the worklist would hold, and scanners would read, were a tried message the first of all."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from broker.hl7.refusal import Refusal
from broker.mapping.running.refusing import in_part
from broker.mapping.trials.trying import Trial
from broker.worklist.apply import Sender, apply_all
from broker.worklist.attributes import ROWS, START_DATE, START_TIME, STEPS, Kept
from broker.worklist.changes import Attributes, text_of
from broker.worklist.finding import Known
from broker.worklist.query.matching import Query
from broker.worklist.records import LISTED, items
from broker.worklist.refusals import Refused


@dataclass(frozen=True)
class Foreseen:
    """The answers to a query for everything, what was odd, and why the worklist refuses.

    `left_out` says which groups are, of a message that is applied in part.
    """

    answers: tuple[Attributes, ...] = ()
    notes: tuple[str, ...] = ()
    refused: Refused | None = None
    left_out: Refusal | None = None


def foreseen(trial: Trial) -> Foreseen:
    """Apply a trial's changes to an empty worklist and ask for all that a scanner may ask for.

    What is refused, or waits for a code, is on no list.
    """
    if trial.refusal or trial.held or trial.header is None or trial.source is None:
        return Foreseen()
    sender = Sender(
        trial.header.sender, trial.source.issuer, trial.header.sent, trial.source.policies
    )
    changes = [outcome.change for outcome in trial.outcomes]
    try:
        applied = apply_all(changes, Known(), sender)
    except Refused as refused:
        return Foreseen(refused=refused)
    query = _everything()
    found = [
        item.attributes
        for order in applied.known.orders.values()
        if (patient := applied.known.patient(order.patient))
        for item in items(order, patient)
        if item.step.status in LISTED
    ]
    answers = tuple(query.answer(item) for item in sorted(found, key=_start))
    return Foreseen(answers, applied.notes, left_out=in_part(applied))


def _everything() -> Query:
    """A query with every attribute of Table K.6-1 as a universal key."""
    step = {keyword: _universal(keyword) for keyword, row in ROWS.items() if row.kept is Kept.STEP}
    top = {keyword: _universal(keyword) for keyword in ROWS if keyword not in step}
    return Query.of({**top, STEPS: [step]})


def _universal(keyword: str) -> str | list[Attributes]:
    return [] if dictionary_VR(keyword) == "SQ" else ""


def _start(item: Attributes) -> tuple[str, str]:
    step = item[STEPS][0]
    return text_of(step, START_DATE), text_of(step, START_TIME)
