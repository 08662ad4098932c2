"""What waited for a code, judged once more: the same way as when it came, without a listener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from broker.orders.door import intake_of
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current
from broker.settings import Settings
from broker.store import held
from broker.store.archive import Archived
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.held import Waiting

REPEAT = "repeat"


@dataclass(frozen=True)
class Replayed:
    """What became of a message: applied | held | refused | repeat, and why.

    One that was refused still waits: its sender believes that it was accepted.
    """

    message: Waiting
    outcome: str
    cause: str
    orders: tuple[str, ...] = ()


async def replay(url: str, settings: Settings, digests: Iterable[str]) -> AsyncIterator[Replayed]:
    """Judge messages that wait, in this order, by the mappings in force in the store at `url`.

    Raises StoreUnavailable, Complaints.
    """
    store = AsyncStore(url)
    told: list[Archived] = []
    try:
        current = await Current.opened(store, settings)
        intake = intake_of(settings, store, current, OrdersMetrics())
        intake = replace(intake, told=told.append)
        for digest in digests:
            for message in await store.run(held.read([digest])):
                told.clear()
                if await intake.accept(message.raw) is None and not told:
                    raise StoreUnavailable("it was away while messages were replayed")
                yield _replayed(message, told)
    finally:
        await store.close()


def _replayed(message: Waiting, told: list[Archived]) -> Replayed:
    if not told:
        return Replayed(message, REPEAT, "applied before")
    return Replayed(message, told[-1].outcome, told[-1].cause, told[-1].orders)
