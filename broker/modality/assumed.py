"""Steps of modalities without MPPS: after a while nobody is waited for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from broker.store import reads
from broker.store.commit import Change, Commit, Committed, commit
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist.ending import done_by_age
from broker.worklist.query.narrowing import Narrowing, score

EVERY_S: Final = 60.0

log = structlog.get_logger("modality")


@dataclass(frozen=True)
class Assumed:
    """Takes steps for done whose start lies long ago; `after` says by modality how long.

    No RIS is told: nobody knows. `clock` gives the time in the site's zone.
    """

    store: AsyncStore
    clock: Callable[[], datetime]
    after: Mapping[str, timedelta]

    async def forever(self) -> None:
        """Look every minute, where there is something to look for."""
        while self.after:
            await asyncio.sleep(EVERY_S)
            try:
                for modality in self.after:
                    await self.look(modality)
            except StoreUnavailable as problem:
                log.warning("steps without MPPS are looked for later", problem=f"{problem}")

    async def look(self, modality: str) -> int:
        """See to all steps of a modality that are due; counts orders. Raises StoreUnavailable."""
        before = self.clock() - self.after[modality]
        last = score(f"{before:%Y%m%d}", f"{before:%H%M%S}")
        rest: Narrowing | None = Narrowing("modality", modality, 1, last)
        found = dict[str, None]()
        while rest is not None:
            slice_ = await self.store.run(reads.members(rest))
            found |= dict.fromkeys(reads.stood(member).order for member in slice_.found)
            rest = slice_.rest
        done = [await self._see_to(key, modality, last) for key in found]
        if any(done):
            log.info("steps without MPPS count as done", modality=modality, orders=sum(done))
        return sum(done)

    async def _see_to(self, key: str, modality: str, last: int) -> bool:
        """Write it, unless somebody changes the order meanwhile: there is another minute."""
        read = await self.store.run(reads.orders([key]))
        order = read.known.order(key)
        after = done_by_age(order, partial(_is_due, modality, last)) if order else None
        if order is None or after is order:
            return False
        change = Change(read.revision(order), order, after)
        outcome = await self.store.run(commit(Commit(at=self.clock(), changes=[change])))
        return isinstance(outcome, Committed)


def _is_due(modality: str, last: int, said: str, start: int) -> bool:
    return said == modality and 0 < start <= last
