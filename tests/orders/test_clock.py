"""The machine's clock is set back: nothing is taken for older, nothing is removed too early."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.probe.orders import Envelope, Order, numbered, orm_o01
from broker.settings import Keep
from broker.store import recall
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from broker.updates.retention import Retention
from tests.orders.test_batches import opened, stored, together

pytestmark = pytest.mark.peer("redis-server")

SENT = datetime(2026, 3, 16, 8, 0)  # noqa: DTZ001 - a RIS writes local time
HOUR = timedelta(hours=1)


def sent(order: Order, after: timedelta) -> bytes:
    return orm_o01(order, control="XO", envelope=Envelope(sent=SENT + after))


def test_r14_with_the_clock_set_back_order_and_answers_stay_and_nothing_expires(
    own_server: EmbeddedServer,
) -> None:
    """MSH-7, the sender's clock, decides what is newer; ours only how long things stay."""
    order = numbered(1)
    changed = replace(order, description="CT neck")
    first = orm_o01(order, envelope=Envelope(sent=SENT))
    times = iter([timedelta(), -HOUR, -HOUR, -HOUR, -2 * HOUR])
    now = datetime.now(UTC)

    async def story() -> None:
        async with opened(own_server.url) as intake:
            moved = replace(intake, clock=lambda: now + next(times, -HOUR))
            answer = await moved.accept(first)
            assert await together(moved, [sent(changed, HOUR)]) == ["AA"]
            assert await together(moved, [sent(order, HOUR / 2)]) == ["AA"]  # late by MSH-7
            assert await moved.accept(first) == answer

    asyncio.run(story())
    store = Store(own_server.url)
    (kept,) = stored(store, order).values()
    procedure = kept.procedures[0].facts.attributes
    assert procedure["RequestedProcedureDescription"] == "CT neck"
    entries = store.run(recall.before("+"))
    said = [entry.message and (entry.message.outcome, entry.message.cause) for entry in entries]
    assert said == [("repeat", ""), ("stale", "stale"), ("applied", ""), ("applied", "")]
    assert all(entry.took_ms >= 0 for entry in entries)
    retention = Retention(store, Keep(), lambda: now - HOUR)
    while retention.slice():
        pass
    assert stored(store, order)
    assert len(store.run(recall.before("+"))) == 4
    store.close()
