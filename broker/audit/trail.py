"""The trail of one process: events are noted in a moment, and written by a thread of their own."""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Thread
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from broker import mishaps
from broker.audit.events import Activity, Event, Us
from broker.audit.places import Datagrams, File, Place, Stream, TooLong
from broker.audit.schema import written
from broker.settings import Settings
from broker.settings.audit import Audit

AGAIN_S: Final = 1.0
GRACE_S: Final = 3.0
"""For what waits when a door ends."""
QUIET_S: Final = 60.0

log = structlog.get_logger("audit")


class Silence:
    """The trail of a site that keeps none."""

    def note(self, event: Event) -> None:
        """Note nothing."""


class Trail:
    """Events to messages, in their order; what finds no room is lost and counted, or waited for."""

    def __init__(
        self, audit: Audit, place: Place, us: Us, site: str, role: str, registry: CollectorRegistry
    ) -> None:
        """Start the thread."""
        self._place, self._us, self._site, self._waits = place, us, site, audit.when_full == "wait"
        self._queue: queue.Queue[Event] = queue.Queue(audit.buffer)
        self._stop = Flag()
        self._said = -QUIET_S
        self._ends = float("inf")
        self._written = Counter(
            f"broker_{role}_audit", "Audit messages written", ("event",), registry=registry
        )
        self._lost = Counter(
            f"broker_{role}_audit_lost", "Audit messages that found no room", registry=registry
        )
        self._thread = Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def note(self, event: Event) -> None:
        """Have it written; microseconds, unless there is no room and it has to be waited for."""
        try:
            self._queue.put(event, block=self._waits)
        except queue.Full:
            self._lose("no room: the collector is slow or away; raise audit.buffer, or mend it")

    def close(self) -> None:
        """Write what waits, as far as there is time; the rest is lost and counted."""
        self._ends = time.monotonic() + GRACE_S
        self._stop.set()
        self._thread.join(GRACE_S + AGAIN_S)
        if left := self._queue.qsize():
            self._lost.inc(left)
            log.error("audit messages lost", count=left, why="the door has ended")

    def _write_all(self) -> None:
        while True:
            try:
                event = self._queue.get(timeout=0.05 if self._stop.is_set() else 0.2)
            except queue.Empty:
                if self._stop.is_set():
                    break
                continue
            while not self._wrote(event):
                if time.monotonic() > self._ends:
                    self._lose("the door has ended")
                    break
                if self._stop.wait(AGAIN_S):
                    time.sleep(0.1)
        self._place.close()

    def _wrote(self, event: Event) -> bool:
        """Whether it is done with; a place that is away is tried again."""
        try:
            message = event.message(self._us)
            data = written(message, self._us.title, self._site)
            self._place.write(data, message.at)
        except TooLong:
            self._lose("longer than a datagram can be; use transport: tls")
        except OSError as problem:
            self._say("audit messages wait", problem.strerror or type(problem).__name__)
            return False
        except Exception as bug:  # the thread's outermost catch: the next event is written
            self._lose(f"a bug: {mishaps.told(bug)}")
        else:
            self._written.labels(message.event.meaning).inc()
        return True

    def _lose(self, why: str) -> None:
        self._lost.inc()
        self._say("audit messages lost", why)

    def _say(self, event: str, why: str) -> None:
        now = time.monotonic()
        if now - self._said >= QUIET_S:
            self._said = now
            log.error(event, why=why, waiting=self._queue.qsize())


@contextmanager
def kept(
    settings: Settings, role: str, registry: CollectorRegistry, instance: int = 0
) -> Iterator[Trail | Silence]:
    """The trail of a door, from its Application Start to its Stop. Raises tls Unusable."""
    audit = settings.audit
    if audit.to == "off":
        yield Silence()
        return
    us = Us(settings.dicom.ae_title, socket.gethostname(), f"{role}:{instance}:{os.getpid()}")
    trail = Trail(audit, place_of(settings), us, settings.site, role, registry)
    trail.note(Activity(datetime.now(UTC), started=True))
    try:
        yield trail
    finally:
        trail.note(Activity(datetime.now(UTC), started=False))
        trail.close()


def place_of(settings: Settings) -> Place:
    """Where the messages of a site go. Raises tls Unusable."""
    audit, process = settings.audit, str(os.getpid())
    if audit.to == "file" or audit.host is None:
        path = audit.path or settings.data / "audit.log"
        return File(path, audit.max_bytes, audit.files)
    if audit.transport == "udp":
        return Datagrams(audit.host, process)
    return Stream(audit.host, audit.tls, process)
