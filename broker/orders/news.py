"""What RISs are told of what a message, or a person, has made of orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.orders.arrival import Arrival
from broker.orders.unable import notices
from broker.rollout.announcing import announced
from broker.rollout.current import Mappings
from broker.rollout.notices import notices as of_exams
from broker.rollout.notices import of_endings
from broker.settings import Ris
from broker.store.outbox import Event
from broker.worklist.applied import Applied
from broker.worklist.finding import STEP_ID, Known
from broker.worklist.linking import Linked
from broker.worklist.mpps import STATUS


@dataclass(frozen=True)
class News:
    """Renders messages for every RIS; the same `cause` gives the same message once more."""

    mappings: Mappings
    ris: Sequence[Ris]
    at: datetime

    def of(
        self, arrived: Arrival, applied: Applied, found: Sequence[Linked], typed: set[str]
    ) -> list[Event]:
        """All that a message gives rise to; one that was accepted before has told what cannot end.

        `found` are exams that were there before their orders, `typed` orders that were by hand.
        """
        cause = arrived.digest
        unable = () if arrived.was_accepted else self.unable(applied, cause)
        return [*unable, *self.exams(found), *self.taken_over(applied.known, typed, cause)]

    def unable(self, applied: Applied, cause: str) -> Iterator[Event]:
        """Tell of steps that order control can end no more."""
        for notice, happened in notices(applied):
            yield from announced(self.mappings, self.ris, notice, (cause, happened), self.at)

    def exams(self, found: Sequence[Linked]) -> Iterator[Event]:
        """Tell what could not be told of exams while their order was not there."""
        for exam, before, after in (moment for each in found for moment in each.moments):
            happened = (exam.sop_instance_uid, exam.status)
            for notice in of_exams(exam, before, after.orders):
                yield from announced(self.mappings, self.ris, notice, happened, self.at)

    def taken_over(self, after: Known, typed: set[str], cause: str) -> Iterator[Event]:
        """Tell what was done without a scanner of orders that were typed by hand till now."""
        for key in sorted(typed & after.orders.keys()):
            yield from self._ended(after, None, key, cause)

    def ended(self, before: Known, after: Known, cause: str) -> Iterator[Event]:
        """Tell of steps that a person has ended."""
        for key, order in after.orders.items():
            if order is not before.orders.get(key):
                yield from self._ended(after, before, key, cause)

    def _ended(self, after: Known, before: Known | None, key: str, cause: str) -> Iterator[Event]:
        order, stood = after.orders[key], before.orders.get(key) if before else None
        for notice in of_endings(order, stood, after.patients[order.patient]):
            step = notice.attributes.get(STEP_ID, "")
            happened = (f"{cause} {step}", f"{notice.attributes[STATUS]}")
            yield from announced(self.mappings, self.ris, notice, happened, self.at)
