"""The updates door: instance 0 dispatches, instance n sends to the n-th RIS."""

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

from broker.settings import Ris, Settings
from broker.store import engine, reads
from broker.store.executors import Store, StoreUnavailable
from broker.store.metrics import own_name, publish_once
from broker.updates.dispatcher import Dispatcher
from broker.updates.drain import Attempt, Drain
from broker.updates.metrics import UpdatesMetrics
from broker.updates.pace import Pace
from broker.updates.queue import DRAIN, BrokerQueue, BrokerWorker
from broker.updates.retention import Retention

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
    """Carry status messages to the RIS until SIGTERM or SIGINT; the one in flight goes first.

    A store that is away is waited for, also at the start.
    """
    stop, store = Flag(), Store(settings.redis.url)
    _listen_for_stop(stop)
    _wait_for_store(store, stop)
    metrics = UpdatesMetrics()
    with _published(settings, metrics, instance, stop):
        if instance == 0:
            ready({"updates": "dispatching"})
            _dispatch(settings, store, stop, pace or Pace())
        else:
            ris = settings.ris[instance - 1]
            ready({f"updates-{ris.name}": "sending"})
            _send(settings, ris, store, stop, pace or Pace(), metrics)
    store.close()


def _dispatch(settings: Settings, store: Store, stop: Flag, pace: Pace) -> None:
    connection = engine.connection(settings.redis.url)
    nudges = {
        ris.name: partial(BrokerQueue(ris.name, connection).nudge, timeout_s=_job_timeout_s(ris))
        for ris in settings.ris
    }
    retention = Retention(store, settings.keep, lambda: datetime.now(settings.timezone))
    Dispatcher(store, nudges, retention, stop=stop, pace=pace).run()


def _send(
    settings: Settings, ris: Ris, store: Store, stop: Flag, pace: Pace, metrics: UpdatesMetrics
) -> None:
    queue = BrokerQueue(ris.name, engine.connection(settings.redis.url))
    drain = Drain(
        ris,
        store,
        nudge=partial(queue.nudge, timeout_s=_job_timeout_s(ris)),
        stop=stop,
        pace=pace,
        observe=partial(_count, metrics),
    )
    while not stop.is_set():
        try:
            BrokerWorker(queue, {DRAIN: drain}, stop).serve()
        except StopRequested:
            break
        except StoreUnavailable as away:
            log.warning("store unavailable, waiting for it", ris=ris.name, why=str(away))
        _listen_for_stop(stop)  # RQ's handlers belong to the worker that has ended
        stop.wait(pace.store_away_s)
    drain.close()


def _job_timeout_s(ris: Ris) -> float:
    """RQ ends a job that takes longer, which only a bug of ours would do."""
    return ris.connect_timeout_s + ris.ack_timeout_s + SPARE_S


def _count(metrics: UpdatesMetrics, attempt: Attempt) -> None:
    """The one place where an attempt becomes numbers."""
    metrics.sent(attempt.ris, attempt.verdict, attempt.took_s)
    if attempt.verdict == "refused":
        metrics.parked(attempt.ris)
    if attempt.verdict == "retry":
        metrics.retry(attempt.ris)


@contextmanager
def _published(
    settings: Settings, metrics: UpdatesMetrics, instance: int, stop: Flag
) -> Iterator[None]:
    """Publish the metrics from a thread: what the door itself does may block for a while."""

    def publish() -> None:
        store = Store(settings.redis.url)
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
