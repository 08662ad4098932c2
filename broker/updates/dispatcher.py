"""Turns wake-ups into jobs, finds what wake-ups missed, lets retention and lookout have turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event as Flag

import structlog

from broker.store import dead, outbox
from broker.store.executors import Store, StoreUnavailable
from broker.updates.pace import Pace
from broker.updates.retention import Retention
from broker.updates.unseen import Lookout

AT_ONCE_S = 0.01

log = structlog.get_logger("updates")


class Dispatcher:
    """`nudges` asks a worker of each destination, by name, to look at its outbox."""

    def __init__(
        self,
        store: Store,
        nudges: Mapping[str, Callable[[], None]],
        retention: Retention,
        *,
        stop: Flag,
        pace: Pace,
        lookout: Lookout | None = None,
    ) -> None:
        self._store, self._nudges, self._retention = store, nudges, retention
        self._stop, self._pace, self._lookout = stop, pace, lookout
        self._next_sweep = self._next_retention = 0.0
        self._next_look = time.monotonic() + pace.look_s
        self._away = self._adopted = False
        self._strangers: set[str] = set()

    def run(self) -> None:
        """Work until told to stop; a store that is away is waited for."""
        while not self._stop.is_set():
            try:
                self._turn()
            except StoreUnavailable as away:
                if not self._away:
                    log.warning("store unavailable, waiting for it", why=str(away))
                self._away = True
                self._stop.wait(self._pace.store_away_s)
            else:
                if self._away:
                    log.info("store is back")
                self._away = False

    def _turn(self) -> None:
        while not self._adopted:
            self._adopted = not self._store.run(dead.adopt())
        busy = time.monotonic() >= self._next_retention
        self._wake_workers(AT_ONCE_S if busy else self._pace.wake_s)
        if time.monotonic() >= self._next_sweep:
            self._sweep()
            self._next_sweep = time.monotonic() + self._pace.sweep_s
        if time.monotonic() >= self._next_retention and not self._remove_a_slice():
            self._next_retention = time.monotonic() + self._pace.retention_s
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._look()

    def _remove_a_slice(self) -> bool:
        try:
            return self._retention.slice()
        except StoreUnavailable:
            raise
        except Exception as bug:  # a record that retention cannot read must not stop the updates
            log.error("retention failed", error=type(bug).__name__)
            return False

    def _look(self) -> float:
        """Look for steps on nobody's list; gives the seconds till the next look."""
        try:
            pause_s = self._lookout.slice() if self._lookout else None
        except StoreUnavailable:
            raise
        except Exception as bug:  # nor must a record that cannot be read
            log.error("looking for steps on nobody's list failed", error=type(bug).__name__)
            pause_s = None
        return self._pace.look_s if pause_s is None else pause_s

    def _wake_workers(self, wait_s: float) -> None:
        """Wait for a wake-up, and heed those that came with it or come while workers begin."""
        first = self._store.run(outbox.wakeup(wait_s))
        if not first:
            return
        for name in dict.fromkeys([*first, *self._store.run(outbox.wakeups())]):
            self._wake(name)
        self._stop.wait(self._pace.gather_s)

    def _wake(self, name: str) -> None:
        if nudge := self._nudges.get(name):
            nudge()
        elif name not in self._strangers:
            self._strangers.add(name)
            log.warning(
                "messages for a destination that is not configured; they wait", destination=name
            )

    def _sweep(self) -> None:
        """Wake-ups and jobs may be lost, and workers die: look for what is due and nobody sends."""
        now_ms, pace = int(time.time() * 1000), self._pace
        longest = {"longest_ms": int(pace.longest_s * 1000), "lease_ms": int(pace.lease_s * 1000)}
        for name, nudge in self._nudges.items():
            if late := self._store.run(outbox.sooner(name, now_ms=now_ms, **longest)):
                log.warning(
                    "messages were put off by a clock that was ahead", destination=name, late=late
                )
            if self._store.run(outbox.dirty(name, now_ms=now_ms, limit=1)):
                nudge()
