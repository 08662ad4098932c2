"""Turns wake-ups into jobs, finds what wake-ups missed, and lets retention have its turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event as Flag

import structlog

from broker.store import outbox
from broker.store.executors import Store, StoreUnavailable
from broker.updates.pace import Pace
from broker.updates.retention import Retention

AT_ONCE_S = 0.01

log = structlog.get_logger("updates")


class Dispatcher:
    """`nudges` asks the worker of each RIS, by name, to look at its outbox."""

    def __init__(
        self,
        store: Store,
        nudges: Mapping[str, Callable[[], None]],
        retention: Retention,
        *,
        stop: Flag,
        pace: Pace,
    ) -> None:
        self._store, self._nudges, self._retention = store, nudges, retention
        self._stop, self._pace = stop, pace
        self._next_sweep = self._next_retention = 0.0
        self._away = False
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
        busy = time.monotonic() >= self._next_retention
        for name in self._store.run(outbox.wakeups(AT_ONCE_S if busy else self._pace.wake_s)):
            self._wake(name)
        if time.monotonic() >= self._next_sweep:
            self._sweep()
            self._next_sweep = time.monotonic() + self._pace.sweep_s
        if time.monotonic() >= self._next_retention and not self._remove_a_slice():
            self._next_retention = time.monotonic() + self._pace.retention_s

    def _remove_a_slice(self) -> bool:
        try:
            return self._retention.slice()
        except StoreUnavailable:
            raise
        except Exception as bug:  # a record that retention cannot read must not stop the updates
            log.error("retention failed", error=type(bug).__name__)
            return False

    def _wake(self, name: str) -> None:
        if nudge := self._nudges.get(name):
            nudge()
        elif name not in self._strangers:
            self._strangers.add(name)
            log.warning("messages for a RIS that is not configured; they wait", ris=name)

    def _sweep(self) -> None:
        """Wake-ups and jobs may be lost, and workers die: look for what is due and nobody sends."""
        now_ms = int(time.time() * 1000)
        for name, nudge in self._nudges.items():
            if self._store.run(outbox.dirty(name, now_ms=now_ms, limit=1)):
                nudge()
