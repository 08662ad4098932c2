"""The orders door: MLLP listeners over one intake."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from os import urandom

import uvloop

from broker.audit.events import Alarm
from broker.audit.trail import Silence, Trail, kept
from broker.hl7.framing import Lost
from broker.hl7.refusal import Refusal
from broker.memory import settle, tidy
from broker.orders.admission import Admission
from broker.orders.answering import Answering, Heard, heard_by_nobody
from broker.orders.auditing import heard_by
from broker.orders.intake import Intake
from broker.orders.limits import Limits, Peer
from broker.orders.listener import Listener
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current
from broker.settings import Address, Hl7Limits, Settings
from broker.store import reads
from broker.store.archive import Archived
from broker.store.consequences import Keeping
from broker.store.executors import AsyncStore
from broker.store.metrics import Shortfalls, own_name, publish_forever, publish_last
from broker.tls.credentials import Credentials
from broker.tls.metrics import DaysLeft

GRACE_S = 10.0
TORN = "broken off by the start of another message"
UNFRAMED = "outside of a block, or broken off without its end byte"


def serve(
    settings: Settings, *, ready: Callable[[Mapping[str, str]], None], instance: int = 0
) -> None:
    """Take messages until SIGTERM or SIGINT; what is being answered then is answered first.

    Raises mapping Complaints, tls Unusable, StoreUnavailable, OSError before it is ready.
    """
    metrics = OrdersMetrics()
    with kept(settings, "orders", metrics.registry, instance) as trail:
        uvloop.run(_serve(settings, ready, instance, metrics, trail))


async def _serve(
    settings: Settings,
    ready: Callable[[Mapping[str, str]], None],
    instance: int,
    metrics: OrdersMetrics,
    trail: Trail | Silence,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = AsyncStore(settings.redis.full_url)
    metrics.registry.register(Shortfalls(store))
    current = await Current.opened(store, settings)
    intake = intake_of(settings, store, current, metrics, heard=heard_by(trail))
    listeners = await _listening(settings, intake, metrics, trail)
    await store.run(reads.writable())
    settle()
    ready({"hl7": ",".join(place for _, place in listeners)})
    name = own_name("orders", instance)

    async def swapped(version: str) -> None:
        metrics.mapping(version)
        await publish_last(store, metrics.registry, name)

    tasks = [
        asyncio.create_task(publish_forever(store, metrics.registry, name)),
        asyncio.create_task(current.follow(store, swapped)),
        asyncio.create_task(tidy()),
    ]
    await stop.wait()
    await asyncio.gather(*(listener.stop(GRACE_S) for listener, _ in listeners))
    for task in tasks:
        task.cancel()
    await publish_last(store, metrics.registry, name)
    await store.close()


def intake_of(
    settings: Settings,
    store: AsyncStore,
    current: Current,
    metrics: OrdersMetrics,
    told: Callable[[Archived], None] = lambda _: None,
    heard: Heard = heard_by_nobody,
) -> Intake:
    """The way of a message to its answer, as the settings want it.

    `told` hears of every message that was archived, `heard` of how it came as well.
    """
    ids = iter(lambda: urandom(10).hex().upper(), "")

    def clock() -> datetime:
        return datetime.now(settings.timezone)

    return Intake(
        store=store,
        current=current,
        zone=settings.timezone,
        keep=Keeping(guard=settings.keep.guard, alias=settings.keep.patients),
        clock=clock,
        metrics=metrics,
        answering=Answering(store, ids, clock, metrics, told, heard),
        ris=settings.told,
        rules=settings.mpps.rules,
    )


async def _listening(
    settings: Settings, intake: Intake, metrics: OrdersMetrics, trail: Trail | Silence
) -> list[tuple[Listener, str]]:
    async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:
        return await intake.accept(raw, peer)

    async def reject(refusal: Refusal, head: bytes, peer: Peer) -> list[bytes] | None:  # noqa: ARG001 - Reject
        return await intake.refuse(refusal, head)

    async def lose(lost: Lost, peer: Peer) -> None:  # noqa: ARG001 - Lose
        await intake.lose(lost.head, TORN if lost.torn else UNFRAMED)

    shared = settings.hl7.processes > 1

    def alarm(host: str, fact: str) -> None:
        trail.note(Alarm(datetime.now(UTC), "", host, fact))

    listeners: list[tuple[Listener, str]] = []
    credentials: list[Credentials] = []
    for number, each in enumerate(settings.hl7.listeners):
        if each.tls is not None:
            credentials.append(Credentials(f"hl7.listeners.{number}", each.tls))
        tls = credentials[-1].context if each.tls is not None else None
        listener = Listener(
            accept,
            _limits(settings.hl7.limits_of(each)),
            reject=reject,
            lose=lose,
            peers=each.peers,
            observe=metrics.connection,
            alarm=alarm,
        )
        host, port = await listener.start(*each.listen, tls=tls, reuse_port=shared)
        intake.admission[port] = Admission(each.senders, each.processing)
        listeners.append((listener, str(Address(host, port))))
    if credentials:
        metrics.registry.register(DaysLeft("orders", credentials))
    return listeners


def _limits(limits: Hl7Limits) -> Limits:
    return Limits(
        max_frame_bytes=limits.max_message,
        max_held_bytes=max(limits.held, limits.max_message),
        frame_deadline_s=limits.message_deadline.total_seconds(),
        idle_s=limits.idle.total_seconds(),
        write_deadline_s=limits.write_deadline.total_seconds(),
        connections=limits.connections,
        messages_a_second=limits.messages_per_second,
        connections_per_ip=limits.connections_per_host,
    )
