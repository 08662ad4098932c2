"""Exams that began and never ended: said once, and ended for the RIS where the site wants that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from broker.modality.metrics import ModalityMetrics
from broker.modality.recording import Recording
from broker.store import growth, keys, reads
from broker.store.commit import MppsChange
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist.changes import text_of
from broker.worklist.mpps import NEVER_ENDED
from broker.worklist.performing import NeverEnded, status_of

EVERY_S: Final = 60.0
SLICE: Final = 25
MOST: Final = 1000
"""Running exams that are looked at in one go: those of which longest nothing was heard."""

log = structlog.get_logger("modality")


@dataclass(frozen=True)
class Overdue:
    """Looks for exams of which nothing was heard for `after`; a late N-SET is still taken.

    `after_of` is where a modality takes more or less time.
    """

    store: AsyncStore
    recording: Recording
    metrics: ModalityMetrics
    after: timedelta
    then: NeverEnded
    after_of: Mapping[str, timedelta] = field(default_factory=dict)

    async def forever(self) -> None:
        """Look every minute."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                while await self.slice() == SLICE:
                    pass
            except StoreUnavailable as problem:
                log.warning("exams that never end are looked for later", problem=f"{problem}")

    async def slice(self) -> int:
        """See to some of them; gives how many were due. Raises StoreUnavailable."""
        soonest = min((self.after, *self.after_of.values()))
        before = (self.recording.clock() - soonest).timestamp()
        due, seen = await self.store.run(reads.due(keys.RUNNING, before=before, limit=MOST)), 0
        for uid in due:
            seen += await self._see_to(uid)
            if seen == SLICE:
                break
        return seen

    async def _see_to(self, uid: str) -> bool:
        """Doors that look at the same time, or a scanner that ends it now, are no harm.

        Tells whether its time had come.
        """
        try:
            stored, revision = await self.store.run(reads.mpps(uid))
        except ValueError:  # a newer version's
            stored = None
        if stored is None:
            await self.store.run(growth.unlist(keys.RUNNING, uid))
            return True
        after = self.after_of.get(text_of(stored.attributes, "Modality"), self.after)
        if stored.changed >= (self.recording.clock() - after).timestamp():
            return False
        exceptions = (*stored.exceptions, NEVER_ENDED)
        overdue = stored.model_copy(update={"exceptions": exceptions})
        change = MppsChange(revision, stored, overdue)
        if await self.recording.write(change, overdue, status_of(self.then)):
            self.metrics.never_ended()
        return True
