"""The updates door: instance 0 dispatches, every other one is a connection of a destination."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from threading import Event as Flag
from threading import Thread

import structlog
from rq.exceptions import StopRequested

from broker.audit.trail import kept
from broker.settings import Destination, Forward, Ris, Settings, Verdict
from broker.store import engine, reads
from broker.store.executors import Store, StoreUnavailable
from broker.store.metrics import Shortfalls, own_name, publish_once
from broker.tls.metrics import DaysLeft
from broker.updates.auditing import Told, removed_by
from broker.updates.dispatcher import Dispatcher
from broker.updates.drain import Attempt, Drain
from broker.updates.forwarding import Relay
from broker.updates.metrics import UpdatesMetrics
from broker.updates.pace import Pace
from broker.updates.queue import DRAIN, BrokerQueue, BrokerWorker
from broker.updates.reaching import Way
from broker.updates.retention import Retention
from broker.updates.sender import Line
from broker.updates.unseen import Lookout
from broker.worklist import canary

PUBLISH_S = 2.0
SPARE_S = 30.0

log = structlog.get_logger("updates")


def serve(
    settings: Settings,
    *,
    ready: Callable[[Mapping[str, str]], None],
    instance: int = 0,
    pace: Pace | None = None,
) -> None:
    """Carry reports to RISs and other SCPs until SIGTERM or SIGINT; the one in flight goes first.

    A store that is away is waited for, also at the start.
    """
    stop, store = Flag(), Store(settings.redis.full_url)
    _listen_for_stop(stop)
    _wait_for_store(store, stop)
    metrics = UpdatesMetrics()
    metrics.registry.register(Shortfalls(store))
    with (
        kept(settings, "updates", metrics.registry, instance) as trail,
        _published(settings, metrics, instance, stop),
    ):
        if instance == 0:
            ready({"updates": "dispatching"})
            _dispatch(settings, store, stop, pace or Pace(), metrics, removed_by(trail))
        else:
            to = workers(settings)[instance - 1]
            ready({f"updates-{to.name}": "sending"})
            _send(settings, to, store, stop, pace or Pace(), metrics)
    store.close()


def workers(settings: Settings) -> list[Destination]:
    """Give the destination of every worker: one for each of its connections."""
    return [each for each in settings.delivered for _ in range(each.connections)]


def _dispatch(
    settings: Settings, store: Store, stop: Flag, pace: Pace, metrics: UpdatesMetrics, told: Told
) -> None:
    connection = engine.connection(settings.redis.full_url)
    nudges = {
        each.name: partial(
            BrokerQueue(each.name, connection).nudge,
            timeout_s=_job_timeout_s(each),
            workers=each.connections,
        )
        for each in settings.delivered
    }
    clock = partial(datetime.now, settings.timezone)
    retention = Retention(store, settings.keep, clock, metrics.removed, metrics.kept, told)
    directory = settings.dicom.directory(settings.timezone)
    lookout = Lookout(store, directory, clock, metrics.open_steps, settings.mpps.ends_within)
    Dispatcher(store, nudges, retention, stop=stop, pace=pace, lookout=lookout).run()


def _send(
    settings: Settings,
    to: Destination,
    store: Store,
    stop: Flag,
    pace: Pace,
    metrics: UpdatesMetrics,
) -> None:
    queue = BrokerQueue(to.name, engine.connection(settings.redis.full_url))
    drain = Drain(
        to,
        way_to(to),
        store,
        nudge=partial(queue.nudge, timeout_s=_job_timeout_s(to), workers=to.connections),
        stop=stop,
        pace=pace,
        observe=partial(_count, metrics),
        keep_s=settings.keep.sightings.total_seconds(),
    )
    if drain.credentials:
        metrics.registry.register(DaysLeft("updates", [drain.credentials]))
    while not stop.is_set():
        try:
            BrokerWorker(queue, {DRAIN: drain}, stop).serve()
        except StopRequested:
            break
        except StoreUnavailable as away:
            log.warning("store unavailable, waiting for it", destination=to.name, why=str(away))
        _listen_for_stop(stop)  # RQ's handlers belong to the worker that has ended
        stop.wait(pace.store_away_s)
    drain.close()


def way_to(to: Destination) -> Way:
    """Give the connection that a destination speaks over: MLLP to a RIS, DICOM to another SCP."""
    if isinstance(to, Forward):
        return Relay(to)
    if isinstance(to, Ris):
        return Line(to)
    raise TypeError(f"{type(to).__name__} is no destination")


def _job_timeout_s(to: Destination) -> float:
    """RQ ends a job that takes longer, which only a bug of ours would do."""
    return to.connect_timeout_s + to.ack_timeout_s + SPARE_S


def _count(metrics: UpdatesMetrics, attempt: Attempt) -> None:
    """The one place where an attempt becomes numbers; the self-test's own are none of them."""
    if attempt.ris == canary.DESTINATION:
        return
    metrics.sent(attempt.ris, attempt.verdict, attempt.took_s)
    if attempt.verdict == Verdict.PARK:
        metrics.parked(attempt.ris)
    if attempt.verdict == Verdict.RETRY:
        metrics.retry(attempt.ris)


@contextmanager
def _published(
    settings: Settings, metrics: UpdatesMetrics, instance: int, stop: Flag
) -> Iterator[None]:
    """Publish the metrics from a thread: what the door itself does may block for a while."""

    def publish() -> None:
        store = Store(settings.redis.full_url)
        while True:
            with suppress(StoreUnavailable):
                publish_once(store, metrics.registry, own_name("updates", instance))
            if stop.wait(PUBLISH_S):
                return store.close()

    thread = Thread(target=publish, name="metrics", daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(PUBLISH_S)


def _wait_for_store(store: Store, stop: Flag) -> None:
    while not stop.is_set():
        with suppress(StoreUnavailable):
            if store.run(reads.writable()):
                return
        stop.wait(0.1)


def _listen_for_stop(stop: Flag) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
