"""Short words for tests: what a scanner reports, and what it is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.worklist.changes import Attributes
from broker.worklist.mpps import CREATE, SET, Mode, Performed, Reference, Request, answered
from broker.worklist.reconciling import STANDARD, Candidates, Matching, reconciled
from broker.worklist.records import Order, Patient


def created(
    stored: Performed | None, uid: str, said: Attributes, mode: Mode = Mode.LENIENT
) -> Performed:
    """N-CREATE. Raises MppsRefused."""
    return answered(stored, Request(CREATE, uid, said), mode).performed


def changed(stored: Performed | None, said: Attributes, mode: Mode = Mode.LENIENT) -> Performed:
    """N-SET. Raises MppsRefused."""
    uid = stored.sop_instance_uid if stored else "1.9"
    return answered(stored, Request(SET, uid, said), mode).performed


def references(
    said: Attributes,
    orders: Iterable[Order],
    people: Mapping[str, Patient] | None = None,
    matching: Matching = STANDARD,
) -> tuple[Reference, ...]:
    """The steps that an N-CREATE is of."""
    performed = Performed(sop_instance_uid="1.9", status="IN PROGRESS", attributes=said)
    among = Candidates(tuple(orders), people or {})
    return reconciled(performed, among, matching).references
