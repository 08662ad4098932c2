"""The job: everything that waits for one RIS, each order's messages in their order."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event as Flag
from uuid import uuid4

import structlog

from broker.settings import Ris
from broker.store import outbox
from broker.store.executors import Store, StoreUnavailable
from broker.store.outbox import Event
from broker.updates.pace import Pace
from broker.updates.sender import Line, Outcome, Unreachable, Verdict

ORDERS_AT_ONCE = 100
MOST_TROUBLES = 10_000

log = structlog.get_logger("updates")


@dataclass(frozen=True)
class Attempt:
    """One message sent, or an attempt to: what the metrics count. Ages since the event arose."""

    ris: str
    verdict: str
    took_s: float
    age_s: float


Observe = Callable[[Attempt], None]


class LeaseLost(Exception):
    """Another worker has taken the order, or we are told to stop: not another byte for it."""


@dataclass
class Trouble:
    """What went wrong with an order so far; a restart forgets it, and begins with short waits."""

    attempts: int = 0
    noted: str = ""


@dataclass
class Lease:
    """An order that is ours for the moment."""

    store: Store
    ris: str
    order: str
    pace: Pace
    token: str = field(default_factory=lambda: uuid4().hex)
    confirmed: float = 0.0

    def take(self) -> Event | None:
        """Take the order and give its oldest event, None when there is nothing for us to send."""
        self.confirmed = time.monotonic()
        ttl_ms = int(self.pace.lease_s * 1000)
        try:
            return self.store.run(outbox.take(self.ris, self.order, self.token, ttl_ms=ttl_ms))
        except (KeyError, TypeError, ValueError) as damage:
            # It waits till the lease expires, and others get their turn.
            log.error("event unreadable", ris=self.ris, error=type(damage).__name__)
            return None

    def release(self) -> None:
        """Give the order back; it stays dirty while it has events."""
        self.store.run(outbox.release(self.ris, self.order, self.token))

    def keep(self) -> None:
        """Renew the lease when it is time to. Raises LeaseLost."""
        now = time.monotonic()
        if now - self.confirmed < self.pace.renew_s:
            return
        ttl_ms = int(self.pace.lease_s * 1000)
        if not self.store.run(outbox.renew(self.ris, self.order, self.token, ttl_ms=ttl_ms)):
            raise LeaseLost
        self.confirmed = now


class Drain:
    """Sends what waits for one RIS until nothing is due or its time is up."""

    def __init__(
        self,
        ris: Ris,
        store: Store,
        *,
        nudge: Callable[[], object],
        stop: Flag,
        pace: Pace,
        observe: Observe,
    ) -> None:
        self._ris, self._store, self._pace = ris, store, pace
        self._nudge, self._stop, self._observe = nudge, stop, observe
        self._line = Line(ris)
        self._unreachable, self._not_before = 0, 0.0
        self._stopped_at: float | None = None
        self._troubles: OrderedDict[str, Trouble] = OrderedDict()

    def __call__(self) -> None:
        """Run the job. A store that goes away ends it: the sweeper will ask again."""
        try:
            self._drain(time.monotonic() + self._pace.drain_s)
        except StoreUnavailable as away:
            log.warning("store unavailable while sending", ris=self._ris.name, why=str(away))

    def close(self) -> None:
        """Close the connection to the RIS."""
        self._line.close()

    def _drain(self, until: float) -> None:
        name = self._ris.name
        while orders := self._store.run(
            outbox.dirty(name, now_ms=int(time.time() * 1000), limit=ORDERS_AT_ONCE)
        ):
            for order in orders:
                if self._stop.is_set() or not self._reachable():
                    return
                self._deliver(order, until)
                if time.monotonic() > until:
                    self._nudge()
                    return

    def _reachable(self) -> bool:
        """Whether there is a connection; a RIS that is away is tried again ever more rarely."""
        if time.monotonic() < self._not_before:
            return False
        began = time.monotonic()
        try:
            self._line.connect()
        except Unreachable as away:
            self._unreachable += 1
            pause_s = self._pace.pause_s(self._unreachable, random.random)
            self._not_before = time.monotonic() + pause_s
            log.warning("ris unreachable", ris=self._ris.name, why=str(away), again_in_s=pause_s)
            self._observe(Attempt(self._ris.name, "unreachable", time.monotonic() - began, 0.0))
            return False
        self._unreachable = 0
        return True

    def _deliver(self, order: str, until: float) -> None:
        """Send the messages of one order, the oldest first, as long as the RIS takes them."""
        lease = Lease(self._store, self._ris.name, order, self._pace)
        event = lease.take()
        try:
            while event is not None:
                event = self._settle(event, lease, self._send(event, lease))
                if self._stop.is_set() or time.monotonic() > until or not self._line.is_open():
                    break
            if event is not None:
                lease.release()
        except LeaseLost:
            log.warning("order left to another worker", ris=self._ris.name)

    def _send(self, event: Event, lease: Lease) -> Outcome:
        lease.keep()  # we may have been stopped for long, and another worker be further on
        began = time.monotonic()
        outcome = self._line.send(
            event.payload, event.control_id, lambda: self._while_waiting(lease)
        )
        took_s, age_s = time.monotonic() - began, time.time() - event.created
        self._observe(Attempt(self._ris.name, outcome.verdict.value, took_s, age_s))
        say = log.info if outcome.verdict is Verdict.DELIVERED else log.warning
        say(
            "status message sent",
            verdict=outcome.verdict.value,
            ris=self._ris.name,
            control_id=event.control_id,
            cause=outcome.cause,
            took_ms=round(took_s * 1000, 1),
        )
        return outcome

    def _while_waiting(self, lease: Lease) -> None:
        lease.keep()
        if not self._stop.is_set():
            return
        self._stopped_at = self._stopped_at or time.monotonic()
        if time.monotonic() - self._stopped_at > self._pace.stop_grace_s:
            # Whoever comes after us sends it again, byte for byte.
            lease.release()
            raise LeaseLost

    def _settle(self, event: Event, lease: Lease, outcome: Outcome) -> Event | None:
        """Do what the verdict asks for, and give the event that may go next. Raises LeaseLost."""
        if outcome.verdict is Verdict.RETRY:
            self._postpone(event, lease)
            return None
        if outcome.verdict is Verdict.REFUSED and self._ris.on_reject == "hold":
            self._hold(event, lease, outcome)
            return None
        if outcome.verdict is Verdict.REFUSED:
            settled = outbox.park(
                *(lease.ris, lease.order, lease.token, event),
                cause=_cause(outcome),
                at=time.time(),
            )
        else:
            settled = outbox.pop(lease.ris, lease.order, lease.token, event.control_id)
        popped = self._store.run(settled)
        if not popped.done:
            raise LeaseLost
        self._troubles.pop(event.order, None)
        return popped.following

    def _postpone(self, event: Event, lease: Lease) -> None:
        trouble = self._trouble(event.order)
        trouble.attempts += 1
        until_ms = _in_ms(self._pace.pause_s(trouble.attempts, random.random))
        self._store.run(outbox.postpone(lease.ris, lease.order, lease.token, until_ms=until_ms))

    def _hold(self, event: Event, lease: Lease, outcome: Outcome) -> None:
        """Keep the order waiting behind a refused message, which people see among the dead letters.

        It is tried again now and then: the RIS may have been mended.
        """
        trouble = self._trouble(event.order)
        until_ms = _in_ms(self._pace.hold_s)
        if trouble.noted == event.control_id:
            call = outbox.postpone(lease.ris, lease.order, lease.token, until_ms=until_ms)
        else:
            call = outbox.hold(
                *(lease.ris, lease.order, lease.token, event),
                cause=_cause(outcome),
                at=time.time(),
                until_ms=until_ms,
            )
        trouble.noted = event.control_id
        self._store.run(call)

    def _trouble(self, order: str) -> Trouble:
        trouble = self._troubles.setdefault(order, Trouble())
        if len(self._troubles) > MOST_TROUBLES:
            self._troubles.popitem(last=False)
        return trouble


def _cause(outcome: Outcome) -> str:
    return f"{outcome.cause}: {outcome.words}" if outcome.words else outcome.cause


def _in_ms(pause_s: float) -> int:
    return int((time.time() + pause_s) * 1000)
