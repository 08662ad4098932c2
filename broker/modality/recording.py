"""What an exam makes of its orders: steps found, orders advanced, RISs told, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import structlog

from broker.dicom.dimse import DimseRequest
from broker.instep import all_so_far
from broker.modality import relaying
from broker.rollout.announcing import announced
from broker.rollout.current import Current
from broker.rollout.notices import notices
from broker.settings import Forward, Ris
from broker.store import keys, reads
from broker.store.commit import Change, Commit, Committed, MppsChange, commit
from broker.store.executors import AsyncStore
from broker.store.outbox import Event
from broker.worklist import performing, reconciling
from broker.worklist.finding import Known, leads
from broker.worklist.mpps import Performed
from broker.worklist.performing import ExamRules
from broker.worklist.reconciling import Candidates
from broker.worklist.records import Order

log = structlog.get_logger("modality")


class Written(NamedTuple):
    """An exam as it is in the store now, and the revision that it has there."""

    performed: Performed
    revision: str


@dataclass(frozen=True)
class Recording:
    """Writes exams; `clock` gives the time in the site's zone."""

    store: AsyncStore
    current: Current
    ris: tuple[Ris, ...]
    clock: Callable[[], datetime]
    rules: ExamRules = field(default_factory=ExamRules)
    forward: tuple[Forward, ...] = ()

    async def write(
        self,
        change: MppsChange,
        performed: Performed,
        status: str = "",
        sent_on: Sequence[Event] = (),
    ) -> Written | None:
        """Write an exam as it shall be, and what follows; None when a record changed meanwhile.

        For its steps and RISs it has another `status` where it has never ended by itself. `sent_on`
        is the request for other SCPs.
        """
        now = self.clock()
        read, performed = await self._reconciled(performed, now)
        performed = reconciling.marked(performed, read.known.orders.values())
        performed = performing.doubted(performed, read.known)
        told = performed.altered(status=status) if status else performed
        await all_so_far()
        after = self._advanced(read.known, told)
        await all_so_far()
        events = [*self._reported(change, told, read.known, after, now), *sent_on]
        await all_so_far()
        outcome = await self.store.run(
            commit(
                Commit(
                    at=now,
                    mpps=[replace(change, after=performed)],
                    changes=[
                        Change(read.revision(order), order, after[key])
                        for key, order in read.known.orders.items()
                        if key in after
                    ],
                    events=events,
                    empty=list(_led_nowhere(performed, read.known)),
                )
            )
        )
        if not isinstance(outcome, Committed):
            return None
        _warn(change.before, performed, read.known, after)
        return Written(performed, outcome.revision)

    def relayed(self, request: DimseRequest, performed: Performed, calling: str) -> list[Event]:
        """Give a request as it came to the SCPs that MPPS is sent on to."""
        uid, status, now = performed.sop_instance_uid, performed.status, self.clock()
        return [
            *relaying.relayed(
                self.forward, request, uid=uid, status=status, calling=calling, now=now
            )
        ]

    async def _reconciled(
        self, performed: Performed, now: datetime
    ) -> tuple[reads.Read, Performed]:
        """Find the steps of an exam, those of one that is known already by their names."""
        if performed.references:
            named = sorted({reference.order for reference in performed.references})
            read = await self.store.run(reads.orders(named))
            return read, reconciling.followed(performed, read.known.aliases)
        if reconciling.UNLINKED_BY_HAND in performed.exceptions:
            return reads.NOTHING, performed
        matching = self.rules.matching
        read = await self.store.run(reads.orders_by(reconciling.leads(performed.attributes)))
        found = reconciling.reconciled(performed, _among(read.known, now), matching)
        narrowing = reconciling.narrowing(performed, now, matching)
        if found.references or narrowing is None:
            return read, found
        here = await self.store.run(reads.members(narrowing))
        waiting = dict.fromkeys(reads.stood(member).order for member in here.found)
        orders = dict.fromkeys((*read.known.orders, *list(waiting)[: reads.SLICE]))
        read = await self.store.run(reads.orders(list(orders)))
        return read, reconciling.reconciled(performed, _among(read.known, now), matching)

    def _advanced(self, known: Known, performed: Performed) -> dict[str, Order]:
        """Give the orders that a performed step refers to, as they are after it."""
        named = {reference.order for reference in performed.references}
        return {
            key: performing.advanced(order, performed, known.patients, self.rules.reasons)
            for key, order in known.orders.items()
            if key in named
        }

    def _reported(
        self,
        change: MppsChange,
        told: Performed,
        before: Known,
        after: Mapping[str, Order],
        now: datetime,
    ) -> Iterator[Event]:
        """Render what a request makes of an exam, or that it has said more of one that goes on."""
        yield from self.events(told, before, after, now)
        if change.before is None or not change.received or change.before.status != told.status:
            return
        if any(each.progress for each in self.ris):
            happened = (told.sop_instance_uid, told.status)
            for notice in notices(told, before, after, progress=True):
                if notice.progress:
                    once = (f"{happened[0]} {told.last}", happened[1])
                    yield from announced(self.current.mappings, self.ris, notice, once, now)

    def events(
        self,
        performed: Performed,
        before: Known,
        after: Mapping[str, Order],
        now: datetime,
        when: str = "",
    ) -> Iterator[Event]:
        """Render the status messages of a transition, once and with their final MSH-10.

        `when` tells what a person decides once more from what was told before.
        """
        for notice in notices(performed, before, after):
            happened = (performed.sop_instance_uid + when, performed.status)
            yield from announced(self.current.mappings, self.ris, notice, happened, now)


def _led_nowhere(performed: Performed, known: Known) -> Iterator[str]:
    """Give the numbers of an exam that no order has, and that none may have got meanwhile.

    Otherwise an order that comes now would not see the exam, nor the exam the order.
    """
    if reconciling.is_unlinked(performed):
        held = {number for order in known.orders.values() for number in leads(order)}
        for lead in reconciling.leads(performed.attributes):
            if lead not in held:
                yield keys.numbers(*lead)


def _among(known: Known, now: datetime) -> Candidates:
    return Candidates(tuple(known.orders.values()), known.patients, now)


def _warn(
    stored: Performed | None, performed: Performed, before: Known, after: Mapping[str, Order]
) -> None:
    """Say once what a person should look at: of a step without an order, of an order in doubt."""
    known = stored.exceptions if stored else ()
    found: dict[str, list[str]] = {e: [] for e in performed.exceptions if e not in known}
    for key, order in after.items():
        for flag in order.flags:
            if flag not in before.orders[key].flags:
                found.setdefault(flag, []).append(key)
    for reason, orders in found.items():
        uid = performed.sop_instance_uid
        log.warning("MPPS wants a look", sop_instance=uid, reason=reason, orders=orders)
