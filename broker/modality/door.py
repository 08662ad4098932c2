"""The modality door: one DICOM listener with C-ECHO, worklist C-FIND and MPPS."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import uvloop

from broker.audit.trail import Silence, Trail, kept
from broker.dicom.negotiation import MPPS_RETRIEVE, Policy
from broker.memory import settle, tidy
from broker.modality.admission import Admission
from broker.modality.assumed import Assumed
from broker.modality.auditing import alarmed_by, reported_to, told_to
from broker.modality.echo import answer_echo
from broker.modality.find import MODALITY_WORKLIST, Find
from broker.modality.metrics import HANDSHAKE_FAILED, ModalityMetrics
from broker.modality.overdue import Overdue
from broker.modality.recording import Recording
from broker.modality.retrieve import Retrieve
from broker.modality.server import Handler, Limits, Observe, Server
from broker.modality.sightings import Sightings, Tell, tell_nobody
from broker.modality.steps import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    Reported,
    Steps,
    reported_to_nobody,
)
from broker.rollout.current import Current
from broker.settings import Address, Settings
from broker.store import reads
from broker.store.executors import AsyncStore
from broker.store.metrics import Shortfalls, own_name, publish_forever, publish_last
from broker.tls.credentials import Credentials
from broker.tls.metrics import DaysLeft
from broker.worklist import canary

VERIFICATION = "1.2.840.10008.1.1"
GRACE_S = 10.0
SERVED = (
    (VERIFICATION, "C-ECHO"),
    (MODALITY_WORKLIST, "C-FIND"),
    (MODALITY_PERFORMED_PROCEDURE_STEP, "N-CREATE"),
    (MODALITY_PERFORMED_PROCEDURE_STEP, "N-SET"),
    (MPPS_RETRIEVE, "N-GET"),
)
"""SOP classes with the requests that are answered; a test holds it against the handlers."""


def serve(
    settings: Settings, *, ready: Callable[[Mapping[str, str]], None], instance: int = 0
) -> None:
    """Answer scanners until SIGTERM or SIGINT; requests being served then end first.

    Raises mapping Complaints, tls Unusable, StoreUnavailable, OSError before it is ready.
    """
    metrics = ModalityMetrics()
    with kept(settings, "modality", metrics.registry, instance) as trail:
        uvloop.run(_serve(settings, ready, instance, metrics, trail))


async def _serve(
    settings: Settings,
    ready: Callable[[Mapping[str, str]], None],
    instance: int,
    metrics: ModalityMetrics,
    trail: Trail | Silence,
) -> None:
    stop, name = _told_to_stop(), own_name("modality", instance)
    store, keep = AsyncStore(settings.redis.full_url), settings.keep
    metrics.registry.register(Shortfalls(store))
    sightings = Sightings(store, settings.directory, keep.sightings, keep.queries)
    current = await Current.opened(store, settings)
    recording = recording_of(settings, store, current)
    server = Server(
        handlers(
            settings,
            store,
            recording,
            metrics,
            tell=told_to(trail, sightings.told),
            reported=reported_to(trail),
        ),
        admission(settings),
        limits(settings),
        alarmed_by(trail, _observing(sightings, metrics)),
    )
    await store.run(reads.writable())
    ready(await _listening(settings, server, metrics))
    settle()
    await _until(
        stop,
        server,
        publish_forever(store, metrics.registry, name),
        current.follow(store, _swapping(store, metrics, name)),
        sightings.flush_forever(),
        tidy(),
        overdue_of(settings, store, recording, metrics).forever(),
        Assumed(store, recording.clock, settings.mpps.done_after).forever(),
    )
    await publish_last(store, metrics.registry, name)
    await store.close()


async def _until(stop: asyncio.Event, server: Server, *beside: Coroutine[Any, Any, None]) -> None:
    """Do what goes on beside the server until it has stopped; the last sightings are written."""
    tasks = [asyncio.create_task(each) for each in beside]
    await stop.wait()
    await server.stop(GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _told_to_stop() -> asyncio.Event:
    """Give what SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _observing(sightings: Sightings, metrics: ModalityMetrics) -> Observe:
    """Give what counts, and remembers, whatever the server tells of."""

    def observe(event: str, labels: Mapping[str, str], seconds: float) -> None:  # noqa: ARG001 - Observe
        sightings.observed(event, labels)
        if labels.get("calling") == canary.AE:
            return
        if event == "association":
            metrics.association(labels.get("outcome", ""))
        elif event == "handshake":
            metrics.association(HANDSHAKE_FAILED)
        elif labels.get("kind") == "C-ECHO":
            metrics.echo()

    return observe


def _swapping(
    store: AsyncStore, metrics: ModalityMetrics, name: str
) -> Callable[[str], Awaitable[None]]:
    """Give what tells of another version of the mappings."""

    async def swapped(version: str) -> None:
        metrics.mapping(version)
        await publish_last(store, metrics.registry, name)

    return swapped


async def _listening(
    settings: Settings, server: Server, metrics: ModalityMetrics
) -> dict[str, str]:
    """Open the ports; say what is bound where."""
    dicom, shared, bound = settings.dicom, settings.dicom.processes > 1, {}
    if dicom.plain:
        bound["dicom"] = str(Address(*await server.start(*dicom.listen, reuse_port=shared)))
    if dicom.tls is not None:
        credentials = Credentials("dicom", dicom.tls)
        metrics.registry.register(DaysLeft("modality", [credentials]))
        at = await server.start(*dicom.tls.listen, tls=credentials.context, reuse_port=shared)
        bound["dicom-tls"] = str(Address(*at))
    return bound


def handlers(
    settings: Settings,
    store: AsyncStore,
    recording: Recording,
    metrics: ModalityMetrics,
    tell: Tell = tell_nobody,
    reported: Callable[[Reported], None] = reported_to_nobody,
) -> Mapping[tuple[str, str], Handler]:
    """What is served, by SOP class and request."""
    directory = settings.directory
    steps = Steps(store, recording, metrics, directory, reported)
    return {
        **questions(settings, store, metrics, tell),
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-CREATE"): steps.create,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-SET"): steps.set,
        (MPPS_RETRIEVE, "N-GET"): Retrieve(store, metrics),
    }


def recording_of(
    settings: Settings,
    store: AsyncStore,
    current: Current,
    clock: Callable[[], datetime] | None = None,
) -> Recording:
    """Give what writes exams; `clock` gives the time in the site's zone."""
    now = clock or (lambda: datetime.now(settings.timezone))
    forward = settings.updates.forward
    return Recording(store, current, settings.told, now, settings.mpps.rules, forward)


def overdue_of(
    settings: Settings, store: AsyncStore, recording: Recording, metrics: ModalityMetrics
) -> Overdue:
    """Give what looks for exams that do not end."""
    mpps = settings.mpps
    return Overdue(
        store, recording, metrics, mpps.ends_within, mpps.never_ended, mpps.ends_within_of
    )


def questions(
    settings: Settings, store: AsyncStore, metrics: ModalityMetrics, tell: Tell = tell_nobody
) -> Mapping[tuple[str, str], Handler]:
    """Give the handlers that change nothing: C-ECHO and worklist C-FIND, of which `tell` hears."""
    directory = settings.directory
    find = Find(
        store,
        metrics,
        directory,
        lambda: datetime.now(settings.timezone).date(),
        tell,
        settings.dicom.limits.max_candidates,
    )
    return {(VERIFICATION, "C-ECHO"): answer_echo, (MODALITY_WORKLIST, "C-FIND"): find}


def admission(settings: Settings) -> Admission:
    """Give the rules by which associations are accepted."""
    dicom = settings.dicom
    own = frozenset({dicom.ae_title, *dicom.aliases}) if dicom.called_ae == "own" else None
    policy = Policy(own, odd_titles=dicom.lenient.titles, any_case=dicom.lenient.title_case)
    return Admission(
        policy,
        settings.directory,
        refuse_unknown=dicom.unknown_ae == "refuse",
        message_id_needed=not dicom.lenient.message_id,
    )


def limits(settings: Settings) -> Limits:
    """Give what one peer, and all together, may take."""
    limits, usual = settings.dicom.limits, Limits()
    return Limits(
        associations=limits.associations,
        associations_per_address=limits.associations_per_host,
        connections=max(usual.connections, 2 * limits.associations),
        connections_per_address=max(
            usual.connections_per_address, 2 * limits.associations_per_host
        ),
        association_s=limits.association_deadline.total_seconds(),
        message_s=limits.pdu_deadline.total_seconds(),
        idle_s=limits.idle.total_seconds(),
        write_s=limits.write_deadline.total_seconds(),
        held=limits.held,
    )
