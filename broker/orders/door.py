"""The orders door: MLLP listeners over one intake."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import uuid4

import uvloop

from broker.hl7.refusal import Refusal
from broker.orders.intake import Intake
from broker.orders.listener import Limits, Listener, Peer
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current
from broker.settings import Address, Settings
from broker.store import reads
from broker.store.consequences import Keeping
from broker.store.executors import AsyncStore
from broker.store.metrics import own_name, publish_forever, publish_last

GRACE_S = 10.0


def serve(
    settings: Settings, *, ready: Callable[[Mapping[str, str]], None], instance: int = 0
) -> None:
    """Take messages until SIGTERM or SIGINT; what is being answered then is answered first.

    Raises mapping Complaints, StoreUnavailable, OSError before it is ready.
    """
    uvloop.run(_serve(settings, ready, instance))


async def _serve(
    settings: Settings, ready: Callable[[Mapping[str, str]], None], instance: int
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store, metrics = AsyncStore(settings.redis.url), OrdersMetrics()
    current = await Current.opened(store, settings)
    listeners = await _listening(settings, intake_of(settings, store, current, metrics), metrics)
    await store.run(reads.writable())
    ready({"hl7": ",".join(place for _, place in listeners)})
    name = own_name("orders", instance)

    async def swapped(version: str) -> None:
        metrics.mapping(version)
        await publish_last(store, metrics.registry, name)

    tasks = [
        asyncio.create_task(publish_forever(store, metrics.registry, name)),
        asyncio.create_task(current.follow(store, swapped)),
    ]
    await stop.wait()
    await asyncio.gather(*(listener.stop(GRACE_S) for listener, _ in listeners))
    for task in tasks:
        task.cancel()
    await publish_last(store, metrics.registry, name)
    await store.close()


def intake_of(
    settings: Settings, store: AsyncStore, current: Current, metrics: OrdersMetrics
) -> Intake:
    """The way of a message to its answer, as the settings want it."""
    return Intake(
        store=store,
        current=current,
        zone=settings.timezone,
        keep=Keeping(guard=settings.keep.guard, alias=settings.keep.patients),
        ids=iter(lambda: uuid4().hex[:20].upper(), ""),
        clock=lambda: datetime.now(settings.timezone),
        metrics=metrics,
    )


async def _listening(
    settings: Settings, intake: Intake, metrics: OrdersMetrics
) -> list[tuple[Listener, str]]:
    async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:  # noqa: ARG001 - Accept
        return await intake.accept(raw)

    async def reject(refusal: Refusal, head: bytes, peer: Peer) -> list[bytes] | None:  # noqa: ARG001 - Reject
        return await intake.refuse(refusal, head)

    listeners = []
    for each in settings.hl7.listeners:
        listener = Listener(accept, _limits(settings), reject=reject, observe=metrics.connection)
        host, port = await listener.start(*each.listen, reuse_port=settings.hl7.processes > 1)
        listeners.append((listener, str(Address(host, port))))
    return listeners


def _limits(settings: Settings) -> Limits:
    limits = settings.hl7.limits
    return Limits(
        max_frame_bytes=limits.max_message,
        frame_deadline_s=limits.message_deadline.total_seconds(),
        idle_s=limits.idle.total_seconds(),
        write_deadline_s=limits.write_deadline.total_seconds(),
        connections=limits.connections,
        connections_per_ip=limits.connections_per_host,
    )
