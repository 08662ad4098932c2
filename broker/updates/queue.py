"""RQ as we use it: one queue a destination, JSON only, and of functions only those we hand over."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from threading import Event as Flag
from types import FrameType
from typing import Any

import structlog
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from broker import mishaps
from broker.store import engine

MOST_NUDGES = 2
"""One that waits is enough, for it will see all that is there; two in case one is rubbish."""
NUDGE_TTL_S = 600
FAILURE_TTL_S = 7 * 86400
MAINTENANCE_S = 30
WORKER_TTL_S = 30
DRAIN = "drain"

Function = Callable[[], object]

log = structlog.get_logger("updates")


class ForeignJob(Exception):
    """A job that is none of ours; whoever can write to Redis may have put it there."""


class BrokerJob(Job):
    """A job whose function is looked up among ours, never imported, and that has no callbacks."""

    functions: Mapping[str, Function] = {}

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None):  # noqa: ARG002 - RQ's
        super().__init__(id, connection, JSONSerializer)

    @property
    def func(self) -> Function:
        """The function of ours with this name, which takes no arguments. Raises ForeignJob."""
        function = self.functions.get(str(self.func_name))
        if function is None or self.instance or self.args or self.kwargs:
            raise ForeignJob(f"job {self.id} in queue {self.origin} is none of ours; not run")
        return function

    def restore(self, raw_data: Any) -> None:
        """Take over what Redis holds, except what would run other people's code or stay for ever.

        Callbacks are names that RQ imports, webhooks are addresses that it calls.
        """
        super().restore(raw_data)
        self._success_callback_name = None
        self._failure_callback_name = None
        self._stopped_callback_name = None
        self.webhooks = []
        self.retries_left = self.repeats_left = None
        self.result_ttl, self.failure_ttl = 0, FAILURE_TTL_S


class BrokerQueue(Queue):
    """The queue of one destination."""

    job_class = BrokerJob

    def __init__(self, name: str, connection: Any, **options: Any):
        super().__init__(name, connection, **{**options, "serializer": JSONSerializer})

    def nudge(self, *, timeout_s: float, workers: int = 1) -> None:
        """Ask a worker to look at its outbox, unless so many have been asked already.

        Raises StoreUnavailable.
        """
        with engine.reached():
            if self.count < max(MOST_NUDGES, workers):
                self.enqueue(
                    DRAIN,
                    description=DRAIN,
                    job_timeout=int(timeout_s),
                    result_ttl=0,
                    failure_ttl=FAILURE_TTL_S,
                    ttl=NUDGE_TTL_S,
                )


class BrokerWorker(SimpleWorker):
    """The worker of one queue, in this process: the connection to the RIS stays open."""

    queue_class: type[Queue] = BrokerQueue
    # RQ would wait ever longer for a Redis that is away, up to a minute.
    max_connection_wait_time = 2.0

    def __init__(self, queue: BrokerQueue, functions: Mapping[str, Function], stop: Flag) -> None:
        self.stop = stop
        with engine.reached():
            super().__init__(
                [queue],
                connection=queue.connection,
                job_class=type("OurJob", (BrokerJob,), {"functions": dict(functions)}),
                serializer=JSONSerializer,
                maintenance_interval=MAINTENANCE_S,
                worker_ttl=WORKER_TTL_S,
                default_result_ttl=0,
                log_job_description=False,
            )

    def procline(self, message: str) -> None:
        """RQ would call the process `rq:worker:…`; it is a door and keeps the door's title."""

    def bootstrap(self, *_: Any, **__: Any) -> None:
        """Register. RQ's log handlers and its remote control (pubsub) are left out."""
        for name in ("rq.worker", "rq.job", "rq.queue"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._bury_the_dead()
        self.register_birth()  # type: ignore[no-untyped-call]
        self.set_state(WorkerStatus.STARTED)

    def _bury_the_dead(self) -> None:
        """Take workers off the list of `rq info` that were killed on this machine."""
        here, mine = self.queues[0], self.pid
        for other in SimpleWorker.all(queue=here, job_class=BrokerJob, queue_class=BrokerQueue):
            if other.hostname == self.hostname and (other.pid == mine or not _lives(other.pid)):
                other.register_death()  # type: ignore[no-untyped-call]

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Tell of a job that failed. RQ would log the error's words, which may be a patient's."""
        log.error("job failed", job=job.id, why=mishaps.told(exc_info[1]))

    def check_for_suspension(self, burst: bool) -> None:  # noqa: ARG002 - RQ's
        """End when told to before RQ listened; nobody suspends the updates through Redis."""
        if self.stop.is_set():
            raise StopRequested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """End after the message in flight; raises RQ's StopRequested when there is none."""
        self.stop.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def teardown(self) -> None:
        """Leave, on a new connection: a signal may have ended a command before its reply came.

        The next command would be given that reply, or wait till a BLPOP is over.
        """
        self.connection.connection_pool.disconnect()
        super().teardown()  # type: ignore[no-untyped-call]

    def serve(self) -> None:
        """Run jobs until told to stop, or until RQ gives up; raises StoreUnavailable."""
        with engine.reached():
            self.work(logging_level="WARNING")


def _lives(pid: int | None) -> bool:
    """Tell whether there is such a process."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
