"""The modality door: one DICOM listener with C-ECHO, worklist C-FIND and MPPS."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import datetime

import uvloop

from broker.dicom.negotiation import Policy
from broker.modality.echo import answer_echo
from broker.modality.find import MODALITY_WORKLIST, Find
from broker.modality.metrics import ModalityMetrics
from broker.modality.server import Handler, Limits, Server
from broker.modality.steps import MODALITY_PERFORMED_PROCEDURE_STEP, Steps
from broker.rollout.current import Current
from broker.settings import Address, Settings
from broker.store import reads
from broker.store.executors import AsyncStore
from broker.store.metrics import own_name, publish_forever, publish_last

VERIFICATION = "1.2.840.10008.1.1"
GRACE_S = 10.0


def serve(
    settings: Settings, *, ready: Callable[[Mapping[str, str]], None], instance: int = 0
) -> None:
    """Answer scanners until SIGTERM or SIGINT; requests being served then end first.

    Raises mapping Complaints, StoreUnavailable, OSError before it is ready.
    """
    uvloop.run(_serve(settings, ready, instance))


async def _serve(
    settings: Settings, ready: Callable[[Mapping[str, str]], None], instance: int
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store, metrics = AsyncStore(settings.redis.url), ModalityMetrics()

    def observe(event: str, labels: Mapping[str, str], seconds: float) -> None:  # noqa: ARG001 - Observe
        if event == "association":
            metrics.association(labels.get("outcome", ""))
        elif labels.get("kind") == "C-ECHO":
            metrics.echo()

    current = await Current.opened(store, settings)
    server = Server(
        _handlers(settings, store, current, metrics), _policy(settings), _limits(settings), observe
    )
    await store.run(reads.writable())
    host, port = await server.start(*settings.dicom.listen, reuse_port=settings.dicom.processes > 1)
    ready({"dicom": str(Address(host, port))})
    name = own_name("modality", instance)

    async def swapped(version: str) -> None:
        metrics.mapping(version)
        await publish_last(store, metrics.registry, name)

    tasks = [
        asyncio.create_task(publish_forever(store, metrics.registry, name)),
        asyncio.create_task(current.follow(store, swapped)),
    ]
    await stop.wait()
    await server.stop(GRACE_S)
    for task in tasks:
        task.cancel()
    await publish_last(store, metrics.registry, name)
    await store.close()


def _handlers(
    settings: Settings, store: AsyncStore, current: Current, metrics: ModalityMetrics
) -> Mapping[tuple[str, str], Handler]:
    charsets = {ae.title: tuple(ae.charset.split("\\")) for ae in settings.ae if ae.charset}
    find = Find(store, metrics, settings.dicom.limits.max_answers, charsets)
    steps = Steps(
        store=store,
        current=current,
        ris=settings.ris,
        clock=lambda: datetime.now(settings.timezone),
        metrics=metrics,
    )
    return {
        (VERIFICATION, "C-ECHO"): answer_echo,
        (MODALITY_WORKLIST, "C-FIND"): find,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-CREATE"): steps.create,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-SET"): steps.set,
    }


def _policy(settings: Settings) -> Policy:
    own = frozenset({settings.dicom.ae_title}) if settings.dicom.called_ae == "own" else None
    known = frozenset(ae.title for ae in settings.ae)
    refuse = settings.dicom.unknown_ae == "refuse"
    return Policy(called_ae=own, calling_ae=known if refuse else None)


def _limits(settings: Settings) -> Limits:
    limits = settings.dicom.limits
    return Limits(
        associations=limits.associations,
        associations_per_address=limits.associations_per_host,
        association_s=limits.association_deadline.total_seconds(),
        message_s=limits.pdu_deadline.total_seconds(),
        idle_s=limits.idle.total_seconds(),
        write_s=limits.write_deadline.total_seconds(),
    )
